//! The configuration: parsed, checked, then never changed. Nothing is bound, opened or connected here,
//! which makes `mimeo check` free.
//!
//! Every key has a default and a doc comment; `docs/config.md` is generated from both.

mod alerts;
mod blobs;
pub mod check;
pub mod classifier;
mod credits;
mod environments;
mod prices;
mod quality;
mod reference;
mod requests;
mod route;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

pub use alerts::{Alerts, Webhook};
pub use blobs::{BlobPlace, Bucket, Protocol};
pub use check::ConfigFault;
pub use classifier::{Background, Classifier};
pub use credits::CreditUse;
pub use environments::{Environments, warnings as environment_warnings};
pub use mimeo_engine::secret::{self, Environment, Secret, SecretRef, TextRef};
pub use mimeo_engine::settings::{Budget, Budgets, Included, Limits, Period, Plan, Prices, Provider};
pub use prices::{Feed, FeedFormat, PriceSources};
pub use quality::{Judge, OnFail, Quality, RouteQuality};
pub use reference::reference;
pub use requests::Requests;
pub use route::{Choice, Hours, Objective, Role, Route, RouteCache, Shadow, Weights};

/// The whole of `mimeo.toml`. Unknown keys are errors.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the gateway listens and what it accepts.
    pub server: Server,
    /// Where pictures, index and ledger are kept on this machine.
    pub storage: Storage,
    /// Where the bytes of pictures are kept, if not in `storage.path`.
    pub blobs: Blobs,
    /// What several replicas share besides their store.
    pub shared: Shared,
    /// What is kept how long.
    pub cache: Cache,
    /// The stories of requests: what was considered, what was tried, what it cost.
    pub requests: Requests,
    /// The template renderer.
    pub render: Render,
    /// Checks of pictures, and what is made of what people say of them.
    pub quality: Quality,
    /// Provider records of your own.
    pub catalogue: CatalogueFolder,
    /// Where prices come from beside the catalogue, and when a bill is not what it should be.
    pub prices: PriceSources,
    /// What the operator is told without asking.
    pub alerts: Alerts,
    /// Providers, by a name of your choice. A provider whose key variable is set in the environment
    /// is there without any configuration.
    pub providers: BTreeMap<String, Provider>,
    /// Virtual models that callers name in `model`.
    pub routes: BTreeMap<String, Route>,
    /// Keys that callers authenticate with. Make one with `mimeo keys new NAME`.
    pub keys: BTreeMap<String, Key>,
    /// Budgets of tenants, by the names that keys give them.
    pub tenants: BTreeMap<String, Tenant>,
    /// How requests are read for what they are for and what they show.
    pub classifier: Classifier,
}

/// Where the gateway listens and what it accepts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address and port. Port 0 takes a free one. Anything but loopback needs at least one key.
    pub listen: SocketAddr,
    /// Address that callers reach the gateway under, for the URLs it gives out, such as
    /// `https://pictures.example.com`. By default the `Host` header of the request.
    pub public_url: Option<String>,
    /// The largest request body, in MiB (1–512).
    pub max_body_mb: u32,
    /// How long a stopping gateway waits for paid calls under way, in seconds.
    pub drain_s: u32,
    /// Image requests that are served at a time, at least 1. Beyond, callers are sent away at once with 503 and
    /// `Retry-After`.
    pub max_requests: u32,
    /// Connections that are open at a time, at least 1. Beyond, new ones are closed at once. Each needs a file
    /// descriptor (`ulimit -n`).
    pub max_connections: u32,
    /// Memory for the bodies of all requests together, in MiB, at least `max_body_mb`. Beyond, callers are sent
    /// away with 503 and `Retry-After` before their bodies are read.
    pub max_body_memory_mb: u32,
    /// How long an answer under an `Idempotency-Key`, or one that the caller did not wait for, is kept for
    /// who asks again, in seconds (1–31536000).
    pub idempotency_s: u64,
    /// How long callers may be slow.
    pub timeouts: Timeouts,
}

/// How long callers may be slow. Paid work goes on when a caller is cut off.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For the head of a request, in seconds, from connecting or from the end of the last answer: so also how
    /// long a connection may idle. More than the 60 s after which load balancers close theirs.
    pub head_s: u32,
    /// For each 16 KiB of a request's body, or what is left of it, in seconds.
    pub body_s: u32,
    /// For taking any part of an answer, in seconds.
    pub write_s: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { head_s: 75, body_s: 30, write_s: 60 }
    }
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            max_body_mb: 32,
            drain_s: 300,
            max_requests: 2048,
            max_connections: 8192,
            max_body_memory_mb: 512,
            timeouts: Timeouts::default(),
            idempotency_s: 24 * 3600,
        }
    }
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Loss of power: every commit reaches the disk before it counts (one fsync, shared by all
    /// commits of the moment).
    #[default]
    Power,
    /// A crash of the process, but not of the machine: no fsync. After a power cut the last moments
    /// of the ledger may be gone.
    Process,
}

/// Where pictures, index and ledger are kept on this machine.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Folder for the database and the pictures. Must be on a local disk.
    pub path: PathBuf,
    /// A PostgreSQL database (13 or newer) for index, ledger and jobs, so that several replicas share them:
    /// `postgres://USER@HOST:5432/NAME`. With a password it is a secret: `{ env = "DATABASE_URL" }` or
    /// `{ file = "PATH" }`. Without it they are in SQLite in the folder.
    pub url: Option<TextRef>,
    /// How long a process may be silent before the others give it up, in seconds (1–3600): its calls that
    /// were sent go to suspense. By default 15 with PostgreSQL; 60 without, where the end of a process is
    /// noticed at once and only a frozen one is waited for.
    pub lease_s: Option<u32>,
    /// What a commit survives: `power` (a power cut) or `process` (only a crash of the process).
    pub durability: Durability,
    /// Memory for pictures that are asked for often, in MiB, and a quarter as much again for copies of them in other
    /// sizes and encodings. 0 turns it off, but for the 4 MiB that copies always have.
    pub memory_mb: u32,
}

impl Default for Storage {
    fn default() -> Self {
        Storage {
            path: PathBuf::from("./mimeo-data"),
            url: None,
            lease_s: None,
            durability: Durability::Power,
            memory_mb: 48,
        }
    }
}

/// Where the bytes of pictures are kept, if not in `storage.path`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Blobs {
    /// `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or `file:///PATH`; by default the
    /// folder `blobs` in `storage.path`. Credentials, endpoint and region come from the environment: `AWS_…`
    /// (such as `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, and
    /// `AWS_ALLOW_HTTP=true` for an endpoint without TLS), `GOOGLE_…` (`GOOGLE_APPLICATION_CREDENTIALS`) or
    /// `AZURE_…` (`AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`). Let the bucket drop incomplete
    /// multipart uploads after a day: a process that is killed leaves them behind.
    pub url: Option<String>,
}

/// What several replicas share besides their store.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shared {
    /// A Redis (6 or newer) or Valkey that makes several replicas faster and lets them keep the limits of an
    /// account together: `redis://HOST:6379/0`, `rediss://…` with TLS, or `unix:///PATH`. With a password it
    /// is a secret: `{ env = "REDIS_URL" }` or `{ file = "PATH" }`. Without it, or while it is down, every
    /// process goes on by itself.
    pub url: Option<TextRef>,
    /// What the names of all keys in it begin with: letters, digits, `-`, `_` and `.`. Replicas of one
    /// gateway have the same, different gateways different ones.
    pub namespace: String,
    /// How long a picture is kept there after it was last written, in seconds. 0 keeps no pictures there.
    pub picture_ttl_s: u32,
    /// How long anybody waits for its answer before going on without it, in milliseconds (10–10000).
    pub patience_ms: u32,
}

impl Default for Shared {
    fn default() -> Self {
        Shared { url: None, namespace: "mimeo".to_owned(), picture_ttl_s: 3600, patience_ms: 250 }
    }
}

/// What is kept how long.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// How long a picture answers the same request, in seconds. 0 is for ever.
    pub ttl_s: u64,
    /// How long a refusal by a content policy answers the same request, in seconds. 0 asks again
    /// every time.
    pub refusal_ttl_s: u64,
    /// How long a call whose outcome nobody knows keeps the same request from being paid again, in
    /// seconds, unless it is resolved before (`mimeo ledger resolve`). 0 is for ever.
    pub unknown_hold_s: u64,
    /// How much is stored at most, in MiB of pictures. Beyond that the pictures go that are worth least: those
    /// whose price times their chance to be asked for again is lowest per byte. 0 is without bound.
    pub max_mb: u64,
    /// How long a picture whose place a newer one took stays under its address, in seconds.
    pub replaced_ttl_s: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Cache {
            ttl_s: 30 * 24 * 3600,
            refusal_ttl_s: 300,
            unknown_hold_s: 24 * 3600,
            max_mb: 0,
            replaced_ttl_s: 7 * 24 * 3600,
        }
    }
}

/// The template renderer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Render {
    /// Folder with templates of your own, one folder each; they go before built-in ones of the same name.
    pub templates: Option<PathBuf>,
    /// Folder with fonts of your own (TTF, OTF), for scripts that the built-in ones do not cover.
    pub fonts: Option<PathBuf>,
}

/// Provider records of your own.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogueFolder {
    /// Folder with provider records of your own, one TOML file each (see `docs/add-a-provider.md`); they go before
    /// built-in ones of the same name.
    pub path: Option<PathBuf>,
}

/// Somebody whose pictures and money are apart from everybody else's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tenant {
    /// The most that all its keys together may spend.
    pub budget: Budgets,
}

/// A key that callers authenticate with.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Hash of the key, as `mimeo keys new` prints it. The key itself is nowhere.
    pub hash: String,
    /// Whose pictures and money these are. Tenants never see each other's. Default: the key's name.
    pub tenant: Option<String>,
    /// Shares its cache with all keys that name the same pool, whatever their tenant.
    pub pool: Option<String>,
    /// The most that this key may spend. Reserved before each call, never overrun.
    #[serde(default)]
    pub budget: Budgets,
    /// The environment that it is for, such as `staging`: it then reaches only accounts that name it in
    /// `environments`. Without one it reaches accounts that name none, or `prod`.
    pub environment: Option<String>,
    /// True may see all tenants' ledger rows, and all budgets.
    #[serde(default)]
    pub admin: bool,
}

impl Config {
    /// Reads and checks `path`. Without a path, `mimeo.toml` in the working folder if it is there,
    /// else the defaults.
    ///
    /// # Errors
    /// Every fault of the file, each with its place and what to do.
    pub fn load(path: Option<&Path>) -> Result<Config, Vec<ConfigFault>> {
        let default = Path::new("mimeo.toml");
        let path = match path {
            Some(path) => path,
            None if default.exists() => default,
            None => return Ok(Config::default()),
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            vec![ConfigFault::file(path, format!("cannot be read: {error}. Name another file with --config"))]
        })?;
        Config::parse(&text, path)
    }

    /// Parses and checks `text`; `path` is for messages.
    ///
    /// # Errors
    /// Every fault of the text, each with its place and what to do.
    pub fn parse(text: &str, path: &Path) -> Result<Config, Vec<ConfigFault>> {
        let config: Config = toml::from_str(text).map_err(|error| vec![ConfigFault::syntax(path, text, &error)])?;
        let faults = check::check(&config, path, text);
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }
}
