//! A PostgreSQL server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::{Engine, Process, clean, locate, loopback};
use crate::world::{Folder, outcome};

/// A database on the server that all tests of this process share, or on a server of its own.
///
/// There are no passwords: whoever can connect from this machine is the superuser `mimeo`.
pub struct Postgres {
    server: Option<Server>,
    port: u16,
    database: String,
}

/// A running server in its folder.
struct Server {
    // Ended before its folder goes.
    process: Process,
    folder: Folder,
    port: u16,
}

/// What is made once per process. It is never dropped: the watchdog cleans up when this process ends.
struct Shared {
    server: Server,
    /// A data folder that was never used, to be copied.
    template: PathBuf,
}

impl Postgres {
    /// A fresh database on the shared server. It is removed when dropped.
    pub fn start() -> Postgres {
        let port = shared().server.port;
        let postgres = Postgres { server: None, port, database: format!("t{:032x}", mimeo::domain::id::random()) };
        // Nobody can be connected to `template0`, which would keep it from being copied.
        sql(port, "postgres", &format!("CREATE DATABASE {} TEMPLATE template0", postgres.database))
            .unwrap_or_else(|error| panic!("no database could be made: {error}"));
        postgres
    }

    /// A server of its own, for tests that do it harm.
    pub fn own() -> Postgres {
        let server = Server::start(&shared().template, folder());
        Postgres { port: server.port, server: Some(server), database: "postgres".to_owned() }
    }

    /// Where the server listens. It stays the same when it is started again.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// The database, for `storage.url`.
    pub fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The same by way of another address.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("postgres://mimeo@{address}/{}", self.database)
    }

    /// Runs statements in the database and returns their rows: one a line, with `|` between the columns.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> String {
        sql(self.port, &self.database, statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// True if the server takes connections.
    pub fn is_ready(&self) -> bool {
        let mut ask = Command::new(programs().join("pg_isready"));
        ask.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", "2"]).stdout(Stdio::null());
        ask.status().is_ok_and(|status| status.success())
    }

    /// Ends the server as an operator would: it breaks all connections, writes everything down and ends.
    pub fn stop_fast(&mut self) {
        self.own_server().process.end("INT");
    }

    /// Kills the server's processes. What was committed is there afterwards.
    pub fn kill(&mut self) {
        let server = self.own_server();
        server.process.kill();
        server.remove_shared_memory();
    }

    /// Starts the server again on its data, after [`Postgres::stop_fast`], [`Postgres::kill`] or running.
    pub fn restart(&mut self) {
        let server = self.own_server();
        server.process.end("INT");
        server.process = run(&server.folder.0, server.port).unwrap_or_else(|said| panic!("it does not start:\n{said}"));
    }

    /// Stops all its processes where they are: connections stand, nothing answers.
    pub fn pause(&mut self) {
        self.own_server().process.pause();
    }

    /// Lets them go on.
    pub fn resume(&mut self) {
        self.own_server().process.resume();
    }

    /// Makes a user who owns nothing and must name a password, on a server of its own. Where the database is for that
    /// user, with that password.
    pub fn guarded_url(&mut self, user: &str, password: &str) -> String {
        self.sql(&format!("CREATE USER {user} SUPERUSER PASSWORD '{password}'"));
        let rules = self.own_server().folder.0.join("data/pg_hba.conf");
        let open = std::fs::read_to_string(&rules).expect("the server has rules");
        std::fs::write(&rules, format!("host all {user} 127.0.0.1/32 scram-sha-256\n{open}")).expect("written");
        self.sql("SELECT pg_reload_conf()");
        format!("postgres://{user}:{password}@{}/{}", self.address(), self.database)
    }

    fn own_server(&mut self) -> &mut Server {
        self.server.as_mut().expect("other tests use this server, too: take Postgres::own()")
    }

    /// The folder and the process of the server of its own.
    pub(super) fn traces(&mut self) -> (PathBuf, u32) {
        let server = self.own_server();
        (server.folder.0.clone(), server.process.pid)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.is_none() {
            let _ = sql(self.port, "postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.database));
        }
    }
}

impl Server {
    /// Starts on a copy of `template`, in `folder`.
    fn start(template: &Path, folder: Folder) -> Server {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(template).arg(folder.0.join("data"));
        done(copy, &folder.0);
        let (port, process) = Process::on_a_free_port(|port| run(&folder.0, port));
        Server { process, folder, port }
    }

    /// The kernel keeps the segment that a killed server had, until somebody removes it or the machine starts anew.
    fn remove_shared_memory(&self) {
        let notes = std::fs::read_to_string(self.folder.0.join("data/postmaster.pid")).unwrap_or_default();
        // Its seventh line is the key and the id.
        if let Some(id) = notes.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            let _ = Command::new("ipcrm").args(["-m", id]).stderr(Stdio::null()).status();
        }
    }
}

/// The server's process on the data in `folder`.
fn run(folder: &Path, port: u16) -> Result<Process, String> {
    let mut command = Command::new(programs().join("postgres"));
    command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-N", "100", "-F"]);
    // Small, and nothing outside of its folder.
    for setting in [
        "shared_buffers=16MB",
        "dynamic_shared_memory_type=mmap",
        "full_page_writes=off",
        "wal_level=minimal",
        "max_wal_senders=0",
        "max_wal_size=64MB",
    ] {
        command.args(["-c", setting]);
    }
    let ready = "ready to accept connections";
    // SIGQUIT ends it at once, and unlike SIGKILL it frees its shared memory.
    Process::start(Engine { name: "postgres", command, folder, user: user(), signal: "QUIT", ready })
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let folder = folder();
        let template = folder.0.join("template");
        let mut init = Command::new(programs().join("initdb"));
        init.args(["-U", "mimeo", "-A", "trust", "-E", "UTF8", "--no-locale", "-N", "--wal-segsize=1", "-D"]);
        init.arg(&template);
        done(init, &folder.0);
        Shared { server: Server::start(&template, folder), template }
    })
}

/// A folder of the user that the server runs as.
fn folder() -> Folder {
    let folder = Folder::new();
    if let Some((user, group)) = user() {
        std::os::unix::fs::chown(&folder.0, Some(user), Some(group)).expect("root may give folders away");
    }
    folder
}

/// Runs a command as the server's user, to its end.
fn done(mut command: Command, folder: &Path) {
    clean(&mut command, folder, user());
    let program = command.get_program().to_owned();
    let (code, out, err) = outcome(command);
    assert_eq!(code, 0, "{}:\n{out}\n{err}", program.display());
}

fn sql(port: u16, database: &str, statements: &str) -> Result<String, String> {
    let mut psql = Command::new(programs().join("psql"));
    // -X: without the settings of whoever runs the tests.
    psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port.to_string()]);
    psql.args(["-U", "mimeo", "-d", database, "-c", statements]);
    clean(&mut psql, &std::env::temp_dir(), None);
    let (code, out, err) = outcome(psql);
    if code == 0 { Ok(out.trim_end().to_owned()) } else { Err(err) }
}

/// The folder of the server's programs.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let mut places = Vec::new();
        if let Ok(told) = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output() {
            places.push(PathBuf::from(String::from_utf8_lossy(&told.stdout).trim()));
        }
        // Debian keeps each version in a folder of its own. The newest first.
        let mut versions: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        places.extend(versions.iter().map(|version| format!("/usr/lib/postgresql/{version}/bin").into()));
        locate("PostgreSQL", "MIMEO_TEST_PG_BIN", places, &["initdb", "postgres", "psql", "pg_isready"])
    })
}

/// Whom the server runs as: it refuses root, and Debian's package makes a user for it.
fn user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        let id = |arguments: &[&str]| -> Option<u32> {
            let told = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
            String::from_utf8_lossy(&told.stdout).trim().parse().ok()
        };
        if id(&["-u"]) != Some(0) {
            return None;
        }
        let ids = id(&["-u", "postgres"]).zip(id(&["-g", "postgres"]));
        assert!(ids.is_some(), "PostgreSQL does not run as root, and there is no user `postgres` that it could run as");
        ids
    })
}
