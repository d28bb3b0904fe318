//! Which pictures to drop when the cache is full? Dollars saved by Mimeo's policy and by those of others, on generated
//! requests; see `bench/README.md`.
//!
//! * [`traces`]: the recipe of the requests. [`bound`]: what nobody can beat.
//! * [`policy`], [`ranked`], [`sampled`], [`s3fifo`], [`tinylfu`]: the policies. Mimeo's is in `mimeo::cache::worth`.
//! * [`run`]: a policy on a trace. [`plot`], [`mimeo_bench::report`]: what comes out.
#![expect(clippy::print_stdout, reason = "a program that prints tables")]

mod bound;
mod plot;
mod policy;
mod ranked;
mod run;
mod s3fifo;
mod sampled;
mod tinylfu;
mod traces;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mimeo::cache::worth::NAMES;
use mimeo_bench::report::{Cell, Check, Table, text};
use run::{Outcome, RIVALS};

/// How much less than the best of the others, relative to it, still counts as equal.
const NOISE: f64 = 0.005;

/// Compares which pictures to drop when the cache is full, in dollars saved. Needs no network and no files.
///
/// Exit codes: 0 Mimeo is nowhere worse than the best of the others, 1 somewhere it is.
#[derive(Debug, Parser)]
#[command(name = "eviction", version)]
struct Arguments {
    /// 150000 requests per trace instead of 400000. Less is learned from them: some cells may be worse
    #[arg(long)]
    quick: bool,
    /// Requests per trace
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    requests: Option<u32>,
    /// Another seed makes other traces by the same recipe
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many keys Mimeo's policy remembers
    #[arg(long, value_name = "N", default_value_t = NAMES)]
    names: usize,
    /// Only traces whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Print JSON to stdout instead of tables
    #[arg(long)]
    json: bool,
    /// Also write the tables to FILE, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also draw the dollars into FILE
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let requests = arguments.requests.unwrap_or(if arguments.quick { 150_000 } else { 400_000 }) as usize;
    let mut outcomes = Vec::new();
    for (index, (kind, coupling)) in traces::recipes().into_iter().enumerate() {
        if !traces::name(kind, coupling).contains(&arguments.only) {
            continue;
        }
        let seed = arguments.seed.wrapping_mul(1_000).wrapping_add(index as u64);
        let trace = traces::trace(kind, coupling, requests, seed);
        eprintln!("{} …", trace.name);
        for percent in [1, 5, 20] {
            outcomes.push(run::compare(&trace, percent, arguments.names)?);
        }
    }
    let worse: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.of_best() < 1.0 - NOISE).collect();
    let least = outcomes.iter().map(Outcome::of_best).fold(f64::INFINITY, f64::min);
    let better = outcomes.iter().filter(|outcome| outcome.of_best() > 1.0 + NOISE).count();
    let check = Check::new(
        format!("saves at least {} % of what the best of the others saves, everywhere", 100.0 * (1.0 - NOISE)),
        format!(
            "worse in {} of {} cells, better in {better}; {:.1} % at least, {:.1} % in the mean",
            worse.len(),
            outcomes.len(),
            100.0 * least,
            100.0 * outcomes.iter().map(Outcome::of_best).sum::<f64>() / outcomes.len() as f64
        ),
        worse.is_empty() && !outcomes.is_empty(),
    );
    let tables = [dollars(&outcomes, requests), ratios(&outcomes)];
    if arguments.json {
        let tables: Vec<_> = tables.iter().map(Table::json).collect();
        println!("{}", serde_json::json!({ "tables": tables, "targets": [check.json()] }));
    } else {
        tables.iter().for_each(|table| println!("{}", table.plain()));
        println!("Targets\n  {}", check.line());
    }
    if let Some(file) = &arguments.markdown {
        let [dollars, ratios] = tables.each_ref().map(Table::markdown);
        fs::write(file, format!("{dollars}\n{ratios}\n- {}\n", check.line()))?;
    }
    if let Some(file) = &arguments.svg {
        fs::write(file, plot::dollars(&outcomes))?;
    }
    Ok(check.is_fine())
}

fn percent(share: f64) -> Cell {
    Cell::Number(100.0 * share, 2)
}

fn dollars(outcomes: &[Outcome], requests: usize) -> Table {
    let mut columns = vec!["trace", "cache %", "endless USD", "bound %"];
    columns.extend(RIVALS.iter().map(|(name, _)| name));
    columns.extend(["Mimeo", "Mimeo USD", "best other", "% of it", ""]);
    let note = format!(
        "{requests} requests each. Endless: what a cache without a bound saves; the policies' columns are percents of it. \
         Bound: nobody can save more, even knowing the future. Cache: percent of the bytes of all pictures asked for."
    );
    let mut table = Table::new("Dollars saved", note, &columns);
    for outcome in outcomes {
        let mut row = vec![
            text(&*outcome.trace),
            Cell::Number(outcome.percent as f64, 0),
            Cell::Number(outcome.endless as f64 / 1e12, 0),
            percent(outcome.share(outcome.bound)),
        ];
        row.extend(outcome.tallies.iter().map(|tally| percent(outcome.share(tally.saved))));
        let (best, _) = outcome.best_other();
        let verdict = match outcome.of_best() {
            low if low < 1.0 - NOISE => "WORSE",
            high if high > 1.0 + NOISE => "better",
            _ => "equal",
        };
        row.extend([
            Cell::Number(outcome.ours().saved as f64 / 1e12, 0),
            text(best),
            Cell::Number(100.0 * outcome.of_best(), 1),
            text(verdict),
        ]);
        table.row(row);
    }
    table
}

fn ratios(outcomes: &[Outcome]) -> Table {
    let mut columns = vec!["trace", "cache %"];
    columns.extend(RIVALS.iter().map(|(name, _)| name));
    columns.push("Mimeo");
    let note = "Percent of all requests, then percent of all bytes asked for. Dollars are the goal, not these.";
    let mut table = Table::new("Hit ratio / byte hit ratio", note, &columns);
    for outcome in outcomes {
        let mut row = vec![text(&*outcome.trace), Cell::Number(outcome.percent as f64, 0)];
        row.extend(outcome.tallies.iter().map(|tally| {
            let [hits, bytes] =
                [tally.hits as f64 / outcome.requests as f64, tally.bytes as f64 / outcome.bytes as f64];
            text(format!("{:.1} / {:.1}", 100.0 * hits, 100.0 * bytes))
        }));
        table.row(row);
    }
    table
}
