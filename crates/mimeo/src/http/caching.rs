//! The caller's wishes about the cache: the `Cache-Control` header as in HTTP, and the body's `cache`.

use std::time::Duration;

use axum::http::{HeaderMap, header};

use super::fields::Fields;
use crate::domain::{CacheMode, CachePolicy};
use crate::error::Result;

/// A hundred years, more than any picture is kept.
const LONGEST_TTL_S: u64 = 100 * 365 * 24 * 3600;
/// Tags of a request at most.
const TAGS: usize = 16;
/// Characters of a tag at most.
const TAG: usize = 128;

/// What `Cache-Control` asks for. Directives that nobody knows are ignored, as HTTP has it.
pub fn from_headers(headers: &HeaderMap) -> CachePolicy {
    let mut policy = CachePolicy::default();
    for value in headers.get_all(header::CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or_default().split(',') {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            let asked = match name.trim().to_ascii_lowercase().as_str() {
                "no-cache" => CacheMode::NoCache,
                "no-store" => CacheMode::NoStore,
                "only-if-cached" => CacheMode::OnlyIfCached,
                "max-age" => {
                    if let Ok(seconds) = argument.trim().trim_matches('"').parse() {
                        policy.max_age = Some(Duration::from_secs(seconds));
                    }
                    continue;
                }
                _ => continue,
            };
            if strength(asked) > strength(policy.mode) {
                policy.mode = asked;
            }
        }
    }
    policy
}

/// Which of several modes counts: the one that never spends before all, the one that leaves no trace
/// before the one that only wants a new picture.
fn strength(mode: CacheMode) -> u8 {
    match mode {
        CacheMode::Default => 0,
        CacheMode::NoCache => 1,
        CacheMode::NoStore => 2,
        CacheMode::OnlyIfCached => 3,
    }
}

/// The policy of a request. A `cache.mode` in the body replaces what the header says, since proxies
/// and browsers put headers of their own.
///
/// # Errors
/// A field of `cache` is wrong.
pub fn policy(headers: &HeaderMap, body: &mut Fields<'_>) -> Result<CachePolicy> {
    let mut policy = from_headers(headers);
    if let Some(mut cache) = body.object("cache")? {
        let mode = cache.one_of("mode", &["default", "no-cache", "no-store", "only-if-cached"])?;
        if let Some(mode) = mode {
            policy = CachePolicy::default();
            policy.mode = match mode {
                "no-cache" => CacheMode::NoCache,
                "no-store" => CacheMode::NoStore,
                "only-if-cached" => CacheMode::OnlyIfCached,
                _ => CacheMode::Default,
            };
        }
        policy.ttl = cache.integer("ttl_s", 1..=LONGEST_TTL_S)?.map(Duration::from_secs);
        policy.variants = cache.integer("variants", 1..=100)?.map(|k| k as u32);
        policy.tags = cache.labels("tags", TAGS, TAG)?;
        cache.finish()?;
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn asked(header: &str, body: &str) -> Result<CachePolicy> {
        let mut headers = HeaderMap::new();
        if !header.is_empty() {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_str(header).unwrap());
        }
        policy(&headers, &mut Fields::from_json(body.as_bytes())?)
    }

    #[test]
    fn headers_as_in_http() {
        assert_eq!(asked("", "{}").unwrap(), CachePolicy::default());
        assert_eq!(asked("No-Cache", "{}").unwrap().mode, CacheMode::NoCache);
        assert_eq!(asked("no-cache, no-store", "{}").unwrap().mode, CacheMode::NoStore);
        assert_eq!(asked("only-if-cached, no-cache", "{}").unwrap().mode, CacheMode::OnlyIfCached);
        let policy = asked("private, max-age=60", "{}").unwrap();
        assert_eq!((policy.mode, policy.max_age), (CacheMode::Default, Some(Duration::from_secs(60))));
        assert_eq!(asked("max-age=x", "{}").unwrap().max_age, None);
    }

    #[test]
    fn the_body_says_otherwise() {
        let policy = asked("no-store, max-age=5", r#"{"cache":{"mode":"default","ttl_s":9,"variants":3}}"#).unwrap();
        assert_eq!(policy.mode, CacheMode::Default);
        assert_eq!((policy.max_age, policy.ttl, policy.variants), (None, Some(Duration::from_secs(9)), Some(3)));
        assert_eq!(asked("no-store", r#"{"cache":{"ttl_s":9}}"#).unwrap().mode, CacheMode::NoStore);
        for (bad, param) in [
            (r#"{"cache":{"mode":"never"}}"#, "cache.mode"),
            (r#"{"cache":{"ttl_s":0}}"#, "cache.ttl_s"),
            (r#"{"cache":{"variants":101}}"#, "cache.variants"),
            (r#"{"cache":{"pool":"x"}}"#, "cache.pool"),
            (r#"{"cache":true}"#, "cache"),
        ] {
            assert_eq!(asked("", bad).unwrap_err().param.as_deref(), Some(param), "{bad}");
        }
    }
}
