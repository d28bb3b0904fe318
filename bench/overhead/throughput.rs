//! Distinct prompts, twenty at a time: how many calls per second pass through.

use crate::Result;
use crate::client::burst;
use crate::report::{Cell, Check, Table, count, median, ms, quantile, text};
use crate::world::{DIRECT, PROCESS, POWER, Size, Way, World};

/// Requests in flight.
const IN_FLIGHT: usize = 20;

/// The table that [`measure`] fills.
pub fn table() -> Table {
    Table::new(
        "Misses, 20 in flight",
        "Every connection sends its next request when it has its answer. Provider: the time that the simulated provider \
         takes for each call. With 0 ms, client, provider and gateway compete for the same cores, and the number says \
         how many calls the gateway can carry on this machine, not what it costs anybody.",
        &[
            "picture", "provider ms", "way", "requests", "requests/s", "% of direct", "median ms", "p95 ms",
            "gateway CPU ms", "peak RSS MB",
        ],
    )
}

/// Measures all `ways` in turns, with a provider that takes `latency` milliseconds, `each` requests per connection and
/// round.
pub async fn measure(
    world: &World,
    ways: &[Way],
    size: Size,
    (latency, each): (u64, usize),
    table: &mut Table,
    checks: &mut Vec<Check>,
) -> Result<()> {
    #[derive(Default)]
    struct Seen {
        times: Vec<f64>,
        rates: Vec<f64>,
        shares: Vec<f64>,
        cpu: f64,
    }
    let mut seen: Vec<Seen> = ways.iter().map(|_| Seen::default()).collect();
    let rounds = world.pick(2, 5);
    for round in 0..rounds {
        let mut direct = f64::NAN;
        for (way, seen) in ways.iter().zip(&mut seen) {
            if way.is_peer && round >= 2 {
                continue;
            }
            let row = || (0..each).map(|_| size.order(&way.target, latency)).collect::<Result<Vec<_>>>();
            let rows = (0..IN_FLIGHT).map(|_| row()).collect::<Result<Vec<_>>>()?;
            let cpu = way.process.as_ref().map_or(0.0, |process| process.cpu_ms());
            let burst = burst(way.target.address, rows, size.answer()).await?;
            seen.cpu += way.process.as_ref().map_or(0.0, |process| process.cpu_ms()) - cpu;
            if way.name == DIRECT {
                direct = burst.rate();
            }
            seen.rates.push(burst.rate());
            seen.shares.push(burst.rate() / direct * 100.0);
            seen.times.extend(burst.times);
        }
    }
    for (way, seen) in ways.iter().zip(&seen) {
        let share = median(&seen.shares);
        table.row(vec![
            text(size.label),
            count(latency as u32),
            text(way.name),
            count(seen.times.len() as u32),
            Cell::Number(median(&seen.rates), 1),
            Cell::Number(share, 1),
            ms(median(&seen.times)),
            ms(quantile(&seen.times, 0.95)),
            if way.name == DIRECT { Cell::Empty } else { ms(seen.cpu / seen.times.len() as f64) },
            way.process.as_ref().map_or(Cell::Empty, |process| Cell::Number(process.peak_mb(), 1)),
        ]);
        if latency > 0 && (way.name == PROCESS || way.name == POWER) {
            checks.push(Check::new(
                format!(
                    "20 in flight, {}, a provider of {latency} ms, {}: at least 95 % of direct calls",
                    size.label, way.name
                ),
                format!("{share:.1} %"),
                share >= 95.0,
            ));
        }
    }
    Ok(())
}
