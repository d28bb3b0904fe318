//! What comes out: tables, and the targets with whether they are met. The same for eyes, Markdown and programs.

use serde_json::{Map, Value, json};

/// A cell of a table.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number, shown with so many decimals.
    Number(f64, usize),
    /// Nothing to say.
    Empty,
}

impl Cell {
    fn show(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Number(number, decimals) if number.is_finite() => format!("{number:.decimals$}"),
            Cell::Number(..) | Cell::Empty => "–".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Cell::Text(text) => json!(text),
            // A number that is none has no form in JSON.
            Cell::Number(number, _) if number.is_finite() => json!(number),
            Cell::Number(..) | Cell::Empty => Value::Null,
        }
    }
}

/// A cell of words.
pub fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

/// A cell with a whole number.
pub fn count(number: impl Into<f64>) -> Cell {
    Cell::Number(number.into(), 0)
}

/// A cell with milliseconds.
pub fn ms(number: f64) -> Cell {
    Cell::Number(number, 3)
}

/// A table with a title and a remark.
#[derive(Clone, Debug)]
pub struct Table {
    title: &'static str,
    note: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new(title: &'static str, note: impl Into<String>, columns: &[&'static str]) -> Self {
        Self { title, note: note.into(), columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Appends a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// True if no row was added.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For terminals.
    pub fn plain(&self) -> String {
        let lines = self.aligned();
        let rule = "-".repeat(lines.first().map_or(0, |line| line.chars().count()));
        let mut out = format!("{}\n", self.title);
        for (index, line) in lines.iter().enumerate() {
            out += &format!("  {}\n", line.trim_end());
            if index == 0 {
                out += &format!("  {rule}\n");
            }
        }
        if !self.note.is_empty() {
            out += &format!("  {}\n", self.note);
        }
        out
    }

    /// For documents.
    pub fn markdown(&self) -> String {
        let mut out = format!("### {}\n\n| {} |\n|", self.title, self.columns.join(" | "));
        for column in 0..self.columns.len() {
            out += if self.is_numeric(column) { "---:|" } else { "---|" };
        }
        out.push('\n');
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(Cell::show).collect();
            out += &format!("| {} |\n", cells.join(" | "));
        }
        if !self.note.is_empty() {
            out += &format!("\n{}\n", self.note);
        }
        out
    }

    /// For programs: one object per row.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let cells = self.columns.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), cell.json()));
                Value::Object(cells.collect::<Map<_, _>>())
            })
            .collect();
        json!({ "title": self.title, "note": self.note, "rows": rows })
    }

    fn is_numeric(&self, column: usize) -> bool {
        self.rows.iter().any(|row| matches!(row.get(column), Some(Cell::Number(..))))
    }

    fn aligned(&self) -> Vec<String> {
        let head = self.columns.iter().map(|column| (*column).to_owned()).collect();
        let rows: Vec<Vec<String>> =
            std::iter::once(head).chain(self.rows.iter().map(|row| row.iter().map(Cell::show).collect())).collect();
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if self.is_numeric(column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            cells.collect::<Vec<_>>().join("  ")
        };
        rows.iter().map(line).collect()
    }
}

/// How a target came out.
#[derive(Clone, Debug)]
pub struct Check {
    what: String,
    found: String,
    /// `None`: it could not be measured.
    met: Option<bool>,
}

impl Check {
    /// A target that `met` says was met, with what was found.
    pub fn new(what: impl Into<String>, found: impl Into<String>, met: bool) -> Self {
        Self { what: what.into(), found: found.into(), met: Some(met) }
    }

    /// A target that could not be measured, and why.
    pub fn skipped(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), found: why.into(), met: None }
    }

    /// False if the target was measured and missed.
    pub fn is_fine(&self) -> bool {
        self.met != Some(false)
    }

    /// One line.
    pub fn line(&self) -> String {
        let verdict = match self.met {
            Some(true) => "PASS",
            Some(false) => "FAIL",
            None => "SKIPPED",
        };
        format!("{verdict}  {}: {}", self.what, self.found)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({ "target": self.what, "found": self.found, "met": self.met })
    }
}

/// The middle of `values`.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value that `share` of `values` do not exceed.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = last as f64 * share;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}
