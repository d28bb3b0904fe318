//! The labelled prompts: `tuned.txt` and `held-out.txt`, which say themselves what their columns mean.

use mimeo::config::Background;
use mimeo::domain::{Call, Caller, ImageRequest, RequestId, Size};
use mimeo_bench::Result;

/// Prompts with a name.
#[derive(Debug)]
pub struct Set {
    /// `tuned` or `held out`.
    pub name: &'static str,
    /// The prompts.
    pub prompts: Vec<Labelled>,
}

/// A prompt with what a careful person says of it.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// The size asked for.
    pub size: Size,
    /// What it is for.
    pub purpose: String,
    /// What it shows.
    pub category: String,
    /// What is behind it.
    pub background: Background,
    /// True if half of the steps would do.
    pub is_easy: bool,
    /// The prompt.
    pub prompt: String,
}

/// Those that the lists of words were tuned on.
pub fn tuned() -> Result<Set> {
    Ok(Set { name: "tuned", prompts: parse(include_str!("tuned.txt"))? })
}

/// Those that they were not.
pub fn held_out() -> Result<Set> {
    Ok(Set { name: "held out", prompts: parse(include_str!("held-out.txt"))? })
}

fn parse(text: &str) -> Result<Vec<Labelled>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| labelled(line).ok_or_else(|| format!("not a labelled prompt: {line}").into())).collect()
}

fn labelled(line: &str) -> Option<Labelled> {
    let mut columns = line.splitn(6, '|');
    Some(Labelled {
        size: columns.next()?.parse().ok()?,
        purpose: columns.next()?.to_owned(),
        category: columns.next()?.to_owned(),
        background: Background::from_name(columns.next()?)?,
        is_easy: match columns.next()? {
            "half" => true,
            "full" => false,
            _ => return None,
        },
        prompt: columns.next()?.to_owned(),
    })
}

impl Labelled {
    /// A request for it that says nothing else.
    pub fn call(&self) -> Call {
        call(&self.prompt, self.size)
    }
}

/// A request for `prompt` in `size` that says nothing else.
pub fn call(prompt: &str, size: Size) -> Call {
    let mut request = ImageRequest::generate(prompt);
    request.size = size;
    Call::new(RequestId::random(), Caller { tenant: "bench".into(), key: "bench".into(), pool: None }, request)
}
