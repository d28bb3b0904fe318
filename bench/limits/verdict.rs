//! What the cases say: a table, targets, a picture.

use std::fs;
use std::process::Command;

use mimeo_bench::plot::{Panel, svg};
use mimeo_bench::report::{Cell, Check, Table, count, text};

use crate::world::Run;
use crate::{Case, RATE};

/// From here on a limit that must be learned is to be known, in seconds.
const SETTLED: f64 = 10.0;
/// From here on one that is known is used: the gateways are warm.
const WARM: f64 = 2.0;

/// When and how busy.
pub fn machine() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let date = mimeo_bench::process::output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]));
    format!("{date}, load average {}", load.join(" "))
}

/// The percentage of what is allowed that was taken, from that second on, and what was refused.
fn used(run: &Run, from: f64) -> (f64, usize) {
    let after = |times: &[f64]| times.iter().filter(|second| **second >= from).count();
    let share = after(&run.taken) as f64 / (f64::from(RATE) * (run.seconds - from)) * 100.0;
    (share, after(&run.refused))
}

/// The table and the targets.
pub fn of(runs: &[(Case, Run)]) -> (Table, Vec<Check>) {
    let note = format!(
        "Full pressure before a provider that takes {RATE} calls per second. Used: of what it allows, from second \
         {WARM} where the limit is known, from second {SETTLED} where it must be learned. Refused: calls that it \
         answered with 429, all of them and those after that second. Sent away: callers that got a 429 of the gateway."
    );
    let columns = ["case", "taken", "used %", "refused", "refused later", "pictures", "sent away"];
    let mut table = Table::new("A provider's limit under full pressure", note, &columns);
    let mut checks = Vec::new();
    for (case, run) in runs {
        let (share, late) = used(run, if case.known { WARM } else { SETTLED });
        let number = |number: usize| count(number as f64);
        table.row(vec![
            text(case.name),
            number(run.taken.len()),
            Cell::Number(share, 1),
            number(run.refused.len()),
            number(late),
            count(run.answers.0),
            count(run.answers.1),
        ]);
        if case.known {
            let found = format!("{share:.1} %, {} refused", run.refused.len());
            let what = format!("{}: at least 95 % are used and nothing is refused", case.name);
            checks.push(Check::new(what, found, share >= 95.0 && run.refused.is_empty()));
        } else {
            let per_hundred = late as f64 / (late + run.taken.len()).max(1) as f64 * 100.0;
            let found = format!("{share:.1} %, {per_hundred:.2} in a hundred refused");
            let what = format!(
                "{}: within {SETTLED} s it settles, so that at least 85 % are used and at most 1 in 100 is refused",
                case.name
            );
            checks.push(Check::new(what, found, share >= 85.0 && per_hundred <= 1.0));
        }
    }
    (table, checks)
}

/// Each case over its seconds.
pub fn picture(runs: &[(Case, Run)]) -> String {
    let seconds = runs.iter().map(|(_, run)| run.seconds).fold(1.0, f64::max);
    let per_second = |times: &[f64]| -> Vec<(f64, f64)> {
        let mut counts = vec![0.0; seconds.floor() as usize];
        for time in times {
            if let Some(count) = counts.get_mut(*time as usize) {
                *count += 1.0;
            }
        }
        counts.into_iter().enumerate().map(|(second, count)| (second as f64 + 0.5, count)).collect()
    };
    let limit = vec![(0.0, f64::from(RATE)), (seconds, f64::from(RATE))];
    let panels: Vec<Panel> = runs
        .iter()
        .map(|(case, run)| Panel {
            title: case.name,
            lines: vec![
                ("allowed", "#999999", limit.clone()),
                ("taken per second", "#2458c5", per_second(&run.taken)),
                ("refused", "#c43d2f", per_second(&run.refused)),
            ],
        })
        .collect();
    svg(seconds, &panels)
}
