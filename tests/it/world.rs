//! A world of one test: a sandbox process with its invoice book, a gateway process with its data folder.
//!
//! When a world ends, the ledger is held against the book, line by line (I6). Nothing is waited for by
//! sleeping, and every port is free when it is taken.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::books::{self, Sandbox};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_mimeo");

/// A child process that printed `listening on http://ADDR`. Killed when dropped.
pub struct Server {
    pub child: Child,
    pub url: String,
    /// Collects what it says after it has begun to listen.
    pub listener: Option<std::thread::JoinHandle<String>>,
}

impl Server {
    /// Starts `command` and waits for its address.
    pub fn start(mut command: Command) -> Server {
        let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut seen = String::new();
        let url = loop {
            let mut line = String::new();
            if lines.read_line(&mut line).expect("stderr is text") == 0 {
                panic!("the process ended before it listened:\n{seen}");
            }
            if let Some(url) = line.trim().strip_prefix("listening on ") {
                break url.to_owned();
            }
            seen.push_str(&line);
        };
        // Whatever it says from here on goes to the output of the test.
        let listener = std::thread::spawn(move || {
            let mut said = String::new();
            for line in lines.lines().map_while(Result::ok) {
                eprintln!("  | {line}");
                said = said + &line + "\n";
            }
            said
        });
        Server { child, url, listener: Some(listener) }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it has said, all of it. It must have ended.
    pub fn last_words(&mut self) -> String {
        self.listener.take().map(|listener| listener.join().expect("stderr is text")).unwrap_or_default()
    }

    /// Sends a signal, such as `-TERM`.
    pub fn signal(&self, signal: &str) {
        let _ = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
    }

    /// `kill -TERM`, and the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().ok().and_then(|status| status.code())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder that is removed with its content.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("mimeo-it-{:032x}", mimeo::domain::id::random()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A sandbox, a gateway, and what they share.
pub struct World {
    pub sandbox: Sandbox,
    pub gateway: Server,
    pub folder: Folder,
    pub client: reqwest::Client,
    audited: bool,
}

/// What a request came to.
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Reply {
    /// A header as text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"))
    }

    /// `x-mimeo-cache`.
    pub fn cache(&self) -> &str {
        self.header("x-mimeo-cache")
    }

    /// The pictures, decoded.
    pub fn pictures(&self) -> Vec<Vec<u8>> {
        let data = self.body["data"].as_array().unwrap_or_else(|| panic!("no data in {}", self.body));
        let decode = |item: &Value| {
            let text = item["b64_json"].as_str().unwrap_or_else(|| panic!("no b64_json in {item}"));
            base64_simd::STANDARD.decode_to_vec(text).expect("b64_json is base64")
        };
        data.iter().map(decode).collect()
    }

    /// `error.code`.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or("")
    }

    /// `error.message`.
    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or("")
    }

    /// Asserts the status, showing the body if it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

impl World {
    /// A gateway with the providers `openai`, `compatible` and `sandbox`, all simulated.
    pub async fn new() -> World {
        World::with("").await
    }

    /// The same, with more configuration. `{sandbox}` in it stands for the sandbox's address.
    pub async fn with(config: &str) -> World {
        let folder = Folder::new();
        let sandbox = Sandbox::start(&folder.0);
        let config = format!("[storage]\ndurability = 'process'\n{}", sandbox.providers_and(config));
        std::fs::write(folder.0.join("mimeo.toml"), config).expect("written");
        let gateway = Server::start(serve(&folder.0));
        World { sandbox, gateway, folder, client: reqwest_client(), audited: false }
    }

    /// The same, with files in the folder of the configuration: their names and texts, for the sandbox's address.
    pub async fn with_files(config: &str, files: impl FnOnce(&str) -> Vec<(&'static str, String)>) -> World {
        let folder = Folder::new();
        let sandbox = Sandbox::start(&folder.0);
        for (name, text) in files(&sandbox.url) {
            std::fs::write(folder.0.join(name), text).expect("written");
        }
        let config = format!("[storage]\ndurability = 'process'\n{}", config.replace("{sandbox}", &sandbox.url));
        std::fs::write(folder.0.join("mimeo.toml"), config).expect("written");
        let gateway = Server::start(serve(&folder.0));
        World { sandbox, gateway, folder, client: reqwest_client(), audited: false }
    }

    /// Starts the gateway again, on the same data, after it was killed or stopped.
    pub fn restart(&mut self) {
        self.restart_failing("");
    }

    /// The same, with failpoints: see `crates/mimeo/src/failpoint.rs`.
    pub fn restart_failing(&mut self, failpoints: &str) {
        self.gateway.kill();
        let mut command = serve(&self.folder.0);
        command.env("MIMEO_FAILPOINTS", failpoints);
        self.gateway = Server::start(command);
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.0.join("data")
    }

    /// A command line of the binary, on this world's configuration and data.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary(&self.folder.0);
        command.args(arguments);
        command
    }

    /// Runs a command line and returns its exit code, stdout and stderr.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        outcome(self.command(arguments))
    }

    /// Asks for pictures.
    pub async fn generate(&self, body: Value) -> Reply {
        self.post("/v1/images/generations", body).await
    }

    /// POSTs JSON.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        let request =
            self.client.post(format!("{}{path}", self.gateway.url)).header("content-type", "application/json");
        reply(request.body(body.to_string())).await
    }

    /// GETs JSON.
    pub async fn get(&self, path: &str) -> Reply {
        reply(self.client.get(format!("{}{path}", self.gateway.url))).await
    }

    /// The invoice book: its lines.
    pub async fn book(&self) -> Vec<Value> {
        self.sandbox.book(&self.client).await
    }

    /// The sandbox's statistics.
    pub async fn stats(&self) -> Value {
        self.sandbox.stats(&self.client).await
    }

    /// Waits until `condition` holds for the sandbox's statistics. Bounded by 30 s.
    pub async fn until(&self, condition: impl Fn(&Value) -> bool) {
        self.sandbox.until(&self.client, condition).await;
    }

    /// Sums of the ledger over HTTP.
    pub async fn ledger(&self) -> Value {
        self.get("/v1/ledger?group_by=model").await.expect(200).body
    }

    /// For the one kind of test in which the ledger cannot know what the book knows.
    pub fn leave_unaudited(&mut self) {
        self.audited = true;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.audited || std::thread::panicking() {
            return;
        }
        books::audit(&self.sandbox, || self.run(books::EVENTS));
    }
}

/// A client without surprises: no proxies, no redirects.
pub fn reqwest_client() -> reqwest::Client {
    mimeo::net::Clients::default().plain().expect("a client for plain http").clone()
}

/// Sends a request and reads a JSON answer (or `null` where it is none).
pub async fn reply(request: reqwest::RequestBuilder) -> Reply {
    try_reply(request).await.expect("the server gives a whole answer")
}

/// The same, where the connection may break.
///
/// # Errors
/// It broke, or there was none.
pub async fn try_reply(request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await?;
    Ok(Reply { status, headers, body: serde_json::from_slice(&body).unwrap_or(json!(null)) })
}

/// Runs a command to its end.
pub fn outcome(mut command: Command) -> (i32, String, String) {
    let output = command.stdin(Stdio::null()).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// The binary with a clean environment, in `folder`, where its configuration is.
pub fn binary(folder: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(folder).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("OPENAI_API_KEY", "sk-canary-0123456789").env("MIMEO_DATA", folder.join("data"));
    command
}

fn serve(folder: &Path) -> Command {
    let mut command = binary(folder);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    command
}
