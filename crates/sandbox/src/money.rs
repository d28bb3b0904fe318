//! Exact money. One unit is a pico-dollar (10⁻¹² USD), so that every vendor price per token is a whole number.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Mul};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Pico-dollars in one dollar.
const DOLLAR: i128 = 1_000_000_000_000;

/// Digits after the decimal point that one pico-dollar needs.
const PLACES: usize = 12;

/// An exact amount of US dollars, in whole pico-dollars. Written and read as a plain decimal such as `0.05268`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Usd(i128);

impl Usd {
    /// No money at all.
    pub const ZERO: Self = Self(0);

    /// An amount given in pico-dollars (10⁻¹² USD).
    pub const fn from_pico(pico: i128) -> Self {
        Self(pico)
    }

    /// The price of one token when a million of them cost `dollars` whole dollars.
    pub const fn per_million(dollars: u32) -> Self {
        // 1 USD / 1,000,000 = 1,000,000 pico-dollars; the cast is lossless (u32 fits in i128, `From` is not const).
        Self(dollars as i128 * 1_000_000)
    }

    /// The amount in pico-dollars.
    pub const fn pico(self) -> i128 {
        self.0
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Mul<u64> for Usd {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self(self.0 * i128::from(times))
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let pico = self.0.unsigned_abs();
        let dollar = DOLLAR.unsigned_abs();
        let (whole, rest) = (pico / dollar, pico % dollar);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{rest:0PLACES$}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// Why a text is not an amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a decimal amount of dollars with at most 12 digits after the point")]
pub struct NotMoney(String);

impl FromStr for Usd {
    type Err = NotMoney;

    fn from_str(text: &str) -> Result<Self, NotMoney> {
        let not_money = || NotMoney(text.chars().take(40).collect());
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let (whole, rest) = digits.split_once('.').unwrap_or((digits, "0"));
        let numeric = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        // 20 digits of whole dollars leave the product far inside 128 bits.
        if !numeric(whole) || !numeric(rest) || whole.len() > 20 || rest.len() > PLACES {
            return Err(not_money());
        }
        let whole: i128 = whole.parse().map_err(|_| not_money())?;
        let rest: i128 = format!("{rest:0<PLACES$}").parse().map_err(|_| not_money())?;
        Ok(Self(sign * (whole * DOLLAR + rest)))
    }
}

impl From<Usd> for String {
    fn from(amount: Usd) -> Self {
        amount.to_string()
    }
}

impl TryFrom<String> for Usd {
    type Error = NotMoney;

    fn try_from(text: String) -> Result<Self, NotMoney> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_read_as_they_are_written() {
        for text in ["0", "0.05268", "12.5", "-3.000000000001", "7"] {
            assert_eq!(text.parse::<Usd>().unwrap().to_string(), text);
        }
        assert_eq!(Usd::per_million(30) * 1756, "0.05268".parse().unwrap());
        for text in ["", ".5", "1.", "1e3", "+1", "1.0000000000001", "0x1", "--1"] {
            assert!(text.parse::<Usd>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_amount_survives_its_text(pico in any::<i64>()) {
            let amount = Usd::from_pico(i128::from(pico));
            prop_assert_eq!(amount.to_string().parse::<Usd>().unwrap(), amount);
        }
    }
}
