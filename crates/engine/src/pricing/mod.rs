//! What a call costs: exact prices, known before the call as an upper bound and after it as a bill.
//!
//! Prices are data in the provider records; the arithmetic is here, in integers only. Nothing here knows a
//! provider, a model's capabilities or the wire: [`Wanted`] is all that a price depends on.

pub mod compare;
mod exact;
pub mod sheet;
mod tokens;
mod units;
mod versions;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::domain::Certainty;
use crate::domain::{Format, Generated, Price, Size, Usd};
pub use tokens::{OutputTokens, TableRow, TokenRates, TokenStep, area_tokens};
pub use units::{CreditRate, CreditRow, MegapixelRate, Round, SecondRate, StepRate, TileRate};
pub use versions::VolumeTier;

/// The prices of one model, with where they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// The day on which the source was read, `YYYY-MM-DD`.
    #[schemars(with = "Option<String>")]
    pub as_of: Option<Date>,
    /// The first day, in UTC, on which they hold, `YYYY-MM-DD`. Left out: they have always held.
    #[schemars(with = "Option<String>")]
    pub from: Option<Date>,
    /// How sure they are.
    pub certainty: Certainty,
    /// Address of the page, or the words `configuration` or `simulated`.
    pub source: String,
    /// What an asynchronous batch costs, in thousandths of these prices: 500 is half (1–1000). Left out: there is no
    /// batch, or nobody says what it costs.
    pub batch_permille: Option<u16>,
    /// Discounts by volume, the smallest volume first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<VolumeTier>,
    /// The rates themselves.
    pub rates: Rates,
}

/// The unit that is billed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rates {
    /// Per picture, by size and quality.
    Image(Vec<ImageRate>),
    /// Per token that goes in and comes out.
    Tokens(Box<TokenRates>),
    /// Per megapixel of the picture.
    Megapixel(Box<MegapixelRate>),
    /// Per sampling step.
    Step(StepRate),
    /// Per second of work, as the answer states it.
    Second(SecondRate),
    /// Per credit of the provider's own money.
    Credit(CreditRate),
}

impl Rates {
    /// What is billed, as it is called in records: `image`, `tokens`, `megapixel`, `step`, `second` or `credit`.
    pub const fn unit(&self) -> &'static str {
        match self {
            Rates::Image(_) => "image",
            Rates::Tokens(_) => "tokens",
            Rates::Megapixel(_) => "megapixel",
            Rates::Step(_) => "step",
            Rates::Second(_) => "second",
            Rates::Credit(_) => "credit",
        }
    }
}

/// A price per picture. Conditions that are left out hold always; where several rows hold, the dearest counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageRate {
    /// US dollars per picture.
    pub usd: Usd,
    /// Only for this size.
    pub size: Option<Size>,
    /// Only for this quality.
    pub quality: Option<String>,
    /// Only for pictures of up to so many pixels. Of several such rows the lowest that a picture keeps to holds.
    pub max_pixels: Option<u64>,
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
    /// The area of each picture that is sent, in pixels, the mask included.
    pub inputs: &'a [u64],
    /// Sampling steps: those asked for, else the model's default; `None` if nobody knows.
    pub steps: Option<u32>,
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
            from: None,
            certainty: Certainty::Configured,
            source: "configuration".to_owned(),
            batch_permille: None,
            tiers: Vec::new(),
            rates: Rates::Image(vec![ImageRate { usd, size: None, quality: None, max_pixels: None }]),
        }
    }

    /// The most that the call can cost; what is reserved for it. [`Price::Unknown`] if no rate covers it.
    pub fn expected(&self, wanted: &Wanted<'_>) -> Price {
        match &self.rates {
            Rates::Image(rows) => dearest(rows, wanted).times(wanted.n),
            Rates::Tokens(rates) => rates.bound(wanted),
            Rates::Megapixel(rate) => rate.price(wanted, wanted.n),
            Rates::Step(rate) => rate.price(wanted).times(wanted.n),
            Rates::Second(rate) => rate.bound().times(wanted.n),
            Rates::Credit(rate) => rate.price(wanted).times(wanted.n),
        }
    }

    /// What the call did cost, from the best evidence there is:
    ///
    /// 1. the amount that the provider itself states;
    /// 2. for token prices, the tokens that it reports, at this model's rates;
    /// 3. for prices per picture, whatever they depend on, the pictures that came (a provider that delivers fewer
    ///    bills fewer);
    /// 4. else [`Prices::expected`]: without evidence the reservation stands, and is never understated.
    pub fn billed(&self, wanted: &Wanted<'_>, generated: &Generated) -> Price {
        if let Some(usd) = generated.billed {
            return Price::Known(usd);
        }
        let came = u32::try_from(generated.pictures.len()).unwrap_or(u32::MAX);
        match (&self.rates, generated.usage) {
            (Rates::Image(rows), _) => dearest(rows, wanted).times(came),
            (Rates::Megapixel(rate), _) => rate.price(wanted, came),
            (Rates::Step(rate), _) => rate.price(wanted).times(came),
            (Rates::Credit(rate), _) => rate.price(wanted).times(came),
            (Rates::Second(_), _) => self.expected(wanted),
            // Pictures without output tokens cannot be: such a usage is no evidence.
            (Rates::Tokens(rates), Some(usage)) if usage.output() > 0 || generated.pictures.is_empty() => {
                Price::Known(rates.cost(usage))
            }
            (Rates::Tokens(_), _) => self.expected(wanted),
        }
    }

    /// True if a shorter prompt is a cheaper one.
    pub fn counts_text(&self) -> bool {
        matches!(&self.rates, Rates::Tokens(rates) if rates.text_input > Usd::ZERO)
    }

    /// US dollars per unit of what an answer states that it cost, where that unit is a second or a credit.
    pub fn per_unit(&self) -> Option<Usd> {
        match &self.rates {
            Rates::Second(rate) => Some(rate.usd),
            Rates::Credit(rate) => Some(rate.usd),
            Rates::Image(_) | Rates::Tokens(_) | Rates::Megapixel(_) | Rates::Step(_) => None,
        }
    }

    /// What is contradictory in these prices, if anything.
    pub fn fault(&self) -> Option<String> {
        let rates = match &self.rates {
            Rates::Image(rows) if rows.is_empty() => Some("rates.image has no row; leave the prices out".to_owned()),
            Rates::Image(rows) => rows
                .iter()
                .find(|row| row.usd < Usd::ZERO)
                .map(|row| format!("rates.image has the negative price {}", row.usd)),
            Rates::Tokens(rates) => rates.fault(),
            Rates::Megapixel(rate) => rate.fault(),
            Rates::Step(rate) => rate.fault(),
            Rates::Second(rate) => rate.fault(),
            Rates::Credit(rate) => rate.fault(),
        };
        rates.or_else(|| self.discount_fault())
    }
}

/// The dearest of the rows that may hold for one picture.
fn dearest(rows: &[ImageRate], wanted: &Wanted<'_>) -> Price {
    let pixels = match wanted.size {
        Size::Auto => None,
        Size::Exact(width, height) => Some(u64::from(width) * u64::from(height)),
    };
    let holding = || {
        rows.iter()
            .filter(|row| match (row.size, wanted.size) {
                (None, _) | (_, Size::Auto) => true,
                (Some(row), size) => row == size,
            })
            .filter(|row| match (row.quality.as_deref(), wanted.quality) {
                (None, _) | (_, None) => true,
                (Some(row), Some(quality)) => row == quality,
            })
            .filter(|row| row.max_pixels.is_none_or(|most| pixels.is_none_or(|pixels| pixels <= most)))
    };
    // A row without a bound stands above all that have one.
    let bound = |row: &ImageRate| row.max_pixels.unwrap_or(u64::MAX);
    let lowest = holding().map(bound).min();
    let counts = |row: &&ImageRate| pixels.is_none() || Some(bound(row)) == lowest;
    holding().filter(counts).map(|row| row.usd).max().map_or(Price::Unknown, Price::Known)
}

#[cfg(test)]
mod tests;
