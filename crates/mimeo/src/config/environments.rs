//! Which accounts which keys may spend on.
//!
//! A key of an environment reaches only accounts that name that environment. A key of none reaches those that name
//! none, and those that name [`PRODUCTION`]. So an account that nobody thought of is closed to staging.

use std::collections::BTreeMap;

use super::Config;

/// The environment that keys without one are in, where an account names any.
pub const PRODUCTION: &str = "prod";

/// The environments of keys and accounts, by their names.
#[derive(Clone, Debug, Default)]
pub struct Environments {
    keys: BTreeMap<String, String>,
    accounts: BTreeMap<String, Vec<String>>,
}

impl Environments {
    /// Those that `config` names.
    pub fn of(config: &Config) -> Environments {
        let of_key = |(name, key): (&String, &super::Key)| Some((name.clone(), key.environment.clone()?));
        Environments {
            keys: config.keys.iter().filter_map(of_key).collect(),
            accounts: config.providers.iter().map(|(name, p)| (name.clone(), p.environments.clone())).collect(),
        }
    }

    /// Why the key called `key` may not spend on `account`, and what to do; `None` if it may. An account that is not
    /// configured names no environment.
    pub fn barred(&self, key: &str, account: &str) -> Option<String> {
        let served = self.accounts.get(account).map_or(&[] as &[String], Vec::as_slice);
        let own = self.keys.get(key);
        let is_open = match own {
            Some(own) => served.contains(own),
            None => served.is_empty() || served.iter().any(|served| served == PRODUCTION),
        };
        if is_open {
            return None;
        }
        let own = own.map_or(PRODUCTION, String::as_str);
        let served = if served.is_empty() { "none".to_owned() } else { format!("`{}`", served.join("`, `")) };
        Some(format!(
            "the key `{key}` is of the environment `{own}`, and the account `{account}` names {served}; add it to \
             providers.{account}.environments if it may spend there"
        ))
    }
}

/// What is wrong with the names of environments: section, entry and what to do.
pub(super) fn faults(config: &Config) -> Vec<(&'static str, String, String)> {
    let is_name = |name: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !name.is_empty() && name.len() <= 64 && name.bytes().all(is_plain)
    };
    let keys = config.keys.iter().flat_map(|(name, key)| key.environment.iter().map(move |e| ("keys", name, e)));
    let accounts =
        config.providers.iter().flat_map(|(name, p)| p.environments.iter().map(move |e| ("providers", name, e)));
    keys.chain(accounts)
        .filter(|(.., environment)| !is_name(environment))
        .map(|(section, name, environment)| {
            (section, name.clone(), format!("`{environment}` is no environment: write letters, digits, - and _"))
        })
        .collect()
}

/// What is not wrong and probably not meant: keys that can reach no account.
pub fn warnings(config: &Config) -> Vec<String> {
    let is_served = |environment: &String| config.providers.values().any(|p| p.environments.contains(environment));
    let lost = config.keys.iter().filter_map(|(name, key)| Some((name, key.environment.as_ref()?)));
    lost.filter(|(_, environment)| !is_served(environment))
        .map(|(name, environment)| {
            format!(
                "keys.{name}: no account names the environment `{environment}`, so this key gets only templates and \
                 what is stored. Name it in providers.NAME.environments"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    const TOWN: &str = "[providers.paid]\nenvironments = ['prod']\n[providers.toy]\nenvironments = ['staging', 'dev']\n\
                        [providers.plain]\n[keys.web]\nhash = ''\n[keys.ci]\nhash = ''\nenvironment = 'staging'\n\
                        [keys.live]\nhash = ''\nenvironment = 'prod'\n";

    #[test]
    fn doors_are_closed_unless_they_are_named() {
        let town = Environments::of(&config(TOWN));
        let open =
            |key: &str| ["paid", "toy", "plain", "unheard-of"].map(|account| town.barred(key, account).is_none());
        assert_eq!(open("web"), [true, false, true, true]);
        assert_eq!(open("local"), [true, false, true, true], "who has no key is in production");
        assert_eq!(open("ci"), [false, true, false, false]);
        assert_eq!(open("live"), [true, false, false, false], "who names an environment reaches what names it");
        let why = town.barred("ci", "paid").unwrap();
        assert!(why.contains("`ci`") && why.contains("`staging`") && why.contains("providers.paid.environments"));
    }

    #[test]
    fn names_that_lead_nowhere_are_told() {
        assert_eq!(warnings(&config(TOWN)), [] as [&str; 0]);
        let lost = warnings(&config("[keys.ci]\nhash = ''\nenvironment = 'stagign'\n"));
        assert!(lost[0].starts_with("keys.ci: ") && lost[0].contains("`stagign`"), "{lost:?}");
        let faults = Config::parse("[providers.sandbox]\nenvironments = ['a b']\n", Path::new("x.toml")).unwrap_err();
        assert_eq!(faults[0].line, Some(1));
        assert!(faults[0].message.contains("`a b` is no environment"), "{}", faults[0]);
    }
}
