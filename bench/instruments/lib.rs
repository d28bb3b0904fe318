//! What the benchmarks measure with.
//!
//! * [`process`]: processes that are started, looked at and stopped. [`client`]: requests and their times.
//! * [`report`]: tables and targets. [`plot`]: values over time, as a picture. [`waterfall`]: what is left after each step.

pub mod client;
pub mod plot;
pub mod process;
pub mod report;
pub mod waterfall;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Whatever went wrong.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// A result with any failure.
pub type Result<T> = std::result::Result<T, Failure>;

/// The mimeo to measure: the one that was named, or the one beside this program.
///
/// # Errors
/// It is not there.
pub fn mimeo(named: Option<&Path>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("mimeo"),
    };
    std::fs::canonicalize(&path).map_err(|error| {
        let path = path.display();
        format!("no mimeo at {path}: {error}. Build it with `cargo build --release`, or name one with --mimeo").into()
    })
}

/// Runs a benchmark to its end, or until somebody interrupts it. Fails unless it says that all of its targets are met.
pub fn run(benchmark: impl Future<Output = Result<bool>>) -> ExitCode {
    // One thread: the client competes with what it measures for the same cores, and shall not do so twice.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = benchmark => outcome,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
