//! What a provider record must satisfy beyond its grammar, and how faults are told.

use std::collections::BTreeSet;
use std::fmt;

use super::model::{Model, Sizes, Status};
use super::record::{Field, Record, ResultKind, Scheme, Shape};
use crate::domain::Operation;

/// A fault of a record: where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFault {
    /// The file.
    pub file: String,
    /// Line, counted from 1, where it can be told.
    pub line: Option<usize>,
    /// What is wrong and what to do. Names the field.
    pub message: String,
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for RecordFault {}

impl RecordFault {
    pub(super) fn syntax(file: &str, text: &str, error: &toml::de::Error) -> Self {
        let line =
            error.span().map(|span| text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count() + 1);
        RecordFault { file: file.to_owned(), line, message: error.message().replace('\n', "; ") }
    }
}

/// Finds the first fault.
pub(super) fn check(record: &Record, text: &str, file: &str) -> Result<(), RecordFault> {
    let fault = |line: Option<usize>, message: String| RecordFault { file: file.to_owned(), line, message };
    let at = |needle: &str| text.lines().position(|line| line.trim_start().starts_with(needle)).map(|line| line + 1);

    if let Some((key, message)) = provider_fault(record) {
        return Err(fault(at(key), message));
    }
    let line_of = |model: &Model| at(&format!("id = \"{}\"", model.id)).or_else(|| at("[default_model]"));
    let mut names = BTreeSet::new();
    for model in &record.models {
        for name in std::iter::once(&model.id).chain(&model.aliases) {
            if !names.insert(name.as_str()) {
                return Err(fault(line_of(model), format!("model {}: the name {name} is given twice", model.id)));
            }
        }
    }
    for model in record.models.iter().chain(&record.default_model) {
        if let Some(message) = model_fault(record, model) {
            return Err(fault(line_of(model), format!("model {}: {message}", model.id)));
        }
    }
    Ok(())
}

/// The first fault of the record itself: the key to look for, and the message.
fn provider_fault(record: &Record) -> Option<(&'static str, String)> {
    let name_is_plain = !record.name.is_empty()
        && record.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !name_is_plain {
        return Some(("name", format!("name = \"{}\" may have lower-case letters, digits and - only", record.name)));
    }
    if let Some(url) = &record.base_url
        && (!(url.starts_with("https://") || url.starts_with("http://")) || url.ends_with('/'))
    {
        return Some((
            "base_url",
            format!("base_url = \"{url}\" must begin with https:// or http:// and not end with a slash"),
        ));
    }
    if !(1..=3600).contains(&record.timeout_s) {
        return Some(("timeout_s", format!("timeout_s = {} is not between 1 and 3600", record.timeout_s)));
    }
    if (record.auth.scheme == Scheme::Header) != record.auth.header.is_some() {
        return Some(("[auth]", "auth.header names the header if, and only if, auth.scheme = \"header\"".to_owned()));
    }
    if record.auth.scheme == Scheme::None && record.auth.env.is_some() {
        return Some(("[auth]", "auth.env is given, but auth.scheme = \"none\" sends no key".to_owned()));
    }
    if record.shape.is_remote() && record.wire.generate.is_none() && record.wire.edit.is_none() {
        return Some(("[wire]", "wire.generate and wire.edit are both missing: nothing can be called".to_owned()));
    }
    if let Some(path) = [&record.wire.generate, &record.wire.edit].into_iter().flatten().find(|p| !p.starts_with('/')) {
        return Some(("[wire]", format!("the path \"{path}\" must begin with a slash")));
    }
    let fitting = match record.shape {
        Shape::OpenaiImages => record.wire.result != ResultKind::Bytes,
        Shape::Sandbox => record.wire.result == ResultKind::Bytes,
        Shape::Template => true,
    };
    if !fitting {
        return Some(("[wire]", format!("wire.result does not go with shape = \"{}\"", record.shape.name())));
    }
    if record.open_models && record.default_model.is_none() {
        return Some(("open_models", "open_models = true needs a [default_model] to describe those models".to_owned()));
    }
    if !record.open_models && record.models.is_empty() {
        return Some(("[[models]]", "there is no model: add [[models]], or open_models = true".to_owned()));
    }
    None
}

fn model_fault(record: &Record, model: &Model) -> Option<String> {
    if let Status::Gone { successor, .. } | Status::Retiring { successor: Some(successor), .. } = &model.status {
        let heir = record.models.iter().find(|other| other.id == *successor);
        if heir.is_none_or(|heir| !matches!(heir.status, Status::Live)) {
            return Some(format!("the successor {successor} is not a live model of this record"));
        }
    }
    if let Status::Gone { .. } = model.status {
        // Never called: nothing else matters.
        return None;
    }
    let edits = model.operations.contains(&Operation::Edit);
    let wires: [(Field, bool); 13] = [
        (Field::Quality, !model.qualities.is_empty()),
        (Field::Background, !model.backgrounds.is_empty()),
        (Field::OutputFormat, !model.output_formats.is_empty()),
        (Field::OutputCompression, model.compression),
        (Field::Style, !model.styles.is_empty()),
        (Field::Moderation, !model.moderation.is_empty()),
        (Field::InputFidelity, !model.input_fidelity.is_empty()),
        (Field::Seed, model.seed),
        (Field::Steps, model.steps.is_some()),
        (Field::Guidance, model.guidance.is_some()),
        (Field::NegativePrompt, model.negative_prompt),
        (Field::Image, edits),
        (Field::Mask, model.mask),
    ];
    if record.shape.is_remote() {
        if let Some((field, _)) = wires.iter().find(|(field, can)| *can && record.wire_name(*field).is_none()) {
            return Some(format!("it is said to take {0}, but [fields] has no name for {0}", field.name()));
        }
        let sized = record.wire_name(Field::Size).is_some()
            || (record.wire_name(Field::Width).is_some() && record.wire_name(Field::Height).is_some());
        if model.sizes != Sizes::None && !sized {
            return Some("it has sizes, but [fields] has a name neither for size nor for width and height".to_owned());
        }
    }
    if model.operations.is_empty() {
        return Some("operations is empty".to_owned());
    }
    if edits && model.max_inputs == 0 {
        return Some("it can edit, but max_inputs = 0".to_owned());
    }
    if edits && record.shape.is_remote() && record.wire.edit.is_none() {
        return Some("it can edit, but wire.edit is missing".to_owned());
    }
    if model.max_n == 0 {
        return Some("max_n must be 1 or more".to_owned());
    }
    if model.partial_images > 3 {
        return Some("partial_images must be 0 to 3".to_owned());
    }
    if let Some(message) = model.sizes.fault() {
        return Some(message.to_owned());
    }
    if let Some((tier, quality)) = model.tiers.iter().find(|(_, quality)| !model.qualities.contains(quality)) {
        return Some(format!("tiers.{tier} = \"{quality}\" is none of its qualities"));
    }
    if let Some(tier) = model.tiers.keys().find(|tier| !["draft", "standard", "premium"].contains(&tier.as_str())) {
        return Some(format!("tiers.{tier}: the tiers are draft, standard and premium"));
    }
    if model.steps.is_some_and(|steps| steps.min > steps.max)
        || model.guidance.is_some_and(|guidance| guidance.min > guidance.max)
    {
        return Some("a range has its min above its max".to_owned());
    }
    model.prices.as_ref().and_then(crate::pricing::Prices::fault).map(|message| format!("prices.{message}"))
}
