//! Which prices hold on which day, after how many pictures, and for a batch.

use std::borrow::Cow;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CreditRate, ImageRate, MegapixelRate, Prices, Rates, SecondRate, StepRate, TileRate, TokenRates};
use crate::domain::Usd;

/// A discount by volume. It holds for the pictures that come after so many, not for those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeTier {
    /// How many pictures of the calendar month (UTC) are paid for at the price above before this one holds; 1 or more.
    pub after_pictures: u64,
    /// What further pictures cost, in thousandths of the price: 900 is a tenth off (0–1000).
    pub permille: u16,
}

/// `permille` thousandths of `usd`, rounded up to the next pico-dollar: a bound must not be too small.
fn part(usd: Usd, permille: u16) -> Usd {
    let whole = usd.pico().saturating_mul(i128::from(permille));
    Usd::from_pico(whole.div_euclid(1000) + i128::from(whole.rem_euclid(1000) > 0))
}

impl Rates {
    /// These rates at `permille` thousandths, each rounded up to the next pico-dollar.
    #[must_use]
    pub fn at(&self, permille: u16) -> Rates {
        let of = |usd: Usd| part(usd, permille);
        match self {
            Rates::Image(rows) => {
                Rates::Image(rows.iter().map(|row| ImageRate { usd: of(row.usd), ..row.clone() }).collect())
            }
            Rates::Tokens(rates) => Rates::Tokens(Box::new(TokenRates {
                text_input: of(rates.text_input),
                image_input: of(rates.image_input),
                image_output: of(rates.image_output),
                text_output: rates.text_output.map(of),
                ..TokenRates::clone(rates)
            })),
            Rates::Megapixel(rate) => Rates::Megapixel(Box::new(MegapixelRate {
                usd: of(rate.usd),
                first: rate.first.map(of),
                input: rate.input.map(of),
                ..MegapixelRate::clone(rate)
            })),
            Rates::Step(rate) => Rates::Step(StepRate {
                usd: of(rate.usd),
                tile: rate.tile.map(|tile| TileRate { usd: of(tile.usd), ..tile }),
                ..rate.clone()
            }),
            Rates::Second(rate) => Rates::Second(SecondRate { usd: of(rate.usd), ..rate.clone() }),
            Rates::Credit(rate) => Rates::Credit(CreditRate { usd: of(rate.usd), ..rate.clone() }),
        }
    }
}

impl Prices {
    /// What the next picture costs after `pictures` of this calendar month: these prices, at the last tier that is
    /// reached. A call that crosses a step counts as before it throughout.
    pub fn after(&self, pictures: u64) -> Cow<'_, Prices> {
        let reached = self.tiers.iter().filter(|tier| tier.after_pictures <= pictures);
        match reached.max_by_key(|tier| tier.after_pictures) {
            None => Cow::Borrowed(self),
            Some(tier) => Cow::Owned(Prices { rates: self.rates.at(tier.permille), tiers: Vec::new(), ..self.clone() }),
        }
    }

    /// What the same costs in an asynchronous batch, if there is such a price.
    pub fn batched(&self) -> Option<Prices> {
        let permille = self.batch_permille?;
        Some(Prices { rates: self.rates.at(permille), batch_permille: None, ..self.clone() })
    }

    /// Of several versions the one that holds on `day`: the last that has begun. One without `from` has always held.
    pub fn in_force<'a>(versions: impl IntoIterator<Item = &'a Prices>, day: Date) -> Option<&'a Prices> {
        let begun = versions.into_iter().filter(|prices| prices.from.is_none_or(|from| from <= day));
        begun.max_by_key(|prices| prices.from)
    }

    /// What is contradictory in the tiers and the batch discount, if anything.
    pub(super) fn discount_fault(&self) -> Option<String> {
        if let Some(permille) = self.batch_permille.filter(|permille| !(1..=1000).contains(permille)) {
            return Some(format!("batch_permille = {permille} is not between 1 and 1000; 500 is half the price"));
        }
        let mut before = 0;
        for tier in &self.tiers {
            if tier.after_pictures <= before {
                return Some("tiers: after_pictures must be 1 or more, and grow from tier to tier".to_owned());
            }
            if tier.permille > 1000 {
                let permille = tier.permille;
                return Some(format!("tiers: permille = {permille} is more than the whole price, which is 1000"));
            }
            before = tier.after_pictures;
        }
        None
    }
}
