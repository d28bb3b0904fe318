//! The confusion of categories as a picture.

use std::fmt::Write as _;

use crate::score::{Score, matrix};

const CELL: usize = 30;
const LEFT: usize = 96;
const TOP: usize = 120;

/// An SVG: a row per labelled category, a column per category read, darker where more prompts of the row are.
pub fn map(score: &Score, categories: &[&str]) -> String {
    let matrix = matrix(score);
    let (width, height) = (LEFT + categories.len() * CELL + 20, TOP + categories.len() * CELL + 20);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\">Categories of held-out prompts: labelled (rows), read (columns)</text>\n"
    );
    for (row, said) in categories.iter().enumerate() {
        let y = TOP + row * CELL;
        let all: u32 = matrix.iter().filter(|((label, _), _)| label == said).map(|(_, times)| *times).sum();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{said}</text>", LEFT - 6, y + 19);
        let x = LEFT + row * CELL + 19;
        let _ = writeln!(out, "<text transform=\"translate({x} {}) rotate(-60)\">{said}</text>", TOP - 6);
        for (column, read) in categories.iter().enumerate() {
            let times = matrix.get(&(*said, *read)).copied().unwrap_or_default();
            let share = f64::from(times) / f64::from(all.max(1));
            let colour = if said == read { "#1e88e5" } else { "#e53935" };
            let x = LEFT + column * CELL;
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"{colour}\" fill-opacity=\"{share:.2}\" \
                 stroke=\"#ddd\"/>"
            );
            if times > 0 {
                let _ = writeln!(
                    out,
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{times}</text>",
                    x + CELL / 2,
                    y + 19
                );
            }
        }
    }
    out + "</svg>\n"
}
