//! What a successful answer holds: pictures or where they are, usage, the bill.

use bytes::Bytes;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::lift::Lifted;
use super::provider::{Job, Provider};
use super::wiring::{Pick, ResultKind};
use super::{fault, pointer};
use crate::domain::request::Decimal;
use crate::domain::{Fault, FaultKind, Generated, Price, Usage, Usd};

/// More tokens than any call can take: what is above is a mistake, and could overflow a sum.
const MOST_TOKENS: u64 = 1 << 40;

/// An answer as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub pictures: Vec<Bytes>,
    /// Addresses of pictures that are still to be fetched.
    pub links: Vec<String>,
    pub usage: Option<Usage>,
    pub billed: Option<Usd>,
    pub revised_prompt: Option<String>,
    /// Pictures that the provider made and does not give out.
    pub withheld: usize,
}

impl Answer {
    /// Reads an answer by the rules of the wiring: pictures or where they are, tokens, cost.
    ///
    /// # Errors
    /// A picture in it cannot be read.
    pub(super) fn read_by_rules(&mut self, job: &Job<'_>, lifted: &Lifted) -> Result<(), Fault> {
        let wiring = &job.model.wiring;
        self.note_costs(job, &lifted.value, None);
        self.note_usage(job, &lifted.value);
        let rules = &wiring.result;
        if self.revised_prompt.is_none() {
            self.revised_prompt = rules.revised_prompt.as_ref().and_then(|place| pointer::text(&lifted.value, place));
        }
        let flags: Vec<bool> =
            rules.flags.iter().flat_map(|place| pointer::all(&lifted.value, place)).map(pointer::is_true).collect();
        let found = rules.pictures.iter().map(|pick| picked(&lifted.value, pick)).find(|found| !found.is_empty());
        for (index, value) in found.into_iter().flatten().enumerate() {
            if flags.get(index) == Some(&true) {
                self.withheld += 1;
                continue;
            }
            let Some(text) = value.as_str() else { continue };
            if text.starts_with("https://") || text.starts_with("http://") || is_path(text) {
                self.links.push(text.to_owned());
                continue;
            }
            match lifted.picture(value) {
                Some(Ok(picture)) => self.pictures.push(picture),
                Some(Err(error)) => return Err(self.unusable(job, error.to_string())),
                None => {}
            }
        }
        for pick in &rules.pictures {
            if let Pick::Within { at, .. } = pick {
                let elements = pointer::all(&lifted.value, at).into_iter();
                self.withheld += elements.filter(|element| is_withheld(element, pick)).count();
            }
        }
        // One flag for all that is withheld, where nothing else came.
        if self.pictures.is_empty() && self.links.is_empty() && flags.contains(&true) {
            self.withheld = self.withheld.max(1);
        }
        Ok(())
    }

    /// Notes what the answer says that the call cost: in its body, or in its headers.
    pub(super) fn note_costs(&mut self, job: &Job<'_>, value: &Value, headers: Option<&HeaderMap>) {
        let Some(cost) = &job.model.wiring.cost else { return };
        let of_model = || job.model.prices.as_ref().and_then(crate::pricing::Prices::per_unit);
        let Some(usd) = cost.usd.or_else(of_model) else { return };
        let in_header = cost.header.as_ref().zip(headers);
        let in_header = in_header.and_then(|(name, headers)| headers.get(name)?.to_str().ok().map(str::to_owned));
        let stated = in_header.or_else(|| cost.at.as_ref().and_then(|place| pointer::text(value, place)));
        let Some(units) = stated.as_deref().and_then(units) else { return };
        // A negative bill is a mistake somewhere, and would be a gift of money.
        if let Some(billed) = times(usd, units).filter(|usd| *usd >= Usd::ZERO) {
            self.billed = Some(billed);
        }
    }

    /// True if nothing came: no picture, no address of one, and no word of one that is not given out.
    pub(super) fn is_empty(&self) -> bool {
        self.pictures.is_empty() && self.links.is_empty() && self.withheld == 0
    }

    /// True if an answer has pictures, by the rules of the wiring.
    pub(super) fn has_pictures(job: &Job<'_>, value: &Value) -> bool {
        job.model.wiring.result.pictures.iter().any(|pick| !picked(value, pick).is_empty())
    }

    fn note_usage(&mut self, job: &Job<'_>, value: &Value) {
        let rules = &job.model.wiring.usage;
        let count = |place: &Option<String>| {
            let found = place.as_ref().and_then(|place| pointer::first(value, place)).and_then(Value::as_u64);
            found.map(|tokens| tokens.min(MOST_TOKENS))
        };
        let parts = [&rules.input_text, &rules.input_image, &rules.output_text, &rules.output_image].map(count);
        let (input, output) = (count(&rules.input), count(&rules.output));
        if parts.iter().all(Option::is_none) && input.is_none() && output.is_none() {
            return;
        }
        let [input_text, input_image, output_text, output_image] = parts.map(Option::unwrap_or_default);
        let told = Usage { input_text, input_image, output_text, output_image };
        self.usage = Some(with_rest(job, told, input, output));
    }

    /// Reads the answer of the OpenAI Images API: `{"data":[{"b64_json"|"url","revised_prompt"}],"usage":{…}}`.
    ///
    /// # Errors
    /// It reports an error, or a picture in it cannot be read.
    pub(super) fn read(&mut self, provider: &Provider, job: &Job<'_>, lifted: &Lifted) -> Result<(), Fault> {
        let value = &lifted.value;
        if value.get("error").is_some_and(|error| !error.is_null()) {
            return Err(fault::of_object(provider, &job.model.wiring, value, FaultKind::BadAnswer));
        }
        self.note_costs(job, value, None);
        self.add_usage(job, value);
        for item in value.get("data").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| item.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
            if self.revised_prompt.is_none() {
                self.revised_prompt = text("revised_prompt").map(str::to_owned);
            }
            match item.get("b64_json").and_then(|value| lifted.picture(value)) {
                Some(Ok(picture)) => self.pictures.push(picture),
                Some(Err(error)) => return Err(self.unusable(job, error.to_string())),
                None => match (text("url"), job.model.wiring.wire.result) {
                    (Some(link), ResultKind::Any) => self.links.push(link.to_owned()),
                    (Some(_), _) => {
                        return Err(self.unusable(job, "it answered with an address, which it is not to".to_owned()));
                    }
                    (None, _) => {}
                },
            }
        }
        Ok(())
    }

    /// Adds the usage in `value`, if there is any.
    pub(super) fn add_usage(&mut self, job: &Job<'_>, value: &Value) {
        if let Some(usage) = value.get("usage").and_then(|usage| usage_of(job, usage)) {
            self.usage = Some(self.usage.map_or(usage, |so_far| so_far.plus(usage)));
        }
    }

    /// What came in answer to a job.
    ///
    /// # Errors
    /// No picture did.
    pub(super) fn generated(self, job: &Job<'_>) -> Result<Generated, Fault> {
        if self.pictures.is_empty() {
            let mut fault = self.unusable(job, "the answer holds no picture".to_owned());
            if self.withheld > 0 || job.model.wiring.errors.empty_is_refusal {
                fault.kind = FaultKind::Refused;
                fault.message = "the content policy withheld the picture".to_owned();
                if self.withheld > 0 && job.model.wiring.billing.refused != Some(false) {
                    // It was made.
                    fault.billed = Some(self.bill(job));
                }
            }
            return Err(fault);
        }
        if self.withheld > 0 && self.billed.is_none() && job.model.wiring.billing.refused != Some(false) {
            // The pictures that came are not all that was made.
            return Ok(Generated { billed: self.bill(job).known(), ..self.into_generated() });
        }
        Ok(self.into_generated())
    }

    /// A fault of an answer that may have been billed, with the bill as far as the answer tells it.
    pub(super) fn unusable(&self, job: &Job<'_>, message: String) -> Fault {
        let mut fault = Fault::new(FaultKind::BadAnswer, message);
        let spent = self.usage.is_some_and(|usage| usage.input() + usage.output() > 0);
        if spent || self.billed.is_some() {
            let (usage, billed) = (self.usage, self.billed);
            let seen = Generated { pictures: Vec::new(), usage, billed, revised_prompt: None };
            let bill = job.model.billed(job.request, job.n, job.partials.unwrap_or(0), &seen);
            // Prices per picture say nothing here, as no picture came.
            fault.billed = Some(bill).filter(|bill| bill.known().is_some_and(|usd| !usd.is_zero()));
        }
        fault
    }

    /// What a call is billed at although no picture is given out: what the answer says, else the whole price.
    pub(super) fn bill(&self, job: &Job<'_>) -> Price {
        self.billed.map_or_else(|| job.model.expected(job.request, job.n, job.partials.unwrap_or(0)), Price::Known)
    }

    fn into_generated(self) -> Generated {
        let Answer { pictures, links: _, usage, billed, revised_prompt, withheld: _ } = self;
        Generated { pictures, usage, billed, revised_prompt }
    }
}

/// The tokens of a call. What is not told apart counts as the dearer kind: output as pictures, input as pictures
/// where some were sent.
fn usage_of(job: &Job<'_>, usage: &Value) -> Option<Usage> {
    let count = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).map(|n| n.min(MOST_TOKENS));
    let detail = |group: &str, key: &str| usage.get(group).and_then(|group| count(group, key)).unwrap_or(0);
    let (input, output) = (count(usage, "input_tokens"), count(usage, "output_tokens"));
    if input.is_none() && output.is_none() {
        return None;
    }
    let told = Usage {
        input_text: detail("input_tokens_details", "text_tokens"),
        input_image: detail("input_tokens_details", "image_tokens"),
        output_text: detail("output_tokens_details", "text_tokens"),
        output_image: detail("output_tokens_details", "image_tokens"),
    };
    Some(with_rest(job, told, input, output))
}

/// `told`, and what is missing in it to the sums.
fn with_rest(job: &Job<'_>, mut told: Usage, input: Option<u64>, output: Option<u64>) -> Usage {
    let rest = input.unwrap_or(0).saturating_sub(told.input());
    if job.request.inputs.is_empty() {
        told.input_text += rest;
    } else {
        told.input_image += rest;
    }
    told.output_image += output.unwrap_or(0).saturating_sub(told.output());
    told
}

/// A number of units. Some serialisers write small ones with an exponent.
fn units(text: &str) -> Option<Decimal> {
    let text = text.trim();
    text.parse().ok().or_else(|| format!("{:.12}", text.parse::<f64>().ok()?).parse().ok())
}

fn times(usd: Usd, units: Decimal) -> Option<Usd> {
    Some(Usd::from_pico(usd.pico().checked_mul(units.scaled())? / Usd::SCALE))
}

/// True if an element says that its picture is not given out.
fn is_withheld(element: &Value, pick: &Pick) -> bool {
    let Pick::Within { clear: Some(place), .. } = pick else { return false };
    pointer::all(element, place).into_iter().any(|sign| *sign == Value::Bool(false))
}

/// The values at which a rule finds pictures.
fn picked<'a>(value: &'a Value, pick: &Pick) -> Vec<&'a Value> {
    let is_there = |value: &&Value| value.as_str().is_some_and(|text| !text.is_empty());
    match pick {
        Pick::Place(place) => pointer::all(value, place).into_iter().filter(is_there).collect(),
        Pick::Within { at, value: inner, unless, clear: _ } => {
            let counts = |element: &&Value| {
                let signs = unless.iter().flat_map(|place| pointer::all(element, place));
                !signs.into_iter().any(pointer::is_true)
            };
            let elements =
                pointer::all(value, at).into_iter().filter(counts).filter(|element| !is_withheld(element, pick));
            elements.flat_map(|element| pointer::all(element, inner)).filter(is_there).collect()
        }
    }
}

/// A path on the provider's own server. The base64 of a JPEG begins with a slash, too, and is much longer.
fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.len() < 512 && !text.starts_with("/9j/")
}
