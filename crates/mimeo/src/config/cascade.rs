//! `[routes.NAME.cascade]`: a draft first, the final later.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Choice;

/// A draft first: fast and cheap. The route's own candidates make the final, from the same prompt, seed and pictures.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cascade {
    /// Who makes the draft: candidates as in `candidates`, in the order in which they are tried, or the name of one
    /// other route.
    pub draft: Vec<Choice>,
    /// When the final is made: when somebody asks for it (`approval`, which is what leaving it out means), at once if the draft fails its checks
    /// (`on_fail`), or at once if it passes them (`on_pass`).
    #[serde(default)]
    pub finalize: Finalize,
    /// How long a draft can be made final, in seconds (60–2592000). What was asked for is kept for that time, the
    /// prompt and the pictures that were sent with it included.
    #[serde(default = "day")]
    pub finalize_within_s: u32,
}

/// When the final is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finalize {
    /// When somebody asks for it.
    #[default]
    Approval,
    /// At once, if the draft fails its checks.
    OnFail,
    /// At once, if the draft passes its checks.
    OnPass,
}

const fn day() -> u32 {
    24 * 3600
}

impl Cascade {
    /// What is wrong with it, and what to do.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.draft.is_empty() {
            faults.push("cascade.draft is empty; name who makes the draft".to_owned());
        }
        let longest = 30 * day();
        if !(60..=longest).contains(&self.finalize_within_s) {
            faults.push(format!(
                "cascade.finalize_within_s = {} is not between 60 and {longest}",
                self.finalize_within_s
            ));
        }
        faults
    }
}
