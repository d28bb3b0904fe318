//! Checks of pictures that were paid for, and who judges them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::SecretRef;
use crate::domain::Check;

/// Checks of pictures, and what is made of what people say of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quality {
    /// True looks at every picture that was paid for; false looks at none, whatever a route says.
    pub checks: bool,
    /// After how many days feedback counts half (1-3650).
    pub half_life_days: u32,
    /// A model that looks at some pictures. It is asked in the background, and what it costs is not in the ledger.
    pub judge: Option<Judge>,
}

impl Default for Quality {
    fn default() -> Self {
        Quality { checks: true, half_life_days: 90, judge: None }
    }
}

impl Quality {
    /// After which time feedback counts half.
    pub fn half_life(&self) -> Duration {
        Duration::from_secs(u64::from(self.half_life_days) * 24 * 3600)
    }
}

/// A vision-language model behind the chat API of OpenAI.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    /// The base of its address: `/chat/completions` is put after it.
    pub url: String,
    /// The model.
    pub model: String,
    /// The key, if it wants one: `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub api_key: Option<SecretRef>,
    /// How long an answer may take, in milliseconds (100-60000).
    #[serde(default = "deadline_ms")]
    pub deadline_ms: u32,
    /// The share of stored pictures that it is shown, from 0 to 1.
    #[serde(default = "sample")]
    pub sample: f64,
}

fn deadline_ms() -> u32 {
    8000
}

fn sample() -> f64 {
    0.05
}

/// What a route does with pictures that fail a check.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteQuality {
    /// What is looked for: `blank`, `flat`, `truncated`, `size`, `placeholder`, `watermark`. By default all of them; the
    /// last two only for pictures from beyond this machine and its network.
    pub checks: Option<Vec<Check>>,
    /// What becomes of a picture that fails: `warn` (the default) gives it out with a warning, `discard` does not give it
    /// out, `next` asks the next candidate, which is paid as well.
    pub on_fail: OnFail,
}

/// What becomes of a picture that fails a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFail {
    /// It is given out with a warning. What is blank or a placeholder answers nobody else.
    #[default]
    Warn,
    /// It is not given out, and answers nobody else.
    Discard,
    /// The next candidate is asked and paid as well, within `max_spend_usd` and all budgets. If there is none, it is given out
    /// with a warning, and answers nobody else.
    Next,
}

/// The faults of `[quality]`.
pub(super) fn check(quality: &Quality, mut fault: impl FnMut(String)) {
    if !(1..=3650).contains(&quality.half_life_days) {
        fault(format!("half_life_days = {} is not between 1 and 3650", quality.half_life_days));
    }
    let Some(judge) = &quality.judge else { return };
    if !(100..=60_000).contains(&judge.deadline_ms) {
        fault(format!("judge.deadline_ms = {} is not between 100 and 60000", judge.deadline_ms));
    }
    if !(0.0..=1.0).contains(&judge.sample) {
        fault(format!("judge.sample = {} is not between 0 and 1", judge.sample));
    }
    if !(judge.url.starts_with("https://") || judge.url.starts_with("http://")) {
        fault(format!("judge.url = \"{}\" must begin with https:// or http://", judge.url));
    }
}
