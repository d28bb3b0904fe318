//! Distinct prompts, one after the other: what a gateway adds to each call. And what the disk has to do with it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use tokio::time::Instant;

use crate::Result;
use crate::client::Connection;
use crate::report::{Cell, Check, Table, count, median, ms, quantile, text};
use crate::world::{DIRECT, POWER, PROCESS, Size, Way, World};

/// The table that [`measure`] fills.
pub fn table() -> Table {
    Table::new(
        "Misses, one after the other",
        "Time to the last byte of the answer. Added: median over the rounds of the difference between a round's median \
         and that of direct calls. CPU: processor time of the gateway alone. RSS: at the end of the section.",
        &[
            "picture", "way", "samples", "median ms", "p95 ms", "added median ms", "added p95 ms", "gateway CPU ms",
            "RSS MB",
        ],
    )
}

/// The table of what the disk costs.
pub fn disk_table() -> Table {
    Table::new(
        "Durable commits",
        "A miss makes three things durable: its intent, its picture, its settlement. Measured is what durability power \
         adds to durability process; beside it what this disk takes for the same without a gateway. Commit: append \
         4 KiB and fdatasync. Picture: write, fdatasync, rename, fsync of the folder.",
        &[
            "picture", "measured ms", "rounds' spread ms", "commit median ms", "commit p95 ms", "picture median ms",
            "picture p95 ms", "2 commits + picture ms",
        ],
    )
}

/// What one way took.
#[derive(Debug, Default)]
struct Samples {
    times: Vec<f64>,
    rounds: Vec<f64>,
    cpu: f64,
}

/// Measures all `ways` in turns.
pub async fn measure(
    world: &World,
    ways: &[Way],
    size: Size,
    tables: (&mut Table, &mut Table),
    checks: &mut Vec<Check>,
) -> Result<()> {
    let (table, disk_table) = tables;
    // As many at a time as take about a tenth of a second.
    let block = (40_000 / (size.bytes / 1024 + 1000)).max(8);
    let rounds = world.pick(5, 20);
    let mut connections = Vec::new();
    for way in ways {
        let mut connection = Connection::open(way.target.address).await?;
        for _ in 0..world.pick(5, 20) {
            connection.time(size.order(&way.target, 0)?, size.answer()).await?;
        }
        connections.push(connection);
    }
    let mut samples: Vec<Samples> = ways.iter().map(|_| Samples::default()).collect();
    let mut disk = Disk::new(world.folder(), size)?;
    for round in 0..rounds {
        for turn in 0..ways.len() {
            // Nobody always goes first.
            let index = (round + turn) % ways.len();
            let (way, connection, samples) = (&ways[index], &mut connections[index], &mut samples[index]);
            let count = if way.is_peer { block.min(10) } else { block };
            let requests = (0..count).map(|_| size.order(&way.target, 0)).collect::<Result<Vec<_>>>()?;
            let cpu = way.process.as_ref().map_or(0.0, |process| process.cpu_ms());
            let mut times = Vec::with_capacity(count);
            for request in requests {
                times.push(connection.time(request, size.answer()).await?.as_secs_f64() * 1e3);
            }
            samples.cpu += way.process.as_ref().map_or(0.0, |process| process.cpu_ms()) - cpu;
            samples.rounds.push(median(&times));
            samples.times.extend(times);
        }
        disk.round()?;
    }

    let find = |name| ways.iter().position(|way| way.name == name).map(|index| &samples[index]);
    let direct = find(DIRECT).ok_or("nothing was measured without a gateway")?;
    for (way, own) in ways.iter().zip(&samples) {
        let is_direct = way.name == DIRECT;
        let added = median(&differences(&own.rounds, &direct.rounds));
        let tail = quantile(&own.times, 0.95) - quantile(&direct.times, 0.95);
        let or_empty = |cell| if is_direct { Cell::Empty } else { cell };
        table.row(vec![
            text(size.label),
            text(way.name),
            count(own.times.len() as u32),
            ms(median(&own.times)),
            ms(quantile(&own.times, 0.95)),
            or_empty(ms(added)),
            or_empty(ms(tail)),
            or_empty(ms(own.cpu / own.times.len() as f64)),
            way.process.as_ref().map_or(Cell::Empty, |process| Cell::Number(process.rss_mb(), 1)),
        ]);
        if way.name == PROCESS && let Some(limit) = limit(size) {
            checks.push(Check::new(
                format!("a miss of {} adds less than {limit} ms beyond its durable commits", size.label),
                format!("{added:.3} ms (median of {} rounds, {} samples)", own.rounds.len(), own.times.len()),
                added < limit,
            ));
        }
    }
    if let (Some(process), Some(power)) = (find(PROCESS), find(POWER)) {
        let commits = differences(&power.rounds, &process.rounds);
        table.row(vec![
            text(size.label),
            text("  of which durable commits"),
            count(power.times.len() as u32),
            Cell::Empty,
            Cell::Empty,
            ms(median(&commits)),
            ms(quantile(&power.times, 0.95) - quantile(&process.times, 0.95)),
            Cell::Empty,
            Cell::Empty,
        ]);
        let (commit, picture) = (median(&disk.commits), median(&disk.pictures));
        disk_table.row(vec![
            text(size.label),
            ms(median(&commits)),
            text(format!("{:.3} to {:.3}", quantile(&commits, 0.0), quantile(&commits, 1.0))),
            ms(commit),
            ms(quantile(&disk.commits, 0.95)),
            ms(picture),
            ms(quantile(&disk.pictures, 0.95)),
            ms(2.0 * commit + picture),
        ]);
    }
    Ok(())
}

/// The most that a miss may add, in milliseconds, where that is a target.
fn limit(size: Size) -> Option<f64> {
    match size.label {
        "1 KB" => Some(0.5),
        "4 MB" => Some(6.0),
        _ => None,
    }
}

fn differences(of: &[f64], from: &[f64]) -> Vec<f64> {
    of.iter().zip(from).map(|(a, b)| a - b).collect()
}

/// What this disk takes to make things durable, in the same folder and at the same time.
#[derive(Debug)]
struct Disk {
    log: File,
    folder: std::path::PathBuf,
    picture: Vec<u8>,
    commits: Vec<f64>,
    pictures: Vec<f64>,
}

impl Disk {
    fn new(folder: &Path, size: Size) -> Result<Self> {
        let folder = folder.join("disk");
        fs::create_dir_all(&folder)?;
        let log = OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
        Ok(Self { log, folder, picture: vec![0x5A; size.bytes], commits: Vec::new(), pictures: Vec::new() })
    }

    fn round(&mut self) -> Result<()> {
        for _ in 0..5 {
            let start = Instant::now();
            self.log.write_all(&[0x5A; 4096])?;
            self.log.sync_data()?;
            self.commits.push(start.elapsed().as_secs_f64() * 1e3);
        }
        for _ in 0..5 {
            let (temporary, target) = (self.folder.join("new"), self.folder.join("picture"));
            let start = Instant::now();
            let mut file = File::create(&temporary)?;
            file.write_all(&self.picture)?;
            file.sync_data()?;
            fs::rename(&temporary, &target)?;
            File::open(&self.folder)?.sync_all()?;
            self.pictures.push(start.elapsed().as_secs_f64() * 1e3);
            fs::remove_file(&target)?;
        }
        Ok(())
    }
}
