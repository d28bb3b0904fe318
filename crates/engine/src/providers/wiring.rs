//! How one speaks to a provider: what goes where in a request, what comes back where, and what it means. A record has
//! one wiring; models that differ have a dialect, which is merged over it.
//!
//! Places in JSON are written with slashes and without one at the beginning: `images/*/url`. In what is read, `*` is
//! every element and a number one of them; in what is written, a number or `-` (one more) makes an array.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::Usd;

/// How one speaks to a provider, or to some of its models.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wiring {
    /// Paths and habits of the wire.
    pub wire: Wire,
    /// Where the canonical fields are written. A field without a place cannot be sent.
    pub fields: BTreeMap<Field, Place>,
    /// What is written into every body as it stands here, by its place.
    pub constants: BTreeMap<String, Value>,
    /// What is written into the body of an edit beside that.
    pub edit_constants: BTreeMap<String, Value>,
    /// Where pictures are in an answer.
    pub result: ResultRules,
    /// Where tokens are counted in an answer.
    pub usage: UsageRules,
    /// Where an answer says what it cost.
    pub cost: Option<Cost>,
    /// How to ask for a job that was accepted.
    pub job: JobRules,
    /// What is billed although no picture comes.
    pub billing: Billing,
    /// What its errors mean for money and for other candidates.
    pub errors: Errors,
}

/// Paths and habits of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// Path for generating, appended to the base address. May hold `{model}` and the record's `{vars}`.
    pub generate: Option<String>,
    /// Path for editing, appended to the base address.
    pub edit: Option<String>,
    /// True percent-encodes the model in a path, its slashes included.
    pub encode_model: bool,
    /// How a request's body is encoded.
    pub encoding: Option<Encoding>,
    /// How the body of an edit is encoded, where that is different. For `openai-images` it is `form`.
    pub edit_encoding: Option<Encoding>,
    /// Headers that are sent with every call. May hold the record's `{vars}`.
    pub headers: BTreeMap<String, String>,
    /// True if unfinished pictures can be streamed as server-sent events.
    pub streaming: bool,
    /// How finished pictures come.
    pub result: ResultKind,
    /// The header that carries the attempt's identifier.
    pub attempt_header: Option<String>,
    /// Where an error says when to come back, the most exact first.
    pub retry_after: Vec<RetryAfter>,
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `multipart/form-data`.
    Form,
}

/// How finished pictures come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResultKind {
    /// In the answer, as base64. An address in the answer is not followed.
    #[default]
    B64,
    /// As addresses, or in the answer: whatever comes.
    Any,
    /// The body of the answer is the picture.
    Bytes,
}

/// Where an error says when to come back: in a header, or at a place of its body.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryAfter {
    /// Name of the header.
    pub header: Option<String>,
    /// Place in the body.
    pub at: Option<String>,
    /// What its number counts.
    pub unit: RetryUnit,
}

/// What a number that says when to come back counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RetryUnit {
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Seconds, or an HTTP date.
    #[serde(rename = "s")]
    Seconds,
    /// Seconds with their unit, such as `33s` or `1.5s`.
    #[serde(rename = "duration")]
    Duration,
    /// A sentence that names a number of seconds, such as `resets in ~30s`.
    #[serde(rename = "text")]
    Text,
}

/// The canonical fields that have places on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the field of the same name of the request, the job or the call")]
pub enum Field {
    Model,
    Prompt,
    N,
    Size,
    Width,
    Height,
    Ratio,
    Tier,
    Quality,
    Background,
    OutputFormat,
    OutputCompression,
    Style,
    Moderation,
    InputFidelity,
    Seed,
    Steps,
    Guidance,
    NegativePrompt,
    Image,
    Mask,
    Data,
    User,
    Stream,
    PartialImages,
    Callback,
    CallbackSecret,
}

impl Field {
    /// The name used in records and in messages to callers.
    pub const fn name(self) -> &'static str {
        match self {
            Field::Model => "model",
            Field::Prompt => "prompt",
            Field::N => "n",
            Field::Size => "size",
            Field::Width => "width",
            Field::Height => "height",
            Field::Ratio => "ratio",
            Field::Tier => "tier",
            Field::Quality => "quality",
            Field::Background => "background",
            Field::OutputFormat => "output_format",
            Field::OutputCompression => "output_compression",
            Field::Style => "style",
            Field::Moderation => "moderation",
            Field::InputFidelity => "input_fidelity",
            Field::Seed => "seed",
            Field::Steps => "steps",
            Field::Guidance => "guidance",
            Field::NegativePrompt => "negative_prompt",
            Field::Image => "image",
            Field::Mask => "mask",
            Field::Data => "data",
            Field::User => "user",
            Field::Stream => "stream",
            Field::PartialImages => "partial_images",
            Field::Callback => "callback",
            Field::CallbackSecret => "callback_secret",
        }
    }
}

/// Where and how a field is written: a place alone, or a table.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(with = "PlaceOrTable")]
pub struct Place {
    /// Its place in the body; empty if it is not in there. `*` puts the members of an object beside each other into
    /// the body itself.
    pub at: String,
    /// The parameter of the address that carries it, in place of the body.
    pub query: Option<String>,
    /// In what form.
    pub form: Form,
    /// What stands between width and height, in place of `x` (in a ratio: of `:`).
    pub separator: Option<String>,
    /// What canonical values are called there. What is not in it goes as it is.
    pub map: BTreeMap<String, Value>,
    /// The place of the second and further pictures, with `{i}` counting from 2, or `{index}` counting from 1.
    pub more: Option<String>,
    /// What is written beside it in the same object. `{mime}` is the picture's media type.
    pub beside: BTreeMap<String, String>,
    /// Which part of a mask is edited.
    pub polarity: Polarity,
    /// How a bare text of a template's data is called inside of its layer. Left out: it stays bare.
    pub text: Option<String>,
    /// The same for the address of a picture.
    pub link: Option<String>,
}

/// In what form a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As it is; pictures as parts of a form, or as base64 in JSON.
    #[default]
    Plain,
    /// A list with that one value.
    List,
    /// A number as text.
    Text,
    /// A text as a number, where it is one.
    Number,
    /// The layers of a template's data as a list, each with its `name` in it.
    Named,
    /// A picture in base64.
    Base64,
    /// A picture as a `data:` address.
    DataUrl,
    /// A picture as a part of a form.
    Part,
}

/// Which part of a mask is edited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Polarity {
    /// What is transparent: as callers send it.
    #[default]
    Transparent,
    /// What is white; the rest is black.
    White,
    /// What is black; the rest is white.
    Black,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct PlaceTable {
    /// Its place in the body; empty if it is not in there.
    at: String,
    /// The parameter of the address that carries it, in place of the body.
    query: Option<String>,
    /// In what form.
    #[serde(rename = "as")]
    form: Form,
    /// What stands between width and height, in place of `x` (in a ratio: of `:`).
    separator: Option<String>,
    /// What canonical values are called there. What is not in it goes as it is.
    map: BTreeMap<String, Value>,
    /// The place of the second and further pictures, with `{i}` counting from 2, or `{index}` counting from 1.
    more: Option<String>,
    /// What is written beside it in the same object. `{mime}` is the picture's media type.
    beside: BTreeMap<String, String>,
    /// Which part of a mask is edited.
    polarity: Polarity,
    /// How a bare text of a template's data is called inside of its layer. Left out: it stays bare.
    text: Option<String>,
    /// The same for the address of a picture.
    link: Option<String>,
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only describes the two forms to editors")]
enum PlaceOrTable {
    Place(String),
    Table(PlaceTable),
}

impl<'de> Deserialize<'de> for Place {
    /// By hand, because a derived one does not say which of the two it did not understand, nor why.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Place;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a place such as \"input/width\", or a table such as { at = \"size\", separator = \"*\" }")
            }

            fn visit_str<E: serde::de::Error>(self, at: &str) -> Result<Place, E> {
                Ok(Place { at: at.to_owned(), ..Place::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Place, A::Error> {
                let PlaceTable { at, query, form, separator, map, more, beside, polarity, text, link } =
                    PlaceTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Place { at, query, form, separator, map, more, beside, polarity, text, link })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Where pictures are in an answer. A body whose media type is that of a picture is the picture itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResultRules {
    /// Places of addresses, `data:` addresses or base64; the first that finds anything counts.
    pub pictures: Vec<Pick>,
    /// Place of values beside the pictures, in their order: true withholds the picture.
    pub flags: Option<String>,
    /// Place of the prompt as the provider rewrote it.
    pub revised_prompt: Option<String>,
}

/// Where a picture is: a place alone, or the place of what holds it, where it is in there, and when it does not count.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Pick {
    /// A place.
    Place(String),
    /// What holds it.
    Within {
        /// Place of the elements.
        at: String,
        /// Where the picture is in an element.
        value: String,
        /// It does not count if this place of the element is true (or there and neither false, null, zero nor empty).
        unless: Option<String>,
        /// If this place of the element is false, a picture was made and is withheld.
        clear: Option<String>,
    },
}

/// Where tokens are counted in an answer. What is not told apart counts as the dearer kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UsageRules {
    /// All tokens that went in.
    pub input: Option<String>,
    /// All tokens that came out.
    pub output: Option<String>,
    /// Text that went in.
    pub input_text: Option<String>,
    /// Pictures that went in.
    pub input_image: Option<String>,
    /// Text that came out, thoughts included.
    pub output_text: Option<String>,
    /// Pictures that came out.
    pub output_image: Option<String>,
}

/// Where an answer says what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Place in the body.
    pub at: Option<String>,
    /// Name of a header.
    pub header: Option<String>,
    /// US dollars per unit. Left out: the model's price per second or per credit.
    pub usd: Option<Usd>,
}

/// How to ask for a job that was accepted. Addresses that the provider tells go before paths that are made here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobRules {
    /// Place of the job's name in the answer to the submission.
    pub id: String,
    /// Place of the address to ask at.
    pub poll: Option<String>,
    /// Path to ask at, with `{id}`, `{model}` and the record's `{vars}`.
    pub poll_path: Option<String>,
    /// `GET` or `POST`.
    pub poll_method: Method,
    /// What a POST sends.
    pub poll_body: BTreeMap<String, String>,
    /// Place of the status.
    pub status: Option<String>,
    /// Statuses of a job that waits.
    pub waiting: Vec<String>,
    /// Statuses of a job that is worked on.
    pub running: Vec<String>,
    /// Statuses of a job whose pictures are there.
    pub done: Vec<String>,
    /// Statuses of a job that the content policy refused.
    pub refused: Vec<String>,
    /// Statuses of a job that failed.
    pub failed: Vec<String>,
    /// Statuses of a job that was cancelled.
    pub cancelled: Vec<String>,
    /// True if the HTTP status tells: 202 is running, 200 is done.
    pub http_status: bool,
    /// Where it says how far it is.
    pub progress: Option<Share>,
    /// Place of the number of jobs before it.
    pub position: Option<String>,
    /// Place of the address where the pictures are told, if not in the answer that says that it is done.
    pub result: Option<String>,
    /// Path where the pictures are told.
    pub result_path: Option<String>,
    /// Places where the reason of a failure or of a refusal is told.
    pub detail: Vec<String>,
    /// Place of the address that cancels it.
    pub cancel: Option<String>,
    /// Path that cancels it.
    pub cancel_path: Option<String>,
    /// The method of cancelling.
    pub cancel_method: CancelMethod,
    /// Where the addresses that it tells may lead beside its own host, as suffixes of names. The key goes there.
    pub hosts: Vec<String>,
    /// Milliseconds before it is asked for the first time. By default 500.
    pub delay_ms: Option<u32>,
    /// Milliseconds between asking, to begin with. By default 1000; each time a quarter more.
    pub every_ms: Option<u32>,
    /// The most milliseconds between asking. By default 5000.
    pub most_ms: Option<u32>,
    /// How long it can be asked for after it has ended, in seconds. By default 3600.
    pub keep_s: Option<u32>,
}

/// A number, and what it is when all is done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Its place.
    pub at: String,
    /// The number that means 100 %: 1 or 100.
    pub full: u32,
}

/// How a job is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "they are the methods of HTTP")]
pub enum Method {
    #[default]
    Get,
    Post,
}

/// How a job is cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "they are the methods of HTTP")]
pub enum CancelMethod {
    #[default]
    Post,
    Put,
    Delete,
}

/// What is billed although no picture comes. What is left out nobody knows, and goes to suspense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Billing {
    /// A job that failed.
    pub failed: Option<bool>,
    /// A refusal. By default it is not.
    pub refused: Option<bool>,
    /// A job that was cancelled.
    pub cancelled: Option<bool>,
}

/// What a provider's errors mean. A code is the error's `code`, or its `type` where it has no code.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Errors {
    /// Codes of a refusal by the content policy.
    pub refused: Vec<String>,
    /// Codes that concern the account or the model, not the request: another candidate may serve it.
    pub denied: Vec<String>,
    /// Codes of too many requests, where the status does not say so (in streams, for example).
    pub throttled: Vec<String>,
    /// Places of the message, looked at before the usual ones.
    pub message: Vec<String>,
    /// Places of the code, looked at before the usual ones.
    pub code: Vec<String>,
    /// Statuses from 500 on that the provider documents as not billed. They count only together with an
    /// error object: a bare page comes from something in front, which knows nothing of the bill.
    pub unbilled_statuses: Vec<u16>,
    /// True if a success without any picture is a refusal.
    pub empty_is_refusal: bool,
    /// What says more than a code: the first that holds counts, in errors and in answers that look like a success.
    pub when: Vec<When>,
}

/// A sign in an answer, and what it means. Conditions that are left out hold always.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The HTTP status is one of these.
    #[serde(default)]
    pub status: Vec<u16>,
    /// Place of a value in the body.
    pub at: Option<String>,
    /// A header, in place of the body.
    pub header: Option<String>,
    /// The value is one of these.
    #[serde(default)]
    pub is: Vec<Value>,
    /// The value is there, not null and none of these.
    #[serde(default)]
    pub not: Vec<Value>,
    /// The value is a text with one of these in it, in whatever case.
    #[serde(default)]
    pub contains: Vec<String>,
    /// What it means.
    pub means: Meaning,
    /// True if it is billed all the same.
    #[serde(default)]
    pub billed: bool,
}

/// What a sign means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    /// The content policy said no.
    Refused,
    /// The account or the model cannot; another may.
    Denied,
    /// Too many requests.
    Throttled,
    /// The request is wrong, and every repetition would be.
    Rejected,
    /// It failed and is not billed.
    Failed,
    /// Nobody knows.
    Unknown,
}

impl Wiring {
    /// Where a field is written, if it can be sent.
    pub fn place(&self, field: Field) -> Option<&Place> {
        self.fields.get(&field).filter(|place| !place.at.is_empty() || place.query.is_some())
    }

    /// How the body of a request is encoded.
    pub fn encoding(&self, is_edit: bool) -> Encoding {
        let edit = self.wire.edit_encoding.filter(|_| is_edit);
        edit.or(self.wire.encoding).unwrap_or(Encoding::Json)
    }

    /// True if a job is asked for after it was accepted.
    pub fn has_jobs(&self) -> bool {
        !self.job.id.is_empty()
    }
}
