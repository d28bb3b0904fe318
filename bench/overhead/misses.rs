//! Distinct prompts, one after the other: what a gateway adds to each call. And what the disk has to do with it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use tokio::time::Instant;

use crate::Result;
use crate::world::{DIRECT, Durability, POWER, PROCESS, Size, Way, World};
use mimeo_bench::client::Connection;
use mimeo_bench::report::{Cell, Check, Table, count, median, ms, quantile, text};

/// The table that [`measure`] fills.
pub fn table() -> Table {
    Table::new(
        "Misses, one after the other",
        "Time to the last byte of the answer. Added: median over the rounds of the difference between a round's median \
         and that of the direct calls of the same round. Its commits: what the gateway itself says, in server-timing, that \
         it waited for the reservation and for the picture with its settlement to be durable. Added beyond: the same as \
         added, with each call less its commits. CPU: processor time of the gateway alone. RSS: at the end of the section.",
        &[
            "picture",
            "way",
            "samples",
            "median ms",
            "p95 ms",
            "added median ms",
            "its commits ms",
            "added beyond ms",
            "added p95 ms",
            "gateway CPU ms",
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
         4 KiB and fdatasync. Picture: write, fdatasync, rename, fsync of the folder. Write alone: the same bytes to new \
         files without any sync, which is no durable commit and so part of what a miss adds everywhere.",
        &[
            "picture",
            "measured ms",
            "rounds' spread ms",
            "commit median ms",
            "commit p95 ms",
            "picture median ms",
            "picture p95 ms",
            "2 commits + picture ms",
            "write alone ms",
        ],
    )
}

/// What one way took.
#[derive(Debug, Default)]
struct Samples {
    times: Vec<f64>,
    /// The median of each round, less that of the direct calls of the same round.
    added: Vec<f64>,
    /// What each call waited for its durable commits.
    commits: Vec<f64>,
    /// As `added`, of the times less their commits.
    beyond: Vec<f64>,
    cpu: f64,
    rss: Option<f64>,
}

/// Measures direct calls, both kinds of Mimeo, and `peers`.
///
/// The two kinds have phases of their own, each with its own direct calls in turns: what one leaves to be written
/// later would be flushed by the commits of the other.
pub async fn measure(
    world: &World,
    peers: &[Way],
    size: Size,
    tables: (&mut Table, &mut Table),
    checks: &mut Vec<Check>,
) -> Result<()> {
    let (table, disk_table) = tables;
    let mut ways = vec![world.direct()?, world.gateway(Durability::Process).await?];
    ways.extend(peers.iter().cloned());
    let mut first = phase(world, &ways, size, None).await?;
    ways.truncate(1);
    world.settle();
    ways.push(world.gateway(Durability::Power).await?);
    let mut disk = Disk::new(world.folder(), size)?;
    let mut second = phase(world, &ways, size, Some(&mut disk)).await?;
    drop(ways);
    world.settle();

    let power = second.remove(1);
    let others = first.split_off(2);
    let process = first.remove(1);
    let direct: Vec<f64> = first.into_iter().chain(second).flat_map(|samples| samples.times).collect();
    let mut row = |name: &str, own: &Samples| {
        table.row(vec![
            text(size.label),
            text(name),
            count(own.times.len() as u32),
            ms(median(&own.times)),
            ms(quantile(&own.times, 0.95)),
            ms(median(&own.added)),
            if own.commits.iter().any(|commits| *commits > 0.0) { ms(median(&own.commits)) } else { Cell::Empty },
            if own.commits.iter().any(|commits| *commits > 0.0) { ms(median(&own.beyond)) } else { Cell::Empty },
            if name == DIRECT { Cell::Empty } else { ms(quantile(&own.times, 0.95) - quantile(&direct, 0.95)) },
            ms(own.cpu / own.times.len() as f64),
            own.rss.map_or(Cell::Empty, |rss| Cell::Number(rss, 1)),
        ]);
    };
    row(DIRECT, &Samples { times: direct.clone(), cpu: f64::NAN, ..Samples::default() });
    row(PROCESS, &process);
    row(POWER, &power);
    for (way, samples) in peers.iter().zip(&others) {
        row(way.name, samples);
    }
    let added = median(&process.added);
    let commits: Vec<f64> = power.added.iter().map(|power| power - added).collect();
    table.row(vec![
        text(size.label),
        text("durable commits (power less process)"),
        count(power.times.len() as u32),
        Cell::Empty,
        Cell::Empty,
        ms(median(&commits)),
        Cell::Empty,
        Cell::Empty,
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
        ms(median(&disk.writes)),
    ]);
    if let Some(limit) = limit(size) {
        checks.push(Check::new(
            format!("a miss of {} adds less than {limit} ms beyond its durable commits", size.label),
            format!(
                "{:.3} ms with durability process, {:.3} ms with power (medians of {} rounds, {} samples)",
                median(&process.beyond),
                median(&power.beyond),
                process.beyond.len(),
                process.times.len()
            ),
            median(&process.beyond) < limit,
        ));
    }
    Ok(())
}

/// Measures `ways` in turns, the first of which is direct.
async fn phase(world: &World, ways: &[Way], size: Size, mut disk: Option<&mut Disk>) -> Result<Vec<Samples>> {
    // As many at a time as take about a tenth of a second.
    let block = (40_000 / (size.bytes / 1024 + 1000)).max(8);
    let mut connections = Vec::new();
    for way in ways {
        let mut connection = Connection::open(way.target.address).await?;
        for _ in 0..world.pick(5, 20) {
            connection.time(size.order(&way.target, 0)?, size.answer()).await?;
        }
        connections.push(connection);
    }
    let mut samples: Vec<Samples> = ways.iter().map(|_| Samples::default()).collect();
    for round in 0..world.pick(5, 20) {
        let mut medians = vec![f64::NAN; ways.len()];
        let mut rests = medians.clone();
        for turn in 0..ways.len() {
            // Nobody always goes first.
            let index = (round + turn) % ways.len();
            let (way, connection, samples) = (&ways[index], &mut connections[index], &mut samples[index]);
            let count = if way.is_peer { block.min(10) } else { block };
            let requests = (0..count).map(|_| size.order(&way.target, 0)).collect::<Result<Vec<_>>>()?;
            let cpu = way.process.as_ref().map_or(0.0, |process| process.cpu_ms());
            let mut times = Vec::with_capacity(count);
            let mut beyond = Vec::with_capacity(count);
            for request in requests {
                let time = connection.time(request, size.answer()).await?.as_secs_f64() * 1e3;
                times.push(time);
                beyond.push(time - connection.commits);
                samples.commits.push(connection.commits);
            }
            rests[index] = median(&beyond);
            samples.cpu += way.process.as_ref().map_or(0.0, |process| process.cpu_ms()) - cpu;
            medians[index] = median(&times);
            samples.times.extend(times);
        }
        for (samples, (own, rest)) in samples.iter_mut().zip(medians.iter().zip(&rests)) {
            samples.added.push(own - medians[0]);
            samples.beyond.push(rest - medians[0]);
        }
        if let Some(disk) = &mut disk {
            disk.round()?;
        }
    }
    for (samples, way) in samples.iter_mut().zip(ways) {
        samples.rss = way.process.as_ref().map(|process| process.rss_mb());
    }
    Ok(samples)
}

/// The most that a miss may add, in milliseconds, where that is a target.
fn limit(size: Size) -> Option<f64> {
    match size.label {
        "1 KB" => Some(0.5),
        "4 MB" => Some(6.0),
        _ => None,
    }
}

/// What this disk takes to make things durable, in the same folder and at the same time.
#[derive(Debug)]
struct Disk {
    log: File,
    folder: std::path::PathBuf,
    picture: Vec<u8>,
    commits: Vec<f64>,
    pictures: Vec<f64>,
    writes: Vec<f64>,
}

impl Disk {
    fn new(folder: &Path, size: Size) -> Result<Self> {
        let folder = folder.join("disk");
        fs::create_dir_all(&folder)?;
        let log = OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
        Ok(Self {
            log,
            folder,
            picture: vec![0x5A; size.bytes],
            commits: Vec::new(),
            pictures: Vec::new(),
            writes: Vec::new(),
        })
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
        for _ in 0..5 {
            // Kept until the end, as a gateway keeps them: removed files would leave warm memory to the next ones.
            let name = self.folder.join(format!("{}-{}", self.picture.len(), self.writes.len()));
            let start = Instant::now();
            File::create(&name)?.write_all(&self.picture)?;
            self.writes.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(())
    }
}
