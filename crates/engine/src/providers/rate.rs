//! What the head of an answer says, in passing, of the account's limits.
//!
//! Two families of headers are in use: `x-ratelimit-remaining-requests` with `x-ratelimit-reset-requests` (and the
//! same for pictures, or without a suffix), and the `RateLimit` fields of the IETF's httpapi working group, in their
//! older and their newer spelling. Only what is left and until when is read: limits themselves are told without the
//! window that they hold for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use tokio::time::Instant;

use crate::clock::Millis;
use crate::domain::{Allowance, RateNews};

/// Numbers in between are points in time (seconds since 1970), not seconds from now.
const POINTS_IN_TIME: std::ops::Range<f64> = 1e9..1e11;

/// The last news, until somebody takes them. Of several the one counts whose call was sent last.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Option<(Instant, RateNews)>>);

impl Heard {
    /// Notes what the answer to a call that was `sent` then says; `now` is for headers that name a point in time.
    pub(super) fn note(&self, sent: Instant, headers: &HeaderMap, now: Millis) {
        let news = news(headers, now);
        if news == RateNews::default() {
            return;
        }
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|(known, _)| known <= sent) {
            *last = Some((sent, news));
        }
    }

    /// The news, once.
    pub(super) fn take(&self) -> Option<(Instant, RateNews)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// `x-should-retry`, if it says one or the other.
pub(super) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    text(headers, "x-should-retry")?.parse().ok()
}

fn news(headers: &HeaderMap, now: Millis) -> RateNews {
    let pair = |remaining: &str, reset: &str| {
        let remaining = text(headers, remaining)?.parse().ok()?;
        Some(Allowance { remaining, reset: span(text(headers, reset)?, now)? })
    };
    let requests = pair("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
        .or_else(|| pair("x-ratelimit-remaining", "x-ratelimit-reset"))
        .or_else(|| pair("ratelimit-remaining", "ratelimit-reset"))
        .or_else(|| text(headers, "ratelimit").and_then(structured));
    RateNews { requests, pictures: pair("x-ratelimit-remaining-images", "x-ratelimit-reset-images") }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// One field for everything: `limit=10, remaining=4, reset=20`, or `"default";r=4;t=20`. Of several policies the
/// first counts.
fn structured(field: &str) -> Option<Allowance> {
    let (mut remaining, mut reset) = (None, None);
    for part in field.split([',', ';']) {
        let Some((name, value)) = part.split_once('=') else { continue };
        let number = value.trim().parse::<u32>().ok();
        match name.trim() {
            "remaining" | "r" => remaining = remaining.or(number),
            "reset" | "t" => reset = reset.or(number),
            _ => {}
        }
    }
    Some(Allowance { remaining: remaining?, reset: Duration::from_secs(reset?.into()) })
}

/// A span of time: seconds, a point in time as seconds since 1970 or in RFC 3339, or amounts with units such as `6m0s`
/// and `120ms`.
fn span(text: &str, now: Millis) -> Option<Duration> {
    let until = |ms: i64| Some(Duration::from_millis(u64::try_from(ms.saturating_sub(now)).unwrap_or(0)));
    if let Ok(number) = text.parse::<f64>() {
        if POINTS_IN_TIME.contains(&number) {
            return until((number * 1e3) as i64);
        }
        return Duration::try_from_secs_f64(number).ok();
    }
    if let Ok(point) = text.parse::<jiff::Timestamp>() {
        return until(point.as_millisecond());
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let seconds = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_800_000_000_000;

    fn of(pairs: &[(&'static str, &str)]) -> RateNews {
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        news(&headers, NOW)
    }

    #[test]
    fn all_spellings_are_understood() {
        let four = |ms| Some(Allowance { remaining: 4, reset: Duration::from_millis(ms) });
        for (remaining, reset, value, ms) in [
            ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "1s", 1000),
            ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "6m0s", 360_000),
            ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "1h2m3.5s", 3_723_500),
            ("x-ratelimit-remaining", "x-ratelimit-reset", "120ms", 120),
            ("x-ratelimit-remaining", "x-ratelimit-reset", "1800000007", 7000),
            ("x-ratelimit-remaining", "x-ratelimit-reset", "2027-01-15T08:00:09Z", 9000),
            ("x-ratelimit-remaining", "x-ratelimit-reset", "1700000000", 0),
            ("ratelimit-remaining", "ratelimit-reset", "20", 20_000),
            ("ratelimit-remaining", "ratelimit-reset", "0.5", 500),
        ] {
            assert_eq!(of(&[(remaining, "4"), (reset, value)]).requests, four(ms), "{reset}: {value}");
        }
        assert_eq!(of(&[("ratelimit", "limit=10, remaining=4, reset=20")]).requests, four(20_000));
        assert_eq!(of(&[("ratelimit", "\"burst\";r=4;t=20, \"daily\";r=900;t=80000")]).requests, four(20_000));
        let pictures = of(&[("x-ratelimit-remaining-images", "4"), ("x-ratelimit-reset-images", "1s")]);
        assert_eq!((pictures.requests, pictures.pictures), (None, four(1000)));
    }

    #[test]
    fn nonsense_is_no_news() {
        for value in ["", "soon", "-1", "1x", "s", "nan", "inf", "1e400", "99999999999999999999h"] {
            let news = of(&[("x-ratelimit-remaining", "4"), ("x-ratelimit-reset", value)]);
            assert_eq!(news, RateNews::default(), "{value}");
        }
        for field in ["", "limit=10", "remaining=4", "r=x;t=1", "r=-1;t=1"] {
            assert_eq!(of(&[("ratelimit", field)]), RateNews::default(), "{field}");
        }
        assert_eq!(of(&[("x-ratelimit-remaining", "4")]), RateNews::default());
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_call_has_the_last_word_once() {
        let heard = Heard::default();
        let headers = |remaining: u32| {
            let field = format!("r={remaining};t=9");
            std::iter::once(("ratelimit".parse().unwrap(), field.parse().unwrap())).collect::<HeaderMap>()
        };
        let (early, late) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        heard.note(late, &headers(3), NOW);
        heard.note(early, &headers(5), NOW);
        heard.note(late, &HeaderMap::new(), NOW);
        let (sent, news) = heard.take().unwrap();
        assert_eq!((sent, news.requests.unwrap().remaining), (late, 3));
        assert!(heard.take().is_none());
    }

    #[test]
    fn only_yes_and_no_count_as_should_retry() {
        for (value, meaning) in [("true", Some(true)), ("false", Some(false)), ("maybe", None), ("", None)] {
            let headers = std::iter::once(("x-should-retry".parse().unwrap(), value.parse().unwrap())).collect();
            assert_eq!(should_retry(&headers), meaning);
        }
    }
}
