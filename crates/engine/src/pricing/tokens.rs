//! Prices per token: how many tokens a picture takes, and what tokens cost.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Format, Price, Size, Usage, Usd};

use super::Wanted;

/// Tokens that a vendor may wrap around the caller's text. Generous: a three-word prompt is billed as about
/// twelve tokens, and a reservation may be too large but not too small.
const FRAMING_TOKENS: u64 = 64;

/// Prices per single token, and how many tokens a call takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRates {
    /// US dollars per token of text sent.
    pub text_input: Usd,
    /// US dollars per token of a picture sent.
    pub image_input: Usd,
    /// US dollars per token of a picture made.
    pub image_output: Usd,
    /// US dollars per token of text that the model writes; if left out, as for pictures made.
    pub text_output: Option<Usd>,
    /// The most tokens that one input picture is counted as.
    pub input_picture_tokens: u32,
    /// The most tokens of text that the model writes for one picture, thoughts included.
    #[serde(default)]
    pub text_output_tokens: u32,
    /// Output tokens added by every unfinished picture that is streamed.
    #[serde(default)]
    pub partial_tokens: u32,
    /// How many output tokens a picture takes.
    pub output: OutputTokens,
    /// The sizes that the model chooses from when none is asked for.
    pub auto_sizes: Vec<Size>,
    /// Encodings whose token count nobody knows: their price is unknown until it is billed.
    #[serde(default)]
    pub unpriced_formats: Vec<Format>,
}

/// How many output tokens one picture takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum OutputTokens {
    /// By the area formula, see [`area_tokens`].
    Area {
        /// Tokens along the long edge, by quality.
        base: BTreeMap<String, u32>,
        /// What the result is multiplied with, by quality; 1 if left out.
        #[serde(default)]
        factor: BTreeMap<String, u32>,
    },
    /// By a fixed table.
    Table(Vec<TableRow>),
    /// By the picture's area alone: of the steps that it keeps to, the lowest counts.
    Pixels(Vec<TokenStep>),
}

/// Tokens of the pictures up to an area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenStep {
    /// The largest area, in pixels.
    pub max_pixels: u64,
    /// Output tokens of one picture.
    pub tokens: u32,
}

/// One row of a token table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableRow {
    /// Size in pixels.
    pub size: Size,
    /// Quality step.
    pub quality: String,
    /// Output tokens of one picture.
    pub tokens: u32,
}

/// Output tokens of a picture of `width` × `height` pixels, by the vendor's published calculator:
///
/// `short = round_half_even(base · short_edge / long_edge)`,
/// `tokens = ceil(base · short · (2 000 000 + width · height) / 4 000 000)`.
///
/// Exact integers throughout. Source: the calculator of the OpenAI image pricing page, in third-party copies of
/// 2026-10 that agree with the published prices per picture.
pub fn area_tokens(base: u32, width: u32, height: u32) -> u64 {
    let (base, width, height) = (u128::from(base), u128::from(width.max(1)), u128::from(height.max(1)));
    let short = round_half_even(base * width.min(height), width.max(height));
    let tokens = (base * short * (2_000_000 + width * height)).div_ceil(4_000_000);
    u64::try_from(tokens).unwrap_or(u64::MAX)
}

/// `dividend / divisor` rounded to the nearest integer, halves to the even one.
fn round_half_even(dividend: u128, divisor: u128) -> u128 {
    let (whole, rest) = (dividend / divisor, dividend % divisor);
    match (rest * 2).cmp(&divisor) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Greater => whole + 1,
        std::cmp::Ordering::Equal => whole + whole % 2,
    }
}

impl OutputTokens {
    /// Tokens of one picture, the most if `quality` is left to the model; `None` if nothing here covers it.
    fn of(&self, quality: Option<&str>, size: Size) -> Option<u64> {
        let wanted = |name: &str| quality.is_none_or(|quality| quality == name);
        match self {
            OutputTokens::Area { base, factor } => {
                let Size::Exact(width, height) = size else { return None };
                base.iter()
                    .filter(|(name, _)| wanted(name))
                    .map(|(name, base)| {
                        let factor = factor.get(name).copied().unwrap_or(1);
                        area_tokens(*base, width, height).saturating_mul(u64::from(factor))
                    })
                    .max()
            }
            OutputTokens::Table(rows) => rows
                .iter()
                .filter(|row| row.size == size && wanted(&row.quality))
                .map(|row| u64::from(row.tokens))
                .max(),
            OutputTokens::Pixels(steps) => {
                let Size::Exact(width, height) = size else { return None };
                let pixels = u64::from(width) * u64::from(height);
                let step = steps.iter().filter(|step| pixels <= step.max_pixels).min_by_key(|step| step.max_pixels);
                step.map(|step| u64::from(step.tokens))
            }
        }
    }
}

impl TokenRates {
    /// The most that a call can cost:
    ///
    /// * text: no tokenizer makes more tokens than there are UTF-8 bytes, plus a margin for framing;
    /// * input pictures: each at the most that one is counted as;
    /// * text that the model writes: at the most that the record says;
    /// * output: the dearest size and quality that may be chosen, plus all unfinished pictures.
    pub(super) fn bound(&self, wanted: &Wanted<'_>) -> Price {
        if wanted.output_format.is_some_and(|format| self.unpriced_formats.contains(&format)) {
            return Price::Unknown;
        }
        let output = match wanted.size {
            Size::Auto => self.auto_sizes.iter().filter_map(|size| self.output.of(wanted.quality, *size)).max(),
            exact => self.output.of(wanted.quality, exact),
        };
        let Some(output) = output else { return Price::Unknown };
        let partials = u64::from(wanted.partials) * u64::from(self.partial_tokens);
        let text = (wanted.text_bytes as u64).saturating_add(FRAMING_TOKENS);
        let pictures = (wanted.inputs.len() as u64).saturating_mul(u64::from(self.input_picture_tokens));
        // Input is counted for each picture: no vendor says that it is read only once for n > 1.
        let one = self.cost(Usage {
            input_text: text,
            input_image: pictures,
            output_text: u64::from(self.text_output_tokens),
            output_image: output.saturating_add(partials),
        });
        Price::Known(one * i128::from(wanted.n))
    }

    /// What these tokens cost.
    pub(super) fn cost(&self, usage: Usage) -> Usd {
        let text_output = self.text_output.unwrap_or(self.image_output);
        self.text_input * i128::from(usage.input_text)
            + self.image_input * i128::from(usage.input_image)
            + text_output * i128::from(usage.output_text)
            + self.image_output * i128::from(usage.output_image)
    }

    /// What is contradictory in these rates, if anything.
    pub(super) fn fault(&self) -> Option<String> {
        let rates = [Some(self.text_input), Some(self.image_input), Some(self.image_output), self.text_output];
        if let Some(rate) = rates.into_iter().flatten().find(|rate| *rate < Usd::ZERO) {
            return Some(format!("rates.tokens has the negative price {rate}"));
        }
        let empty = match &self.output {
            OutputTokens::Area { base, .. } => base.is_empty(),
            OutputTokens::Table(rows) => rows.is_empty(),
            OutputTokens::Pixels(steps) => steps.is_empty(),
        };
        if empty {
            return Some("rates.tokens.output says of no picture how many tokens it takes".to_owned());
        }
        match self.auto_sizes.iter().find(|size| self.output.of(None, **size).is_none()) {
            Some(size) => {
                Some(format!("rates.tokens.auto_sizes has {size}, for which rates.tokens.output has no count"))
            }
            None if self.auto_sizes.is_empty() => Some(
                "rates.tokens.auto_sizes is empty; name the sizes that the model chooses from by itself".to_owned(),
            ),
            None => None,
        }
    }
}
