//! How a fault of a record is told: where, what, and what to do about it.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// A fault of a record: where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordFault {
    /// The file.
    pub file: String,
    /// Line, counted from 1, where it can be told.
    pub line: Option<usize>,
    /// Column in that line, in characters, counted from 1.
    pub column: Option<usize>,
    /// What is wrong and what to do. Names the field.
    pub message: String,
    /// The line itself, and how many of its characters are meant.
    #[serde(skip)]
    excerpt: Option<(String, usize)>,
}

impl fmt::Display for RecordFault {
    /// One line, as compilers write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for RecordFault {}

impl RecordFault {
    /// A fault of a file as a whole.
    pub fn file(file: &str, message: impl Into<String>) -> RecordFault {
        RecordFault { file: file.to_owned(), line: None, column: None, message: message.into(), excerpt: None }
    }

    /// A fault of the bytes `span` of `text`.
    pub(in crate::providers) fn at(
        file: &str,
        text: &str,
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> RecordFault {
        let before = text.get(..span.start).unwrap_or(text);
        let begin = before.rfind('\n').map_or(0, |end| end + 1);
        let line = text.get(begin..).unwrap_or_default().lines().next().unwrap_or_default();
        let column = before.get(begin..).unwrap_or_default().chars().count();
        let meant = text.get(span.clone()).unwrap_or_default().lines().next().unwrap_or_default().chars().count();
        RecordFault {
            file: file.to_owned(),
            line: Some(before.matches('\n').count() + 1),
            column: Some(column + 1),
            message: message.into(),
            excerpt: Some((line.to_owned(), meant.max(1))),
        }
    }

    /// The line that is shown, and how many of its characters are underlined.
    #[cfg(test)]
    pub(super) fn excerpt_of(&self) -> Option<(&str, usize)> {
        self.excerpt.as_ref().map(|(text, meant)| (text.as_str(), *meant))
    }

    /// The fault for people: the message, the place, the line with the part that is meant underlined.
    pub fn drawn(&self, colored: bool) -> String {
        let paint = |code: &str, text: &str| match colored {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        };
        let mut out = format!("{}: {}\n", paint("1;31", "error"), paint("1", &self.message));
        let place: Vec<String> = [self.line, self.column].into_iter().flatten().map(|n| format!(":{n}")).collect();
        let gutter = self.line.map_or(1, |line| line.to_string().len());
        let bar = |number: &str| paint("1;34", &format!("{number:>gutter$} |"));
        out.push_str(&format!("{:gutter$}{} {}{}\n", "", paint("1;34", "-->"), self.file, place.concat()));
        if let (Some(line), Some(column), Some((text, meant))) = (self.line, self.column, &self.excerpt) {
            // A tab is one column wide here, so that the carets stand where they should.
            let text = text.replace('\t', " ");
            let carets = paint("1;31", &"^".repeat(*meant));
            out.push_str(&format!("{}\n{} {text}\n", bar(""), bar(&line.to_string())));
            out.push_str(&format!("{} {}{carets}\n", bar(""), " ".repeat(column - 1)));
        }
        out
    }
}
