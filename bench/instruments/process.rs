//! Processes that the benchmark starts, looks at and stops, and the folder that all of them live in.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Result;

/// How long a process may take to end in peace.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clock ticks per second in `/proc/PID/stat`: the same on every Linux that there is.
const TICKS: f64 = 100.0;

/// A folder that is removed at the end.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder in `parent`, with `name` in its own.
    pub fn new(parent: &Path, name: &str) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("mimeo-bench-{}-{name}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
        Ok(Self(fs::canonicalize(path)?))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: {} could not be removed: {error}", self.0.display());
        }
    }
}

/// A running process. Stopped when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with an environment that holds nothing but `PATH`, `HOME` and what `command` sets, and
    /// with its output in `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let set: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        command.env_clear();
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(set.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().map_err(|error| format!("{name} does not start: {error}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Waits for `listening on http://ADDR` in the output, and returns the address.
    pub async fn address(&mut self) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let text = fs::read_to_string(&self.log)?;
            let said =
                text.lines().filter(|_| text.ends_with('\n')).find_map(|line| line.strip_prefix("listening on "));
            if let Some(address) = said {
                return Ok(address.trim().to_owned());
            }
            self.must_live(deadline)?;
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// An error if the process has ended, or if it is past `deadline`.
    pub fn must_live(&mut self, deadline: Instant) -> Result<()> {
        let why = match self.child.try_wait()? {
            Some(status) => format!("ended ({status})"),
            None if Instant::now() > deadline => "does not listen".to_owned(),
            None => return Ok(()),
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(15).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        Err(format!("{} {why}. Its last words:\n{}", self.name, last.join("\n")).into())
    }

    /// Memory in use now, in MB of 10⁶ bytes.
    pub fn rss_mb(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// The most memory that was ever in use, in MB of 10⁶ bytes.
    pub fn peak_mb(&self) -> f64 {
        self.status("VmHWM:")
    }

    /// Files, sockets and the like that are open now.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    fn status(&self, field: &str) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        let kib: f64 = line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN);
        kib * 1024.0 / 1e6
    }

    /// Processor time spent so far by all its threads, in milliseconds.
    pub fn cpu_ms(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The second field is the name in parentheses, and may hold spaces.
        let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
        if ticks.len() == 2 { ticks.iter().sum::<f64>() / TICKS * 1e3 } else { f64::NAN }
    }

    /// Asks the process to end, and makes it end if it does not.
    fn stop(&mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        if asked.is_ok_and(|status| status.success()) {
            for _ in 0..PATIENCE.as_millis() / 10 {
                if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            eprintln!("warning: {} does not end; it is killed", self.name);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that was free a moment ago, for programs that cannot choose one themselves.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The program of that name on the `PATH` (or in the places for administrators' programs).
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Output of a command, without the line break at its end; empty if it cannot be had.
pub fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Free space of the file system that holds `path`, in GB of 10⁹ bytes.
pub fn free_gb(path: &Path) -> f64 {
    let text = output(Command::new("df").arg("-Pk").arg(path));
    let field = text.lines().nth(1).and_then(|line| line.split_whitespace().nth(3));
    field.and_then(|kib| kib.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib * 1024.0 / 1e9)
}
