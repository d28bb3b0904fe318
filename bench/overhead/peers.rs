//! Other gateways in front of the same sandbox. They are installed by `bench/peers.sh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::world::{Way, World};
use mimeo_bench::client::{Connection, Target};
use mimeo_bench::process::{Process, free_port};

/// The model as the sandbox knows it.
const MODEL: &str = "flat-0.002";
/// LiteLLM wants a strong key of its own to start at all.
const KEY: &str = "sk-5f0c1e7a9b3d48d2a6c4e8f0b2d4a6c8e0f1a3b5c7d9e1f3a5b7c9d1e3f5a7b9";
/// It takes half a minute when it starts for the first time.
const START: Duration = Duration::from_secs(120);

/// Installs what is missing and starts both.
pub async fn start(world: &World, folder: Option<&Path>) -> Result<Vec<Way>> {
    let home = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.map_or_else(|| home.join("../target/peers"), Path::to_owned);
    let installed = Command::new("sh").arg(home.join("peers.sh")).arg(&folder).stdout(std::io::stderr()).status()?;
    if !installed.success() {
        return Err("bench/peers.sh could not install the other gateways".into());
    }
    let folder = fs::canonicalize(folder)?;
    Ok(vec![litellm(world, &folder).await?, portkey(world, &folder).await?])
}

async fn litellm(world: &World, folder: &Path) -> Result<Way> {
    let port = free_port()?;
    let config = world.folder().join("litellm.yaml");
    // Under a name that it does not know, it would refuse `response_format`. The sandbox takes every name.
    let text = format!(
        "model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/dall-e-3\n      \
         api_base: {}\n      api_key: sk-simulated\n",
        world.api()
    );
    fs::write(&config, text)?;
    let mut command = Command::new(folder.join("litellm/bin/litellm"));
    command.arg("--config").arg(&config).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.current_dir(world.folder());
    // Prices come from the package, not from the network.
    command.env("LITELLM_MASTER_KEY", KEY).env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("NO_PROXY", "*");
    let process = Process::start("LiteLLM", command, &world.folder().join("litellm.log"))?;
    let mut target = Target::at(&format!("127.0.0.1:{port}"), "/v1/images/generations", MODEL)?;
    target.headers = vec![header("authorization", &format!("Bearer {KEY}"))?];
    ready("LiteLLM 1.106.2", target, "/health/liveliness", process).await
}

async fn portkey(world: &World, folder: &Path) -> Result<Way> {
    let port = free_port()?;
    // It would listen on all addresses of the machine; nobody outside has business here.
    let preload = world.folder().join("loopback.cjs");
    fs::write(
        &preload,
        "const net = require('node:net');\nconst listen = net.Server.prototype.listen;\n\
         net.Server.prototype.listen = function (port, ...rest) {\n  \
         if (typeof port === 'number' || typeof port === 'string') {\n    \
         const done = rest.find((value) => typeof value === 'function');\n    \
         return listen.call(this, Number(port), '127.0.0.1', done);\n  }\n  \
         if (port && typeof port === 'object' && 'port' in port) port = { ...port, host: '127.0.0.1' };\n  \
         return listen.call(this, port, ...rest);\n};\n",
    )?;
    let mut command = Command::new("node");
    command.arg("--require").arg(&preload);
    command.arg(folder.join("portkey/node_modules/@portkey-ai/gateway/build/start-server.js"));
    command.args(["--headless", &format!("--port={port}")]).current_dir(world.folder()).env("NODE_ENV", "production");
    let process = Process::start("Portkey", command, &world.folder().join("portkey.log"))?;
    let mut target = Target::at(&format!("127.0.0.1:{port}"), "/v1/images/generations", MODEL)?;
    let config = serde_json::json!({ "provider": "openai", "api_key": "sk-simulated", "custom_host": world.api() });
    target.headers.push(header("x-portkey-config", &config.to_string())?);
    ready("Portkey 1.15.2", target, "/", process).await
}

fn header(name: &'static str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    Ok((HeaderName::from_static(name), HeaderValue::from_str(value)?))
}

/// Waits until it answers.
async fn ready(name: &'static str, target: Target, path: &str, mut process: Process) -> Result<Way> {
    eprintln!("{name} is starting");
    let deadline = Instant::now() + START;
    loop {
        if let Ok(mut connection) = Connection::open(target.address).await
            && let Ok((status, _)) = connection.fetch(target.get(path)?).await
            && status.is_success()
        {
            return Ok(Way { name, target, process: Some(Arc::new(process)), is_peer: true, data: None });
        }
        process.must_live(deadline)?;
        sleep(Duration::from_millis(200)).await;
    }
}
