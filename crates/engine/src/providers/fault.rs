//! What a failure means for money, and what of it a caller may read.
//!
//! The kind decides whether a call may be repeated, so every doubt ends in [`FaultKind::Unknown`]. Texts for
//! callers hold no secret, no address of the provider, and no page: only the message of an error object.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap};
use serde_json::Value;

use super::pointer;
use super::provider::Provider;
use super::wiring::{Meaning, RetryUnit, When, Wiring};
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
pub(super) fn of_status(provider: &Provider, wiring: &Wiring, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let said = Said::of(wiring, &value);
    let errors = &wiring.errors;
    let sign = sign(wiring, status, headers, &value);
    let known = sign.map(|sign| sign.means.kind()).or_else(|| said.as_ref().and_then(|said| said.kind(wiring)));
    let kind = match (known, status) {
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
    fault.retry_after = retry_after(provider, wiring, headers, &value);
    fault.should_retry = super::rate::should_retry(headers);
    if let Some(said) = said {
        said.label(provider, &mut fault);
    }
    fault
}

/// What an answer that looks like a success says against it, if its wiring knows such a sign. `true` beside it if it
/// is billed all the same.
pub(super) fn of_sign(
    provider: &Provider,
    wiring: &Wiring,
    status: u16,
    headers: &HeaderMap,
    value: &Value,
) -> Option<(Fault, bool)> {
    let sign = sign(wiring, status, headers, value)?;
    let said = Said::of(wiring, value);
    let message = said.as_ref().and_then(|said| said.message.as_deref()).map(|message| clean(provider, message));
    let message = message.filter(|message| !message.is_empty()).unwrap_or_else(|| {
        match sign.means {
            Meaning::Refused => "the content policy withheld the picture",
            Meaning::Denied => "this account cannot be used for it",
            Meaning::Throttled => "there were too many requests",
            Meaning::Rejected => "it did not take the request",
            Meaning::Failed | Meaning::Unknown => "it could not make the picture",
        }
        .to_owned()
    });
    let mut fault = Fault::new(sign.means.kind(), message);
    fault.retry_after = retry_after(provider, wiring, headers, value);
    if let Some(said) = said {
        said.label(provider, &mut fault);
    }
    Some((fault, sign.billed))
}

/// The first sign of the wiring that an answer bears.
fn sign<'a>(wiring: &'a Wiring, status: u16, headers: &HeaderMap, value: &Value) -> Option<&'a When> {
    wiring.errors.when.iter().find(|sign| {
        if !sign.status.is_empty() && !sign.status.contains(&status) {
            return false;
        }
        let in_header = sign.header.as_ref().map(|name| headers.get(name).and_then(|value| value.to_str().ok()));
        let values: Vec<Value> = match (in_header, &sign.at) {
            (Some(header), _) => header.map(Value::from).into_iter().collect(),
            (None, Some(place)) => pointer::all(value, place).into_iter().filter(|v| !v.is_null()).cloned().collect(),
            (None, None) => return !sign.status.is_empty(),
        };
        values.iter().any(|value| {
            let text = || value.as_str().unwrap_or_default().to_lowercase();
            (sign.is.is_empty() || sign.is.contains(value))
                && !sign.not.contains(value)
                && (sign.contains.is_empty()
                    || sign.contains.iter().any(|piece| text().contains(&piece.to_lowercase())))
        })
    })
}

impl Meaning {
    fn kind(self) -> FaultKind {
        match self {
            Meaning::Refused => FaultKind::Refused,
            Meaning::Denied => FaultKind::Denied,
            Meaning::Throttled => FaultKind::Throttled,
            Meaning::Rejected => FaultKind::Rejected,
            Meaning::Failed => FaultKind::Failed,
            Meaning::Unknown => FaultKind::Unknown,
        }
    }
}

/// An error object in the place of a result, after a status of success. What the record does not know by its code
/// becomes `otherwise`.
pub(super) fn of_object(provider: &Provider, wiring: &Wiring, value: &Value, otherwise: FaultKind) -> Fault {
    let Some(said) = Said::of(wiring, value) else { return Fault::new(otherwise, "it reported an error") };
    let message = said.message.as_deref().map(|message| clean(provider, message)).unwrap_or_default();
    let message = if message.is_empty() { "it reported an error".to_owned() } else { message };
    let mut fault = Fault::new(said.kind(wiring).unwrap_or(otherwise), message);
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
    fn of(wiring: &Wiring, value: &Value) -> Option<Said> {
        let at = |places: &[String]| places.iter().find_map(|place| pointer::text(value, place));
        let (message, code) = (at(&wiring.errors.message), at(&wiring.errors.code));
        if message.is_none() && code.is_none() {
            return Said::of_usual(value);
        }
        let usual = Said::of_usual(value).unwrap_or_default();
        Some(Said { message: message.or(usual.message), code: code.or(usual.code), ..usual })
    }

    /// Where errors usually are.
    fn of_usual(value: &Value) -> Option<Said> {
        // Some wrap the object into a list.
        let value = value.get(0).unwrap_or(value);
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
        let listed = value.get("errors").and_then(|errors| errors.get(0));
        if let Some(first) = listed {
            return Some(Said {
                message: text(first).or_else(|| at(first, "message")),
                code: at(value, "name").or_else(|| at(first, "code")),
                ..Said::default()
            });
        }
        let message = at(value, "message")?;
        Some(Said { message: Some(message), code: at(value, "code"), class: at(value, "type"), ..Said::default() })
    }

    /// What the record says of the codes in this. The type is too broad to count beside a code: one type covers
    /// refusals and mistakes of the caller.
    fn kind(&self, wiring: &Wiring) -> Option<FaultKind> {
        let errors = &wiring.errors;
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
pub(super) fn clean(provider: &Provider, text: &str) -> String {
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

/// When to come back, by the first place of the wiring that says it, or else by the headers that everybody understands.
fn retry_after(provider: &Provider, wiring: &Wiring, headers: &HeaderMap, body: &Value) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let of_record = wiring.wire.retry_after.iter().map(|source| {
        let in_body = || source.at.as_ref().and_then(|place| pointer::text(body, place));
        (source.header.as_deref().and_then(header).map(str::to_owned).or_else(in_body), source.unit)
    });
    let of_everybody = RETRY_AFTER.into_iter().map(|(name, unit)| (header(name).map(str::to_owned), unit));
    of_record.chain(of_everybody).find_map(|(value, unit)| {
        let value = value?;
        let number = value.parse::<f64>().ok();
        let wait = match (unit, number) {
            (RetryUnit::Milliseconds, number) => Duration::try_from_secs_f64(number? / 1000.0).ok()?,
            (RetryUnit::Duration | RetryUnit::Text, None) => seconds_in(&value)?,
            (_, Some(seconds)) => Duration::try_from_secs_f64(seconds).ok()?,
            (RetryUnit::Seconds, None) => {
                let until = http_date(&value)?;
                // By the provider's own clock, which may not be ours.
                let now = header(DATE.as_str()).and_then(http_date).unwrap_or_else(|| provider.clock.now());
                Duration::from_millis(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
            }
        };
        Some(wait.min(LONGEST_WAIT))
    })
}

/// The first number of a text that counts seconds: `33s`, `try again in 1.5 seconds`. Others are statuses, limits, codes.
fn seconds_in(text: &str) -> Option<Duration> {
    let mut rest = text;
    loop {
        let from = rest.find(|c: char| c.is_ascii_digit())?;
        let digits = rest.get(from..)?;
        let to = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let (number, after) = digits.split_at(to);
        if after.trim_start().starts_with(['s', 'S']) {
            return Duration::try_from_secs_f64(number.trim_end_matches('.').parse().ok()?).ok();
        }
        rest = after;
    }
}

/// An HTTP date in milliseconds since the Unix epoch.
pub(super) fn http_date(text: &str) -> Option<i64> {
    let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(parsed.as_millisecond())
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
