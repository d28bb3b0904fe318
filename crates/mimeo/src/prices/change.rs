//! A change of a price as it is written into the history, and in words.

use serde::{Deserialize, Serialize};

use super::drift::Ratio;
use crate::domain::Usd;
use crate::pricing::{ImageRate, Prices, Rates};

/// The source of changes that were learned from bills.
pub(super) const BILLS: &str = "bills";

/// What holds from some time on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Change {
    /// These prices, whatever the catalogue says.
    Prices(Box<Prices>),
    /// So much more or less than the prices with that fingerprint say; it is void when they are others.
    Bills {
        /// How much.
        ratio: Ratio,
        /// Of which prices.
        of: String,
    },
    /// What the catalogue or a feed says.
    Listed,
    /// Nobody knows.
    Unknown,
}

impl Change {
    pub(super) fn to_json(&self) -> String {
        // Nothing in it can fail to be JSON: no map has keys that are not text.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn prices(prices: Option<&Prices>) -> Change {
        prices.map_or(Change::Unknown, |prices| Change::Prices(Box::new(prices.clone())))
    }
}

/// What tells prices apart, whoever says them and when.
pub(super) fn fingerprint(prices: &Prices) -> String {
    let rates = serde_json::to_vec(&prices.rates).unwrap_or_default();
    blake3::hash(&rates).to_hex().chars().take(16).collect()
}

/// A change as it is written, in words.
pub fn in_words(json: &str) -> String {
    match serde_json::from_str(json) {
        Ok(Change::Prices(prices)) => words(&prices.rates),
        Ok(Change::Bills { ratio: Ratio { billed, expected }, .. }) => {
            format!("${billed} for what is listed at ${expected}")
        }
        Ok(Change::Listed) => "as listed".to_owned(),
        Ok(Change::Unknown) => "unknown".to_owned(),
        Err(_) => json.to_owned(),
    }
}

/// Rates in few words: the cheapest and the dearest.
pub(super) fn words(rates: &Rates) -> String {
    let span = |rows: &[ImageRate]| {
        let all = || rows.iter().map(|row| row.usd);
        match (all().min(), all().max()) {
            (Some(least), Some(most)) if least == most => format!("${least}"),
            (Some(least), Some(most)) => format!("${least} to ${most}"),
            _ => "unknown".to_owned(),
        }
    };
    let million = |usd: Usd| usd * 1_000_000;
    match rates {
        Rates::Image(rows) => format!("{} per picture", span(rows)),
        Rates::Tokens(rates) => format!(
            "${} text in, ${} pictures in, ${} pictures out per million tokens",
            million(rates.text_input),
            million(rates.image_input),
            million(rates.image_output)
        ),
        Rates::Megapixel(rate) => format!("${} per megapixel", rate.usd),
        Rates::Step(rate) => format!("${} per step", rate.usd),
        Rates::Second(rate) => format!("${} per second", rate.usd),
        Rates::Credit(rate) => format!("${} per credit", rate.usd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let usd = |text: &str| text.parse::<Usd>().unwrap();
        let prices = Prices::flat(usd("0.04"));
        let ratio = Ratio { billed: usd("0.003"), expected: usd("0.002") };
        let of = fingerprint(&prices);
        for (change, text) in [
            (Change::prices(Some(&prices)), "$0.04 per picture"),
            (Change::Bills { ratio, of }, "$0.003 for what is listed at $0.002"),
            (Change::Listed, "as listed"),
            (Change::prices(None), "unknown"),
        ] {
            let json = change.to_json();
            assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), change, "{json}");
            assert_eq!(in_words(&json), text);
        }
        assert_ne!(fingerprint(&prices), fingerprint(&Prices::flat(usd("0.05"))));
    }
}
