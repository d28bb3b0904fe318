//! A provider that counts, gateways before it, and callers who never stop.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use mimeo_bench::Result;
use mimeo_bench::client::{Connection, Target};
use mimeo_bench::process::{Folder, Process};
use serde_json::Value;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, timeout};

use crate::RATE;

/// What each call takes, in milliseconds.
const SERVICE_MS: u32 = 300;
/// Callers at each gateway: several times as many as the provider serves.
const CALLERS: usize = 60;
/// How long a caller who was sent away waits.
const PAUSE: Duration = Duration::from_millis(250);

/// Everything that runs.
#[derive(Debug)]
pub struct World {
    targets: Vec<Target>,
    control: Target,
    // Fields are dropped in this order: processes before their folder.
    _gateways: Vec<Process>,
    _redis: Option<Process>,
    _sandbox: Process,
    _folder: Folder,
}

/// What came of it.
#[derive(Debug)]
pub struct Run {
    /// How long it took, in seconds.
    pub seconds: f64,
    /// When calls were taken and refused, in seconds from the beginning.
    pub taken: Vec<f64>,
    /// When calls were refused.
    pub refused: Vec<f64>,
    /// Pictures that callers got, and times that they were sent away.
    pub answers: (u32, u32),
}

impl World {
    /// Starts a provider and so many gateways, which are told of its limit or not.
    pub async fn begin(mimeo: &Path, redis: Option<&Path>, gateways: usize, known: bool) -> Result<Self> {
        let folder = Folder::new(&std::env::temp_dir(), "limits")?;
        let path = folder.path();
        let mut command = Command::new(mimeo);
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--no-fsync", "--latency-ms", &SERVICE_MS.to_string()]);
        command.arg("--book").arg(path.join("book.jsonl"));
        let mut sandbox = Process::start("the sandbox", command, &path.join("sandbox.log"))?;
        let sandbox_url = sandbox.address().await?;
        let control = Target::at(&sandbox_url, "/control/rate", "")?;

        let socket = path.join("redis.sock");
        let redis = match redis.filter(|_| gateways > 1) {
            None => None,
            Some(binary) => {
                let mut command = Command::new(binary);
                command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
                command.arg("--dir").arg(path);
                let mut redis = Process::start("redis", command, &path.join("redis.log"))?;
                let deadline = Instant::now() + Duration::from_secs(20);
                while !socket.exists() {
                    redis.must_live(deadline)?;
                    sleep(Duration::from_millis(5)).await;
                }
                Some(redis)
            }
        };
        let limits = if known { format!("requests_per_second = {RATE}, ") } else { String::new() };
        let shared = redis.as_ref().map(|_| format!("[shared]\nurl = \"unix://{}\"\n", socket.display()));
        let (mut started, mut targets) = (Vec::new(), Vec::new());
        for index in 0..gateways {
            let home = path.join(format!("gateway-{index}"));
            fs::create_dir(&home)?;
            let config = format!(
                "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\npath = {:?}\nmemory_mb = 8\ndurability = \"process\"\n{}\
                 [providers.simulated]\nrecord = \"openai-compatible\"\nbase_url = \"{sandbox_url}/compatible/v1\"\n\
                 prices = {{ usd_per_image = \"0.002\" }}\nlimits = {{ {limits}queue = 1000, max_wait_s = 60 }}\n",
                home.join("data"),
                shared.as_deref().unwrap_or_default(),
            );
            fs::write(home.join("mimeo.toml"), config)?;
            let mut command = Command::new(mimeo);
            command.arg("serve").arg("--config").arg(home.join("mimeo.toml")).env("MIMEO_LOG", "warn");
            let mut gateway = Process::start("mimeo", command, &home.join("mimeo.log"))?;
            let url = gateway.address().await?;
            targets.push(Target::at(&url, "/v1/images/generations", "simulated/flat-0.002")?);
            started.push(gateway);
        }
        Ok(Self { targets, control, _gateways: started, _redis: redis, _sandbox: sandbox, _folder: folder })
    }

    /// One picture through each gateway: afterwards all processes are warm and connections to the provider are open. A
    /// call that arrives late because it had to open one is no question of pace.
    pub async fn warm_up(&self) -> Result<()> {
        for (index, target) in self.targets.iter().enumerate() {
            let order = target.order(&format!("warm {index}"), "16x16", "b64_json")?;
            let (status, body) = Connection::open(target.address).await?.fetch(order).await?;
            if !status.is_success() {
                return Err(format!("the gateway says {status}: {body:?}").into());
            }
        }
        Ok(())
    }

    /// Limits the provider, from now on.
    pub async fn limit(&self, rate: &Value) -> Result<()> {
        let request = Request::post("/control/rate").header("host", self.control.address.to_string());
        let request = request.body(Full::new(Bytes::from(rate.to_string())))?;
        let (status, body) = Connection::open(self.control.address).await?.fetch(request).await?;
        if status.is_success() { Ok(()) } else { Err(format!("the sandbox says {status}: {body:?}").into()) }
    }

    /// Callers who send a new request as soon as the last one is answered, for so many seconds.
    pub async fn press(&self, seconds: f64) -> Result<Run> {
        let tally = Rc::new(Tally::default());
        let mut callers = JoinSet::new();
        let local = LocalSet::new();
        for target in self.targets.iter().flat_map(|target| std::iter::repeat_n(target, CALLERS)) {
            callers.spawn_local_on(call(target.clone(), Rc::clone(&tally)), &local);
        }
        let failed = local.run_until(timeout(Duration::from_secs_f64(seconds), callers.join_next())).await;
        if let Ok(Some(ended)) = failed {
            ended??;
        }
        let get = self.control.get("/control/rate")?;
        let (_, body) = Connection::open(self.control.address).await?.fetch(get).await?;
        let shown: Value = serde_json::from_slice(&body)?;
        let times = |field: &str| -> Vec<f64> {
            let times = shown[field].as_array().into_iter().flatten().filter_map(Value::as_f64);
            times.map(|ms| ms / 1e3).filter(|second| *second < seconds).collect()
        };
        let answers = (tally.served.get(), tally.sent_away.get());
        Ok(Run { seconds, taken: times("taken_ms"), refused: times("refused_ms"), answers })
    }
}

/// What all callers together came to.
#[derive(Debug, Default)]
struct Tally {
    asked: Cell<u32>,
    served: Cell<u32>,
    sent_away: Cell<u32>,
}

/// A caller who never stops.
async fn call(target: Target, tally: Rc<Tally>) -> Result<()> {
    let mut connection = Connection::open(target.address).await?;
    loop {
        tally.asked.set(tally.asked.get() + 1);
        let order = target.order(&format!("picture {}", tally.asked.get()), "16x16", "b64_json")?;
        let (status, body) = connection.fetch(order).await?;
        match status.as_u16() {
            200 => tally.served.set(tally.served.get() + 1),
            429 => {
                tally.sent_away.set(tally.sent_away.get() + 1);
                sleep(PAUSE).await;
            }
            other => return Err(format!("the gateway says {other}: {body:?}").into()),
        }
    }
}
