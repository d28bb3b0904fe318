//! Patterns: of paths, of names, and pointers into JSON.

use std::collections::BTreeMap;

use serde_json::Value;

/// Whether a text fits a pattern in which `*` stands for anything.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| fits(tail, rest.get(at..).unwrap_or("")))
        }),
    }
}

/// What a path captured.
pub(super) type Captures = BTreeMap<String, String>;

/// Takes a path apart by a pattern such as `/v1/{model}/x`; `{model*}` takes one or several segments. Captured
/// segments are percent-decoded.
pub(super) fn capture(pattern: &str, path: &str) -> Option<Captures> {
    let segments = |text: &'_ str| -> Vec<String> { text.trim_matches('/').split('/').map(str::to_owned).collect() };
    let mut captures = Captures::new();
    walk(&segments(pattern), &segments(path), &mut captures).then_some(captures)
}

fn walk(pattern: &[String], path: &[String], captures: &mut Captures) -> bool {
    let Some((first, patterns)) = pattern.split_first() else {
        return path.is_empty();
    };
    if let Some(name) = first.strip_prefix('{').and_then(|rest| rest.strip_suffix("*}")) {
        return (1..=path.len()).any(|taken| {
            let (mine, rest) = path.split_at(taken);
            let fits = walk(patterns, rest, captures);
            if fits {
                captures.insert(name.to_owned(), decode(&mine.join("/")));
            }
            fits
        });
    }
    let Some((segment, rest)) = path.split_first() else {
        return false;
    };
    match (first.find('{'), first.rfind('}')) {
        (Some(open), Some(close)) if open < close => {
            let (head, tail) = (first.get(..open).unwrap_or(""), first.get(close + 1..).unwrap_or(""));
            let inside = segment.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
            let Some(inside) = inside.filter(|inside| !inside.is_empty()) else {
                return false;
            };
            let fits = walk(patterns, rest, captures);
            if fits {
                captures.insert(first.get(open + 1..close).unwrap_or("").to_owned(), decode(inside));
            }
            fits
        }
        _ => decode(segment) == decode(first) && walk(patterns, rest, captures),
    }
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Everything that a pointer finds: `a/*/b`, where `*` stands for any key or index and may stand inside a name.
pub(super) fn find<'a>(value: &'a Value, pointer: &str) -> Vec<&'a Value> {
    let mut found = vec![value];
    for name in pointer.split('/') {
        found = found.into_iter().flat_map(|value| children(value, name)).collect();
    }
    found.retain(|value| !value.is_null());
    found
}

/// The text, or the number as text, that a pointer finds first.
pub(super) fn text(value: &Value, pointer: &str) -> Option<String> {
    find(value, pointer).into_iter().find_map(|value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    })
}

fn children<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(map) => map.iter().filter(|(key, _)| fits(name, key)).map(|(_, value)| value).collect(),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.filter(|(index, _)| fits(name, &index.to_string())).map(|(_, value)| value).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_taken_apart() {
        let captured =
            |pattern, path| capture(pattern, path).map(|captures| captures.into_values().collect::<Vec<_>>());
        let one = |text: &str| Some(vec![text.to_owned()]);
        assert_eq!(captured("/v1/{model}", "/v1/flux"), one("flux"));
        assert_eq!(captured("/v1/{model}", "/v1/flux/two"), None);
        assert_eq!(captured("/m/{model}:draw", "/m/a%3A1:draw"), one("a:1"));
        assert_eq!(captured("/run/{model*}", "/run/@cf/vendor/flux"), one("@cf/vendor/flux"));
        let both = capture("/{model*}/requests/{job}/status", "/o/app/requests/7/status").unwrap();
        assert_eq!((both["model"].as_str(), both["job"].as_str()), ("o/app", "7"));
        assert_eq!(captured("/{model*}", "/"), one(""));
    }

    #[test]
    fn pointers_find_what_fits() {
        let body = json!({ "a": [{ "b": 1 }, { "b": null }, { "c": 2 }], "in_1": "x", "in_2": "y" });
        assert_eq!(find(&body, "a/*/b"), [&json!(1)]);
        assert_eq!(find(&body, "in_*"), [&json!("x"), &json!("y")]);
        assert_eq!(text(&body, "a/0/b").as_deref(), Some("1"));
        assert_eq!(find(&body, "a/9"), Vec::<&Value>::new());
    }
}
