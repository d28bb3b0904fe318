//! What the runs say: tables, targets, a picture.

use mimeo::domain::Usd;
use mimeo_bench::report::{Cell, Check, Table, count, text};
use mimeo_bench::waterfall::{Fall, svg};

use crate::layers::Routing;
use crate::replay::{Outcome, Way};
use crate::trace::{Request, Shares};

/// What the shop reports that routing, steps and a cache saved it, in per cent.
pub const REPORTED: f64 = 62.0;

/// One run.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is new in it.
    pub name: &'static str,
    /// How requests were sent.
    pub way: Way,
    /// What came of it.
    pub outcome: Outcome,
}

/// All runs of one trace.
#[derive(Debug)]
pub struct Case {
    /// What it is called.
    pub name: String,
    /// What it is made of.
    pub shares: Shares,
    /// How many requests.
    pub requests: usize,
    /// Without a gateway, then with one layer more in each row.
    pub together: Vec<Row>,
    /// With one layer each.
    pub alone: Vec<Row>,
}

/// The bill for one share of repetitions.
#[derive(Debug)]
pub struct Point {
    /// Of all requests, those for a picture that was asked for before, at whatever moment.
    pub again: f64,
    /// Without a gateway.
    pub naive: Outcome,
    /// With all layers.
    pub whole: Outcome,
}

/// By how much `after` is less than `before`, in per cent.
fn less(before: Usd, after: Usd) -> f64 {
    (1.0 - after.approximate() / before.approximate()) * 100.0
}

fn whole(number: u64) -> Cell {
    count(number as f64)
}

fn dollars(usd: Usd) -> Cell {
    Cell::Number(usd.approximate(), 2)
}

impl Case {
    /// A case without runs yet.
    pub fn of(name: impl Into<String>, trace: &[Request]) -> Self {
        let (together, alone) = (Vec::new(), Vec::new());
        Self { name: name.into(), shares: Shares::of(trace), requests: trace.len(), together, alone }
    }

    /// One line on what the trace is made of.
    pub fn about(&self) -> String {
        let Shares { again, crowded, impatient, plain, pictures } = self.shares;
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        format!(
            "{} requests for {pictures} pictures: {} ask for what was asked for before, {} come at the same moment as \
             another for the same, {} give up and ask again; {} have a plain background.",
            self.requests,
            percent(again),
            percent(crowded),
            percent(impatient),
            percent(plain)
        )
    }

    /// What is saved in the last row, in per cent.
    pub fn saved(&self) -> f64 {
        match (self.together.first(), self.together.last()) {
            (Some(first), Some(last)) => less(first.outcome.billed, last.outcome.billed),
            _ => f64::NAN,
        }
    }

    /// The table of layers one after the other, and that of each alone.
    pub fn tables(&self) -> Vec<Table> {
        let columns = [
            "layer",
            "paid calls",
            "bill $",
            "saves %",
            "in all %",
            "hits",
            "joins",
            "drawn",
            "below floor",
            "spoiled",
        ];
        let note = format!(
            "{} Bill: the provider's invoice book. Saves: of the row before it. Hits and joins: what the gateway says of \
             its answers, who asked twice counted twice. Below floor: answers that are worse than their purpose allows. \
             Spoiled: glass and jewelry by the turbo model.",
            self.about()
        );
        let mut together = Table::new("One layer after the other", note, &columns);
        let mut before = None;
        let first = self.together.first().map(|row| row.outcome.billed);
        for Row { name, outcome, .. } in &self.together {
            let answers = |kind: &str| outcome.answers.get(kind).map_or(Cell::Empty, |count| whole(*count));
            let saves =
                |than: Option<Usd>| than.map_or(Cell::Empty, |than| Cell::Number(less(than, outcome.billed), 1));
            together.row(vec![
                text(*name),
                whole(outcome.calls),
                dollars(outcome.billed),
                saves(before),
                saves(first.filter(|_| before.is_some())),
                answers("hit"),
                answers("join"),
                whole(outcome.drawn),
                whole(outcome.below),
                whole(outcome.spoiled),
            ]);
            before = Some(outcome.billed);
        }
        let note = "Against no gateway at all. What two layers save together is less than the sum of what each saves: a \
                    picture that is not made cannot be made cheaper.";
        let mut alone = Table::new(
            "Each layer alone",
            note,
            &["layer", "paid calls", "bill $", "saves %", "below floor", "spoiled"],
        );
        for Row { name, outcome, .. } in &self.alone {
            alone.row(vec![
                text(*name),
                whole(outcome.calls),
                dollars(outcome.billed),
                first.map_or(Cell::Empty, |first| Cell::Number(less(first, outcome.billed), 1)),
                whole(outcome.below),
                whole(outcome.spoiled),
            ]);
        }
        vec![together, alone]
    }

    /// What must hold of every trace.
    pub fn checks(&self) -> Vec<Check> {
        let rows = || self.together.iter().chain(&self.alone);
        let differs = |row: &&Row| {
            let Outcome { ledger, billed, .. } = &row.outcome;
            ledger.is_some_and(|ledger| ledger.spent != *billed || !ledger.open.is_zero())
        };
        let off = rows().filter(differs).count();
        let gateways = rows().filter(|row| row.outcome.ledger.is_some()).count();
        let mut checks = vec![Check::new(
            format!(
                "{}: the ledger equals the invoice book to the last pico-dollar, with nothing left open",
                self.name
            ),
            format!("{off} of {gateways} runs differ"),
            off == 0,
        )];
        // Whoever routes blindly, or reads what nobody told, may be wrong: the table says how often.
        let careful =
            |row: &&Row| !matches!(row.way, Way::Through(layers) if layers.routing == Routing::Blind || !layers.labels);
        let below: u64 = rows().filter(careful).map(|row| row.outcome.below).sum();
        let spoiled: u64 = rows().filter(careful).map(|row| row.outcome.spoiled).sum();
        checks.push(Check::new(
            format!("{}: no picture is below its floor, no glass is drawn by the turbo model", self.name),
            format!("{below} below, {spoiled} spoiled, in {} runs", rows().filter(careful).count()),
            below + spoiled == 0,
        ));
        checks.extend(self.says_what_it_saves());
        if let [direct, off, ..] = self.together.as_slice() {
            checks.push(Check::new(
                format!("{}: a gateway with all layers off costs what none costs", self.name),
                format!("${} and ${}", off.outcome.billed, direct.outcome.billed),
                off.outcome.billed == direct.outcome.billed,
            ));
        }
        checks
    }

    /// The gateway's own word for what cache and coalescing saved, beside the two bills: without them, and with them.
    fn says_what_it_saves(&self) -> Option<Check> {
        let layers = |row: &Row| match row.way {
            Way::Direct => None,
            Way::Through(layers) => Some(layers),
        };
        let without = self.together.iter().rfind(|row| layers(row).is_some_and(|on| !on.cache && !on.coalescing))?;
        let with = self.together.iter().find(|row| layers(row).is_some_and(|on| on.cache && on.coalescing))?;
        let said = with.outcome.ledger?.saved;
        let found = without.outcome.billed - with.outcome.billed;
        Some(Check::new(
            format!("{}: cache and coalescing saved what the ledger says that they did", self.name),
            format!("${said}, and the bills differ by ${found}"),
            said == found,
        ))
    }

    fn fall(&self) -> (String, String, Vec<(String, f64)>) {
        let shown = self.together.iter().filter(|row| row.name != OFF);
        let steps = shown.map(|row| (row.name.to_owned(), row.outcome.billed.approximate())).collect();
        let title = format!("{}: what {} requests cost", self.name, self.requests);
        let note = format!(
            "{:.0} % ask for what was asked for before, {:.0} % together with others; per cent of the bar before it",
            self.shares.again * 100.0,
            self.shares.crowded * 100.0
        );
        (title, note, steps)
    }
}

/// The row in which the gateway does nothing; not worth a bar.
pub const OFF: &str = "a gateway, all layers off";

/// The bill for each share of repetitions.
pub fn sweep(points: &[Point]) -> Table {
    let note = format!(
        "The shop's pictures with other shares of repetitions. Asked again: of all requests, those that come after or \
         together with another for the same picture. The shop counted 22 % and saved {REPORTED} %; others report 30 to 50 % \
         and 80 % for shops."
    );
    let columns = ["asked again %", "no gateway $", "all layers $", "saved %", "below floor"];
    let mut table = Table::new("How much of it hangs on repetitions", note, &columns);
    for point in points {
        table.row(vec![
            Cell::Number(point.again * 100.0, 1),
            dollars(point.naive.billed),
            dollars(point.whole.billed),
            Cell::Number(less(point.naive.billed, point.whole.billed), 1),
            whole(point.whole.below),
        ]);
    }
    table
}

/// The target of the shop's mix.
pub fn beats(case: &Case) -> Check {
    let saved = case.saved();
    Check::new(
        format!("{}: more than the {REPORTED} % are saved that the shop reports", case.name),
        format!("{saved:.1} %; of its $14,000 a month ${:.0} would be left", 14_000.0 * (1.0 - saved / 100.0)),
        saved > REPORTED,
    )
}

/// All cases as waterfalls.
pub fn picture(cases: &[Case]) -> String {
    let falls: Vec<_> = cases.iter().map(Case::fall).collect();
    let falls: Vec<Fall> = falls
        .iter()
        .map(|(title, note, steps)| Fall { title, note, remains: "all layers", steps: steps.clone() })
        .collect();
    svg(&falls)
}
