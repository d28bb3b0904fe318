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
