//! A request's own limit, `max_spend_usd`, over all of its calls.

use crate::domain::{Price, Usd};
use crate::error::{Error, Kind, Result};

/// What is left to spend of a request's own limit.
#[derive(Debug)]
pub(super) struct Purse {
    limit: Option<Usd>,
    spent: Usd,
}

impl Purse {
    pub(super) fn new(limit: Option<Usd>) -> Self {
        Purse { limit, spent: Usd::ZERO }
    }

    /// Takes the most that a call may cost out of the limit.
    pub(super) fn take(&mut self, price: Price) -> Result<()> {
        let Some(limit) = self.limit else { return Ok(()) };
        let Price::Known(price) = price else {
            return Err(Error::new(Kind::OverBudget, "Nobody knows what this costs, and max_spend_usd is set.")
                .code("price_unknown")
                .param("max_spend_usd"));
        };
        if self.spent + price > limit {
            return Err(Error::new(
                Kind::OverBudget,
                format!(
                    "This may cost up to ${price}{}, and max_spend_usd is {limit}. Nothing more was sent.",
                    if self.spent.is_zero() { String::new() } else { format!(" on top of ${}", self.spent) }
                ),
            )
            .code("max_spend_exceeded")
            .param("max_spend_usd"));
        }
        self.spent += price;
        Ok(())
    }

    /// Puts back what was taken for a call that cost nothing.
    pub(super) fn put_back(&mut self, price: Price) {
        self.settle(price, Price::FREE);
    }

    /// Puts what a call did cost in the place of what was taken for it.
    pub(super) fn settle(&mut self, price: Price, cost: Price) {
        let taken = price.known().unwrap_or(Usd::ZERO);
        self.spent += cost.known().unwrap_or(taken) - taken;
    }
}
