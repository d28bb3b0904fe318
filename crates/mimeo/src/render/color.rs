//! Colours as the templates need them: parsed from `#rrggbb`, moved in lightness without losing their hue,
//! and paired with ink that can be read on them.

use std::fmt;

/// An opaque sRGB colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rgb(pub [u8; 3]);

impl Rgb {
    /// Near-black and white: the two inks that [`Rgb::ink`] picks from.
    const INKS: [Rgb; 2] = [Rgb([0x10, 0x12, 0x17]), Rgb([0xff, 0xff, 0xff])];

    /// Parses `#rgb` and `#rrggbb`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#')?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let number = u32::from_str_radix(digits, 16).ok()?;
        match digits.len() {
            3 => Some(Self([8, 4, 0].map(|shift| ((number >> shift) & 0xf) as u8 * 0x11))),
            6 => Some(Self([16, 8, 0].map(|shift| (number >> shift) as u8))),
            _ => None,
        }
    }

    /// WCAG 2 relative luminance, 0 to 1.
    fn luminance(self) -> f64 {
        let [r, g, b] = self.0.map(to_linear);
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    /// WCAG 2 contrast ratio, 1 to 21.
    pub(super) fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance() + 0.05, other.luminance() + 0.05);
        if a > b { a / b } else { b / a }
    }

    /// The ink, near-black or white, that is easier to read on `self`; black on the few middle greys where
    /// neither reaches a contrast of 4.5.
    pub(super) fn ink(self) -> Self {
        let [dark, light] = Self::INKS;
        let better = if self.contrast(dark) >= self.contrast(light) { dark } else { light };
        if self.contrast(better) >= 4.5 { better } else { Self([0; 3]) }
    }

    /// The same hue at another lightness (OKLCH, 0 to 1), with `chroma` times the colourfulness.
    /// Where sRGB has no such colour it is made paler until it has one.
    pub(super) fn tone(self, lightness: f64, chroma: f64) -> Self {
        let [_, a, b] = self.to_oklab();
        let (a, b) = (a * chroma, b * chroma);
        let lightness = lightness.clamp(0.0, 1.0);
        // 24 steps of 4 % are finer than an 8-bit channel can show.
        (0..=24)
            .map(|step| 1.0 - f64::from(step) / 24.0)
            .find_map(|keep| Self::from_oklab([lightness, a * keep, b * keep]))
            .unwrap_or(Self::INKS[usize::from(lightness > 0.5)])
    }

    /// `self`, moved in lightness just far enough to reach a contrast of `ratio` on `ground`.
    pub(super) fn readable_on(self, ground: Self, ratio: f64) -> Self {
        let [from, ..] = self.to_oklab();
        let to = if ground.luminance() > 0.18 { 0.0 } else { 1.0 };
        (0..=20)
            .map(|step| f64::from(step) / 20.0)
            .map(|t| if t == 0.0 { self } else { self.tone(from + (to - from) * t, 1.0) })
            .find(|color| color.contrast(ground) >= ratio)
            .unwrap_or_else(|| ground.ink())
    }

    /// Björn Ottosson's OKLab, in which equal steps look equal.
    fn to_oklab(self) -> [f64; 3] {
        let [r, g, b] = self.0.map(to_linear);
        let l = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b).cbrt();
        let m = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b).cbrt();
        let s = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b).cbrt();
        [
            0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
            1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
            0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s,
        ]
    }

    /// The colour, if sRGB has it (within half an 8-bit step).
    fn from_oklab([lightness, a, b]: [f64; 3]) -> Option<Self> {
        let l = (lightness + 0.3963377774 * a + 0.2158037573 * b).powi(3);
        let m = (lightness - 0.1055613458 * a - 0.0638541728 * b).powi(3);
        let s = (lightness - 0.0894841775 * a - 1.2914855480 * b).powi(3);
        let linear = [
            4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
            -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
            -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
        ];
        linear.iter().all(|channel| (-0.002..=1.002).contains(channel)).then(|| Self(linear.map(from_linear)))
    }
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

fn to_linear(channel: u8) -> f64 {
    let c = f64::from(channel) / 255.0;
    if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
}

fn from_linear(channel: f64) -> u8 {
    let c = if channel <= 0.0031308 { channel * 12.92 } else { 1.055 * channel.powf(1.0 / 2.4) - 0.055 };
    (c.clamp(0.0, 1.0) * 255.0).round() as u8
}
