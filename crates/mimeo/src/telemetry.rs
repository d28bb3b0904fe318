//! Logs: to stderr, filtered by `MIMEO_LOG`. Prompts and secrets are never in them.

use tracing_subscriber::EnvFilter;

/// Begins to log. `filter` is in the syntax of `tracing` (such as `info` or `mimeo=debug`); a wrong
/// one is told and replaced by the default.
pub fn begin(filter: Option<&str>, color: bool) {
    let default = || EnvFilter::new("warn,mimeo=info");
    let filter = match filter {
        None => default(),
        Some(text) => EnvFilter::try_new(text).unwrap_or_else(|error| {
            eprintln!("MIMEO_LOG: {error}; using the default, `warn,mimeo=info`");
            default()
        }),
    };
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(color)
        .with_target(false)
        .try_init();
}
