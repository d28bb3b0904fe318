//! How sure a fact is that somebody else decides.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How sure a price is, or another fact about a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// Read in the vendor's own text, or in two independent dated copies of it.
    Verified,
    /// One third party says so.
    Reported,
    /// From memory, or computed from something recalled.
    Recalled,
    /// Written by the operator into the configuration.
    Configured,
}

impl Certainty {
    /// The word used in tables and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Certainty::Verified => "verified",
            Certainty::Reported => "reported",
            Certainty::Recalled => "recalled",
            Certainty::Configured => "configured",
        }
    }
}
