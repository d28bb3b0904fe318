//! Amounts as sheets write them: `0.04`, `4e-05`, `$12`, with as many digits as their authors' floats had.

use crate::domain::Usd;

/// Digits of a mantissa that are read; no sheet has more than 20.
const MOST_DIGITS: usize = 30;

/// `text` US dollars for `per` units: what one of them costs, times `units`. Exact; what is finer than a pico-dollar is
/// rounded up.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn usd(text: &str, per: u64, units: u64) -> Result<Usd, String> {
    let bad = || format!("`{}` is no amount of US dollars", text.chars().take(40).collect::<String>());
    let trimmed = text.trim();
    let unsigned = trimmed.strip_prefix('$').unwrap_or(trimmed).trim_start();
    if unsigned.starts_with('-') {
        return Err(format!("{trimmed} is negative, which says that there is no fixed price"));
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| bad())?),
        None => (unsigned, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let mantissa: i128 = digits.parse().map_err(|_| bad())?;
    if mantissa == 0 {
        return Ok(Usd::ZERO);
    }
    // pico-dollars = mantissa · 10^(12 − digits behind the point + exponent) · units / per
    let behind = i32::try_from(part.len()).map_err(|_| bad())?;
    let power = 12i32.checked_sub(behind).and_then(|power| power.checked_add(exponent)).ok_or_else(bad)?;
    let ten = |power: u32| 10i128.checked_pow(power).ok_or_else(bad);
    let mut dividend = mantissa.checked_mul(i128::from(units)).ok_or_else(bad)?;
    let mut divisor = i128::from(per.max(1));
    match u32::try_from(power) {
        Ok(power) => dividend = dividend.checked_mul(ten(power)?).ok_or_else(bad)?,
        Err(_) => divisor = divisor.checked_mul(ten(power.unsigned_abs())?).ok_or_else(bad)?,
    }
    Ok(Usd::from_pico(dividend.div_euclid(divisor) + i128::from(dividend.rem_euclid(divisor) > 0)))
}

/// As [`usd`] for one unit, and more than nothing.
///
/// # Errors
/// What is wrong with the text; a price of 0 is taken for one that nobody filled in.
pub(super) fn price(text: &str, per: u64) -> Result<Usd, String> {
    match usd(text, per, 1)? {
        Usd::ZERO => Err(NOTHING.to_owned()),
        usd => Ok(usd),
    }
}

/// Why a price of 0 is left out.
pub(super) const NOTHING: &str =
    "a price of 0 says that it is free or that nobody knows; write it into a file of your own if it is free";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_from_their_digits() {
        for (text, per, units, is) in [
            ("0.04", 1, 1, "0.04"),
            ("4e-05", 1, 1, "0.00004"),
            ("1.59263611e-07", 1, 1024 * 1024, "0.167000000168"),
            (" $12.50 ", 1, 1, "12.5"),
            ("30", 1_000_000, 1, "0.00003"),
            ("1E2", 1, 1, "100"),
            // Nineteen digits of a float: rounded up at the twelfth.
            ("0.0000191616766467066", 1, 1, "0.000019161677"),
            ("1e-30", 1, 1, "0.000000000001"),
            ("0", 1, 1, "0"),
        ] {
            assert_eq!(usd(text, per, units).unwrap(), is.parse().unwrap(), "{text}");
        }
        for bad in ["", "$", "-1", "1,5", "4e", "4e5000000000", "1e400", "0x10", "NaN", "1.2.3", &"9".repeat(31)] {
            assert!(usd(bad, 1, 1).is_err(), "{bad}");
        }
        assert!(price("0.0", 1).unwrap_err().contains("free"));
    }

    proptest! {
        #[test]
        fn what_money_writes_is_read_again(pico in 0i128..10_000_000_000_000_000_000) {
            let amount = Usd::from_pico(pico);
            prop_assert_eq!(usd(&amount.to_string(), 1, 1).unwrap(), amount);
            // The same with an exponent, and per million.
            prop_assert_eq!(usd(&format!("{pico}e-12"), 1, 1).unwrap(), amount);
            prop_assert_eq!(usd(&format!("{pico}e-6"), 1_000_000, 1).unwrap(), amount);
        }

        #[test]
        fn no_text_panics(text in "[-$0-9.eE+ ]{0,40}", per in 0u64.., units in 0u64..) {
            let _ = usd(&text, per, units);
        }
    }
}
