//! Secrets: where they come from, and a type that cannot print them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

/// A secret. Neither `Debug` nor `Display` nor serialisation reveals it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Secret(secret.into())
    }

    /// The secret itself, to be put on the wire and nowhere else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is found. It is never written in the configuration itself.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "lowercase")]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; white space at its ends is dropped.
    File(PathBuf),
}

impl<'de> Deserialize<'de> for SecretRef {
    /// By hand, because a derived one repeats in its message what it finds, and that may be the secret.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Place)
    }
}

struct Place;

const NOT_HERE: &str = "a secret is not written here; say { env = \"NAME\" } or { file = \"PATH\" }";

impl<'de> Visitor<'de> for Place {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ env = \"NAME\" } or { file = \"PATH\" }")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretRef, E> {
        Err(E::custom(NOT_HERE))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretRef, E> {
        Err(E::custom(NOT_HERE))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        let place = match map.next_key::<String>()?.as_deref() {
            Some("env") => SecretRef::Env(map.next_value()?),
            Some("file") => SecretRef::File(map.next_value()?),
            _ => return Err(de::Error::custom(NOT_HERE)),
        };
        if let SecretRef::Env(name) = &place
            && !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(de::Error::custom(
                "env names a variable, such as OPENAI_API_KEY; it does not hold the secret itself",
            ));
        }
        match map.next_key::<String>()? {
            None => Ok(place),
            Some(_) => Err(de::Error::custom("one place is enough: either env or file")),
        }
    }
}

/// A text that may hold a secret, such as an address with a password: written here if it holds none, or
/// in one of the places where secrets are.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum TextRef {
    /// The text itself. Its type keeps it from being printed, in case it does hold a secret.
    Here(#[schemars(with = "String")] Secret),
    /// Where it is found.
    Elsewhere(SecretRef),
}

impl<'de> Deserialize<'de> for TextRef {
    /// By hand, for the same reason as [`SecretRef`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrPlace)
    }
}

struct TextOrPlace;

impl<'de> Visitor<'de> for TextOrPlace {
    type Value = TextRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, { env = \"NAME\" } or { file = \"PATH\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TextRef, E> {
        Ok(TextRef::Here(Secret::new(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TextRef, A::Error> {
        Place.visit_map(map).map(TextRef::Elsewhere)
    }
}

impl TextRef {
    /// The text, fetched from wherever it is.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn resolve(&self, environment: &Environment) -> Result<Secret, String> {
        match self {
            TextRef::Here(text) => Ok(text.clone()),
            TextRef::Elsewhere(place) => place.resolve(environment),
        }
    }
}

impl SecretRef {
    /// Fetches the secret.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn resolve(&self, environment: &Environment) -> Result<Secret, String> {
        let secret = match self {
            SecretRef::Env(name) => environment
                .get(name)
                .map(str::to_owned)
                .ok_or_else(|| format!("the environment variable {name} is not set"))?,
            SecretRef::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?,
        };
        let secret = secret.trim();
        if secret.is_empty() {
            return Err(match self {
                SecretRef::Env(name) => format!("the environment variable {name} is empty"),
                SecretRef::File(path) => format!("the file {} is empty", path.display()),
            });
        }
        Ok(Secret::new(secret))
    }
}

/// The environment variables, read once at start. Nothing else in the program reads them.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        Environment(std::env::vars().collect())
    }

    /// The value of a variable, unless it is unset or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables whose names begin with `prefix`, for a library that has many settings of its own.
    pub fn beginning_with(&self, prefix: &str) -> Environment {
        self.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    /// All variables that are not empty, by their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).filter(|(_, value)| !value.is_empty())
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Environment(variables.into_iter().collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SecretRef, String> {
        #[derive(serde::Deserialize, Debug)]
        struct Settings {
            api_key: SecretRef,
        }
        toml::from_str::<Settings>(text).map(|settings| settings.api_key).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn places() {
        assert!(matches!(read("api_key = { env = 'A_1' }"), Ok(SecretRef::Env(name)) if name == "A_1"));
        assert!(matches!(read("[api_key]\nfile = '/run/x'"), Ok(SecretRef::File(path)) if path.ends_with("x")));
    }

    #[test]
    fn a_misplaced_secret_is_not_repeated() {
        for text in
            ["'sk-1x7'", "17", "{ env = 'sk-1x7' }", "{ key = 'sk-1x7' }", "{}", "{ env = 'A', file = 'sk-1x7' }"]
        {
            let message = read(&format!("api_key = {text}")).unwrap_err();
            assert!(!message.contains("1x7") && !message.contains("17"), "{message}");
        }
    }

    #[test]
    fn a_text_is_here_or_elsewhere_and_never_printed() {
        #[derive(serde::Deserialize, Debug)]
        struct Settings {
            url: TextRef,
        }
        let environment: Environment = [("URL".to_owned(), "redis://:1x7@b".to_owned())].into_iter().collect();
        for (text, expected) in
            [("url = 'redis://:1x7@a'", "redis://:1x7@a"), ("url = { env = 'URL' }", "redis://:1x7@b")]
        {
            let settings: Settings = toml::from_str(text).unwrap();
            assert_eq!(settings.url.resolve(&environment).unwrap().reveal(), expected);
            assert!(!format!("{settings:?}").contains("1x7"));
        }
        for text in ["url = { env = ':1x7@' }", "url = { is = '1x7' }", "url = 17", "url = ['1x7']"] {
            let message = toml::from_str::<Settings>(text).unwrap_err().message().to_owned();
            assert!(!message.contains("1x7"), "{message}");
        }
    }
}
