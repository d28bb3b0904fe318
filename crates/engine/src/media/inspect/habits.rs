//! What the pictures of one provider have in common that different pictures should not: a placeholder that comes for
//! whatever is asked, and the watermark of a free tier.
//!
//! Both are found by comparing pictures for *different* prompts. The tables are in memory, bounded, and of this process:
//! they hold small prints of pictures and hashes of words, neither pictures nor prompts.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::domain::{Check, Digest, Finding};
use crate::media::raster::{Look, SIDE};

/// Providers and models that are remembered, those that were met last.
const GROUPS: usize = 24;
/// Prints that are remembered of each.
const PRINTS: usize = 96;
/// Edge of a print, in cells.
const PRINT: usize = 16;
/// Different prompts for which the same picture must have come.
const PLACEHOLDER_PROMPTS: usize = 3;
/// Words of a prompt that are compared.
const WORDS: usize = 64;

/// Pictures of one model and size that are laid over each other before anything is said of a watermark.
const LEAST_PICTURES: f32 = 24.0;
/// After so many pictures older ones begin to count less.
const MOST_PICTURES: f32 = 192.0;
/// How unlike each other pictures must be that are laid over each other, as the mean difference of their prints, in levels
/// of 255: products before the same background have edges in common without any watermark.
const UNLIKE: u32 = 24;
/// Gradients are divided by their length plus this, in levels per cell, so that faint and strong edges count alike and
/// noise does not.
const SOFT: f32 = 4.0;
/// From which test statistic on the edges of a cell point the same way. Without anything in common it is
/// exponentially distributed with mean 1 (Rayleigh's test of directions), so that one cell in 160 000 gets there.
const COMMON: f32 = 12.0;
/// The least length of the mean of its directions: nearly all pictures must have that edge, and clearly.
const CLEAR: f32 = 0.4;
/// Cells that a watermark has, at least and at most.
const CELLS: std::ops::RangeInclusive<usize> = 48..=SIDE * SIDE / 5;
/// How much the directions of its edges may agree, from 0 to 1: writing has edges in all directions, frames and
/// horizons in one or two.
const ONE_WAY: f32 = 0.8;

/// Where a picture comes from.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The provider instance.
    pub provider: &'a str,
    /// Its model.
    pub model: &'a str,
    /// What it was asked for.
    pub prompt: &'a str,
}

/// What was met so far. All methods take turns.
#[derive(Debug, Default)]
pub struct Habits(Mutex<Met>);

#[derive(Debug, Default)]
struct Met {
    /// By provider, the last met at the end.
    prints: VecDeque<(String, VecDeque<Print>)>,
    /// By provider, model, width and height.
    overlays: VecDeque<((String, String, u32, u32), Overlay)>,
}

/// A picture, so small that two encodings of it are alike, and the prompts for which it came.
#[derive(Debug)]
struct Print {
    cells: Vec<[u8; 3]>,
    prompts: Vec<Prompt>,
}

/// The words of a prompt, as hashes, in order and each once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Prompt(Vec<u32>);

/// The edges of different pictures, laid over each other.
#[derive(Debug)]
struct Overlay {
    /// Pictures; older ones count less.
    count: f32,
    /// Sums over the pictures, per cell: directions, their squared lengths, and how many have an edge at all.
    across: Vec<f32>,
    down: Vec<f32>,
    squares: Vec<f32>,
    /// The last pictures in it: the next one must be unlike them.
    last: VecDeque<(Vec<[u8; 3]>, Prompt)>,
}

impl Habits {
    /// Remembers `look`, and says what it has in common with others. Call it once per picture.
    pub fn meet(&self, sent: Sent<'_>, look: &Look) -> Vec<Finding> {
        let print = print(look);
        let prompt = Prompt::of(sent.prompt);
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen_for = met.seen_for(sent.provider, &print, &prompt);
        if seen_for >= PLACEHOLDER_PROMPTS {
            return vec![Finding {
                check: Check::Placeholder,
                confidence: 0.95,
                what: format!("is the same that {} sent for {} other prompts", sent.provider, seen_for - 1),
            }];
        }
        let overlay = met.overlay(sent, look);
        let edges = Edges::of(&look.grey());
        let mark = overlay.mark();
        let has_mark = mark.is_some_and(|mark| edges.have(&mark));
        // What came before for another prompt would be laid over itself.
        if seen_for <= 1 {
            overlay.add(&edges, print, prompt);
        }
        let marked = has_mark.then(|| Finding {
            check: Check::Watermark,
            confidence: 0.8,
            what: format!("bears the same pattern at the same place as other pictures of {}", sent.model),
        });
        marked.into_iter().collect()
    }
}

impl Met {
    /// For how many different prompts `provider` has sent this picture, this one included.
    fn seen_for(&mut self, provider: &str, print: &[[u8; 3]], prompt: &Prompt) -> usize {
        let prints = latest(&mut self.prints, provider.to_owned(), VecDeque::new);
        let known = prints.iter().position(|known| is_same(&known.cells, print));
        let mut found = match known.and_then(|at| prints.remove(at)) {
            Some(found) => found,
            None => Print { cells: print.to_vec(), prompts: Vec::new() },
        };
        if found.prompts.len() < PLACEHOLDER_PROMPTS && found.prompts.iter().all(|known| known.is_unlike(prompt)) {
            found.prompts.push(prompt.clone());
        }
        let count = found.prompts.len();
        prints.push_back(found);
        if prints.len() > PRINTS {
            prints.pop_front();
        }
        count
    }

    fn overlay(&mut self, sent: Sent<'_>, look: &Look) -> &mut Overlay {
        let key = (sent.provider.to_owned(), sent.model.to_owned(), look.width, look.height);
        latest(&mut self.overlays, key, Overlay::new)
    }
}

/// The entry of `key`, moved to the end, where it is made if there is none; the one at the beginning makes room.
fn latest<K: PartialEq, V>(entries: &mut VecDeque<(K, V)>, key: K, make: impl FnOnce() -> V) -> &mut V {
    let known = entries.iter().position(|(known, _)| *known == key).and_then(|at| entries.remove(at));
    if entries.len() >= GROUPS {
        entries.pop_front();
    }
    let entry = known.unwrap_or_else(|| (key, make()));
    &mut entries.push_back_mut(entry).1
}

fn print(look: &Look) -> Vec<[u8; 3]> {
    let block = SIDE / PRINT;
    let mean = |row: usize, column: usize| {
        let mut sums = [0u32; 3];
        for y in row * block..(row + 1) * block {
            let from = y * SIDE + column * block;
            for cell in look.cells.get(from..from + block).unwrap_or_default() {
                for (sum, value) in sums.iter_mut().zip(cell) {
                    *sum += u32::from(*value);
                }
            }
        }
        sums.map(|sum| (sum / (block * block) as u32) as u8)
    };
    (0..PRINT).flat_map(|row| (0..PRINT).map(move |column| mean(row, column))).collect()
}

fn differences<'a>(a: &'a [[u8; 3]], b: &'a [[u8; 3]]) -> impl Iterator<Item = u8> + 'a {
    a.iter().zip(b).flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)))
}

/// True for two encodings of one picture: hardly any difference anywhere.
fn is_same(a: &[[u8; 3]], b: &[[u8; 3]]) -> bool {
    let mut sum = 0;
    for difference in differences(a, b) {
        if difference > 12 {
            return false;
        }
        sum += usize::from(difference);
    }
    // 1.5 levels on average.
    2 * sum <= 3 * 3 * a.len()
}

fn is_unlike(a: &[[u8; 3]], b: &[[u8; 3]]) -> bool {
    let sum: u32 = differences(a, b).map(u32::from).sum();
    sum >= UNLIKE * 3 * a.len() as u32
}

impl Prompt {
    fn of(text: &str) -> Prompt {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).take(4 * WORDS);
        let hash = |word: &str| {
            let Digest([a, b, c, d, ..]) = Digest::of(word.to_lowercase().as_bytes());
            u32::from_le_bytes([a, b, c, d])
        };
        let mut words: Vec<u32> = words.map(hash).collect();
        words.sort_unstable();
        words.dedup();
        words.truncate(WORDS);
        Prompt(words)
    }

    /// True if less than a third of all their words are in both. One with other numbers in it is the same.
    fn is_unlike(&self, other: &Prompt) -> bool {
        let both = self.0.iter().filter(|word| other.0.binary_search(word).is_ok()).count();
        let all = self.0.len() + other.0.len() - both;
        3 * both < all
    }
}

/// The edges of one picture: a direction per cell, as long as the edge is strong, at most 1.
struct Edges {
    across: Vec<f32>,
    down: Vec<f32>,
}

impl Edges {
    fn of(grey: &[f32]) -> Edges {
        let (mut across, mut down) = (Vec::with_capacity(grey.len()), Vec::with_capacity(grey.len()));
        let at = |x: usize, y: usize| grey.get(y * SIDE + x).copied().unwrap_or(0.0);
        for y in 0..SIDE {
            for x in 0..SIDE {
                let dx = at((x + 1).min(SIDE - 1), y) - at(x.saturating_sub(1), y);
                let dy = at(x, (y + 1).min(SIDE - 1)) - at(x, y.saturating_sub(1));
                let scale = 1.0 / (dx.hypot(dy) + SOFT);
                across.push(dx * scale);
                down.push(dy * scale);
            }
        }
        Edges { across, down }
    }

    /// True if most of the cells of `mark` have an edge that points as there.
    fn have(&self, mark: &[(usize, f32, f32)]) -> bool {
        let points_along = |&(cell, dx, dy): &(usize, f32, f32)| {
            let along = self.across.get(cell).zip(self.down.get(cell)).map(|(x, y)| x * dx + y * dy);
            along.is_some_and(|along| along > 0.25)
        };
        3 * mark.iter().filter(|cell| points_along(cell)).count() >= 2 * mark.len()
    }
}

impl Overlay {
    fn new() -> Overlay {
        let none = || vec![0.0; SIDE * SIDE];
        Overlay { count: 0.0, across: none(), down: none(), squares: none(), last: VecDeque::new() }
    }

    /// Lays the edges of a picture over the others, if it is another picture of something else.
    fn add(&mut self, edges: &Edges, print: Vec<[u8; 3]>, prompt: Prompt) {
        let is_new = |(other, words): &(Vec<[u8; 3]>, Prompt)| is_unlike(other, &print) && words.is_unlike(&prompt);
        if !self.last.iter().all(is_new) {
            return;
        }
        if self.count >= MOST_PICTURES {
            self.count /= 2.0;
            for sum in self.across.iter_mut().chain(&mut self.down).chain(&mut self.squares) {
                *sum /= 2.0;
            }
        }
        self.count += 1.0;
        let sums = self.across.iter_mut().zip(&mut self.down).zip(&mut self.squares);
        for (((across, down), squares), (x, y)) in sums.zip(edges.across.iter().zip(&edges.down)) {
            *across += x;
            *down += y;
            *squares += x * x + y * y;
        }
        self.last.push_back((print, prompt));
        if self.last.len() > 4 {
            self.last.pop_front();
        }
    }

    /// The cells that have the same edge in nearly all pictures, with its direction, if they are a watermark's.
    fn mark(&self) -> Option<Vec<(usize, f32, f32)>> {
        if self.count < LEAST_PICTURES {
            return None;
        }
        let sums = self.across.iter().zip(&self.down).zip(&self.squares).enumerate();
        let mark: Vec<(usize, f32, f32)> = sums
            .filter_map(|(cell, ((x, y), squares))| {
                let length = x.hypot(*y);
                let is_common = length * length > COMMON * squares && length > CLEAR * self.count;
                is_common.then(|| (cell, x / length, y / length))
            })
            .collect();
        // Opposite edges of one line are one direction, so angles are doubled.
        let (cosines, sines) =
            mark.iter().fold((0.0, 0.0), |(c, s): (f32, f32), (_, x, y)| (c + x * x - y * y, s + 2.0 * x * y));
        let is_one_way = cosines.hypot(sines) > ONE_WAY * mark.len() as f32;
        (CELLS.contains(&mark.len()) && !is_one_way).then_some(mark)
    }
}
