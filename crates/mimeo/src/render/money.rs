//! Amounts of money: read exactly (never through a float), written as people of a locale write them.

/// Digits after the point, where ISO 4217 says other than two.
const MINOR_DIGITS: &[(&str, usize)] = &[
    ("BHD", 3),
    ("CLP", 0),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("PYG", 0),
    ("RWF", 0),
    ("TND", 3),
    ("UGX", 0),
    ("VND", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
];

/// Signs that say which money is meant without the code.
const SIGNS: &[(&str, &str)] = &[
    ("AUD", "A$"),
    ("BRL", "R$"),
    ("CAD", "CA$"),
    ("CNY", "CN¥"),
    ("CZK", "Kč"),
    ("DKK", "kr."),
    ("EUR", "€"),
    ("GBP", "£"),
    ("HKD", "HK$"),
    ("HUF", "Ft"),
    ("ILS", "₪"),
    ("INR", "₹"),
    ("JPY", "¥"),
    ("KRW", "₩"),
    ("MXN", "MX$"),
    ("NGN", "₦"),
    ("NOK", "kr"),
    ("NZD", "NZ$"),
    ("PHP", "₱"),
    ("PLN", "zł"),
    ("RON", "lei"),
    ("RUB", "₽"),
    ("SEK", "kr"),
    ("THB", "฿"),
    ("TRY", "₺"),
    ("TWD", "NT$"),
    ("UAH", "₴"),
    ("USD", "$"),
    ("VND", "₫"),
];

/// Plain signs that a currency has at home, where nobody would take them for another.
const HOME_SIGNS: &[(&str, &str, &str)] = &[
    ("en-AU", "AUD", "$"),
    ("en-CA", "CAD", "$"),
    ("en-NZ", "NZD", "$"),
    ("es-MX", "MXN", "$"),
    ("fr-CA", "CAD", "$"),
    ("zh", "CNY", "¥"),
    ("zh-CN", "CNY", "¥"),
    ("zh-HK", "HKD", "$"),
    ("zh-TW", "TWD", "$"),
];

const NBSP: &str = "\u{a0}";
const NARROW_NBSP: &str = "\u{202f}";

/// How a locale writes numbers and where it puts the sign.
struct Style {
    group: &'static str,
    point: &'static str,
    /// Before the number with this in between, or after it with that.
    before: Option<&'static str>,
    after: &'static str,
    /// Thousands, then hundreds: 12,34,567.
    indian: bool,
}

/// Found by the whole tag first, then by its language; anything else is written as in English.
fn style_of(locale: &str) -> Style {
    let before = |group, point, gap| Style { group, point, before: Some(gap), after: "", indian: false };
    let after = |group, point| Style { group, point, before: None, after: NBSP, indian: false };
    let language = locale.split('-').next().unwrap_or_default();
    match (locale, language) {
        ("de-CH" | "it-CH" | "fr-CH", _) => before("’", ".", NBSP),
        ("de-AT", _) => before(NBSP, ",", NBSP),
        ("en-IN", _) | (_, "hi" | "mr" | "gu" | "ta" | "te" | "kn" | "bn") => {
            Style { indian: true, ..before(",", ".", "") }
        }
        ("es-MX" | "es-US", _) => before(",", ".", ""),
        (_, "fr") => after(NARROW_NBSP, ","),
        (_, "nl") => before(".", ",", NBSP),
        (_, "pt") if locale == "pt-PT" => after(NBSP, ","),
        (_, "pt") => before(".", ",", NBSP),
        (_, "tr") => before(".", ",", ""),
        (_, "de" | "es" | "it" | "da" | "el" | "id" | "hr" | "sl" | "ro" | "vi" | "ca" | "sr" | "is") => {
            after(".", ",")
        }
        (_, "cs" | "sk" | "pl" | "ru" | "uk" | "bg" | "hu" | "fi" | "sv" | "nb" | "no" | "nn" | "et" | "lv" | "lt") => {
            after(NBSP, ",")
        }
        (_, "he" | "ar" | "fa" | "ur") => after(",", "."),
        _ => before(",", ".", ""),
    }
}

/// Digits after the decimal point of `currency`.
pub(super) fn minor_digits(currency: &str) -> usize {
    MINOR_DIGITS.iter().find(|(code, _)| *code == currency).map_or(2, |(_, digits)| *digits)
}

/// The canonical form of a decimal number in `currency`, `"1299.50"`, or what is wrong with it.
pub(super) fn canonical_amount(text: &str, currency: &str) -> Result<String, String> {
    let digits = minor_digits(currency);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || text.ends_with('.') {
        return Err(format!("the amount must be a plain decimal number such as \"49.90\", not {text:?}"));
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() > 15 {
        return Err("the amount has more than 15 digits before the point".to_owned());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > digits {
        return Err(format!("{currency} has {digits} digits after the point, the amount has more"));
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(if digits == 0 { whole.to_owned() } else { format!("{whole}.{fraction:0<digits$}") })
}

/// Writes a canonical amount: `format("1299.50", "EUR", "de")` is `1.299,50 €`.
/// Round amounts keep their zeros: prices of one shop should look alike.
pub(super) fn format(amount: &str, currency: &str, locale: &str) -> String {
    let style = style_of(locale);
    let number = number(amount, locale);
    let sign = HOME_SIGNS
        .iter()
        .find(|(home, code, _)| *home == locale && *code == currency)
        .map(|(_, _, sign)| *sign)
        .or_else(|| SIGNS.iter().find(|(code, _)| *code == currency).map(|(_, sign)| *sign))
        .unwrap_or(currency);
    match style.before {
        // A sign of letters would run into the digits.
        Some(gap) if sign.ends_with(char::is_alphabetic) => {
            format!("{sign}{}{number}", if gap.is_empty() { NBSP } else { gap })
        }
        Some(gap) => format!("{sign}{gap}{number}"),
        None => format!("{number}{}{sign}", style.after),
    }
}

/// Writes a decimal number: `number("1299.5", "de")` is `1.299,5`.
pub(super) fn number(decimal: &str, locale: &str) -> String {
    let style = style_of(locale);
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    let mut number = grouped(whole, &style, locale);
    if !fraction.is_empty() {
        number.push_str(style.point);
        number.push_str(fraction);
    }
    number
}

fn grouped(whole: &str, style: &Style, locale: &str) -> String {
    // Spanish and Polish leave four digits together.
    let language = locale.split('-').next().unwrap_or_default();
    if whole.len() <= 3 || (whole.len() == 4 && matches!(language, "es" | "pl") && locale != "es-MX") {
        return whole.to_owned();
    }
    let mut out = String::with_capacity(whole.len() * 2);
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        let at_group = if style.indian && left > 3 { (left - 3).is_multiple_of(2) } else { left.is_multiple_of(3) };
        if index > 0 && at_group {
            out.push_str(style.group);
        }
        out.push(digit);
    }
    out
}

/// Whole per cent that `now` is below `before`, rounded down; `None` unless it is lower by one at least.
pub(super) fn discount(before: &str, now: &str) -> Option<u32> {
    // Canonical amounts of one currency have the same number of decimals: without the point they compare.
    let minor = |amount: &str| amount.replace('.', "").parse::<u128>().ok();
    let (before, now) = (minor(before)?, minor(now)?);
    let saved = before.checked_sub(now)?;
    u32::try_from((saved * 100).checked_div(before)?).ok().filter(|percent| *percent > 0)
}
