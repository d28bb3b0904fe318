//! What a look at a picture found wrong with it.

use serde::{Deserialize, Serialize};

/// Something that is looked for in every picture that was paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// All of one colour, or all transparent.
    Blank,
    /// Next to no contrast anywhere.
    Flat,
    /// An even band at the bottom that begins abruptly, as of a picture that was never finished.
    Truncated,
    /// Another shape than was asked for, or much smaller.
    Size,
    /// The same picture that its provider sent for quite different prompts.
    Placeholder,
    /// The same faint pattern at the same place of many different pictures of one model.
    Watermark,
}

impl Check {
    /// All of them.
    pub const ALL: [Check; 6] =
        [Check::Blank, Check::Flat, Check::Truncated, Check::Size, Check::Placeholder, Check::Watermark];

    /// The word for it in configurations and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Check::Blank => "blank",
            Check::Flat => "flat",
            Check::Truncated => "truncated",
            Check::Size => "size",
            Check::Placeholder => "placeholder",
            Check::Watermark => "watermark",
        }
    }

    /// True if one picture alone cannot tell: it is compared with others of the same provider.
    pub const fn compares(self) -> bool {
        matches!(self, Check::Placeholder | Check::Watermark)
    }

    /// True if a picture of that kind is of no use to anybody who asks for the same again.
    pub const fn is_worthless(self) -> bool {
        matches!(self, Check::Blank | Check::Placeholder)
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What was looked for.
    pub check: Check,
    /// How sure it is, from 0 to 1: a judgement written down with each check, not a measured frequency.
    pub confidence: f64,
    /// What was seen: the rest of a sentence that begins with the picture, in plain ASCII, since it also goes into a header.
    pub what: String,
}

impl Finding {
    /// From which confidence on a picture has failed its check. Below, it is only told of.
    pub const FAILS: f64 = 0.8;

    /// True if the picture has failed.
    pub fn fails(&self) -> bool {
        self.confidence >= Self::FAILS
    }
}
