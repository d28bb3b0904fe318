//! What a successful answer holds: pictures or where they are, usage, the bill.

use bytes::Bytes;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::fault;
use super::lift::Lifted;
use super::provider::{Job, Provider};
use super::record::ResultKind;
use crate::domain::{Fault, FaultKind, Generated, Usage, Usd};

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
}

impl Answer {
    /// Reads the answer of the OpenAI Images API: `{"data":[{"b64_json"|"url","revised_prompt"}],"usage":{…}}`.
    ///
    /// # Errors
    /// It reports an error, or a picture in it cannot be read.
    pub(super) fn read(&mut self, provider: &Provider, job: &Job<'_>, lifted: &Lifted) -> Result<(), Fault> {
        let value = &lifted.value;
        if value.get("error").is_some_and(|error| !error.is_null()) {
            return Err(fault::of_object(provider, value, FaultKind::BadAnswer));
        }
        self.add_usage(job, value);
        for item in value.get("data").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| item.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
            if self.revised_prompt.is_none() {
                self.revised_prompt = text("revised_prompt").map(str::to_owned);
            }
            match item.get("b64_json").and_then(|value| lifted.picture(value)) {
                Some(Ok(picture)) => self.pictures.push(picture),
                Some(Err(error)) => return Err(self.unusable(job, error.to_string())),
                None => match (text("url"), provider.record.wire.result) {
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
    pub(super) fn generated(self, provider: &Provider, job: &Job<'_>) -> Result<Generated, Fault> {
        if self.pictures.is_empty() {
            let mut fault = self.unusable(job, "the answer holds no picture".to_owned());
            if provider.record.errors.empty_is_refusal {
                fault.kind = FaultKind::Refused;
                fault.message = "the content policy withheld the picture".to_owned();
            }
            return Err(fault);
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

    fn into_generated(self) -> Generated {
        let Answer { pictures, links: _, usage, billed, revised_prompt } = self;
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
    let mut tokens = Usage {
        input_text: detail("input_tokens_details", "text_tokens"),
        input_image: detail("input_tokens_details", "image_tokens"),
        output_text: detail("output_tokens_details", "text_tokens"),
        output_image: detail("output_tokens_details", "image_tokens"),
    };
    let rest = input.unwrap_or(0).saturating_sub(tokens.input());
    if job.request.inputs.is_empty() {
        tokens.input_text += rest;
    } else {
        tokens.input_image += rest;
    }
    tokens.output_image += output.unwrap_or(0).saturating_sub(tokens.output());
    Some(tokens)
}

/// What the provider says in a header that the call cost.
pub(super) fn stated_cost(provider: &Provider, headers: &HeaderMap) -> Option<Usd> {
    let name = provider.record.wire.cost_header.as_deref()?;
    let stated: Usd = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    // A negative bill is a mistake somewhere, and would be a gift of money.
    Some(stated).filter(|usd| *usd >= Usd::ZERO)
}
