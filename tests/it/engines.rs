//! The engines that a gateway may lean on, real ones: PostgreSQL, Redis, an S3 server.
//!
//! Each runs under a watchdog that ends it when this process is gone, however it went: a server that is left over
//! after a test is a fault. An engine that is not installed fails the test; nothing is skipped.

mod postgres;
mod redis;
mod s3;
mod tests;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use postgres::Postgres;
pub use redis::Redis;
pub use s3::S3;

/// Runs an engine and tells its process id; ends it and removes its folder when standard input does, which is when
/// nobody holds the other end any more. Ends without removing anything when the engine ends first.
///
/// Arguments: the signal that ends the engine, its folder, its command line.
const WATCHDOG: &str = r#"
signal=$1 folder=$2
shift 2
# Sent by the kernel to all when the tests are killed while the engine stands still.
trap '' HUP
exec 3<&0 </dev/null
"$@" 3<&- 2>&1 &
engine=$!
echo "$engine"
{
  read -r _ <&3
  # From here on this part cannot be stopped, so that it ends with 0 exactly if it ended the engine.
  trap '' TERM
  kill -CONT "$engine"
  kill -"$signal" "$engine"
  true
} &
reader=$!
wait "$engine"
kill "$reader"
wait "$reader" && rm -rf -- "$folder"
"#;

/// An engine's process. Ended when dropped.
struct Process {
    watchdog: Child,
    /// While this is open the engine may live.
    lifeline: Option<ChildStdin>,
    pid: u32,
}

/// What there is to know about an engine to run it.
struct Engine<'a> {
    /// What its output is marked with.
    name: &'static str,
    /// Its command line; the environment is cleared but for `PATH`.
    command: Command,
    /// Its own folder, which goes when it is dropped.
    folder: &'a Path,
    /// The user and group that it runs as, if not the tests' own.
    user: Option<(u32, u32)>,
    /// The signal that ends it at once and leaves nothing behind.
    signal: &'static str,
    /// What it says when it takes connections.
    ready: &'static str,
}

impl Process {
    /// Starts an engine and waits until it takes connections.
    ///
    /// # Errors
    /// What it said, if it ended before that.
    fn start(engine: Engine<'_>) -> Result<Process, String> {
        let Engine { name, command, folder, user, signal, ready } = engine;
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, "watchdog", signal]).arg(folder);
        watchdog.arg(command.get_program()).args(command.get_args());
        clean(&mut watchdog, folder, user);
        // A group of its own: an interrupt at the terminal ends the tests, and their end is what ends the engine.
        watchdog.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        // The shell itself only has to say that what it ended has ended; the engine speaks on the other pipe.
        watchdog.stderr(Stdio::null());
        let mut watchdog = watchdog.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let lifeline = watchdog.stdin.take();
        let mut lines = BufReader::new(watchdog.stdout.take().expect("stdout is piped"));
        let mut next = || {
            let mut line = Vec::new();
            let read = lines.read_until(b'\n', &mut line).expect("the pipe is readable");
            (read > 0).then(|| String::from_utf8_lossy(&line).into_owned())
        };
        let pid = next().and_then(|line| line.trim().parse().ok()).expect("the watchdog tells the process id");
        let mut process = Process { watchdog, lifeline, pid };
        let mut seen = String::new();
        loop {
            let Some(line) = next() else {
                process.wait();
                return Err(seen);
            };
            seen.push_str(&line);
            if line.contains(ready) {
                break;
            }
        }
        // Whatever it says from here on goes to the output of the test.
        std::thread::spawn(move || {
            for line in lines.split(b'\n').map_while(Result::ok) {
                eprintln!("  {name} | {}", String::from_utf8_lossy(&line));
            }
        });
        Ok(process)
    }

    /// The same on a port that is free. Somebody else may take it in the moment between: then another one is tried.
    fn on_a_free_port(start: impl Fn(u16) -> Result<Process, String>) -> (u16, Process) {
        let mut said = String::new();
        for _ in 0..20 {
            let port = free_port();
            match start(port) {
                Ok(process) => return (port, process),
                Err(why) => said = why,
            }
            if !said.contains("ddress already in use") {
                break;
            }
        }
        panic!("the engine ended before it took connections:\n{said}");
    }

    /// True until it has ended. What has ended must not be signalled: its number may be another's by now.
    fn runs(&mut self) -> bool {
        self.watchdog.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// The engine's process and its children.
    fn family(&self) -> Vec<u32> {
        let children = std::fs::read_dir("/proc").expect("/proc is there").filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            (status(pid)?.1 == self.pid).then_some(pid)
        });
        std::iter::once(self.pid).chain(children).collect()
    }

    /// SIGSTOP to the engine and its children: connections stand, nothing answers.
    fn pause(&mut self) {
        assert!(self.runs(), "what has ended cannot be paused");
        // The parent first, so that it makes no more children.
        signal("STOP", &[self.pid]);
        until(|| standing(&[self.pid]));
        signal("STOP", &self.family());
        until(|| standing(&self.family()));
    }

    /// SIGCONT to the engine and its children.
    fn resume(&mut self) {
        if self.runs() {
            signal("CONT", &self.family());
        }
    }

    /// SIGKILL to the engine and its children, as if its machine had lost power.
    fn kill(&mut self) {
        if !self.runs() {
            return;
        }
        // Standing still, it cannot make others in place of the children that die.
        self.pause();
        let family = self.family();
        signal("KILL", &family[1..]);
        until(|| family[1..].iter().all(|child| status(*child).is_none_or(|(state, _)| state == 'Z')));
        signal("KILL", &family[..1]);
        self.wait();
    }

    /// A signal by name to the engine alone, and waits for its end.
    fn end(&mut self, name: &str) {
        self.resume();
        if self.runs() {
            signal(name, &[self.pid]);
            self.wait();
        }
    }

    /// Waits until the engine has ended.
    fn wait(&mut self) {
        let _ = self.watchdog.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.resume();
        drop(self.lifeline.take());
        self.wait();
    }
}

/// Gives a command the environment of an engine.
fn clean(command: &mut Command, folder: &Path, user: Option<(u32, u32)>) {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
    command.current_dir(folder);
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
}

/// The state of a process (`R`, `S`, `T` stopped, `Z` ended, …) and its parent; `None` if there is none.
fn status(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// True if all of them are stopped or have ended.
fn standing(pids: &[u32]) -> bool {
    pids.iter().all(|pid| status(*pid).is_none_or(|(state, _)| matches!(state, 'T' | 'Z')))
}

fn signal(name: &str, pids: &[u32]) {
    if !pids.is_empty() {
        // One of them may have ended by itself.
        let pids = pids.iter().map(u32::to_string);
        let _ = Command::new("kill").arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status();
    }
}

/// Waits for what the kernel does within moments. Bounded by 30 s.
#[track_caller]
fn until(condition: impl Fn() -> bool) {
    for _ in 0..15_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("it never came to be");
}

/// A loopback port that is free now, and that nobody in this process was given before.
///
/// It lies below the range from which the system takes the ports of outgoing connections. So it stays free while
/// the server that it was given to is down, and who connects to it meanwhile is refused: in that range a client may
/// be given the very port that it calls, and then talks to itself.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let end = range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768_u16);
    let start = if end > 12_000 { 10_000 } else { 1024 };
    loop {
        let offset = mimeo::domain::id::random() % u128::from(end - start);
        let port = start + u16::try_from(offset).expect("less than a port");
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if !given.contains(&port) && TcpListener::bind(loopback(port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The folder for what is built and installed.
pub fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The folder that has all `programs`: the one that `variable` names, else the first of `places` and of `PATH`.
fn locate(engine: &str, variable: &str, places: Vec<PathBuf>, programs: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = match std::env::var_os(variable) {
        Some(named) => vec![PathBuf::from(named)],
        None => places.into_iter().chain(std::env::split_paths(&path)).collect(),
    };
    let has_all = |folder: &&PathBuf| programs.iter().all(|program| folder.join(program).is_file());
    places.iter().find(has_all).cloned().unwrap_or_else(|| {
        panic!(
            "{engine} is not installed: no folder has {}. `./test.sh engines` installs it; {variable} names the folder \
             if it is in an unusual place.",
            programs.join(", ")
        )
    })
}
