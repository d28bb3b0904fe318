//! Who takes part: the sandbox as the paid provider, Mimeo in front of it, and the ways to the sandbox that are
//! compared with one another.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use tokio::time::Instant;

use crate::Result;
use mimeo_bench::client::{Connection, Target};
use mimeo_bench::process::{Folder, Process, output};

/// The provider's model; its name says its price.
const MODEL: &str = "flat-0.002";
/// The provider's API: that of OpenAI-compatible servers, which takes any size of picture.
const API: &str = "/compatible/v1";

/// A kind of picture.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// What it is called in tables.
    pub label: &'static str,
    /// Least bytes of the picture's file.
    pub bytes: usize,
    /// Its pixels. Few, because nobody here decodes them: the sandbox pads the file to its size.
    pub pixels: &'static str,
}

/// Small, as a thumbnail.
pub const SMALL: Size = Size { label: "1 KB", bytes: 1 << 10, pixels: "16x16" };
/// Medium, as a compressed photograph.
pub const MEDIUM: Size = Size { label: "200 KB", bytes: 200 << 10, pixels: "64x64" };
/// Large, as models send it.
pub const LARGE: Size = Size { label: "4 MB", bytes: 4 << 20, pixels: "64x64" };

impl Size {
    /// Least bytes of an answer that carries it as base64.
    pub fn answer(&self) -> usize {
        self.bytes / 3 * 4
    }

    /// A prompt that nobody has sent before, with which the provider takes `latency` milliseconds.
    pub fn prompt(&self, latency: u64) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("picture {number:08} of a benchmark [[bytes={}]][[latency={latency:04}]]", self.bytes)
    }

    /// A request for one of these, different from all others.
    pub fn order(&self, target: &Target, latency: u64) -> Result<Request<Full<Bytes>>> {
        target.order(&self.prompt(latency), self.pixels, "b64_json")
    }
}

/// What a commit of the gateway survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: the default.
    Power,
    /// The end of the process.
    Process,
}

impl Durability {
    /// As in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Durability::Power => "power",
            Durability::Process => "process",
        }
    }
}

/// What all sections have in common.
#[derive(Debug)]
pub struct World {
    /// The program under test.
    pub mimeo: PathBuf,
    /// `http://ADDR` of the sandbox.
    pub sandbox_url: String,
    /// Fewer rounds.
    pub quick: bool,
    // Fields are dropped in this order: the process before its folder.
    _sandbox: Process,
    folder: Folder,
}

/// One way to the provider.
#[derive(Clone, Debug)]
pub struct Way {
    /// What it is called in tables.
    pub name: &'static str,
    /// Where to send requests.
    pub target: Target,
    /// The gateway on the way, if there is one.
    pub process: Option<Arc<Process>>,
    /// True for other people's gateways.
    pub is_peer: bool,
    /// The data folder, if there is one.
    pub data: Option<Arc<Folder>>,
}

/// The way without a gateway.
pub const DIRECT: &str = "direct";
/// Through Mimeo without fsync.
pub const PROCESS: &str = "mimeo, durability process";
/// Through Mimeo as it comes.
pub const POWER: &str = "mimeo, durability power";

impl World {
    /// Starts the sandbox. All files go to a new folder in `parent`.
    pub async fn begin(mimeo: PathBuf, parent: &Path, quick: bool) -> Result<Self> {
        let folder = Folder::new(parent, "run")?;
        // On ext4, has each data folder placed in a part of the disk of its own. Without a journal, ext4 is slow for
        // minutes to make files where others were just removed, and so each section would suffer from the last one.
        output(Command::new("chattr").arg("+T").arg(folder.path()));
        let mut command = Command::new(&mimeo);
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--no-fsync", "--book"]);
        command.arg(folder.path().join("book.jsonl"));
        let mut sandbox = Process::start("the sandbox", command, &folder.path().join("sandbox.log"))?;
        let sandbox_url = sandbox.address().await?;
        Ok(Self { mimeo, sandbox_url, quick, _sandbox: sandbox, folder })
    }

    /// The folder for everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `few` when quick, `many` else.
    pub fn pick<T>(&self, few: T, many: T) -> T {
        if self.quick { few } else { many }
    }

    /// The base address of the provider's API.
    pub fn api(&self) -> String {
        format!("{}{API}", self.sandbox_url)
    }

    /// To the provider without anything between.
    pub fn direct(&self) -> Result<Way> {
        let target = Target::at(&self.sandbox_url, &format!("{API}/images/generations"), MODEL)?;
        Ok(Way { name: DIRECT, target, process: None, is_peer: false, data: None })
    }

    /// Through a new Mimeo with a new data folder.
    pub async fn gateway(&self, durability: Durability) -> Result<Way> {
        let data = Folder::new(self.folder(), durability.name())?;
        let config = config_file(data.path());
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n\
             [storage]\npath = {:?}\ndurability = \"{}\"\n\
             [providers.simulated]\nrecord = \"openai-compatible\"\nbase_url = \"{}\"\n\
             prices = {{ usd_per_image = \"0.002\" }}\n",
            data.path().join("data"),
            durability.name(),
            self.api(),
        );
        fs::write(&config, text)?;
        let mut command = Command::new(&self.mimeo);
        command.arg("serve").arg("--config").arg(&config).env("MIMEO_LOG", "warn");
        let mut process = Process::start("mimeo", command, &data.path().join("mimeo.log"))?;
        let url = process.address().await?;
        let target = Target::at(&url, "/v1/images/generations", &format!("simulated/{MODEL}"))?;
        let name = if durability == Durability::Power { POWER } else { PROCESS };
        Ok(Way { name, target, process: Some(Arc::new(process)), is_peer: false, data: Some(Arc::new(data)) })
    }

    /// All ways: direct, both kinds of Mimeo (both new), and `peers`.
    pub async fn all(&self, peers: &[Way]) -> Result<Vec<Way>> {
        let mut all =
            vec![self.direct()?, self.gateway(Durability::Process).await?, self.gateway(Durability::Power).await?];
        all.extend(peers.iter().cloned());
        Ok(all)
    }

    /// Has the system write what it still owes the disk, so that the next section does not pay for the last one.
    pub fn settle(&self) {
        output(&mut Command::new("sync"));
    }

    /// How fast files can be written without any sync, in MB/s: to memory that was free, and again to the memory that
    /// the file has by then. Many virtual machines get their memory page by page when it is first touched, and then the
    /// first number is a fraction of the second: it bounds everything that stores new files.
    pub fn write_rates(&self) -> Result<[f64; 2]> {
        let piece = vec![0x5A; 4 << 20];
        let mut rates = [0.0; 2];
        // It stays until the end: its memory would be used for the next files, and show them better than they are.
        let mut file = fs::File::create(self.folder().join("rate"))?;
        for rate in &mut rates {
            file.rewind()?;
            let start = Instant::now();
            for _ in 0..64 {
                file.write_all(&piece)?;
            }
            *rate = 64.0 * piece.len() as f64 / 1e6 / start.elapsed().as_secs_f64();
        }
        Ok(rates)
    }

    /// Requests that the sandbox has billed so far.
    pub async fn billed(&self) -> Result<u64> {
        let target = Target::at(&self.sandbox_url, "", "")?;
        let mut connection = Connection::open(target.address).await?;
        let (_, body) = connection.fetch(target.get("/control/stats")?).await?;
        let stats: serde_json::Value = serde_json::from_slice(&body)?;
        stats["billed"].as_u64().ok_or_else(|| "the sandbox does not say what it billed".into())
    }

    /// Has the sandbox paint what it will send. It keeps a few dozen scenes per size and only stamps them anew.
    pub async fn warm_up(&self, size: Size) -> Result<()> {
        let direct = self.direct()?;
        let mut connection = Connection::open(direct.target.address).await?;
        for _ in 0..150 {
            connection.time(size.order(&direct.target, 0)?, size.answer()).await?;
        }
        Ok(())
    }
}

/// The configuration of the gateway whose folder this is.
pub fn config_file(folder: &Path) -> PathBuf {
    folder.join("mimeo.toml")
}
