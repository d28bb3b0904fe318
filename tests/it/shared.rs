//! Replicas of the gateway that share a Redis, and what happens to them without it.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use futures_util::future::join_all;
use serde_json::json;

use crate::world::{Folder, Server, World, reply};

/// A real Redis with a password, on a socket in a folder of its own. Killed when dropped.
struct Redis {
    child: Child,
    // Kept, so that the server can go on writing its log.
    _log: BufReader<std::process::ChildStdout>,
    folder: Folder,
}

const PASSWORD: &str = "canary-redis-0123456789";

impl Redis {
    fn start() -> Redis {
        let folder = Folder::new();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let in_path = || {
            let names = ["redis-server", "valkey-server"];
            std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|file| file.is_file())
        };
        let binary = std::env::var_os("MIMEO_TEST_REDIS").map(PathBuf::from).or_else(in_path).expect(
            "these tests need redis-server or valkey-server in PATH, or in MIMEO_TEST_REDIS (apt-get install redis-server)",
        );
        let mut command = Command::new(binary);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--requirepass", PASSWORD, "--unixsocket"]);
        command.arg(folder.0.join("redis")).arg("--dir").arg(&folder.0).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut log = BufReader::new(child.stdout.take().expect("its output is piped"));
        let mut seen = String::new();
        while !seen.to_ascii_lowercase().contains("ready to accept connections") {
            assert!(log.read_line(&mut seen).expect("its log is text") > 0, "it ended before it was ready:\n{seen}");
        }
        Redis { child, _log: log, folder }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The configuration of a gateway that shares it, before an account with a limit. A busy machine is not
    /// taken for a Redis that is down.
    fn configuration(&self) -> String {
        let url = self.folder.0.join("url");
        let socket = self.folder.0.join("redis");
        std::fs::write(&url, format!("unix://{}?pass={PASSWORD}\n", socket.display())).expect("written");
        format!(
            "[providers.small]\nrecord = 'sandbox'\nbase_url = '{{sandbox}}/native/v1'\nlimits = {{ concurrent = 3 }}\n\
             [shared]\nurl = {{ file = '{}' }}\npatience_ms = 10000\n",
            url.display()
        )
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks each gateway in turn for a picture of its own, all at once.
async fn ask_all(world: &World, gateways: &[&Server], round: &str) {
    let calls = (0..12).map(|index| {
        let gateway = gateways[index % gateways.len()];
        let body = json!({
            "model": "small/draft", "prompt": format!("{round} kite {index} [[latency=60]]"), "size": "64x64"
        });
        let request = world.client.post(format!("{}/v1/images/generations", gateway.url));
        reply(request.header("content-type", "application/json").body(body.to_string()))
    });
    for reply in join_all(calls).await {
        reply.expect(200);
    }
}

/// The limit of an account holds over all gateways that share a Redis, and without it requests go on.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_keep_the_limits_of_an_account_together() {
    let mut redis = Redis::start();
    let world = World::with(&redis.configuration()).await;
    let second = Server::start(world.command(&["serve", "--listen", "127.0.0.1:0"]));
    ask_all(&world, &[&world.gateway, &second], "shared").await;
    assert_eq!(world.stats().await["peak_in_flight"], 3);
    redis.kill();
    ask_all(&world, &[&world.gateway, &second], "alone").await;
    let most = world.stats().await["peak_in_flight"].as_u64().expect("a number");
    assert!((3..=6).contains(&most), "each within the limit: {most}");
    assert_eq!(world.book().await.len(), 24);
}
