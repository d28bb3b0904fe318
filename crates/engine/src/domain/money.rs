//! Exact money. Amounts are integers of pico-dollars (10⁻¹² USD) in 128 bits: fine enough for every
//! unit that a provider bills in (the smallest known is 10⁻¹⁰ USD), and never a float.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Neg, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An exact amount of US dollars, in pico-dollars. May be negative (a correction).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i128);

/// What is known of a price. An unknown price is never zero: it is shown as unknown everywhere and
/// refused for every key that has a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// The exact amount.
    Known(Usd),
    /// Nobody has told what this costs.
    Unknown,
}

impl Price {
    /// Free of charge.
    pub const FREE: Price = Price::Known(Usd::ZERO);

    /// The amount, if it is known.
    pub fn known(self) -> Option<Usd> {
        match self {
            Price::Known(usd) => Some(usd),
            Price::Unknown => None,
        }
    }

    /// Both together; unknown if either is.
    #[must_use]
    pub fn plus(self, other: Price) -> Price {
        match (self, other) {
            (Price::Known(one), Price::Known(other)) => Price::Known(one + other),
            _ => Price::Unknown,
        }
    }

    /// `count` times this price; unknown stays unknown.
    #[must_use]
    pub fn times(self, count: u32) -> Price {
        match self {
            Price::Known(usd) => Price::Known(usd * i128::from(count)),
            Price::Unknown => Price::Unknown,
        }
    }
}

impl Serialize for Price {
    /// As the amount; null if it is unknown, never zero.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.known().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Price {
    /// From an amount, or from null.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Usd>::deserialize(deserializer)?.map_or(Price::Unknown, Price::Known))
    }
}

impl Usd {
    /// Nothing.
    pub const ZERO: Usd = Usd(0);
    /// Pico-dollars in a dollar.
    pub const SCALE: i128 = 1_000_000_000_000;
    /// Digits behind the point that are kept.
    const DIGITS: usize = 12;

    /// An amount of `pico` · 10⁻¹² USD.
    pub const fn from_pico(pico: i128) -> Self {
        Usd(pico)
    }

    /// The amount in pico-dollars.
    pub const fn pico(self) -> i128 {
        self.0
    }

    /// True if there is nothing to pay.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The share of part `index` when this amount is split over `parts` as evenly as integers allow.
    /// The first parts carry the remainder, so that the shares always add up to the whole.
    #[must_use]
    pub fn share(self, index: usize, parts: usize) -> Usd {
        let parts = parts.max(1) as i128;
        let (each, rest) = (self.0.div_euclid(parts), self.0.rem_euclid(parts));
        Usd(each + i128::from((index as i128) < rest))
    }

    /// The amount as a float, for charts and log scales only; never for arithmetic on money.
    pub fn approximate(self) -> f64 {
        self.0 as f64 / Self::SCALE as f64
    }
}

impl fmt::Display for Usd {
    /// The exact decimal without trailing zeros: `0`, `0.05268`, `-1.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let (whole, part) = (magnitude / Self::SCALE as u128, magnitude % Self::SCALE as u128);
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{part:012}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// Why a text is not an amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount of dollars: write a decimal such as 0.05, with at most 12 digits behind the point")]
pub struct NotMoney(String);

impl FromStr for Usd {
    type Err = NotMoney;

    fn from_str(text: &str) -> Result<Self, NotMoney> {
        let bad = || NotMoney(text.chars().take(64).collect());
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let has_dot = unsigned.contains('.');
        if whole.is_empty() || whole.len() > 20 || !digits(whole) || !digits(part) || (has_dot && part.is_empty()) {
            return Err(bad());
        }
        let part = part.trim_end_matches('0');
        if part.len() > Self::DIGITS {
            return Err(bad());
        }
        let whole: i128 = whole.parse().map_err(|_| bad())?;
        let part: i128 = format!("{part:0<12}").parse().map_err(|_| bad())?;
        let pico = whole * Self::SCALE + part;
        Ok(Usd(if negative { -pico } else { pico }))
    }
}

impl Serialize for Usd {
    /// As a decimal string: JSON numbers are floats to most readers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    /// From a decimal string, or from a number whose shortest decimal form is meant
    /// (`0.04` in a configuration file means exactly four cents).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Usd;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of dollars such as \"0.05\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Usd, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, whole: i64) -> Result<Usd, E> {
                Ok(Usd(i128::from(whole) * Usd::SCALE))
            }
            fn visit_u64<E: serde::de::Error>(self, whole: u64) -> Result<Usd, E> {
                Ok(Usd(i128::from(whole) * Usd::SCALE))
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Usd, E> {
                // `Display` of a float is its shortest exact round trip, hence what the author typed.
                format!("{number}").parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for Usd {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Usd".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "number"],
            "description": "exact decimal US dollars, at most 12 digits behind the point"
        })
    }
}

impl Add for Usd {
    type Output = Usd;
    fn add(self, other: Usd) -> Usd {
        Usd(self.0 + other.0)
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Usd) {
        self.0 += other.0;
    }
}

impl Sub for Usd {
    type Output = Usd;
    fn sub(self, other: Usd) -> Usd {
        Usd(self.0 - other.0)
    }
}

impl Neg for Usd {
    type Output = Usd;
    fn neg(self) -> Usd {
        Usd(-self.0)
    }
}

impl Mul<i128> for Usd {
    type Output = Usd;
    fn mul(self, factor: i128) -> Usd {
        Usd(self.0 * factor)
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Usd>>(amounts: I) -> Usd {
        amounts.fold(Usd::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_back(pico in -(1i128 << 100)..(1i128 << 100)) {
            let usd = Usd::from_pico(pico);
            // 20 whole digits are the most that a text may carry.
            if usd.pico().unsigned_abs() / (Usd::SCALE as u128) < 10u128.pow(20) {
                prop_assert_eq!(usd.to_string().parse::<Usd>().unwrap(), usd);
            }
        }

        #[test]
        fn shares_add_up(pico in -1_000_000_000_000_000i128..1_000_000_000_000_000, parts in 1usize..12) {
            let whole = Usd::from_pico(pico);
            let shares: Vec<Usd> = (0..parts).map(|i| whole.share(i, parts)).collect();
            prop_assert_eq!(shares.iter().copied().sum::<Usd>(), whole);
            let spread = shares.iter().max().unwrap().pico() - shares.iter().min().unwrap().pico();
            prop_assert!(spread <= 1);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Usd>();
        }
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!("0.05268".parse::<Usd>().unwrap().pico(), 52_680_000_000);
        assert_eq!("0.0000000001".parse::<Usd>().unwrap().pico(), 100);
        assert_eq!(Usd::from_pico(-1_500_000_000_000).to_string(), "-1.5");
        assert_eq!(serde_json::from_str::<Usd>("0.1").unwrap().to_string(), "0.1");
        for bad in ["", ".", "1.", ".5", "1e3", "+1", "0.0000000000001", "0x1", "1,5"] {
            assert!(bad.parse::<Usd>().is_err(), "{bad}");
        }
    }
}
