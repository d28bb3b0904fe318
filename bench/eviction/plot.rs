//! The dollars as a picture.

use std::fmt::Write as _;

use crate::run::{Outcome, RIVALS};

const ROW: usize = 17;
const LEFT: usize = 130;
const PANEL: usize = 250;
const TOP: usize = 74;
const COLOURS: [&str; 7] = ["#9aa0a6", "#795548", "#1e88e5", "#00897b", "#fb8c00", "#8e24aa", "#7cb342"];

/// An SVG: a panel per capacity, a row per trace, a dot per policy at the percentage of the offline bound that it saves.
pub fn dollars(outcomes: &[Outcome]) -> String {
    let mut panels: Vec<u64> = outcomes.iter().map(|outcome| outcome.percent).collect();
    panels.sort_unstable();
    panels.dedup();
    let rows = outcomes.len() / panels.len().max(1);
    let (width, height) = (LEFT + panels.len() * PANEL + 20, TOP + rows * ROW + 34);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\">Dollars saved, in percent of the offline bound</text>\n"
    );
    legend(&mut out);
    for (panel, percent) in panels.iter().enumerate() {
        let x = LEFT + panel * PANEL;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\">cache of {percent} %</text>", TOP - 10);
        for share in [0, 25, 50, 75, 100] {
            let at = x + share * (PANEL - 30) / 100;
            let _ = writeln!(
                out,
                "<path d=\"M{at} {TOP}V{}\" stroke=\"#ddd\"/><text x=\"{at}\" y=\"{}\" text-anchor=\"middle\" \
                 fill=\"#666\">{share}</text>",
                TOP + rows * ROW,
                TOP + rows * ROW + 16
            );
        }
        for (row, outcome) in outcomes.iter().filter(|outcome| outcome.percent == *percent).enumerate() {
            let y = TOP + row * ROW + ROW / 2;
            if panel == 0 {
                let _ = writeln!(out, "<text x=\"10\" y=\"{}\">{}</text>", y + 4, outcome.trace);
            }
            for (index, tally) in outcome.tallies.iter().enumerate() {
                let share = tally.saved as f64 / outcome.bound.max(1) as f64;
                dot(&mut out, index, x as f64 + share * (PANEL - 30) as f64, y);
            }
        }
    }
    out + "</svg>\n"
}

fn legend(out: &mut String) {
    for (index, name) in RIVALS.iter().map(|(name, _)| *name).chain(["Mimeo"]).enumerate() {
        let x = 16 + index * 92;
        dot(out, index, x as f64, 38);
        let _ = writeln!(out, "<text x=\"{}\" y=\"42\">{name}</text>", x + 9);
    }
}

fn dot(out: &mut String, policy: usize, x: f64, y: usize) {
    let _ = match COLOURS.get(policy) {
        Some(colour) => {
            writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\" fill-opacity=\".75\"/>")
        }
        // Ours: large, red, and last, so that nothing covers it.
        None => writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"5\" fill=\"none\" stroke=\"#d50000\" stroke-width=\"2\"/>"
        ),
    };
}
