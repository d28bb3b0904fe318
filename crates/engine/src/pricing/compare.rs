//! Two prices of the same model, rate by rate.

use serde::Serialize;

use super::{Prices, Rates, Wanted, dearest};
use crate::domain::{Size, Usd};

/// One rate, as two sources have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Term {
    /// What it is the price of: `picture`, `picture, high, 1024x1024`, `token of a picture made`, …
    pub of: String,
    /// US dollars for one, as it is known.
    pub known: Option<Usd>,
    /// US dollars for one, as it is said.
    pub said: Option<Usd>,
}

impl Term {
    /// By how much what is said differs from what is known, in ten-thousandths of what is known, rounded towards zero.
    /// `None` if either is not there, or what is known is nothing and the other is not.
    pub fn difference(&self) -> Option<i128> {
        match (self.known?, self.said?) {
            (known, said) if known == said => Some(0),
            (Usd::ZERO, _) => None,
            (known, said) => Some((said - known).pico().saturating_mul(10_000) / known.pico()),
        }
    }

    /// True if they are less than a ten-thousandth apart: sheets hold prices per pixel that were rounded.
    pub fn is_same(&self) -> bool {
        self.difference() == Some(0)
    }
}

/// The rates of prices by what they are the price of.
pub fn rates(prices: &Prices) -> Vec<(String, Usd)> {
    let named = |pairs: Vec<(&str, Option<Usd>)>| -> Vec<(String, Usd)> {
        pairs.into_iter().filter_map(|(of, usd)| Some((of.to_owned(), usd?))).collect()
    };
    match &prices.rates {
        Rates::Image(rows) => rows
            .iter()
            .map(|row| (condition("picture", row.quality.as_deref(), row.size, row.max_pixels), row.usd))
            .collect(),
        Rates::Tokens(rates) => named(vec![
            ("token of text sent", Some(rates.text_input)),
            ("token of a picture sent", Some(rates.image_input)),
            ("token of text written", rates.text_output),
            ("token of a picture made", Some(rates.image_output)),
        ]),
        Rates::Megapixel(rate) => named(vec![
            ("first megapixel", rate.first),
            ("megapixel", Some(rate.usd)),
            ("megapixel of a picture sent", rate.input),
        ]),
        Rates::Step(rate) => named(vec![("step", Some(rate.usd)), ("tile", rate.tile.map(|tile| tile.usd))]),
        Rates::Second(rate) => named(vec![("second", Some(rate.usd))]),
        Rates::Credit(rate) => named(vec![("credit", Some(rate.usd))]),
    }
}

/// `picture, high, 1024x1024, up to 1048576 pixels`.
fn condition(what: &str, quality: Option<&str>, size: Option<Size>, max_pixels: Option<u64>) -> String {
    let size = size.map(|size| size.to_string());
    let most = max_pixels.map(|most| format!("up to {most} pixels"));
    let parts = [Some(what.to_owned()), quality.map(str::to_owned), size, most];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What two prices of the same model say of the same things. A price per picture is looked up in what is known under the
/// conditions that the other names; a rate that only one of them has is told as that.
pub fn terms(known: &Prices, said: &Prices) -> Vec<Term> {
    if let (Rates::Image(known), Rates::Image(said)) = (&known.rates, &said.rates) {
        let term = |row: &super::ImageRate| {
            let size = match (row.size, row.max_pixels) {
                (Some(size), _) => size,
                // A strip of that area stands for all of them.
                (None, Some(most)) => Size::Exact(1, u32::try_from(most).unwrap_or(u32::MAX)),
                (None, None) => Size::Auto,
            };
            let wanted = Wanted {
                size,
                quality: row.quality.as_deref(),
                output_format: None,
                text_bytes: 0,
                inputs: &[],
                steps: None,
                n: 1,
                partials: 0,
            };
            Term {
                of: condition("picture", row.quality.as_deref(), row.size, row.max_pixels),
                known: dearest(known, &wanted).known(),
                said: Some(row.usd),
            }
        };
        return said.iter().map(term).collect();
    }
    let mut terms: Vec<Term> =
        rates(known).into_iter().map(|(of, usd)| Term { of, known: Some(usd), said: None }).collect();
    for (of, usd) in rates(said) {
        match terms.iter_mut().find(|term| term.of == of) {
            Some(term) => term.said = Some(usd),
            None => terms.push(Term { of, known: None, said: Some(usd) }),
        }
    }
    terms
}
