//! What an operator fills into a record's addresses, paths and headers: an account, a region, a client.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::near::near;
use crate::secret::{Environment, TextRef};

/// One thing that a record leaves open, as `{name}` in its texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Var {
    /// What it is, for messages: `the account's id`.
    pub about: String,
    /// The environment variable that it is looked for in where the configuration does not say it.
    pub env: Option<String>,
    /// What it is where nobody says it. Empty: it may be left out.
    pub default: Option<String>,
}

/// What stays as it is in an address.
const ADDRESS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// The values of `vars`: from the configuration, else from the environment, else the default.
///
/// # Errors
/// A sentence that names all that are missing, or one that nobody knows.
pub fn resolve(
    vars: &BTreeMap<String, Var>,
    given: &BTreeMap<String, TextRef>,
    environment: &Environment,
) -> Result<BTreeMap<String, String>, String> {
    if let Some(stranger) = given.keys().find(|name| !vars.contains_key(*name)) {
        let close = near(stranger, vars.keys().map(String::as_str)).join(" or ");
        return Err(match (vars.is_empty(), close.is_empty()) {
            (true, _) => format!("vars names {stranger}, but its record has no vars; leave it out"),
            (_, true) => format!("vars names {stranger}; its record knows {}", join(vars.keys())),
            (_, false) => format!("vars names {stranger}; did you mean {close}?"),
        });
    }
    let mut values = BTreeMap::new();
    let mut missing = Vec::new();
    for (name, var) in vars {
        let value = match given.get(name) {
            Some(text) => {
                Some(text.resolve(environment).map_err(|why| format!("vars.{name}: {why}"))?.reveal().to_owned())
            }
            None => {
                var.env.as_deref().and_then(|env| environment.get(env)).or(var.default.as_deref()).map(str::to_owned)
            }
        };
        match value.as_deref().map(str::trim) {
            None => missing.push(missed(name, var)),
            // What is wrong with it is said without it: some are half a secret.
            Some(value) if !value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err(format!("vars.{name} has spaces or characters that no such value has"));
            }
            Some(value) => {
                values.insert(name.clone(), value.to_owned());
            }
        }
    }
    if missing.is_empty() { Ok(values) } else { Err(format!("it needs {}", missing.join("; and "))) }
}

fn missed(name: &str, var: &Var) -> String {
    let about = if var.about.is_empty() { String::new() } else { format!(" ({})", var.about) };
    let env = var.env.as_ref().map_or_else(String::new, |env| format!(", or set {env}"));
    format!("{name}{about}: say vars = {{ {name} = \"…\" }}{env}")
}

fn join<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// `text` with each `{name}` of `values` filled in as it is. What has no value stays: a path also holds
/// `{model}` and the like.
pub fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    filled(text, |name| values.get(name).cloned())
}

/// As [`expand`], for an address or a path: a value cannot become a separator in it.
pub fn expand_address(text: &str, values: &BTreeMap<String, String>) -> String {
    filled(text, |name| values.get(name).map(|value| utf8_percent_encode(value, ADDRESS).to_string()))
}

fn filled(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, name, after)) = next(rest) {
        out.push_str(before);
        match value(name) {
            Some(value) => out.push_str(&value),
            None => out.extend(["{", name, "}"]),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The names of the placeholders in `text`, in their order.
pub fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, name, after) = next(rest)?;
        rest = after;
        Some(name)
    })
}

/// The first placeholder: what is before it, its name, what is after it.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.match_indices('{').find_map(|(open, _)| {
        let (name, after) = text.get(open + 1..)?.split_once('}')?;
        is_name(name).then(|| (text.get(..open).unwrap_or_default(), name, after))
    })
}

/// The first placeholder of `texts` that is neither in `vars` nor in `known`, as the fault of a record.
pub(super) fn stranger<'a>(
    vars: &BTreeMap<String, Var>,
    known: &[&str],
    mut texts: impl Iterator<Item = &'a str>,
) -> Option<String> {
    texts.find_map(|text| {
        let name = placeholders(text).find(|name| !vars.contains_key(*name) && !known.contains(name))?;
        Some(format!("\"{text}\": nobody knows what {{{name}}} is; add it to [vars]"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars() -> BTreeMap<String, Var> {
        toml::from_str(
            "account = { env = 'X_ACCOUNT', about = 'the account\\'s id' }\nregion = { default = 'eu' }\n\
             client = {}\nsession = { env = 'X_SESSION', default = '' }"
                .replace("\\'", "’")
                .as_str(),
        )
        .unwrap()
    }

    fn resolved(given: &str, environment: &[(&str, &str)]) -> Result<BTreeMap<String, String>, String> {
        let given: BTreeMap<String, TextRef> = toml::from_str(given).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        resolve(&vars(), &given, &environment)
    }

    #[test]
    fn the_configuration_goes_before_the_environment_and_that_before_the_default() {
        let environment = [("X_ACCOUNT", "from-env"), ("ELSEWHERE", "there")];
        let values = resolved("client = { env = 'ELSEWHERE' }\nregion = 'us'", &environment).unwrap();
        let expected = [("account", "from-env"), ("client", "there"), ("region", "us"), ("session", "")];
        assert_eq!(values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
        let values = resolved("client = 'c'\naccount = 'here'", &environment).unwrap();
        assert_eq!((values["account"].as_str(), values["region"].as_str()), ("here", "eu"));
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let message = resolved("", &[]).unwrap_err();
        for said in ["account (the account’s id)", "vars = { account = ", "X_ACCOUNT", "vars = { client = "] {
            assert!(message.contains(said), "{message}");
        }
        assert!(!message.contains("region") && !message.contains("session"), "{message}");
        assert!(resolved("acount = 'x'", &[]).unwrap_err().contains("did you mean account?"));
        assert!(resolved("zzzzzzzzz = 'x'", &[]).unwrap_err().contains("its record knows account, client"));
        let spaced = resolved("client = 'very secret'\naccount = 'a'", &[]).unwrap_err();
        assert!(spaced.contains("vars.client") && !spaced.contains("secret"), "{spaced}");
    }

    #[test]
    fn placeholders_are_filled_and_others_stay() {
        let values: BTreeMap<String, String> =
            [("account".to_owned(), "a/b?c@d".to_owned()), ("port".to_owned(), "h:1".to_owned())].into();
        assert_eq!(expand("{account} {model} {} {Odd} {", &values), "a/b?c@d {model} {} {Odd} {");
        assert_eq!(expand_address("/x/{account}/{model}", &values), "/x/a%2Fb%3Fc%40d/{model}");
        assert_eq!(expand_address("http://{port}/{{port}}", &values), "http://h:1/{h:1}");
        assert_eq!(placeholders("{{a}}/{b}{}{c").collect::<Vec<_>>(), ["a", "b"]);
        let strange = stranger(&vars(), &["model"], ["/{model}/{account}", "/{modle}"].into_iter()).unwrap();
        assert!(strange.contains("{modle}"), "{strange}");
        assert_eq!(stranger(&vars(), &["model"], ["/{model}/{account}"].into_iter()), None);
    }
}
