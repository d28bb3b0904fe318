//! Faults in the way one speaks to a provider.

use reqwest::header::HeaderName;

use super::layout::At;
use super::{Faults, has_jobs, hosts};
use crate::domain::Usd;
use crate::providers::record::{Record, Shape};
use crate::providers::vars;
use crate::providers::wiring::{Field, Form, Method, Pick, ResultKind, Wiring};

/// Finds the faults of one wiring: the record's own, or that of a dialect.
pub(super) fn check(record: &Record, dialect: Option<&str>, wiring: &Wiring, faults: &mut Faults<'_>) {
    let mut finding = Finding { record, dialect, faults };
    finding.wire(wiring);
    finding.fields(wiring);
    finding.answers(wiring);
    finding.signs(wiring);
    if has_jobs(record.shape) != wiring.has_jobs() && record.shape != Shape::ComfyGraph {
        finding.add("job.id", "job.id is for shape = \"submit-poll\", which needs it");
    }
    if wiring.has_jobs() {
        finding.job(wiring);
    }
}

struct Finding<'a, 'f, 't> {
    record: &'a Record,
    dialect: Option<&'a str>,
    faults: &'f mut Faults<'t>,
}

impl Finding<'_, '_, '_> {
    fn places(&self, at: &At) -> Vec<At> {
        let own = self.dialect.map(|name| At::of("dialects").to(name).join(at));
        own.into_iter().chain([at.clone()]).collect()
    }

    fn add(&mut self, name: &str, message: impl Into<String>) {
        self.at(&At::of(name), message);
    }

    fn at(&mut self, at: &At, message: impl Into<String>) {
        let places = self.places(at);
        self.faults.either(&places, message);
    }

    /// A path that is called.
    fn path(&mut self, name: &str, path: Option<&String>, known: &[&str]) {
        let Some(path) = path else { return };
        if !path.starts_with('/') {
            self.add(name, format!("{name}: the path \"{path}\" must begin with a slash"));
        }
        self.text(&At::of(name), path, known);
    }

    /// A text that may hold placeholders.
    fn text(&mut self, at: &At, text: &str, known: &[&str]) {
        if let Some(message) = vars::stranger(&self.record.vars, known, std::iter::once(text)) {
            self.at(at, message);
        }
        if text.matches('{').count() != text.matches('}').count() {
            self.at(at, format!("\"{text}\": a brace is missing; placeholders are written {{name}}"));
        }
    }

    fn header(&mut self, at: &At, name: &str) {
        if name.parse::<HeaderName>().is_err() {
            self.at(at, format!("\"{name}\" is no name of a header"));
        }
    }

    /// A place that is read.
    fn read(&mut self, at: &At, place: &str) {
        let steps = || place.split('/');
        let message = if place.starts_with('/') || place.starts_with('$') {
            "a place has no slash and no $ before it"
        } else if steps().any(str::is_empty) {
            "a step of this place is empty"
        } else if steps().any(|step| step == "-") {
            "- appends, and nothing is written here; * is every element"
        } else if steps().any(|step| step.contains(['[', ']'])) {
            "an element is a step of its own, such as images/0/url or images/*/url"
        } else {
            return;
        };
        self.at(at, format!("the place \"{place}\": {message}"));
    }

    /// A place that is written.
    fn written(&mut self, at: &At, place: &str) {
        let steps = || place.split('/');
        let message = if place.starts_with('/') || place.starts_with('$') {
            "a place has no slash and no $ before it"
        } else if steps().any(str::is_empty) {
            "a step of this place is empty"
        } else if steps().any(|step| step == "*") {
            "* cannot be written to; - appends an element, a number names one"
        } else if place.contains("[*]") || place.contains("[0]") {
            "an element is a step of its own, such as parts/0/text or parts/-/text"
        } else {
            return;
        };
        self.at(at, format!("the place \"{place}\": {message}"));
    }

    fn wire(&mut self, wiring: &Wiring) {
        let wire = &wiring.wire;
        self.path("wire.generate", wire.generate.as_ref(), &["model"]);
        self.path("wire.edit", wire.edit.as_ref(), &["model"]);
        for (name, value) in &wire.headers {
            let at = At::of("wire.headers").to(name);
            self.header(&at, name);
            self.text(&at, value, &[]);
        }
        if let Some(name) = &wire.attempt_header {
            self.header(&At::of("wire.attempt_header"), name);
        }
        let is_openai = self.record.shape == Shape::OpenaiImages;
        if is_openai && wire.result == ResultKind::Bytes {
            self.add("wire.result", "wire.result = \"bytes\" does not go with shape = \"openai-images\"");
        }
        if !is_openai && wire.streaming {
            self.add("wire.streaming", "wire.streaming is for shape = \"openai-images\"; take it out");
        }
        for (index, source) in wire.retry_after.iter().enumerate() {
            let at = At::of("wire.retry_after").to(&index);
            if source.header.is_some() == source.at.is_some() {
                self.at(&at, "an entry of wire.retry_after names a header or a place, and not both");
            }
            if let Some(name) = &source.header {
                self.header(&at.to("header"), name);
            }
            if let Some(place) = &source.at {
                self.read(&at.to("at"), place);
            }
        }
    }

    fn fields(&mut self, wiring: &Wiring) {
        for (field, place) in &wiring.fields {
            let at = At::of("fields").to(field.name());
            let inner = |key: &str| at.to(key);
            let is_spread = place.at == "*" && *field == Field::Data;
            if !(place.at.is_empty() || is_spread) {
                // A place alone stands for a table with nothing but `at`.
                let is_table = self.places(&inner("at")).iter().any(|place| self.faults.is_there(place));
                let shown = if is_table { inner("at") } else { at.clone() };
                self.written(&shown, &place.at);
            }
            if let Some(more) = place.more.as_ref().filter(|more| !more.is_empty()) {
                self.written(&inner("more"), &more.replace("{i}", "2").replace("{index}", "1"));
                if !more.contains("{i}") && !more.contains("{index}") {
                    self.at(&inner("more"), format!("\"{more}\" has no {{i}}: all pictures would go to one place"));
                }
            }
            let is_picture = matches!(field, Field::Image | Field::Mask);
            if (place.more.is_some() && !is_picture)
                || (!place.beside.is_empty() && !is_picture && *field != Field::Prompt)
            {
                self.at(&at, format!("more and beside are for pictures, and {} is none", field.name()));
            }
            let is_layered = place.text.is_some() || place.link.is_some() || place.form == Form::Named;
            if is_layered && *field != Field::Data {
                self.at(&at, format!("text, link and as = \"named\" are for data, and {} is none", field.name()));
            }
            for (key, value) in &place.beside {
                self.text(&inner("beside").to(key), value, &["mime"]);
            }
        }
        let says_what = wiring.place(Field::Prompt).is_some() || wiring.place(Field::Data).is_some();
        if !says_what && self.record.shape != Shape::ComfyGraph {
            self.add("fields.prompt", "[fields] has no place for prompt: nothing could be asked for");
        }
        if wiring.place(Field::CallbackSecret).is_some() && wiring.place(Field::Callback).is_none() {
            self.add("fields.callback_secret", "fields.callback_secret needs fields.callback beside it");
        }
        for place in wiring.constants.keys() {
            self.written(&At::of("constants").to(place), place);
        }
        for place in wiring.edit_constants.keys() {
            self.written(&At::of("edit_constants").to(place), place);
        }
    }

    fn answers(&mut self, wiring: &Wiring) {
        for (index, pick) in wiring.result.pictures.iter().enumerate() {
            let at = At::of("result.pictures").to(&index);
            match pick {
                Pick::Place(place) => self.read(&at, place),
                Pick::Within { at: place, value, unless, clear } => {
                    self.read(&at.to("at"), place);
                    self.read(&at.to("value"), value);
                    for (name, place) in [("unless", unless), ("clear", clear)] {
                        if let Some(place) = place {
                            self.read(&at.to(name), place);
                        }
                    }
                }
            }
        }
        let (result, usage) = (&wiring.result, &wiring.usage);
        let places = [
            ("result.flags", &result.flags),
            ("result.revised_prompt", &result.revised_prompt),
            ("usage.input", &usage.input),
            ("usage.output", &usage.output),
            ("usage.input_text", &usage.input_text),
            ("usage.input_image", &usage.input_image),
            ("usage.output_text", &usage.output_text),
            ("usage.output_image", &usage.output_image),
        ];
        for (name, place) in places {
            if let Some(place) = place.as_deref().filter(|place| !place.is_empty()) {
                self.read(&At::of(name), place);
            }
        }
        if let Some(cost) = &wiring.cost {
            if cost.header.is_none() && cost.at.is_none() {
                self.add("cost", "cost names neither a header nor a place");
            }
            if let Some(name) = &cost.header {
                self.header(&At::of("cost.header"), name);
            }
            if let Some(place) = &cost.at {
                self.read(&At::of("cost.at"), place);
            }
            if let Some(usd) = cost.usd.filter(|usd| *usd <= Usd::ZERO) {
                self.add("cost.usd", format!("cost.usd = \"{usd}\": a unit costs something"));
            }
        }
    }

    /// What errors mean.
    fn signs(&mut self, wiring: &Wiring) {
        let errors = &wiring.errors;
        for (name, places) in [("errors.message", &errors.message), ("errors.code", &errors.code)] {
            for (index, place) in places.iter().enumerate() {
                self.read(&At::of(name).to(&index), place);
            }
        }
        for (index, status) in errors.unbilled_statuses.iter().enumerate() {
            if !(500..=599).contains(status) {
                let message =
                    format!("errors.unbilled_statuses: {status} is none; statuses below 500 never count as billed");
                self.at(&At::of("errors.unbilled_statuses").to(&index), message);
            }
        }
        for (index, when) in errors.when.iter().enumerate() {
            let at = At::of("errors.when").to(&index);
            if when.at.is_none() && when.header.is_none() && when.status.is_empty() {
                self.at(&at, "an entry of errors.when has no condition: name a status, a header or a place");
            }
            if when.at.is_some() && when.header.is_some() {
                self.at(&at, "an entry of errors.when looks at a header or at a place, and not at both");
            }
            let compares = !when.is.is_empty() || !when.not.is_empty() || !when.contains.is_empty();
            if compares && when.at.is_none() && when.header.is_none() {
                self.at(&at, "is, not and contains need to know of what: name a place with at, or a header");
            }
            if when.status.iter().any(|status| !(100..=599).contains(status)) {
                self.at(&at.to("status"), "a status of HTTP is between 100 and 599");
            }
            if let Some(place) = &when.at {
                self.read(&at.to("at"), place);
            }
            if let Some(name) = &when.header {
                self.header(&at.to("header"), name);
            }
        }
    }

    fn job(&mut self, wiring: &Wiring) {
        let job = &wiring.job;
        self.path("job.poll_path", job.poll_path.as_ref(), &["model", "id"]);
        self.path("job.result_path", job.result_path.as_ref(), &["model", "id"]);
        self.path("job.cancel_path", job.cancel_path.as_ref(), &["model", "id"]);
        for (key, value) in &job.poll_body {
            self.text(&At::of("job.poll_body").to(key), value, &["id", "model"]);
        }
        if !job.poll_body.is_empty() && job.poll_method != Method::Post {
            self.add("job.poll_body", "job.poll_body is sent only with job.poll_method = \"POST\"");
        }
        if job.poll.is_none() && job.poll_path.is_none() {
            self.add("job", "job.poll and job.poll_path are both missing: it cannot be asked for");
        }
        let progress = job.progress.as_ref().map(|share| &share.at);
        let places = [
            ("job.id", Some(&job.id)),
            ("job.poll", job.poll.as_ref()),
            ("job.status", job.status.as_ref()),
            ("job.progress.at", progress),
            ("job.position", job.position.as_ref()),
            ("job.result", job.result.as_ref()),
            ("job.cancel", job.cancel.as_ref()),
        ];
        for (name, place) in places {
            if let Some(place) = place.filter(|place| !place.is_empty()) {
                self.read(&At::of(name), place);
            }
        }
        for (index, place) in job.detail.iter().enumerate() {
            self.read(&At::of("job.detail").to(&index), place);
        }
        if job.progress.as_ref().is_some_and(|share| share.full == 0) {
            self.add("job.progress.full", "job.progress.full is the number that means all of it: 1 or 100");
        }
        if job.status.is_some() && job.done.is_empty() {
            self.add("job.status", "job.done is empty: it would never end");
        }
        let lists = [
            ("waiting", &job.waiting),
            ("running", &job.running),
            ("done", &job.done),
            ("refused", &job.refused),
            ("failed", &job.failed),
            ("cancelled", &job.cancelled),
        ];
        for (index, (name, words)) in lists.iter().enumerate() {
            for (number, word) in words.iter().enumerate() {
                let earlier = lists.iter().take(index).find(|(_, others)| others.contains(word));
                if let Some((earlier, _)) = earlier {
                    let message = format!("the status \"{word}\" is in job.{earlier} as well: which of them is it?");
                    self.at(&At::of("job").to(name).to(&number), message);
                }
            }
        }
        if let (every, Some(most)) = (job.every_ms.unwrap_or(1000), job.most_ms)
            && every > most
        {
            self.add("job.most_ms", format!("job.most_ms = {most} is less than job.every_ms = {every}"));
        }
        let places = self.places(&At::of("job.hosts"));
        hosts("job.hosts", &job.hosts, &places, self.faults);
    }
}
