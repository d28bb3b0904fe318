//! A canvas and the few strokes the scenes need. Edges are softened over one pixel.

/// Red, green, blue, each 0 to 255.
pub(super) type Rgb = [u8; 3];

/// An opaque or cut-out picture while it is painted.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    /// Red, green, blue, alpha, row by row.
    pixels: Vec<[u8; 4]>,
}

impl Canvas {
    /// A canvas of that size in pixels, fully transparent.
    pub(super) fn new(width: u32, height: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        Self { width, height, pixels: vec![[0; 4]; width * height] }
    }

    /// Width in pixels.
    pub(super) fn width(&self) -> f32 {
        self.width as f32
    }

    /// Height in pixels.
    pub(super) fn height(&self) -> f32 {
        self.height as f32
    }

    /// The samples in rows, with alpha or without.
    pub(super) fn samples(&self, alpha: bool) -> Vec<u8> {
        if alpha {
            return self.pixels.as_flattened().to_vec();
        }
        let mut samples = Vec::with_capacity(self.pixels.len() * 3);
        for [red, green, blue, _] in &self.pixels {
            samples.extend_from_slice(&[*red, *green, *blue]);
        }
        samples
    }

    /// Covers everything with a gradient from `top` to `bottom`.
    pub(super) fn gradient(&mut self, top: Rgb, bottom: Rgb) {
        let last = (self.height.max(2) - 1) as f32;
        for (y, row) in self.pixels.chunks_exact_mut(self.width).enumerate() {
            row.fill(opaque(mix(top, bottom, y as f32 / last)));
        }
    }

    /// A disc of radius `radius` around (`x`, `y`), in pixels; `strength` from 0 (nothing) to 1 (solid).
    pub(super) fn disc(&mut self, (x, y): (f32, f32), radius: f32, color: Rgb, strength: f32) {
        self.round((x, y), radius + 1.0, color, |distance| strength * (radius + 0.5 - distance).clamp(0.0, 1.0));
    }

    /// A disc without what a second disc of nine tenths its size hides, `aside` (right, down) of it, in pixels.
    pub(super) fn crescent(&mut self, (x, y): (f32, f32), radius: f32, aside: (f32, f32), color: Rgb) {
        let inside =
            |right: f32, down: f32, radius: f32| (radius + 0.5 - (right * right + down * down).sqrt()).clamp(0.0, 1.0);
        for row in span(y - radius - 1.0, y + radius + 1.0, self.height) {
            for column in span(x - radius - 1.0, x + radius + 1.0, self.width) {
                let (right, down) = (column as f32 + 0.5 - x, row as f32 + 0.5 - y);
                let hidden = inside(right - aside.0, down - aside.1, radius * 0.9);
                let cover = inside(right, down, radius) * (1.0 - hidden);
                self.cover(row * self.width + column, color, cover);
            }
        }
    }

    /// A light that fades from `strength` at the centre to nothing at `radius`.
    pub(super) fn glow(&mut self, (x, y): (f32, f32), radius: f32, color: Rgb, strength: f32) {
        self.round((x, y), radius, color, |distance| {
            let near = 1.0 - distance / radius;
            strength * near * near
        });
    }

    fn round(&mut self, (x, y): (f32, f32), reach: f32, color: Rgb, cover: impl Fn(f32) -> f32) {
        for row in span(y - reach, y + reach, self.height) {
            let down = row as f32 + 0.5 - y;
            let half = (reach * reach - down * down).max(0.0).sqrt();
            for column in span(x - half, x + half, self.width) {
                let across = column as f32 + 0.5 - x;
                let cover = cover((across * across + down * down).sqrt());
                self.cover(row * self.width + column, color, cover);
            }
        }
    }

    /// Fills everything below a line. `line` gives, for a column from 0 to 1, the line's distance from the top, 0 to
    /// 1. The colour goes from `top` at the line's highest point to `bottom` at the lower edge.
    pub(super) fn ridge(&mut self, top: Rgb, bottom: Rgb, line: impl Fn(f32) -> f32) {
        let (width, height) = (self.width(), self.height());
        let edge: Vec<f32> = (0..self.width).map(|x| line((x as f32 + 0.5) / width) * height).collect();
        let highest = edge.iter().copied().fold(height, f32::min).max(0.0);
        for row in span(highest, height, self.height) {
            let color = mix(top, bottom, (row as f32 - highest) / (height - highest).max(1.0));
            let start = row * self.width;
            for (column, edge) in edge.iter().enumerate() {
                let cover = row as f32 + 1.0 - edge;
                if cover >= 1.0 {
                    self.pixels[start + column] = opaque(color);
                } else if cover > 0.0 {
                    self.cover(start + column, color, cover);
                }
            }
        }
    }

    /// A rectangle, in pixels.
    pub(super) fn rectangle(
        &mut self,
        (left, top): (f32, f32),
        (width, height): (f32, f32),
        color: Rgb,
        strength: f32,
    ) {
        for row in span(top, top + height, self.height) {
            for column in span(left, left + width, self.width) {
                self.cover(row * self.width + column, color, strength);
            }
        }
    }

    /// Lays a colour over a pixel; `cover` from 0 to 1.
    fn cover(&mut self, index: usize, color: Rgb, cover: f32) {
        let Some(pixel) = self.pixels.get_mut(index) else {
            return;
        };
        let [red, green, blue, alpha] = *pixel;
        let below = f32::from(alpha) / 255.0 * (1.0 - cover);
        let whole = cover + below;
        if whole <= 0.0 {
            return;
        }
        let [red, green, blue] = mix(color, [red, green, blue], below / whole);
        *pixel = [red, green, blue, (whole * 255.0 + 0.5) as u8];
    }
}

/// `from` at 0, `to` at 1.
pub(super) fn mix(from: Rgb, to: Rgb, share: f32) -> Rgb {
    let blend = |from: u8, to: u8| (f32::from(from) + (f32::from(to) - f32::from(from)) * share + 0.5) as u8;
    [blend(from[0], to[0]), blend(from[1], to[1]), blend(from[2], to[2])]
}

fn opaque([red, green, blue]: Rgb) -> [u8; 4] {
    [red, green, blue, 255]
}

/// The whole pixels touched between two positions, kept inside 0 to `end`.
fn span(from: f32, to: f32, end: usize) -> std::ops::Range<usize> {
    // Casts of floats saturate, so positions outside are simply cut.
    (from.floor() as usize).min(end)..(to.ceil() as usize).min(end)
}
