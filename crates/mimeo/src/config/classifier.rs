//! `[classifier]`: how requests are read for what they are for and what they show, before a route is chosen.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;

/// Longest name of a purpose or a category, in characters: as long as the API takes them.
const LONGEST_NAME: usize = 64;

/// How requests are read for what they are for and what they show. See `docs/classifier.md`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Classifier {
    /// False reads nothing: then only what callers say themselves counts.
    pub enabled: bool,
    /// A vision-language model behind an OpenAI-compatible API that reads requests in place of the lists of words.
    pub endpoint: Option<Endpoint>,
    /// What you know better. The first rule that matches a request goes before everything but the caller's own
    /// `purpose` and `category`.
    pub rules: Vec<Rule>,
}

impl Default for Classifier {
    fn default() -> Self {
        Classifier { enabled: true, endpoint: None, rules: Vec::new() }
    }
}

/// A vision-language model that reads requests. What it costs is between you and it: no ledger here knows of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The address that `/chat/completions` is appended to, such as `http://127.0.0.1:11434/v1`.
    pub url: String,
    /// The model, as the server names it.
    pub model: String,
    /// Its key, if it wants one: `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub api_key: Option<SecretRef>,
    /// How long a request waits for it, in milliseconds (50–10000). Then, and whenever it fails, the lists of words
    /// are used.
    #[serde(default = "patience")]
    pub deadline_ms: u32,
}

const fn patience() -> u32 {
    800
}

/// What some requests are, whatever else they look like.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// What it is called where readings are explained. By default its number, counted from 1.
    pub name: Option<String>,
    /// Which requests it is about: all that is said here must hold.
    pub when: When,
    /// What the picture is for: `hero`, `thumbnail`, `draft`, `standard`, `premium`, or a word of your own.
    pub purpose: Option<String>,
    /// What it shows: `glass`, `people`, `product` …, or a word of your own.
    pub category: Option<String>,
    /// What is behind it: `plain`, `simple`, `complex` or `unknown`.
    pub background: Option<Background>,
    /// How much of what a model can do it needs, 0–1. Up to 0.3 half of the steps do, from 0.7 on all are taken.
    pub complexity: Option<f32>,
    /// The steps to take, within what the model takes.
    pub steps: Option<u32>,
}

/// Which requests a rule is about. All that is said must hold; of lists, one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Words or phrases of which one stands in the prompt, whatever its case. `*` in a word is any letters, also none:
    /// `"glass bottle"`, `"perfume*"`, `"*flasche"`.
    pub prompt_matches: Vec<String>,
    /// At least so many pixels were asked for. Does not hold for `auto`.
    pub min_pixels: Option<u64>,
    /// At most so many pixels were asked for. Does not hold for `auto`.
    pub max_pixels: Option<u64>,
    /// The caller says this purpose.
    pub purpose: Option<String>,
    /// The caller says this category.
    pub category: Option<String>,
    /// The model or route that the caller names.
    pub model: Option<String>,
    /// The name of the caller's key.
    pub key: Option<String>,
    /// The caller's tenant.
    pub tenant: Option<String>,
    /// True: pictures were sent along. False: none were.
    pub reference: Option<bool>,
    /// The caller's own labels: each of these, with this value.
    pub metadata: BTreeMap<String, String>,
}

/// What is behind the subject of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Background {
    /// One even colour, or nothing.
    Plain,
    /// Smooth: a gradient, a soft shadow, a blur.
    Simple,
    /// A scene or a texture.
    Complex,
    /// Nobody can tell.
    #[default]
    Unknown,
}

impl Background {
    /// All of them.
    pub const ALL: [Background; 4] = [Background::Plain, Background::Simple, Background::Complex, Background::Unknown];

    /// The word for it: `plain`, `simple`, `complex` or `unknown`.
    pub const fn name(self) -> &'static str {
        match self {
            Background::Plain => "plain",
            Background::Simple => "simple",
            Background::Complex => "complex",
            Background::Unknown => "unknown",
        }
    }

    /// The background of that name.
    pub fn from_name(name: &str) -> Option<Background> {
        Background::ALL.into_iter().find(|background| background.name() == name)
    }
}

impl Rule {
    /// What it is called: its name, else `rule N`, with its place counted from 0.
    pub fn title(&self, place: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("rule {}", place + 1))
    }
}

/// What is wrong with `settings`, one sentence per fault.
pub(super) fn faults(settings: &Classifier) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(endpoint) = &settings.endpoint {
        match reqwest::Url::parse(&endpoint.url) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") || url.query().is_some() => faults
                .push("endpoint.url must begin with http:// or https:// and end before /chat/completions".to_owned()),
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                faults.push("endpoint.url must not hold credentials; use endpoint.api_key".to_owned());
            }
            Ok(_) => {}
            Err(error) => {
                faults.push(format!("endpoint.url is no address ({error}); begin it with http:// or https://"));
            }
        }
        if endpoint.model.trim().is_empty() {
            faults.push("endpoint.model is empty; name the model as its server does".to_owned());
        }
        if !(50..=10_000).contains(&endpoint.deadline_ms) {
            faults.push(format!("endpoint.deadline_ms = {} is not between 50 and 10000", endpoint.deadline_ms));
        }
    }
    for (place, rule) in settings.rules.iter().enumerate() {
        faults.extend(faults_of(rule).into_iter().map(|fault| format!("{}: {fault}", rule.title(place))));
    }
    faults
}

fn faults_of(rule: &Rule) -> Vec<String> {
    let mut faults = Vec::new();
    let Rule { name: _, when, purpose, category, background, complexity, steps } = rule;
    if *when == When::default() {
        faults.push("`when` is empty, so it would match every request; say which ones it is about".to_owned());
    }
    if let (Some(min), Some(max)) = (when.min_pixels, when.max_pixels)
        && min > max
    {
        faults.push(format!("when.min_pixels = {min} is more than when.max_pixels = {max}, so it never matches"));
    }
    if purpose.is_none() && category.is_none() && background.is_none() && complexity.is_none() && steps.is_none() {
        faults.push("says nothing; set purpose, category, background, complexity or steps".to_owned());
    }
    for (field, name) in [("purpose", purpose), ("category", category)] {
        if let Some(name) = name
            && (name.trim().is_empty() || name.chars().count() > LONGEST_NAME)
        {
            faults.push(format!("{field} must have 1 to {LONGEST_NAME} characters"));
        }
    }
    if complexity.is_some_and(|complexity| !(0.0..=1.0).contains(&complexity)) {
        faults.push("complexity must be between 0 and 1".to_owned());
    }
    if *steps == Some(0) {
        faults.push("steps = 0 makes no picture; leave it out or raise it".to_owned());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        faults(&toml::from_str(text).unwrap())
    }

    #[test]
    fn what_is_right_has_no_faults() {
        let text = "[endpoint]\nurl = 'http://127.0.0.1:11434/v1'\nmodel = 'm'\napi_key = { env = 'KEY' }\n\
                    [[rules]]\nwhen = { prompt_matches = ['glass bottle', 'perfume*'] }\ncategory = 'glass'\n\
                    [[rules]]\nname = 'small'\nwhen = { max_pixels = 65536 }\npurpose = 'thumbnail'\nsteps = 20\n";
        assert_eq!(read(text), Vec::<String>::new());
        assert_eq!(read(""), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_and_what_to_do() {
        for (text, says) in [
            ("endpoint = { url = 'ftp://x/v1', model = 'm' }", "begin with http://"),
            ("endpoint = { url = 'models', model = 'm' }", "is no address"),
            ("endpoint = { url = 'https://me:1x7@h/v1', model = 'm' }", "must not hold credentials"),
            ("endpoint = { url = 'https://h/v1', model = ' ' }", "model is empty"),
            ("endpoint = { url = 'https://h/v1', model = 'm', deadline_ms = 10 }", "deadline_ms = 10"),
            ("[[rules]]\ncategory = 'glass'", "rule 1: `when` is empty"),
            ("[[rules]]\nwhen = { min_pixels = 9, max_pixels = 8 }\nsteps = 3", "never matches"),
            ("[[rules]]\nname = 'n'\nwhen = { reference = true }", "n: says nothing"),
            ("[[rules]]\nwhen = { reference = true }\ncomplexity = 1.5", "between 0 and 1"),
            ("[[rules]]\nwhen = { reference = true }\nsteps = 0", "steps = 0"),
            ("[[rules]]\nwhen = { reference = true }\npurpose = ' '", "purpose must have"),
        ] {
            let told = read(text);
            assert!(told.len() == 1 && told[0].contains(says) && !told[0].contains("1x7"), "{text}: {told:?}");
        }
    }
}
