//! The scenes: landscapes for generations, still lifes for edits, each with its label in a corner.

use super::Look;
use super::canvas::{Canvas, Rgb, mix};

/// Number of different motifs: three kinds of landscape in eight palettes each.
pub(super) const MOTIFS: u8 = 24;

/// The one colour of a picture with nothing on it.
const BLANK: Rgb = [127, 127, 127];

struct Palette {
    zenith: Rgb,
    horizon: Rgb,
    light: Rgb,
    far: Rgb,
    near: Rgb,
    accent: Rgb,
}

const PALETTES: [Palette; 8] = [
    // Early morning, rose and slate.
    palette(0x3b4a7a, 0xf6b9a4, 0xfff1dc, 0x9a86a8, 0x2b2f4e, 0xe86f68),
    // Clear noon over meadows.
    palette(0x3f8fd2, 0xd9f0f7, 0xfffbe8, 0x9cc5b0, 0x2f6b4f, 0xf2b84b),
    // Amber evening.
    palette(0x70385c, 0xffb45e, 0xfff0b8, 0xb96a5b, 0x3a1f3d, 0xf25f4c),
    // Teal dusk.
    palette(0x0f3d57, 0x8fd3c8, 0xfdf6d8, 0x4f8f98, 0x0c2a3a, 0xf08a5d),
    // Lavender haze.
    palette(0x5a5fa8, 0xf0d9ee, 0xffffff, 0xa9a0cf, 0x3d3a72, 0xe6a4b4),
    // Desert.
    palette(0x4a90b8, 0xfce3bf, 0xfff8e7, 0xe0a878, 0x8a4b3a, 0xc8553d),
    // Northern winter.
    palette(0x5f86ad, 0xeef4f8, 0xffffff, 0xb9cddc, 0x3f5b78, 0xd96c75),
    // Deep forest, mist.
    palette(0x2f5d50, 0xe3eed4, 0xfffde0, 0x86a98c, 0x16352c, 0xf0c808),
];

const fn palette(zenith: u32, horizon: u32, light: u32, far: u32, near: u32, accent: u32) -> Palette {
    Palette {
        zenith: rgb(zenith),
        horizon: rgb(horizon),
        light: rgb(light),
        far: rgb(far),
        near: rgb(near),
        accent: rgb(accent),
    }
}

const fn rgb(hex: u32) -> Rgb {
    let [_, red, green, blue] = hex.to_be_bytes();
    [red, green, blue]
}

/// Numbers from 0 to 1 that depend on nothing but the motif.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.roll()
    }
}

/// Paints a look.
pub(super) fn paint(look: &Look) -> Canvas {
    let mut canvas = Canvas::new(look.width, look.height);
    if look.is_blank {
        canvas.gradient(BLANK, BLANK);
        return canvas;
    }
    let colors = &PALETTES[usize::from(look.motif) % PALETTES.len()];
    let mut dice = Dice(u64::from(look.motif) << 1 | u64::from(look.edit));
    if look.edit {
        still_life(&mut canvas, look, colors, &mut dice);
    } else {
        landscape(&mut canvas, look, colors, &mut dice);
    }
    label(&mut canvas);
    canvas
}

fn landscape(canvas: &mut Canvas, look: &Look, colors: &Palette, dice: &mut Dice) {
    let (width, height) = (canvas.width(), canvas.height());
    let unit = width.min(height);
    let night = look.motif / 8 == 2;
    let zenith = if night { mix(colors.zenith, [8, 10, 30], 0.75) } else { colors.zenith };
    let horizon = if night { mix(colors.horizon, colors.zenith, 0.7) } else { colors.horizon };
    if !look.transparent {
        canvas.gradient(zenith, horizon);
    }
    if night {
        for _ in 0..90 {
            let place = (dice.roll() * width, dice.roll() * dice.roll() * height * 0.7);
            canvas.disc(place, dice.between(0.0006, 0.0024) * unit, [255, 255, 255], dice.between(0.3, 0.95));
        }
    }

    let sun = (dice.between(0.2, 0.8) * width, dice.between(0.2, 0.42) * height);
    let radius = dice.between(0.055, 0.1) * unit;
    let glow = if night { 0.45 } else { 0.75 };
    if !look.transparent {
        canvas.glow(sun, radius * dice.between(5.0, 7.0), colors.light, glow);
    }
    if night {
        canvas.crescent(sun, radius, (radius * 0.45, radius * -0.2), colors.light);
    } else {
        canvas.disc(sun, radius, colors.light, 1.0);
    }

    let lake = look.motif / 8 == 1;
    let layers: u8 = if lake { 3 } else { 5 };
    let base = if lake { 0.5 } else { 0.46 };
    let haze = mix(horizon, colors.far, 0.75);
    let (far, near) = match night {
        true => (mix(haze, zenith, 0.45), mix(colors.near, [5, 6, 16], 0.6)),
        false => (haze, colors.near),
    };
    for layer in 0..layers {
        let depth = f32::from(layer) / f32::from(layers - 1);
        let body = mix(far, near, depth);
        let line = base + depth * if lake { 0.12 } else { 0.36 };
        let rough = dice.between(0.04, 0.09) * (1.25 - depth * 0.6);
        let waves: [(f32, f32, f32); 4] = std::array::from_fn(|octave| {
            let octave = octave as f32;
            let pitch = dice.between(0.7, 1.3) * (1.6f32).powf(octave * 1.4) * 3.2 * (width / unit);
            (rough / (1.0 + octave * 1.1), pitch, dice.roll() * std::f32::consts::TAU)
        });
        let mist = mix(body, horizon, 0.35 * (1.0 - depth));
        canvas.ridge(body, mist, |x| {
            line + waves.iter().map(|(high, pitch, phase)| high * (x * pitch + phase).sin()).sum::<f32>()
        });
    }
    if lake {
        water(canvas, zenith, horizon, colors, sun, radius, dice);
    } else if !night {
        birds(canvas, colors.near, dice);
    }
}

/// Still water over the lower part, with the light broken on it.
fn water(
    canvas: &mut Canvas,
    zenith: Rgb,
    horizon: Rgb,
    colors: &Palette,
    sun: (f32, f32),
    radius: f32,
    dice: &mut Dice,
) {
    let (width, height) = (canvas.width(), canvas.height());
    let shore = 0.68;
    canvas.ridge(mix(horizon, colors.far, 0.25), mix(zenith, colors.near, 0.45), |_| shore);
    let rows = 46;
    for row in 0..rows {
        let down = row as f32 / rows as f32;
        let y = height * (shore + 0.012 + (1.0 - shore) * down * 0.96);
        let thick = (height * (0.0012 + 0.0045 * down)).max(1.0);
        let long = radius * (0.5 + 2.2 * down) * dice.between(0.4, 1.0);
        let left = sun.0 + dice.between(-0.5, 0.5) * radius * (0.6 + 1.6 * down) - long / 2.0;
        canvas.rectangle((left, y), (long, thick), colors.light, 0.55 * (1.0 - down * 0.6));
        let left = dice.roll() * width;
        canvas.rectangle((left, y), (width * dice.between(0.02, 0.14), thick), horizon, 0.22);
    }
}

/// A few birds far away, each two short arcs of dots.
fn birds(canvas: &mut Canvas, color: Rgb, dice: &mut Dice) {
    let (width, height) = (canvas.width(), canvas.height());
    let unit = width.min(height);
    let flock = (dice.between(0.15, 0.7) * width, dice.between(0.14, 0.32) * height);
    for _ in 0..5 {
        let span = dice.between(0.010, 0.019) * unit;
        let place = (flock.0 + dice.between(-0.1, 0.1) * unit, flock.1 + dice.between(-0.05, 0.05) * unit);
        for step in -12i8..=12 {
            let along = f32::from(step) / 12.0;
            let lift = (along.abs() * std::f32::consts::PI).sin() * span * 0.45;
            canvas.disc((place.0 + along * span, place.1 - lift), unit * 0.0011, color, 0.6);
        }
    }
}

/// Flat shapes on a table: what an edit looks like.
fn still_life(canvas: &mut Canvas, look: &Look, colors: &Palette, dice: &mut Dice) {
    let (width, height) = (canvas.width(), canvas.height());
    let unit = width.min(height);
    if !look.transparent {
        canvas.gradient(mix(colors.horizon, [255, 255, 255], 0.35), colors.horizon);
        canvas.glow((width * 0.3, height * 0.25), unit * 0.8, [255, 255, 255], 0.5);
    }
    let table = 0.7;
    canvas.ridge(mix(colors.far, colors.horizon, 0.3), colors.far, |_| table);
    let tones = [colors.accent, colors.near, colors.zenith, colors.light, colors.far];
    for index in 0..5usize {
        let radius = dice.between(0.09, 0.19) * unit;
        let x = width * (0.14 + 0.18 * index as f32) + dice.between(-0.02, 0.02) * width;
        let y = height * (table + 0.06 * (index % 2) as f32) - radius * 0.8;
        let tone = tones[(index + usize::from(look.motif / 8)) % tones.len()];
        canvas.glow((x + radius * 0.25, y + radius * 0.95), radius * 1.2, mix(colors.near, [0, 0, 0], 0.4), 0.55);
        canvas.disc((x, y), radius, tone, 1.0);
        canvas.glow((x - radius * 0.35, y - radius * 0.4), radius * 0.6, [255, 255, 255], 0.5);
    }
}

/// Rows of five dots, the highest bit of the low five at the left.
const GLYPHS: [(char, [u8; 7]); 9] = [
    ('S', [0b01111, 0b10000, 0b10000, 0b01110, 0b00001, 0b00001, 0b11110]),
    ('I', [0b01110, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('M', [0b10001, 0b11011, 0b10101, 0b10101, 0b10001, 0b10001, 0b10001]),
    ('U', [0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110]),
    ('L', [0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111]),
    ('A', [0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001]),
    ('T', [0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100]),
    ('E', [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111]),
    ('D', [0b11110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b11110]),
];

/// Writes "SIMULATED" into the lower right corner, about a fifth of the shorter side wide.
fn label(canvas: &mut Canvas) {
    // The glyphs stand in the order of the word; each is six dots wide with its gap.
    let columns = (GLYPHS.len() * 6 - 1) as f32;
    let dot = (canvas.width().min(canvas.height()) * 0.22 / columns).round().max(1.0);
    let (wide, high) = (dot * (columns + 6.0), dot * 13.0);
    let corner = (canvas.width() - wide - 2.0 * dot, canvas.height() - high - 2.0 * dot);
    canvas.rectangle(corner, (wide, high), [12, 14, 24], 0.55);
    for (place, (_, rows)) in GLYPHS.iter().enumerate() {
        for (y, row) in rows.iter().enumerate() {
            for x in (0..5u8).filter(|x| row >> (4 - x) & 1 == 1) {
                let left = corner.0 + dot * (3.0 + 6.0 * place as f32 + f32::from(x));
                let top = corner.1 + dot * (3.0 + y as f32);
                canvas.rectangle((left, top), (dot, dot), [255, 255, 255], 0.95);
            }
        }
    }
}
