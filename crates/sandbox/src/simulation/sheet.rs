//! The file of a simulation: a provider's API as its server sees it. `simulations/README.md` describes every key.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::money::Usd;

/// One simulation, as its file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sheet {
    /// `[a-z0-9-]+`: the path segment after `/as/`, and the provider's name in the invoice book.
    pub name: String,
    pub title: String,
    /// Where the API is described.
    pub docs: String,
    /// When its facts were read, `YYYY-MM-DD`.
    pub as_of: String,
    /// A server in code that is played; the file needs nothing else then.
    pub plays: Option<Plays>,
    /// The ways to show a key; one of them is enough, none at all needs none.
    #[serde(default)]
    pub auth: Vec<Auth>,
    /// Groups of fields that several routes take.
    #[serde(default)]
    pub shared: BTreeMap<String, BTreeMap<String, Rule>>,
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Answers of all routes of a kind that have none of their own.
    #[serde(default)]
    pub answers: BTreeMap<Does, Vec<Answer>>,
    /// By model; `*` in a name stands for anything.
    #[serde(default)]
    pub prices: BTreeMap<String, Price>,
    /// What one unit costs in which the provider tells its costs.
    pub unit_usd: Option<Usd>,
    #[serde(default)]
    pub billing: Billing,
    #[serde(default)]
    pub errors: BTreeMap<Trouble, Answer>,
    /// The ways to refuse a prompt.
    #[serde(default)]
    pub refusals: Vec<Refusal>,
    #[serde(default)]
    pub job: JobRules,
    pub webhook: Option<Webhook>,
    /// Whether pictures are given only to those who show a key.
    #[serde(default)]
    pub files_need_key: bool,
    /// Requests that must work; tests send them.
    #[serde(default)]
    pub examples: Vec<Example>,
}

/// Servers whose protocol cannot be told in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Plays {
    /// One that executes graphs of nodes.
    Graph,
}

/// One way to show a key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// The header that carries it.
    pub header: Option<String>,
    /// What stands before the key in that header.
    pub prefix: String,
    /// The query parameter that carries it.
    pub query: Option<String>,
    /// HTTP Basic.
    pub basic: bool,
    /// A signature of AWS (version 4) for that service. Its form is looked at, not its arithmetic.
    pub aws: Option<String>,
    /// Further headers that must be there.
    pub and: Vec<String>,
}

/// What a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Does {
    /// Makes pictures and answers with them.
    Generate,
    /// Accepts a job that makes pictures.
    Submit,
    /// Tells how a job is doing.
    Poll,
    /// Tells what came of a job.
    Result,
    /// Cancels a job.
    Cancel,
    /// Answers something that costs nothing.
    Show,
    /// Shows the public key that signs webhooks, as a set of JSON web keys.
    Keys,
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Encoding {
    #[default]
    Json,
    /// `multipart/form-data`.
    Form,
    /// No body; fields come from the query.
    None,
}

/// One value or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Many<T> {
    One(T),
    Several(Vec<T>),
}

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl<T> Many<T> {
    /// The values in order.
    pub(crate) fn all(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }
}

/// One route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    pub does: Does,
    /// Default: POST for `generate` and `submit`, GET for the rest.
    pub method: Option<String>,
    /// `/v1/{model}/x`; `{model*}` takes several segments.
    pub path: String,
    /// Only these models, `*` stands for anything; default: all.
    #[serde(default)]
    pub models: Vec<String>,
    #[serde(default)]
    pub encoding: Encoding,
    /// `false`: no key needed here.
    pub auth: Option<bool>,
    /// Headers that must have one of these values, `*` stands for anything.
    #[serde(default)]
    pub headers: BTreeMap<String, Many<String>>,
    /// Parameters that the query of a paid route may have.
    #[serde(default)]
    pub query: Vec<String>,
    /// Names of `[shared]` groups.
    #[serde(default)]
    pub shared: Vec<String>,
    /// Pointer → what may stand there. Whatever else comes is an error.
    #[serde(default)]
    pub fields: BTreeMap<String, Rule>,
    /// Groups of fields of which exactly one must be there.
    #[serde(default)]
    pub exactly_one: Vec<Vec<String>>,
    /// Groups of fields of which at most one may be there.
    #[serde(default)]
    pub at_most_one: Vec<Vec<String>>,
    /// Where the prompt is: the pointers that find something are joined.
    #[serde(default = "prompt")]
    pub prompt: Many<String>,
    /// Where the model is, if not in the path; or its fixed name as `=NAME`, or `header:NAME`.
    pub model: Option<String>,
    /// Numbers of pictures that are multiplied; default: one picture.
    #[serde(default)]
    pub n: Many<String>,
    /// Pictures when `n` is not given, 1.
    pub default_n: Option<u64>,
    pub seed: Option<String>,
    #[serde(default)]
    pub size: Size,
    pub quality: Option<String>,
    /// Where the file format is; or a fixed one as `=png`.
    pub format: Option<String>,
    /// The format when none is asked for, png.
    pub default_format: Option<String>,
    /// Where the job's name is: `query:NAME` or `body:POINTER`; default: `{job}` of the path.
    pub job: Option<String>,
    #[serde(default)]
    pub answers: Vec<Answer>,
}

fn prompt() -> Many<String> {
    Many::One("prompt".to_owned())
}

/// Where the size is told, and how. The first that is there counts: `at`, then `width` and `height`, then `ratio`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Size {
    /// A text: one of `named`, or `WIDTHxHEIGHT` with `separator`, or a ratio.
    pub at: Option<String>,
    pub separator: Option<String>,
    pub named: BTreeMap<String, String>,
    pub width: Option<String>,
    pub height: Option<String>,
    /// `16:9`, also written with another character between.
    pub ratio: Option<String>,
    /// Which of the `tiers`.
    pub tier: Option<String>,
    /// Name → area in pixels.
    pub tiers: BTreeMap<String, u64>,
    /// Area in pixels when a ratio comes without a tier, 1048576.
    pub area: Option<u64>,
    /// Sides made from ratios are multiples of it, 16.
    pub multiple_of: Option<u64>,
    /// When nothing is told, `1024x1024`.
    pub default: Option<String>,
    /// Largest area, in pixels.
    pub most_pixels: Option<u64>,
}

/// What may stand in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    String,
    Int,
    Number,
    Bool,
    Array,
    Object,
    Any,
    /// An input picture.
    Picture,
    /// The mask of an edit.
    Mask,
}

/// How an input picture may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Form {
    Base64,
    DataUrl,
    Url,
    /// A part of a form.
    Part,
}

/// The rule of one field. In short: the kind, with `!` if it is required.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RuleText")]
pub(crate) struct Rule {
    pub is: Kind,
    pub required: bool,
    /// Least and largest number.
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub multiple_of: Option<u64>,
    pub one_of: Vec<Value>,
    /// Most characters of a text, or elements of a list.
    pub longest: Option<usize>,
    /// How pictures may come. Default: base64 and data URLs in JSON, parts in forms.
    pub forms: Vec<Form>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RuleText {
    Short(String),
    Long(LongRule),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongRule {
    is: Kind,
    #[serde(default)]
    required: bool,
    min: Option<f64>,
    max: Option<f64>,
    multiple_of: Option<u64>,
    #[serde(default)]
    one_of: Vec<Value>,
    longest: Option<usize>,
    #[serde(default, rename = "as")]
    forms: Vec<Form>,
}

impl TryFrom<RuleText> for Rule {
    type Error = String;

    fn try_from(text: RuleText) -> Result<Self, String> {
        let long = match text {
            RuleText::Long(long) => long,
            RuleText::Short(text) => {
                let (kind, required) = match text.strip_suffix('!') {
                    Some(kind) => (kind, true),
                    None => (text.as_str(), false),
                };
                let is = Kind::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(kind))
                    .map_err(|error| error.to_string())?;
                let (one_of, forms) = (Vec::new(), Vec::new());
                LongRule { is, required, min: None, max: None, multiple_of: None, one_of, longest: None, forms }
            }
        };
        let LongRule { is, required, min, max, multiple_of, one_of, longest, forms } = long;
        Ok(Self { is, required, min, max, multiple_of, one_of, longest, forms })
    }
}

/// What a model costs.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Price {
    /// Dollars per picture.
    Flat(Usd),
    /// The sum of what is named.
    Parts(Box<Parts>),
}

/// The parts of a price.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Parts {
    /// Dollars per picture.
    pub image: Option<By<Usd>>,
    /// By the area of each picture.
    pub megapixel: Option<Megapixel>,
    /// By the number of sampling steps of each picture.
    pub step: Option<Step>,
    /// Dollars per input picture.
    pub input_image: Option<Usd>,
    /// Dollars per token of the prompt; a token is four characters.
    pub input_token: Option<Usd>,
    /// Tokens of one input picture.
    pub input_image_tokens: u64,
    /// Dollars per token of a picture.
    pub output_token: Option<Usd>,
    /// Tokens of one picture.
    pub image_tokens: Option<By<u64>>,
}

/// A price by sampling steps.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// Dollars per step.
    pub usd: Usd,
    /// The pointer of the field that says how many.
    pub by: String,
    /// How many where it says nothing.
    pub default: u64,
}

/// A price by area.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Megapixel {
    /// Dollars per megapixel; a part of one counts as a whole.
    Whole(Usd),
    /// The same, in all its varieties.
    Of {
        usd: Usd,
        /// Dollars for the first megapixel of each picture.
        first: Option<Usd>,
        /// How many pixels a megapixel is, 1048576.
        pixels: Option<u64>,
        /// A part of a megapixel is billed as a part, to the pico-dollar.
        #[serde(default)]
        exact: bool,
    },
}

/// One value, or one by the text in a field of the body; `""` for every other text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum By<T> {
    One(T),
    Of {
        /// The pointer of the field.
        by: String,
        /// The values.
        of: BTreeMap<String, T>,
    },
}

/// When and for what is billed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Billing {
    pub at: BilledAt,
    /// Jobs that fail.
    pub failed: bool,
    /// Refused prompts; a refusal may say otherwise.
    pub refused: bool,
    /// Jobs that are cancelled while they run.
    pub cancelled: bool,
}

impl Default for Billing {
    fn default() -> Self {
        Self { at: BilledAt::Done, failed: false, refused: false, cancelled: false }
    }
}

/// When a job is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BilledAt {
    /// When it is accepted.
    Submit,
    /// When its pictures are there.
    Done,
}

/// What a provider may have to complain about. What has no answer of its own is said with `server`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Trouble {
    Unauthorized,
    NotFound,
    NoModel,
    Invalid,
    Encoding,
    Throttled,
    Quota,
    JobNotFound,
    /// Any other status, 500 by default.
    Server,
}

/// An answer: the first of a list whose condition holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Answer {
    /// An expression over the variables.
    pub when: Option<String>,
    /// Default: 200; for errors, what the error is usually said with.
    pub status: Option<u16>,
    /// Templates. Default: `content-type: application/json`, or the picture's type.
    pub headers: BTreeMap<String, String>,
    /// A template.
    pub body: String,
    /// The first picture's bytes are the body.
    pub picture: bool,
}

/// A way to refuse a prompt.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refusal {
    /// `true`: the job is accepted and ends in the state `refused`; the routes' answers say how.
    #[serde(default)]
    pub in_job: bool,
    /// Default: as `billing.refused` says.
    pub billed: Option<bool>,
    /// The answer, where it is not said in the job.
    #[serde(default)]
    pub answer: Answer,
}

/// How jobs go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JobRules {
    /// The first so many polls find the job waiting.
    pub queued_polls: u32,
    /// The next so many find it running.
    pub running_polls: u32,
    /// Whether a job that runs can be cancelled.
    pub cancels_running: bool,
    /// How long a finished job is known, in seconds.
    pub keep_s: u64,
    /// Whether it is told as `gone` afterwards, and not as a job that never was.
    pub tells_gone: bool,
    /// What the provider calls each state: `job.status` in templates. Several names of a state follow one another
    /// from poll to poll, the last one stays.
    pub names: BTreeMap<String, Many<String>>,
}

impl Default for JobRules {
    fn default() -> Self {
        Self {
            queued_polls: 1,
            running_polls: 1,
            cancels_running: true,
            keep_s: 3600,
            tells_gone: false,
            names: BTreeMap::new(),
        }
    }
}

/// How the provider calls back at the end of a job.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    /// Where the address is told: `query:NAME` or a pointer into the body.
    pub at: String,
    /// Where the secret is told, a pointer.
    pub secret_at: Option<String>,
    /// The account's secret, where the caller does not choose it.
    pub secret: Option<String>,
    pub sign: Option<Signing>,
    /// The header of the signature, for all but `standard-webhooks`.
    pub signature: Option<String>,
    /// What stands before the signature.
    #[serde(default)]
    pub prefix: String,
    /// Further headers, templates. `id` is the delivery's, `now` its time.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What is signed with Ed25519, joined by line breaks: `header:NAME`, `body`, `sha256-hex:body`.
    #[serde(default)]
    pub message: Vec<String>,
    /// A template.
    pub body: String,
}

/// How webhooks are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Signing {
    /// HMAC-SHA256 over `id.timestamp.body`, with the headers of that standard.
    StandardWebhooks,
    /// HMAC-SHA256 of the body, in hex.
    HmacSha256,
    /// Ed25519 over `message`, in hex; a `keys` route shows the public key.
    Ed25519,
}

/// A request that must work.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The path, after `/as/NAME`.
    pub path: String,
    /// Headers; the key belongs to them.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A JSON body, as text. `@picture` stands for a small PNG in base64.
    pub body: Option<String>,
    /// A form; `@picture` as a value is a part with a small PNG.
    #[serde(default)]
    pub form: Vec<(String, String)>,
    /// Pointer in the answer to the address that is polled; or, with `poll_path`, to what stands for `{id}` in it.
    pub poll: Option<String>,
    /// The path that is polled.
    pub poll_path: Option<String>,
    /// Pointer, in the last answer or the first one, to the address of the result.
    pub result: Option<String>,
    /// Pointer to the pictures of the last answer; absent if it is a picture itself.
    pub pictures: Option<String>,
}
