//! What words, size and pictures say together. All weights are here; `docs/classifier.md` tells them in words.

use super::look::Look;
use super::words::{Category, Class, Hit, Lexicon, Role, Vote};
use super::{OTHER, Purpose};
use crate::config::Background;
use crate::domain::{Call, Size};

/// From this complexity on a picture gets everything that a model can give.
pub(super) const FULL: f32 = 0.7;
/// Up to this complexity half does, on a plain background.
pub(super) const EASY: f32 = 0.3;
/// The complexity of what is drawn flat, at most: fur and skin are shapes of one colour there.
const DRAWN_FLAT: f32 = 0.35;

/// The longer edge, in pixels, up to which a picture is a thumbnail by its size.
const THUMBNAIL: u32 = 384;
/// The width, in pixels, from which a wide picture is a hero by its size.
const HERO: u32 = 1536;
/// How often its height goes into a wide picture's width.
const WIDE: f64 = 1.6;

/// A phrase that stands around the subject counts so much as one that is the subject.
const AROUND: f32 = 0.35;
/// A phrase that stands right before another one says more about that: `kitchen` in `kitchen knife`.
const MODIFIER: f32 = 0.5;
/// What an object is made of matters more than what it is.
const MATERIAL: f32 = 2.5;
/// How much less each further category in a prompt counts: the subject comes first.
const LATER: f32 = 0.25;
/// What is weaker than this does not make a category, nor a purpose or a background.
const LEAST: f32 = 0.3;
const LEAST_PURPOSE: f32 = 1.0;
const LEAST_BACKGROUND: f32 = 0.75;

/// What this process makes of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Guess {
    pub(super) purpose: Purpose,
    pub(super) category: String,
    pub(super) background: Background,
    /// 0–1.
    pub(super) complexity: f32,
    pub(super) why: Vec<String>,
}

/// Sums of votes: how much speaks for each thing, and which phrases do.
#[derive(Debug)]
struct Tally<'a, T> {
    sums: Vec<(T, f32, Vec<&'a str>)>,
}

impl<'a, T: PartialEq + Copy> Tally<'a, T> {
    fn add(&mut self, what: T, weight: f32, phrase: &'a str) {
        match self.sums.iter_mut().find(|(known, ..)| *known == what) {
            Some((_, sum, phrases)) => {
                *sum += weight;
                phrases.push(phrase);
            }
            None => self.sums.push((what, weight, vec![phrase])),
        }
    }

    /// What most speaks for, if it is as much as `least`. Of equals, the one that was spoken for first.
    fn best(&self, least: f32) -> Option<(T, &[&'a str])> {
        let mut best: Option<&(T, f32, Vec<&'a str>)> = None;
        for sum in &self.sums {
            if sum.1 >= least && best.is_none_or(|best| sum.1 > best.1) {
                best = Some(sum);
            }
        }
        best.map(|(what, _, phrases)| (*what, phrases.as_slice()))
    }
}

impl<T> Default for Tally<'_, T> {
    fn default() -> Self {
        Tally { sums: Vec::new() }
    }
}

/// Reads `call` by the lists of words, its size, and what is known of its first picture. `said` is the category that
/// somebody who knows it says.
pub(super) fn weigh(lexicon: &Lexicon, call: &Call, look: Option<&Look>, said: Option<&str>) -> Guess {
    let hits = lexicon.hits(&call.request.prompt);
    let mut why = Vec::new();
    let purpose = purpose_of(&hits, call, &mut why);
    // A word of the operator's own says nothing here: then the lists say how much work it is.
    let category = match said.and_then(|name| lexicon.category(name)) {
        Some(category) => Some(category),
        None => category_of(lexicon, &hits, &mut why),
    };
    let background = background_of(lexicon, category, &hits, call, look, &mut why);
    let effort = category.or_else(|| lexicon.category(OTHER)).map_or(FULL, |category| category.effort);
    let complexity = complexity_of(lexicon, effort, &hits, look, &mut why);
    let category = category.map_or(OTHER, |category| category.name.as_str()).to_owned();
    Guess { purpose, category, background, complexity, why }
}

fn purpose_of(hits: &[Hit<'_>], call: &Call, why: &mut Vec<String>) -> Purpose {
    let mut tally = Tally::default();
    for (hit, vote) in present(hits) {
        if let Class::Purpose(place) = vote.class {
            tally.add(place, vote.weight, hit.phrase);
        }
    }
    let place_of = |purpose: &Purpose| Purpose::KNOWN.iter().position(|known| known == purpose);
    let by_size = by_size(call.request.size);
    if let Some((purpose, reason)) = &by_size
        && let Some(place) = place_of(purpose)
    {
        tally.add(place, 1.5, reason);
    }
    // A tier is the caller's own word, and so stands above what the prompt looks like.
    let tier = call.quality_tier.as_deref().filter(|tier| *tier != Purpose::Standard.name()).map(Purpose::named);
    if let Some(place) = tier.as_ref().and_then(place_of) {
        tally.add(place, 10.0, "quality_tier");
    }
    let found = tally.best(LEAST_PURPOSE).and_then(|(place, phrases)| Some((Purpose::KNOWN.get(place)?, phrases)));
    match found {
        Some((purpose, phrases)) => {
            why.push(format!("purpose {}: {}", purpose.name(), phrases.join(", ")));
            purpose.clone()
        }
        None => {
            why.push("purpose standard: nothing says otherwise".to_owned());
            Purpose::Standard
        }
    }
}

fn by_size(size: Size) -> Option<(Purpose, &'static str)> {
    match size {
        Size::Exact(width, height) if width.max(height) <= THUMBNAIL => Some((Purpose::Thumbnail, "a small size")),
        Size::Exact(width, height) if width >= HERO && f64::from(width) >= WIDE * f64::from(height) => {
            Some((Purpose::Hero, "a wide and large size"))
        }
        Size::Exact(..) | Size::Auto => None,
    }
}

fn category_of<'a>(lexicon: &'a Lexicon, hits: &[Hit<'_>], why: &mut Vec<String>) -> Option<&'a Category> {
    let categories = lexicon.categories();
    let mut tally = Tally::default();
    let mut place = 0.0;
    for hit in hits.iter().filter(|hit| matches!(hit.role, Role::Subject | Role::Around)) {
        let mut speaks = false;
        for vote in hit.votes {
            let Class::Category(index) = vote.class else { continue };
            let Some(category) = categories.get(index) else { continue };
            let role = if hit.role == Role::Around { AROUND } else { 1.0 };
            tally.add(
                index,
                vote.weight * role * side_by_side(categories, category, hit) / (1.0 + LATER * place),
                hit.phrase,
            );
            speaks = true;
        }
        if speaks {
            place += 1.0;
        }
    }
    let best = tally.best(LEAST).and_then(|(index, phrases)| Some((categories.get(index)?, phrases)));
    why.push(match &best {
        Some((category, phrases)) => format!("category {}: {}", category.name, phrases.join(", ")),
        None => format!("category {OTHER}: no word that says what it shows"),
    });
    best.map(|(category, _)| category)
}

/// What becomes of a word's weight because of the word right after it.
fn side_by_side(categories: &[Category], category: &Category, hit: &Hit<'_>) -> f32 {
    match hit.before.and_then(|next| categories.get(next)) {
        None => 1.0,
        Some(next) if next.name == category.name => 1.0,
        Some(next) if category.is_material && next.ground == Background::Unknown => MATERIAL,
        Some(_) => MODIFIER,
    }
}

fn background_of(
    lexicon: &Lexicon,
    category: Option<&Category>,
    hits: &[Hit<'_>],
    call: &Call,
    look: Option<&Look>,
    why: &mut Vec<String>,
) -> Background {
    let mut tally = Tally::default();
    // Of equals the first counts, so what is more work is entered first.
    for background in [Background::Complex, Background::Simple, Background::Plain] {
        tally.sums.push((background, 0.0, Vec::new()));
    }
    if call.request.background.as_deref() == Some("transparent") {
        tally.add(Background::Plain, 10.0, "a transparent background was asked for");
    }
    for (hit, vote) in present(hits) {
        match vote.class {
            // Velvet that is the subject is not what is behind it.
            Class::Background(Background::Complex) if hit.role == Role::Subject => {
                tally.add(Background::Complex, vote.weight / 2.0, hit.phrase);
            }
            Class::Background(background) => tally.add(background, vote.weight, hit.phrase),
            Class::Category(index)
                if hit.role == Role::Around
                    && vote.weight >= 1.0
                    && lexicon.categories().get(index).is_some_and(|category| category.is_scene) =>
            {
                tally.add(Background::Complex, 0.8, hit.phrase);
            }
            _ => {}
        }
    }
    if let Some(category) = category.filter(|category| category.ground != Background::Unknown) {
        tally.add(category.ground, 1.0, "what its category usually has");
    }
    if let Some((background, phrases)) = tally.best(LEAST_BACKGROUND) {
        why.push(format!("background {}: {}", background.name(), phrases.join(", ")));
        return background;
    }
    match look {
        Some(look) => {
            why.push(format!("background {}: of the picture that was sent", look.background().name()));
            look.background()
        }
        None => {
            why.push("background unknown: nothing is said about it".to_owned());
            Background::Unknown
        }
    }
}

fn complexity_of(lexicon: &Lexicon, effort: f32, hits: &[Hit<'_>], look: Option<&Look>, why: &mut Vec<String>) -> f32 {
    let (mut detail, mut is_flat, mut phrases) = (0.0_f32, false, Vec::new());
    let mut needs = effort;
    for (hit, vote) in present(hits) {
        match vote.class {
            Class::More => detail += vote.weight / 4.0,
            Class::Less => {
                detail -= vote.weight / 4.0;
                is_flat |= vote.weight > 1.0;
            }
            // A mere hint, or what another word is made more precise by, is not there itself.
            Class::Category(index)
                if hit.before.is_none() && vote.weight >= if hit.role == Role::Subject { 1.0 } else { 2.0 } =>
            {
                match lexicon.categories().get(index) {
                    Some(telling) if telling.is_telling && telling.effort > needs => needs = telling.effort,
                    _ => continue,
                }
            }
            _ => continue,
        }
        phrases.push(hit.phrase);
    }
    // Whatever takes everything is not made easier by a word such as "minimalist"; only drawing it flat does that.
    let mut complexity = if is_flat {
        (needs + detail).min(DRAWN_FLAT)
    } else if needs >= FULL {
        (needs + detail).max(FULL)
    } else {
        needs + detail
    };
    if let Some(look) = look {
        complexity = complexity.max(look.complexity());
        phrases.push("the picture that was sent");
    }
    let complexity = complexity.clamp(0.0, 1.0);
    let changed = if phrases.is_empty() { String::new() } else { format!(", with {}", phrases.join(", ")) };
    why.push(format!("complexity {complexity:.2}: {effort:.2} for its category{changed}"));
    complexity
}

/// The phrases that are to be seen, each with what it speaks for.
fn present<'a, 'b>(hits: &'b [Hit<'a>]) -> impl Iterator<Item = (&'b Hit<'a>, &'a Vote)> {
    let shown = hits.iter().filter(|hit| matches!(hit.role, Role::Subject | Role::Around));
    shown.flat_map(|hit| hit.votes.iter().map(move |vote| (hit, vote)))
}
