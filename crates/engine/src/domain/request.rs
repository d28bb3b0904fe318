//! What picture is wanted. Everything here determines the picture, and so is part of the cache key;
//! what concerns only the caller (tenant, limits, answer format) is in [`super::call`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::money::NotMoney;
use super::picture::{Format, Picture};

/// A text as it counts for the picture: in Unicode NFC, without white space at its ends.
pub fn canonical_text(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization as _;
    text.trim().nfc().collect()
}

/// How the picture comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// From a prompt.
    Generate,
    /// From a prompt and pictures.
    Edit,
    /// From a template and data, in this process.
    Render,
}

impl Operation {
    /// The word used in ledgers and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Generate => "generate",
            Operation::Edit => "edit",
            Operation::Render => "render",
        }
    }
}

/// The size asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Size {
    /// The model's own choice.
    #[default]
    Auto,
    /// Width and height in pixels.
    Exact(u32, u32),
}

/// The text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: write WIDTHxHEIGHT in pixels, such as 1024x1024, or auto")]
pub struct NotASize(String);

impl FromStr for Size {
    type Err = NotASize;
    fn from_str(text: &str) -> Result<Self, NotASize> {
        let bad = || NotASize(text.chars().take(40).collect());
        if text == "auto" {
            return Ok(Size::Auto);
        }
        let (width, height) = text.split_once('x').ok_or_else(bad)?;
        let side = |s: &str| match s.parse::<u32>() {
            Ok(n) if (1..=65_535).contains(&n) && !s.starts_with(['+', '0']) => Ok(n),
            _ => Err(bad()),
        };
        Ok(Size::Exact(side(width)?, side(height)?))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Auto => f.write_str("auto"),
            Size::Exact(width, height) => write!(f, "{width}x{height}"),
        }
    }
}

impl serde::Serialize for Size {
    /// As `WIDTHxHEIGHT` or `auto`.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Size {
    /// From `WIDTHxHEIGHT` or `auto`.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(auto|[1-9][0-9]*x[1-9][0-9]*)$",
            "description": "width and height in pixels, such as 1024x1024, or auto"
        })
    }
}

/// A picture given as input, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPicture {
    /// The bytes and what their header says.
    pub picture: Picture,
    /// File name to send on, if the caller gave one. Not part of the key.
    pub file_name: Option<String>,
}

/// An exact decimal such as a guidance scale: `1.0`, `1` and `1.00` are one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decimal(i128);

impl Decimal {
    /// The value as JSON for a provider: an integer where it is one.
    pub fn to_json(self) -> Value {
        match serde_json::from_str(&self.to_string()) {
            Ok(value) => value,
            Err(_) => Value::Null,
        }
    }

    /// The scaled integer (10⁻¹²), for hashing.
    pub const fn scaled(self) -> i128 {
        self.0
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::Usd::from_pico(self.0).fmt(f)
    }
}

impl FromStr for Decimal {
    type Err = NotMoney;
    fn from_str(text: &str) -> Result<Self, NotMoney> {
        text.parse::<super::Usd>().map(|usd| Decimal(usd.pico()))
    }
}

/// A template and what to fill it with.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateCall {
    /// Name of the template.
    pub id: String,
    /// Its version: changes whenever the template or the renderer does.
    pub version: String,
    /// The data with all defaults filled in.
    pub data: Value,
}

/// A wanted picture, canonical: defaults are spelled out, names are resolved, texts are normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRequest {
    /// Generate, edit or render.
    pub operation: Operation,
    /// The prompt in Unicode NFC, trimmed at its ends. Empty when rendering.
    pub prompt: String,
    /// Size in pixels.
    pub size: Size,
    /// Quality step of the model's vocabulary (`low`, `high`, `hd`, …); `None` is the model's default.
    pub quality: Option<String>,
    /// `transparent` or `opaque`; `None` is the model's own choice.
    pub background: Option<String>,
    /// The encoding that the provider is asked for; `None` is its default.
    pub output_format: Option<Format>,
    /// 0–100 for JPEG and WebP.
    pub output_compression: Option<u8>,
    /// Style of the model's vocabulary.
    pub style: Option<String>,
    /// `low` or `auto`; `None` is the provider's default.
    pub moderation: Option<String>,
    /// `high` or `low`: how closely an edit keeps to its inputs.
    pub input_fidelity: Option<String>,
    /// Fixes the picture where the model can.
    pub seed: Option<u64>,
    /// Sampling steps.
    pub steps: Option<u32>,
    /// Guidance scale.
    pub guidance: Option<Decimal>,
    /// What should not be in the picture.
    pub negative_prompt: Option<String>,
    /// Pictures to edit, in order.
    pub inputs: Vec<InputPicture>,
    /// Where to edit (alpha 0 = edit).
    pub mask: Option<InputPicture>,
    /// Template and data, when rendering.
    pub template: Option<TemplateCall>,
    /// Further fields that the model's record passes through.
    pub extras: BTreeMap<String, Value>,
}

impl ImageRequest {
    /// A request to generate from `prompt`, with every other field left to the model.
    pub fn generate(prompt: impl Into<String>) -> Self {
        ImageRequest {
            operation: Operation::Generate,
            prompt: prompt.into(),
            size: Size::Auto,
            quality: None,
            background: None,
            output_format: None,
            output_compression: None,
            style: None,
            moderation: None,
            input_fidelity: None,
            seed: None,
            steps: None,
            guidance: None,
            negative_prompt: None,
            inputs: Vec::new(),
            mask: None,
            template: None,
            extras: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!("1024x768".parse::<Size>().unwrap(), Size::Exact(1024, 768));
        assert_eq!("auto".parse::<Size>().unwrap(), Size::Auto);
        for bad in ["", "x", "10", "0x10", "10x", "-1x5", "1x99999999", "+1x1", "01x1", "1X1", "1x1x1"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_decimal_per_value() {
        let one: Decimal = "1".parse().unwrap();
        assert_eq!("1.0".parse::<Decimal>().unwrap(), one);
        assert_eq!(one.to_json(), serde_json::json!(1));
        assert_eq!("7.5".parse::<Decimal>().unwrap().to_json(), serde_json::json!(7.5));
    }
}
