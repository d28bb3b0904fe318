//! What does the classifier get right, how long does it take, and what does it save? Prompts with labels, pictures with
//! labels, and money; see `bench/README.md`.
//!
//! * [`prompts`]: the labelled prompts. [`pictures`]: pictures whose background is known because it was drawn so.
//! * [`score`]: what was read against what was labelled. [`money`]: steps and what they cost. [`parti`]: an outside check.
//! * [`heat`]: the confusion as a picture.
#![expect(clippy::print_stdout, reason = "a program that prints tables")]

mod heat;
mod money;
mod parti;
mod pictures;
mod prompts;
mod score;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mimeo::classify::{Classifier, Look};
use mimeo::config::{self, Environment};
use mimeo_bench::Result;
use mimeo_bench::report::{Cell, Check, Table, median, quantile, text};
use prompts::{Labelled, Set};
use score::Score;
use tokio::time::Instant;

/// The targets, set before anything was measured: shares of the held-out prompts.
const CATEGORIES: f64 = 0.80;
const BACKGROUNDS: f64 = 0.80;
/// Of the pictures that need all steps, so many may get fewer.
const AT_RISK: f64 = 0.05;
/// Of the money for a fixed number of steps, so much is saved.
const SAVED: f64 = 0.15;
/// Microseconds that reading a prompt takes in the median.
const MICROSECONDS: f64 = 100.0;

/// Holds the classifier against labelled prompts and pictures. Needs no network and, but for --parti, no files.
///
/// Exit codes: 0 every target is met, 1 one is missed.
#[derive(Debug, Parser)]
#[command(name = "classifier", version)]
struct Arguments {
    /// The model whose steps are counted in money: PROVIDER/MODEL of the catalogue
    #[arg(long, value_name = "MODEL", default_value = "cloudflare/@cf/black-forest-labs/flux-2-dev")]
    model: String,
    /// The fixed number of steps that it is held against
    #[arg(long, value_name = "N", default_value_t = 50)]
    steps: u32,
    /// PartiPrompts as tab-separated values, for an outside check
    #[arg(long, value_name = "FILE")]
    parti: Option<PathBuf>,
    /// Print every tuned prompt that is read otherwise than it is labelled. Those held out are not shown
    #[arg(long)]
    misses: bool,
    /// Print JSON to stdout instead of tables
    #[arg(long)]
    json: bool,
    /// Also write the tables to FILE, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also draw the confusion of categories into FILE
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

fn measure(arguments: &Arguments) -> Result<bool> {
    let classifier = Classifier::new(&config::Classifier::default(), &Environment::default());
    let classifier = classifier.map_err(|faults| faults.join("; "))?;
    let price = money::StepPrice::of(&arguments.model, arguments.steps)?;
    let scores = [prompts::tuned()?, prompts::held_out()?].map(|set| Score::of(&classifier, &price, set));
    let [tuned, held_out] = &scores;
    if arguments.misses {
        tuned.misses().for_each(|miss| eprintln!("{miss}"));
    }
    let times = reading_times(&classifier, &held_out.set);
    let mut tables = vec![score::accuracy(&scores), score::per_category(held_out), score::confusions(held_out)];
    tables.push(money::table(&scores, &price));
    let drawn = pictures::all()?;
    tables.push(pictures::table(&drawn)?);
    tables.push(speed(&times, &drawn)?);
    if let Some(file) = &arguments.parti {
        tables.push(parti::table(&classifier, &fs::read_to_string(file)?)?);
    }
    let checks = checks(held_out, &price, median(&times));
    if arguments.json {
        let tables: Vec<_> = tables.iter().map(Table::json).collect();
        let checks: Vec<_> = checks.iter().map(Check::json).collect();
        println!("{}", serde_json::json!({ "tables": tables, "targets": checks }));
    } else {
        tables.iter().for_each(|table| println!("{}", table.plain()));
        println!("Targets");
        checks.iter().for_each(|check| println!("  {}", check.line()));
    }
    if let Some(file) = &arguments.markdown {
        let tables: Vec<String> = tables.iter().map(Table::markdown).collect();
        let checks: Vec<String> = checks.iter().map(|check| format!("- {}\n", check.line())).collect();
        fs::write(file, format!("{}\n{}", tables.join("\n"), checks.concat()))?;
    }
    if let Some(file) = &arguments.svg {
        fs::write(file, heat::map(held_out, &classifier.categories().collect::<Vec<_>>()))?;
    }
    Ok(checks.iter().all(Check::is_fine))
}

fn checks(held_out: &Score, price: &money::StepPrice, microseconds: f64) -> Vec<Check> {
    let least = |what: &str, target: f64, found: f64| {
        Check::new(
            format!("{what} right: at least {:.0} %", 100.0 * target),
            format!("{:.1} %", 100.0 * found),
            found >= target,
        )
    };
    let (at_risk, saved) = (held_out.at_risk(), held_out.saved(price));
    vec![
        least(
            "categories of held-out prompts",
            CATEGORIES,
            held_out.right(|pair| pair.label.category == pair.reading.category),
        ),
        least(
            "backgrounds of held-out prompts",
            BACKGROUNDS,
            held_out.right(|pair| pair.label.background == pair.reading.background),
        ),
        Check::new(
            format!("pictures that need all steps and get fewer: at most {:.0} %", 100.0 * AT_RISK),
            format!("{:.1} %", 100.0 * at_risk),
            at_risk <= AT_RISK,
        ),
        Check::new(
            format!("saves at least {:.0} % of the money for {} steps", 100.0 * SAVED, price.steps),
            format!("{:.1} %", 100.0 * saved),
            saved >= SAVED,
        ),
        Check::new(
            format!("a prompt is read within {MICROSECONDS:.0} µs"),
            format!("{microseconds:.1} µs in the median"),
            microseconds <= MICROSECONDS,
        ),
    ]
}

/// Microseconds per reading, of many rounds over all prompts.
fn reading_times(classifier: &Classifier, set: &Set) -> Vec<f64> {
    let calls: Vec<_> = set.prompts.iter().map(Labelled::call).collect();
    let rounds = (0..20).flat_map(|_| calls.iter());
    rounds
        .map(|call| {
            let begin = Instant::now();
            std::hint::black_box(classifier.read(call));
            1e6 * begin.elapsed().as_secs_f64()
        })
        .collect()
}

fn speed(times: &[f64], drawn: &[pictures::Drawn]) -> Result<Table> {
    let mut table = Table::new(
        "Speed",
        "On one thread. A picture is decoded and measured once; its measures are remembered after that.",
        &["what", "readings", "median µs", "p95 µs"],
    );
    let looks = drawn.iter().map(|drawn| {
        let begin = Instant::now();
        Look::at(&drawn.picture)?;
        Ok(1e6 * begin.elapsed().as_secs_f64())
    });
    let looks = looks.collect::<Result<Vec<f64>>>()?;
    let edge = pictures::EDGE;
    for (what, times) in [("a prompt".to_owned(), times), (format!("a picture, {edge}x{edge} PNG"), &looks)] {
        table.row(vec![
            text(what),
            Cell::Number(times.len() as f64, 0),
            Cell::Number(median(times), 1),
            Cell::Number(quantile(times, 0.95), 1),
        ]);
    }
    Ok(table)
}
