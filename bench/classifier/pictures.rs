//! Pictures whose background is known because it was drawn so. No measure was tuned on them.

use bytes::Bytes;
use fastrand::Rng;
use mimeo::classify::Look;
use mimeo::config::Background;
use mimeo::domain::Picture;
use mimeo_bench::Result;
use mimeo_bench::report::{Cell, Table, count, text};

/// Width and height, in pixels.
pub const EDGE: u32 = 512;
/// Pictures of each kind.
const EACH: u64 = 20;

type Colour = [f32; 3];

/// A picture with its label.
#[derive(Debug)]
pub struct Drawn {
    kind: &'static str,
    background: Background,
    /// The picture, as PNG.
    pub picture: Picture,
}

/// A kind of background: its name, its label, and the colour at a place (0–1 each) of the picture with a seed.
type Kind = (&'static str, Background, fn(&Scene, f32, f32) -> Colour);

const KINDS: [Kind; 10] = [
    ("pure white", Background::Plain, |_, _, _| [255.0; 3]),
    ("one colour", Background::Plain, |scene, _, _| scene.first),
    ("white with noise of a camera", Background::Plain, |scene, x, y| shade([246.0; 3], 3.0 * scene.grain(x, y))),
    ("linear gradient", Background::Simple, |scene, x, y| mix(scene.first, scene.second, (x + y) / 2.0)),
    ("studio light from behind", Background::Simple, |scene, x, y| {
        mix([235.0; 3], scene.second, ((x - 0.5).hypot(y - 0.5) * 1.4).min(1.0))
    }),
    ("out of focus", Background::Simple, |scene, x, y| mix(scene.first, scene.second, scene.cloud(x, y, 2.0, 1))),
    ("wood", Background::Complex, |scene, x, y| {
        shade(scene.first, 60.0 * (40.0 * (y + 0.1 * scene.cloud(x, y, 4.0, 2))).sin())
    }),
    ("tiles", Background::Complex, |scene, x, y| {
        let is_joint = (x * 12.0).fract() < 0.1 || (y * 12.0).fract() < 0.1;
        if is_joint {
            [90.0; 3]
        } else {
            shade(scene.first, 20.0 * scene.grain((x * 12.0).floor(), (y * 12.0).floor()))
        }
    }),
    ("foliage", Background::Complex, |scene, x, y| {
        mix([20.0, 50.0, 20.0], [150.0, 220.0, 110.0], scene.cloud(x, y, 24.0, 4))
    }),
    ("crowd of shapes", Background::Complex, |scene, x, y| scene.shapes(x, y)),
];

/// What one picture is made of.
struct Scene {
    seed: u64,
    first: Colour,
    second: Colour,
    object: Colour,
    /// Centre and half the edges of the object.
    place: [f32; 4],
    is_round: bool,
    /// Centre, radius and colour of many discs, each upon the last.
    discs: Vec<([f32; 3], Colour)>,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let mut rng = Rng::with_seed(seed);
        let mut colour = |least: u32| std::array::from_fn(|_| (least + rng.u32(0..256 - least)) as f32);
        let (first, second, object) = (colour(120), colour(60), colour(0));
        let mut between = |low: f32, high: f32| low + (high - low) * rng.f32();
        let place = [between(0.4, 0.6), between(0.4, 0.6), between(0.15, 0.28), between(0.15, 0.28)];
        let is_round = rng.bool();
        let disc = |_| ([rng.f32(), rng.f32(), 0.02 + 0.06 * rng.f32()], std::array::from_fn(|_| rng.u8(..).into()));
        let discs = (0..150).map(disc).collect();
        Scene { seed, first, second, object, place, is_round, discs }
    }

    fn colour(&self, background: fn(&Scene, f32, f32) -> Colour, x: f32, y: f32) -> Colour {
        let [left, top, width, height] = self.place;
        let (across, down) = ((x - left) / width, (y - top) / height);
        let is_inside = if self.is_round { across.hypot(down) < 1.0 } else { across.abs().max(down.abs()) < 1.0 };
        if is_inside { shade(self.object, -40.0 * across) } else { background(self, x, y) }
    }

    /// −1 to 1, another value at each place.
    fn grain(&self, x: f32, y: f32) -> f32 {
        let mut rng = Rng::with_seed(self.seed ^ u64::from(x.to_bits()).rotate_left(32) ^ u64::from(y.to_bits()));
        2.0 * rng.f32() - 1.0
    }

    /// 0–1, smooth, with `cells` bumps per edge, and finer ones upon them.
    fn cloud(&self, x: f32, y: f32, cells: f32, octaves: u32) -> f32 {
        let (mut sum, mut all, mut weight, mut cells) = (0.0, 0.0, 1.0, cells);
        for _ in 0..octaves {
            let (x, y) = (x * cells, y * cells);
            let (left, top) = (x.floor(), y.floor());
            let ease = |t: f32| t * t * (3.0 - 2.0 * t);
            let (across, down) = (ease(x - left), ease(y - top));
            let row = |y: f32| self.grain(left, y) * (1.0 - across) + self.grain(left + 1.0, y) * across;
            sum += weight * (0.5 + 0.5 * (row(top) * (1.0 - down) + row(top + 1.0) * down));
            all += weight;
            (weight, cells) = (weight / 2.0, cells * 2.0);
        }
        sum / all
    }

    /// The colour of the uppermost disc there.
    fn shapes(&self, x: f32, y: f32) -> Colour {
        let upon = |(place, _): &&([f32; 3], Colour)| (x - place[0]).hypot(y - place[1]) < place[2];
        self.discs.iter().rev().find(upon).map_or(self.second, |(_, colour)| *colour)
    }
}

fn mix(one: Colour, other: Colour, share: f32) -> Colour {
    std::array::from_fn(|index| one[index] * (1.0 - share) + other[index] * share)
}

fn shade(colour: Colour, by: f32) -> Colour {
    colour.map(|channel| channel + by)
}

/// All pictures: the same ones every time.
///
/// # Errors
/// One could not be written.
pub fn all() -> Result<Vec<Drawn>> {
    let mut drawn = Vec::new();
    for (number, (kind, background, colour)) in KINDS.into_iter().enumerate() {
        for seed in 0..EACH {
            let scene = Scene::new(1_000 * number as u64 + seed);
            let place = |at: u32| at as f32 / EDGE as f32;
            let places = (0..EDGE).flat_map(|y| (0..EDGE).map(move |x| (place(x), place(y))));
            let pixels: Vec<u8> =
                places.flat_map(|(x, y)| scene.colour(colour, x, y).map(|channel| channel as u8)).collect();
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, EDGE, EDGE);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_compression(png::Compression::Fast);
            encoder.write_header()?.write_image_data(&pixels)?;
            drawn.push(Drawn { kind, background, picture: mimeo::media::examine(Bytes::from(bytes))? });
        }
    }
    Ok(drawn)
}

/// What each kind is taken for.
///
/// # Errors
/// A picture cannot be read.
pub fn table(drawn: &[Drawn]) -> Result<Table> {
    let mut table = Table::new(
        "Pictures",
        "Pictures with an object before a background that was drawn to be what it is labelled.",
        &["background", "labelled", "pictures", "plain", "simple", "complex", "mean complexity"],
    );
    for (kind, label, _) in KINDS {
        let looks = drawn.iter().filter(|drawn| drawn.kind == kind && drawn.background == label);
        let looks = looks.map(|drawn| Ok(Look::at(&drawn.picture)?)).collect::<Result<Vec<Look>>>()?;
        let read = |background| count(looks.iter().filter(|look| look.background() == background).count() as u32);
        let mean = looks.iter().map(|look| f64::from(look.complexity())).sum::<f64>() / looks.len().max(1) as f64;
        table.row(vec![
            text(kind),
            text(label.name()),
            count(looks.len() as u32),
            read(Background::Plain),
            read(Background::Simple),
            read(Background::Complex),
            Cell::Number(mean, 2),
        ]);
    }
    Ok(table)
}
