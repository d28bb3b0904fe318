//! What a run says: tables, targets, a picture.

use std::collections::BTreeMap;

use mimeo_bench::plot::{Panel, svg};
use mimeo_bench::report::{Cell, Check, Table, count, median, quantile, text};

use crate::load::{Answer, Kind, Look, Run, capacity};

use crate::{CONCURRENT, MAX_WAIT_S, SERVICE_MS};

/// Where the queue is full and everything is as it will be.
const SETTLED: f64 = 3.0;

/// Tables and targets.
pub fn of(run: &Run) -> (Vec<Table>, Vec<Check>) {
    let misses = times(run, Kind::Miss);
    let hits = times(run, Kind::Hit);
    let rate = run.answers.iter().filter(|a| a.kind == Kind::Miss && (SETTLED..run.seconds).contains(&a.at.1)).count()
        as f64
        / (run.seconds - SETTLED);
    let shed: Vec<&Answer> = run.answers.iter().filter(|answer| answer.kind == Kind::Shed).collect();
    let silent = shed.iter().filter(|answer| !answer.says_when).count();
    let other = run.answers.iter().filter(|answer| answer.kind == Kind::Other).count();
    let limit = f64::from(MAX_WAIT_S) * 1e3 + 2.0 * f64::from(SERVICE_MS);
    let (p99, hits_p99) = (quantile(&misses, 0.99), quantile(&hits, 0.99));
    let thirds = thirds(&run.looks);
    let [_, second, last] = thirds.map(|third| median(&third.iter().map(|look| look.rss_mb).collect::<Vec<_>>()));
    let [_, open, open_last] = thirds.map(most_open);
    let checks = vec![
        Check::new(
            format!("at least 95 % of the provider's {:.0} calls/s are used", capacity()),
            format!("{rate:.1} new pictures/s, {:.1} %", rate / capacity() * 100.0),
            rate >= 0.95 * capacity(),
        ),
        Check::new(
            format!(
                "99 % of the new pictures that were let in come within {limit:.0} ms (max_wait_s and twice a call)"
            ),
            format!("{p99:.0} ms"),
            p99 <= limit,
        ),
        Check::new("99 % of the hits come within 50 ms meanwhile", format!("{hits_p99:.1} ms"), hits_p99 <= 50.0),
        Check::new(
            "everybody else is sent away with Retry-After, and nothing else happens",
            format!("{} sent away, {silent} without Retry-After, {other} other answers", shed.len()),
            !shed.is_empty() && silent == 0 && other == 0,
        ),
        Check::new(
            "memory is flat: the last third within 10 % of the second",
            format!("{second:.1} MB, then {last:.1} MB"),
            (last - second).abs() <= 0.1 * second,
        ),
        Check::new(
            "open descriptors are flat: the most in the last third at most 10 % above the second's",
            format!("{open}, then {open_last}"),
            open_last as f64 <= 1.1 * open as f64,
        ),
    ];
    (vec![answers_table(run), gateway_table(run, thirds)], checks)
}

fn times(run: &Run, kind: Kind) -> Vec<f64> {
    run.answers.iter().filter(|answer| answer.kind == kind).map(Answer::ms).collect()
}

fn most_open(looks: &[Look]) -> usize {
    looks.iter().map(|look| look.descriptors).max().unwrap_or(0)
}

/// Three stretches of the same length.
fn thirds(looks: &[Look]) -> [&[Look]; 3] {
    let third = looks.len() / 3;
    [&looks[..third], &looks[third..2 * third], &looks[2 * third..]]
}

fn answers_table(run: &Run) -> Table {
    let mut table = Table::new(
        "Answers under overload",
        format!(
            "{:.0} s. A provider of {CONCURRENT} calls at a time, {SERVICE_MS} ms each; new pictures are asked for at \
             twice its pace and stored ones at half of it, at random moments. Times are from the moment at which a \
             request was to be sent to the last byte of its answer.",
            run.seconds
        ),
        &["status", "code", "answers", "per second", "median ms", "p99 ms", "max ms"],
    );
    let mut groups: BTreeMap<&(u16, String), Vec<f64>> = BTreeMap::new();
    for answer in &run.answers {
        groups.entry(&answer.status).or_default().push(answer.ms());
    }
    for ((status, code), times) in groups {
        let mut row = vec![count(*status), text(code.as_str()), count(times.len() as u32)];
        row.push(Cell::Number(times.len() as f64 / run.seconds, 1));
        row.extend([0.5, 0.99, 1.0].map(|share| Cell::Number(quantile(&times, share), 1)));
        table.row(row);
    }
    table
}

fn gateway_table(run: &Run, thirds: [&[Look]; 3]) -> Table {
    let mut table = Table::new(
        "The gateway meanwhile",
        format!("Looked at {} times.", run.looks.len()),
        &["third", "RSS median MB", "RSS max MB", "descriptors median", "descriptors max"],
    );
    for (name, looks) in ["first", "second", "last"].into_iter().zip(thirds) {
        let rss: Vec<f64> = looks.iter().map(|look| look.rss_mb).collect();
        let open: Vec<f64> = looks.iter().map(|look| look.descriptors as f64).collect();
        let mut row = vec![text(name)];
        row.extend([median(&rss), quantile(&rss, 1.0)].map(|mb| Cell::Number(mb, 1)));
        row.extend([median(&open), quantile(&open, 1.0)].map(|open| Cell::Number(open, 0)));
        table.row(row);
    }
    table
}

/// Memory, descriptors and answers over time.
pub fn picture(run: &Run) -> String {
    let over_time =
        |value: fn(&Look) -> f64| run.looks.iter().map(|look| (look.second.max(0.0), value(look))).collect();
    let per_second = |kind: Kind| {
        let mut seconds = vec![0.0; run.seconds.ceil() as usize];
        for answer in run.answers.iter().filter(|answer| answer.kind == kind) {
            if let Some(second) = seconds.get_mut(answer.at.1 as usize) {
                *second += 1.0;
            }
        }
        seconds.into_iter().enumerate().map(|(second, answers)| (second as f64 + 0.5, answers)).collect()
    };
    svg(
        run.seconds,
        &[
            Panel {
                title: "Answers per second",
                lines: vec![
                    ("new pictures", "#2458c5", per_second(Kind::Miss)),
                    ("hits", "#1e8a4c", per_second(Kind::Hit)),
                    ("sent away", "#c43d2f", per_second(Kind::Shed)),
                ],
            },
            Panel { title: "Memory, MB", lines: vec![("RSS", "#2458c5", over_time(|look| look.rss_mb))] },
            Panel { title: "Descriptors", lines: vec![("open", "#7a4fb5", over_time(|look| look.descriptors as f64))] },
        ],
    )
}
