//! From a reading to the steps or the quality to use.

use super::weigh::{EASY, FULL};
use super::{Purpose, Reading};
use crate::config::Background;
use crate::providers::model::Bounds;

/// The steps that stand for full quality where a model's own number is not known, and it takes more.
const CUSTOMARY: u32 = 50;

/// A model that reaches full quality in fewer steps is distilled: each of its steps counts, and none is saved.
const FEWEST: u32 = 16;

/// What a smooth background asks for, of what is between half and all: gradients show bands when they are hurried.
const SMOOTH: f32 = 0.25;

/// The category of pictures that show letters.
const LETTERS: &str = "text";

/// Words among a model's qualities that are none: its own choice, and any at all.
const NO_QUALITIES: [&str; 2] = ["auto", "*"];

impl Reading {
    /// How much of a model's full number of steps a picture needs, 0.5–1.
    pub fn share(&self) -> f32 {
        let need = ((self.complexity - EASY) / (FULL - EASY)).clamp(0.0, 1.0);
        let need = match (&self.purpose, self.background) {
            (Purpose::Draft, _) => 0.0,
            (Purpose::Hero | Purpose::Premium, _) => 1.0,
            // Letters are the first thing that goes wrong.
            _ if self.category == LETTERS => 1.0,
            (_, Background::Plain) => need,
            (_, Background::Simple) => need.max(SMOOTH),
            // What nobody can tell may turn out to be a scene.
            (_, Background::Complex | Background::Unknown) => 1.0,
        };
        0.5 + 0.5 * need
    }

    /// The steps to take of a model that takes `bounds` and by itself takes `default`: from half of what the model takes
    /// for full quality up to all of it. A model whose default is not known is taken to need 50, or its most if that is
    /// less. Where full quality takes fewer than 16 steps, the model is distilled and all are taken.
    pub fn steps(&self, bounds: Bounds, default: Option<u32>) -> u32 {
        let within = |steps: u32| steps.min(bounds.max).max(bounds.min);
        if let Some(steps) = self.steps {
            return within(steps);
        }
        let full = within(default.unwrap_or(CUSTOMARY));
        if full < FEWEST {
            return full;
        }
        within((full as f32 * self.share()).ceil() as u32)
    }

    /// The quality to ask for, of a model's `qualities` with the cheapest first: the first one for drafts and thumbnails,
    /// the last one for what is premium, the last one or the one before for heroes. `None` leaves it to the model.
    pub fn quality<'a>(&self, qualities: &'a [String]) -> Option<&'a str> {
        let mut named = qualities.iter().map(String::as_str).filter(|quality| !NO_QUALITIES.contains(quality));
        match self.purpose {
            Purpose::Draft | Purpose::Thumbnail => named.next(),
            Purpose::Premium => named.next_back(),
            // The last but one where there are steps beyond what a screen shows.
            Purpose::Hero => {
                let named: Vec<&str> = named.collect();
                let place = if named.len() > 3 { named.len() - 2 } else { named.len().checked_sub(1)? };
                named.get(place).copied()
            }
            Purpose::Standard | Purpose::Other(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;

    fn reading(purpose: Purpose, background: Background, complexity: f32) -> Reading {
        Reading {
            purpose,
            category: "product".into(),
            background,
            complexity,
            steps: None,
            why: Vec::new(),
            source: Source::Classifier,
        }
    }

    #[test]
    fn half_for_what_is_easy_and_all_for_what_is_not() {
        let bounds = Bounds { min: 1, max: 150 };
        for (purpose, background, complexity, expected) in [
            (Purpose::Standard, Background::Plain, 0.1, 25),
            (Purpose::Standard, Background::Plain, 0.3, 25),
            (Purpose::Standard, Background::Plain, 0.5, 38),
            (Purpose::Standard, Background::Plain, 0.7, 50),
            (Purpose::Standard, Background::Simple, 0.1, 32),
            (Purpose::Standard, Background::Complex, 0.1, 50),
            (Purpose::Standard, Background::Unknown, 0.1, 50),
            (Purpose::Thumbnail, Background::Plain, 0.1, 25),
            (Purpose::Other("og".into()), Background::Plain, 0.1, 25),
            (Purpose::Draft, Background::Complex, 1.0, 25),
            (Purpose::Hero, Background::Plain, 0.1, 50),
            (Purpose::Premium, Background::Plain, 0.1, 50),
        ] {
            let reading = reading(purpose, background, complexity);
            for default in [None, Some(50)] {
                assert_eq!(reading.steps(bounds, default), expected, "{reading:?}");
            }
        }
    }

    #[test]
    fn letters_and_what_nobody_can_tell_get_all_steps() {
        let bounds = Bounds { min: 1, max: 150 };
        let easy = reading(Purpose::Standard, Background::Plain, 0.1);
        let letters = Reading { category: LETTERS.into(), ..easy.clone() };
        assert_eq!((easy.steps(bounds, Some(50)), letters.steps(bounds, Some(50))), (25, 50));
        let draft = Reading { purpose: Purpose::Draft, ..letters };
        assert_eq!(draft.steps(bounds, Some(50)), 25, "who looks at a draft can do without");
        let unknown = Reading { background: Background::Unknown, ..easy };
        assert_eq!(unknown.steps(bounds, Some(50)), 50);
    }

    #[test]
    fn steps_stay_within_what_the_model_takes() {
        let easy = reading(Purpose::Draft, Background::Plain, 0.0);
        assert_eq!(easy.steps(Bounds { min: 1, max: 20 }, Some(20)), 10);
        assert_eq!(easy.steps(Bounds { min: 15, max: 50 }, Some(28)), 15);
        assert_eq!(easy.steps(Bounds { min: 1, max: 28 }, None), 14);
        assert_eq!(easy.steps(Bounds { min: 1, max: 8 }, Some(4)), 4, "a distilled model is left alone");
        let wild = Reading { steps: Some(9_999), ..easy.clone() };
        assert_eq!(wild.steps(Bounds { min: 1, max: 40 }, Some(28)), 40);
        let none = Reading { complexity: f32::NAN, ..reading(Purpose::Standard, Background::Plain, 0.0) };
        assert!((1..=50).contains(&none.steps(Bounds { min: 1, max: 50 }, None)));
    }

    #[test]
    fn qualities_follow_the_purpose() {
        let five: Vec<String> = ["low", "medium", "high", "xhigh", "max"].map(str::to_owned).to_vec();
        let of = |purpose: Purpose, count: usize| {
            let reading = reading(purpose, Background::Plain, 0.2);
            reading.quality(&five[..count]).map(str::to_owned)
        };
        assert_eq!(of(Purpose::Draft, 5).as_deref(), Some("low"));
        assert_eq!(of(Purpose::Thumbnail, 3).as_deref(), Some("low"));
        assert_eq!(of(Purpose::Hero, 5).as_deref(), Some("xhigh"));
        assert_eq!(of(Purpose::Hero, 3).as_deref(), Some("high"));
        assert_eq!(of(Purpose::Premium, 5).as_deref(), Some("max"));
        assert_eq!(of(Purpose::Standard, 5), None);
        assert_eq!(of(Purpose::Hero, 0), None);
        let open = ["*".to_owned(), "auto".to_owned()];
        assert_eq!(reading(Purpose::Premium, Background::Plain, 0.2).quality(&open), None);
    }
}
