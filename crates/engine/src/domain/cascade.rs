//! A draft first, the final later: what a request is to the others that it belongs to, and what its answer says of it.

use serde::{Deserialize, Serialize};

use super::answer::Delivered;
use super::id::{ImageId, RequestId, WishId};
use super::money::{Price, Usd};

/// What a request makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A fast and cheap picture to look at.
    Draft,
    /// The picture itself.
    Final,
    /// The same picture once more, by another model, for the operator to compare.
    Shadow,
}

impl Stage {
    /// The word used in headers and stories.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Draft => "draft",
            Stage::Final => "final",
            Stage::Shadow => "shadow",
        }
    }
}

/// The place of a request among those that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leg {
    /// What it makes.
    pub stage: Stage,
    /// The request that made the draft of this final, or whose shadow this is.
    pub parent: Option<RequestId>,
    /// True if it is made for the answer to its parent: outside, both are one request.
    pub at_once: bool,
    /// For models that take a seed, if the caller names none: the same for draft and final.
    pub seed: Option<u64>,
    /// What one picture of the final would probably cost.
    pub final_price: Price,
    /// What was noted as saved because this final was not made, and is taken back now that it is.
    pub taken_back: Usd,
}

impl Leg {
    /// What this request saves against making the final every time: the price of the finals that are not made, less
    /// that of these drafts; for a final, less than nothing. Where a price is unknown nothing is claimed.
    pub fn saving(&self, pictures: &[Delivered]) -> Usd {
        match self.stage {
            Stage::Draft => pictures.iter().map(|draft| self.spared_by(draft)).sum(),
            Stage::Final => -self.taken_back,
            Stage::Shadow => Usd::ZERO,
        }
    }

    /// The same for one draft.
    pub fn spared_by(&self, draft: &Delivered) -> Usd {
        match (self.final_price, draft.cost) {
            (Price::Known(price), Price::Known(cost)) => price - cost,
            _ => Usd::ZERO,
        }
    }
}

/// What an answer says of its cascade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cascaded {
    /// What its pictures are.
    pub stage: Stage,
    /// The drafts that can be made final, in the order of the pictures.
    pub drafts: Vec<ImageId>,
    /// What was asked for with each of them. Empty in answers that were kept before there was such a name.
    #[serde(default)]
    pub wishes: Vec<WishId>,
    /// Until when they can be, in milliseconds since the Unix epoch.
    pub until_ms: Option<i64>,
    /// What one of them would probably cost as a final.
    pub final_price: Price,
    /// The request that made the drafts of these finals.
    pub parent: Option<RequestId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, Format, Picture};

    fn draft(cost: Price) -> Delivered {
        let picture =
            Picture { bytes: bytes::Bytes::new(), digest: Digest::of(b""), format: Format::Png, width: 1, height: 1 };
        Delivered {
            id: None,
            picture,
            cost,
            usage: None,
            revised_prompt: None,
            provider: String::new(),
            model: String::new(),
            simulated: true,
            created_ms: 0,
        }
    }

    #[test]
    fn what_is_saved_is_taken_back() {
        let cents = |cents: i128| Usd::from_pico(cents * Usd::SCALE / 100);
        let known = |amount| Price::Known(cents(amount));
        let (final_price, taken_back) = (known(4), Usd::ZERO);
        let leg = Leg { stage: Stage::Draft, parent: None, at_once: false, seed: None, final_price, taken_back };
        assert_eq!(leg.saving(&[draft(known(1)), draft(Price::FREE), draft(Price::Unknown)]), cents(7));
        assert_eq!(Leg { final_price: Price::Unknown, ..leg }.saving(&[draft(known(1))]), Usd::ZERO);
        let made = Leg { stage: Stage::Final, taken_back: cents(3), ..leg };
        assert_eq!(made.saving(&[draft(known(4))]), cents(-3));
        assert_eq!(Leg { stage: Stage::Shadow, ..made }.saving(&[draft(known(1))]), Usd::ZERO);
    }
}
