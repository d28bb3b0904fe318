//! What does it cost to go through Mimeo? Added latency, calls per second and memory, against calling the provider
//! directly, on this machine, now. Starts everything itself and stops it again; see `bench/README.md`.
//!
//! * [`world`]: the simulated provider and the ways to it. [`peers`]: other people's gateways.
//! * [`misses`], [`throughput`], [`repeats`], [`media`], [`memory`]: the sections.
//!
//! What they are made of is in `bench/instruments`.
#![expect(clippy::print_stdout, reason = "a program that prints tables")]

mod media;
mod memory;
mod misses;
mod peers;
mod repeats;
mod throughput;
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, ValueEnum};
use mimeo_bench::process;
use mimeo_bench::report::{Check, Table};
pub use mimeo_bench::{Failure, Result};
use world::{Durability, LARGE, MEDIUM, SMALL, World};

/// Measures what Mimeo adds to the calls that pass through it. Everything runs on this machine and over loopback.
///
/// Exit codes: 0 all targets are met, 1 one is missed or something failed.
#[derive(Debug, Parser)]
#[command(name = "overhead", version)]
struct Arguments {
    /// Fewer rounds: two minutes instead of twenty
    #[arg(long)]
    quick: bool,
    /// Measure LiteLLM and Portkey too; installs them if they are not there
    #[arg(long)]
    peers: bool,
    /// Where the other gateways are installed [default: target/peers]
    #[arg(long, value_name = "DIR")]
    peers_dir: Option<PathBuf>,
    /// Also write the tables to FILE, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Print JSON to stdout; the tables go to stderr
    #[arg(long)]
    json: bool,
    /// The mimeo to measure [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    mimeo: Option<PathBuf>,
    /// Pictures that pass through for the memory section [default: 10000, with --quick 300]
    #[arg(long, value_name = "N")]
    memory: Option<usize>,
    /// Folder for all data, removed at the end. What commits cost depends on its disk [default: the system's for
    /// temporary files]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only these sections
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SECTION")]
    only: Vec<Section>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// What a call takes longer
    Misses,
    /// How many calls per second pass
    Throughput,
    /// The same prompt again
    Hits,
    /// The same prompt at the same time
    Joins,
    /// Stored pictures beside nginx
    Media,
    /// Whether memory stays flat
    Memory,
}

fn main() -> ExitCode {
    mimeo_bench::run(run(&Arguments::parse()))
}

/// Collects what is measured, and shows it as it comes.
struct Results {
    json: bool,
    tables: Vec<Table>,
    checks: Vec<Check>,
}

impl Results {
    fn say(&self, text: &str) {
        if self.json { eprintln!("{text}") } else { println!("{text}") }
    }

    fn add(&mut self, table: Table) {
        if !table.is_empty() {
            self.say(&table.plain());
            self.tables.push(table);
        }
    }
}

async fn run(arguments: &Arguments) -> Result<bool> {
    let mimeo = mimeo_bench::mimeo(arguments.mimeo.as_deref())?;
    let wants = |section| arguments.only.is_empty() || arguments.only.contains(&section);
    let parent = arguments.data.clone().unwrap_or_else(std::env::temp_dir);
    let world = World::begin(mimeo, &parent, arguments.quick).await?;
    let mut results = Results { json: arguments.json, tables: Vec::new(), checks: Vec::new() };
    let mut machine = machine(&world);
    let [fresh, again] = world.write_rates()?;
    machine.push(format!(
        "files without sync: {fresh:.0} MB/s into fresh memory, {again:.0} MB/s into memory in use; 4 MB take {:.1} ms \
         and {:.1} ms",
        LARGE.bytes as f64 / 1e3 / fresh,
        LARGE.bytes as f64 / 1e3 / again
    ));
    results.say(&machine.join("\n"));
    results.say("");
    let peers = if arguments.peers { peers::start(&world, arguments.peers_dir.as_deref()).await? } else { Vec::new() };

    misses_and_throughput(&world, &peers, wants, &mut results).await?;
    if wants(Section::Hits) || wants(Section::Joins) {
        let ways = world.all(&peers).await?;
        if wants(Section::Hits) {
            let mut table = repeats::hit_table();
            for size in [SMALL, MEDIUM, LARGE] {
                repeats::hits(&world, &ways, size, &mut table).await?;
            }
            results.add(table);
        }
        if wants(Section::Joins) {
            let mut table = repeats::join_table();
            for identical in [10, 50] {
                repeats::joins(&world, &ways, SMALL, identical, &mut table, &mut results.checks).await?;
            }
            results.add(table);
        }
    }
    drop(peers);
    if wants(Section::Media) {
        let ways = [world.gateway(Durability::Process).await?];
        let table = media::measure(&world, &ways, &mut results.checks).await?;
        results.add(table);
    }
    if wants(Section::Memory) {
        let pictures = arguments.memory.unwrap_or(world.pick(300, 10_000)).max(1);
        world.warm_up(LARGE).await?;
        let table = memory::measure(&world, pictures, &mut results.checks).await?;
        results.add(table);
    }

    machine.push(format!("load average at the end: {}", load_average()));
    let lines: Vec<String> = results.checks.iter().map(Check::line).collect();
    results.say(&format!("Targets\n  {}\n", lines.join("\n  ")));
    results.say(machine.last().map_or("", String::as_str));
    if let Some(file) = &arguments.markdown {
        fs::write(file, markdown(&machine, &results))?;
    }
    if arguments.json {
        let tables: Vec<_> = results.tables.iter().map(Table::json).collect();
        let checks: Vec<_> = results.checks.iter().map(Check::json).collect();
        println!("{}", serde_json::json!({ "machine": machine, "tables": tables, "targets": checks }));
    }
    Ok(results.checks.iter().all(Check::is_fine))
}

async fn misses_and_throughput(
    world: &World,
    peers: &[world::Way],
    wants: impl Fn(Section) -> bool,
    results: &mut Results,
) -> Result<()> {
    let (mut misses, mut disk) = (misses::table(), misses::disk_table());
    let mut throughput = throughput::table();
    // Each plan takes about three seconds per round.
    let plans = |latency, slow, fast| {
        let plan = |latency, varies, each| throughput::Plan { latency, varies, each };
        [plan(latency, true, slow), plan(latency, false, slow), plan(0, false, fast)]
    };
    for (size, plans) in [(SMALL, plans(200, 14, 60)), (MEDIUM, plans(200, 14, 30)), (LARGE, plans(1000, 4, 5))] {
        if !wants(Section::Misses) && !wants(Section::Throughput) {
            break;
        }
        eprintln!("measuring pictures of {} …", size.label);
        world.warm_up(size).await?;
        if wants(Section::Misses) {
            misses::measure(world, peers, size, (&mut misses, &mut disk), &mut results.checks).await?;
        }
        if wants(Section::Throughput) {
            for plan in plans {
                throughput::measure(world, peers, size, plan, &mut throughput, &mut results.checks).await?;
            }
        }
    }
    results.add(misses);
    results.add(disk);
    results.add(throughput);
    Ok(())
}

/// What it all ran on.
fn machine(world: &World) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let run = |program: &str, arguments: &[&str]| process::output(Command::new(program).args(arguments));
    let folder = world.folder().parent().unwrap_or(Path::new("/")).display().to_string();
    vec![
        format!("Mimeo beside direct calls, {}", run("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        format!("{} on {}", process::output(Command::new(&world.mimeo).arg("--version")), run("uname", &["-sr"])),
        format!(
            "{cores} cores, {}; {} of memory",
            field(&read("/proc/cpuinfo"), "model name"),
            field(&read("/proc/meminfo"), "MemTotal")
        ),
        format!("data on {} in {folder}", run("stat", &["-f", "-c", "%T", &folder])),
        format!("load average at the start: {}", load_average()),
    ]
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn markdown(machine: &[String], results: &Results) -> String {
    let mut out = String::new();
    for line in machine {
        out += &format!("- {line}\n");
    }
    for table in &results.tables {
        out += &format!("\n{}", table.markdown());
    }
    out += "\n### Targets\n\n";
    for check in &results.checks {
        out += &format!("- {}\n", check.line());
    }
    out
}
