//! What the simulated providers charge.
//!
//! * `openai`: by tokens, with the vendor's published formula ([`Model::output_tokens`]) and rates per million tokens.
//! * `compatible`: a flat price per picture, [`COMPATIBLE_DEFAULT`] unless the model's name ends in one ([`flat`]).
//! * `native`: a price per model ([`native`]), which can be changed while the sandbox runs ([`Tariff`]).
//!
//! The arithmetic is deliberately written here a second time, from the vendor's text and not from the gateway's code:
//! an oracle that shared code with what it judges would share its mistakes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::money::Usd;

/// Price of one `compatible` picture whose model name carries no price: $0.01.
pub const COMPATIBLE_DEFAULT: Usd = Usd::from_pico(10_000_000_000);

/// Tokens billed for each input picture of an edit, whatever its size. Masks are free.
///
/// The vendor's true figure depends on size and fidelity and is not published as a formula; a constant keeps the bill
/// predictable, and clients must take the number from `usage` anyway.
pub const TOKENS_PER_INPUT_PICTURE: u64 = 1024;

/// Output tokens added by each partial picture that is streamed.
pub const TOKENS_PER_PARTIAL: u64 = 100;

/// Which formula counts a model's output tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// A fixed table for three sizes.
    V1_5,
    /// The area formula with bases 16, 48, 96.
    V2,
    /// The area formula with bases 16, 24, 48, 64, 96.
    V2_5,
    /// As `V2_5`, but `low` and `medium` take three and a half times the tokens.
    V2_6,
}

/// A model of the simulated OpenAI.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// The name callers use.
    pub id: &'static str,
    /// The announced last day, `YYYY-MM-DD`, if there is one. The simulation itself never retires a model.
    pub shutdown_date: Option<&'static str>,
    family: Family,
    output: Usd,
}

/// Dollars per million tokens of input pictures.
const IMAGE_INPUT: Usd = Usd::per_million(8);
/// Dollars per million tokens of prompt.
const TEXT_INPUT: Usd = Usd::per_million(5);

/// The models that the simulated OpenAI serves. Every other name, the retired ones included, is `model_not_found`.
pub const MODELS: &[Model] = &[
    Model::new("gpt-image-1.5", Some("2026-12-01"), Family::V1_5, 32),
    Model::new("gpt-image-2", None, Family::V2, 30),
    Model::new("gpt-image-2.5-flare", None, Family::V2_5, 30),
    Model::new("gpt-image-2.5-sunburst", None, Family::V2_5, 30),
    Model::new("gpt-image-2.6-flare", None, Family::V2_6, 30),
    Model::new("gpt-image-2.6-sunburst", None, Family::V2_6, 30),
];

/// The fixed-price models of the `native` provider: name and price of one picture.
pub const NATIVE: &[(&str, Usd)] = &[
    ("draft", Usd::from_pico(2_000_000_000)),
    ("standard", Usd::from_pico(10_000_000_000)),
    ("premium", Usd::from_pico(40_000_000_000)),
];

/// What one picture of each `native` model costs now.
#[derive(Debug, Default)]
pub struct Tariff(Mutex<BTreeMap<String, Usd>>);

impl Tariff {
    /// What one picture of `model` costs from now on. False if there is no such model.
    pub fn set(&self, model: &str, usd: Usd) -> bool {
        let exists = native(model).is_some();
        if exists {
            self.changed().insert(model.to_owned(), usd);
        }
        exists
    }

    /// Price of one picture of a `native` model now, if the model exists.
    pub fn native(&self, model: &str) -> Option<Usd> {
        self.changed().get(model).copied().or_else(|| native(model))
    }

    fn changed(&self) -> MutexGuard<'_, BTreeMap<String, Usd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Price of one picture of a `native` model at the start, if the model exists.
pub fn native(model: &str) -> Option<Usd> {
    NATIVE.iter().find(|(name, _)| *name == model).map(|(_, price)| *price)
}

/// Price of one picture of a `compatible` model: the decimal after the last `-` of its name, else
/// [`COMPATIBLE_DEFAULT`]. `flat-0.04` costs $0.04, `sdxl-turbo-0.002` costs $0.002.
///
/// A price has at least two digits after the point, so that `sdxl-1.0` and `flux-2` stay names.
pub fn flat(model: &str) -> Usd {
    let suffix = model.rsplit_once('-').map(|(_, suffix)| suffix);
    suffix
        .filter(|suffix| suffix.split_once('.').is_some_and(|(_, cents)| cents.len() >= 2))
        .and_then(|suffix| suffix.parse().ok())
        .unwrap_or(COMPATIBLE_DEFAULT)
}

/// The `usage` object of an OpenAI answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt and input pictures together.
    pub input_tokens: u64,
    /// How the input splits.
    pub input_tokens_details: TokenDetails,
    /// Tokens of the pictures drawn, streamed partial pictures included.
    pub output_tokens: u64,
    /// How the output splits; all of it is picture.
    pub output_tokens_details: TokenDetails,
    /// Input plus output.
    pub total_tokens: u64,
}

/// Tokens by what they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDetails {
    /// Tokens of text.
    pub text_tokens: u64,
    /// Tokens of pictures.
    pub image_tokens: u64,
}

impl Usage {
    /// Usage from its three independent counts, in tokens.
    pub fn new(text: u64, pictures: u64, output: u64) -> Self {
        Self {
            input_tokens: text + pictures,
            input_tokens_details: TokenDetails { text_tokens: text, image_tokens: pictures },
            output_tokens: output,
            output_tokens_details: TokenDetails { text_tokens: 0, image_tokens: output },
            total_tokens: text + pictures + output,
        }
    }
}

/// Tokens of a prompt: a quarter of its characters, rounded up.
pub fn text_tokens(prompt: &str) -> u64 {
    (prompt.chars().count() as u64).div_ceil(4)
}

impl Model {
    const fn new(id: &'static str, shutdown_date: Option<&'static str>, family: Family, output: u32) -> Self {
        Self { id, shutdown_date, family, output: Usd::per_million(output) }
    }

    /// The served model of that name.
    pub fn find(id: &str) -> Option<&'static Self> {
        MODELS.iter().find(|model| model.id == id)
    }

    /// Whether any `WxH` inside the limits is a size; otherwise only three fixed sizes are.
    pub fn takes_any_size(&self) -> bool {
        self.family != Family::V1_5
    }

    /// The quality names the model takes, cheapest first. `auto` is one more and means `medium` here.
    pub fn qualities(&self) -> &'static [&'static str] {
        match self.family {
            Family::V1_5 | Family::V2 => &["low", "medium", "high"],
            Family::V2_5 | Family::V2_6 => &["low", "medium", "high", "xhigh", "max"],
        }
    }

    /// Output tokens of one picture, `width` × `height` in pixels; `None` for a quality or size the model lacks.
    pub fn output_tokens(&self, quality: &str, width: u32, height: u32) -> Option<u64> {
        let level = self.qualities().iter().position(|name| *name == quality)?;
        let base = match self.family {
            Family::V1_5 => return fixed_tokens(level, width, height),
            Family::V2 => *[16, 48, 96].get(level)?,
            Family::V2_5 | Family::V2_6 => *[16, 24, 48, 64, 96].get(level)?,
        };
        let tokens = area_tokens(base, width, height)?;
        Some(match (self.family, quality) {
            (Family::V2_6, "low" | "medium") => tokens * 7 / 2,
            _ => tokens,
        })
    }

    /// What a usage costs at this model's rates.
    pub fn cost(&self, usage: &Usage) -> Usd {
        TEXT_INPUT * usage.input_tokens_details.text_tokens
            + IMAGE_INPUT * usage.input_tokens_details.image_tokens
            + self.output * usage.output_tokens
    }
}

/// Tokens of the one generation that is priced by a table: square or 3:2, low, medium or high.
fn fixed_tokens(level: usize, width: u32, height: u32) -> Option<u64> {
    let table = match (width, height) {
        (1024, 1024) => [272, 1056, 4160],
        (1536, 1024) | (1024, 1536) => [408, 1584, 6240],
        _ => return None,
    };
    table.get(level).copied()
}

/// The vendor's area formula: the long edge takes `base` tokens, the short edge its share of them, and the product
/// grows with the area above a fixed part.
fn area_tokens(base: u64, width: u32, height: u32) -> Option<u64> {
    let (width, height) = (u64::from(width), u64::from(height));
    let (long, short) = (width.max(height), width.min(height));
    if short == 0 {
        return None;
    }
    let across = divide_half_even(base * short, long);
    Some((base * across * (2_000_000 + width * height)).div_ceil(4_000_000))
}

/// Division rounded to the nearest whole number, ties to the even one.
fn divide_half_even(dividend: u64, divisor: u64) -> u64 {
    let (quotient, rest) = (dividend / divisor, dividend % divisor);
    match (2 * rest).cmp(&divisor) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + (quotient & 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(model: &str, width: u32, height: u32) -> Vec<u64> {
        let model = Model::find(model).unwrap();
        model.qualities().iter().map(|quality| model.output_tokens(quality, width, height).unwrap()).collect()
    }

    #[test]
    fn tokens_agree_with_the_published_table() {
        assert_eq!(tokens("gpt-image-2.5-flare", 1024, 1024), [196, 439, 1756, 3122, 7024]);
        assert_eq!(tokens("gpt-image-2.5-sunburst", 1536, 1024), [158, 343, 1372, 2459, 5488]);
        assert_eq!(tokens("gpt-image-2.5-flare", 1024, 1536), [158, 343, 1372, 2459, 5488]);
        assert_eq!(tokens("gpt-image-2", 1024, 1024), [196, 1756, 7024]);
        assert_eq!(tokens("gpt-image-2", 2048, 2048), [397, 3568, 14_272]);
        assert_eq!(tokens("gpt-image-2", 3840, 2160)[1..], [3336, 13_342]);
        assert_eq!(tokens("gpt-image-2.6-flare", 1024, 1024), [686, 1536, 1756, 3122, 7024]);
        assert_eq!(tokens("gpt-image-1.5", 1024, 1536), [408, 1584, 6240]);
        assert_eq!(Model::find("gpt-image-1.5").unwrap().output_tokens("low", 512, 512), None);
    }

    #[test]
    fn a_picture_costs_its_tokens() {
        let flare = Model::find("gpt-image-2.5-flare").unwrap();
        assert_eq!(flare.cost(&Usage::new(0, 0, 1756)).to_string(), "0.05268");
        assert_eq!(flare.cost(&Usage::new(12, 1024, 196)).to_string(), "0.014132");
    }

    #[test]
    fn ties_go_to_the_even_number() {
        assert_eq!([1, 3, 5, 7].map(|half| divide_half_even(half, 2)), [0, 2, 2, 4]);
    }

    #[test]
    fn a_name_may_carry_its_price() {
        for (name, price) in [
            ("flat-0.04", "0.04"),
            ("sdxl-turbo-0.002", "0.002"),
            ("free-0.00", "0"),
            ("big-1.50", "1.5"),
            ("sdxl-1.0", "0.01"),
            ("flux-2", "0.01"),
            ("plain", "0.01"),
            ("odd-0.0x", "0.01"),
        ] {
            assert_eq!(flat(name).to_string(), price, "{name}");
        }
    }
}
