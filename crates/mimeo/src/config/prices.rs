//! Where prices come from beside the catalogue.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

/// Where prices come from beside the catalogue, and when a bill is not what it should be.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PriceSources {
    /// Files of prices (see `docs/prices.md`) that are laid over the catalogue at start, each over those before it.
    pub files: Vec<PathBuf>,
    /// How far a bill may be from the exact price that was expected, in thousandths of it (1–1000). Three bills in a
    /// row beyond that are a new price.
    pub tolerance_permille: u32,
    /// A feed that makes a price dearer or cheaper by more than this factor is not believed (2–1000000).
    pub suspect_factor: u32,
    /// Lists of prices that are looked at again and again while the gateway serves, each a `[[prices.feeds]]` with
    /// `url` or `file`, `format` (`litellm`, `openrouter`, `json`, `csv`), `map` and `every_s` (3600); see
    /// `docs/drift.md`.
    pub feeds: Vec<Feed>,
}

impl Default for PriceSources {
    fn default() -> Self {
        PriceSources { files: Vec::new(), tolerance_permille: 20, suspect_factor: 10, feeds: Vec::new() }
    }
}

/// A list of prices that is looked at again and again.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Its address: `https://…`, or `http://…` on this machine. Either this or `file`.
    pub url: Option<String>,
    /// A file in its place.
    pub file: Option<PathBuf>,
    /// What it is written in.
    pub format: FeedFormat,
    /// Where things stand in it, for `json` and `csv`: `{ model = "name", price = "cost.usd" }`. The keys are those of
    /// `mimeo prices diff --map`.
    #[serde(default)]
    pub map: BTreeMap<String, String>,
    /// How often it is looked at, in seconds, at least 1.
    #[serde(default = "hourly")]
    pub every_s: u32,
}

/// What a list of prices is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FeedFormat {
    /// The price list of LiteLLM.
    Litellm,
    /// The list of models of OpenRouter.
    Openrouter,
    /// Any other JSON.
    Json,
    /// Lines with a header, separated by commas.
    Csv,
}

impl FeedFormat {
    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            FeedFormat::Litellm => "litellm",
            FeedFormat::Openrouter => "openrouter",
            FeedFormat::Json => "json",
            FeedFormat::Csv => "csv",
        }
    }
}

const fn hourly() -> u32 {
    3600
}

impl Feed {
    /// As it is called in the history and in alerts: its address without what may be secret, or its file.
    pub fn name(&self) -> String {
        match (&self.url, &self.file) {
            (Some(url), _) => {
                let bare = url.split(['?', '#']).next().unwrap_or_default();
                let (scheme, rest) = bare.split_once("://").unwrap_or(("", bare));
                let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let host = host.rsplit('@').next().unwrap_or_default();
                if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
            }
            (None, Some(file)) => file.display().to_string(),
            (None, None) => "a feed without a place".to_owned(),
        }
    }
}

impl PriceSources {
    /// What is wrong with it, if anything.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=1000).contains(&self.tolerance_permille) {
            faults.push(format!("tolerance_permille = {} is not between 1 and 1000", self.tolerance_permille));
        }
        if !(2..=1_000_000).contains(&self.suspect_factor) {
            faults.push(format!("suspect_factor = {} is not between 2 and 1000000", self.suspect_factor));
        }
        let names: Vec<String> = self.feeds.iter().map(Feed::name).collect();
        for (index, feed) in self.feeds.iter().enumerate() {
            let name = feed.name();
            if names.iter().take(index).any(|other| *other == name) {
                faults.push(format!(
                    "feeds: two are called {name}, since what is behind `?` is shown nowhere, and what they say could not be \
                     told apart"
                ));
            }
            if !feed.map.is_empty() && matches!(feed.format, FeedFormat::Litellm | FeedFormat::Openrouter) {
                faults.push(format!(
                    "feeds: {name} is read as {} without a map; leave map out, or say format = \"json\"",
                    feed.format.name()
                ));
            }
            match (&feed.url, &feed.file) {
                (Some(_), None) | (None, Some(_)) => {}
                _ => faults.push("feeds: each has either a url or a file".to_owned()),
            }
            let has_user = |url: &Url| !url.username().is_empty() || url.password().is_some();
            if feed.url.as_ref().is_some_and(|url| url.parse().is_ok_and(|url| has_user(&url))) {
                faults.push(format!(
                    "feeds: the address of {} holds a user or a password, which is not sent; put what it asks for behind a \
                     `?`, or fetch it into a file and name that",
                    feed.name()
                ));
            }
            if feed.every_s == 0 {
                faults.push(format!("feeds: every_s of {name} must be at least 1"));
            }
        }
        faults
    }
}
