//! An outside check: PartiPrompts (Yu et al. 2022, Apache-2.0), whose categories others gave. They are other ones than
//! ours, so some stand for several.

use mimeo::classify::Classifier;
use mimeo::domain::Size;
use mimeo_bench::Result;
use mimeo_bench::report::{Cell, Table, count, text};

use crate::prompts;

/// Their category, and those of ours that are right for it. Those of theirs that go by style or by knowledge (such as
/// "Illustrations" and "World Knowledge") have none.
const SAME: [(&str, &[&str]); 8] = [
    ("Animals", &["animal"]),
    ("Food & Beverage", &["food", "glass"]),
    ("Indoor Scenes", &["interior", "furniture"]),
    ("Outdoor Scenes", &["landscape", "building"]),
    ("People", &["people"]),
    ("Produce & Plants", &["plant", "food"]),
    ("Vehicles", &["vehicle"]),
    ("Abstract", &["abstract", "other", "text"]),
];

/// How many of each are read as one of ours that is right for it.
///
/// # Errors
/// The file is another one.
pub fn table(classifier: &Classifier, file: &str) -> Result<Table> {
    let note = "Nothing was tuned on these. Read as: what most of the others are taken for.";
    let mut table = Table::new("PartiPrompts", note, &["their category", "prompts", "ours", "right %", "read as"]);
    let prompts: Vec<(&str, &str)> = file
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split('\t');
            Some((columns.next()?, columns.next()?))
        })
        .collect();
    for (theirs, ours) in SAME {
        let mut read: Vec<String> = prompts
            .iter()
            .filter(|(_, category)| *category == theirs)
            .map(|(prompt, _)| classifier.read(&prompts::call(prompt, Size::Auto)).category)
            .collect();
        if read.is_empty() {
            return Err(format!("no prompt is in the category {theirs}: is this PartiPrompts.tsv?").into());
        }
        let all = read.len();
        read.retain(|category| !ours.contains(&category.as_str()));
        let most =
            read.iter().max_by_key(|category| (read.iter().filter(|other| other == category).count(), *category));
        table.row(vec![
            text(theirs),
            count(all as u32),
            text(ours.join(", ")),
            Cell::Number(100.0 * (all - read.len()) as f64 / all as f64, 1),
            most.map_or(Cell::Empty, |most| text(most.clone())),
        ]);
    }
    Ok(table)
}
