//! Text as large as there is room for: the size is searched for by laying the page out, not estimated.

use std::fmt::Write as _;

use super::RenderError;
use super::page::{Layout, Page, Placed, REM, Rect};
use super::template::Fit;

/// How one text is set.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Setting {
    /// Pixels at the designed size.
    size: f32,
    /// Whether a word may be broken anywhere.
    breaks: bool,
    /// Lines after which it ends with an ellipsis.
    clamp: Option<usize>,
}

/// Finds a setting for every text, and returns it as CSS.
///
/// A text fits when it has no more lines than allowed, no word sticks out, and its parent holds all its
/// children. First with whole words; if not even the smallest size allows that (somebody wrote a word of 200
/// letters), with words broken; if that is not enough, cut off at the smallest size. Texts are settled in the
/// order of the list, so the first gets the most room.
pub(super) fn solve(page: &Page<'_>, fits: &[Fit]) -> Result<String, RenderError> {
    // Those not yet settled take as little room as they can.
    let least = |fit: &Fit| Setting { size: fit.min, breaks: true, clamp: Some(fit.lines) };
    let mut settings: Vec<Setting> = fits.iter().map(least).collect();
    for (index, fit) in fits.iter().enumerate() {
        let mut lay_out = |setting: Setting| {
            if let Some(slot) = settings.get_mut(index) {
                *slot = setting;
            }
            page.lay_out(&css(fits, &settings))
        };
        let settled = fits.get(..index).unwrap_or_default();
        let chosen = match largest(fit, settled, false, &mut lay_out)? {
            Some(size) => Setting { size, breaks: false, clamp: None },
            None => match largest(fit, settled, true, &mut lay_out)? {
                Some(size) => Setting { size, breaks: true, clamp: None },
                None => {
                    let unclamped = Setting { clamp: None, ..least(fit) };
                    let layout = lay_out(unclamped)?;
                    let clamp = Place::of(fit, &layout).map(|place| place.lines_with_room(fit));
                    Setting { clamp, ..unclamped }
                }
            },
        };
        if let Some(slot) = settings.get_mut(index) {
            *slot = chosen;
        }
    }
    Ok(css(fits, &settings))
}

/// The largest size at which the text fits without taking room from those already settled, in whole pixels
/// below the maximum.
fn largest(
    fit: &Fit,
    settled: &[Fit],
    breaks: bool,
    lay_out: &mut impl FnMut(Setting) -> Result<Layout, RenderError>,
) -> Result<Option<f32>, RenderError> {
    let mut fits_at = |size: f32| {
        let layout = lay_out(Setting { size, breaks, clamp: None })?;
        let undisturbed = |other| Place::of(other, &layout).is_none_or(|place| place.has_room());
        Ok(Place::of(fit, &layout).is_none_or(|place| place.fits(fit)) && settled.iter().all(undisturbed))
    };
    // Most texts fit as designed: one layout.
    if fits_at(fit.max)? {
        return Ok(Some(fit.max));
    }
    if !fits_at(fit.min)? {
        return Ok(None);
    }
    let size_at = |step: u32| (fit.max - step as f32).max(fit.min);
    let (mut too_large, mut small_enough) = (0, (fit.max - fit.min).ceil() as u32);
    while small_enough - too_large > 1 {
        let middle = too_large.midpoint(small_enough);
        if fits_at(size_at(middle))? {
            small_enough = middle;
        } else {
            too_large = middle;
        }
    }
    Ok(Some(size_at(small_enough)))
}

/// A text where it ended up.
struct Place<'a> {
    own: &'a Placed,
    around: &'a Placed,
    runs: Vec<Rect>,
    /// Height by which its parent's children stick out of the parent.
    excess: f32,
    on_card: bool,
}

impl<'a> Place<'a> {
    /// None when the template left the element out for these data.
    fn of(fit: &Fit, layout: &'a Layout) -> Option<Self> {
        let element = layout.find(&fit.id)?;
        let own = layout.boxes.get(element)?;
        let parent = own.parent?;
        let around = layout.boxes.get(parent)?;
        let excess = around.content.excess_height(&layout.filled(parent));
        let on_card = layout.canvas.holds(&own.outer);
        Some(Self { own, around, runs: layout.runs_in(element), excess, on_card })
    }

    fn has_room(&self) -> bool {
        self.excess == 0.0 && self.on_card && self.around.content.holds_across(&self.own.outer)
    }

    fn fits(&self, fit: &Fit) -> bool {
        lines(&self.runs) <= fit.lines
            && self.runs.iter().all(|run| self.own.content.holds_across(run))
            && self.has_room()
    }

    /// How many lines may stay so that the parent holds its children again.
    fn lines_with_room(&self, fit: &Fit) -> usize {
        let now = lines(&self.runs).max(1);
        let line_height = (self.own.content.bottom - self.own.content.top) / now as f32;
        let too_many = if line_height > 0.0 { (self.excess / line_height).ceil() as usize } else { 0 };
        now.saturating_sub(too_many).clamp(1, fit.lines)
    }
}

/// Counts lines. Pieces of one line overlap by more than half, even in different fonts.
fn lines(runs: &[Rect]) -> usize {
    let mut sorted: Vec<&Rect> = runs.iter().collect();
    sorted.sort_by(|a, b| (a.top + a.bottom).total_cmp(&(b.top + b.bottom)));
    let mut count = 0;
    let mut middle = f32::NEG_INFINITY;
    for run in sorted {
        let own = (run.top + run.bottom) / 2.0;
        if own - middle > (run.bottom - run.top) / 2.0 {
            count += 1;
            middle = own;
        }
    }
    count
}

fn css(fits: &[Fit], settings: &[Setting]) -> String {
    let mut css = String::new();
    for (fit, setting) in fits.iter().zip(settings) {
        let wrap = if setting.breaks { "anywhere" } else { "normal" };
        let clamp = setting.clamp.map_or("none".to_owned(), |lines| lines.to_string());
        // Writing to a string cannot fail.
        let _ =
            write!(css, "#{}{{font-size:{}rem;overflow-wrap:{wrap};line-clamp:{clamp}}}", fit.id, setting.size / REM,);
    }
    css
}
