//! The format of a provider record: one TOML file per provider, with everything that distinguishes it.
//!
//! A record says how to speak to a provider (shape, addresses, names of fields, what its errors mean) and what
//! its models are, can and cost. The shapes in this folder execute records; none of them knows a provider.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

pub use super::auth::{Auth, Scheme};
pub use super::check::RecordFault;
pub use super::model::{Bounds, Model, RangeOf, SizeRule, Sizes, Status};
pub use super::vars::Var;
pub use super::webhook::Webhook;

/// A parsed and checked provider record.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Name of the record: lower-case letters, digits, `-`.
    pub name: String,
    /// The provider's name as people write it.
    pub title: String,
    /// The engine that speaks to it.
    pub shape: Shape,
    /// True if its pictures are simulated. Then every answer says so.
    #[serde(default)]
    pub simulated: bool,
    /// Base address without a slash at its end. Left out where only the operator can know it.
    pub base_url: Option<String>,
    /// What the operator fills into addresses, paths and headers, where they hold `{name}`.
    #[serde(default)]
    pub vars: BTreeMap<String, Var>,
    /// How calls are authenticated.
    #[serde(default)]
    pub auth: Auth,
    /// How long one call may take, in seconds (1–3600).
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u32,
    /// Paths and habits of the wire.
    #[serde(default)]
    pub wire: Wire,
    /// Wire names of the canonical fields. A field without one cannot be sent.
    #[serde(default)]
    pub fields: BTreeMap<Field, String>,
    /// Fields that are sent with every call as they stand here.
    #[serde(default)]
    pub constants: BTreeMap<String, Value>,
    /// What its errors mean for money and for other candidates.
    #[serde(default)]
    pub errors: Errors,
    /// Where pictures may be fetched from, if it answers with addresses.
    #[serde(default)]
    pub download: Download,
    /// How it calls back when a job has ended, if it does.
    pub webhook: Option<Webhook>,
    /// True if it serves models that no record can know; they are then as [`Record::default_model`] says.
    #[serde(default)]
    pub open_models: bool,
    /// What a model is like that has no entry of its own. Its `id` is a placeholder.
    pub default_model: Option<Model>,
    /// The models, the preferred ones first.
    #[serde(default)]
    pub models: Vec<Model>,
}

const fn default_timeout_s() -> u32 {
    300
}

/// The engine that executes a record. Generic: a shape is a way to speak, not a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Shape {
    /// The OpenAI Images API: JSON in, `data[].b64_json` or `data[].url` out, edits as multipart, SSE.
    OpenaiImages,
    /// The simulated provider's own API: JSON in, the picture as the body out.
    Sandbox,
    /// Rendered in this process from a template; nothing is called.
    Template,
}

impl Shape {
    /// The name used in records.
    pub const fn name(self) -> &'static str {
        match self {
            Shape::OpenaiImages => "openai-images",
            Shape::Sandbox => "sandbox",
            Shape::Template => "template",
        }
    }

    /// True if calls leave this process.
    pub const fn is_remote(self) -> bool {
        !matches!(self, Shape::Template)
    }
}

/// Paths and habits of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// Path for generating, appended to the base address.
    pub generate: Option<String>,
    /// Path for editing, appended to the base address.
    pub edit: Option<String>,
    /// True if unfinished pictures can be streamed as server-sent events.
    pub streaming: bool,
    /// How finished pictures come.
    pub result: ResultKind,
    /// The header that carries the attempt's identifier.
    pub attempt_header: Option<String>,
    /// The response header that states what the call cost, in decimal US dollars.
    pub cost_header: Option<String>,
    /// Headers that say when to come back, the most exact first.
    pub retry_after: Vec<RetryAfter>,
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

/// A header that says when to come back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryAfter {
    /// Its name.
    pub header: String,
    /// What its number counts.
    pub unit: RetryUnit,
}

/// What the number in a header counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RetryUnit {
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Seconds, or an HTTP date.
    #[serde(rename = "s")]
    Seconds,
}

/// The canonical fields that have names on the wire.
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
    User,
    Stream,
    PartialImages,
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
            Field::User => "user",
            Field::Stream => "stream",
            Field::PartialImages => "partial_images",
        }
    }
}

/// What a provider's errors mean. A code is the error's `code`, or its `type` where it has no code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Errors {
    /// Codes of a refusal by the content policy.
    pub refused: Vec<String>,
    /// Codes that concern the account or the model, not the request: another candidate may serve it.
    pub denied: Vec<String>,
    /// Codes of too many requests, where the status does not say so (in streams, for example).
    pub throttled: Vec<String>,
    /// Statuses from 500 on that the provider documents as not billed. They count only together with an
    /// error object: a bare page comes from something in front, which knows nothing of the bill.
    pub unbilled_statuses: Vec<u16>,
    /// True if a success without any picture is a refusal.
    pub empty_is_refusal: bool,
}

/// Where pictures may be fetched from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Download {
    /// Hosts beside the provider's own, as suffixes such as `blob.example.com`. Empty: every public https host.
    pub hosts: Vec<String>,
    /// How long an address works, in seconds, if that is documented.
    pub lifetime_s: Option<u32>,
}

impl Record {
    /// Parses and checks the record in `text`; `file` is for messages.
    ///
    /// # Errors
    /// The first fault with its place and what to do.
    pub fn parse(text: &str, file: &str) -> Result<Record, RecordFault> {
        let record: Record = toml::from_str(text).map_err(|error| RecordFault::syntax(file, text, &error))?;
        super::check::check(&record, text, file)?;
        Ok(record)
    }

    /// The wire name of a field, if it has one.
    pub fn wire_name(&self, field: Field) -> Option<&str> {
        self.fields.get(&field).map(String::as_str)
    }

    /// True if nothing needs to be configured but, where there is one, the key.
    pub fn stands_alone(&self) -> bool {
        !self.shape.is_remote() || self.base_url.is_some()
    }
}
