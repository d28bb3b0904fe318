//! The sizes that a model makes, and which of them is nearest to one that was asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::domain::Size;
use crate::domain::target::{LONGEST_EDGE, is_enough};

/// The sizes that a model can make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sizes {
    /// The size cannot be chosen.
    #[default]
    None,
    /// Every size is passed on; the provider judges.
    Any,
    /// These only.
    List(Vec<Size>),
    /// Every size that keeps to a rule.
    Rule(SizeRule),
    /// A ratio is chosen, and how large; which pixels that are is the model's own affair, more or less.
    Ratios(RatioSizes),
}

/// What a size must satisfy. Conditions that are left out hold always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SizeRule {
    /// Both edges are multiples of this many pixels.
    pub multiple_of: Option<u32>,
    /// The long edge is at most this many times the short one.
    pub max_ratio: Option<u32>,
    /// The longest edge, in pixels.
    pub max_edge: Option<u32>,
    /// The smallest area, in pixels.
    pub min_pixels: Option<u64>,
    /// The largest area, in pixels.
    pub max_pixels: Option<u64>,
}

/// Ratios, each in every tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RatioSizes {
    /// The ratios of width to height, as they are named on the wire, such as `16:9`.
    pub list: Vec<Ratio>,
    /// The areas in pixels by the names of the tiers. Left out: one megapixel, and nothing to choose.
    pub tiers: BTreeMap<String, u64>,
    /// Edges are rounded to multiples of this many pixels. Left out: 1.
    pub multiple_of: Option<u32>,
}

/// A ratio of width to height. `4:2` and `2:1` are of one shape, and two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Parts of the width (1–10,000).
    pub width: u32,
    /// Parts of the height (1–10,000).
    pub height: u32,
}

/// The text is not a ratio.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ratio is two whole numbers from 1 to 10000, WIDTH:HEIGHT, such as 16:9")]
pub struct NotARatio;

/// The area that is meant where no tier is named: one megapixel.
const MEGAPIXEL: u64 = 1 << 20;

impl FromStr for Ratio {
    type Err = NotARatio;
    fn from_str(text: &str) -> Result<Self, NotARatio> {
        let part = |text: &str| match text.parse() {
            Ok(part @ 1..=10_000) if !text.starts_with(['+', '0']) => Ok(part),
            _ => Err(NotARatio),
        };
        let (width, height) = text.split_once(':').ok_or(NotARatio)?;
        Ok(Ratio { width: part(width)?, height: part(height)? })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.width, self.height)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    /// From `WIDTH:HEIGHT`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Ratio {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ratio".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[1-9][0-9]*:[1-9][0-9]*$",
            "description": "width to height in whole numbers, such as 16:9"
        })
    }
}

impl Ratio {
    /// The ratio of a size, in the smallest whole numbers.
    pub fn of(width: u32, height: u32) -> Ratio {
        let unit = common_divisor(width, height).max(1);
        Ratio { width: width / unit, height: height / unit }
    }

    /// True if a picture of `width` × `height` can be seen as having this ratio: it is less than one percent off.
    pub fn is_about(self, width: u32, height: u32) -> bool {
        cut(Ratio { width, height }, self) < PERCENT
    }

    /// The largest size of this ratio that `width` × `height` can be cut to, within the longest edge of a copy.
    pub fn within(self, width: u32, height: u32) -> (u32, u32) {
        let (width, height) = (u64::from(width.min(LONGEST_EDGE)), u64::from(height.min(LONGEST_EDGE)));
        let (a, b) = (u64::from(self.width.max(1)), u64::from(self.height.max(1)));
        let side = |side: u64| u32::try_from(side.max(1)).unwrap_or(LONGEST_EDGE);
        if width * b > height * a { (side(height * a / b), side(height)) } else { (side(width), side(width * b / a)) }
    }

    /// The size of this ratio that has about `area` pixels, with edges in multiples of `step`.
    pub fn with_area(self, area: u64, step: u32) -> (u32, u32) {
        let step = u64::from(step.max(1));
        // Both from the area, so that rounding one does not carry over into the other.
        let edge = |long: u32, short: u32| {
            let edge = area.saturating_mul(u64::from(long)).checked_div(u64::from(short)).unwrap_or(0).isqrt();
            let edge = ((edge + step / 2) / step * step).max(step);
            u32::try_from(edge).unwrap_or(u32::MAX)
        };
        (edge(self.width, self.height), edge(self.height, self.width))
    }
}

/// What is lost when a picture of one size is brought to another: less is better, what comes first counts most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Loss {
    /// The share that is cut off, in whole percent: sizes that differ by less than one are of one shape.
    cut_percent: u64,
    /// It must be enlarged.
    is_enlarged: bool,
    /// How far, in millionths; or, where it need not be, the pixels that are made and paid for in vain.
    excess: u64,
    /// The share that is cut off, in millionths.
    cut: u64,
}

impl Loss {
    /// Of a picture of `width` × `height`, whose shape goes by the name of `ratio`.
    fn of((width, height): (u32, u32), ratio: Ratio, (to_width, to_height): (u32, u32)) -> Loss {
        let cut = cut(ratio, Ratio { width: to_width, height: to_height });
        let [width, height, to_width, to_height] = [width, height, to_width, to_height].map(u64::from);
        let is_enlarged = width < to_width || height < to_height;
        let excess = if is_enlarged {
            millionths(to_width, width).max(millionths(to_height, height))
        } else {
            width * height - to_width * to_height
        };
        Loss { cut_percent: cut / PERCENT, is_enlarged, excess, cut }
    }
}

/// One percent, in millionths.
const PERCENT: u64 = 10_000;

/// The share of a picture of one ratio that is cut off to give it another, in millionths.
fn cut(from: Ratio, to: Ratio) -> u64 {
    let a = u64::from(from.width) * u64::from(to.height);
    let b = u64::from(from.height) * u64::from(to.width);
    millionths(a.abs_diff(b), a.max(b))
}

fn millionths(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 1_000_000 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

/// A size, and the ratio that it goes by.
type Made = ((u32, u32), Ratio);

/// The one of `sizes` that loses least when it is brought to `to`, of those that need not be enlarged out of measure.
fn best(sizes: impl IntoIterator<Item = Made>, to: (u32, u32)) -> Option<(u32, u32)> {
    let enough = sizes.into_iter().filter(|&((width, height), _)| is_enough(width, height, to.0, to.1));
    enough.min_by_key(|&(size, ratio)| (Loss::of(size, ratio, to), size)).map(|(size, _)| size)
}

/// A size that goes by its own ratio.
fn plain((width, height): (u32, u32)) -> Made {
    ((width, height), Ratio { width, height })
}

impl Sizes {
    /// The size that this model makes and that loses least when it is brought to `width` × `height`: of the same shape
    /// if there is one, then at least as large, then nearest. What the model can make is nearest to itself.
    /// `None` if it cannot be chosen, or if everything is too small to be enlarged so far.
    pub fn nearest(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        let to = (width, height);
        match self {
            Sizes::None => None,
            Sizes::Any => Some(to),
            Sizes::List(list) => best(list.iter().filter_map(|size| exact(*size)).map(plain), to),
            Sizes::Rule(rule) => rule.nearest(to),
            Sizes::Ratios(_) if self.made_as(width, height).is_some() => Some(to),
            Sizes::Ratios(ratios) => best(ratios.all().map(|(size, ratio, _)| (size, ratio)), to),
        }
    }

    /// The size of the shape nearest to `ratio` that has nearest to `area` pixels. `None` if it cannot be chosen.
    pub fn shaped(&self, ratio: Ratio, area: u64) -> Option<(u32, u32)> {
        let ideal = ratio.with_area(area, self.step());
        let nearest = |sizes: &mut dyn Iterator<Item = Made>| {
            let distance = |(size, shape): Made| {
                let off = (u64::from(size.0) * u64::from(size.1)).abs_diff(area);
                (cut(shape, ratio) / PERCENT, off, cut(shape, ratio), size)
            };
            sizes.min_by_key(|made| distance(*made)).map(|(size, _)| size)
        };
        match self {
            Sizes::None => None,
            Sizes::Any => Some(ideal),
            Sizes::List(list) => nearest(&mut list.iter().filter_map(|size| exact(*size)).map(plain)),
            Sizes::Rule(rule) => rule.nearest(ideal),
            Sizes::Ratios(ratios) => nearest(&mut ratios.all().map(|(size, shape, _)| (size, shape))),
        }
    }

    /// The ratio of `width` × `height` as it is named on the wire: by the model's own name where it has names, else in
    /// the smallest whole numbers.
    pub fn ratio_of(&self, width: u32, height: u32) -> (u32, u32) {
        let named = self.made_as(width, height).map(|(ratio, _)| ratio);
        let Ratio { width, height } = named.unwrap_or_else(|| Ratio::of(width, height));
        (width, height)
    }

    /// The name of the tier that makes `width` × `height`, where the model has tiers.
    pub fn tier_of(&self, width: u32, height: u32) -> Option<&str> {
        self.made_as(width, height).and_then(|(_, tier)| tier)
    }

    /// What is wrong with it in a record, if anything is.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match self {
            Sizes::List(list) if list.is_empty() || list.contains(&Size::Auto) => {
                Some("sizes.list must name sizes, and auto is none")
            }
            Sizes::Rule(rule) if rule.multiple_of == Some(0) || rule.max_ratio == Some(0) => {
                Some("sizes.rule: multiple_of and max_ratio must be 1 or more")
            }
            Sizes::Ratios(ratios) if ratios.list.is_empty() => Some("sizes.ratios.list must name ratios"),
            Sizes::Ratios(ratios) if ratios.multiple_of == Some(0) || ratios.tiers.values().any(|area| *area == 0) => {
                Some("sizes.ratios: multiple_of and the areas of tiers must be 1 or more")
            }
            _ => None,
        }
    }

    fn made_as(&self, width: u32, height: u32) -> Option<(Ratio, Option<&str>)> {
        let Sizes::Ratios(ratios) = self else { return None };
        let found = ratios.all().find(|(size, ..)| *size == (width, height));
        found.map(|(_, ratio, tier)| (ratio, tier))
    }

    /// The area that `tier` means to this model, in pixels: its own tier of that name, or what the name says.
    pub(super) fn area_of(&self, tier: &str) -> Option<u64> {
        if let Sizes::Ratios(ratios) = self
            && let Some((_, area)) = ratios.tiers.iter().find(|(name, _)| name.eq_ignore_ascii_case(tier))
        {
            return Some(*area);
        }
        // `2K` is a square of 2048.
        let edge = tier.strip_suffix(['K', 'k'])?.parse::<u64>().ok().filter(|edge| (1..=8).contains(edge))? * 1024;
        Some(edge * edge)
    }

    /// The area that is meant where nobody names one: the smallest tier, which costs least.
    pub(super) fn usual_area(&self) -> u64 {
        match self {
            Sizes::Ratios(ratios) => ratios.tiers.values().copied().min().unwrap_or(MEGAPIXEL),
            _ => MEGAPIXEL,
        }
    }

    /// Multiples in which edges go; 1 where all are possible.
    fn step(&self) -> u32 {
        let step = match self {
            Sizes::Rule(rule) => rule.multiple_of,
            Sizes::Ratios(ratios) => ratios.multiple_of,
            // Servers of all kinds take multiples of 16, and some nothing else.
            Sizes::Any => Some(16),
            Sizes::None | Sizes::List(_) => None,
        };
        step.unwrap_or(1).max(1)
    }
}

impl fmt::Display for Sizes {
    /// What is possible, for a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::None => f.write_str("its own size"),
            Sizes::Any => f.write_str("every size"),
            Sizes::List(list) => f.write_str(&joined(list)),
            Sizes::Rule(rule) => write!(f, "{rule}"),
            Sizes::Ratios(RatioSizes { list, tiers, .. }) => {
                write!(f, "the ratios {}", joined(list))?;
                match tiers.keys().collect::<Vec<_>>().as_slice() {
                    [] => Ok(()),
                    tiers => write!(f, " in {}", joined(tiers)),
                }
            }
        }
    }
}

fn joined<T: ToString>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn exact(size: Size) -> Option<(u32, u32)> {
    match size {
        Size::Exact(width, height) => Some((width, height)),
        Size::Auto => None,
    }
}

impl RatioSizes {
    /// All sizes, each with its ratio and the name of its tier.
    fn all(&self) -> impl Iterator<Item = ((u32, u32), Ratio, Option<&str>)> {
        let step = self.multiple_of.unwrap_or(1);
        let untold = self.tiers.is_empty().then_some((None, MEGAPIXEL));
        let tiers = self.tiers.iter().map(|(name, area)| (Some(name.as_str()), *area)).chain(untold);
        tiers.flat_map(move |(tier, area)| {
            self.list.iter().map(move |ratio| (ratio.with_area(area, step), *ratio, tier))
        })
    }
}

impl SizeRule {
    fn nearest(&self, to: (u32, u32)) -> Option<(u32, u32)> {
        if self.broken_by(to.0, to.1).is_none() {
            return Some(to);
        }
        let made = self.same_shape(to).into_iter().chain(self.around(to));
        best(made.filter(|&(width, height)| self.broken_by(width, height).is_none()).map(plain), to)
    }

    /// Sizes of exactly the same ratio: the smallest that is large enough, and the largest of all.
    fn same_shape(&self, (width, height): (u32, u32)) -> Vec<(u32, u32)> {
        let step = self.multiple_of.unwrap_or(1).max(1);
        let Ratio { width: a, height: b } = Ratio::of(width, height);
        if a == 0 || b == 0 {
            return Vec::new();
        }
        // Both parts become multiples of the step when they are taken this many times.
        let (once_a, once_b) = (step / common_divisor(step, a).max(1), step / common_divisor(step, b).max(1));
        let times = u64::from(once_a) * u64::from(once_b) / u64::from(common_divisor(once_a, once_b).max(1));
        let (unit_width, unit_height) = (u64::from(a) * times, u64::from(b) * times);
        let unit_pixels = unit_width.saturating_mul(unit_height).max(1);
        let least = self.min_pixels.unwrap_or(0).div_ceil(unit_pixels);
        let covering = u64::from(width).div_ceil(unit_width).max(ceil_root(least)).max(1);
        let by_pixels = self.max_pixels.map(|most| (most / unit_pixels).isqrt());
        let by_edge = self.max_edge.map(|edge| u64::from(edge) / unit_width.max(unit_height));
        let largest = by_pixels.into_iter().chain(by_edge).min();
        let size = |times: u64| {
            let side = |unit: u64| u32::try_from(unit.checked_mul(times)?).ok().filter(|side| *side > 0);
            Some((side(unit_width)?, side(unit_height)?))
        };
        [Some(covering), largest].into_iter().flatten().filter_map(size).collect()
    }

    /// Sizes of about the same ratio, as near as the rule lets them.
    fn around(&self, (width, height): (u32, u32)) -> impl Iterator<Item = (u32, u32)> + use<> {
        let (mut width, mut height) = (f64::from(width), f64::from(height));
        if let Some(ratio) = self.max_ratio.map(f64::from) {
            // A bar becomes as thick as it must, and is cut again later.
            (width, height) = (width.max(height / ratio), height.max(width / ratio));
        }
        let pixels = width * height;
        let grown = self.min_pixels.map_or(1.0, |least| (least as f64 / pixels).sqrt().max(1.0));
        let by_pixels = self.max_pixels.map(|most| (most as f64 / pixels).sqrt());
        let by_edge = self.max_edge.map(|edge| f64::from(edge) / width.max(height));
        let scale = by_pixels.into_iter().chain(by_edge).fold(grown, f64::min);
        let step = f64::from(self.multiple_of.unwrap_or(1).max(1));
        let near = |edge: f64| {
            let steps = (edge * scale / step).floor();
            [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0].map(|more| ((steps + more) * step).clamp(1.0, 65_535.0) as u32)
        };
        let (widths, heights) = (near(width), near(height));
        widths.into_iter().flat_map(move |width| heights.map(|height| (width, height)))
    }

    /// Why a size breaks this rule; `None` if it keeps to it.
    pub(super) fn broken_by(&self, width: u32, height: u32) -> Option<String> {
        let (long, short) = (width.max(height), width.min(height));
        let pixels = u64::from(width) * u64::from(height);
        if let Some(step) = self.multiple_of
            && !(width.is_multiple_of(step) && height.is_multiple_of(step))
        {
            return Some(format!("both edges must be multiples of {step}"));
        }
        if let Some(edge) = self.max_edge
            && long > edge
        {
            return Some(format!("an edge may have at most {edge} pixels"));
        }
        if let Some(ratio) = self.max_ratio
            && u64::from(long) > u64::from(short) * u64::from(ratio)
        {
            return Some(format!("the long edge may be at most {ratio} times the short one"));
        }
        if let Some(most) = self.max_pixels
            && pixels > most
        {
            return Some(format!("{pixels} pixels are more than {most}"));
        }
        if let Some(least) = self.min_pixels
            && pixels < least
        {
            return Some(format!("{pixels} pixels are fewer than {least}"));
        }
        None
    }
}

impl fmt::Display for SizeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.multiple_of.map(|step| format!("edges in multiples of {step}")),
            self.max_edge.map(|edge| format!("edges up to {edge}")),
            self.max_ratio.map(|ratio| format!("ratios up to {ratio}:1")),
            self.min_pixels.map(|least| format!("at least {least} pixels")),
            self.max_pixels.map(|most| format!("at most {most} pixels")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

/// The greatest number that divides both; the other one if one is 0.
fn common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The smallest number whose square is at least `square`.
fn ceil_root(square: u64) -> u64 {
    let root = square.isqrt();
    if root * root < square { root + 1 } else { root }
}

#[cfg(test)]
#[path = "sizes_tests.rs"]
mod tests;
