//! Access tokens: fetched when the first call needs one, kept until shortly before they expire, by one call at a time
//! while the others wait for it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde_json::Value;

use super::google::ServiceAccount;
use crate::clock::{Clock, Millis, millis};
use crate::domain::{Fault, FaultKind};
use crate::net::Clients;
use crate::net::document::{Document, document};
use crate::secret::Secret;

/// How long a token lives that does not say it. Short: one that is renewed too early costs a request, one too late
/// a refused call.
const UNSAID: Duration = Duration::from_secs(300);

/// Longest life that is believed.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A token is renewed a tenth of its life before its end, but no earlier than this.
const EARLIEST: Duration = Duration::from_secs(300);

/// After a failure, how long nobody tries again: calls that waited for one try must not make fifty more.
const PAUSE: Duration = Duration::from_secs(5);

/// Younger than this, a token that is refused is kept: another would be refused as well, and refusals that come
/// late speak of the one before.
const YOUNG: Duration = Duration::from_secs(60);

/// For what a token is given.
pub(super) enum Grant {
    /// Client credentials.
    Client { id: String, secret: Secret, scope: Option<String> },
    /// A user's leave, given once.
    User { id: String, secret: Secret, refresh: Secret },
    /// A statement that is signed with a service account's key.
    Account(Box<ServiceAccount>),
}

impl Grant {
    /// The form that is sent.
    fn form(&self, audience: &Url, now: Millis) -> Result<Vec<(&'static str, String)>, &'static str> {
        let own = |secret: &Secret| secret.reveal().to_owned();
        Ok(match self {
            Grant::Client { id, secret, scope } => {
                let mut form = vec![
                    ("grant_type", "client_credentials".to_owned()),
                    ("client_id", id.clone()),
                    ("client_secret", own(secret)),
                ];
                form.extend(scope.clone().map(|scope| ("scope", scope)));
                form
            }
            Grant::User { id, secret, refresh } => vec![
                ("grant_type", "refresh_token".to_owned()),
                ("client_id", id.clone()),
                ("client_secret", own(secret)),
                ("refresh_token", own(refresh)),
            ],
            Grant::Account(account) => vec![
                ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned()),
                ("assertion", account.assertion(audience, now)?),
            ],
        })
    }
}

/// The access tokens of one account.
pub(super) struct Tokens {
    url: Url,
    grant: Grant,
    prefix: String,
    current: Mutex<Option<Token>>,
    /// Whose turn it is to fetch, and how the last try failed.
    turn: tokio::sync::Mutex<Option<(Millis, Fault)>>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    fetched: Millis,
    renew: Millis,
    expires: Millis,
}

impl Tokens {
    pub(super) fn new(url: Url, grant: Grant, prefix: String) -> Tokens {
        Tokens { url, grant, prefix, current: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The header with a token that is good now.
    pub(super) async fn header(&self, clients: &Clients, clock: &Clock) -> Result<HeaderValue, Fault> {
        if let Some(token) = self.current().filter(|token| clock.now() < token.renew) {
            return Ok(token.header);
        }
        // Who is dropped while it fetches leaves the turn to the next.
        let mut failure = self.turn.lock().await;
        let (held, now) = (self.current(), clock.now());
        if let Some(token) = held.as_ref().filter(|token| now < token.renew) {
            return Ok(token.header.clone());
        }
        let resting = failure.as_ref().filter(|(at, _)| now < at.saturating_add(millis(PAUSE)));
        let fault = match resting {
            Some((_, fault)) => fault.clone(),
            None => match self.fetch(clients, now).await {
                Ok(token) => {
                    *failure = None;
                    let header = token.header.clone();
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
                    return Ok(header);
                }
                Err(fault) => {
                    *failure = Some((clock.now(), fault.clone()));
                    fault
                }
            },
        };
        // It was to be renewed early, so the old one may still do.
        held.filter(|token| clock.now() < token.expires).map(|token| token.header).ok_or(fault)
    }

    /// A token was refused at `now`. True if another will be fetched.
    pub(super) fn rejected(&self, now: Millis) -> bool {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let young = current.as_ref().is_some_and(|token| now < token.fetched.saturating_add(millis(YOUNG)));
        if !young {
            *current = None;
        }
        !young
    }

    fn current(&self) -> Option<Token> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self, clients: &Clients, now: Millis) -> Result<Token, Fault> {
        let not_sent = |why: &str| Fault::new(FaultKind::NotSent, format!("there is no access token for it: {why}"));
        let client = clients.for_base(&self.url).map_err(|error| not_sent(&error.to_string()))?;
        let form = self.grant.form(&self.url, now).map_err(not_sent)?;
        let request = client.post(self.url.clone()).header("accept", "application/json").form(&form).build();
        let request = request.map_err(|_| not_sent("the request for it could not be put together"))?;
        let answer = document(client, request).await;
        let answer = answer.map_err(|why| not_sent(&format!("where it is given, {why}")))?;
        self.read(&answer, now)
    }

    fn read(&self, answer: &Document, now: Millis) -> Result<Token, Fault> {
        #[derive(Deserialize)]
        struct Given {
            access_token: String,
            /// Seconds; some write them as text.
            expires_in: Option<Value>,
        }
        if !(200..=299).contains(&answer.status) {
            return Err(refusal(answer));
        }
        let unreadable = || {
            Fault::new(FaultKind::NotSent, "there is no access token for it: the answer that should hold one does not")
        };
        let given: Given = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        let mut header =
            HeaderValue::from_str(&format!("{}{}", self.prefix, given.access_token)).map_err(|_| unreadable())?;
        header.set_sensitive(true);
        let said = given.expires_in.and_then(|value| match value {
            Value::Number(seconds) => seconds.as_f64(),
            Value::String(seconds) => seconds.parse().ok(),
            _ => None,
        });
        let life = said.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(UNSAID).min(LONGEST);
        let expires = now.saturating_add(millis(life));
        let renew = expires.saturating_sub(millis((life / 10).min(EARLIEST)));
        Ok(Token { header, fetched: now, renew, expires })
    }
}

/// No token was given. The code is one of a few words; what else is said may repeat the secret.
fn refusal(answer: &Document) -> Fault {
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let is_word = |text: &&str| {
        (1..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let code = value.get("error").and_then(Value::as_str).filter(is_word);
    let because = code.map_or_else(|| format!("status {}", answer.status), str::to_owned);
    let mut fault = if matches!(answer.status, 400..=407) {
        Fault::new(FaultKind::Denied, format!("no access token is given for the configured key ({because})"))
    } else {
        Fault::new(FaultKind::NotSent, format!("there is no access token for it: where it is given, {because}"))
    };
    fault.code = code.map(str::to_owned);
    fault
}
