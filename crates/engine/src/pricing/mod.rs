//! What a call costs: exact prices, known before the call as an upper bound and after it as a bill.
//!
//! Prices are data in the provider records; the arithmetic is here, in integers only. Nothing here knows a
//! provider, a model's capabilities or the wire: [`Wanted`] is all that a price depends on.

mod tokens;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{Format, Generated, Price, Size, Usd};
pub use tokens::{OutputTokens, TableRow, TokenRates, area_tokens};

/// How sure a price is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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

/// The prices of one model, with where they come from.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// The day on which the source was read, `YYYY-MM-DD`.
    #[schemars(with = "Option<String>")]
    pub as_of: Option<Date>,
    /// How sure they are.
    pub certainty: Certainty,
    /// Address of the page, or the words `configuration` or `simulated`.
    pub source: String,
    /// The rates themselves.
    pub rates: Rates,
}

/// The unit that is billed.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rates {
    /// Per picture, by size and quality.
    Image(Vec<ImageRate>),
    /// Per token that goes in and comes out.
    Tokens(Box<TokenRates>),
}

/// A price per picture. Conditions that are left out hold always; where several rows hold, the dearest counts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageRate {
    /// US dollars per picture.
    pub usd: Usd,
    /// Only for this size.
    pub size: Option<Size>,
    /// Only for this quality.
    pub quality: Option<String>,
}

/// Everything about a call that its price depends on.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Size in pixels; `Auto` lets the model choose, and so is priced as the dearest that it can choose.
    pub size: Size,
    /// Quality step; `None` lets the model choose, and so is priced as the dearest that it can choose.
    pub quality: Option<&'a str>,
    /// Encoding asked for.
    pub output_format: Option<Format>,
    /// UTF-8 bytes of all texts that are sent.
    pub text_bytes: usize,
    /// Pictures that are sent, the mask included.
    pub inputs: usize,
    /// Pictures wanted in this call.
    pub n: u32,
    /// Unfinished pictures streamed per picture.
    pub partials: u8,
}

impl Prices {
    /// One price for every picture, as an operator states it.
    pub fn flat(usd: Usd) -> Prices {
        Prices {
            as_of: None,
            certainty: Certainty::Configured,
            source: "configuration".to_owned(),
            rates: Rates::Image(vec![ImageRate { usd, size: None, quality: None }]),
        }
    }

    /// The most that the call can cost; what is reserved for it. [`Price::Unknown`] if no rate covers it.
    pub fn expected(&self, wanted: &Wanted<'_>) -> Price {
        match &self.rates {
            Rates::Image(rows) => dearest(rows, wanted).times(wanted.n),
            Rates::Tokens(rates) => rates.bound(wanted),
        }
    }

    /// What the call did cost, from the best evidence there is:
    ///
    /// 1. the amount that the provider itself states;
    /// 2. for token prices, the tokens that it reports, at this model's rates;
    /// 3. for prices per picture, the pictures that came (a provider that delivers fewer bills fewer);
    /// 4. else [`Prices::expected`]: without evidence the reservation stands, and is never understated.
    pub fn billed(&self, wanted: &Wanted<'_>, generated: &Generated) -> Price {
        if let Some(usd) = generated.billed {
            return Price::Known(usd);
        }
        match (&self.rates, generated.usage) {
            (Rates::Image(rows), _) => {
                dearest(rows, wanted).times(u32::try_from(generated.pictures.len()).unwrap_or(u32::MAX))
            }
            // Pictures without output tokens cannot be: such a usage is no evidence.
            (Rates::Tokens(rates), Some(usage)) if usage.output() > 0 || generated.pictures.is_empty() => {
                Price::Known(rates.cost(usage))
            }
            (Rates::Tokens(_), _) => self.expected(wanted),
        }
    }

    /// What is contradictory in these prices, if anything.
    pub fn fault(&self) -> Option<String> {
        match &self.rates {
            Rates::Image(rows) if rows.is_empty() => Some("rates.image has no row; leave the prices out".to_owned()),
            Rates::Image(rows) => rows
                .iter()
                .find(|row| row.usd < Usd::ZERO)
                .map(|row| format!("rates.image has the negative price {}", row.usd)),
            Rates::Tokens(rates) => rates.fault(),
        }
    }
}

/// The dearest of the rows that may hold for one picture.
fn dearest(rows: &[ImageRate], wanted: &Wanted<'_>) -> Price {
    rows.iter()
        .filter(|row| match (row.size, wanted.size) {
            (None, _) | (_, Size::Auto) => true,
            (Some(row), size) => row == size,
        })
        .filter(|row| match (row.quality.as_deref(), wanted.quality) {
            (None, _) | (_, None) => true,
            (Some(row), Some(quality)) => row == quality,
        })
        .map(|row| row.usd)
        .max()
        .map_or(Price::Unknown, Price::Known)
}

#[cfg(test)]
mod tests;
