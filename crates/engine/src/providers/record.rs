//! The format of a provider record: one TOML file per provider, with everything that distinguishes it.
//!
//! A record says how to speak to a provider (shape, addresses, names of fields, what its errors mean) and what
//! its models are, can and cost. The shapes in this folder execute records; none of them knows a provider.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

pub use super::auth::{Auth, Scheme};
pub use super::check::RecordFault;
pub use super::model::{Bounds, Model, RangeOf, SizeRule, Sizes, Status};
pub use super::vars::Var;
pub use super::webhook::Webhook;
use super::wiring::{Billing, Cost, Errors, Field, JobRules, Place, ResultRules, UsageRules, Wire, Wiring};
use crate::pricing::Certainty;
use crate::settings::Plan;

/// A parsed and checked provider record.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Name of the record: lower-case letters, digits, `-`.
    pub name: String,
    /// The provider's name as people write it.
    pub title: String,
    /// What others call it: how it stands in price sheets.
    #[serde(default)]
    pub known_as: Vec<String>,
    /// The engine that speaks to it.
    pub shape: Shape,
    /// Where its API is described.
    pub docs: Option<String>,
    /// The day on which that was read, `YYYY-MM-DD`.
    #[schemars(with = "Option<String>")]
    pub as_of: Option<Date>,
    /// How sure the facts about the wire are.
    #[serde(default = "recalled")]
    pub certainty: Certainty,
    /// True if its pictures are simulated. Then every answer says so.
    #[serde(default)]
    pub simulated: bool,
    /// Base address without a slash at its end. Left out where only the operator can know it.
    pub base_url: Option<String>,
    /// Path that a GET with the account's credentials may ask for free of charge, such as a list of models, to find out
    /// whether they are taken (`mimeo doctor`). May hold the record's `{vars}`.
    pub probe_path: Option<String>,
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
    /// Where the canonical fields are written. A field without a place cannot be sent.
    #[serde(default)]
    pub fields: BTreeMap<Field, Place>,
    /// What is written into every body as it stands here, by its place.
    #[serde(default)]
    pub constants: BTreeMap<String, Value>,
    /// What is written into the body of an edit beside that.
    #[serde(default)]
    pub edit_constants: BTreeMap<String, Value>,
    /// Where pictures are in an answer.
    #[serde(default)]
    pub result: ResultRules,
    /// Where tokens are counted in an answer.
    #[serde(default)]
    pub usage: UsageRules,
    /// Where an answer says what it cost.
    pub cost: Option<Cost>,
    /// How to ask for a job that was accepted.
    #[serde(default)]
    pub job: JobRules,
    /// What is billed although no picture comes.
    #[serde(default)]
    pub billing: Billing,
    /// What its errors mean for money and for other candidates.
    #[serde(default)]
    pub errors: Errors,
    /// How one speaks to models that differ: each is merged over the tables above, and an empty text takes a
    /// field away.
    #[serde(default)]
    pub dialects: BTreeMap<String, Wiring>,
    /// Limits of a new account, where they are published. What an operator says goes before.
    #[serde(default)]
    pub limits: AccountLimits,
    /// What every account has free of charge, and what the smallest plan includes. The second counts only for an operator who
    /// says that it was bought.
    pub plan: Option<Plan>,
    /// How it calls back when a job has ended.
    pub webhook: Option<Webhook>,
    /// Where pictures may be fetched from, if it answers with addresses.
    #[serde(default)]
    pub download: Download,
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

const fn recalled() -> Certainty {
    Certainty::Recalled
}

/// The engine that executes a record. Generic: a shape is a way to speak, not a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Shape {
    /// The OpenAI Images API: JSON in, `data[].b64_json` or `data[].url` out, edits as multipart, SSE.
    OpenaiImages,
    /// One request, answered with the picture: JSON or a form in, JSON or bytes out.
    Exchange,
    /// A request that is answered with a job, which is asked for until it has ended.
    SubmitPoll,
    /// A graph of nodes that is executed, with news over a websocket.
    ComfyGraph,
    /// Rendered in this process from a template; nothing is called.
    Template,
}

impl Shape {
    /// The name used in records.
    pub const fn name(self) -> &'static str {
        match self {
            Shape::OpenaiImages => "openai-images",
            Shape::Exchange => "exchange",
            Shape::SubmitPoll => "submit-poll",
            Shape::ComfyGraph => "comfy-graph",
            Shape::Template => "template",
        }
    }

    /// True if calls leave this process.
    pub const fn is_remote(self) -> bool {
        !matches!(self, Shape::Template)
    }
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

/// Limits of a new account, where the provider publishes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountLimits {
    /// Calls started per second.
    pub requests_per_second: Option<u32>,
    /// Calls started per minute.
    pub requests_per_minute: Option<u32>,
    /// Pictures asked for per minute.
    pub pictures_per_minute: Option<u32>,
    /// Calls under way at a time.
    pub concurrent: Option<u32>,
    /// Pictures under way at a time.
    pub concurrent_pictures: Option<u32>,
}

impl Record {
    /// Parses and checks the record in `text`; `file` is for messages.
    ///
    /// # Errors
    /// The first fault with its place and what to do.
    pub fn parse(text: &str, file: &str) -> Result<Record, RecordFault> {
        let none = || RecordFault::file(file, "it is no record");
        Record::examine(text, file).map_err(|faults| faults.into_iter().next().unwrap_or_else(none))
    }

    /// As [`Record::parse`], for people who mend it.
    ///
    /// # Errors
    /// Every fault, each with its place and what to do: those of the grammar, or where there is none, all others.
    pub fn examine(text: &str, file: &str) -> Result<Record, Vec<RecordFault>> {
        let mut record = super::check::read(text, file)?;
        let whole = |error: toml::de::Error| vec![RecordFault::file(file, error.message().replace('\n', "; "))];
        let tables: toml::Table = toml::from_str(text).map_err(whole)?;
        record.wire_models(&tables).map_err(whole)?;
        super::check::check(&record, text, file)?;
        Ok(record)
    }

    /// Gives each model the wiring of its dialect.
    fn wire_models(&mut self, tables: &toml::Table) -> Result<(), toml::de::Error> {
        let mut base: toml::Table =
            WIRING.iter().filter_map(|key| Some(((*key).to_owned(), tables.get(*key)?.clone()))).collect();
        if self.shape == Shape::OpenaiImages && self.wire.edit_encoding.is_none() {
            let wire = base.entry("wire").or_insert_with(|| toml::Value::Table(toml::Table::new()));
            merge(wire, &toml::Value::Table([("edit_encoding".to_owned(), "form".into())].into_iter().collect()));
        }
        let mut wirings = BTreeMap::from([(None, Arc::new(base.clone().try_into::<Wiring>()?))]);
        for (name, dialect) in tables.get("dialects").and_then(toml::Value::as_table).into_iter().flatten() {
            let mut merged = toml::Value::Table(base.clone());
            merge(&mut merged, dialect);
            wirings.insert(Some(name.clone()), Arc::new(merged.try_into()?));
        }
        for model in self.models.iter_mut().chain(&mut self.default_model) {
            // One that does not exist is told by the check.
            if let Some(wiring) = wirings.get(&model.dialect) {
                model.wiring = Arc::clone(wiring);
            }
        }
        Ok(())
    }
}

/// The tables of a record that a dialect may change.
const WIRING: [&str; 10] =
    ["wire", "fields", "constants", "edit_constants", "result", "usage", "cost", "job", "billing", "errors"];

/// Puts `over` over `under`: tables are merged, everything else is replaced.
fn merge(under: &mut toml::Value, over: &toml::Value) {
    match (under, over) {
        (toml::Value::Table(under), toml::Value::Table(over)) => {
            for (key, value) in over {
                match under.get_mut(key) {
                    Some(known) => merge(known, value),
                    None => drop(under.insert(key.clone(), value.clone())),
                }
            }
        }
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
#[path = "wiring_tests.rs"]
mod tests;
