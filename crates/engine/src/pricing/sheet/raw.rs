//! JSON whose numbers keep their digits. Parsed one level at a time, and only where somebody looks.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// A part of a JSON text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a>(&'a RawValue);

impl<'a> Node<'a> {
    /// The whole of a text.
    pub(super) fn of(text: &'a str) -> Result<Node<'a>, String> {
        serde_json::from_str(text).map(Node).map_err(|error| format!("it is no JSON: {error}"))
    }

    /// The entries of an object, by name; `None` if it is none.
    pub(super) fn entries(self) -> Option<BTreeMap<String, Node<'a>>> {
        let entries: BTreeMap<String, &RawValue> = serde_json::from_str(self.0.get()).ok()?;
        Some(entries.into_iter().map(|(name, raw)| (name, Node(raw))).collect())
    }

    /// The elements of a list; `None` if it is none.
    pub(super) fn elements(self) -> Option<Vec<Node<'a>>> {
        let elements: Vec<&RawValue> = serde_json::from_str(self.0.get()).ok()?;
        Some(elements.into_iter().map(Node).collect())
    }

    /// A text, or a number as it is written; `None` for anything else.
    pub(super) fn text(self) -> Option<String> {
        let raw = self.0.get();
        match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw).ok(),
            Some(b'-' | b'0'..=b'9') => Some(raw.to_owned()),
            _ => None,
        }
    }

    /// What stands under `name`.
    pub(super) fn get(self, name: &str) -> Option<Node<'a>> {
        self.entries()?.remove(name)
    }

    /// What a path leads to: names and numbers of elements with dots or, after a slash at its beginning, with slashes
    /// between them. The empty path is the node itself.
    pub(super) fn at(self, path: &str) -> Option<Node<'a>> {
        let (path, between) = path.strip_prefix('/').map_or((path, '.'), |path| (path, '/'));
        path.split(between).filter(|step| !step.is_empty()).try_fold(self, |node, step| match node.elements() {
            Some(elements) => elements.get(step.parse::<usize>().ok()?).copied(),
            None => node.get(step),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_kept() {
        let node =
            Node::of(r#"{ "a": [{ "b": 0.10000000000000000001, "c": "x\"y", "d": null }], "e": -1E-7 }"#).unwrap();
        assert_eq!(node.at("a.0.b").and_then(Node::text).as_deref(), Some("0.10000000000000000001"));
        assert_eq!(node.at("/a/0/c").and_then(Node::text).as_deref(), Some("x\"y"));
        assert_eq!(node.at("e").and_then(Node::text).as_deref(), Some("-1E-7"));
        assert!(node.at("a.0.d").unwrap().text().is_none());
        assert!(node.at("a.1").is_none() && node.at("a.b").is_none() && node.at("e.x").is_none());
        assert!(node.at("").unwrap().entries().is_some());
        assert!(Node::of("{").is_err());
    }
}
