//! What was looked at, what was found, and what to do: one line each.

use serde::Serialize;

use super::models::Replacement;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Nothing is to be done.
    Good,
    /// It works, and may not for long, or not as meant.
    Warning,
    /// It does not work.
    Broken,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What kind of thing: `key`, `reach`, `disk` and so on.
    pub(super) check: &'static str,
    /// Which one.
    pub(super) of: String,
    /// What was found.
    pub(super) found: String,
    /// What to do; absent if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) todo: Option<String>,
    /// What could take the place of a model that goes, the cheapest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) replacements: Vec<Replacement>,
}

impl Finding {
    pub(super) fn good(check: &'static str, of: &str, found: impl Into<String>) -> Finding {
        let (of, found) = (of.to_owned(), found.into());
        Finding { level: Level::Good, check, of, found, todo: None, replacements: Vec::new() }
    }

    pub(super) fn warning(check: &'static str, of: &str, found: impl Into<String>, todo: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, todo: Some(todo.into()), ..Finding::good(check, of, found) }
    }

    pub(super) fn broken(check: &'static str, of: &str, found: impl Into<String>, todo: impl Into<String>) -> Finding {
        Finding { level: Level::Broken, todo: Some(todo.into()), ..Finding::good(check, of, found) }
    }

    fn mark(&self) -> (char, &'static str) {
        match self.level {
            Level::Good => ('✓', "\u{1b}[32m"),
            Level::Warning => ('!', "\u{1b}[33m"),
            Level::Broken => ('✗', "\u{1b}[31m"),
        }
    }
}

/// Replacements that are shown; `--json` has them all.
const SHOWN: usize = 5;

/// The findings for people, in the order in which they were made.
pub(super) fn text(findings: &[Finding], is_coloured: bool) -> String {
    let width = |part: fn(&Finding) -> usize| findings.iter().map(part).max().unwrap_or(0);
    let (checks, names) = (width(|f| f.check.chars().count()), width(|f| f.of.chars().count()).min(28));
    let mut out = String::new();
    for finding in findings {
        let (mark, colour) = finding.mark();
        let mark = if is_coloured { format!("{colour}{mark}\u{1b}[0m") } else { mark.to_string() };
        let todo = finding.todo.as_ref().map(|todo| format!(" → {todo}")).unwrap_or_default();
        out.push_str(&format!("{mark} {:checks$}  {:names$}  {}{todo}\n", finding.check, finding.of, finding.found));
        for one in finding.replacements.iter().take(SHOWN) {
            out.push_str(&format!("    {}\n", one.words()));
        }
        if finding.replacements.len() > SHOWN {
            out.push_str(&format!("    and {} more (--json has them all)\n", finding.replacements.len() - SHOWN));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_and_lines_for_everybody() {
        let findings = [
            Finding::good("key", "studio", "it is accepted"),
            Finding::broken("disk", "./data", "9 MiB are free", "Make room."),
        ];
        let plain = text(&findings, false);
        assert_eq!(plain, "✓ key   studio  it is accepted\n✗ disk  ./data  9 MiB are free → Make room.\n");
        assert!(text(&findings, true).starts_with("\u{1b}[32m✓\u{1b}[0m key "));
    }
}
