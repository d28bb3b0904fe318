//! Many large pictures, all different: does the memory stay flat?

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::world::{Durability, LARGE, World, config_file};
use crate::{Failure, Result};
use mimeo_bench::client::Connection;
use mimeo_bench::process::free_gb;
use mimeo_bench::report::{Cell, Check, Table, count, median, quantile, text};

/// Requests in flight.
const IN_FLIGHT: usize = 4;
/// The most memory that may ever be in use, in MB.
const LIMIT: f64 = 150.0;
/// Below this, in GB, pictures are purged as they come.
const ROOM: f64 = 60.0;
/// Pictures between two purges.
const PURGE: usize = 1000;
/// Pictures between two looks at the memory.
const LOOK: usize = 100;

/// Has `pictures` distinct large pictures made and looks at the gateway's memory.
pub async fn measure(world: &World, pictures: usize, checks: &mut Vec<Check>) -> Result<Table> {
    let way = world.gateway(Durability::Power).await?;
    let process = Arc::clone(way.process.as_ref().ok_or("the gateway is a process")?);
    let folder = Arc::clone(way.data.as_ref().ok_or("the gateway has a folder")?);
    let free = free_gb(world.folder());
    let purges = free < ROOM && pictures > PURGE;
    if purges {
        eprintln!("only {free:.0} GB of disk are free: the pictures are purged every {PURGE}");
    } else if free < pictures as f64 * LARGE.bytes as f64 / 1e9 + 2.0 {
        return Err(format!("{free:.0} GB of disk are too few for {pictures} pictures").into());
    }

    let taken = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut slots = JoinSet::new();
    let mut rows: Vec<(usize, f64)> = vec![(0, process.rss_mb())];
    // In chunks, so that a purge and a look fall between requests and not among them.
    let mut done = 0;
    let mut connections = Vec::new();
    for _ in 0..IN_FLIGHT {
        connections.push(Connection::open(way.target.address).await?);
    }
    while done < pictures {
        let chunk = LOOK.min(pictures - done);
        taken.store(0, Ordering::Relaxed);
        for mut connection in connections.drain(..) {
            let (taken, target) = (Arc::clone(&taken), way.target.clone());
            slots.spawn(async move {
                while taken.fetch_add(1, Ordering::Relaxed) < chunk {
                    connection.time(LARGE.order(&target, 0)?, LARGE.answer()).await?;
                }
                Ok::<_, Failure>(connection)
            });
        }
        // The look comes while the last requests of the chunk are still under way.
        if let Some(connection) = slots.join_next().await {
            connections.push(connection??);
        }
        rows.push((done + chunk, process.rss_mb()));
        while let Some(connection) = slots.join_next().await {
            connections.push(connection??);
        }
        done += chunk;
        if purges && done.is_multiple_of(PURGE) {
            let mut command = Command::new(&world.mimeo);
            command.args(["cache", "purge", "--all", "--config"]).arg(config_file(folder.path()));
            let purged = command.output()?;
            if !purged.status.success() {
                return Err(format!("the purge failed: {}", String::from_utf8_lossy(&purged.stderr)).into());
            }
        }
    }
    let rate = pictures as f64 / start.elapsed().as_secs_f64();
    let peak = process.peak_mb();

    let mut table = Table::new(
        "Memory",
        format!(
            "{pictures} distinct pictures of 4 MB, {IN_FLIGHT} in flight, durability power, {rate:.0} pictures/s{}. \
             Looked at every {LOOK} pictures, in 10 stretches; peak is the highest that the kernel ever saw.",
            if purges { ", the cache purged every 1000" } else { ", nothing purged" }
        ),
        &["pictures so far", "RSS median MB", "RSS max MB"],
    );
    table.row(vec![count(0), Cell::Number(rows[0].1, 1), Cell::Number(rows[0].1, 1)]);
    let looks = &rows[1..];
    for stretch in looks.chunks(looks.len().div_ceil(10)) {
        let values: Vec<f64> = stretch.iter().map(|(_, mb)| *mb).collect();
        let until = stretch.last().map_or(0, |(until, _)| *until);
        table.row(vec![count(until as u32), Cell::Number(median(&values), 1), Cell::Number(quantile(&values, 1.0), 1)]);
    }
    table.row(vec![text("peak"), Cell::Empty, Cell::Number(peak, 1)]);

    checks.push(Check::new(
        format!("memory below {LIMIT:.0} MB while {pictures} distinct pictures of 4 MB pass"),
        format!("{peak:.1} MB at most"),
        peak < LIMIT,
    ));
    // The first fifth fills what is meant to be filled.
    let settled: Vec<f64> = looks.iter().skip(looks.len() / 5).map(|(_, mb)| *mb).collect();
    let (first, second) = settled.split_at(settled.len() / 2);
    let (first, second) = (median(first), median(second));
    checks.push(Check::new(
        "memory stays flat: the second half of the settled run uses at most 5 % more than the first",
        format!("{first:.1} MB, then {second:.1} MB"),
        second <= first * 1.05,
    ));
    Ok(table)
}
