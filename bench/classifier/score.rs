//! What was read, against what was labelled.

use std::collections::BTreeMap;

use mimeo::classify::{Classifier, Reading};
use mimeo_bench::report::{Cell, Table, count, text};

use crate::money::StepPrice;
use crate::prompts::{Labelled, Set};

/// A set, with a reading for each prompt.
#[derive(Debug)]
pub struct Score {
    /// The prompts.
    pub set: Set,
    /// A reading for each.
    readings: Vec<Reading>,
    /// The steps that each would get.
    steps: Vec<u32>,
    /// The steps that all would get.
    full: u32,
}

/// A prompt and its reading.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// What a careful person says.
    pub label: &'a Labelled,
    /// What the classifier says.
    pub reading: &'a Reading,
    /// The steps that follow from it.
    pub steps: u32,
}

impl Score {
    /// Reads every prompt of `set`.
    pub fn of(classifier: &Classifier, price: &StepPrice, set: Set) -> Score {
        let readings: Vec<Reading> = set.prompts.iter().map(|label| classifier.read(&label.call())).collect();
        let steps = readings.iter().map(|reading| reading.steps(price.bounds, Some(price.steps))).collect();
        Score { set, readings, steps, full: price.steps }
    }

    /// All prompts with their readings.
    pub fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        let readings = self.readings.iter().zip(&self.steps);
        self.set.prompts.iter().zip(readings).map(|(label, (reading, steps))| Pair { label, reading, steps: *steps })
    }

    /// The share of which `is_right` holds, 0–1.
    pub fn right(&self, is_right: impl Fn(&Pair<'_>) -> bool) -> f64 {
        self.pairs().filter(is_right).count() as f64 / self.set.prompts.len().max(1) as f64
    }

    /// Pictures that need all steps and get fewer.
    pub fn hurried(&self) -> usize {
        self.pairs().filter(|pair| !pair.label.is_easy && pair.steps < self.full).count()
    }

    /// Pictures that would do with half and get all.
    pub fn missed(&self) -> usize {
        self.pairs().filter(|pair| pair.label.is_easy && pair.steps == self.full).count()
    }

    /// Of the pictures that need all steps, the share that gets fewer, 0–1.
    pub fn at_risk(&self) -> f64 {
        let all = self.pairs().filter(|pair| !pair.label.is_easy).count();
        self.hurried() as f64 / all.max(1) as f64
    }

    /// The share of the money that is saved, 0–1.
    pub fn saved(&self, price: &StepPrice) -> f64 {
        let spent: i128 = self.pairs().map(|pair| price.of_steps(pair.steps)).sum();
        let fixed = price.of_steps(self.full) * self.set.prompts.len() as i128;
        1.0 - spent as f64 / fixed as f64
    }

    /// One line for each prompt that is read otherwise than it is labelled.
    pub fn misses(&self) -> impl Iterator<Item = String> {
        self.pairs().filter_map(|Pair { label, reading, steps }| {
            let is_easy = steps < self.full;
            let pairs = [
                (label.purpose.as_str(), reading.purpose.name()),
                (&label.category, &reading.category),
                (label.background.name(), reading.background.name()),
                (if label.is_easy { "half" } else { "full" }, if is_easy { "half" } else { "full" }),
            ];
            let wrong: Vec<String> = pairs
                .iter()
                .filter(|(said, read)| said != read)
                .map(|(said, read)| format!("{said} read as {read}"))
                .collect();
            (!wrong.is_empty()).then(|| format!("{}: {} {:?}", label.prompt, wrong.join(", "), reading.why))
        })
    }
}

/// The share of right answers per question.
pub fn accuracy(scores: &[Score]) -> Table {
    let mut table = Table::new(
        "Right answers",
        "Percent of the prompts. Steps: half where half would do (or up to two thirds, on a smooth background), and all where \
         all are needed. The lists were tuned on the first set; only the second says how good they are.",
        &["set", "prompts", "purpose", "category", "background", "steps"],
    );
    let percent = |share: f64| Cell::Number(100.0 * share, 1);
    for score in scores {
        table.row(vec![
            text(score.set.name),
            count(score.set.prompts.len() as u32),
            percent(score.right(|pair| pair.label.purpose == pair.reading.purpose.name())),
            percent(score.right(|pair| pair.label.category == pair.reading.category)),
            percent(score.right(|pair| pair.label.background == pair.reading.background)),
            percent(score.right(|pair| pair.label.is_easy == (pair.steps < score.full))),
        ]);
    }
    table
}

/// How often each pair of labelled and read category occurs.
pub fn matrix(score: &Score) -> BTreeMap<(&str, &str), u32> {
    let mut matrix = BTreeMap::new();
    for pair in score.pairs() {
        *matrix.entry((pair.label.category.as_str(), pair.reading.category.as_str())).or_default() += 1;
    }
    matrix
}

/// How many of each category are found, and how many of those that are read so are it.
pub fn per_category(score: &Score) -> Table {
    let mut table = Table::new(
        "Categories of held-out prompts",
        "Found: of those that are it, how many are read so. True: of those that are read so, how many are it.",
        &["category", "labelled", "read", "found %", "true %"],
    );
    let matrix = matrix(score);
    let mut names: Vec<&str> = matrix.keys().flat_map(|(said, read)| [*said, *read]).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let sum =
            |is: &dyn Fn(&(&str, &str)) -> bool| matrix.iter().filter(|(key, _)| is(key)).map(|(_, n)| *n).sum::<u32>();
        let (said, read) = (sum(&|(said, _)| *said == name), sum(&|(_, read)| *read == name));
        let both = matrix.get(&(name, name)).copied().unwrap_or_default();
        let percent =
            |of: u32| if of == 0 { Cell::Empty } else { Cell::Number(100.0 * f64::from(both) / f64::from(of), 0) };
        table.row(vec![text(name), count(said), count(read), percent(said), percent(read)]);
    }
    table
}

/// What is taken for what, the most frequent first.
pub fn confusions(score: &Score) -> Table {
    let mut table = Table::new("Confusions of held-out prompts", "", &["labelled", "read as", "prompts"]);
    let mut wrong: Vec<((&str, &str), u32)> =
        matrix(score).into_iter().filter(|((said, read), _)| said != read).collect();
    wrong.sort_by_key(|(pair, times)| (std::cmp::Reverse(*times), *pair));
    for ((said, read), times) in wrong {
        table.row(vec![text(said), text(read), count(times)]);
    }
    table
}
