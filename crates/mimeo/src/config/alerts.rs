//! Where alerts go.

use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Environment, Secret, SecretRef, TextRef};

/// What the operator is told without asking: changed prices, models that retire, feeds that fail, spent accounts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// Address that each alert is POSTed to, as JSON: `https://…` or `http://…`. One that is a secret itself is
    /// `{ env = "NAME" }` or `{ file = "PATH" }`. Without it alerts are in the log and in `mimeo alerts`.
    pub webhook: Option<TextRef>,
    /// Signs what is sent: `x-mimeo-signature` is `sha256=` and the HMAC-SHA256 of the body under this secret, in
    /// hexadecimal digits. `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub secret: Option<SecretRef>,
    /// The same about the same is told once in so many seconds, at least 1; of prices that change, each change is told.
    pub repeat_s: u32,
}

impl Default for Alerts {
    fn default() -> Self {
        Alerts { webhook: None, secret: None, repeat_s: 24 * 3600 }
    }
}

/// Where alerts are sent, and with what they are signed.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The address. Never printed: it may be a secret.
    pub url: Secret,
    /// What they are signed with.
    pub secret: Option<Secret>,
}

impl Alerts {
    /// Where alerts are sent, if they are.
    ///
    /// # Errors
    /// What is missing in the environment, or wrong with the address.
    pub fn webhook(&self, environment: &Environment) -> Result<Option<Webhook>, String> {
        let Some(url) = &self.webhook else {
            return match self.secret {
                Some(_) => Err("secret signs what is sent to webhook; name that, too, or leave both out".to_owned()),
                None => Ok(None),
            };
        };
        let url = url.resolve(environment).map_err(|why| format!("webhook is not known: {why}"))?;
        let is_usable = |url: &Url| matches!(url.scheme(), "https" | "http") && url.host_str().is_some();
        if !url.reveal().parse().is_ok_and(|url| is_usable(&url)) {
            return Err("webhook must be an address that begins with https:// or http://".to_owned());
        }
        let secret = self.secret.as_ref().map(|secret| secret.resolve(environment)).transpose();
        Ok(Some(Webhook { url, secret: secret.map_err(|why| format!("secret is not known: {why}"))? }))
    }
}
