//! What happens when twice as much comes as the provider can make? Starts everything itself and stops it again; see
//! `bench/README.md`.
//!
//! * [`arrivals`]: when requests come. [`load`]: sends them, whatever becomes of those before.
//! * [`verdict`]: tables, targets, and a picture of the run.
#![expect(clippy::print_stdout, reason = "a program that prints tables")]

mod arrivals;
mod load;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use mimeo_bench::Result;
use mimeo_bench::client::{Connection, Target};
use mimeo_bench::process::{Folder, Process};
use mimeo_bench::report::Check;
use serde_json::Value;

/// The provider's model; its name says its price.
const MODEL: &str = "flat-0.002";
/// Calls under way at a time, as the provider's limits say.
pub const CONCURRENT: u32 = 20;
/// What each of them takes, in milliseconds.
pub const SERVICE_MS: u32 = 250;
/// `limits.max_wait_s`, in seconds.
pub const MAX_WAIT_S: u32 = 2;

/// Sends twice as many requests as the provider can make, for a while, and looks at everybody who is served.
/// Everything runs on this machine and over loopback.
///
/// Exit codes: 0 all targets are met, 1 one is missed or something failed.
#[derive(Debug, Parser)]
#[command(name = "soak", version)]
struct Arguments {
    /// How long requests are sent
    #[arg(long, default_value_t = 120, value_name = "N")]
    seconds: u32,
    /// 20 seconds
    #[arg(long, conflicts_with = "seconds")]
    quick: bool,
    /// Also write the tables to FILE, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a picture of the run to FILE [default: soak.svg beside this program]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The mimeo to load [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    mimeo: Option<PathBuf>,
}

/// The provider and the gateway before it.
#[derive(Debug)]
pub struct World {
    /// Where pictures are asked for.
    pub target: Target,
    /// The gateway.
    pub gateway: Process,
    sandbox_url: String,
    // Fields are dropped in this order: processes before their folder.
    _sandbox: Process,
    _folder: Folder,
}

fn main() -> ExitCode {
    mimeo_bench::run(run(&Arguments::parse()))
}

async fn run(arguments: &Arguments) -> Result<bool> {
    let seconds = if arguments.quick { 20 } else { arguments.seconds.max(6) };
    let world = World::begin(&mimeo_bench::mimeo(arguments.mimeo.as_deref())?).await?;
    println!("{}", machine());
    let run = load::run(&world, f64::from(seconds)).await?;
    let (tables, mut checks) = verdict::of(&run);
    checks.push(world.books(&run).await?);
    for table in &tables {
        println!("{}", table.plain());
    }
    let lines: Vec<String> = checks.iter().map(Check::line).collect();
    println!("Targets\n  {}\n", lines.join("\n  "));
    let svg = match &arguments.svg {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("soak.svg"),
    };
    fs::write(&svg, verdict::picture(&run))?;
    println!("{}\na picture of it: {}", machine(), svg.display());
    if let Some(file) = &arguments.markdown {
        let tables: Vec<String> = tables.iter().map(mimeo_bench::report::Table::markdown).collect();
        fs::write(file, format!("{}\n### Targets\n\n- {}\n", tables.join("\n"), lines.join("\n- ")))?;
    }
    Ok(checks.iter().all(Check::is_fine))
}

/// When and how busy.
fn machine() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let date = mimeo_bench::process::output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]));
    format!("{date}, load average {}", load.join(" "))
}

impl World {
    async fn begin(mimeo: &Path) -> Result<Self> {
        let folder = Folder::new(&std::env::temp_dir(), "soak")?;
        let path = folder.path();
        let mut command = Command::new(mimeo);
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--no-fsync", "--latency-ms", &SERVICE_MS.to_string()]);
        command.arg("--book").arg(path.join("book.jsonl"));
        let mut sandbox = Process::start("the sandbox", command, &path.join("sandbox.log"))?;
        let sandbox_url = sandbox.address().await?;
        // Few pictures in memory, so that what is meant to be filled is full before anything is compared.
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\npath = {:?}\nmemory_mb = 8\n\
             [providers.simulated]\nrecord = \"openai-compatible\"\nbase_url = \"{sandbox_url}/compatible/v1\"\n\
             prices = {{ usd_per_image = \"0.002\" }}\n\
             limits = {{ concurrent = {CONCURRENT}, max_wait_s = {MAX_WAIT_S} }}\n",
            path.join("data"),
        );
        fs::write(path.join("mimeo.toml"), config)?;
        let mut command = Command::new(mimeo);
        command.arg("serve").arg("--config").arg(path.join("mimeo.toml")).env("MIMEO_LOG", "warn");
        let mut gateway = Process::start("mimeo", command, &path.join("mimeo.log"))?;
        let url = gateway.address().await?;
        let target = Target::at(&url, "/v1/images/generations", &format!("simulated/{MODEL}"))?;
        Ok(Self { target, gateway, sandbox_url, _sandbox: sandbox, _folder: folder })
    }

    /// The ledger beside the provider's invoice book.
    async fn books(&self, run: &load::Run) -> Result<Check> {
        let get = async |target: &Target, path: &str| -> Result<Value> {
            let (_, body) = Connection::open(target.address).await?.fetch(target.get(path)?).await?;
            Ok(serde_json::from_slice(&body)?)
        };
        let ledger = get(&self.target, "/v1/ledger").await?;
        let book = get(&Target::at(&self.sandbox_url, "", "")?, "/control/book").await?;
        let invoices = book["count"].as_u64().unwrap_or_default();
        let answered = run.answers.iter().filter(|answer| answer.kind == load::Kind::Miss).count() + run.stored;
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let [spent, reserved, suspense] = ["spent_usd", "reserved_usd", "suspense_usd"].map(|name| text(&ledger[name]));
        let billed = text(&book["billed_usd"]);
        Ok(Check::new(
            "the ledger equals the invoice book, and every invoice was answered",
            format!(
                "${spent} spent, ${billed} billed, ${reserved} set aside, ${suspense} in suspense; {invoices} invoices for \
                 {answered} pictures"
            ),
            spent.parse::<f64>().ok() == billed.parse::<f64>().ok()
                && (reserved.as_str(), suspense.as_str()) == ("0", "0")
                && invoices == answered as u64,
        ))
    }
}
