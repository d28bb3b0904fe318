//! What can go wrong on purpose. One grammar serves prompts (`[[fail=503*2]]`) and the control API (`"fail=503*2"`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

/// The longest time a fault may take, an hour: a typing error must not look like a hang.
const LONGEST: Duration = Duration::from_secs(3600);

/// The largest picture a fault may ask for, 256 MiB.
const LARGEST: usize = 256 << 20;

/// A deviation from the normal, billed answer. Written `name` or `name=value`.
///
/// The first seven change the answer and combine with everything; of the others, the first one that applies to a
/// request decides its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Fault {
    /// `latency=MS`: the answer takes so many milliseconds longer. A billed request is billed first.
    Latency(Duration),
    /// `trickle=MS`: the body comes in sixteen pieces with so many milliseconds between them.
    Trickle(Duration),
    /// `bytes=N`: every picture is padded to at least N bytes.
    Bytes(usize),
    /// `expired-url`: the addresses of the pictures have run out by the time they are fetched.
    ExpiredUrl,
    /// `lag=N`: the first N fetches of each picture's address answer 404, as where copies are still on their way.
    Lag(u32),
    /// `odd-status`: one poll of the job answers a status that nobody knows, then it goes on.
    OddStatus,
    /// `poll-fail=STATUS`: the first poll of the job answers that HTTP error (400–599), then it goes on.
    PollFail(StatusCode),

    /// `fail=STATUS`: that HTTP error (400–599). Not billed.
    Fail(StatusCode),
    /// `bill-then-fail=STATUS`: billed, then that HTTP error.
    BillThenFail(StatusCode),
    /// `hang`: never answers. Not billed.
    Hang,
    /// `bill-then-hang`: billed, then never answers.
    BillThenHang,
    /// `reset`: the connection closes without an answer. Not billed.
    Reset,
    /// `bill-then-reset`: billed, then the connection closes without an answer.
    BillThenReset,
    /// `throttle` or `throttle=SECONDS` (decimals allowed, default 1): 429 `rate_limit_exceeded` with `Retry-After`
    /// in whole seconds, rounded up, and `retry-after-ms` exactly. Not billed.
    Throttle(Duration),
    /// `throttle-date` or `throttle-date=SECONDS` (default 1): 429 with `Retry-After` as an HTTP date that far ahead,
    /// rounded up to the second. Not billed.
    ThrottleDate(Duration),
    /// `quota`: 429 `insufficient_quota`. Not billed.
    Quota,
    /// `refuse` or `refuse=N`: the provider's N-th way to refuse a prompt (default 1; one that knows fewer uses its
    /// last). A 400 `moderation_blocked` where there is but one. Not billed, unless a simulation's file says so.
    Refuse(u8),
    /// `refuse-200`: HTTP 200 with no picture in it; where a simulation refuses so, its way. Billed as `refuse` is.
    RefuseOk,
    /// `redirect` or `redirect=URL`: 302 to that place, by default the sandbox's own `/elsewhere`, which counts its
    /// visitors. Not billed.
    Redirect(Option<String>),
    /// `stream-error`: HTTP 200, the partial pictures, then an `error` event instead of the picture; a 500 for
    /// requests that do not stream. Not billed.
    StreamError,
    /// `bill-then-stream-error`: as `stream-error`, billed.
    BillThenStreamError,
    /// `stream-refuse`: as `stream-error`, with the refusal as the event; a 400 for requests that do not stream. Not billed.
    StreamRefuse,
    /// `truncate`: billed; `content-length` names the whole body, half of it comes, the connection closes.
    Truncate,
    /// `truncate-picture`: billed; a well-formed answer whose picture bytes stop half way.
    TruncatePicture,
    /// `html`: billed; HTTP 200 with an HTML page as the body.
    Html,
    /// `html-picture`: billed; a well-formed answer whose "picture" is an HTML page.
    HtmlPicture,
    /// `blank-picture`: billed; a picture of one colour.
    BlankPicture,
    /// `garbage-json`: billed; HTTP 200, `application/json`, not JSON.
    GarbageJson,
    /// `fail-job`: the job is accepted and fails later; a 500 where there are no jobs. Not billed, unless a
    /// simulation's file says that failed jobs are.
    FailJob,
    /// `bill-then-fail-job`: as `fail-job`, billed in any case.
    BillThenFailJob,
    /// `forget-job`: the job is accepted and billed, and then nobody knows it; a 500 where there are no jobs.
    ForgetJob,
}

impl Fault {
    /// Whether this only changes the answer, and so combines with any outcome.
    pub fn is_modifier(&self) -> bool {
        matches!(self, Self::Latency(_) | Self::Trickle(_) | Self::Bytes(_))
            || matches!(self, Self::ExpiredUrl | Self::Lag(_) | Self::OddStatus | Self::PollFail(_))
    }

    /// Whether a request that meets this fault stands in the invoice book.
    pub fn is_billed(&self) -> bool {
        match self {
            Self::Latency(_) | Self::Trickle(_) | Self::Bytes(_) => true,
            Self::ExpiredUrl | Self::Lag(_) | Self::OddStatus | Self::PollFail(_) => true,
            Self::BillThenFailJob | Self::ForgetJob => true,
            Self::BillThenFail(_) | Self::BillThenHang | Self::BillThenReset | Self::BillThenStreamError => true,
            Self::Truncate | Self::TruncatePicture | Self::Html | Self::HtmlPicture | Self::GarbageJson => true,
            Self::BlankPicture => true,
            Self::Fail(_) | Self::Hang | Self::Reset | Self::StreamError | Self::Redirect(_) => false,
            Self::Throttle(_) | Self::ThrottleDate(_) | Self::Quota | Self::Refuse(_) => false,
            Self::RefuseOk | Self::StreamRefuse | Self::FailJob => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |name: &str, time: &Duration, f: &mut fmt::Formatter<'_>| write!(f, "{name}={}", time.as_millis());
        let seconds = |name: &str, time: &Duration, f: &mut fmt::Formatter<'_>| {
            write!(f, "{name}={}.{:03}", time.as_secs(), time.subsec_millis())
        };
        match self {
            Self::Latency(time) => millis("latency", time, f),
            Self::Trickle(time) => millis("trickle", time, f),
            Self::Bytes(bytes) => write!(f, "bytes={bytes}"),
            Self::Fail(status) => write!(f, "fail={}", status.as_u16()),
            Self::BillThenFail(status) => write!(f, "bill-then-fail={}", status.as_u16()),
            Self::Hang => f.write_str("hang"),
            Self::BillThenHang => f.write_str("bill-then-hang"),
            Self::Reset => f.write_str("reset"),
            Self::BillThenReset => f.write_str("bill-then-reset"),
            Self::Throttle(time) => seconds("throttle", time, f),
            Self::ThrottleDate(time) => seconds("throttle-date", time, f),
            Self::Quota => f.write_str("quota"),
            Self::Refuse(1) => f.write_str("refuse"),
            Self::Refuse(way) => write!(f, "refuse={way}"),
            Self::RefuseOk => f.write_str("refuse-200"),
            Self::Redirect(None) => f.write_str("redirect"),
            Self::Redirect(Some(place)) => write!(f, "redirect={place}"),
            Self::StreamError => f.write_str("stream-error"),
            Self::BillThenStreamError => f.write_str("bill-then-stream-error"),
            Self::StreamRefuse => f.write_str("stream-refuse"),
            Self::Truncate => f.write_str("truncate"),
            Self::TruncatePicture => f.write_str("truncate-picture"),
            Self::Html => f.write_str("html"),
            Self::HtmlPicture => f.write_str("html-picture"),
            Self::BlankPicture => f.write_str("blank-picture"),
            Self::GarbageJson => f.write_str("garbage-json"),
            Self::ExpiredUrl => f.write_str("expired-url"),
            Self::Lag(fetches) => write!(f, "lag={fetches}"),
            Self::OddStatus => f.write_str("odd-status"),
            Self::PollFail(status) => write!(f, "poll-fail={}", status.as_u16()),
            Self::FailJob => f.write_str("fail-job"),
            Self::BillThenFailJob => f.write_str("bill-then-fail-job"),
            Self::ForgetJob => f.write_str("forget-job"),
        }
    }
}

/// Why a text names no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a fault of this sandbox")]
pub struct UnknownFault(String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        read(name, value).ok_or_else(|| UnknownFault(text.chars().take(80).collect()))
    }
}

fn read(name: &str, value: Option<&str>) -> Option<Fault> {
    let plain = |fault| value.is_none().then_some(fault);
    match name {
        "latency" => millis(value?).map(Fault::Latency),
        "trickle" => millis(value?).map(Fault::Trickle),
        "bytes" => value?.parse().ok().filter(|bytes| *bytes <= LARGEST).map(Fault::Bytes),
        "fail" => status(value?).map(Fault::Fail),
        "bill-then-fail" => status(value?).map(Fault::BillThenFail),
        "hang" => plain(Fault::Hang),
        "bill-then-hang" => plain(Fault::BillThenHang),
        "reset" => plain(Fault::Reset),
        "bill-then-reset" => plain(Fault::BillThenReset),
        "throttle" => seconds(value.unwrap_or("1")).map(Fault::Throttle),
        "throttle-date" => seconds(value.unwrap_or("1")).map(Fault::ThrottleDate),
        "quota" => plain(Fault::Quota),
        "refuse" => value.unwrap_or("1").parse().ok().filter(|way| *way > 0).map(Fault::Refuse),
        "refuse-200" => plain(Fault::RefuseOk),
        // A header value must not be able to break the answer that carries it.
        "redirect" => match value {
            Some(place) if place.is_empty() || !place.bytes().all(|byte| byte.is_ascii_graphic()) => None,
            place => Some(Fault::Redirect(place.map(str::to_owned))),
        },
        "stream-error" => plain(Fault::StreamError),
        "bill-then-stream-error" => plain(Fault::BillThenStreamError),
        "stream-refuse" => plain(Fault::StreamRefuse),
        "truncate" => plain(Fault::Truncate),
        "truncate-picture" => plain(Fault::TruncatePicture),
        "html" => plain(Fault::Html),
        "html-picture" => plain(Fault::HtmlPicture),
        "blank-picture" => plain(Fault::BlankPicture),
        "garbage-json" => plain(Fault::GarbageJson),
        "expired-url" => plain(Fault::ExpiredUrl),
        "lag" => value?.parse().ok().map(Fault::Lag),
        "odd-status" => plain(Fault::OddStatus),
        "poll-fail" => status(value?).map(Fault::PollFail),
        "fail-job" => plain(Fault::FailJob),
        "bill-then-fail-job" => plain(Fault::BillThenFailJob),
        "forget-job" => plain(Fault::ForgetJob),
        _ => None,
    }
}

fn millis(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis).filter(|time| *time <= LONGEST)
}

fn seconds(text: &str) -> Option<Duration> {
    let time = Duration::try_from_secs_f64(text.parse().ok()?).ok().filter(|time| *time <= LONGEST)?;
    // Whole milliseconds, which is what `retry-after-ms` can say.
    Some(Duration::from_millis((time.as_secs_f64() * 1000.0).round() as u64))
}

fn status(text: &str) -> Option<StatusCode> {
    text.parse().ok().filter(|status: &StatusCode| status.is_client_error() || status.is_server_error())
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

impl TryFrom<String> for Fault {
    type Error = UnknownFault;

    fn try_from(text: String) -> Result<Self, UnknownFault> {
        text.parse()
    }
}

/// A fault with the number of requests it applies to. Written `fault` or `fault*TIMES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// What happens.
    pub fault: Fault,
    /// To how many requests, if that is limited.
    pub times: Option<u32>,
}

impl FromStr for Directive {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let counted = text.rsplit_once('*').and_then(|(fault, times)| Some((fault, times.parse().ok()?)));
        let (fault, times) = match counted {
            Some((fault, times)) => (fault, Some(times)),
            None => (text, None),
        };
        Ok(Self { fault: fault.parse()?, times })
    }
}

/// The directives of a prompt: every `[[name]]` or `[[name=value]]` in it, in order.
///
/// # Errors
/// When a pair of double brackets is shaped like a directive but names no fault: a typing error in a test would
/// otherwise pass as success. Brackets around anything else are left alone.
pub fn directives(prompt: &str) -> Result<Vec<Directive>, UnknownFault> {
    let mut found = Vec::new();
    let mut rest = prompt;
    while let Some((_, after)) = rest.split_once("[[") {
        rest = after;
        let Some((inside, after)) = after.split_once("]]") else {
            break;
        };
        let name = inside.split(['=', '*']).next().unwrap_or(inside);
        let shaped = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if shaped {
            found.push(inside.parse()?);
            rest = after;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_fault() -> impl Strategy<Value = Fault> {
        let time = (0u64..3_600_000).prop_map(Duration::from_millis);
        let status = (400u16..600).prop_map(|code| StatusCode::from_u16(code).unwrap());
        prop_oneof![
            time.clone().prop_map(Fault::Latency),
            time.clone().prop_map(Fault::Trickle),
            time.clone().prop_map(Fault::Throttle),
            time.prop_map(Fault::ThrottleDate),
            (0..LARGEST).prop_map(Fault::Bytes),
            status.clone().prop_map(Fault::Fail),
            status.clone().prop_map(Fault::BillThenFail),
            status.prop_map(Fault::PollFail),
            (1..=u8::MAX).prop_map(Fault::Refuse),
            any::<u32>().prop_map(Fault::Lag),
            "[!-~]{1,30}".prop_map(|place| Fault::Redirect(Some(place))),
            prop::sample::select(vec![
                Fault::Hang,
                Fault::BillThenHang,
                Fault::Reset,
                Fault::BillThenReset,
                Fault::Quota,
                Fault::RefuseOk,
                Fault::ExpiredUrl,
                Fault::OddStatus,
                Fault::FailJob,
                Fault::BillThenFailJob,
                Fault::ForgetJob,
                Fault::Redirect(None),
                Fault::StreamError,
                Fault::BillThenStreamError,
                Fault::StreamRefuse,
                Fault::Truncate,
                Fault::TruncatePicture,
                Fault::Html,
                Fault::HtmlPicture,
                Fault::BlankPicture,
                Fault::GarbageJson,
            ]),
        ]
    }

    proptest! {
        #[test]
        fn every_fault_reads_as_it_is_written(fault in any_fault()) {
            prop_assert_eq!(fault.to_string().parse::<Fault>(), Ok(fault));
        }

        #[test]
        fn no_prompt_breaks_the_search(prompt in ".{0,60}", brackets in r"[\[\]a-z=*0-9 -]{0,40}") {
            let _ = directives(&(prompt + &brackets));
        }
    }

    #[test]
    fn directives_are_found_in_a_prompt() {
        let found = directives("a kite [[latency=20]] over [[The Sea]] [[fail=503*2]][[refuse]] [[").unwrap();
        let expected = ["latency=20", "fail=503*2", "refuse"].map(|text| text.parse().unwrap());
        assert_eq!(found, expected);
        assert_eq!(found[1], Directive { fault: Fault::Fail(StatusCode::SERVICE_UNAVAILABLE), times: Some(2) });
    }

    #[test]
    fn a_mistyped_directive_is_an_error() {
        for prompt in ["[[bill-then-die]]", "[[fail]]", "[[fail=200]]", "[[hang=1]]", "[[latency=9999999999]]"] {
            assert!(directives(prompt).is_err(), "{prompt}");
        }
        assert_eq!(directives("[[]] [[ hang ]] [[1]]"), Ok(Vec::new()));
    }
}
