//! Which row of a provider's export is which attempt. Pure: rows and attempts in, decisions out.
//!
//! A row that names an attempt is that attempt's. Every other row *may* be any attempt whose model and time fit.
//! One of them *is* an attempt only if each is all that the other may be, and that is asked first of what the
//! ledger knows to be billed: its rows are taken away before attempts in suspense are looked at. Where two
//! readings are possible, nothing is decided.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::export::Row;
use crate::clock::Millis;
use crate::domain::{AttemptId, Price, Usd};

/// An attempt as the ledger knows it.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub id: AttemptId,
    /// The provider's model.
    pub model: String,
    /// When it began.
    pub at_ms: Millis,
    /// The most that it may cost.
    pub expected: Price,
    /// How it stands.
    pub standing: Standing,
}

/// How an attempt stands in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody knows whether it was billed: to be decided.
    Suspense,
    /// It was billed this much.
    Billed(Usd),
    /// It was not billed.
    Unbilled,
    /// It has not ended.
    UnderWay,
}

/// How far matching may go.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How far the time of a row may be from the beginning of its attempt, in milliseconds, either way.
    pub window_ms: Millis,
    /// True if all rows and all attempts are known to be of one provider. If not, only names count.
    pub one_provider: bool,
    /// True decides that what no row may be was not billed, where the export covers its time.
    pub absent_means_unbilled: bool,
}

/// What is decided of one attempt in suspense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The attempt.
    pub id: AttemptId,
    /// What it was billed, zero if it was not; `None` leaves it in suspense.
    pub billed: Option<Usd>,
    /// Why.
    pub why: String,
    /// The rows that it may be, by their position; the row that it is, if that is known.
    pub rows: Vec<usize>,
    /// Other attempts that those rows may be as well.
    pub rivals: Vec<AttemptId>,
}

/// How export and ledger agree on what is settled and named by a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// How many attempts there are.
    pub attempts: usize,
    /// What the export says of them.
    pub export_usd: Usd,
    /// What the ledger says of them.
    pub ledger_usd: Usd,
    /// Those of which they do not say the same.
    pub differing: Vec<Difference>,
}

/// A settled attempt of which export and ledger do not say the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The attempt.
    #[serde(serialize_with = "super::as_text")]
    pub attempt: AttemptId,
    /// What the export says.
    pub export_usd: Usd,
    /// What the ledger says.
    pub ledger_usd: Usd,
}

/// Decides every attempt in suspense, in the order of `attempts`, and compares what is settled.
pub fn decide(rows: &[Row], attempts: &[Known], rules: Rules) -> (Vec<Decision>, Comparison) {
    let named = named(rows);
    let mut board = Board::new(rows, attempts, rules, &named);
    board.take_what_is_settled();
    let decide = |(index, known): (usize, &Known)| match named.get(&known.id) {
        Some(places) => by_name(rows, known, places),
        None => board.by_time(index),
    };
    let open = attempts.iter().enumerate().filter(|(_, known)| known.standing == Standing::Suspense);
    (open.map(decide).collect(), compare(rows, attempts, &named))
}

/// The rows that name an attempt, by its name.
fn named(rows: &[Row]) -> BTreeMap<AttemptId, Vec<usize>> {
    let mut named: BTreeMap<AttemptId, Vec<usize>> = BTreeMap::new();
    for (place, row) in rows.iter().enumerate() {
        if let Some(id) = row.attempt {
            named.entry(id).or_default().push(place);
        }
    }
    named
}

fn by_name(rows: &[Row], known: &Known, places: &[usize]) -> Decision {
    let (billed, why) = match places {
        [place] => match rows[*place].usd {
            Some(usd) if usd >= Usd::ZERO => (Some(usd), "a row names it".to_owned()),
            Some(_) => (None, "the row that names it is a credit note".to_owned()),
            None => (None, "the row that names it does not say what was billed".to_owned()),
        },
        _ => (None, format!("{} rows name it", places.len())),
    };
    Decision { id: known.id, billed, why, rows: places.to_vec(), rivals: Vec::new() }
}

fn compare(rows: &[Row], attempts: &[Known], named: &BTreeMap<AttemptId, Vec<usize>>) -> Comparison {
    let mut comparison = Comparison::default();
    for known in attempts {
        let ledger_usd = match known.standing {
            Standing::Billed(usd) => usd,
            Standing::Unbilled => Usd::ZERO,
            Standing::Suspense | Standing::UnderWay => continue,
        };
        let Some(places) = named.get(&known.id) else { continue };
        let export_usd = places.iter().filter_map(|place| rows[*place].usd).sum();
        comparison.attempts += 1;
        comparison.export_usd += export_usd;
        comparison.ledger_usd += ledger_usd;
        if export_usd != ledger_usd {
            comparison.differing.push(Difference { attempt: known.id, export_usd, ledger_usd });
        }
    }
    comparison
}

/// Rows that name nobody and attempts that nobody names, found by model and time.
struct Board<'a> {
    rows: &'a [Row],
    attempts: &'a [Known],
    rules: Rules,
    /// Models that the ledger knows: another name is never taken for one of them.
    models: BTreeSet<&'a str>,
    /// The time in which a call's row must be in the export, if there was one.
    covered: Option<(Millis, Millis)>,
    open_rows: Shelf<'a>,
    /// Attempts that were billed, may have been, or may yet be.
    open_attempts: Shelf<'a>,
    taken_rows: BTreeSet<usize>,
    taken_attempts: BTreeSet<usize>,
}

impl<'a> Board<'a> {
    fn new(rows: &'a [Row], attempts: &'a [Known], rules: Rules, named: &BTreeMap<AttemptId, Vec<usize>>) -> Board<'a> {
        let times = || rows.iter().filter_map(|row| row.at_ms);
        let nameless = rows.iter().enumerate().filter(|(_, row)| row.attempt.is_none());
        let unnamed = attempts
            .iter()
            .enumerate()
            .filter(|(_, known)| known.standing != Standing::Unbilled && !named.contains_key(&known.id));
        Board {
            rows,
            attempts,
            rules,
            models: attempts.iter().map(|known| known.model.as_str()).collect(),
            covered: times()
                .min()
                .zip(times().max())
                .map(|(first, last)| (first.saturating_add(rules.window_ms), last.saturating_sub(rules.window_ms))),
            open_rows: Shelf::of(nameless.map(|(place, row)| (row.model.as_deref(), row.at_ms, place))),
            open_attempts: Shelf::of(
                unnamed.map(|(place, known)| (Some(known.model.as_str()), Some(known.at_ms), place)),
            ),
            taken_rows: BTreeSet::new(),
            taken_attempts: BTreeSet::new(),
        }
    }

    /// Takes away the rows of attempts that are settled. An attempt at the rim of the export takes nothing: its
    /// own row may have been cut off, and then the one that is left is somebody else's.
    fn take_what_is_settled(&mut self) {
        let is_settled = |place: usize| !matches!(self.attempts[place].standing, Standing::Suspense);
        let mut pairs = Vec::new();
        for (place, known) in self.attempts.iter().enumerate() {
            if !matches!(known.standing, Standing::Billed(_)) || !self.covers(known) {
                continue;
            }
            let mut rows = self.rows_near(place).take(2);
            let (Some(row), None) = (rows.next(), rows.next()) else { continue };
            let mut others = self.attempts_near(row).filter(|other| is_settled(*other)).take(2);
            if self.is_certain(row, place) && others.next() == Some(place) && others.next().is_none() {
                pairs.push((row, place));
            }
        }
        for (row, place) in pairs {
            self.taken_rows.insert(row);
            self.taken_attempts.insert(place);
        }
    }

    fn by_time(&self, place: usize) -> Decision {
        let known = &self.attempts[place];
        let rows: Vec<usize> = self.rows_near(place).collect();
        let rivals: BTreeSet<usize> =
            rows.iter().flat_map(|row| self.attempts_near(*row)).filter(|other| *other != place).collect();
        let (billed, why) = match rows.as_slice() {
            [] => self.absent(known),
            [row] if rivals.is_empty() => self.only(*row, place),
            [_] => (None, "a row may be it, or another attempt".to_owned()),
            _ => (None, format!("{} rows may be it", rows.len())),
        };
        let rivals = rivals.into_iter().map(|other| self.attempts[other].id).collect();
        Decision { id: known.id, billed, why, rows, rivals }
    }

    /// Of the only row that may be an attempt, and may be no other.
    fn only(&self, row: usize, place: usize) -> (Option<Usd>, String) {
        let say = |why: &str| (None, why.to_owned());
        let Some(usd) = self.rows[row].usd else { return say("the row that may be it does not say what was billed") };
        let over = self.attempts[place].expected.known().is_some_and(|most| usd > most);
        match () {
            () if !self.rules.one_provider => say("a row may be it; --provider says whose export this is"),
            () if self.rows[row].at_ms.is_none() => say("a row may be it, and has no time"),
            () if !self.is_certain(row, place) => say("a row may be it, and does not name its model"),
            () if usd < Usd::ZERO => say("the row that may be it is a credit note"),
            () if over => say("the row that may be it is more than it can cost"),
            () => (Some(usd), "only one row has its model and time".to_owned()),
        }
    }

    fn absent(&self, known: &Known) -> (Option<Usd>, String) {
        if !self.covers(known) {
            (None, "no row may be it, and the export does not cover its time".to_owned())
        } else if self.rules.absent_means_unbilled && self.rules.one_provider {
            (Some(Usd::ZERO), "no row may be it".to_owned())
        } else {
            (None, "no row may be it; --absent-means-unbilled would release it".to_owned())
        }
    }

    fn covers(&self, known: &Known) -> bool {
        self.covered.is_some_and(|(begin, end)| (begin..=end).contains(&known.at_ms))
    }

    /// True if the row has the provider, the model and a time of the attempt, which it is known to be near.
    fn is_certain(&self, row: usize, place: usize) -> bool {
        let row = &self.rows[row];
        self.rules.one_provider
            && row.at_ms.is_some()
            && row.model.as_deref() == Some(self.attempts[place].model.as_str())
    }

    fn rows_near(&self, place: usize) -> impl Iterator<Item = usize> {
        let known = &self.attempts[place];
        let fits = move |model: Option<&str>| self.may_be(model, &known.model);
        self.open_rows.near(fits, Some(known.at_ms), self.rules.window_ms).filter(|row| !self.taken_rows.contains(row))
    }

    fn attempts_near(&self, row: usize) -> impl Iterator<Item = usize> {
        let row = &self.rows[row];
        let fits = move |model: Option<&str>| model.is_some_and(|model| self.may_be(row.model.as_deref(), model));
        self.open_attempts
            .near(fits, row.at_ms, self.rules.window_ms)
            .filter(|place| !self.taken_attempts.contains(place))
    }

    /// True if a row of `model` may be a call of `wanted`: the same name, none at all, or one that nobody here
    /// knows and that holds the other, as names with a date do.
    fn may_be(&self, model: Option<&str>, wanted: &str) -> bool {
        model.is_none_or(|model| {
            model == wanted || (!self.models.contains(model) && (model.contains(wanted) || wanted.contains(model)))
        })
    }
}

/// Things by model, then by time. What has no time is near to everything.
struct Shelf<'a>(BTreeMap<Option<&'a str>, Vec<(Option<Millis>, usize)>>);

impl<'a> Shelf<'a> {
    fn of(things: impl Iterator<Item = (Option<&'a str>, Option<Millis>, usize)>) -> Shelf<'a> {
        let mut shelf: BTreeMap<_, Vec<_>> = BTreeMap::new();
        things.for_each(|(model, at, place)| shelf.entry(model).or_default().push((at, place)));
        shelf.values_mut().for_each(|things| things.sort_unstable());
        Shelf(shelf)
    }

    /// The places of all whose model `fits` and whose time is within `window` of `at`.
    fn near(
        &self,
        fits: impl Fn(Option<&str>) -> bool,
        at: Option<Millis>,
        window: Millis,
    ) -> impl Iterator<Item = usize> {
        let (from, to) = match at {
            Some(at) => (Some(at.saturating_sub(window)), at.saturating_add(window)),
            None => (None, Millis::MAX),
        };
        self.0.iter().filter(move |(model, _)| fits(**model)).flat_map(move |(_, things)| {
            let timeless = things.partition_point(|(at, _)| at.is_none());
            let begin = things.partition_point(|(at, _)| *at < from).max(timeless);
            let end = things.partition_point(|(at, _)| at.is_none_or(|at| at <= to)).max(begin);
            things[..timeless].iter().chain(&things[begin..end]).map(|(_, place)| *place)
        })
    }
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
