//! What a model is, can do and costs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

pub use super::sizes::{Ratio, RatioSizes, SizeRule, Sizes};
use super::wiring::Wiring;
use crate::domain::request::Decimal;
use crate::domain::{Format, Generated, ImageRequest, Operation, Price, Size};
use crate::pricing::{Prices, Wanted};

/// A model of a provider: its capabilities, its defaults, its prices.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The provider's name for it.
    pub id: String,
    /// Its name as people write it; by default the id.
    #[serde(default)]
    pub title: String,
    /// Other names that mean this model.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What `{model}` stands for in paths, if not for the id.
    pub path: Option<String>,
    /// The dialect of the record that it is spoken to in, if not the record's own.
    pub dialect: Option<String>,
    /// The graph that it executes, in the server's API format; for `comfy-graph` only.
    pub graph: Option<String>,
    /// How one speaks to it: put together from the record when that is parsed.
    #[serde(skip)]
    pub wiring: Arc<Wiring>,
    /// Where it is in its life.
    #[serde(default)]
    pub status: Status,
    /// What it can do: `generate`, `edit`, `render`.
    #[serde(default = "generate_only", deserialize_with = "operations")]
    #[schemars(with = "Vec<String>")]
    pub operations: Vec<Operation>,
    /// The longest prompt, in characters.
    pub max_prompt_chars: Option<u32>,
    /// True if it needs no prompt, because something else says what is drawn.
    #[serde(default)]
    pub prompt_optional: bool,
    /// The sizes that it can make.
    #[serde(default)]
    pub sizes: Sizes,
    /// Quality steps, the cheapest first. Empty: it has none.
    #[serde(default)]
    pub qualities: Vec<String>,
    /// Backgrounds. Empty: it has no choice.
    #[serde(default)]
    pub backgrounds: Vec<String>,
    /// Encodings that it can be asked for. Empty: it has no choice.
    #[serde(default)]
    pub output_formats: Vec<Format>,
    /// True if the compression of JPEG and WebP can be chosen.
    #[serde(default)]
    pub compression: bool,
    /// Styles. Empty: it has none.
    #[serde(default)]
    pub styles: Vec<String>,
    /// Moderation levels. Empty: it has no choice.
    #[serde(default)]
    pub moderation: Vec<String>,
    /// Levels of input fidelity. Empty: it has no choice.
    #[serde(default)]
    pub input_fidelity: Vec<String>,
    /// True if it takes a seed.
    #[serde(default)]
    pub seed: bool,
    /// Sampling steps that it takes, if any.
    pub steps: Option<Bounds>,
    /// Guidance scales that it takes, if any.
    pub guidance: Option<RangeOf>,
    /// True if it takes a negative prompt.
    #[serde(default)]
    pub negative_prompt: bool,
    /// The most pictures that one call can make (1 or more).
    #[serde(default = "one")]
    pub max_n: u32,
    /// The most input pictures of an edit.
    #[serde(default)]
    pub max_inputs: u32,
    /// True if an edit can be confined with a mask.
    #[serde(default)]
    pub mask: bool,
    /// The most unfinished pictures that can be streamed per picture (0–3).
    #[serde(default)]
    pub partial_images: u8,
    /// Fields that are passed through as they come.
    #[serde(default)]
    pub passthrough: Vec<String>,
    /// Values that mean the same as leaving the field out, by field. So a default that is spelled out and one
    /// that is left out are one request.
    #[serde(default)]
    pub defaults: BTreeMap<String, serde_json::Value>,
    /// Quality step for each of `draft`, `standard`, `premium`.
    #[serde(default)]
    pub tiers: BTreeMap<String, String>,
    /// How good its pictures are, in points from 0 to 100, by quality; `""` where there are none, and for all that are
    /// not named. The catalogue's judgement, to begin with: what people say of its pictures moves it.
    #[serde(default)]
    pub rating: BTreeMap<String, u8>,
    /// What it costs. Left out: nobody knows.
    pub prices: Option<Prices>,
    /// What it has been announced to cost later: each with the day `from` which it holds, in place of `prices` as a
    /// whole.
    #[serde(default)]
    pub price_changes: Vec<Prices>,
    /// Typical time that one picture takes (median, warm), in seconds, by quality; `""` where there are none.
    #[serde(default)]
    pub p50_s: BTreeMap<String, u32>,
}

fn generate_only() -> Vec<Operation> {
    vec![Operation::Generate]
}

const fn one() -> u32 {
    1
}

fn operations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Operation>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let all = [Operation::Generate, Operation::Edit, Operation::Render];
    names
        .iter()
        .map(|name| {
            all.into_iter().find(|operation| operation.name() == name).ok_or_else(|| {
                serde::de::Error::custom(format!("`{name}` is no operation; write generate, edit or render"))
            })
        })
        .collect()
}

/// Where a model is in its life. Days are UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Status {
    /// It is served, and no end is known.
    #[default]
    Live,
    /// It is served until a day that has been announced.
    Retiring {
        /// The first day on which calls fail.
        #[schemars(with = "String")]
        until: Date,
        /// The model that serves requests for it from then on.
        successor: Option<String>,
    },
    /// Calls fail.
    Gone {
        /// The first day on which calls failed.
        #[schemars(with = "String")]
        since: Date,
        /// The model that serves requests for it.
        successor: String,
        /// What its quality steps are called there; `""` is what leaving the quality out meant.
        #[serde(default)]
        qualities: BTreeMap<String, String>,
    },
}

impl Status {
    /// The word used in lists: `live`, `retiring` or `gone`.
    pub const fn name(&self) -> &'static str {
        match self {
            Status::Live => "live",
            Status::Retiring { .. } => "retiring",
            Status::Gone { .. } => "gone",
        }
    }

    /// The model that serves requests on `today` in place of this one, if this one does not.
    pub fn successor_on(&self, today: Date) -> Option<&str> {
        match self {
            Status::Live => None,
            Status::Retiring { until, successor } => successor.as_deref().filter(|_| today >= *until),
            Status::Gone { successor, .. } => Some(successor),
        }
    }
}

/// An inclusive range of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The least.
    pub min: u32,
    /// The most.
    pub max: u32,
}

/// An inclusive range of exact decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeOf {
    /// The least.
    #[serde(deserialize_with = "decimal")]
    #[schemars(with = "String")]
    pub min: Decimal,
    /// The most.
    #[serde(deserialize_with = "decimal")]
    #[schemars(with = "String")]
    pub max: Decimal,
}

fn decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is not a decimal such as \"7.5\"")))
}

impl Model {
    /// The upper bound of what a call costs: what is reserved for it. `request` must be fitted, `n` is the
    /// number of pictures in this one call, `partials` the unfinished pictures streamed for each.
    ///
    /// What is left to the model (`size = auto`, `quality = auto`) counts as the dearest that it may choose.
    pub fn expected(&self, request: &ImageRequest, n: u32, partials: u8) -> Price {
        self.expected_with(self.prices.as_ref(), request, n, partials)
    }

    /// As [`Model::expected`], at prices that are known better than those of the record; `None` if nobody knows any.
    pub fn expected_with(&self, prices: Option<&Prices>, request: &ImageRequest, n: u32, partials: u8) -> Price {
        match prices {
            Some(prices) => prices.expected(&self.wanted(request, &areas(request), n, partials)),
            None => Price::Unknown,
        }
    }

    /// What a call did cost; see [`Prices::billed`] for what counts as evidence.
    pub fn billed(&self, request: &ImageRequest, n: u32, partials: u8, generated: &Generated) -> Price {
        self.billed_with(self.prices.as_ref(), request, n, partials, generated)
    }

    /// As [`Model::billed`], at prices that are known better than those of the record; `None` if nobody knows any.
    pub fn billed_with(
        &self,
        prices: Option<&Prices>,
        request: &ImageRequest,
        n: u32,
        partials: u8,
        generated: &Generated,
    ) -> Price {
        match (prices, generated.billed) {
            (Some(prices), _) => prices.billed(&self.wanted(request, &areas(request), n, partials), generated),
            (None, Some(usd)) => Price::Known(usd),
            (None, None) => Price::Unknown,
        }
    }

    /// True if a call at `prices` that gets all its pictures costs what [`Model::expected_with`] says, to the dot: see
    /// [`Prices::is_exact`].
    pub fn is_exact_with(&self, prices: &Prices, request: &ImageRequest) -> bool {
        let mut wanted = self.wanted(request, &[], 1, 0);
        // Where nobody says how many steps are taken, the most that may be are reckoned with.
        if request.steps.is_none() && !self.defaults.contains_key("steps") {
            wanted.steps = None;
        }
        prices.is_exact(&wanted)
    }

    /// What holds on `day` (UTC) after `pictures` of that calendar month: the last version that has begun, at the volume
    /// tier that is reached. `None` if nobody knows.
    pub fn prices_on(&self, day: Date, pictures: u64) -> Option<Cow<'_, Prices>> {
        Prices::in_force(self.prices.iter().chain(&self.price_changes), day).map(|prices| prices.after(pictures))
    }

    /// The typical time for one picture, if known: of `quality`, else the longest of all.
    pub fn typical_latency(&self, quality: Option<&str>) -> Option<Duration> {
        let quality = quality.or_else(|| self.default_text("quality"));
        let seconds = quality.and_then(|quality| self.p50_s.get(quality)).or_else(|| self.p50_s.values().max())?;
        Some(Duration::from_secs(u64::from(*seconds)))
    }

    /// How good its pictures are thought to be, in points from 0 to 100, if anybody has said: of `quality`, else of all.
    pub fn rating(&self, quality: Option<&str>) -> Option<u8> {
        let quality = quality.or_else(|| self.default_text("quality"));
        quality.and_then(|quality| self.rating.get(quality)).or_else(|| self.rating.get("")).copied()
    }

    /// How long a job can be asked for after it has ended.
    pub fn keeps_jobs(&self) -> Duration {
        Duration::from_secs(u64::from(self.wiring.job.keep_s.unwrap_or(3600)))
    }

    /// True if `name` is its id or one of its aliases.
    pub fn goes_by(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// What it is called where the provider is spoken to: in paths and in bodies.
    pub(super) fn wire_name(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.id)
    }

    /// The title, or the id where there is none.
    pub fn title(&self) -> &str {
        if self.title.is_empty() { &self.id } else { &self.title }
    }

    /// The default of a field as text, unless the default is the model's own choice.
    pub(super) fn default_text(&self, field: &str) -> Option<&str> {
        self.defaults.get(field).and_then(serde_json::Value::as_str).filter(|value| *value != "auto")
    }

    /// The steps of a request that does not name them; where nobody knows, the most that can be asked for.
    fn default_steps(&self) -> Option<u32> {
        self.usual_steps().or(self.steps.map(|steps| steps.max))
    }

    /// The steps that it takes by itself, if that is known.
    pub fn usual_steps(&self) -> Option<u32> {
        let default = self.defaults.get("steps").and_then(serde_json::Value::as_u64);
        default.and_then(|steps| u32::try_from(steps).ok())
    }

    fn wanted<'a>(&'a self, request: &'a ImageRequest, inputs: &'a [u64], n: u32, partials: u8) -> Wanted<'a> {
        let default_size = || self.default_text("size").and_then(|size| size.parse().ok()).unwrap_or(Size::Auto);
        let negative = request.negative_prompt.as_deref().map_or(0, str::len);
        Wanted {
            size: if request.size == Size::Auto { default_size() } else { request.size },
            quality: request.quality.as_deref().or_else(|| self.default_text("quality")),
            output_format: request.output_format,
            text_bytes: request.prompt.len() + negative,
            inputs,
            steps: request.steps.or_else(|| self.default_steps()),
            n,
            partials,
        }
    }
}

/// The areas of the pictures that a request sends, in pixels, the mask included.
fn areas(request: &ImageRequest) -> Vec<u64> {
    let pictures = request.inputs.iter().chain(&request.mask);
    pictures.map(|input| u64::from(input.picture.width) * u64::from(input.picture.height)).collect()
}
