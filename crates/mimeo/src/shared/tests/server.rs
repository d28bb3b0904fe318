//! A real Redis for one test, on a socket in a folder of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use redis::FromRedisValue;

use super::{Address, Settings, Shared};

/// A running server; killed and its folder removed when dropped.
pub(super) struct Server {
    child: Child,
    // Kept, so that the server can go on writing its log.
    _log: BufReader<ChildStdout>,
    home: Home,
}

/// A folder that is removed with its content, and what a server there is told.
pub(super) struct Home {
    folder: PathBuf,
    password: Option<&'static str>,
}

impl Home {
    pub(super) fn new(password: Option<&'static str>) -> Home {
        let folder = std::env::temp_dir().join(format!("mimeo-redis-{:032x}", crate::domain::id::random()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        Home { folder, password }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Where a server in this home listens, with `password`.
    pub(super) fn address(&self, password: Option<&str>) -> Address {
        let password = password.map(|password| format!("?pass={password}")).unwrap_or_default();
        Address::parse(&format!("unix://{}{password}", self.socket().display())).expect("an address")
    }

    /// Starts a server and waits until it is ready.
    pub(super) fn open(self) -> Server {
        let (child, log) = launch(&self);
        Server { child, _log: log, home: self }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("MIMEO_TEST_REDIS") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| ["redis-server", "valkey-server"].map(|name| folder.join(name)))
        .find(|file| file.is_file());
    found.expect(
        "these tests need redis-server or valkey-server in PATH, or in MIMEO_TEST_REDIS (apt-get install redis-server)",
    )
}

fn launch(home: &Home) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(binary());
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(home.socket());
    command.arg("--dir").arg(&home.folder);
    if let Some(password) = home.password {
        command.args(["--requirepass", password]);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the server starts");
    let mut log = BufReader::new(child.stdout.take().expect("its output is piped"));
    let mut seen = String::new();
    while !seen.to_ascii_lowercase().contains("ready to accept connections") {
        assert!(
            log.read_line(&mut seen).expect("its log is text") > 0,
            "the server ended before it was ready:\n{seen}"
        );
    }
    (child, log)
}

impl Server {
    pub(super) fn start() -> Server {
        Home::new(None).open()
    }

    pub(super) fn address(&self) -> Address {
        self.home.address(self.home.password)
    }

    /// The same place with another password.
    pub(super) fn address_with(&self, password: &str) -> Address {
        self.home.address(Some(password))
    }

    /// A replica.
    pub(super) fn join(&self, settings: &Settings) -> Shared {
        Shared::connect(&self.address(), settings)
    }

    /// What the server answers to a command.
    pub(super) fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.address().client().get_connection().expect("the server is there");
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection).expect("a good command")
    }

    /// The slots of an account that the server knows.
    pub(super) fn slots(&self, account: &str) -> u32 {
        self.ask(&["ZCARD", &format!("mimeo:limits:{{{account}}}:slots")])
    }

    /// Cuts all connections but those that are made from now on.
    pub(super) fn cut(&self) {
        let cut: u32 = self.ask::<u32>(&["CLIENT", "KILL", "TYPE", "normal"])
            + self.ask::<u32>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert!(cut > 0, "there was something to cut");
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A new server at the same place, empty.
    pub(super) fn restart(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(self.home.socket());
        (self.child, self._log) = launch(&self.home);
    }

    /// `kill -STOP`: it takes connections and does not answer.
    pub(super) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// `kill -CONT`.
    pub(super) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal was sent");
    }

    pub(super) fn folder(&self) -> &Path {
        &self.home.folder
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
