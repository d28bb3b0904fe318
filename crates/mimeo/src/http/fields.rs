//! The fields of a request, from JSON or from a form, and what each must be. A fault names the field,
//! what is expected there, and what was found.
//!
//! Fields are *taken*: what nobody took is unknown, and somebody has to answer for it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, Kind, Result};

/// A field as it was sent.
#[derive(Clone, Debug)]
pub enum Sent<'a> {
    /// JSON, still as text: numbers are read from it exactly, not through a float.
    Json(&'a RawValue),
    /// The text of a form's field, where numbers, booleans and objects are texts, too.
    Text(&'a str),
    /// A form's fields `name[a]`, `name[b]`.
    Nested(BTreeMap<String, Sent<'a>>),
}

/// The fields of an object that nobody has taken yet.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a> {
    /// Where this object is, such as `cache.`; empty for the body itself.
    path: String,
    left: BTreeMap<String, Sent<'a>>,
}

impl<'a> Fields<'a> {
    /// The fields of a JSON body.
    ///
    /// # Errors
    /// No JSON (with line and column), no object, or a field twice.
    pub fn from_json(body: &'a [u8]) -> Result<Self> {
        let members: Members<'a> = serde_json::from_slice(body).map_err(|cause| {
            let message = if body.trim_ascii().is_empty() {
                "The request body is empty; a JSON object is expected.".to_owned()
            } else {
                // serde_json's text ends with "at line L column C".
                format!("The request body is not a valid JSON object: {cause}.")
            };
            Error::new(Kind::BadRequest, message).code("invalid_json")
        })?;
        Fields::of_members(String::new(), members)
    }

    /// The text fields of a form. `name[a][b]` become nested objects, as SDKs write them.
    ///
    /// # Errors
    /// A field twice.
    pub fn from_form(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut fields = Fields::default();
        for (name, text) in texts {
            let mut parts = name.split('[');
            let first = parts.next().unwrap_or_default();
            let inner: Option<Vec<&str>> = parts.map(|part| part.strip_suffix(']')).collect();
            let placed = match inner.as_deref() {
                // Deeper than any field goes, the name is taken as it is: nesting is recursion.
                None | Some([] | [_, _, _, _, _, _, _, _, ..]) => {
                    fields.left.insert(name.to_owned(), Sent::Text(text)).is_none()
                }
                Some(inner) => nest(&mut fields.left, first, inner, text),
            };
            if !placed {
                return Err(twice(name));
            }
        }
        Ok(fields)
    }

    fn of_members(path: String, members: Members<'a>) -> Result<Self> {
        let mut left = BTreeMap::new();
        for (name, value) in members.0 {
            if left.contains_key(&name) {
                return Err(twice(&format!("{path}{name}")));
            }
            left.insert(name, Sent::Json(value));
        }
        Ok(Fields { path, left })
    }

    /// The full name of a field, for messages.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// True if the field was sent and is not null. Leaves it where it is.
    pub fn has(&self, name: &str) -> bool {
        self.left.get(name).is_some_and(|sent| !is_null(sent))
    }

    /// The field as it was sent. Null is as good as absent.
    pub fn take(&mut self, name: &str) -> Option<Sent<'a>> {
        self.left.remove(name).filter(|sent| !is_null(sent))
    }

    /// A string, which may be empty.
    ///
    /// # Errors
    /// It is something else.
    pub fn string(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(sent) => string(&sent).map(Some).ok_or_else(|| self.expected(name, "a string", &sent)),
        }
    }

    /// A short string that is a name of something: not empty, one line, at most `longest` characters.
    /// In a form, an empty field is an absent one.
    ///
    /// # Errors
    /// It is something else.
    pub fn label(&mut self, name: &str, longest: usize) -> Result<Option<String>> {
        let Some(sent) = self.take(name) else { return Ok(None) };
        if matches!(sent, Sent::Text("")) {
            return Ok(None);
        }
        let text = string(&sent).ok_or_else(|| self.expected(name, "a string", &sent))?;
        let path = self.path(name);
        if text.trim().is_empty() {
            Err(Error::bad(&path, format!("Invalid '{path}': it must not be empty. Leave it out instead.")))
        } else if text.chars().count() > longest || text.chars().any(char::is_control) {
            Err(Error::bad(&path, format!("Invalid '{path}': expected at most {longest} characters in one line.")))
        } else {
            Ok(Some(text))
        }
    }

    /// One of a few words.
    ///
    /// # Errors
    /// It is none of them.
    pub fn one_of(&mut self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>> {
        let Some(text) = self.label(name, 1000)? else { return Ok(None) };
        words.iter().copied().find(|word| *word == text).map(Some).ok_or_else(|| {
            let path = self.path(name);
            let shown: String = text.chars().take(40).collect();
            let expected = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
            Error::bad(&path, format!("Invalid value for '{path}': '{shown}'. Supported values are {expected}."))
        })
    }

    /// A list of at most `most` short strings that are names of something.
    ///
    /// # Errors
    /// It is something else.
    pub fn labels(&mut self, name: &str, most: usize, longest: usize) -> Result<Vec<String>> {
        let Some(sent) = self.take(name) else { return Ok(Vec::new()) };
        let path = self.path(name);
        let list: Option<Vec<String>> = match &sent {
            Sent::Json(raw) => serde_json::from_str(raw.get()).ok(),
            Sent::Text(text) => serde_json::from_str(text).ok(),
            Sent::Nested(_) => None,
        };
        let labels = list.ok_or_else(|| self.expected(name, "a list of strings", &sent))?;
        let is_label = |label: &String| {
            !label.trim().is_empty() && label.chars().count() <= longest && !label.chars().any(char::is_control)
        };
        if labels.len() > most || !labels.iter().all(is_label) {
            let message = format!("Invalid '{path}': expected at most {most} strings of 1 to {longest} characters.");
            return Err(Error::bad(&path, message));
        }
        Ok(labels)
    }

    /// A whole number in `range`. `4.0` is whole, too.
    ///
    /// # Errors
    /// It is something else, or out of range.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(sent) = self.take(name) else { return Ok(None) };
        let Some(number) = number(&sent) else {
            return if matches!(sent, Sent::Text("")) {
                Ok(None)
            } else {
                Err(self.expected(name, "an integer", &sent))
            };
        };
        let Some(digits) = plain_decimal(number).filter(|digits| !digits.contains('.')) else {
            return Err(self.expected(name, "an integer", &sent));
        };
        digits.parse::<u64>().ok().filter(|value| range.contains(value)).map(Some).ok_or_else(|| {
            let path = self.path(name);
            let (low, high) = (range.start(), range.end());
            Error::bad(&path, format!("Invalid '{path}': expected an integer from {low} to {high}, got {number}."))
        })
    }

    /// A boolean.
    ///
    /// # Errors
    /// It is something else.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>> {
        let Some(sent) = self.take(name) else { return Ok(None) };
        let text = match &sent {
            Sent::Json(raw) => raw.get(),
            Sent::Text(text) => text,
            Sent::Nested(_) => "",
        };
        match (text, &sent) {
            ("true", _) => Ok(Some(true)),
            ("false", _) => Ok(Some(false)),
            // A client that writes its language's own words into a form.
            ("True" | "1", Sent::Text(_)) => Ok(Some(true)),
            ("False" | "0", Sent::Text(_)) => Ok(Some(false)),
            ("", Sent::Text(_)) => Ok(None),
            _ => Err(self.expected(name, "a boolean", &sent)),
        }
    }

    /// A number as an exact decimal without an exponent: `7.50`, `1e-05` → `7.5`, `0.00001`. With
    /// `or_string`, JSON may also carry it as a string.
    ///
    /// # Errors
    /// It is something else.
    pub fn decimal(&mut self, name: &str, or_string: bool) -> Result<Option<String>> {
        let Some(sent) = self.take(name) else { return Ok(None) };
        let text = match (&sent, number(&sent)) {
            (_, Some(number)) => Some(number.to_owned()),
            (Sent::Text(""), _) => return Ok(None),
            (Sent::Json(_), None) if or_string => string(&sent),
            _ => None,
        };
        let expected = if or_string { "a decimal number or a string with one" } else { "a number" };
        text.as_deref().and_then(plain_decimal).map(Some).ok_or_else(|| self.expected(name, expected, &sent))
    }

    /// An object, to be taken apart in turn.
    ///
    /// # Errors
    /// It is something else.
    pub fn object(&mut self, name: &str) -> Result<Option<Fields<'a>>> {
        let Some(sent) = self.take(name) else { return Ok(None) };
        let path = format!("{}.", self.path(name));
        let json = match sent {
            Sent::Nested(left) => return Ok(Some(Fields { path, left })),
            Sent::Text("") => return Ok(None),
            Sent::Json(raw) => raw.get(),
            Sent::Text(text) => text,
        };
        match serde_json::from_str::<Members<'a>>(json) {
            Ok(members) => Fields::of_members(path, members).map(Some),
            Err(_) => Err(self.expected(name, "an object", &sent)),
        }
    }

    /// What is left, as it was sent.
    pub fn into_sent(self) -> impl Iterator<Item = (String, Sent<'a>)> {
        self.left.into_iter().filter(|(_, sent)| !is_null(sent))
    }

    /// What is left, as JSON, under its own names.
    ///
    /// # Errors
    /// A value that JSON's grammar allows and nobody can hold, such as nesting without end.
    pub fn rest(self) -> Result<BTreeMap<String, Value>> {
        let path = self.path.clone();
        self.into_sent()
            .map(|(name, sent)| match value(&sent) {
                Some(value) => Ok((name, value)),
                None => Err(Error::bad(
                    format!("{path}{name}"),
                    format!("Invalid '{path}{name}': its value cannot be read."),
                )),
            })
            .collect()
    }

    /// Ends an object that has no room for fields nobody knows.
    ///
    /// # Errors
    /// Something is left.
    pub fn finish(self) -> Result<()> {
        match self.left.into_keys().next() {
            None => Ok(()),
            Some(name) => {
                let path = format!("{}{name}", self.path);
                let message = format!("Unknown parameter: '{path}'.");
                Err(Error::bad(path, message).code("unknown_parameter"))
            }
        }
    }

    /// The field `name` is not what it should be.
    pub fn expected(&self, name: &str, expected: &str, sent: &Sent<'_>) -> Error {
        let path = self.path(name);
        let message = format!("Invalid type for '{path}': expected {expected}, but got {} instead.", kind_of(sent));
        Error::bad(path, message).code("invalid_type")
    }
}

/// Puts a form's `name[a][b]` where it belongs; false if there is something already.
fn nest<'a>(into: &mut BTreeMap<String, Sent<'a>>, name: &str, inner: &[&str], text: &'a str) -> bool {
    match inner {
        [] => into.insert(name.to_owned(), Sent::Text(text)).is_none(),
        [next, rest @ ..] => match into.entry(name.to_owned()).or_insert_with(|| Sent::Nested(BTreeMap::new())) {
            Sent::Nested(map) => nest(map, next, rest, text),
            Sent::Json(_) | Sent::Text(_) => false,
        },
    }
}

fn is_null(sent: &Sent<'_>) -> bool {
    matches!(sent, Sent::Json(raw) if raw.get() == "null")
}

/// The string, if it is one.
pub fn string(sent: &Sent<'_>) -> Option<String> {
    match sent {
        Sent::Json(raw) => serde_json::from_str(raw.get()).ok(),
        Sent::Text(text) => Some((*text).to_owned()),
        Sent::Nested(_) => None,
    }
}

/// The text of a number, if it is one.
fn number<'a>(sent: &Sent<'a>) -> Option<&'a str> {
    let text = match sent {
        Sent::Json(raw) => raw.get(),
        Sent::Text(text) => text.trim(),
        Sent::Nested(_) => return None,
    };
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then_some(text)
}

/// The value as JSON. A form's text is read as JSON where it is a number, a boolean, an object or a list.
fn value(sent: &Sent<'_>) -> Option<Value> {
    match sent {
        Sent::Json(raw) => serde_json::from_str(raw.get()).ok(),
        Sent::Text(text) => Some(match serde_json::from_str(text) {
            Ok(Value::String(_) | Value::Null) | Err(_) => Value::String((*text).to_owned()),
            Ok(value) => value,
        }),
        Sent::Nested(map) => {
            map.iter().map(|(name, sent)| Some((name.clone(), value(sent)?))).collect::<Option<_>>().map(Value::Object)
        }
    }
}

/// What was found, in words.
fn kind_of(sent: &Sent<'_>) -> &'static str {
    match sent {
        Sent::Text(_) => "other text",
        Sent::Nested(_) => "an object",
        Sent::Json(raw) => match raw.get().as_bytes().first() {
            // Half of a surrogate pair, as some languages' strings can hold it.
            Some(b'"') if string(sent).is_none() => "a string that is not Unicode",
            Some(b'"') => "a string",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ if raw.get().contains(['.', 'e', 'E']) => "a decimal number",
            _ => "an integer",
        },
    }
}

fn twice(path: &str) -> Error {
    Error::bad(path, format!("The field '{path}' is there twice.")).code("duplicate_parameter")
}

/// The same number without exponent, leading zeros and trailing zeros behind the point; `None` if it is
/// no number, or one that no price and no setting of a model could be.
pub fn plain_decimal(number: &str) -> Option<String> {
    let (sign, unsigned) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(part) || mantissa.ends_with('.') {
        return None;
    }
    // Bounds the string that an exponent can blow up to.
    if mantissa.len() > 60 || exponent.unsigned_abs() > 40 {
        return None;
    }
    let digits = format!("{whole}{part}");
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let (whole, part) = match usize::try_from(point) {
        Ok(point) if point >= digits.len() => (format!("{digits:0<point$}"), String::new()),
        Ok(point) => (digits[..point].to_owned(), digits[point..].to_owned()),
        Err(_) => (String::new(), format!("{}{digits}", "0".repeat(point.unsigned_abs() as usize))),
    };
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if whole == "0" && part.is_empty() { "" } else { sign };
    Some(if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") })
}

/// The members of a JSON object in their order, doubles included, values unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn json(body: &str) -> Fields<'_> {
        Fields::from_json(body.as_bytes()).unwrap()
    }

    proptest! {
        #[test]
        fn decimals_keep_their_value(whole in 0u64..1_000_000, part in "[0-9]{0,8}", exponent in -12i32..12) {
            let mantissa = if part.is_empty() { whole.to_string() } else { format!("{whole}.{part}") };
            let plain = plain_decimal(&format!("{mantissa}e{exponent}")).unwrap();
            let digits = format!("{whole}{part}").parse::<u128>().unwrap() * 10u128.pow((20 + exponent - part.len() as i32) as u32);
            let (w, p) = plain.split_once('.').unwrap_or((&plain, ""));
            prop_assert_eq!(format!("{w}{p:0<20}").parse::<u128>().unwrap(), digits);
        }

        #[test]
        fn no_number_panics(text in "[-+0-9.eE]{0,20}") {
            if let Some(plain) = plain_decimal(&text) {
                prop_assert_eq!(plain_decimal(&plain), Some(plain.clone()));
            }
        }

        #[test]
        fn no_form_panics(names in prop::collection::vec("[a-b\\[\\]]{0,8}", 0..6)) {
            let _ = Fields::from_form(names.iter().map(|name| (name.as_str(), "1"))).map(Fields::rest);
        }
    }

    #[test]
    fn exponents_are_exact() {
        for (text, plain) in [
            ("1e-05", "0.00001"),
            ("7.50", "7.5"),
            ("1.0", "1"),
            ("0.0", "0"),
            ("-0", "0"),
            ("12E2", "1200"),
            ("-1.5e0", "-1.5"),
            ("0.1", "0.1"),
            ("100", "100"),
        ] {
            assert_eq!(plain_decimal(text).as_deref(), Some(plain), "{text}");
        }
        for bad in ["", "-", "1.", ".5", "1e", "1e999999999", "0x1", "1 ", "1e1.5", "NaN"] {
            assert_eq!(plain_decimal(bad), None, "{bad}");
        }
    }

    #[test]
    fn wrong_types_are_named() {
        let message = |body: &str| json(body).integer("n", 1..=10).unwrap_err().message;
        assert_eq!(message(r#"{"n":"2"}"#), "Invalid type for 'n': expected an integer, but got a string instead.");
        assert!(message(r#"{"n":1.5}"#).contains("a decimal number"));
        assert!(message(r#"{"n":[1]}"#).contains("an array"));
        assert!(message(r#"{"n":11}"#).contains("from 1 to 10, got 11"));
        assert!(message(r#"{"n":-1}"#).contains("from 1 to 10"));
        assert_eq!(json(r#"{"n":4.0}"#).integer("n", 1..=10).unwrap(), Some(4));
        assert_eq!(json(r#"{"n":null}"#).integer("n", 1..=10).unwrap(), None);
        let error = json(r#"{"cache":{"ttl_s":true}}"#).object("cache").unwrap().unwrap().integer("ttl_s", 1..=2);
        assert_eq!(error.unwrap_err().param.as_deref(), Some("cache.ttl_s"));
    }

    #[test]
    fn broken_json_is_located() {
        let error = Fields::from_json(b"{\n \"prompt\": \"a\",,\n}").unwrap_err();
        assert!(error.message.contains("line 2 column"), "{}", error.message);
        assert!(Fields::from_json(b"[]").unwrap_err().message.contains("a JSON object"));
        assert!(Fields::from_json(b" ").unwrap_err().message.contains("empty"));
        assert!(Fields::from_json(b"{} {}").is_err());
        assert!(Fields::from_json(b"{\"a\":\"\xff\"}").is_err());
        assert_eq!(Fields::from_json(br#"{"n":1,"n":2}"#).unwrap_err().param.as_deref(), Some("n"));
    }

    #[test]
    fn forms_carry_typed_texts() {
        let mut form = Fields::from_form([
            ("n", "2"),
            ("stream", "true"),
            ("max", "0.10"),
            ("cache", r#"{"mode":"no-store"}"#),
            ("quality", ""),
            ("metadata[a]", "1"),
            ("metadata[b]", "x"),
            ("extra", "3"),
            ("word", "three"),
            ("deep[a][b]", "[1]"),
        ])
        .unwrap();
        assert_eq!(form.integer("n", 1..=10).unwrap(), Some(2));
        assert_eq!(form.boolean("stream").unwrap(), Some(true));
        assert_eq!(form.decimal("max", true).unwrap().as_deref(), Some("0.1"));
        assert_eq!(form.label("quality", 9).unwrap(), None);
        let mut cache = form.object("cache").unwrap().unwrap();
        assert_eq!(cache.one_of("mode", &["no-store"]).unwrap(), Some("no-store"));
        cache.finish().unwrap();
        let mut metadata = form.object("metadata").unwrap().unwrap();
        assert_eq!(metadata.string("a").unwrap().as_deref(), Some("1"));
        assert_eq!(metadata.finish().unwrap_err().param.as_deref(), Some("metadata.b"));
        let rest = form.rest().unwrap();
        assert_eq!(json!(rest), json!({"deep": {"a": {"b": [1]}}, "extra": 3, "word": "three"}));
        assert!(Fields::from_form([("a", "1"), ("a", "2")]).is_err());
        assert!(Fields::from_form([("a", "1"), ("a[b]", "2")]).is_err());
    }
}
