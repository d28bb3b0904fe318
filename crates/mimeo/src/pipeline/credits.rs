//! Out of which purse a candidate is asked: what free or prepaid credits pay for goes before what costs money.

use super::again::Askable;
use super::{Order, Pipeline};
use crate::config::CreditUse;
use crate::error::{Error, Kind, Result};
use crate::ledger::covering;
use crate::route::Maker;

/// A candidate in its turn, by its place among those that are to be asked. One may have several: out of each pot of its
/// account's, and in money.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) place: usize,
    /// The pot of credits that is to pay; `None` is money.
    pub(super) pot: Option<String>,
}

impl Pipeline {
    /// The turns of `askable`. What is left is only read of accounts that have a plan.
    ///
    /// # Errors
    /// The route uses nothing but credits, and none are left; or the database fails.
    pub(super) async fn turns(&self, order: &Order, askable: &[Askable<'_>], count: u32) -> Result<Vec<Turn>> {
        let mut turns = Vec::new();
        let mut in_money = Vec::new();
        for (place, (candidate, _)) in askable.iter().enumerate() {
            let Maker::Provider(provider, model) = &candidate.maker else {
                // What is drawn here costs nothing, and needs no credits.
                in_money.push(Turn { place, pot: None });
                continue;
            };
            if order.plan.settings.credits != CreditUse::Only {
                in_money.push(Turn { place, pot: None });
            }
            if order.plan.settings.credits == CreditUse::Ignore || !self.ledger.credits().has(&provider.name) {
                continue;
            }
            // As many as one call makes: what a pot does not cover of the rest goes on from there.
            let n = count.min(model.max_n.max(1));
            let price = self.prices.expected(provider, model, &candidate.request, n, order.partials());
            let pots = covering(price, n, self.ledger.credits_left(&provider.name).await?);
            if let Some(first) = pots.first() {
                order.notes.read(format!("{}: goes first, with {}", candidate.name, first.words()));
            }
            // Who comes too late for the first finds out when it is asked for.
            turns.extend(pots.into_iter().map(|pot| Turn { place, pot: Some(pot.pot) }));
        }
        turns.extend(in_money);
        if turns.is_empty() {
            return Err(no_credits(&order.plan.route));
        }
        Ok(turns)
    }
}

fn no_credits(route: &str) -> Error {
    let message = format!(
        "{route} uses free and prepaid credits only, and none of its candidates has enough left for this. `mimeo credits` \
         says when there are more."
    );
    Error::new(Kind::OverBudget, message).code("credits_spent")
}
