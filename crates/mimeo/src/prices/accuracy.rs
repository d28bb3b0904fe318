//! How far bills were from what was expected, as it is shown.

use std::collections::BTreeMap;

use serde::Serialize;

use super::LOOK_BACK_DAYS;
use crate::clock::Millis;
use crate::domain::Usd;
use crate::store::{Settled, Store, StoreError};

/// The calls of the last 30 days to one model in one quality. Only those whose price and bill are known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Accuracy {
    /// The provider's name in this gateway.
    pub provider: String,
    /// The provider's name for the model.
    pub model: String,
    /// The quality asked for; `None` is the model's default.
    pub quality: Option<String>,
    /// How many calls were settled.
    pub settled: u64,
    /// What was set aside for them.
    pub set_aside_usd: Usd,
    /// What they were thought to cost.
    pub estimated_usd: Usd,
    /// What they did cost.
    pub spent_usd: Usd,
    /// By how much more was set aside than was billed, as a part of what was billed; negative if it was less. `None` if
    /// nothing was billed.
    pub bound_error: Option<f64>,
    /// How far estimates were from bills, either way, as a part of what was billed.
    pub error: Option<f64>,
}

/// What `store` knows of the 30 days before `now`, by model and quality.
///
/// # Errors
/// The store fails.
pub async fn accuracy(store: &Store, now: Millis) -> Result<Vec<Accuracy>, StoreError> {
    let days = store.settled_since(Settled::day_of(now) - LOOK_BACK_DAYS).await?;
    let mut sums: BTreeMap<(String, String, String), (Accuracy, Usd)> = BTreeMap::new();
    for Settled { provider, model, quality, calls, bound, estimate, billed, missed, .. } in days {
        let (sum, off) = sums.entry((provider, model, quality)).or_default();
        sum.settled += calls;
        sum.set_aside_usd += bound;
        sum.estimated_usd += estimate;
        sum.spent_usd += billed;
        *off += missed;
    }
    let line = |((provider, model, quality), (sum, missed)): (_, (Accuracy, Usd))| {
        let spent = sum.spent_usd.approximate();
        let part = |usd: Usd| (spent > 0.0).then(|| usd.approximate() / spent);
        Accuracy {
            provider,
            model,
            quality: Some(quality).filter(|quality: &String| !quality.is_empty()),
            bound_error: part(sum.set_aside_usd - sum.spent_usd),
            error: part(missed),
            ..sum
        }
    };
    Ok(sums.into_iter().map(line).collect())
}
