//! Stored pictures as bytes, `GET /media/{id}`, beside nginx with the same file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Result;
use crate::world::{LARGE, PROCESS, SMALL, Size, Way, World};
use mimeo_bench::client::{Connection, Target, burst};
use mimeo_bench::process::{Process, free_port, output, which};
use mimeo_bench::report::{Cell, Check, Table, count, median, text};

/// Connections at a time.
const CONNECTIONS: usize = 32;

/// Measures the `ways` that store pictures, in turns with nginx, if it is there.
pub async fn measure(world: &World, ways: &[Way], checks: &mut Vec<Check>) -> Result<Table> {
    let wrk = which("wrk");
    let client = match &wrk {
        Some(_) => "wrk with 1 thread",
        None => "this program's own client (wrk is not installed; a heavier client hides differences)",
    };
    let mut table = Table::new(
        "Stored pictures as bytes",
        format!(
            "GET over {CONNECTIONS} connections, kept alive; client: {client}. nginx: sendfile, open_file_cache, no \
             access log, 2 workers, the same file. CPU: of the server, all its processes for Mimeo, not known for nginx."
        ),
        &["picture", "server", "rounds", "requests/s", "MB/s", "% of nginx", "spread of %", "server CPU ms"],
    );
    let Some(way) = ways.iter().find(|way| way.name == PROCESS) else { return Ok(table) };
    let process = way.process.as_ref().ok_or("the gateway is a process")?;
    let folder = world.folder().join("nginx");
    let mut pictures = Vec::new();
    for size in [SMALL, LARGE] {
        pictures.push((size, stored(way, size, &folder).await?));
    }
    let nginx = match Nginx::start(&folder).await {
        Ok(nginx) => Some(nginx),
        Err(why) => {
            eprintln!("\n*** nginx IS NOT MEASURED: {why} ***\n");
            checks.push(Check::skipped("hits as bytes beside nginx", format!("nginx is not measured: {why}")));
            None
        }
    };
    for (size, (path, length)) in pictures {
        let name = format!("/{}", name_of(size));
        let (mut own, mut theirs, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        let (mut requests, mut cpu) = (0.0, 0.0);
        let rounds = world.pick(3, 7);
        for _ in 0..rounds {
            let seconds = world.pick(1, 3);
            let load = Load { wrk: wrk.as_deref(), seconds, length };
            let (before, start) = (process.cpu_ms(), Instant::now());
            let rate = load.run(&way.target, &path).await?;
            cpu += process.cpu_ms() - before;
            requests += rate * start.elapsed().as_secs_f64();
            own.push(rate);
            if let Some(nginx) = &nginx {
                let rate = load.run(&nginx.target, &name).await?;
                theirs.push(rate);
                shares.push(own.last().copied().unwrap_or(f64::NAN) / rate * 100.0);
            }
        }
        let share = median(&shares);
        let mut row = |server: &str, rates: &[f64], share: f64, spread: Cell, cpu: f64| {
            table.row(vec![
                text(size.label),
                text(server),
                count(rounds),
                Cell::Number(median(rates), 0),
                Cell::Number(median(rates) * length as f64 / 1e6, 1),
                Cell::Number(share, 1),
                spread,
                Cell::Number(cpu, 4),
            ]);
        };
        let (low, high) = shares.iter().fold((f64::MAX, f64::MIN), |(low, high), s| (low.min(*s), high.max(*s)));
        let spread = if shares.is_empty() { Cell::Empty } else { text(format!("{low:.0} to {high:.0}")) };
        row("mimeo", &own, share, spread, cpu / requests);
        if nginx.is_some() {
            row("nginx", &theirs, 100.0, Cell::Empty, f64::NAN);
            let (limit, what) = if size.bytes > 1 << 20 { (95.0, "bytes/s") } else { (80.0, "requests/s") };
            checks.push(Check::new(
                format!("stored pictures of {}: at least {limit:.0} % of nginx's {what}", size.label),
                format!("{share:.1} %"),
                share >= limit,
            ));
        }
    }
    Ok(table)
}

fn name_of(size: Size) -> String {
    format!("{}.png", size.bytes)
}

/// Has the gateway make a picture; returns its path and its length, with the same bytes in a file for nginx.
async fn stored(way: &Way, size: Size, folder: &Path) -> Result<(String, usize)> {
    let mut connection = Connection::open(way.target.address).await?;
    let order = way.target.order(&size.prompt(0), size.pixels, "url")?;
    let (status, answer) = connection.fetch(order).await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    let url = answer["data"][0]["url"].as_str().ok_or_else(|| format!("{status} without a URL: {answer}"))?;
    let path = url.find("/media/").and_then(|at| url.get(at..)).ok_or("a URL that is not a picture's")?.to_owned();
    let (_, bytes) = connection.fetch(way.target.get(&path)?).await?;
    fs::create_dir_all(folder)?;
    fs::write(folder.join(name_of(size)), &bytes)?;
    Ok((path, bytes.len()))
}

/// How a server is loaded.
struct Load<'a> {
    wrk: Option<&'a Path>,
    seconds: u32,
    length: usize,
}

impl Load<'_> {
    /// Requests per second.
    async fn run(&self, target: &Target, path: &str) -> Result<f64> {
        let Some(wrk) = self.wrk else {
            let each = (3_000_000 / (self.length / 10 + 1000)).max(10);
            let row = || (0..each).map(|_| target.get(path)).collect::<Result<Vec<_>>>();
            let rows = (0..CONNECTIONS).map(|_| row()).collect::<Result<Vec<_>>>()?;
            return Ok(burst(target.address, rows, self.length).await?.rate());
        };
        let mut command = Command::new(wrk);
        command.args(["-t1", "-c", &CONNECTIONS.to_string(), "-d", &format!("{}s", self.seconds)]);
        command.arg(format!("http://{}{path}", target.address));
        let said = output(&mut command);
        let number = |name: &str| said.lines().find_map(|line| line.trim().strip_prefix(name)?.trim().parse().ok());
        match (number("Requests/sec:"), said.contains("Non-2xx") || said.contains("Socket errors")) {
            (Some(rate), false) => Ok(rate),
            _ => Err(format!("wrk says:\n{said}").into()),
        }
    }
}

/// nginx with a configuration of its own.
struct Nginx {
    target: Target,
    _process: Process,
}

impl Nginx {
    async fn start(folder: &Path) -> Result<Self> {
        let program = which("nginx").ok_or("it is not installed (Debian: apt-get install nginx-light wrk)")?;
        let port = free_port()?;
        let config = folder.join("nginx.conf");
        fs::write(&config, config_text(folder, port))?;
        let mut command = Command::new(program);
        command.arg("-e").arg("stderr").arg("-p").arg(folder).arg("-c").arg(&config);
        let mut process = Process::start("nginx", command, &folder.join("nginx.log"))?;
        let target = Target::at(&format!("127.0.0.1:{port}"), "/", "")?;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Ok(mut connection) = Connection::open(target.address).await {
                let (status, _) = connection.fetch(target.get(&format!("/{}", name_of(SMALL)))?).await?;
                if status != hyper::StatusCode::OK {
                    return Err(format!("it answers {status}").into());
                }
                return Ok(Self { target, _process: process });
            }
            process.must_live(deadline)?;
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn config_text(folder: &Path, port: u16) -> String {
    // Where the administrator starts it, its workers would become somebody who may not read this folder.
    let user = if output(Command::new("id").arg("-u")) == "0" { "user root;\n" } else { "" };
    let at = |name: &str| -> PathBuf { folder.join(name) };
    format!(
        "{user}daemon off;\nworker_processes 2;\npid {pid:?};\nerror_log stderr warn;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  tcp_nodelay on;\n\
         \x20 keepalive_timeout 65;\n  keepalive_requests 1000000000;\n\
         \x20 open_file_cache max=100 inactive=600s;\n  open_file_cache_valid 600s;\n\
         \x20 types {{ image/png png; }}\n\
         \x20 client_body_temp_path {tmp:?};\n  proxy_temp_path {tmp:?};\n  fastcgi_temp_path {tmp:?};\n\
         \x20 uwsgi_temp_path {tmp:?};\n  scgi_temp_path {tmp:?};\n\
         \x20 server {{ listen 127.0.0.1:{port}; root {folder:?}; }}\n}}\n",
        pid = at("nginx.pid"),
        tmp = at("tmp"),
    )
}
