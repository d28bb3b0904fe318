//! `[requests]`: the stories of requests that are kept.

use schemars::JsonSchema;
use serde::Deserialize;

/// The story of every request: what was considered, what was tried, what it cost and saved. Shown by
/// `GET /v1/requests/{id}` and `mimeo requests`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Requests {
    /// How long stories are kept, in days. 0 keeps none.
    pub keep_days: u32,
    /// How many are kept at most; beyond, the oldest go. 0 is without bound. One takes about a kilobyte.
    pub max_rows: u64,
    /// True keeps the prompt, too. It is shown to whoever may see the story.
    pub prompts: bool,
}

impl Default for Requests {
    fn default() -> Self {
        Requests { keep_days: 30, max_rows: 1_000_000, prompts: false }
    }
}
