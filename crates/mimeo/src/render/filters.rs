//! What templates can do with data beyond printing them.

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use super::color::Rgb;
use super::money;

/// An environment in which everything printed is escaped, and a misspelt name is an error.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("money", money_filter);
    environment.add_filter("number", |value: &Value, locale: &str| money::number(&value.to_string(), locale));
    environment.add_filter("discount", discount);
    environment.add_filter("ink", |color: &str| Ok::<_, Error>(rgb(color)?.ink().to_string()));
    environment.add_filter("tone", tone);
    environment.add_filter("readable_on", readable_on);
    environment.add_filter("alpha", alpha);
    environment.add_filter("initials", |name: &str| initials(name));
    environment.add_filter("dir", |text: &str| direction(text));
    environment.add_filter("leading", |text: &str| leading(text));
    environment
}

/// `price|money("de")`.
fn money_filter(value: &Value, locale: &str) -> Result<String, Error> {
    let (amount, currency) = parts(value)?;
    Ok(money::format(&amount, &currency, locale))
}

/// `old_price|discount(price)`: per cent saved, or none.
fn discount(before: &Value, now: &Value) -> Result<Option<u32>, Error> {
    let ((before, from), (now, to)) = (parts(before)?, parts(now)?);
    Ok(if from == to { money::discount(&before, &now) } else { None })
}

fn parts(value: &Value) -> Result<(String, String), Error> {
    Ok((value.get_attr("amount")?.to_string(), value.get_attr("currency")?.to_string()))
}

/// `accent|tone(0.2)` or `accent|tone(0.2, 0.5)`: the same hue at that lightness, with that share of its colourfulness.
fn tone(color: &str, lightness: f64, chroma: Option<f64>) -> Result<String, Error> {
    Ok(rgb(color)?.tone(lightness, chroma.unwrap_or(1.0)).to_string())
}

/// `accent|readable_on("#ffffff")`: moved in lightness until the contrast is at least 4.5, or what the third argument says.
fn readable_on(color: &str, ground: &str, ratio: Option<f64>) -> Result<String, Error> {
    Ok(rgb(color)?.readable_on(rgb(ground)?, ratio.unwrap_or(4.5)).to_string())
}

/// `accent|alpha(0.5)`.
fn alpha(color: &str, alpha: f64) -> Result<String, Error> {
    let [r, g, b] = rgb(color)?.0;
    Ok(format!("rgba({r},{g},{b},{alpha})"))
}

fn rgb(color: &str) -> Result<Rgb, Error> {
    let wrong = || Error::new(ErrorKind::InvalidOperation, format!("{color:?} is not a colour like #0f62fe"));
    Rgb::parse(color).ok_or_else(wrong)
}

/// At most two letters that stand for a person or a brand.
pub(super) fn initials(name: &str) -> String {
    let mut letters = name.split_whitespace().filter_map(|word| word.chars().find(|c| c.is_alphanumeric()));
    let first = letters.next();
    first.into_iter().chain(letters.next_back()).flat_map(char::to_uppercase).collect()
}

/// The direction of a text is that of its first letter, as in HTML's `dir=auto`.
pub(super) fn direction(text: &str) -> &'static str {
    match text.chars().find(|c| c.is_alphabetic()) {
        Some('\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}') => "rtl",
        Some('\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}') => "rtl",
        _ => "ltr",
    }
}

/// `loose` for scripts that stack marks above and below or join their letters (Arabic, Indic, Thai): lines
/// need air there, and letters must not be spaced. `tight` for all others.
pub(super) fn leading(text: &str) -> &'static str {
    let stacks = |c: char| matches!(c, '\u{600}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}');
    if text.contains(stacks) { "loose" } else { "tight" }
}
