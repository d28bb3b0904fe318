//! What a parsed configuration must satisfy beyond its grammar.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Config, Environment, Timeouts};

/// One fault of the configuration: where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The file.
    pub file: PathBuf,
    /// Line, counted from 1, where it can be told.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.message),
            None => write!(f, "{}: {}", self.file.display(), self.message),
        }
    }
}

impl ConfigFault {
    /// A fault of a file as a whole.
    pub fn file(file: &Path, message: impl Into<String>) -> Self {
        ConfigFault { file: file.to_owned(), line: None, message: message.into() }
    }

    /// The same, with the line of the entry that its message begins with.
    #[must_use]
    pub fn located(mut self, text: &str) -> Self {
        if self.line.is_none()
            && let Some((entry, _)) = self.message.split_once(": ")
        {
            let (section, name) = entry.split_once('.').map_or((entry, None), |(section, name)| (section, Some(name)));
            self.line = line_of_entry(text, section, name);
        }
        self
    }

    /// A fault that the parser found.
    pub fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map(|span| line_of_offset(text, span.start));
        ConfigFault { file: file.to_owned(), line, message: in_plain_words(&error.message().replace('\n', "; ")) }
    }

    /// A fault of the entry `[section.name]` (or `[section]`).
    pub fn entry(file: &Path, text: &str, section: &str, name: Option<&str>, message: impl Into<String>) -> Self {
        ConfigFault {
            file: file.to_owned(),
            line: line_of_entry(text, section, name),
            message: match name {
                Some(name) => format!("{section}.{name}: {}", message.into()),
                None => format!("{section}: {}", message.into()),
            },
        }
    }
}

/// What the parser says, without the words of the program for what was expected.
fn in_plain_words(message: &str) -> String {
    let up_to = |most: &str| format!("expected a whole number from 0 to {most}");
    let words = [
        ("expected u8", up_to(&u8::MAX.to_string())),
        ("expected u16", up_to(&u16::MAX.to_string())),
        ("expected u32", up_to(&u32::MAX.to_string())),
        ("expected u64", up_to(&i64::MAX.to_string())),
        ("expected a sequence", "expected a list, in [ ]".to_owned()),
        (
            "invalid type: unit variant, expected newtype variant",
            "this word needs more than itself: write it as a table, { word = … }".to_owned(),
        ),
    ];
    let found = words.into_iter().find(|(said, _)| message.ends_with(said));
    found.map_or_else(|| message.to_owned(), |(said, plain)| message.replace(said, &plain))
}

fn line_of_offset(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

fn line_of_entry(text: &str, section: &str, name: Option<&str>) -> Option<usize> {
    let line_of = |heads: &[String]| {
        let is_one = |line: &str| heads.iter().any(|head| line.trim_start().starts_with(head.as_str()));
        text.lines().position(is_one).map(|at| at + 1)
    };
    let Some(name) = name else {
        // Nothing but tables below it, such as [[classifier.rules]].
        return line_of(&[format!("[{section}]")])
            .or_else(|| line_of(&[format!("[{section}."), format!("[[{section}.")]));
    };
    let entries = ["", "\"", "'"].map(|quote| format!("{section}.{quote}{name}{quote}"));
    line_of(&entries.clone().map(|entry| format!("[{entry}]")))
        // Nothing but tables below it, such as [keys.web.budget] or [[keys.web.budget]].
        .or_else(|| line_of(&entries.map(|entry| [format!("[{entry}."), format!("[[{entry}.")]).concat()))
}

/// All faults, in the order of the file's sections.
pub(super) fn check(config: &Config, path: &Path, text: &str) -> Vec<ConfigFault> {
    let mut faults = Vec::new();
    let mut fault = |section: &str, name: Option<&str>, message: String| {
        faults.push(ConfigFault::entry(path, text, section, name, message));
    };

    if !(1..=512).contains(&config.server.max_body_mb) {
        fault("server", None, format!("max_body_mb = {} is not between 1 and 512", config.server.max_body_mb));
    }
    let server = &config.server;
    if server.max_requests == 0 || server.max_connections == 0 {
        fault("server", None, "max_requests and max_connections must be at least 1, or nobody is served".into());
    }
    if server.max_body_memory_mb < server.max_body_mb {
        let message = format!(
            "max_body_memory_mb = {} has no room for one body of max_body_mb = {}; raise it or lower that",
            server.max_body_memory_mb, server.max_body_mb
        );
        fault("server", None, message);
    }
    let Timeouts { head_s, body_s, write_s } = server.timeouts;
    if head_s == 0 || body_s == 0 || write_s == 0 {
        fault("server", None, "a timeout of 0 would cut every caller off; leave it out or raise it".into());
    }
    if !(1..=31_536_000).contains(&config.server.idempotency_s) {
        fault("server", None, format!("idempotency_s = {} is not between 1 and 31536000", config.server.idempotency_s));
    }
    if let Some(url) = &config.server.public_url
        && !(url.starts_with("https://") || url.starts_with("http://"))
    {
        fault("server", None, format!("public_url = \"{url}\" must begin with https:// or http://"));
    }
    // What the environment adds does not decide whether the address is one.
    if let Err(message) = config.blob_place(&Environment::default()) {
        fault("blobs", None, message);
    }
    let namespace = &config.shared.namespace;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if namespace.is_empty() || namespace.len() > 64 || !namespace.bytes().all(is_plain) {
        fault("shared", None, "namespace must be 1 to 64 letters, digits, -, _ or .".into());
    }
    if !(10..=10_000).contains(&config.shared.patience_ms) {
        fault("shared", None, format!("patience_ms = {} is not between 10 and 10000", config.shared.patience_ms));
    }
    config.prices.faults().into_iter().for_each(|message| fault("prices", None, message));
    if config.alerts.repeat_s == 0 {
        fault("alerts", None, "repeat_s must be at least 1: the same would be told at every request".into());
    }
    for (name, provider) in &config.providers {
        if let Some(url) = &provider.base_url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            fault("providers", Some(name), format!("base_url = \"{url}\" must begin with https:// or http://"));
        }
        if provider.timeout_s == Some(0) {
            fault("providers", Some(name), "timeout_s = 0 would fail every call; leave it out or raise it".into());
        }
        for (limit, _) in provider.limits.counts().iter().filter(|(_, count)| *count == Some(0)) {
            let message = format!("limits.{limit} = 0 would block every call; use enabled = false");
            fault("providers", Some(name), message);
        }
        if name.contains('/') || name.contains('@') || name.is_empty() {
            fault("providers", Some(name), "a provider's name must not be empty nor contain / or @".into());
        }
    }
    for (name, route) in &config.routes {
        for message in route.faults() {
            fault("routes", Some(name), message);
        }
        if name.contains('/') || name.is_empty() {
            fault("routes", Some(name), "a route's name must not be empty nor contain /".into());
        }
    }
    for (section, name, message) in super::environments::faults(config) {
        fault(section, Some(&name), message);
    }
    for (name, key) in &config.keys {
        let hex = key.hash.strip_prefix("blake3:");
        if hex.is_none_or(|hex| hex.parse::<crate::domain::Digest>().is_err()) {
            fault("keys", Some(name), format!("hash is not one that `mimeo keys new {name}` printed (blake3:…)"));
        }
    }
    let budgets = (config.keys.iter().map(|(name, key)| ("keys", name, &key.budget)))
        .chain(config.tenants.iter().map(|(name, tenant)| ("tenants", name, &tenant.budget)))
        .chain(config.routes.iter().map(|(name, route)| ("routes", name, &route.budget)))
        .chain(config.providers.iter().map(|(name, provider)| ("providers", name, &provider.budget)));
    for (section, name, budgets) in budgets {
        for budget in &budgets.0 {
            if budget.usd.is_none() && budget.pictures.is_none() {
                fault(section, Some(name), "a budget says how much: usd, pictures or both".into());
            }
            if budget.usd.is_some_and(|usd| usd < crate::domain::Usd::ZERO) {
                fault(section, Some(name), "a budget cannot be negative".into());
            }
        }
    }
    for name in config.tenants.keys() {
        let is_used = |(key, settings): (&String, &super::Key)| settings.tenant.as_ref().unwrap_or(key) == name;
        if !config.keys.iter().any(is_used) {
            fault("tenants", Some(name), "no key belongs to this tenant; keys.NAME.tenant says whose a key is".into());
        }
    }
    if config.storage.url.is_some() && config.blobs.url.is_none() {
        let message = "url needs blobs.url as well: replicas that share an index must see the same pictures, in a \
                       bucket (s3://…) or in a folder that all of them have mounted (file:///…)";
        fault("storage", None, message.into());
    }
    if config.storage.lease_s.is_some_and(|seconds| !(1..=3600).contains(&seconds)) {
        fault("storage", None, "lease_s must be between 1 and 3600".into());
    }
    super::quality::check(&config.quality, |message| fault("quality", None, message));
    for message in super::classifier::faults(&config.classifier) {
        fault("classifier", None, message);
    }
    let mut seen = std::collections::BTreeMap::new();
    for (name, key) in &config.keys {
        if let Some(other) = seen.insert(key.hash.as_str(), name) {
            fault("keys", Some(name), format!("has the same hash as keys.{other}; every key needs its own"));
        }
    }
    let loopback = config.server.listen.ip().is_loopback();
    if !loopback && config.keys.is_empty() {
        fault("server", None, unprotected(&config.server.listen.to_string()));
    }
    faults
}

/// Why listening on `address` without keys is refused, and what to do.
pub fn unprotected(address: &str) -> String {
    format!(
        "listening on {address} without keys would let anybody spend your money. Make a key with \
         `mimeo keys new NAME` and put what it prints into the configuration, or listen on 127.0.0.1"
    )
}
