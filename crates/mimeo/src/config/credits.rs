//! What a route does with free and prepaid credits.

use schemars::JsonSchema;
use serde::Deserialize;

/// What a route does with what the plans of its candidates' accounts include.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CreditUse {
    /// Candidates with credits left go first; then money is spent.
    #[default]
    First,
    /// Nothing else is used: without credits the request fails, and no money is spent.
    Only,
    /// Every call counts as paid, at its price.
    Ignore,
}
