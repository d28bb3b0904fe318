//! A Redis server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Engine, Process, locate, loopback};
use crate::world::Folder;

/// A Redis server of one test. It keeps nothing on disk but what [`Redis::save_dump`] is told to.
pub struct Redis {
    // Ended before its folder goes.
    process: Process,
    folder: Folder,
    port: u16,
    without: &'static [&'static str],
}

impl Redis {
    /// An empty server.
    pub fn start() -> Redis {
        Redis::without(&[])
    }

    /// An empty server that does not know these commands, like an older one.
    pub fn without(commands: &'static [&'static str]) -> Redis {
        let folder = Folder::new();
        let (port, process) = Process::on_a_free_port(|port| run(&folder.0, port, commands));
        Redis { process, folder, port, without: commands }
    }

    /// Where the server listens. It stays the same when it is started again.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// The server, for `shared.url`.
    pub fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The same by way of another address.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("redis://{address}")
    }

    /// Sends a command and returns the answer: a text, a number, or nothing for a value that is not there.
    ///
    /// # Errors
    /// The server cannot be reached, breaks the connection, or answers with an error.
    pub fn ask(&self, words: &[&str]) -> std::io::Result<Option<String>> {
        let mut stream = TcpStream::connect(self.address())?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        stream.write_all(request.as_bytes())?;
        let mut answer = BufReader::new(stream);
        let mut line = String::new();
        answer.read_line(&mut line)?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("+" | ":", text)) => Ok(Some(text.to_owned())),
            Some(("$", "-1")) => Ok(None),
            Some(("$", length)) => {
                let mut text = vec![0; length.parse().expect("a length")];
                answer.read_exact(&mut text)?;
                Ok(Some(String::from_utf8(text).expect("the tests' values are text")))
            }
            _ => Err(std::io::Error::other(format!("{words:?}: {line:?}"))),
        }
    }

    /// Forgets everything.
    pub fn flush(&self) {
        self.tell(&["FLUSHALL"]);
    }

    /// Breaks the connections of all clients, those that listen to channels too. They may connect again.
    pub fn cut_clients(&self) {
        for kind in ["normal", "pubsub"] {
            self.tell(&["CLIENT", "KILL", "TYPE", kind]);
        }
    }

    /// Keeps what the server holds now, for [`Redis::restore_dump`].
    pub fn save_dump(&self) {
        self.tell(&["SAVE"]);
        std::fs::rename(self.dump(), self.saved()).expect("the dump can be moved");
    }

    /// Starts the server anew with what it held at the last [`Redis::save_dump`], and without anything since.
    pub fn restore_dump(&mut self) {
        std::fs::copy(self.saved(), self.dump()).expect("save_dump was called before");
        self.restart();
        std::fs::remove_file(self.dump()).expect("the dump was read");
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the server anew and empty, after [`Redis::kill`] or while it runs.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process =
            run(&self.folder.0, self.port, self.without).unwrap_or_else(|said| panic!("it does not start:\n{said}"));
    }

    /// Stops the process where it is: connections stand, nothing answers.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    #[track_caller]
    fn tell(&self, words: &[&str]) {
        self.ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }

    /// What the server reads when it starts.
    fn dump(&self) -> PathBuf {
        self.folder.0.join("dump.rdb")
    }

    fn saved(&self) -> PathBuf {
        self.folder.0.join("saved.rdb")
    }

    /// The folder and the process of the server.
    pub(super) fn traces(&self) -> (PathBuf, u32) {
        (self.folder.0.clone(), self.process.pid)
    }
}

fn run(folder: &Path, port: u16, without: &[&str]) -> Result<Process, String> {
    let program = locate("Redis", "MIMEO_TEST_REDIS_BIN", Vec::new(), &["redis-server"]).join("redis-server");
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"]);
    command.arg(folder);
    for name in without {
        command.args(["--rename-command", name, ""]);
    }
    let ready = "Ready to accept connections";
    Process::start(Engine { name: "redis", command, folder, user: None, signal: "KILL", ready })
}
