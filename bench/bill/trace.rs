//! A trace: requests in the order in which they come, and their form on disk.

use std::path::Path;

use mimeo_bench::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One request, as an application makes it. On disk: one JSON object per line, sorted by `at_ms`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// When, in milliseconds from the beginning. Requests of the same moment are sent at once.
    pub at_ms: u64,
    /// What is to be seen.
    pub prompt: String,
    /// `WIDTHxHEIGHT`.
    pub size: String,
    /// What for: `hero`, `thumbnail`, `social`, `card`. Anything else is treated as a hero, the most demanding. Without
    /// a purpose and without a tier, nobody judges whether the picture is good enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// What kind of thing it shows. `glass`, `jewelry` and `fashion` are delicate, see [`crate::truth`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// `plain`, or anything else for a background that has to be drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
    /// `draft`, `standard` or `premium`; passed on where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_tier: Option<String>,
    /// The template that could draw it, with its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What the template is filled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Who asks; passed on as `user`, which does not tell pictures apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// True if the caller gives up before the answer is there, and asks again at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub impatient: bool,
}

/// Reads a trace.
///
/// # Errors
/// The file cannot be read, a line is no request, or it is earlier than the one before it.
pub fn read(path: &Path) -> Result<Vec<Request>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|why| format!("{}, {why}", path.display()).into())
}

fn parse(text: &str) -> std::result::Result<Vec<Request>, String> {
    let mut requests: Vec<Request> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let request: Request = serde_json::from_str(line).map_err(|error| format!("line {}: {error}", index + 1))?;
        if requests.last().is_some_and(|last| last.at_ms > request.at_ms) {
            return Err(format!("line {}: at_ms is earlier than in the line before it. Sort the lines", index + 1));
        }
        requests.push(request);
    }
    if requests.is_empty() { Err("no line holds a request".to_owned()) } else { Ok(requests) }
}

/// The lines of a trace.
///
/// # Errors
/// A request has no form in JSON, which does not happen.
pub fn write(requests: &[Request]) -> Result<String> {
    let mut text = String::new();
    for request in requests {
        text += &serde_json::to_string(request)?;
        text.push('\n');
    }
    Ok(text)
}

/// What a trace is made of, counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Of requests that ask for a picture which was asked for at an earlier moment.
    pub again: f64,
    /// Of requests that come at the same moment as another for the same picture, the first one not counted.
    pub crowded: f64,
    /// Of callers who give up and ask again.
    pub impatient: f64,
    /// Of requests with a plain background.
    pub plain: f64,
    /// Different pictures.
    pub pictures: usize,
}

impl Shares {
    /// Counts. Two requests are for the same picture if prompt (but for white space at its ends) and size are the same.
    pub fn of(requests: &[Request]) -> Self {
        let mut last_seen = std::collections::HashMap::new();
        let (mut again, mut crowded, mut impatient, mut plain) = (0_usize, 0_usize, 0_usize, 0_usize);
        for request in requests {
            match last_seen.insert((request.prompt.trim(), request.size.as_str()), request.at_ms) {
                Some(at) if at == request.at_ms => crowded += 1,
                Some(_) => again += 1,
                None => {}
            }
            impatient += usize::from(request.impatient);
            plain += usize::from(request.background.as_deref() == Some("plain"));
        }
        let share = |count: usize| count as f64 / requests.len().max(1) as f64;
        Self {
            again: share(again),
            crowded: share(crowded),
            impatient: share(impatient),
            plain: share(plain),
            pictures: last_seen.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_survives_the_disk() {
        let recipe = crate::recipe::Recipe { requests: 300, seed: 3, mix: crate::recipe::MONTH, repeats: 0.5 };
        let requests = recipe.trace();
        assert_eq!(parse(&write(&requests).unwrap()).unwrap(), requests);
    }

    #[test]
    fn little_is_asked_of_a_line_and_faults_name_it() {
        let least = "{\"at_ms\":5,\"prompt\":\"a kite\",\"size\":\"64x64\"}\n";
        assert_eq!(parse(least).unwrap()[0].purpose, None);
        assert!(parse(&format!("{least}\n{{\"at_ms\":6}}")).unwrap_err().starts_with("line 3: missing field"));
        let early = least.replace('5', "4");
        assert!(parse(&format!("{least}{early}")).unwrap_err().starts_with("line 2: at_ms is earlier"));
        assert!(parse(&least.replace("size", "sise")).unwrap_err().contains("unknown field"));
        assert!(parse("\n").is_err());
    }

    #[test]
    fn the_first_of_a_crowd_is_no_repetition() {
        let one = |at_ms, prompt: &str| Request {
            at_ms,
            prompt: prompt.to_owned(),
            ..serde_json::from_str("{\"at_ms\":0,\"prompt\":\"\",\"size\":\"8x8\"}").unwrap()
        };
        let shares = Shares::of(&[one(1, "a"), one(1, "a"), one(1, "a"), one(2, "b"), one(3, "a ")]);
        assert_eq!((shares.crowded, shares.again, shares.pictures), (0.4, 0.2, 2));
    }
}
