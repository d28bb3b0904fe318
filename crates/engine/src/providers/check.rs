//! What a provider record must satisfy, and how faults are told: all at once, each with its place.
//!
//! First the grammar, then what contradicts itself or could only fail when somebody is waiting for a picture. The second
//! is looked at only where the first is right: what was not understood would be missed everywhere else.

mod layout;
mod model;
mod report;
mod wiring;

use std::collections::{BTreeMap, BTreeSet};

use layout::{At, Layout};
pub(super) use model::price_faults;
pub use report::RecordFault;

use super::model::Model;
use super::near::near;
use super::record::{Record, Shape};
use super::vars;
use super::webhook::Verifier;
use super::wiring::{Field, Wiring};
use crate::settings::Plan;

/// What was found so far.
struct Faults<'t> {
    file: &'t str,
    text: &'t str,
    layout: Layout<'t>,
    found: Vec<RecordFault>,
}

impl Faults<'_> {
    fn add(&mut self, at: &At, message: impl Into<String>) {
        self.either(std::slice::from_ref(at), message);
    }

    fn is_there(&self, at: &At) -> bool {
        self.layout.span(at).0 == at.depth()
    }

    /// A fault of the first of several places that is there, else of the one of which the most is there. All end alike.
    fn either(&mut self, places: &[At], message: impl Into<String>) {
        let missing = |at: &At| at.depth() - self.layout.span(at).0;
        let Some(at) = places.iter().rev().min_by_key(|at| missing(at)) else { return };
        let at = places.iter().find(|at| self.is_there(at)).unwrap_or(at);
        let (_, span) = self.layout.span(at);
        self.found.push(RecordFault::at(self.file, self.text, &span, message));
    }
}

/// In the order of the file, each once: dialects share what they do not change.
fn ordered(mut faults: Vec<RecordFault>) -> Vec<RecordFault> {
    faults.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
    faults.dedup();
    faults
}

/// Reads the record in `text`; `file` is for messages. It is not checked.
///
/// # Errors
/// Every fault against the grammar. Whatever is wrong is taken out, so that the rest can be read.
pub(super) fn read(text: &str, file: &str) -> Result<Record, Vec<RecordFault>> {
    let told = |error: &toml::de::Error| match error.span() {
        Some(span) => RecordFault::at(file, text, &span, sentence(error.message())),
        None => RecordFault::file(file, sentence(error.message())),
    };
    let mut layout = Layout::of(text).map_err(|errors| ordered(errors.iter().map(told).collect()))?;
    let mut faults = Vec::new();
    let mut maimed = Vec::new();
    loop {
        let error = match layout.read::<Record>() {
            Ok(record) if faults.is_empty() => return Ok(record),
            Ok(_) => break,
            Err(error) => error,
        };
        // What is missing where something misspelt was taken out was told already.
        if !maimed.contains(&error.span()) {
            faults.push(told(&error));
        }
        match error.span().and_then(|span| layout.cut(&span)) {
            Some(around) => maimed.push(Some(around)),
            None => break,
        }
    }
    Err(ordered(faults))
}

/// What the parser says, on one line, with the name that may be meant.
fn sentence(message: &str) -> String {
    let line = message.replace('\n', "; ");
    if let Some(kind) = line.strip_prefix("data did not match any variant of untagged enum ") {
        return format!("it has none of the forms of a {}; `mimeo providers schema` has them all", kind.to_lowercase());
    }
    // unknown field `a`, expected one of `b`, `c`
    let mut quoted = line.split('`').skip(1).step_by(2);
    let guess = match (line.starts_with("unknown "), quoted.next()) {
        (true, Some(unknown)) => near(unknown, quoted).first().map(|known| format!("; did you mean `{known}`?")),
        _ => None,
    };
    match guess {
        // Then the long list of all names would only hide it.
        Some(guess) => line.split(", expected ").next().unwrap_or_default().to_owned() + &guess,
        None => line,
    }
}

/// Finds every fault of a record that follows the grammar.
pub(super) fn check(record: &Record, text: &str, file: &str) -> Result<(), Vec<RecordFault>> {
    let layout = Layout::of(text)
        .map_err(|errors| errors.iter().map(|error| RecordFault::file(file, error.message())).collect::<Vec<_>>())?;
    let mut faults = Faults { file, text, layout, found: Vec::new() };
    the_record(record, &mut faults);
    dialects(record, &mut faults);
    if record.shape.is_remote() {
        for (dialect, spoken) in wirings(record) {
            wiring::check(record, dialect, spoken, &mut faults);
        }
    }
    for (index, one) in record.models.iter().enumerate() {
        model::check(record, one, &At::of("models").to(&index), &mut faults);
    }
    if let Some(one) = &record.default_model {
        model::check(record, one, &At::of("default_model"), &mut faults);
    }
    if faults.found.is_empty() { Ok(()) } else { Err(ordered(faults.found)) }
}

/// The ways in which the models of a record are spoken to, by their dialects.
fn wirings(record: &Record) -> BTreeMap<Option<&str>, &Wiring> {
    let is_spoken_to = |model: &&Model| model::is_called(model) && model::has_wiring(record, model);
    let models = record.models.iter().chain(&record.default_model).filter(is_spoken_to);
    models.map(|model| (model.dialect.as_deref(), &*model.wiring)).collect()
}

fn the_record(record: &Record, faults: &mut Faults<'_>) {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if record.name.is_empty() || !record.name.bytes().all(is_plain) {
        let message = format!("name = \"{}\" may have lower-case letters, digits and - only", record.name);
        faults.add(&At::of("name"), message);
    }
    let is_web = |url: &str| url.starts_with("https://") || url.starts_with("http://");
    if let Some(url) = &record.base_url
        && (!is_web(url) || url.ends_with('/'))
    {
        let message = format!("base_url = \"{url}\" must begin with https:// or http:// and not end with a slash");
        faults.add(&At::of("base_url"), message);
    }
    if let Some(path) = record.probe_path.as_ref().filter(|path| !path.starts_with('/')) {
        let message = format!("probe_path = \"{path}\" must begin with a slash: it is appended to base_url");
        faults.add(&At::of("probe_path"), message);
    }
    if let Some(message) = vars::stranger(&record.vars, &[], record.probe_path.iter().map(String::as_str)) {
        faults.add(&At::of("probe_path"), message);
    }
    if let Some(url) = record.docs.as_ref().filter(|url| !is_web(url)) {
        faults.add(&At::of("docs"), format!("docs = \"{url}\" must be an address that begins with https://"));
    }
    if !(1..=3600).contains(&record.timeout_s) {
        faults.add(&At::of("timeout_s"), format!("timeout_s = {} is not between 1 and 3600", record.timeout_s));
    }
    if let Some(message) = record.auth.fault(&record.vars) {
        faults.add(&At::default().named_in("auth", &message), message);
    }
    if let Some(message) = record.plan.as_ref().and_then(Plan::fault) {
        faults.add(&At::default().named_in("plan", &message), message);
    }
    if let Some(message) = record.webhook.as_ref().and_then(|webhook| Verifier::of(webhook).err()) {
        faults.add(&At::default().named_in("webhook", &message), message);
    }
    if let Some(message) = vars::stranger(&record.vars, &[], record.base_url.iter().map(String::as_str)) {
        faults.add(&At::of("base_url"), message);
    }
    if let Some(name) = record.vars.keys().find(|name| ["model", "id", "i", "mime"].contains(&name.as_str())) {
        let message = format!("{{{name}}} has a meaning of its own; call the var something else");
        faults.add(&At::of("vars").to(name), message);
    }
    hosts("download.hosts", &record.download.hosts, &[At::of("download.hosts")], faults);
    let is_called_back = wirings(record).values().any(|wiring| wiring.place(Field::Callback).is_some());
    if is_called_back && record.webhook.is_none() {
        let message = "fields.callback tells it where to call back, but without [webhook] nobody would believe it";
        faults.add(&At::of("fields.callback"), message);
    }
    if record.open_models && record.default_model.is_none() {
        let message = "open_models = true needs a [default_model] to describe those models";
        faults.add(&At::of("open_models"), message);
    }
    if !record.open_models && record.models.is_empty() {
        faults.add(&At::of("name"), "there is no model: add [[models]], or open_models = true");
    }
    let mut names = BTreeSet::new();
    for (index, model) in record.models.iter().enumerate() {
        let id = (At::of("models").to(&index).to("id"), &model.id);
        let aliases = model.aliases.iter().enumerate();
        let aliases = aliases.map(|(alias, name)| (At::of("models").to(&index).to("aliases").to(&alias), name));
        for (at, name) in std::iter::once(id).chain(aliases) {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                faults.add(&at, format!("model {}: a name has no spaces, and is not empty", model.id));
            }
            if !names.insert(name.as_str()) {
                faults.add(&at, format!("model {}: the name {name} is given twice", model.id));
            }
        }
    }
}

/// Are the dialects that models name there, and does each have a model?
fn dialects(record: &Record, faults: &mut Faults<'_>) {
    let listed = record.models.iter().enumerate().map(|(index, model)| (model, At::of("models").to(&index)));
    for (model, at) in listed.chain(record.default_model.iter().map(|model| (model, At::of("default_model")))) {
        let Some(name) = model.dialect.as_ref().filter(|name| !record.dialects.contains_key(*name)) else { continue };
        let close = near(name, record.dialects.keys().map(String::as_str));
        let hint = match (close.first(), record.dialects.is_empty()) {
            (Some(close), _) => format!("; did you mean \"{close}\"?"),
            (None, true) => format!("; add [dialects.{name}]"),
            (None, false) => {
                format!("; there are {}", record.dialects.keys().cloned().collect::<Vec<_>>().join(", "))
            }
        };
        faults.add(&at.to("dialect"), format!("model {}: there is no dialect \"{name}\"{hint}", model.id));
    }
    if record.models.iter().chain(&record.default_model).any(|model| !model::has_wiring(record, model)) {
        // One of those that seem to be of no use may be what was meant.
        return;
    }
    let spoken: BTreeSet<&str> =
        record.models.iter().chain(&record.default_model).filter_map(|model| model.dialect.as_deref()).collect();
    for name in record.dialects.keys().filter(|name| !spoken.contains(name.as_str())) {
        let message = format!("no model has dialect = \"{name}\": name it in one, or take it out");
        faults.add(&At::of("dialects").to(name), message);
    }
}

/// Are these names of hosts, or the ends of such names?
fn hosts(field: &str, hosts: &[String], places: &[At], faults: &mut Faults<'_>) {
    for (index, host) in hosts.iter().enumerate() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '{' | '}' | '_');
        if host.is_empty() || host.starts_with('.') || !host.chars().all(is_name) {
            let places: Vec<At> = places.iter().map(|at| at.to(&index)).collect();
            let message = format!("{field}: \"{host}\" is no name of a host, such as blob.example.com");
            faults.either(&places, message);
        }
    }
}

/// True for the shapes whose answers to a submission are jobs.
const fn has_jobs(shape: Shape) -> bool {
    matches!(shape, Shape::SubmitPoll)
}

#[cfg(test)]
#[path = "check/tests.rs"]
mod tests;
