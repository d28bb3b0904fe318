//! How good a picture truly is, in this simulation: the sandbox's pictures show nothing, so this table stands in for the
//! eyes of customers. Nothing that chooses models or steps reads it; it only judges afterwards.
//!
//! Points from 0 to 100, after the shop's story: half of the steps cannot be told from all of them on a plain white ground,
//! but can where people or textures are drawn; a turbo model does badly on glass.

use crate::trace::Request;

/// Steps of a picture that is drawn in full.
pub const FULL_STEPS: u32 = 50;

/// Who made a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Maker {
    /// The dear model, with so many steps.
    Premium(u32),
    /// The cheap one.
    Turbo,
    /// A template, drawn by the gateway itself.
    Template,
}

/// What is asked of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Fills the landing page.
    Hero,
    /// One of many in a grid.
    Thumbnail,
    /// A post.
    Social,
    /// A card with a name and a price to read.
    Card,
}

/// What makes a picture easy or hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// Most things.
    Solid,
    /// Glass and jewelry.
    Reflective,
    /// Clothes on people.
    People,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What for.
    pub purpose: Purpose,
    /// What it shows.
    pub matter: Matter,
    /// Whether nothing is behind it.
    pub plain: bool,
}

impl Subject {
    /// What a request is about, by its labels; a tier stands in for a missing purpose. Whatever else is missing is
    /// taken to be as demanding as can be.
    pub fn of(request: &Request) -> Self {
        let purpose = match (request.purpose.as_deref(), request.quality_tier.as_deref()) {
            (Some("thumbnail"), _) | (None, Some("draft")) => Purpose::Thumbnail,
            (Some("social"), _) | (None, Some("standard")) => Purpose::Social,
            (Some("card"), _) => Purpose::Card,
            _ => Purpose::Hero,
        };
        let matter = match request.category.as_deref() {
            Some("glass" | "jewelry") => Matter::Reflective,
            Some("fashion" | "people") => Matter::People,
            _ => Matter::Solid,
        };
        Self { purpose, matter, plain: request.background.as_deref() == Some("plain") }
    }

    /// The least that is good enough, in points.
    pub fn floor(self) -> f64 {
        match self.purpose {
            Purpose::Hero => 88.0,
            Purpose::Thumbnail => 60.0,
            Purpose::Social => 74.0,
            Purpose::Card => 70.0,
        }
    }

    /// How good a picture of it by `maker` is, in points.
    pub fn quality(self, maker: Maker) -> f64 {
        match maker {
            // Its letters are letters.
            Maker::Template if self.purpose == Purpose::Card => 95.0,
            // A template draws no products.
            Maker::Template => 0.0,
            Maker::Turbo => match (self.purpose, self.matter) {
                (Purpose::Card, _) => 40.0,
                (_, Matter::Reflective) => 48.0,
                (_, Matter::People) => 62.0,
                (_, Matter::Solid) if self.plain => 74.0,
                (_, Matter::Solid) => 70.0,
            },
            Maker::Premium(steps) => {
                // At all steps, and what half of them lose.
                let (full, half) = match (self.purpose, self.matter, self.plain) {
                    (Purpose::Card, _, _) => (74.0, 8.0),
                    (_, Matter::Solid, true) => (92.0, 1.0),
                    (_, Matter::Solid, false) => (92.0, 12.0),
                    (_, Matter::People, true) => (92.0, 7.0),
                    (_, Matter::People, false) => (92.0, 18.0),
                    (_, Matter::Reflective, true) => (90.0, 6.0),
                    (_, Matter::Reflective, false) => (90.0, 14.0),
                };
                let missing = f64::from(FULL_STEPS.saturating_sub(steps)) / f64::from(FULL_STEPS / 2);
                full - half * missing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_steps_are_always_good_enough_and_turbo_is_not() {
        for purpose in [Purpose::Hero, Purpose::Thumbnail, Purpose::Social, Purpose::Card] {
            for matter in [Matter::Solid, Matter::Reflective, Matter::People] {
                for plain in [true, false] {
                    let subject = Subject { purpose, matter, plain };
                    assert!(subject.quality(Maker::Premium(FULL_STEPS)) >= subject.floor(), "{subject:?}");
                    assert!(subject.quality(Maker::Premium(25)) < subject.quality(Maker::Premium(26)), "{subject:?}");
                }
            }
        }
        let bottle = Subject { purpose: Purpose::Thumbnail, matter: Matter::Reflective, plain: true };
        assert!(bottle.quality(Maker::Turbo) < bottle.floor());
    }
}
