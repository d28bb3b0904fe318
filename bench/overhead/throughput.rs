//! Distinct prompts, twenty at a time: how many calls per second pass through.

use crate::Result;
use crate::world::{DIRECT, Durability, POWER, PROCESS, Size, Way, World};
use mimeo_bench::client::burst;
use mimeo_bench::report::{Cell, Check, Table, count, median, ms, quantile, text};

/// Requests in flight.
const IN_FLIGHT: usize = 20;

/// The table that [`measure`] fills.
pub fn table() -> Table {
    Table::new(
        "Misses, 20 in flight",
        "Every connection sends its next request when it has its answer. Provider: the time that the simulated provider \
         takes for a call. Where all take exactly the same time, all connections stay in step, and the gateway gets its \
         work in bursts of 20: the hardest case, which no real provider makes. With 0 ms, client, provider and gateway compete for the same cores, and the number says \
         how many calls the gateway can carry on this machine, not what it costs anybody.",
        &[
            "picture",
            "provider ms",
            "way",
            "requests",
            "requests/s",
            "% of direct",
            "median ms",
            "p95 ms",
            "gateway CPU ms",
            "peak RSS MB",
        ],
    )
}

/// How the provider and the client behave.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Milliseconds that the provider takes, in the mean.
    pub latency: u64,
    /// True if it takes now half of that and now half as much again; false if always exactly that.
    pub varies: bool,
    /// Requests per connection and round.
    pub each: usize,
}

impl Plan {
    /// As in tables.
    fn name(&self) -> String {
        match (self.latency, self.varies) {
            (0, _) => "0".to_owned(),
            (latency, true) => format!("{} to {}", latency / 2, latency * 3 / 2),
            (latency, false) => format!("{latency}, all alike"),
        }
    }

    /// What the provider takes for request `index` of connection `slot`. The same for all ways; every two that follow
    /// one another on a connection have the mean that the plan says, so that all connections end together.
    fn latency(&self, slot: usize, index: usize) -> u64 {
        if !self.varies {
            return self.latency;
        }
        // Multiples of the golden ratio are spread evenly, and keep no two connections in step.
        let share = 0.5 + (slot * self.each + index) as f64 * 0.618_033_988_749_895 % 1.0;
        (self.latency as f64 * share).round() as u64
    }
}

/// What one way did.
#[derive(Debug, Default)]
struct Seen {
    times: Vec<f64>,
    rates: Vec<f64>,
    shares: Vec<f64>,
    cpu: f64,
    peak: Option<f64>,
}

/// Measures direct calls, both kinds of Mimeo, and `peers`, in phases as [`crate::misses::measure`] does.
pub async fn measure(
    world: &World,
    peers: &[Way],
    size: Size,
    plan: Plan,
    table: &mut Table,
    checks: &mut Vec<Check>,
) -> Result<()> {
    let mut ways = vec![world.direct()?, world.gateway(Durability::Process).await?];
    ways.extend(peers.iter().cloned());
    let first = phase(world, &ways, size, plan).await?;
    ways.truncate(1);
    world.settle();
    ways.push(world.gateway(Durability::Power).await?);
    let second = phase(world, &ways, size, plan).await?;
    drop(ways);
    world.settle();

    let names = [DIRECT, PROCESS].into_iter().chain(peers.iter().map(|peer| peer.name)).chain([POWER]);
    // Direct calls of the second phase only serve to compare.
    for (name, seen) in names.zip(first.iter().chain(second.iter().skip(1))) {
        let share = median(&seen.shares);
        table.row(vec![
            text(size.label),
            text(plan.name()),
            text(name),
            count(seen.times.len() as u32),
            Cell::Number(median(&seen.rates), 1),
            Cell::Number(share, 1),
            ms(median(&seen.times)),
            ms(quantile(&seen.times, 0.95)),
            if name == DIRECT { Cell::Empty } else { ms(seen.cpu / seen.times.len() as f64) },
            seen.peak.map_or(Cell::Empty, |peak| Cell::Number(peak, 1)),
        ]);
        if plan.varies && (name == PROCESS || name == POWER) {
            checks.push(Check::new(
                format!(
                    "20 in flight, {}, a provider of {} ms, {name}: at least 95 % of direct calls",
                    size.label,
                    plan.name()
                ),
                format!("{share:.1} %"),
                share >= 95.0,
            ));
        }
    }
    Ok(())
}

/// Measures `ways` in turns, the first of which is direct.
async fn phase(world: &World, ways: &[Way], size: Size, plan: Plan) -> Result<Vec<Seen>> {
    let mut seen: Vec<Seen> = ways.iter().map(|_| Seen::default()).collect();
    for round in 0..world.pick(2, 5) {
        let mut direct = f64::NAN;
        for (way, seen) in ways.iter().zip(&mut seen) {
            if way.is_peer && round >= 2 {
                continue;
            }
            let row =
                |slot| (0..plan.each).map(move |index| size.order(&way.target, plan.latency(slot, index))).collect();
            let rows = (0..IN_FLIGHT).map(row).collect::<Result<Vec<Vec<_>>>>()?;
            let cpu = way.process.as_ref().map_or(0.0, |process| process.cpu_ms());
            let burst = burst(way.target.address, rows, size.answer()).await?;
            seen.cpu += way.process.as_ref().map_or(0.0, |process| process.cpu_ms()) - cpu;
            if way.name == DIRECT {
                direct = burst.steady_rate(IN_FLIGHT);
            }
            seen.rates.push(burst.steady_rate(IN_FLIGHT));
            seen.shares.push(burst.steady_rate(IN_FLIGHT) / direct * 100.0);
            seen.times.extend(burst.times);
        }
    }
    for (seen, way) in seen.iter_mut().zip(ways) {
        seen.peak = way.process.as_ref().map(|process| process.peak_mb());
    }
    Ok(seen)
}
