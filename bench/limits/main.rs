//! How much of what a provider allows is used, and how often does it have to refuse? Starts everything itself and stops
//! it again; see `bench/README.md`.
//!
//! * [`world`]: a provider that counts, gateways before it, full pressure. [`verdict`]: tables, targets, a picture.
#![expect(clippy::print_stdout, reason = "a program that prints tables")]

mod verdict;
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use mimeo_bench::Result;
use mimeo_bench::process::which;
use mimeo_bench::report::Check;
use world::{Run, World};

/// Calls that the provider takes in each second.
pub const RATE: u32 = 20;

/// Keeps gateways under full pressure before a provider that takes so many calls per second, and asks the provider what
/// came when. Everything runs on this machine and over loopback.
///
/// Exit codes: 0 all targets are met, 1 one is missed or something failed.
#[derive(Debug, Parser)]
#[command(name = "limits", version)]
struct Arguments {
    /// How long each case takes
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
    /// 20 seconds each
    #[arg(long, conflicts_with = "seconds")]
    quick: bool,
    /// Only cases whose name holds TEXT
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also write the tables to FILE, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a picture of the cases to FILE [default: limits.svg beside this program]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The mimeo to load [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    mimeo: Option<PathBuf>,
}

/// One thing to try.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// How the provider counts, and what it says, as the sandbox takes it.
    kind: &'static str,
    says: &'static str,
    /// Whether the gateways are told.
    pub known: bool,
    /// How many gateways, with a Redis between them if several.
    gateways: usize,
}

const CASES: [Case; 7] = [
    Case { name: "known, fixed windows", kind: "fixed", says: "ms", known: true, gateways: 1 },
    Case { name: "known, sliding windows", kind: "sliding", says: "ms", known: true, gateways: 1 },
    Case { name: "known, two replicas", kind: "sliding", says: "ms", known: true, gateways: 2 },
    Case { name: "learned, fixed windows", kind: "fixed", says: "s", known: false, gateways: 1 },
    Case { name: "learned, sliding windows", kind: "sliding", says: "ms", known: false, gateways: 1 },
    Case { name: "learned without a word", kind: "fixed", says: "nothing", known: false, gateways: 1 },
    Case { name: "learned, two replicas", kind: "fixed", says: "s", known: false, gateways: 2 },
];

fn main() -> ExitCode {
    mimeo_bench::run(run(&Arguments::parse()))
}

async fn run(arguments: &Arguments) -> Result<bool> {
    let seconds = if arguments.quick { 20 } else { arguments.seconds.max(15) };
    let mimeo = mimeo_bench::mimeo(arguments.mimeo.as_deref())?;
    let redis = which("redis-server").or_else(|| which("valkey-server"));
    println!("{}", verdict::machine());
    let mut runs: Vec<(Case, Run)> = Vec::new();
    let mut skipped = Vec::new();
    let wanted = |case: &Case| arguments.only.as_deref().is_none_or(|text| case.name.contains(text));
    for case in CASES.into_iter().filter(wanted) {
        match one(case, &mimeo, redis.as_deref(), seconds).await? {
            Some(run) => runs.push((case, run)),
            None => skipped.push(Check::skipped(case.name, "there is no redis-server in PATH")),
        }
    }
    let (table, mut checks) = verdict::of(&runs);
    checks.extend(skipped);
    println!("{}", table.plain());
    let lines: Vec<String> = checks.iter().map(Check::line).collect();
    println!("Targets\n  {}\n", lines.join("\n  "));
    let svg = match &arguments.svg {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("limits.svg"),
    };
    fs::write(&svg, verdict::picture(&runs))?;
    println!("{}\na picture of it: {}", verdict::machine(), svg.display());
    if let Some(file) = &arguments.markdown {
        fs::write(file, format!("{}\n### Targets\n\n- {}\n", table.markdown(), lines.join("\n- ")))?;
    }
    Ok(checks.iter().all(Check::is_fine))
}

/// Tries one case; `None` if it cannot be tried here.
async fn one(case: Case, mimeo: &Path, redis: Option<&Path>, seconds: u32) -> Result<Option<Run>> {
    if case.gateways > 1 && redis.is_none() {
        return Ok(None);
    }
    let world = World::begin(mimeo, redis, case.gateways, case.known).await?;
    world.warm_up().await?;
    world.limit(&serde_json::json!({ "count": RATE, "window_ms": 1000, "kind": case.kind, "says": case.says })).await?;
    Ok(Some(world.press(f64::from(seconds)).await?))
}
