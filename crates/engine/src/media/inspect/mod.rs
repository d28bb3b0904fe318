//! Does a picture look as if something had gone wrong? Cheap checks on what one picture shows by itself, and
//! ([`Habits`]) on what a provider's pictures have in common that they should not.
//!
//! None of them judges whether a picture is good, only whether it is one. The thresholds are set so that what people ask for
//! on purpose (white backgrounds, bars above and below, dark scenes) passes: a false alarm may cost a second picture.

mod habits;

pub use habits::{Habits, Sent};

use super::raster::Look;
use crate::domain::{Check, Finding, Size};

/// Pictures with a shorter edge are not judged, in pixels: there is too little to see.
const LEAST_EDGE: u32 = 16;
/// Up to which range of levels (of 255) a picture is of one colour: what JPEG makes of one.
const ONE_COLOR: u8 = 2;
/// Up to which range it has next to no contrast. The darkest night that is a picture has more.
const NO_CONTRAST: u8 = 12;
/// The least share of a picture that a missing part has.
const LEAST_BAND: f64 = 0.10;
/// How much of the row above a missing part differs from it, at least. Less is a thing that stands on a ground.
const ABRUPT: f64 = 0.85;
/// How much neighbours above a missing part differ, at least, in levels: less is a drawing with an even border.
const DETAIL: f64 = 2.0;
/// How much the ratio of width to height may differ from what was asked for: models round to their own grids.
const RATIO: f64 = 0.04;
/// The least share of the pixels that were asked for.
const PIXELS: f64 = 0.5;

/// What `look` shows by itself, for a picture that was asked for in the size `asked`.
pub fn inspect(look: &Look, asked: Size) -> Vec<Finding> {
    let mut findings: Vec<Finding> = size(look, asked).into_iter().collect();
    if look.width.min(look.height) < LEAST_EDGE {
        return findings;
    }
    let spread = look.spread();
    let finding = |check, confidence, what: &str| Finding { check, confidence, what: what.to_owned() };
    if look.is_clear {
        findings.push(finding(Check::Blank, 1.0, "is all transparent"));
    } else if spread <= ONE_COLOR {
        findings.push(finding(Check::Blank, 0.98, "is all of one colour"));
    } else if spread <= NO_CONTRAST {
        findings.push(finding(Check::Flat, 0.85, "has next to no contrast anywhere"));
    } else {
        findings.extend(truncated(look));
    }
    findings
}

fn size(look: &Look, asked: Size) -> Option<Finding> {
    let Size::Exact(width, height) = asked else { return None };
    let (wide, high) = (f64::from(look.width), f64::from(look.height));
    let (asked_wide, asked_high) = (f64::from(width), f64::from(height));
    if asked_wide * asked_high * wide * high == 0.0 {
        return None;
    }
    let ratio = (wide / high) / (asked_wide / asked_high);
    let is_other_shape = !(1.0 - RATIO..=1.0 / (1.0 - RATIO)).contains(&ratio);
    let is_small = wide * high < PIXELS * asked_wide * asked_high;
    (is_other_shape || is_small).then(|| Finding {
        check: Check::Size,
        confidence: 1.0,
        what: format!("is {}x{}, and {width}x{height} was asked for", look.width, look.height),
    })
}

fn truncated(look: &Look) -> Option<Finding> {
    let band = look
        .band
        .filter(|band| band.share >= LEAST_BAND && !band.is_framed && band.abrupt >= ABRUPT && band.detail >= DETAIL)?;
    // What decoders and canvases leave where nothing was drawn: middle grey, black, or nothing.
    let is_even = |level: u8| band.color.iter().all(|channel| channel.abs_diff(level) <= 3);
    let is_unpainted = band.is_clear || is_even(128) || is_even(0);
    Some(Finding {
        check: Check::Truncated,
        confidence: if is_unpainted { 0.9 } else { 0.6 },
        what: format!("ends abruptly: its lowest {:.0} % are all of one colour", band.share * 100.0),
    })
}

#[cfg(test)]
mod tests;
