//! What is left of an amount after each step, as SVG: a full bar, what each step takes off, and what remains.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 230.0;
const TOP: f64 = 56.0;
const BELOW: f64 = 64.0;
const SIDE: f64 = 20.0;

const FULL: &str = "#8a8f98";
const TAKEN: &str = "#2f8f5b";
const ADDED: &str = "#c43d2f";
const LEFT: &str = "#2458c5";

/// One amount that goes down in steps.
#[derive(Debug)]
pub struct Fall<'a> {
    /// What is shown.
    pub title: &'a str,
    /// What stands below it.
    pub note: &'a str,
    /// What the bar of what remains is called.
    pub remains: &'a str,
    /// The first amount, then what is left after each step, in dollars.
    pub steps: Vec<(String, f64)>,
}

/// The whole picture: one fall below the other.
pub fn svg(falls: &[Fall]) -> String {
    let each = TOP + HEIGHT + BELOW;
    let height = each * falls.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, fall) in falls.iter().enumerate() {
        draw(&mut out, fall, each * index as f64 + TOP);
    }
    out += "</svg>\n";
    out
}

fn draw(out: &mut String, fall: &Fall, top: f64) {
    let (Some((_, first)), Some((_, last))) = (fall.steps.first(), fall.steps.last()) else { return };
    let highest = fall.steps.iter().map(|(_, amount)| *amount).fold(f64::MIN_POSITIVE, f64::max);
    let bottom = top + HEIGHT;
    let slot = (WIDTH - 2.0 * SIDE) / (fall.steps.len() + 1) as f64;
    let y = |amount: f64| bottom - amount / highest * HEIGHT;
    let _ =
        writeln!(out, "<text x=\"{SIDE}\" y=\"{:.0}\" font-weight=\"bold\">{}</text>", top - 36.0, text(fall.title));
    let _ = writeln!(out, "<text x=\"{SIDE}\" y=\"{:.0}\" fill=\"#555\">{}</text>", top - 20.0, text(fall.note));
    let _ = writeln!(out, "<path d=\"M{SIDE} {bottom}H{}\" stroke=\"#888\"/>", WIDTH - SIDE);
    for (index, (_, amount)) in fall.steps.iter().enumerate() {
        // From where one bar ends to where the next begins.
        let from = SIDE + slot * (index as f64 + 0.1);
        let _ = writeln!(out, "<path d=\"M{from:.1} {:.1}h{:.1}\" stroke=\"#bbb\"/>", y(*amount), slot * 1.8);
    }
    let mut bar = |index: usize, (from, to): (f64, f64), color: &str, name: &str, label: String| {
        let (high, low) = (y(from.max(to)), y(from.min(to)));
        let left = SIDE + slot * index as f64 + slot * 0.1;
        let middle = SIDE + slot * (index as f64 + 0.5);
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{high:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{color}\"/>",
            slot * 0.8,
            (low - high).max(1.0)
        );
        let _ = writeln!(out, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", high - 5.0);
        for (line, words) in lines(name).iter().enumerate() {
            let y = bottom + 16.0 + 14.0 * line as f64;
            let _ = writeln!(out, "<text x=\"{middle:.1}\" y=\"{y:.0}\" text-anchor=\"middle\">{}</text>", text(words));
        }
    };
    let pairs = fall.steps.iter().zip(fall.steps.iter().skip(1));
    for (index, ((_, before), (name, after))) in pairs.enumerate() {
        let color = if after > before { ADDED } else { TAKEN };
        let share = (after / before - 1.0) * 100.0;
        bar(index + 1, (*before, *after), color, name, format!("{share:+.0} %").replace('-', "−"));
    }
    let name = fall.steps.first().map_or("", |(name, _)| name);
    bar(0, (*first, 0.0), FULL, name, format!("${first:.2}"));
    let saved = (1.0 - last / first) * 100.0;
    bar(fall.steps.len(), (*last, 0.0), LEFT, fall.remains, format!("${last:.2}, {saved:.1} % less"));
}

/// A name in lines of about a dozen letters.
fn lines(name: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in name.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < 14 => *line = format!("{line} {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn text(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;")
}
