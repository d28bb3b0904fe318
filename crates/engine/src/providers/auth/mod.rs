//! How a call proves whose it is: a record's `[auth]`, with the operator's secret and vars, becomes the credentials of
//! one request.
//!
//! | file | what it does |
//! |---|---|
//! | this one | the schemes; keys that are sent as they are |
//! | `token` | access tokens: fetched, kept, renewed before they expire |
//! | `google` | key files that are exchanged for such tokens |
//! | `aws` | requests that are signed instead of carrying a key |

mod aws;
mod google;
mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Request, Url};
use schemars::JsonSchema;
use serde::Deserialize;

use self::aws::Signer;
use self::token::{Grant, Tokens};
use super::record::Record;
use super::vars::{self, Var};
use crate::clock::Clock;
use crate::domain::{Fault, FaultKind};
use crate::net::{Clients, document};
use crate::secret::Secret;

/// How calls are authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// What is done with the key.
    pub scheme: Scheme,
    /// The environment variable that the key is looked for in.
    pub env: Option<String>,
    /// The header that carries the key; only for `scheme = "header"`.
    pub header: Option<String>,
    /// What is before the key in its header, in place of nothing (`header`) or `Bearer ` (all that send a token).
    pub prefix: Option<String>,
    /// The parameter of the query that carries the key; only for `scheme = "query"`.
    pub query: Option<String>,
    /// True if it can be called without a key as well.
    pub optional: bool,
    /// Where access tokens are fetched; for `scheme = "oauth"`, and for `google` where the key does not say it. May
    /// hold vars.
    pub token_url: Option<String>,
    /// What the access token is to be good for, as the provider calls it; for `oauth` and `google`.
    pub scope: Option<String>,
    /// The name of the service that a signature is for; only for `scheme = "aws"`.
    pub service: Option<String>,
}

/// What is done with the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// There is no key.
    #[default]
    None,
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// A header of its own.
    Header,
    /// A parameter of the query.
    Query,
    /// `Authorization: Basic …`; the key is `user:password`.
    Basic,
    /// An access token, for client credentials (OAuth 2): the key is the client's secret, `vars.client_id` its id.
    Oauth,
    /// An access token, for a key file: the key is the JSON of a service account, or of a user who has signed in.
    Google,
    /// A signature (version 4): the key is the secret key, `vars.access_key_id` its id, `vars.region` the region, and
    /// `vars.session_token` the token that goes with a key for some hours.
    Aws,
}

impl Auth {
    /// What is wrong with it in a record with these vars, if anything is: names the field and says what to do.
    pub(super) fn fault(&self, vars: &BTreeMap<String, Var>) -> Option<String> {
        let scheme = self.scheme;
        let exactly = |given: bool, wanted: bool, says: &str| (given != wanted).then(|| says.to_owned());
        exactly(
            self.header.is_some(),
            scheme == Scheme::Header,
            "auth.header names the header if, and only if, auth.scheme = \"header\"",
        )
        .or_else(|| {
            exactly(
                self.query.is_some(),
                scheme == Scheme::Query,
                "auth.query names the parameter if, and only if, auth.scheme = \"query\"",
            )
        })
        .or_else(|| {
            exactly(
                self.service.is_some(),
                scheme == Scheme::Aws,
                "auth.service names the service if, and only if, auth.scheme = \"aws\"",
            )
        })
        .or_else(|| self.misplaced())
        .or_else(|| {
            let needed: &[&str] = match scheme {
                Scheme::Oauth => &["client_id"],
                Scheme::Aws => &["region", "access_key_id"],
                _ => &[],
            };
            let lacking = needed.iter().find(|name| !vars.contains_key(**name))?;
            Some(format!("this auth.scheme needs {lacking} in [vars]"))
        })
        .or_else(|| vars::stranger(vars, &[], self.token_url.iter().map(String::as_str)))
    }

    fn misplaced(&self) -> Option<String> {
        let tokens = matches!(self.scheme, Scheme::Oauth | Scheme::Google);
        let fault = if self.scheme == Scheme::None && self.env.is_some() {
            "auth.env is given, but auth.scheme = \"none\" sends no key"
        } else if self.prefix.is_some() && !tokens && !matches!(self.scheme, Scheme::Header | Scheme::Bearer) {
            "auth.prefix is given, but this auth.scheme sends no key behind a prefix"
        } else if self.token_url.is_none() && self.scheme == Scheme::Oauth {
            "auth.scheme = \"oauth\" needs auth.token_url: where access tokens are fetched"
        } else if (self.token_url.is_some() || self.scope.is_some()) && !tokens {
            "auth.token_url and auth.scope go only with auth.scheme = \"oauth\" or \"google\""
        } else if self.scope.is_none() && self.scheme == Scheme::Google {
            "auth.scheme = \"google\" needs auth.scope: what the access token is to be good for"
        } else {
            return None;
        };
        Some(fault.to_owned())
    }
}

/// What a call of one account carries to be let in. Clones share their access token.
#[derive(Clone)]
pub struct Credentials(Kind);

#[derive(Clone)]
enum Kind {
    None,
    Header(HeaderName, HeaderValue),
    Query(String, Secret),
    Token(Arc<Tokens>),
    Signature(Arc<Signer>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.0 {
            Kind::None => "none",
            Kind::Header(..) => "header",
            Kind::Query(..) => "query",
            Kind::Token(_) => "token",
            Kind::Signature(_) => "signature",
        };
        write!(f, "Credentials({name})")
    }
}

impl Credentials {
    /// The credentials of an account. Nothing is sent yet.
    ///
    /// # Errors
    /// A sentence that says what is missing or cannot be right. It does not repeat the key.
    pub fn of(record: &Record, key: Option<Secret>, vars: &BTreeMap<String, String>) -> Result<Credentials, String> {
        let auth = &record.auth;
        let Some(key) = key.filter(|_| auth.scheme != Scheme::None) else {
            return if auth.scheme == Scheme::None || auth.optional {
                Ok(Credentials(Kind::None))
            } else {
                Err("it needs a key: say api_key = { env = \"NAME\" }".to_owned())
            };
        };
        plausible(auth.scheme, &key)?;
        let prefix = |default: &str| auth.prefix.clone().unwrap_or_else(|| default.to_owned());
        let sent = |name: HeaderName, prefix: &str, key: &str| {
            let mut value = HeaderValue::from_str(&format!("{prefix}{key}"))
                .map_err(|_| "its key has characters that cannot be sent".to_owned())?;
            // Keeps it out of every log of the HTTP library, and out of the HTTP/2 compression tables.
            value.set_sensitive(true);
            Ok::<_, String>(Kind::Header(name, value))
        };
        Ok(Credentials(match auth.scheme {
            Scheme::None => Kind::None,
            Scheme::Bearer => sent(AUTHORIZATION, &prefix("Bearer "), key.reveal())?,
            Scheme::Header => {
                let name = auth.header.as_deref().unwrap_or_default();
                let name = name.parse().map_err(|_| format!("its record names a header \"{name}\", which is none"))?;
                sent(name, &prefix(""), key.reveal())?
            }
            Scheme::Query => Kind::Query(auth.query.clone().unwrap_or_default(), key),
            Scheme::Basic => sent(AUTHORIZATION, "Basic ", &base64_simd::STANDARD.encode_to_string(key.reveal()))?,
            Scheme::Oauth => {
                let id = needed(vars, "client_id")?;
                let url = token_url(auth, vars)?.ok_or("its record does not say where access tokens are fetched")?;
                let grant = Grant::Client { id, secret: key, scope: auth.scope.clone() };
                Kind::Token(Arc::new(Tokens::new(url, grant, prefix("Bearer "))))
            }
            Scheme::Google => {
                let scope = auth.scope.clone().unwrap_or_default();
                let (url, grant) = google::grant(&key, scope, token_url(auth, vars)?)?;
                Kind::Token(Arc::new(Tokens::new(url, grant, prefix("Bearer "))))
            }
            Scheme::Aws => Kind::Signature(Arc::new(Signer {
                access_key_id: needed(vars, "access_key_id")?,
                secret_key: key,
                session_token: vars.get("session_token").filter(|token| !token.is_empty()).map(Secret::new),
                region: needed(vars, "region")?,
                service: auth.service.clone().unwrap_or_default(),
            })),
        }))
    }

    /// Puts the credentials into `request`, which must be complete but for them: some cover the address, the headers
    /// and the body. Afterwards the address may hold a secret, so it must not be printed.
    ///
    /// # Errors
    /// `NotSent` or `Denied`: there is no access token, or the request cannot be signed.
    pub async fn sign(&self, request: &mut Request, clients: &Clients, clock: &Clock) -> Result<(), Fault> {
        match &self.0 {
            Kind::None => {}
            Kind::Header(name, value) => {
                request.headers_mut().insert(name, value.clone());
            }
            Kind::Query(name, key) => {
                request.url_mut().query_pairs_mut().append_pair(name, key.reveal());
            }
            Kind::Token(tokens) => {
                // Boxed, because it may hold a whole HTTP exchange, and seldom does.
                let header = Box::pin(tokens.header(clients, clock)).await?;
                request.headers_mut().insert(AUTHORIZATION, header);
            }
            Kind::Signature(signer) => signer
                .sign(request, clock.now())
                .map_err(|why| Fault::new(FaultKind::NotSent, format!("the call cannot be signed: {why}")))?,
        }
        Ok(())
    }

    /// To be called when an answer has status 401: an access token that is not quite new is forgotten, so that the
    /// next call gets another one. True if signing again may help.
    pub fn rejected(&self, clock: &Clock) -> bool {
        match &self.0 {
            Kind::Token(tokens) => tokens.rejected(clock.now()),
            _ => false,
        }
    }
}

/// Catches here what an HTTP library would refuse with every call, and might print.
fn plausible(scheme: Scheme, key: &Secret) -> Result<(), String> {
    let key = key.reveal();
    match scheme {
        Scheme::Google => Ok(()),
        Scheme::Basic if !key.contains(':') => Err("its key must be \"user:password\"".to_owned()),
        Scheme::Basic if key.chars().any(char::is_control) => {
            Err("its key has characters that no password has, such as line ends".to_owned())
        }
        Scheme::Basic => Ok(()),
        _ if key.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'"' | b'\'')) => {
            Err("its key has characters that no key has, such as spaces or quotes".to_owned())
        }
        _ => Ok(()),
    }
}

fn needed(vars: &BTreeMap<String, String>, name: &str) -> Result<String, String> {
    let value = vars.get(name).filter(|value| !value.is_empty());
    value.cloned().ok_or_else(|| format!("it needs {name}: say vars = {{ {name} = \"…\" }}"))
}

fn token_url(auth: &Auth, vars: &BTreeMap<String, String>) -> Result<Option<Url>, String> {
    // A placeholder at the beginning stands for an address; within one it is a piece, and stays one.
    let expanded = |text: &String| match text.starts_with('{') {
        true => vars::expand(text, vars),
        false => vars::expand_address(text, vars),
    };
    auth.token_url.as_ref().map(|text| private(&expanded(text), "auth.token_url")).transpose()
}

/// The address in `text`, if a secret may be sent there. `place` is where the text stands.
fn private(text: &str, place: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{place}: {error}"))?;
    if document::is_private(&url) {
        Ok(url)
    } else {
        Err(format!("{place} must begin with https://, because a secret is sent there"))
    }
}

#[cfg(test)]
mod tests;
