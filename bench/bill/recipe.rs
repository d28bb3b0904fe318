//! The recipe of the requests. Everything follows from a seed: the same recipe gives the same trace everywhere.
//!
//! Whatever has a number has a name and a reason here. What decides most is how often the same picture is asked for again
//! ([`Recipe::repeats`]), so the bench also shows the bill for other values of it.

use std::collections::HashSet;

use fastrand::Rng;
use serde_json::json;

use crate::trace::Request;

/// A month.
const DAYS: u64 = 30;
const HOUR_MS: u64 = 3_600_000;

/// Requests in each hour of the day, relative to each other: a shop in one time zone, quiet at night, busiest at eight.
const RHYTHM: [f64; 24] = [
    3.0, 2.0, 1.0, 1.0, 1.0, 2.0, 4.0, 6.0, 7.0, 8.0, 8.0, 8.0, 9.0, 8.0, 8.0, 8.0, 8.0, 9.0, 10.0, 11.0, 12.0, 11.0,
    8.0, 5.0,
];

/// Of all requests, those that come together with another for the same new picture because a page goes live. The guides
/// say that joining such requests saves another 10 to 20 % of the calls that a cache leaves; with half of the requests
/// answered by the cache, 8 in 100 requests are 15 % of those.
const CROWDED: f64 = 0.08;
/// How many ask at once then, evenly spread: from two to a page that twenty people open in the same second.
const CROWD: std::ops::RangeInclusive<u32> = 2..=20;

/// Popularity of pictures, for repetitions: rank to the power of minus this. Web traffic is usually found between 0.6 and 1.
const ZIPF: f64 = 0.8;

/// Callers who give up before the answer is there and ask again, as clients with a timeout and one retry do. One in a
/// hundred is little for models that take ten seconds.
const IMPATIENT: f64 = 0.01;

/// Repetitions with white space at the end of the prompt, as several places in one application write it. The same picture.
const SPELLED: f64 = 0.10;
/// Repetitions in other words, as the shop's story tells of. Another picture for every exact cache, this one included.
const REWORDED: f64 = 0.05;

/// New pictures that are of a product nobody has seen yet; the others are a further picture of a known one.
const NEW_PRODUCT: f64 = 0.4;

/// Cards that a template can draw: name, price, brand. The others want an illustration.
const DRAWABLE: f64 = 0.8;

/// Backgrounds of people: a third is shot before a plain wall.
const PLAIN_PEOPLE: f64 = 0.35;
/// Backgrounds of everything else, so that 70 % of all are plain, as in the shop's story: 0.15 × 0.35 + 0.85 × 0.762.
const PLAIN: f64 = 0.762;

/// A kind of product: what it is called, how many in a hundred there are, and words for it. Six in a hundred are of glass
/// and four are jewelry: the things that a turbo model spoils.
const CATEGORIES: [(&str, f64, &[&str]); 9] = [
    ("glass", 6.0, &["glass bottle", "wine glass", "perfume bottle of cut glass", "glass carafe"]),
    ("jewelry", 4.0, &["gold ring", "silver necklace", "pair of pearl earrings"]),
    ("fashion", 15.0, &["linen shirt worn by a woman", "raincoat worn by a man", "wool dress on a model"]),
    ("furniture", 15.0, &["oak chair", "walnut side table", "grey sofa", "pine bookshelf"]),
    ("electronics", 15.0, &["mechanical keyboard", "pair of headphones", "desk lamp", "portable speaker"]),
    ("kitchen", 15.0, &["ceramic mug", "cast iron pan", "wooden cutting board", "enamel teapot"]),
    ("toys", 10.0, &["wooden train", "stuffed rabbit", "box of building blocks"]),
    ("shoes", 10.0, &["running shoe", "leather boot", "canvas sneaker"]),
    ("bags", 10.0, &["canvas backpack", "leather tote bag", "small suitcase"]),
];
const BRANDS: [&str; 6] = ["Nordlicht", "Café Lune", "Halden", "Søstrene Vik", "Terra Alta", "Ébène"];
const SHOTS: [&str; 6] =
    ["front view", "three-quarter view", "from above", "close-up", "from the side", "with its box"];
const PLAIN_GROUNDS: [&str; 3] =
    ["on a pure white background", "isolated on white, even light, no shadows", "on a seamless white backdrop"];
const DRAWN_GROUNDS: [&str; 4] = [
    "on a marble counter in morning light, detailed texture",
    "in a busy street at dusk, people in the background",
    "on mossy rocks in a forest, rich detail",
    "in a sunlit living room with patterned wallpaper",
];

/// Pictures by purpose, relative to each other.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// For tables.
    pub name: &'static str,
    /// Purpose, share, and the words that prompts use. Sizes are an eighth of real ones along each edge: nothing here
    /// depends on them but the time that the sandbox takes to draw.
    purposes: &'static [(&'static str, f64, &'static str, &'static str)],
}

const HERO: (&str, &str) = ("Hero image for the landing page, sharp and detailed:", "192x128");
const THUMBNAIL: (&str, &str) = ("Small thumbnail for the category grid:", "64x64");
const SOCIAL: (&str, &str) = ("Square picture for a social media post:", "128x128");
/// The least that the template can be.
const CARD: (&str, &str) = ("Open Graph card, name and price in large letters beside the product:", "300x200");

/// The shop of the case study: product pictures only. With 48 thumbnails in a hundred pictures, and the delicate ones
/// kept off the turbo model, routing alone takes off the 34 % that it reports.
pub const SHOP: Mix = Mix {
    name: "the shop",
    purposes: &[("hero", 52.0, HERO.0, HERO.1), ("thumbnail", 48.0, THUMBNAIL.0, THUMBNAIL.1)],
};

/// What the other guides speak of beside product pictures: posts, and cards that show wherever a page is shared.
pub const MONTH: Mix = Mix {
    name: "a month of everything",
    purposes: &[
        ("hero", 25.0, HERO.0, HERO.1),
        ("thumbnail", 40.0, THUMBNAIL.0, THUMBNAIL.1),
        ("social", 15.0, SOCIAL.0, SOCIAL.1),
        ("card", 20.0, CARD.0, CARD.1),
    ],
};

/// A month of requests.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// How many.
    pub requests: usize,
    /// Where the random numbers begin.
    pub seed: u64,
    /// What for.
    pub mix: Mix,
    /// Of the moments at which something is asked for that no page brings, those that ask for a picture which was asked
    /// for before (0 to 1).
    pub repeats: f64,
}

/// A picture that may be asked for again, and how often relative to all: the sum of all weights up to its own.
struct Known {
    picture: Request,
    weights: f64,
}

struct Maker {
    rng: Rng,
    known: Vec<Known>,
    prompts: HashSet<String>,
    products: Vec<Product>,
}

#[derive(Clone, Copy)]
struct Product {
    category: &'static str,
    noun: &'static str,
    brand: &'static str,
    number: usize,
}

impl Recipe {
    /// The requests, in the order of their moments.
    pub fn trace(&self) -> Vec<Request> {
        let (known, prompts, products) = (Vec::new(), HashSet::new(), Vec::new());
        let mut maker = Maker { rng: Rng::with_seed(self.seed), known, prompts, products };
        // A crowd brings, beside its first request, so many in the mean; as many moments are crowds as give CROWDED.
        let beside = f64::from(CROWD.start() + CROWD.end()) / 2.0 - 1.0;
        let crowds = CROWDED / (1.0 - CROWDED) / beside;
        let mut sizes = Vec::new();
        let mut left = self.requests;
        while left > 0 {
            let size = if maker.rng.f64() < crowds { maker.rng.u32(CROWD) as usize } else { 1 };
            sizes.push(size.min(left));
            left -= size.min(left);
        }
        let moments = maker.moments(sizes.len());
        let mut requests = Vec::with_capacity(self.requests);
        for (size, at_ms) in sizes.into_iter().zip(moments) {
            let again = size == 1 && maker.rng.f64() < self.repeats;
            let mut request = match maker.repetition().filter(|_| again) {
                Some(request) => request,
                None => maker.new_picture(self.mix),
            };
            request.at_ms = at_ms;
            for _ in 0..size {
                request.impatient = maker.rng.f64() < IMPATIENT;
                requests.push(request.clone());
            }
        }
        requests
    }
}

impl Maker {
    /// So many moments of a month, in order, all different.
    fn moments(&mut self, count: usize) -> Vec<u64> {
        let highest = RHYTHM.iter().copied().fold(0.0, f64::max);
        let mut moments = std::collections::BTreeSet::new();
        while moments.len() < count {
            let at = self.rng.u64(0..DAYS * 24 * HOUR_MS);
            let weight = RHYTHM.get((at / HOUR_MS % 24) as usize).copied().unwrap_or(highest);
            if self.rng.f64() * highest < weight {
                moments.insert(at);
            }
        }
        moments.into_iter().collect()
    }

    /// One of the known pictures, the popular ones more often, in its own words or in others.
    fn repetition(&mut self) -> Option<Request> {
        let at = self.rng.f64() * self.known.last()?.weights;
        let index = self.known.partition_point(|known| known.weights <= at);
        let mut request = self.known.get(index)?.picture.clone();
        let words = self.rng.f64();
        if words < SPELLED {
            request.prompt.push('\n');
        } else if words < SPELLED + REWORDED {
            request.prompt = format!("Please make this picture. {}", request.prompt);
        }
        Some(request)
    }

    fn new_picture(&mut self, mix: Mix) -> Request {
        let sum: f64 = mix.purposes.iter().map(|(_, share, ..)| share).sum();
        let mut at = self.rng.f64() * sum;
        let fitting = mix.purposes.iter().find(|(_, share, ..)| {
            at -= share;
            at < 0.0
        });
        let (purpose, _, words, size) = fitting.copied().unwrap_or(("hero", 1.0, HERO.0, HERO.1));
        let mut request = self.picture_of(purpose, words, size);
        // Shots and grounds are few: what was drawn before would be a repetition that nobody counted.
        while !self.prompts.insert(request.prompt.clone()) {
            request = self.picture_of(purpose, words, size);
        }
        // Uniform to the power of -α has the tail of a Zipf law with exponent α.
        let weight = (1.0 - self.rng.f64()).powf(-ZIPF);
        let weights = self.known.last().map_or(0.0, |known| known.weights) + weight;
        self.known.push(Known { picture: request.clone(), weights });
        request
    }

    fn picture_of(&mut self, purpose: &str, words: &str, size: &str) -> Request {
        let product = self.product();
        let Product { category, noun, brand, number } = product;
        let is_plain = self.rng.f64() < if category == "fashion" { PLAIN_PEOPLE } else { PLAIN };
        let grounds: &[&str] = if is_plain { &PLAIN_GROUNDS } else { &DRAWN_GROUNDS };
        let ground = self.one_of(grounds);
        let shot = self.one_of(&SHOTS);
        let name = format!("{noun}, {brand} no. {number}");
        let is_card = purpose == "card" && self.rng.f64() < DRAWABLE;
        let cents = 995 + 100 * self.rng.u32(0..200);
        let price = format!("{}.{:02}", cents / 100, cents % 100);
        let data = json!({ "name": name, "price": { "amount": price, "currency": "EUR" }, "brand": brand });
        let prompt = match purpose {
            "card" => format!("{words} {name}, €{price}, {ground}"),
            _ => format!("{words} {name}, {shot}, {ground}"),
        };
        Request {
            at_ms: 0,
            prompt,
            size: size.to_owned(),
            purpose: Some(purpose.to_owned()),
            category: Some(category.to_owned()),
            background: Some(if is_plain { "plain" } else { "drawn" }.to_owned()),
            quality_tier: None,
            template: is_card.then(|| "product".to_owned()),
            data: is_card.then_some(data),
            key: None,
            impatient: false,
        }
    }

    /// A new product, or one that there is.
    fn product(&mut self) -> Product {
        let count = self.products.len();
        if count > 0 && self.rng.f64() >= NEW_PRODUCT {
            let index = self.rng.usize(..count);
            if let Some(product) = self.products.get(index) {
                return *product;
            }
        }
        let mut at = self.rng.f64() * 100.0;
        let fitting = CATEGORIES.iter().find(|(_, share, _)| {
            at -= share;
            at < 0.0
        });
        let (category, _, nouns) = fitting.copied().unwrap_or(("bags", 0.0, &["canvas backpack"]));
        let product = Product { category, noun: self.one_of(nouns), brand: self.one_of(&BRANDS), number: count + 1 };
        self.products.push(product);
        product
    }

    fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        self.rng.choice(words).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Shares;
    use crate::truth::{Matter, Subject};

    fn recipe(mix: Mix, repeats: f64) -> Recipe {
        Recipe { requests: 20_000, seed: 7, mix, repeats }
    }

    fn share(requests: &[Request], wanted: impl Fn(&&Request) -> bool) -> f64 {
        requests.iter().filter(wanted).count() as f64 / requests.len() as f64
    }

    fn near(found: f64, wanted: f64, tolerance: f64) {
        assert!((found - wanted).abs() <= tolerance, "{found} instead of {wanted} ± {tolerance}");
    }

    #[test]
    fn the_same_seed_gives_the_same_month() {
        let one = recipe(MONTH, 0.6).trace();
        assert_eq!(one, recipe(MONTH, 0.6).trace());
        assert_ne!(one, Recipe { seed: 8, ..recipe(MONTH, 0.6) }.trace());
        assert_eq!(one.len(), 20_000);
        assert!(one.is_sorted_by_key(|request| request.at_ms));
        assert!(one.last().unwrap().at_ms < DAYS * 24 * HOUR_MS && one.first().unwrap().at_ms < HOUR_MS);
    }

    #[test]
    fn shares_are_those_that_are_written() {
        for repeats in [0.0, 0.4, 0.8] {
            let shares = Shares::of(&recipe(SHOP, repeats).trace());
            near(shares.crowded, CROWDED, 0.012);
            near(shares.impatient, IMPATIENT, 0.003);
            // Rewordings are new the first time.
            near(shares.again, repeats * (1.0 - CROWDED) * (1.0 - REWORDED / 2.0), 0.02);
        }
        let new = recipe(SHOP, 0.0).trace();
        near(share(&new, |request| request.background.as_deref() == Some("plain")), 0.70, 0.03);
        near(share(&new, |request| Subject::of(request).matter == Matter::Reflective), 0.10, 0.02);
        near(share(&new, |request| request.purpose.as_deref() == Some("thumbnail")), 0.48, 0.02);
        let month = recipe(MONTH, 0.0).trace();
        near(share(&month, |request| request.purpose.as_deref() == Some("card")), 0.20, 0.02);
        near(share(&month, |request| request.template.is_some()), 0.20 * DRAWABLE, 0.02);
    }

    #[test]
    fn some_pictures_are_asked_for_far_more_often() {
        let requests = recipe(SHOP, 0.8).trace();
        let mut counts = std::collections::HashMap::new();
        for request in &requests {
            *counts.entry(request.prompt.trim()).or_insert(0_usize) += 1;
        }
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable();
        let top: usize = counts.iter().rev().take(counts.len() / 100).sum();
        assert!(top as f64 > 0.1 * requests.len() as f64, "the top hundredth has {top} requests");
    }

    #[test]
    fn nights_are_quiet() {
        let hour = |request: &&Request| request.at_ms / HOUR_MS % 24;
        let requests = recipe(SHOP, 0.4).trace();
        let (night, evening) = (share(&requests, |r| hour(r) == 3), share(&requests, |r| hour(r) == 20));
        near(night / evening, 1.0 / 12.0, 0.06);
    }

    #[test]
    fn crowds_ask_for_what_nobody_asked_for_before() {
        let requests = recipe(SHOP, 0.6).trace();
        let mut seen = std::collections::HashMap::new();
        for request in &requests {
            let first = *seen.entry(request.prompt.trim()).or_insert(request.at_ms);
            let together = requests.partition_point(|other| other.at_ms <= request.at_ms)
                - requests.partition_point(|other| other.at_ms < request.at_ms);
            assert!(together == 1 || first == request.at_ms, "{}", request.prompt);
        }
    }
}
