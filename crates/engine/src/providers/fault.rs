//! What a failure means for money, and what of it a caller may read.
//!
//! The kind decides whether a call may be repeated, so every doubt ends in [`FaultKind::Unknown`]. Texts for
//! callers hold no secret, no address of the provider, and no page: only the message of an error object.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap};
use serde_json::Value;

use super::provider::Provider;
use super::record::RetryUnit;
use crate::domain::{Fault, FaultKind};

/// Longest message for a caller, in characters.
const LONGEST: usize = 300;

/// Longest wait that a provider may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The headers that say when to come back whatever the provider: the one of RFC 9110, and before it its more exact
/// companion.
const RETRY_AFTER: [(&str, RetryUnit); 2] =
    [("retry-after-ms", RetryUnit::Milliseconds), ("retry-after", RetryUnit::Seconds)];

/// The connection failed. `left` is true if anything of the call had left this machine.
pub(super) fn of_transport(provider: &Provider, error: reqwest::Error, left: bool) -> Fault {
    let timeout = error.is_timeout();
    tracing::debug!(provider = provider.name, error = ?error.without_url(), "a connection failed");
    if left {
        return Fault::new(FaultKind::Unknown, "the connection broke before the answer was complete");
    }
    let message = if timeout { "no connection came about in time" } else { "no connection could be made" };
    Fault::new(FaultKind::NotSent, message)
}

/// There was no complete answer in time.
pub(super) fn too_late(seconds: u64) -> Fault {
    Fault::new(FaultKind::Unknown, format!("there was no complete answer within {seconds} s"))
}

/// An answer with a status that is no success.
pub(super) fn of_status(provider: &Provider, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
    let said = serde_json::from_slice(body).ok().and_then(|value| Said::of(&value));
    let errors = &provider.record.errors;
    let kind = match (said.as_ref().and_then(|said| said.kind(provider)), status) {
        (Some(kind), _) => kind,
        (None, 429) => FaultKind::Throttled,
        // The account, the address or the model: nothing that the caller can mend, and another may serve.
        (None, 401 | 402 | 403 | 404 | 405 | 407 | 410) => FaultKind::Denied,
        // The provider, or something in front of it, gave up waiting: for the request or for its result.
        (None, 408 | 499) => FaultKind::Unknown,
        (None, 400..=499) => FaultKind::Rejected,
        (None, _) if said.is_some() && errors.unbilled_statuses.contains(&status) => FaultKind::Failed,
        (None, _) => FaultKind::Unknown,
    };
    let message = match (status, &said) {
        // Such messages like to quote the key, or half of it.
        (401, _) => "it does not accept the configured key".to_owned(),
        (300..=399, _) => format!("it answered with a redirection ({status}), which is never followed"),
        (_, Some(Said { message: Some(message), .. })) => clean(provider, message),
        _ => String::new(),
    };
    let message = if message.is_empty() { format!("it answered with status {status}") } else { message };
    let mut fault = Fault::new(kind, message);
    fault.status = Some(status);
    fault.retry_after = retry_after(provider, headers);
    fault.should_retry = super::rate::should_retry(headers);
    if let Some(said) = said {
        said.label(provider, &mut fault);
    }
    fault
}

/// An error object in the place of a result, after a status of success. What the record does not know by its code
/// becomes `otherwise`.
pub(super) fn of_object(provider: &Provider, value: &Value, otherwise: FaultKind) -> Fault {
    let Some(said) = Said::of(value) else { return Fault::new(otherwise, "it reported an error") };
    let message = said.message.as_deref().map(|message| clean(provider, message)).unwrap_or_default();
    let message = if message.is_empty() { "it reported an error".to_owned() } else { message };
    let mut fault = Fault::new(said.kind(provider).unwrap_or(otherwise), message);
    said.label(provider, &mut fault);
    fault
}

/// What an error object says. Understands `{"error":{…}}`, `{"error":"…"}`, `{"detail":…}` and `{"message":…}`.
#[derive(Debug, Default)]
struct Said {
    message: Option<String>,
    code: Option<String>,
    class: Option<String>,
    inner_code: Option<String>,
    param: Option<String>,
}

impl Said {
    fn of(value: &Value) -> Option<Said> {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let at = |value: &Value, key: &str| value.get(key).and_then(text);
        if let Some(error) = value.get("error").filter(|error| error.is_object()) {
            let inner = error.get("inner_error").or_else(|| error.get("innererror"));
            return Some(Said {
                message: at(error, "message").or_else(|| at(error, "detail")),
                code: at(error, "code"),
                class: at(error, "type"),
                inner_code: inner.and_then(|inner| at(inner, "code")),
                param: at(error, "param"),
            });
        }
        if let Some(message) = at(value, "error") {
            return Some(Said { message: Some(message), code: at(value, "code"), ..Said::default() });
        }
        if let Some(detail) = value.get("detail") {
            let first = detail.get(0).unwrap_or(detail);
            let message = text(first).or_else(|| at(first, "msg")).or_else(|| at(first, "error"));
            let param = first.get("loc").and_then(Value::as_array).and_then(|path| path.last()).and_then(text);
            return Some(Said { message, param, ..Said::default() });
        }
        let message = at(value, "message")?;
        Some(Said { message: Some(message), code: at(value, "code"), class: at(value, "type"), ..Said::default() })
    }

    /// What the record says of the codes in this. The type is too broad to count beside a code: one type covers
    /// refusals and mistakes of the caller.
    fn kind(&self, provider: &Provider) -> Option<FaultKind> {
        let errors = &provider.record.errors;
        let codes = [self.code.as_ref().or(self.class.as_ref()), self.inner_code.as_ref()];
        let any = |list: &[String]| codes.into_iter().flatten().any(|code| list.contains(code));
        if any(&errors.refused) {
            Some(FaultKind::Refused)
        } else if any(&errors.denied) {
            Some(FaultKind::Denied)
        } else if any(&errors.throttled) {
            Some(FaultKind::Throttled)
        } else {
            None
        }
    }

    fn label(self, provider: &Provider, fault: &mut Fault) {
        let clean = |text: String| Some(clean(provider, &text)).filter(|text| !text.is_empty());
        fault.code = self.code.or(self.class).and_then(clean);
        fault.param = self.param.and_then(clean);
    }
}

/// A provider's text as a caller may read it: one line, not long, without the secret and the address.
fn clean(provider: &Provider, text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if line.starts_with('<') {
        // A page, or a piece of one.
        return String::new();
    }
    let mut line: String = line.chars().filter(|c| !c.is_control()).take(4 * LONGEST).collect();
    if let Some(base) = &provider.base {
        let host = base.host_str().unwrap_or_default();
        let authority = base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        for address in [base.as_str().trim_end_matches('/'), &authority, host] {
            if address.len() >= 4 {
                line = line.replace(address, "[address]");
            }
        }
    }
    if let Some(key) = &provider.key {
        let key = key.reveal();
        // Also where only its beginning is quoted.
        let start: String = key.chars().take(8).collect();
        if start.len() >= 4 && line.contains(&start) {
            let words = line.split(' ').map(|word| if word.contains(&start) { "[key]" } else { word });
            line = words.collect::<Vec<_>>().join(" ");
        }
    }
    if line.chars().count() > LONGEST {
        line = line.chars().take(LONGEST - 1).chain(['…']).collect();
    }
    line
}

/// When to come back, by the first header of the record that says it, or else by those that everybody understands.
fn retry_after(provider: &Provider, headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let of_record = provider.record.wire.retry_after.iter().map(|source| (source.header.as_str(), source.unit));
    of_record.chain(RETRY_AFTER).find_map(|(header, unit)| {
        let value = text(header)?;
        let number = value.parse::<f64>().ok();
        let wait = match (unit, number) {
            (RetryUnit::Milliseconds, number) => Duration::try_from_secs_f64(number? / 1000.0).ok()?,
            (RetryUnit::Seconds, Some(seconds)) => Duration::try_from_secs_f64(seconds).ok()?,
            (RetryUnit::Seconds, None) => {
                let until = http_date(value)?;
                // By the provider's own clock, which may not be ours.
                let now = text(DATE.as_str()).and_then(http_date).unwrap_or_else(|| provider.clock.now());
                Duration::from_millis(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
            }
        };
        Some(wait.min(LONGEST_WAIT))
    })
}

/// An HTTP date in milliseconds since the Unix epoch.
fn http_date(text: &str) -> Option<i64> {
    let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(parsed.as_millisecond())
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
