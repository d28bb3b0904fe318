//! What does a month of pictures cost without a gateway, and what with each of its layers? Starts everything itself and
//! stops it again; see `bench/README.md`.
//!
//! * [`recipe`]: where requests come from. [`trace`]: what a request is, and its form on disk.
//! * [`layers`]: what is switched on. [`replay`]: sandbox, gateway, and the requests sent to them.
//! * [`truth`]: how good pictures are. [`verdict`]: tables, targets, a picture.
#![expect(clippy::print_stdout, reason = "a program that prints tables")]

mod layers;
mod recipe;
mod replay;
mod trace;
mod truth;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use layers::{Layers, Routing};
use mimeo_bench::Result;
use mimeo_bench::report::{Check, Table};
use recipe::{MONTH, Mix, Recipe, SHOP};
use replay::Way;
use trace::Request;
use verdict::{Case, OFF, Point, Row};

/// Of the shop's requests: between the 30 and the 50 % of identical prompts that a guide gives for shops.
const SHOP_REPEATS: f64 = 0.4;
/// Of everything: between the 50 and the 80 % that another guide gives.
const MONTH_REPEATS: f64 = 0.6;
/// What else the shop's requests are tried with. The second makes about the 22 % that the shop counted, with its crowds.
const OTHER_REPEATS: [f64; 4] = [0.0, 0.155, 0.6, 0.8];

/// Replays a month of requests against a simulated provider, without a gateway and with each of its layers, and compares the
/// bills. Everything runs on this machine and over loopback; nothing is really paid.
///
/// Exit codes: 0 all targets are met, 1 one is missed or something failed.
#[derive(Debug, Parser)]
#[command(name = "bill", version)]
struct Arguments {
    /// Requests of a generated month
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(500..))]
    requests: u32,
    /// 2000 requests, and no other shares of repetitions
    #[arg(long, conflicts_with = "requests")]
    quick: bool,
    /// Where the random numbers begin
    #[arg(long, default_value_t = 2026, value_name = "N")]
    seed: u64,
    /// Replay the requests in FILE, one JSON object per line, in place of generated ones
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write the generated month to FILE and end: an example of what --trace takes
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    write_trace: Option<PathBuf>,
    /// Also write the tables to FILE, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a picture of the bills to FILE [default: bill.svg beside this program]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The mimeo to ask [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    mimeo: Option<PathBuf>,
}

impl Arguments {
    fn recipe(&self, mix: Mix, repeats: f64) -> Recipe {
        let requests = if self.quick { 2_000 } else { self.requests as usize };
        Recipe { requests, seed: self.seed, mix, repeats }
    }
}

fn main() -> ExitCode {
    mimeo_bench::run(run(&Arguments::parse()))
}

async fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(file) = &arguments.write_trace {
        fs::write(file, trace::write(&arguments.recipe(MONTH, MONTH_REPEATS).trace())?)?;
        return Ok(true);
    }
    let mimeo = mimeo_bench::mimeo(arguments.mimeo.as_deref())?;
    println!("{}", machine());
    let (mut cases, mut tables, mut checks) = (Vec::new(), Vec::new(), Vec::new());
    match &arguments.trace {
        Some(file) => cases.push(case(&mimeo, file.display().to_string(), &trace::read(file)?).await?),
        None => {
            let shop = case(&mimeo, SHOP.name.to_owned(), &arguments.recipe(SHOP, SHOP_REPEATS).trace()).await?;
            checks.push(verdict::beats(&shop));
            cases.push(shop);
            let month = arguments.recipe(MONTH, MONTH_REPEATS).trace();
            cases.push(case(&mimeo, MONTH.name.to_owned(), &month).await?);
        }
    }
    for case in &cases {
        tables.push((Some(case.name.clone()), case.tables()));
        checks.extend(case.checks());
    }
    if arguments.trace.is_none() && !arguments.quick {
        let mut points = Vec::new();
        for repeats in OTHER_REPEATS {
            points.push(point(&mimeo, &arguments.recipe(SHOP, repeats).trace()).await?);
        }
        let below: u64 = points.iter().map(|point| point.whole.below + point.whole.spoiled).sum();
        let what = "other shares of repetitions: no picture is below its floor";
        checks.push(Check::new(what, format!("{below} below"), below == 0));
        tables.push((None, vec![verdict::sweep(&points)]));
    }
    for (name, tables) in &tables {
        if let Some(name) = name {
            println!("\n== {name} ==\n");
        }
        tables.iter().for_each(|table| println!("{}", table.plain()));
    }
    let lines: Vec<String> = checks.iter().map(Check::line).collect();
    println!("Targets\n  {}\n", lines.join("\n  "));
    let svg = match &arguments.svg {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("bill.svg"),
    };
    fs::write(&svg, verdict::picture(&cases))?;
    println!("{}\na picture of it: {}", machine(), svg.display());
    if let Some(file) = &arguments.markdown {
        let parts = tables.iter().map(|(name, tables)| {
            let heading = name.as_ref().map(|name| format!("## {name}\n\n")).unwrap_or_default();
            heading + &tables.iter().map(Table::markdown).collect::<Vec<_>>().join("\n")
        });
        let parts: Vec<String> = parts.collect();
        fs::write(file, format!("{}\n### Targets\n\n- {}\n", parts.join("\n"), lines.join("\n- ")))?;
    }
    Ok(checks.iter().all(Check::is_fine))
}

/// When and how busy.
fn machine() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let date = mimeo_bench::process::output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]));
    format!("{date}, load average {}", load.join(" "))
}

const ROUTED: Layers = Layers { routing: Routing::Careful, ..Layers::OFF };
const STEPPED: Layers = Layers { steps: true, ..ROUTED };
const CACHED: Layers = Layers { cache: true, ..STEPPED };
const JOINED: Layers = Layers { coalescing: true, ..CACHED };
const DRAWN: Layers = Layers { templates: true, ..JOINED };

/// All runs of one trace. Layers come in the order of the shop's story; each saves a share of what those before it left, so
/// in another order the shares are others and the end is the same.
async fn case(mimeo: &Path, name: String, trace: &[Request]) -> Result<Case> {
    let mut case = Case::of(name, trace);
    let has_templates = trace.iter().any(|request| request.template.is_some());
    let together = [
        ("no gateway", Way::Direct),
        (OFF, Way::Through(Layers::OFF)),
        ("routing by purpose", Way::Through(ROUTED)),
        ("dynamic steps", Way::Through(STEPPED)),
        ("exact cache", Way::Through(CACHED)),
        ("coalescing", Way::Through(JOINED)),
        ("templates", Way::Through(DRAWN)),
    ];
    let alone = [
        ("routing by purpose", ROUTED),
        ("routing by purpose, whatever it shows", Layers { routing: Routing::Blind, ..Layers::OFF }),
        ("dynamic steps", Layers { steps: true, ..Layers::OFF }),
        ("exact cache", Layers { cache: true, ..Layers::OFF }),
        ("coalescing", Layers { coalescing: true, ..Layers::OFF }),
        ("exact cache and coalescing", Layers { cache: true, coalescing: true, ..Layers::OFF }),
        ("templates", Layers { templates: true, ..Layers::OFF }),
        ("all of them, as the application says", if has_templates { DRAWN } else { JOINED }),
        (
            "all of them, as the classifier reads",
            Layers { labels: false, ..if has_templates { DRAWN } else { JOINED } },
        ),
    ];
    for (row, way) in together.into_iter().filter(|(row, _)| has_templates || *row != "templates") {
        case.together.push(one(mimeo, row, way, trace).await?);
    }
    for (row, layers) in alone.into_iter().filter(|(row, _)| has_templates || *row != "templates") {
        let way = Way::Through(layers);
        let known = case.together.iter().find(|known| known.way == way).cloned();
        case.alone.push(match known {
            Some(known) => Row { name: row, ..known },
            None => one(mimeo, row, way, trace).await?,
        });
    }
    Ok(case)
}

async fn one(mimeo: &Path, name: &'static str, way: Way, trace: &[Request]) -> Result<Row> {
    let outcome = replay::run(mimeo, way, trace).await.map_err(|error| format!("{name}: {error}"))?;
    eprintln!("{name}: {} requests, {} paid calls, {:.0} s", trace.len(), outcome.calls, outcome.seconds);
    Ok(Row { name, way, outcome })
}

async fn point(mimeo: &Path, trace: &[Request]) -> Result<Point> {
    let shares = trace::Shares::of(trace);
    let naive = one(mimeo, "no gateway", Way::Direct, trace).await?.outcome;
    let whole = one(mimeo, "all layers", Way::Through(JOINED), trace).await?.outcome;
    Ok(Point { again: shares.again + shares.crowded, naive, whole })
}
