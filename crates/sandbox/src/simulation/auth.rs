//! Who calls: the key, shown in one of the ways that the provider takes.

use axum::http::HeaderMap;

use super::sheet::Auth;

/// The account of a request: its key. `None` if no key is shown as it should be; `anonymous` where none is needed.
pub(super) fn account(ways: &[Auth], headers: &HeaderMap, query: &[(String, String)]) -> Option<String> {
    if ways.is_empty() {
        return Some("anonymous".to_owned());
    }
    ways.iter().find_map(|way| shown(way, headers, query))
}

fn shown(way: &Auth, headers: &HeaderMap, query: &[(String, String)]) -> Option<String> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if way.and.iter().any(|name| header(name).is_none_or(str::is_empty)) {
        return None;
    }
    let key = if let Some(name) = &way.header {
        header(name)?.strip_prefix(way.prefix.as_str())?.to_owned()
    } else if let Some(name) = &way.query {
        query.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())?
    } else if let Some(service) = &way.aws {
        signer(header("authorization")?, service)?
    } else if way.basic {
        let text = header("authorization")?.strip_prefix("Basic ")?;
        let text = String::from_utf8(base64_simd::STANDARD.decode_to_vec(text).ok()?).ok()?;
        text.contains(':').then_some(text)?
    } else {
        return None;
    };
    (!key.trim().is_empty() && key.trim() == key).then_some(key)
}

/// The access key of a signature, if it has the right form and is for that service.
fn signer(value: &str, service: &str) -> Option<String> {
    let rest = value.strip_prefix("AWS4-HMAC-SHA256 ")?;
    let part = |name: &str| rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let scope: Vec<&str> = part("Credential")?.split('/').collect();
    let [key, day, region, named, "aws4_request"] = scope.as_slice() else {
        return None;
    };
    let signed = part("SignedHeaders")?.split(';').any(|name| name == "host");
    let signature = part("Signature")?;
    let hex = signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit());
    let dated = day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit());
    (signed && hex && dated && !region.is_empty() && *named == service).then(|| (*key).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account_of(ways: &str, headers: &[(&'static str, String)], query: &[(String, String)]) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Ways {
            auth: Vec<Auth>,
        }
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        account(&toml::from_str::<Ways>(ways).unwrap().auth, &headers, query)
    }

    #[test]
    fn keys_are_shown_in_many_ways() {
        let ways = "auth = [{ header = 'authorization', prefix = 'Key ' }, { query = 'key' }, { aws = 'bedrock' }]";
        let sent = |value: &str| account_of(ways, &[("authorization", value.to_owned())], &[]);
        assert_eq!(sent("Key abc").as_deref(), Some("abc"));
        assert_eq!(sent("Bearer abc"), None);
        assert_eq!(sent("Key "), None);
        assert_eq!(account_of(ways, &[], &[("key".to_owned(), "q".to_owned())]).as_deref(), Some("q"));
        let scope = "Credential=AKID/20261121/us-west-2/bedrock/aws4_request, SignedHeaders=host;x-amz-date";
        let signed = format!("AWS4-HMAC-SHA256 {scope}, Signature={}", "0f".repeat(32));
        assert_eq!(sent(&signed).as_deref(), Some("AKID"));
        assert_eq!(sent(&signed.replace("bedrock", "s3")), None);
        assert_eq!(sent(&signed.replace("0f0f", "0f")), None);
        let basic = "auth = [{ basic = true, and = ['x-api-key'] }]";
        let text = ("authorization", "Basic dTpw".to_owned());
        assert_eq!(account_of(basic, std::slice::from_ref(&text), &[]), None);
        let both = account_of(basic, &[text, ("x-api-key", "id".to_owned())], &[]);
        assert_eq!(both.as_deref(), Some("u:p"));
    }
}
