//! A picture as it is looked at: brought to a small square, with what only its full rows can tell beside it.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::{Raster, RasterError, contained, decode};
use crate::domain::Picture;

/// Edge of the square that a picture is brought to, in cells.
pub const SIDE: usize = 128;

/// Columns of a row that are looked at, at most.
const COLUMNS: usize = 256;

/// What may differ within one colour, in levels of 255: rounding, and what JPEG leaves of an even area.
const SAME: u8 = 3;

/// Rows that encoders make at a time, at most.
const BLOCK: usize = 16;

/// What is seen of a picture.
#[derive(Clone, Debug)]
pub struct Look {
    /// Width of the picture, in pixels.
    pub width: u32,
    /// Height of the picture, in pixels.
    pub height: u32,
    /// Red, green and blue of the picture, stretched to [`SIDE`] × [`SIDE`] cells, row by row from the top. What is
    /// transparent is laid on a middle grey, where both black and white can be seen.
    pub cells: Vec<[u8; 3]>,
    /// True if nothing of it can be seen at all.
    pub is_clear: bool,
    /// The even band at its bottom, if there is one.
    pub band: Option<Band>,
}

/// Rows at the bottom of a picture that are all of one colour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// Its share of the picture's height, from 0 to 1.
    pub share: f64,
    /// Red, green and blue.
    pub color: [u8; 3],
    /// True if nothing of it can be seen.
    pub is_clear: bool,
    /// Share of the row above it that is of clearly another colour, from 0 to 1.
    pub abrupt: f64,
    /// How much neighbours in the rows above it differ on average, in levels of 255: next to nothing in an even area
    /// or a smooth gradient.
    pub detail: f64,
    /// True if the picture has a band of the same colour at its top: then it is a frame.
    pub is_framed: bool,
}

impl Look {
    /// Decodes `picture` and looks at it: ten to twenty milliseconds per megapixel, on one thread and without waiting.
    ///
    /// # Errors
    /// It cannot be decoded.
    pub fn at(picture: &Picture) -> Result<Look, RasterError> {
        contained(picture.format, || {
            let raster = decode::decode(&picture.bytes, picture.format)?;
            raster.look().map_err(|why| RasterError::Damaged(picture.format, why))
        })
    }

    /// Luminance of the cells (ITU-R BT.601), from 0 to 255.
    pub fn grey(&self) -> Vec<f32> {
        let luminance = |[r, g, b]: &[u8; 3]| 0.299 * f32::from(*r) + 0.587 * f32::from(*g) + 0.114 * f32::from(*b);
        self.cells.iter().map(luminance).collect()
    }

    /// The widest range of any channel over all cells, from 0 to 255.
    pub fn spread(&self) -> u8 {
        spread(self.cells.iter().copied())
    }
}

fn spread(colors: impl Iterator<Item = [u8; 3]>) -> u8 {
    let (mut least, mut most) = ([255u8; 3], [0u8; 3]);
    for color in colors {
        for ((value, least), most) in color.iter().zip(&mut least).zip(&mut most) {
            *least = (*least).min(*value);
            *most = (*most).max(*value);
        }
    }
    least.iter().zip(&most).map(|(least, most)| most.saturating_sub(*least)).max().unwrap_or(0)
}

/// The largest difference of any channel.
fn distance(a: [u8; 3], b: [u8; 3]) -> u8 {
    a.iter().zip(&b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

/// Red, green and blue of a pixel, laid on a middle grey, and its opacity.
fn seen(pixel: &[u8]) -> ([u8; 3], u8) {
    let channel = |at: usize| pixel.get(at).copied().unwrap_or(0);
    let alpha = pixel.get(3).copied().unwrap_or(255);
    let mix = |value: u8| ((u32::from(value) * u32::from(alpha) + 128 * (255 - u32::from(alpha)) + 127) / 255) as u8;
    ([mix(channel(0)), mix(channel(1)), mix(channel(2))], alpha)
}

impl Raster {
    fn look(&self) -> Result<Look, String> {
        let kind = if self.has_alpha { PixelType::U8x4 } else { PixelType::U8x3 };
        let from = ImageRef::new(self.width, self.height, &self.pixels, kind).map_err(|why| why.to_string())?;
        let mut to = Image::new(SIDE as u32, SIDE as u32, kind);
        // The mean of each cell: what is small is faint then, but never lost, and it is the fastest there is.
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Box));
        Resizer::new().resize(&from, &mut to, &options).map_err(|why| why.to_string())?;
        let small = to.into_vec();
        let (cells, alphas): (Vec<_>, Vec<_>) = small.chunks_exact(self.depth()).map(seen).unzip();
        Ok(Look {
            width: self.width,
            height: self.height,
            cells,
            is_clear: alphas.iter().all(|alpha| *alpha <= SAME),
            band: self.band(),
        })
    }

    /// Some pixels of a row, evenly spread.
    fn row(&self, y: usize) -> impl Iterator<Item = ([u8; 3], u8)> {
        let (width, depth) = (self.width as usize, self.depth());
        let line = self.pixels.get(y * width * depth..(y + 1) * width * depth).unwrap_or_default();
        line.chunks_exact(depth).step_by((width / COLUMNS).max(1)).map(seen)
    }

    /// The even band at the bottom.
    fn band(&self) -> Option<Band> {
        let height = self.height as usize;
        let (color, alpha) = self.row(height.checked_sub(1)?).next()?;
        let is_of_it = |y: usize| {
            self.row(y).all(|(other, opacity)| distance(color, other) <= SAME && opacity.abs_diff(alpha) <= SAME)
        };
        let rows = (0..height).rev().take_while(|y| is_of_it(*y)).count();
        let above = height.checked_sub(rows + 1).filter(|_| rows > 0)?;
        let differing = |y: usize| {
            let differs: Vec<bool> = self.row(y).map(|(other, _)| distance(color, other) > 16).collect();
            differs.iter().filter(|differs| **differs).count() as f64 / differs.len().max(1) as f64
        };
        let neighbours = |y: usize| {
            let row: Vec<_> = self.row(y).map(|(color, _)| color).collect();
            let sum: u32 = row
                .windows(2)
                .map(|two| match two {
                    [a, b] => u32::from(distance(*a, *b)),
                    _ => 0,
                })
                .sum();
            f64::from(sum) / (row.len().saturating_sub(1).max(1)) as f64
        };
        // Several rows, because one may happen to be even; not the first, in which an encoder mixes both sides.
        let sampled: Vec<f64> = (above.saturating_sub(BLOCK)..above).map(neighbours).collect();
        Some(Band {
            share: rows as f64 / height as f64,
            color,
            is_clear: alpha <= SAME,
            // Where the last row of blocks was begun and not finished, the one before it is whole.
            abrupt: differing(above).max(differing(above.saturating_sub(BLOCK))),
            detail: sampled.iter().sum::<f64>() / sampled.len().max(1) as f64,
            is_framed: is_of_it(0),
        })
    }
}
