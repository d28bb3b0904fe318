//! What keeps a provider of the catalogue from being there: what its operator has to say or to set.

use std::fmt;

use super::auth::Scheme;
use super::record::Record;
use crate::secret::Environment;

/// One thing that an operator has to say before a provider can be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Its secret.
    Key {
        /// The environment variable that is looked for.
        variable: Option<String>,
        /// True if it can be called without one, and so needs no more than to be configured.
        is_optional: bool,
    },
    /// Where it is.
    Address,
    /// What its record leaves open.
    Var {
        /// Its name in `vars`.
        name: String,
        /// What it is.
        about: String,
        /// The environment variable that is looked for.
        variable: Option<String>,
    },
}

impl fmt::Display for Need {
    /// What to do about it, short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Key { variable: Some(variable), is_optional: false } => write!(f, "set {variable}"),
            Need::Key { variable: Some(variable), is_optional: true } => write!(f, "set {variable}, or configure it"),
            Need::Key { variable: None, .. } => f.write_str("say api_key"),
            Need::Address => f.write_str("say base_url"),
            Need::Var { name, variable: Some(variable), .. } => write!(f, "set {variable}, or say vars.{name}"),
            Need::Var { name, variable: None, .. } => write!(f, "say vars.{name}"),
        }
    }
}

impl Record {
    /// What is missing in `environment` for the provider to be there without any configuration; empty if it is.
    pub fn needs(&self, environment: &Environment) -> Vec<Need> {
        if !self.shape.is_remote() {
            return Vec::new();
        }
        let is_set = |variable: &Option<String>| variable.as_ref().is_some_and(|name| environment.get(name).is_some());
        let mut needs = Vec::new();
        let has_key = match (&self.auth.env, self.auth.scheme) {
            (_, Scheme::None) => true,
            (None, _) => self.auth.optional,
            (variable, _) => is_set(variable),
        };
        if !has_key {
            needs.push(Need::Key { variable: self.auth.env.clone(), is_optional: self.auth.optional });
        }
        if self.base_url.is_none() {
            needs.push(Need::Address);
        }
        for (name, var) in self.vars.iter().filter(|(_, var)| var.default.is_none() && !is_set(&var.env)) {
            needs.push(Need::Var { name: name.clone(), about: var.about.clone(), variable: var.env.clone() });
        }
        needs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::Catalogue;

    #[test]
    fn what_is_missing_is_what_to_do() {
        let text = "name = 'x'\ntitle = 'X'\nshape = 'exchange'\n[vars]\nregion = { default = 'eu' }\n\
                    account = { env = 'X_ACCOUNT', about = 'the account' }\n[auth]\nscheme = 'bearer'\nenv = 'X_KEY'\n\
                    [wire]\ngenerate = '/{account}/{region}'\n[fields]\nprompt = 'p'\n[[models]]\nid = 'm'\n";
        let record = Record::parse(text, "x.toml").unwrap();
        let told = |variables: &[(&str, &str)]| {
            let environment: Environment =
                variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            record.needs(&environment).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(&[]), ["set X_KEY", "say base_url", "set X_ACCOUNT, or say vars.account"]);
        assert_eq!(told(&[("X_KEY", "k"), ("X_ACCOUNT", "a")]), ["say base_url"]);
    }

    #[test]
    fn what_is_embedded_says_what_it_needs() {
        let catalogue = Catalogue::embedded();
        let needs = |name: &str| catalogue.record(name).unwrap().needs(&Environment::default());
        assert_eq!(needs("template"), []);
        assert_eq!(needs("openai").iter().map(ToString::to_string).collect::<Vec<_>>(), ["set OPENAI_API_KEY"]);
        assert_eq!(needs("sandbox"), [Need::Address]);
    }
}
