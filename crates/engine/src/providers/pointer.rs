//! Places in JSON: see [`super::wiring`] for how they are written.

use serde_json::{Map, Value};

/// Every value at a place.
pub(super) fn all<'a>(value: &'a Value, place: &str) -> Vec<&'a Value> {
    let mut found = vec![value];
    for step in place.split('/').filter(|step| !step.is_empty()) {
        let mut next = Vec::new();
        for value in found {
            match (step, value) {
                ("*", Value::Array(list)) => next.extend(list),
                ("*", Value::Object(map)) => next.extend(map.values()),
                // Several answers wrap one object into a list.
                (_, Value::Array(list)) => {
                    next.extend(step.parse::<usize>().ok().and_then(|index| list.get(index)));
                }
                (_, Value::Object(map)) => next.extend(map.get(step)),
                _ => {}
            }
        }
        found = next;
    }
    found
}

/// The first value at a place that is not null.
pub(super) fn first<'a>(value: &'a Value, place: &str) -> Option<&'a Value> {
    all(value, place).into_iter().find(|value| !value.is_null())
}

/// The first text at a place that is not empty; numbers count as text.
pub(super) fn text(value: &Value, place: &str) -> Option<String> {
    all(value, place).into_iter().find_map(|value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// True if a value says yes: it is there, and neither null, false, zero nor empty.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Writes `value` at a place of `body`, with whatever is on the way to it. What stands in the way is replaced.
pub(super) fn put(body: &mut Map<String, Value>, place: &str, value: Value) {
    let (first, rest) = place.split_once('/').map_or((place, None), |(first, rest)| (first, Some(rest)));
    match rest {
        None => drop(body.insert(first.to_owned(), value)),
        Some(rest) => put_within(body.entry(first).or_insert(Value::Null), rest, value),
    }
}

fn put_within(at: &mut Value, place: &str, value: Value) {
    let (step, rest) = place.split_once('/').map_or((place, None), |(step, rest)| (step, Some(rest)));
    let into = |slot: &mut Value| match rest {
        None => *slot = value,
        Some(rest) => put_within(slot, rest, value),
    };
    let index = if step == "-" { Some(usize::MAX) } else { step.parse::<usize>().ok() };
    let Some(index) = index else {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        if let Value::Object(map) = at {
            into(map.entry(step).or_insert(Value::Null));
        }
        return;
    };
    if !at.is_array() {
        *at = Value::Array(Vec::new());
    }
    if let Value::Array(list) = at {
        // Never by leaps: a place that names the hundredth element of nothing is a mistake of a record.
        if index >= list.len() {
            list.push(Value::Null);
        }
        let last = list.len().saturating_sub(1);
        if let Some(slot) = list.get_mut(index.min(last)) {
            into(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_read() {
        let answer = json!({"images": [{"url": "a"}, {"url": "b"}, {"no": 1}], "n": 3, "empty": ["", null, "x"]});
        let texts = |place| all(&answer, place).into_iter().filter_map(Value::as_str).collect::<Vec<_>>();
        assert_eq!(texts("images/*/url"), ["a", "b"]);
        assert_eq!(texts("images/1/url"), ["b"]);
        assert_eq!(texts("images/7/url"), Vec::<&str>::new());
        assert_eq!(texts("nothing/here"), Vec::<&str>::new());
        assert_eq!(text(&answer, "n").as_deref(), Some("3"));
        assert_eq!(text(&answer, "empty/*").as_deref(), Some("x"));
        assert_eq!(first(&json!([{"error": 1}]), "*/error"), Some(&json!(1)));
    }

    #[test]
    fn what_is_written() {
        let mut body = Map::new();
        put(&mut body, "prompt", json!("kite"));
        put(&mut body, "input/width", json!(64));
        put(&mut body, "input/height", json!(32));
        put(&mut body, "contents/0/parts/-/text", json!("a"));
        put(&mut body, "contents/0/parts/-/data/mime", json!("b"));
        put(&mut body, "contents/0/parts/1/data/bytes", json!("c"));
        put(&mut body, "seeds/0", json!(7));
        let wanted = json!({
            "prompt": "kite", "input": {"width": 64, "height": 32}, "seeds": [7],
            "contents": [{"parts": [{"text": "a"}, {"data": {"mime": "b", "bytes": "c"}}]}],
        });
        assert_eq!(Value::Object(body), wanted);
    }
}
