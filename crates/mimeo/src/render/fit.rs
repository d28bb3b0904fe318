//! Text as large as there is room for: the size is searched for by laying the page out, not estimated.

use std::fmt::Write as _;

use super::RenderError;
use super::page::{Layout, Page, REM, Rect};
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
/// letters), with words broken; if that is not enough, cut off at the smallest size.
pub(super) fn solve(page: &Page<'_>, fits: &[Fit]) -> Result<String, RenderError> {
    // Texts that are not yet decided take the least room, so that the first in the list gets the most.
    let least = |fit: &Fit| Setting { size: fit.min, breaks: true, clamp: Some(fit.lines) };
    let mut settings: Vec<Setting> = fits.iter().map(least).collect();
    for (index, fit) in fits.iter().enumerate() {
        let mut lay_out = |setting: Setting| {
            if let Some(slot) = settings.get_mut(index) {
                *slot = setting;
            }
            page.lay_out(&css(fits, &settings))
        };
        let chosen = match largest(fit, false, &mut lay_out)? {
            Some(size) => Setting { size, breaks: false, clamp: None },
            None => match largest(fit, true, &mut lay_out)? {
                Some(size) => Setting { size, breaks: true, clamp: None },
                None => {
                    let unclamped = Setting { clamp: None, ..least(fit) };
                    let clamp = lines_with_room(fit, &lay_out(unclamped)?);
                    Setting { clamp: Some(clamp), ..unclamped }
                }
            },
        };
        if let Some(slot) = settings.get_mut(index) {
            *slot = chosen;
        }
    }
    Ok(css(fits, &settings))
}

/// The largest size at which the text fits, in whole pixels below the maximum.
fn largest(
    fit: &Fit,
    breaks: bool,
    lay_out: &mut impl FnMut(Setting) -> Result<Layout, RenderError>,
) -> Result<Option<f32>, RenderError> {
    let mut fits_at = |size: f32| Ok(fits(fit, &lay_out(Setting { size, breaks, clamp: None })?));
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

fn fits(fit: &Fit, layout: &Layout) -> bool {
    let Some((element, parent)) = ends(fit, layout) else {
        // The template left the element out for these data.
        return true;
    };
    let (Some(own), Some(around)) = (layout.boxes.get(element), layout.boxes.get(parent)) else {
        return true;
    };
    let runs = layout.runs_in(element);
    lines(&runs) <= fit.lines
        && runs.iter().all(|run| own.content.holds_across(run))
        && around.content.excess_height(&layout.filled(parent)) == 0.0
        && layout.canvas.holds(&own.outer)
}

/// How many lines may stay so that the parent holds its children again.
fn lines_with_room(fit: &Fit, layout: &Layout) -> usize {
    let Some((element, parent)) = ends(fit, layout) else {
        return fit.lines;
    };
    let (Some(own), Some(around)) = (layout.boxes.get(element), layout.boxes.get(parent)) else {
        return fit.lines;
    };
    let now = lines(&layout.runs_in(element)).max(1);
    let line_height = (own.content.bottom - own.content.top) / now as f32;
    let excess = around.content.excess_height(&layout.filled(parent));
    let too_many = if line_height > 0.0 { (excess / line_height).ceil() as usize } else { 0 };
    now.saturating_sub(too_many).clamp(1, fit.lines)
}

/// The element and the box around it.
fn ends(fit: &Fit, layout: &Layout) -> Option<(usize, usize)> {
    let element = layout.find(&fit.id)?;
    Some((element, layout.boxes.get(element)?.parent?))
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
        let _ = write!(
            css,
            "#{}{{font-size:{}rem;overflow-wrap:{wrap};line-clamp:{clamp}}}",
            fit.id,
            setting.size / REM,
        );
    }
    css
}
