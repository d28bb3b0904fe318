//! What a picture is like: how much there is to see in it, and what is behind its subject. Measured on a small sample.

use crate::config::Background;
use crate::domain::Picture;
use crate::media::raster::{self, RasterError, Sample};

/// The longest edge of the sample that is measured, in pixels.
const SAMPLE: u32 = 256;
/// How steep brightness must be to count as an edge, of Sobel's 0–1020 per direction.
const EDGE: i32 = 96;
/// How far a colour may be from another one and still pass for it: ΔE*ab of CIE 1976. 2.3 is just noticeable; JPEG and
/// shadows add some.
const SAME_COLOUR: f32 = 10.0;
/// The share of a picture's edges that its border takes.
const BORDER: u32 = 16;

/// A background is plain if so much of the border has one colour,
const EVEN: f32 = 0.95;
/// and smooth if no more of the border than this is edges.
const SMOOTH: f32 = 0.03;
/// A picture with so many edges is as complex as can be. Photographs of crowds and foliage have more.
const ALL_EDGES: f32 = 0.25;

/// Measures of one picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// The share of pixels where brightness is steep, 0–1 (Sobel).
    pub edges: f32,
    /// How evenly all levels of brightness are used, in bits, 0–8 (Shannon).
    pub entropy: f32,
    /// The share of the border whose colour is within ΔE 10 of the border's median colour, 0–1.
    pub even: f32,
    /// The share of the border where brightness is steep, 0–1.
    pub rough: f32,
    /// How colourful it is: 0 is grey, above 60 vivid. Hasler and Süsstrunk, "Measuring colourfulness in natural
    /// images" (2003).
    pub colourfulness: f32,
}

impl Look {
    /// Looks at `picture`, for some ten milliseconds per megapixel, on this thread.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn at(picture: &Picture) -> Result<Look, RasterError> {
        raster::sample(picture, SAMPLE).map(|sample| Look::of(&sample))
    }

    fn of(sample: &Sample) -> Look {
        let lumas: Vec<i32> = sample.pixels().iter().map(luma).collect();
        let canvas = Canvas { width: sample.width() as usize, height: sample.height() as usize };
        let steep: Vec<bool> = canvas.places().map(|(x, y)| canvas.slope(&lumas, x, y) >= EDGE).collect();
        let border: Vec<bool> = canvas.places().map(|(x, y)| canvas.is_border(x, y)).collect();
        let edge = |index: usize| border.get(index).copied().unwrap_or_default();
        let around: Vec<[u8; 3]> =
            sample.pixels().iter().enumerate().filter(|(i, _)| edge(*i)).map(|(_, p)| *p).collect();
        let rough = steep.iter().enumerate().filter(|(index, _)| edge(*index)).map(|(_, steep)| *steep);
        Look {
            edges: share(steep.iter().copied()),
            entropy: entropy(&lumas),
            even: evenness(&around),
            rough: share(rough),
            colourfulness: colourfulness(sample.pixels()),
        }
    }

    /// What is behind its subject.
    pub fn background(&self) -> Background {
        if self.even >= EVEN && self.rough <= SMOOTH {
            Background::Plain
        } else if self.rough <= SMOOTH {
            Background::Simple
        } else {
            Background::Complex
        }
    }

    /// How much there is to draw, 0–1: mostly edges, and a little how many levels of brightness.
    pub fn complexity(&self) -> f32 {
        (0.8 * (self.edges / ALL_EDGES).min(1.0) + 0.2 * self.entropy / 8.0).clamp(0.0, 1.0)
    }
}

#[derive(Clone, Copy)]
struct Canvas {
    width: usize,
    height: usize,
}

impl Canvas {
    fn places(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.height).flat_map(move |y| (0..self.width).map(move |x| (x, y)))
    }

    /// How steep brightness is at a place, as the sum of both directions. Beyond the edge it goes on as it ends.
    fn slope(self, lumas: &[i32], x: usize, y: usize) -> i32 {
        let at = |dx: usize, dy: usize| {
            let x = (x + dx).saturating_sub(1).min(self.width.saturating_sub(1));
            let y = (y + dy).saturating_sub(1).min(self.height.saturating_sub(1));
            lumas.get(y * self.width + x).copied().unwrap_or_default()
        };
        let across = at(2, 0) + 2 * at(2, 1) + at(2, 2) - at(0, 0) - 2 * at(0, 1) - at(0, 2);
        let down = at(0, 2) + 2 * at(1, 2) + at(2, 2) - at(0, 0) - 2 * at(1, 0) - at(2, 0);
        across.abs() + down.abs()
    }

    fn is_border(self, x: usize, y: usize) -> bool {
        let wide = (self.width.max(self.height) / BORDER as usize).max(1);
        x < wide || y < wide || x + wide >= self.width || y + wide >= self.height
    }
}

fn share(them: impl Iterator<Item = bool>) -> f32 {
    let (all, those) = them.fold((0_u32, 0_u32), |(all, those), is| (all + 1, those + u32::from(is)));
    if all == 0 { 0.0 } else { those as f32 / all as f32 }
}

/// Brightness as JPEG has it (Rec. 601), 0–255.
fn luma(&[r, g, b]: &[u8; 3]) -> i32 {
    (299 * i32::from(r) + 587 * i32::from(g) + 114 * i32::from(b) + 500) / 1000
}

fn entropy(lumas: &[i32]) -> f32 {
    let mut levels = [0_u32; 256];
    for luma in lumas {
        if let Some(level) = usize::try_from(*luma).ok().and_then(|luma| levels.get_mut(luma)) {
            *level += 1;
        }
    }
    let all = lumas.len().max(1) as f32;
    let used = levels.iter().filter(|level| **level > 0).map(|level| *level as f32 / all);
    // −0 would be told as such.
    used.map(|share| -share * share.log2()).sum::<f32>().max(0.0)
}

/// The share of `colours` that pass for their median.
fn evenness(colours: &[[u8; 3]]) -> f32 {
    let channel = |index: usize| {
        let mut values: Vec<u8> = colours.iter().filter_map(|colour| colour.get(index).copied()).collect();
        let middle = values.len() / 2;
        if values.is_empty() { 0 } else { *values.select_nth_unstable(middle).1 }
    };
    let median = lab([channel(0), channel(1), channel(2)]);
    share(colours.iter().map(|colour| {
        let other = lab(*colour);
        let squares: f32 = median.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
        squares.sqrt() <= SAME_COLOUR
    }))
}

/// sRGB (IEC 61966-2-1) to L*a*b* (CIE 15) under D65.
fn lab([r, g, b]: [u8; 3]) -> [f32; 3] {
    let linear = |channel: u8| {
        let channel = f32::from(channel) / 255.0;
        if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
    };
    let (r, g, b) = (linear(r), linear(g), linear(b));
    let x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505;
    let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089;
    let f = |t: f32| if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
    let (x, y, z) = (f(x), f(y), f(z));
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

fn colourfulness(pixels: &[[u8; 3]]) -> f32 {
    let opposed = |pixel: &[u8; 3]| {
        let [r, g, b] = pixel.map(f32::from);
        (r - g, (r + g) / 2.0 - b)
    };
    let spread = |values: &dyn Fn(&[u8; 3]) -> f32| {
        let count = pixels.len().max(1) as f32;
        let mean = pixels.iter().map(values).sum::<f32>() / count;
        let variance = pixels.iter().map(|pixel| (values(pixel) - mean).powi(2)).sum::<f32>() / count;
        (mean, variance)
    };
    let (red, red_variance) = spread(&|pixel| opposed(pixel).0);
    let (yellow, yellow_variance) = spread(&|pixel| opposed(pixel).1);
    (red_variance + yellow_variance).sqrt() + 0.3 * red.hypot(yellow)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// A picture that is 200 × 160 pixels, each as `pixel` says.
    fn look(pixel: impl Fn(u32, u32) -> [u8; 3]) -> Look {
        let (width, height) = (200, 160);
        let pixels: Vec<u8> =
            (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| pixel(x, y)).collect();
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        Look::at(&crate::media::examine(Bytes::from(bytes)).unwrap()).unwrap()
    }

    fn is_object(x: u32, y: u32) -> bool {
        (60..140).contains(&x) && (40..120).contains(&y)
    }

    #[test]
    fn measures_have_their_known_values() {
        let grey = look(|_, _| [128; 3]);
        assert_eq!(grey, Look { edges: 0.0, entropy: 0.0, even: 1.0, rough: 0.0, colourfulness: 0.0 });
        let halves = look(|x, _| if x < 100 { [0; 3] } else { [255; 3] });
        assert!((halves.entropy - 1.0).abs() < 1e-5, "two levels, half of the pixels each, are one bit: {halves:?}");
        assert!((halves.edges - 2.0 / 200.0).abs() < 1e-6, "the two columns at the seam: {halves:?}");
        let red = look(|_, _| [255, 0, 0]);
        assert!((red.colourfulness - 0.3 * 255.0_f32.hypot(127.5)).abs() < 0.01, "{red:?}");
        let [l, a, b] = lab([255, 255, 255]);
        assert!((l - 100.0).abs() < 0.1 && a.abs() < 0.1 && b.abs() < 0.1);
    }

    #[test]
    fn backgrounds_are_told_apart() {
        let plain = look(|x, y| if is_object(x, y) { [180, 40, 30] } else { [255; 3] });
        let gradient =
            look(|x, y| if is_object(x, y) { [180, 40, 30] } else { [(x + 20) as u8, 120, (250 - y) as u8] });
        let texture =
            look(
                |x, y| {
                    if is_object(x, y) { [180, 40, 30] } else { [if (x / 3 + y / 3) % 2 == 0 { 40 } else { 210 }; 3] }
                },
            );
        assert_eq!(
            [plain, gradient, texture].map(|look| look.background()),
            [Background::Plain, Background::Simple, Background::Complex]
        );
        assert!(plain.complexity() < super::super::weigh::EASY, "{plain:?}");
        assert!(texture.complexity() > super::super::weigh::FULL, "{texture:?}");
    }

    #[test]
    fn a_single_pixel_and_a_line_are_pictures_too() {
        for (width, height) in [(1, 1), (1, 300), (300, 1)] {
            let mut bytes = Vec::new();
            let encoder = png::Encoder::new(&mut bytes, width, height);
            encoder.write_header().unwrap().write_image_data(&vec![7; (width * height) as usize]).unwrap();
            let look = Look::at(&crate::media::examine(Bytes::from(bytes)).unwrap()).unwrap();
            assert_eq!(look.background(), Background::Plain);
        }
    }
}
