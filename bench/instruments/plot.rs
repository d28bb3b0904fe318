//! A picture of a run, as SVG: one panel over the other, over the same seconds.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const PANEL: f64 = 150.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 34.0;

/// Values over time.
#[derive(Debug)]
pub struct Panel<'a> {
    /// What is shown, with its unit.
    pub title: &'a str,
    /// The lines in it.
    pub lines: Vec<Line<'a>>,
}

/// One line: what it is called, its colour, and its points as (second, value).
pub type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

/// The whole picture.
pub fn svg(seconds: f64, panels: &[Panel]) -> String {
    let height = panels.len() as f64 * (PANEL + TOP) + 30.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        draw(&mut out, panel, seconds, index as f64 * (PANEL + TOP) + TOP);
    }
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{:.0}\">0 s</text>", height - 12.0);
    let _ = writeln!(
        out,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{seconds:.0} s</text>\n</svg>",
        WIDTH - 10.0,
        height - 12.0
    );
    out
}

fn draw(out: &mut String, panel: &Panel, seconds: f64, top: f64) {
    let highest =
        panel.lines.iter().flat_map(|(_, _, points)| points).map(|(_, value)| *value).fold(1.0, f64::max) * 1.1;
    let (right, bottom) = (WIDTH - 10.0, top + PANEL);
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{:.0}\" font-weight=\"bold\">{}</text>", top - 8.0, panel.title);
    let _ = writeln!(out, "<path d=\"M{LEFT} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>");
    for (value, y) in [(highest, top + 10.0), (0.0, bottom)] {
        let _ = writeln!(out, "<text x=\"{:.0}\" y=\"{y:.0}\" text-anchor=\"end\">{value:.0}</text>", LEFT - 6.0);
    }
    for (index, (name, color, points)) in panel.lines.iter().enumerate() {
        let place = |(second, value): &(f64, f64)| {
            let x = LEFT + second / seconds * (right - LEFT);
            format!("{x:.1},{:.1}", bottom - value / highest * PANEL)
        };
        let points: Vec<String> = points.iter().map(place).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>",
            points.join(" ")
        );
        let x = right - 130.0 * (panel.lines.len() - index) as f64;
        let _ = writeln!(out, "<text x=\"{x:.0}\" y=\"{:.0}\" fill=\"{color}\">{name}</text>", top - 8.0);
    }
}
