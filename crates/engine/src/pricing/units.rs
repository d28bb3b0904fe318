//! Prices per megapixel, per step, per second and per credit.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ImageRate, Wanted, dearest};
use crate::domain::request::Decimal;
use crate::domain::{Price, Size, Usd};

/// A price per megapixel of the picture, and perhaps of the pictures that are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MegapixelRate {
    /// US dollars per megapixel.
    pub usd: Usd,
    /// US dollars for the first megapixel of a picture, where that is another price.
    pub first: Option<Usd>,
    /// US dollars per megapixel of each picture that is sent. Left out: those are not billed.
    pub input: Option<Usd>,
    /// How many pixels a megapixel is: 1048576 if left out, or 1000000.
    #[serde(default = "binary_megapixel")]
    pub megapixel: u32,
    /// What becomes of a part of a megapixel.
    #[serde(default)]
    pub round: Round,
    /// The largest area, in pixels, that the model chooses by itself. Left out: without a size the price is unknown.
    pub auto_pixels: Option<u64>,
    /// More steps than these make the picture dearer in proportion.
    pub steps_included: Option<u32>,
}

/// What becomes of a part of a megapixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Round {
    /// It counts as a whole one.
    #[default]
    Up,
    /// It is billed as that part.
    Exact,
}

const fn binary_megapixel() -> u32 {
    1 << 20
}

/// A price per sampling step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepRate {
    /// US dollars per step.
    pub usd: Usd,
    /// The area, in pixels, that this is the price of: it goes up and down with the picture's. Left out: a step costs
    /// the same whatever the area.
    pub area: Option<u64>,
    /// What the tiles of a picture cost beside its steps.
    pub tile: Option<TileRate>,
}

/// A price per square piece of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TileRate {
    /// US dollars per tile.
    pub usd: Usd,
    /// Edge of a tile in pixels.
    pub edge: u32,
}

/// A price per second of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecondRate {
    /// US dollars per second.
    pub usd: Usd,
    /// The most seconds that one picture takes. This is what is reserved.
    pub most_s: u32,
}

/// A price in the provider's own credits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreditRate {
    /// US dollars per credit.
    pub usd: Usd,
    /// Credits per picture. Empty: only the answer tells.
    #[serde(default)]
    pub image: Vec<CreditRow>,
}

/// Credits per picture. Conditions are those of [`ImageRate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreditRow {
    /// Credits per picture, as a decimal such as `"6.5"`.
    #[serde(deserialize_with = "decimal", serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub credits: Decimal,
    /// Only for this size.
    pub size: Option<Size>,
    /// Only for this quality.
    pub quality: Option<String>,
    /// Only for pictures of up to so many pixels.
    pub max_pixels: Option<u64>,
}

fn decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is not a decimal such as \"6.5\"")))
}

fn as_text<S: Serializer>(credits: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(credits)
}

/// `usd · dividend / divisor`, rounded up to the next pico-dollar: a bound must not be too small.
fn scaled(usd: Usd, dividend: u64, divisor: u64) -> Usd {
    let (dividend, divisor) = (i128::from(dividend), i128::from(divisor.max(1)));
    let whole = usd.pico().saturating_mul(dividend);
    Usd::from_pico(whole.div_euclid(divisor) + i128::from(whole.rem_euclid(divisor) > 0))
}

impl MegapixelRate {
    /// What a call with `pictures` pictures costs.
    pub(super) fn price(&self, wanted: &Wanted<'_>, pictures: u32) -> Price {
        let pixels = match wanted.size {
            Size::Exact(width, height) => Some(u64::from(width) * u64::from(height)),
            Size::Auto => self.auto_pixels,
        };
        let Some(pixels) = pixels else { return Price::Unknown };
        let first = self.first.unwrap_or(self.usd);
        let mut one = match self.round {
            Round::Exact => self.of_area(self.usd, pixels),
            Round::Up => first + self.usd * i128::from(self.megapixels(pixels).saturating_sub(1)),
        };
        if let Some(included) = self.steps_included {
            // Who does not say how many gets those that are included.
            let steps = wanted.steps.unwrap_or(included).max(included);
            one = scaled(one, u64::from(steps), u64::from(included));
        }
        let inputs: Usd = match self.input {
            Some(usd) => wanted.inputs.iter().map(|pixels| self.of_area(usd, *pixels)).sum(),
            None => Usd::ZERO,
        };
        // What is sent is counted for each picture: no vendor says that it is read only once for several.
        Price::Known((one + inputs) * i128::from(pictures))
    }

    fn of_area(&self, usd: Usd, pixels: u64) -> Usd {
        match self.round {
            Round::Up => usd * i128::from(self.megapixels(pixels)),
            Round::Exact => scaled(usd, pixels, u64::from(self.megapixel)),
        }
    }

    /// Whole megapixels, at least one.
    fn megapixels(&self, pixels: u64) -> u64 {
        pixels.div_ceil(u64::from(self.megapixel.max(1))).max(1)
    }

    pub(super) fn fault(&self) -> Option<String> {
        if let Some(usd) = [Some(self.usd), self.first, self.input].into_iter().flatten().find(|usd| *usd < Usd::ZERO) {
            return Some(format!("rates.megapixel has the negative price {usd}"));
        }
        if self.round == Round::Exact && self.first.is_some() {
            return Some("rates.megapixel.first goes with round = \"up\" only".to_owned());
        }
        if self.megapixel == 0 || self.steps_included == Some(0) {
            return Some("rates.megapixel: megapixel and steps_included must be 1 or more".to_owned());
        }
        None
    }
}

impl StepRate {
    /// What one picture costs.
    pub(super) fn price(&self, wanted: &Wanted<'_>) -> Price {
        let Some(steps) = wanted.steps else { return Price::Unknown };
        let steps = self.usd * i128::from(steps);
        match (wanted.size, self.area, self.tile) {
            (_, None, None) => Price::Known(steps),
            (Size::Auto, _, _) => Price::Unknown,
            (Size::Exact(width, height), area, tile) => {
                let pixels = u64::from(width) * u64::from(height);
                let steps = area.map_or(steps, |area| scaled(steps, pixels, area));
                let tiles = tile.map_or(Usd::ZERO, |tile| {
                    let along = |edge: u32| i128::from(edge.div_ceil(tile.edge.max(1)));
                    tile.usd * (along(width) * along(height))
                });
                Price::Known(steps + tiles)
            }
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        if self.usd < Usd::ZERO || self.tile.is_some_and(|tile| tile.usd < Usd::ZERO) {
            return Some("rates.step has a negative price".to_owned());
        }
        if self.area == Some(0) || self.tile.is_some_and(|tile| tile.edge == 0) {
            return Some("rates.step: area and tile.edge must be 1 or more".to_owned());
        }
        None
    }
}

impl SecondRate {
    /// The most that one picture costs.
    pub(super) fn bound(&self) -> Price {
        Price::Known(self.usd * i128::from(self.most_s))
    }

    pub(super) fn fault(&self) -> Option<String> {
        if self.usd < Usd::ZERO {
            return Some(format!("rates.second has the negative price {}", self.usd));
        }
        (self.most_s == 0).then(|| "rates.second.most_s must be 1 or more".to_owned())
    }
}

impl CreditRate {
    /// What one picture costs.
    pub(super) fn price(&self, wanted: &Wanted<'_>) -> Price {
        dearest(&self.rows(), wanted)
    }

    /// Its rows in dollars.
    pub(super) fn rows(&self) -> Vec<ImageRate> {
        self.image.iter().map(|row| row.in_dollars(self.usd)).collect()
    }

    pub(super) fn fault(&self) -> Option<String> {
        let is_negative = self.usd < Usd::ZERO || self.image.iter().any(|row| row.credits.scaled() < 0);
        is_negative.then(|| "rates.credit has a negative price".to_owned())
    }
}

impl CreditRow {
    fn in_dollars(&self, usd: Usd) -> ImageRate {
        let whole = usd.pico().saturating_mul(self.credits.scaled());
        // Rounded up, as everything that is reserved.
        let pico = whole.div_euclid(Usd::SCALE) + i128::from(whole.rem_euclid(Usd::SCALE) > 0);
        ImageRate {
            usd: Usd::from_pico(pico),
            size: self.size,
            quality: self.quality.clone(),
            max_pixels: self.max_pixels,
        }
    }
}
