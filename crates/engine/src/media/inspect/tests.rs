use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::domain::{Format, Picture};
use crate::media::examine;

type Pixel = [u8; 4];

fn drawn(width: u32, height: u32, pixel: impl Fn(u32, u32) -> Pixel) -> Picture {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgba);
    let pixels: Vec<u8> =
        (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| pixel(x, y)).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    examine(Bytes::from(bytes)).unwrap()
}

fn opaque(level: f64) -> Pixel {
    let level = level.clamp(0.0, 255.0) as u8;
    [level, level, level, 255]
}

/// Numbers from 0 to 1 that look random, the same for the same arguments.
fn noise(seed: u64, x: u32, y: u32) -> f64 {
    let mut hash = seed ^ (u64::from(x) << 32 | u64::from(y)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3 {
        hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    (hash >> 40) as f64 / f64::from(1 << 24)
}

/// A scene: a ground that changes slowly, some things of other colours before it, and grain.
fn scene(seed: u64, size: u32, x: u32, y: u32) -> f64 {
    let (u, v) = (f64::from(x) / f64::from(size), f64::from(y) / f64::from(size));
    let mut level = 255.0 * noise(seed, 1, 1) * u + 255.0 * noise(seed, 2, 2) * (1.0 - v) * 0.6;
    for thing in 0..9 {
        let [cx, cy, r, shade] = [3, 4, 5, 6].map(|at| noise(seed, at, thing));
        if (u - cx).hypot(v - cy) < 0.05 + 0.2 * r {
            level = 255.0 * shade;
        }
    }
    level + 12.0 * noise(seed ^ 77, x, y)
}

fn findings(picture: &Picture) -> Vec<Finding> {
    inspect(&Look::at(picture).unwrap(), Size::Exact(picture.width, picture.height))
}

fn checks(picture: &Picture) -> Vec<Check> {
    findings(picture).into_iter().map(|finding| finding.check).collect()
}

#[test]
fn what_shows_nothing_is_blank_or_flat() {
    assert_eq!(checks(&drawn(256, 256, |_, _| [200, 10, 10, 255])), [Check::Blank]);
    assert_eq!(checks(&drawn(256, 256, |x, _| [x as u8, 10, 10, 0])), [Check::Blank], "colours nobody sees");
    assert_eq!(
        checks(&drawn(256, 256, |x, y| opaque(90.0 + 8.0 * noise(1, x, y) + f64::from(x) / 64.0))),
        [Check::Flat]
    );
    assert!(findings(&drawn(64, 64, |_, _| [0, 0, 0, 255])).iter().all(Finding::fails));
}

#[test]
fn what_people_ask_for_on_purpose_passes() {
    let passes = |name: &str, picture: &Picture| assert_eq!(findings(picture), [], "{name}");
    passes("noise", &drawn(256, 256, |x, y| opaque(255.0 * noise(3, x, y))));
    for seed in 0..6 {
        passes("a scene", &drawn(320, 320, |x, y| opaque(scene(seed, 320, x, y))));
        let product = |x: u32, y: u32| (f64::from(x) - 160.0).hypot(f64::from(y) - 160.0) < 20.0 + 9.0 * seed as f64;
        passes(
            "a product on white",
            &drawn(320, 320, |x, y| opaque(if product(x, y) { scene(seed, 320, x, y) } else { 255.0 })),
        );
        let is_bar = |y: u32| !(40..280).contains(&y);
        passes("black bars", &drawn(320, 320, |x, y| opaque(if is_bar(y) { 0.0 } else { scene(seed, 320, x, y) })));
        passes("a night", &drawn(320, 320, |x, y| opaque(0.08 * scene(seed, 320, x, y))));
    }
    passes(
        "an icon",
        &drawn(64, 64, |x, y| if (20..40).contains(&x) && (20..40).contains(&y) { [255; 4] } else { [0; 4] }),
    );
    passes(
        "a small mark on white",
        &drawn(512, 512, |x, y| opaque(if x / 8 == 3 && y / 8 == 3 { 0.0 } else { 255.0 })),
    );
    passes("a gradient", &drawn(256, 256, |_, y| opaque(f64::from(y))));
    passes(
        "an even lower half below an even upper one",
        &drawn(64, 64, |_, y| opaque(if y < 30 { 20.0 } else { 230.0 })),
    );
    passes("too small to judge", &drawn(8, 8, |_, _| [9; 4]));
}

#[test]
fn what_was_never_finished_is_found() {
    for (seed, level, is_sure) in [(1, 128.0, true), (2, 0.0, true), (3, 128.0, true), (4, 77.0, false)] {
        let cut = |y: u32| y > 200 + 10 * seed as u32;
        let picture = drawn(320, 320, |x, y| opaque(if cut(y) { level } else { scene(seed, 320, x, y) }));
        let found = findings(&picture);
        assert_eq!(found.iter().map(|found| found.check).collect::<Vec<_>>(), [Check::Truncated], "{seed}");
        assert_eq!(found[0].fails(), is_sure, "{found:?}");
    }
    let half_a_row = |x: u32, y: u32| y >= 208 || (y >= 192 && x > 100);
    let picture = drawn(320, 320, |x, y| opaque(if half_a_row(x, y) { 128.0 } else { scene(5, 320, x, y) }));
    assert_eq!(checks(&picture), [Check::Truncated], "the last row of blocks was begun");
    let clear = drawn(320, 320, |x, y| if y > 250 { [0; 4] } else { opaque(scene(6, 320, x, y)) });
    assert_eq!(checks(&clear), [Check::Truncated]);
}

#[test]
fn sizes_are_held_against_what_was_asked_for() {
    let picture = drawn(320, 240, |x, y| opaque(scene(1, 320, x, y)));
    let look = Look::at(&picture).unwrap();
    let is_wrong = |asked| inspect(&look, asked).iter().any(|found| found.check == Check::Size);
    assert!(!is_wrong(Size::Auto));
    assert!(!is_wrong(Size::Exact(320, 240)));
    assert!(!is_wrong(Size::Exact(400, 300)), "a model with a grid of its own");
    assert!(!is_wrong(Size::Exact(316, 240)));
    assert!(is_wrong(Size::Exact(640, 480)));
    assert!(is_wrong(Size::Exact(240, 320)));
    assert!(is_wrong(Size::Exact(320, 320)));
}

/// No false alarm on what this repository shows as its own work.
#[test]
fn the_pictures_of_the_documentation_pass() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pictures");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let picture = examine(Bytes::from(std::fs::read(&path).unwrap())).unwrap();
        assert_eq!(findings(&picture), [], "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3);
}

const PROMPTS: [&str; 32] = [
    "a red kite over dunes",
    "glass bottle with cork",
    "two cats asleep",
    "city street at midnight rain",
    "portrait of an old sailor",
    "bowl of ramen noodles",
    "mountain lake sunrise",
    "leather handbag studio light",
    "robot painting watercolor",
    "wooden chair isolated",
    "garden full of tulips",
    "surfer riding huge wave",
    "library interior baroque",
    "snowy owl in flight",
    "vintage motorcycle chrome",
    "cup of black coffee",
    "astronaut planting flag",
    "isometric tiny bakery",
    "desert caravan camels",
    "neon sign saying open",
    "ceramic vase blue glaze",
    "children flying lanterns",
    "forest path autumn leaves",
    "chess board closeup marble",
    "lighthouse storm waves",
    "market stall spices",
    "jazz trio smoky club",
    "hot air balloons valley",
    "origami crane paper",
    "steam train viaduct",
    "hummingbird hibiscus macro",
    "castle ruins fog",
];

fn sent(prompt: &str) -> Sent<'_> {
    Sent { provider: "studio", model: "brush-1", prompt }
}

#[test]
fn a_placeholder_comes_for_quite_different_prompts() {
    let habits = Habits::default();
    let sorry = |grain: f64| drawn(200, 200, move |x, y| opaque(scene(9, 200, x, y) + grain * noise(4, x, y)));
    let meet = |prompt: &str, picture: &Picture| habits.meet(sent(prompt), &Look::at(picture).unwrap());
    assert_eq!(meet(PROMPTS[0], &sorry(0.0)), []);
    assert_eq!(meet("A red kite, over dunes!", &sorry(0.0)), [], "the same in other words");
    assert_eq!(meet(PROMPTS[1], &sorry(1.5)), [], "encoded again");
    let found = meet(PROMPTS[2], &sorry(1.0));
    assert_eq!(found.iter().map(|found| found.check).collect::<Vec<_>>(), [Check::Placeholder]);
    assert!(found[0].fails() && found[0].what.contains("2 other prompts"), "{}", found[0].what);
    let other = Sent { provider: "elsewhere", ..sent(PROMPTS[3]) };
    assert_eq!(habits.meet(other, &Look::at(&sorry(0.0)).unwrap()), [], "of nobody else's");
    for (seed, prompt) in (100..).zip(PROMPTS) {
        assert_eq!(meet(prompt, &drawn(200, 200, |x, y| opaque(scene(seed, 200, x, y)))), [], "{prompt}");
    }
}

/// Rings and strokes, as of a logo: how much of it there is at that place.
fn logo(x: u32, y: u32) -> f64 {
    let (dx, dy) = (f64::from(x) - 125.0, f64::from(y) - 125.0);
    let distance = dx.hypot(dy);
    let is_ring = (13.0..17.0).contains(&distance) || (4.0..8.0).contains(&distance);
    if is_ring { 1.0 } else { 0.0 }
}

#[test]
fn a_watermark_is_found_when_many_bear_it_and_only_then() {
    let marked = |seed: u64, strength: f64| {
        drawn(160, 160, move |x, y| {
            let level = scene(seed, 160, x, y);
            opaque(level + strength * logo(x, y) * (255.0 - level))
        })
    };
    let meet_all = |strength: f64| -> Vec<usize> {
        let habits = Habits::default();
        let found = PROMPTS.iter().zip(500..).enumerate().map(|(at, (prompt, seed))| {
            let look = Look::at(&marked(seed, strength)).unwrap();
            let found = habits.meet(sent(prompt), &look);
            assert!(found.iter().all(|found| found.check == Check::Watermark), "{found:?}");
            (at, !found.is_empty())
        });
        found.filter(|(_, is_marked)| *is_marked).map(|(at, _)| at).collect()
    };
    assert_eq!(meet_all(0.0), Vec::<usize>::new(), "without one, nothing is said");
    let found = meet_all(0.35);
    assert!(found.len() >= 3, "{found:?}");
    assert!(found[0] >= LEAST_FOR_A_WATERMARK, "only with strong evidence: {found:?}");
}

/// Fewer different pictures than this say nothing.
const LEAST_FOR_A_WATERMARK: usize = 24;

#[test]
fn what_is_remembered_is_bounded() {
    let habits = Habits::default();
    let look = Look::at(&drawn(32, 32, |x, y| opaque(scene(1, 32, x, y)))).unwrap();
    for number in 0..200 {
        let provider = format!("provider-{number}");
        habits.meet(Sent { provider: &provider, model: "m", prompt: "a kite" }, &look);
    }
    let text = format!("{habits:?}");
    assert!(!text.contains("\"provider-170\"") && text.contains("\"provider-199\""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Hostile bytes are looked at or refused; nothing panics.
    #[test]
    fn mutated_pictures_are_looked_at_or_refused(
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        size in (1u32..40, 1u32..40),
    ) {
        let picture = drawn(size.0, size.1, |x, y| opaque(scene(2, 40, x, y)));
        let mut bytes = picture.bytes.to_vec();
        for (at, value) in noise {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let hostile = Picture { bytes: Bytes::from(bytes), format: Format::Png, ..picture };
        if let Ok(look) = Look::at(&hostile) {
            let _ = inspect(&look, Size::Exact(8, 8));
            prop_assert_eq!(look.cells.len(), 128 * 128);
        }
    }
}
