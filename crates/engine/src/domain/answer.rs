//! What a caller gets: stored pictures and the account of how they came about.

use serde::{Deserialize, Serialize};

use super::id::{ImageId, RequestId};
use super::money::{Price, Usd};
use super::outcome::Usage;
use super::picture::{Format, Picture};
use super::request::Size;
use super::story::Story;
use super::target::Target;

/// Where the pictures of an answer came from. The word is the `x-mimeo-cache` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// All were stored already.
    Hit,
    /// At least one was made for this request.
    Miss,
    /// Made for another request that was under way.
    Join,
    /// The cache was not consulted, as the caller or the route asked.
    Bypass,
}

impl Source {
    /// The word used in headers, ledgers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Hit => "hit",
            Source::Miss => "miss",
            Source::Join => "join",
            Source::Bypass => "bypass",
        }
    }
}

/// One picture of an answer.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Its identifier, under which it can be fetched; `None` if it was not to be stored.
    pub id: Option<ImageId>,
    /// The picture.
    pub picture: Picture,
    /// What it cost when it was made.
    pub cost: Price,
    /// Its share of the tokens, if the provider reported them.
    pub usage: Option<Usage>,
    /// The prompt as the provider rewrote it.
    pub revised_prompt: Option<String>,
    /// The provider instance that made it, such as `openai` or `template`.
    pub provider: String,
    /// The provider's model that made it.
    pub model: String,
    /// True if a simulated provider made it.
    pub simulated: bool,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// A finished request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The request.
    pub id: RequestId,
    /// When the newest picture was made, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// As many as were asked for.
    pub pictures: Vec<Delivered>,
    /// Tokens of these pictures when they were made, if reported.
    pub usage: Option<Usage>,
    /// Where they came from.
    pub source: Source,
    /// Provider instance of the first picture.
    pub provider: String,
    /// Provider's model of the first picture.
    pub model: String,
    /// True if any picture comes from a simulated provider.
    pub simulated: bool,
    /// What this request cost: 0 for a hit.
    pub cost: Price,
    /// What it would have cost more without Mimeo.
    pub saved: Usd,
    /// The request as it was understood, to be echoed.
    pub understood: Understood,
    /// What the pictures are to be brought to, where that is not what comes. The pictures here are the originals until
    /// they are.
    pub target: Option<Target>,
    /// The prompt as it was sent, if filler words were taken out of it.
    pub prompt_sent: Option<String>,
    /// What the caller should know although the request succeeded, such as a soft budget that is overrun.
    pub warnings: Vec<String>,
    /// Why this provider, as text lines; empty unless asked for.
    pub explain: Vec<String>,
    /// The same for programs; `None` unless asked for.
    pub story: Option<Box<Story>>,
    /// Milliseconds per phase, for `server-timing`.
    pub timings: Vec<(&'static str, f64)>,
}

/// The request's fields after defaults, as OpenAI's answers echo them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Understood {
    /// Size asked for.
    pub size: Size,
    /// Quality asked for, in the model's vocabulary.
    pub quality: Option<String>,
    /// Background asked for.
    pub background: Option<String>,
    /// Encoding asked for.
    pub output_format: Option<Format>,
}
