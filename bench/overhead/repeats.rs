//! The same prompt again, later (hits) and at the same time (joins).

use crate::Result;
use crate::world::{DIRECT, Size, Way, World};
use mimeo_bench::client::{Connection, burst};
use mimeo_bench::report::{Cell, Check, Table, count, median, ms, quantile, text};

/// The table that [`hits`] fills.
pub fn hit_table() -> Table {
    Table::new(
        "Hits",
        "The same request again, answered as base64 in JSON. The provider is not called.",
        &[
            "picture",
            "way",
            "samples",
            "median ms",
            "p95 ms",
            "gateway CPU ms",
            "20 in flight: requests/s",
            "p95 ms ",
            "upstream calls",
        ],
    )
}

/// The table that [`joins`] fills.
pub fn join_table() -> Table {
    Table::new(
        "Joins",
        "So many identical requests at once, none of them asked before; the provider takes 200 ms. Upstream calls are \
         counted in the provider's invoice book.",
        &["identical", "way", "bursts", "upstream calls per burst", "most", "last answer, median ms", "p95 ms"],
    )
}

/// Measures repetitions through each of `ways` that has a cache.
pub async fn hits(world: &World, ways: &[Way], size: Size, table: &mut Table) -> Result<()> {
    for way in ways.iter().filter(|way| way.data.is_some()) {
        let prompt = size.prompt(0);
        let order = || way.target.order(&prompt, size.pixels, "b64_json");
        let process = way.process.as_ref().ok_or("a way with a cache has a process")?;
        let mut connection = Connection::open(way.target.address).await?;
        let before = world.billed().await?;
        for _ in 0..10 {
            connection.time(order()?, size.answer()).await?;
        }
        let serial = world.pick(200, 1000);
        let mut times = Vec::with_capacity(serial);
        let cpu = process.cpu_ms();
        for _ in 0..serial {
            times.push(connection.time(order()?, size.answer()).await?.as_secs_f64() * 1e3);
        }
        let cpu = (process.cpu_ms() - cpu) / serial as f64;
        let each = (100_000 / (size.bytes / 1024 + 500)).max(10);
        let mut rates = Vec::new();
        let mut together = Vec::new();
        for _ in 0..world.pick(2, 5) {
            let rows = (0..20).map(|_| (0..each).map(|_| order()).collect()).collect::<Result<Vec<Vec<_>>>>()?;
            let burst = burst(way.target.address, rows, size.answer()).await?;
            rates.push(burst.rate());
            together.extend(burst.times);
        }
        table.row(vec![
            text(size.label),
            text(way.name),
            count(serial as u32),
            ms(median(&times)),
            ms(quantile(&times, 0.95)),
            ms(cpu),
            Cell::Number(median(&rates), 0),
            ms(quantile(&together, 0.95)),
            count((world.billed().await? - before) as u32),
        ]);
    }
    Ok(())
}

/// Measures bursts of `identical` requests through all `ways`.
pub async fn joins(
    world: &World,
    ways: &[Way],
    size: Size,
    identical: usize,
    table: &mut Table,
    checks: &mut Vec<Check>,
) -> Result<()> {
    for way in ways {
        let bursts = if way.is_peer { 3 } else { world.pick(3, 10) };
        let (mut calls, mut last) = (Vec::new(), Vec::new());
        for _ in 0..bursts {
            let prompt = size.prompt(200);
            let rows = (0..identical)
                .map(|_| Ok(vec![way.target.order(&prompt, size.pixels, "b64_json")?]))
                .collect::<Result<Vec<_>>>()?;
            let before = world.billed().await?;
            let burst = burst(way.target.address, rows, size.answer()).await?;
            calls.push((world.billed().await? - before) as f64);
            last.push(quantile(&burst.times, 1.0));
        }
        let most = quantile(&calls, 1.0);
        table.row(vec![
            count(identical as u32),
            text(way.name),
            count(bursts),
            Cell::Number(median(&calls), 0),
            Cell::Number(most, 0),
            Cell::Number(median(&last), 1),
            Cell::Number(quantile(&last, 0.95), 1),
        ]);
        if way.name != DIRECT && !way.is_peer {
            checks.push(Check::new(
                format!("{identical} identical requests at once, {}: one upstream call", way.name),
                format!("{most:.0} at most, in {bursts} bursts"),
                (most - 1.0).abs() < f64::EPSILON,
            ));
        }
    }
    Ok(())
}
