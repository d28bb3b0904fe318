//! Is a provider there, and does it take the account's key? Asked without anything that could be billed.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::call;
use super::fault::http_date;
use super::provider::Provider;
use crate::clock::{Millis, millis};

/// What a provider answered to a question that costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// HTTP status of the answer.
    pub status: u16,
    /// How long it took, connecting included.
    pub took: Duration,
    /// True if it was asked with the account's credentials, at the record's `probe_path`; false if only whether
    /// anybody answers at its base address was asked, without them.
    pub with_key: bool,
    /// How far its clock is before this machine's, in milliseconds, if the answer has a date. Exact to a second, and to
    /// the time that the answer took.
    pub ahead: Option<Millis>,
}

impl Provider {
    /// Asks what costs nothing, and waits `patience` at most for an answer.
    ///
    /// # Errors
    /// Nothing came back, in words.
    pub async fn probe(&self, patience: Duration) -> Result<Probed, String> {
        let (asked_ms, asked) = (self.clock.now(), Instant::now());
        let answer = tokio::time::timeout(patience, self.ask_freely()).await;
        let answer = answer.map_err(|_| format!("no answer within {} s", patience.as_secs()))??;
        let (status, headers) = (answer.status().as_u16(), answer.headers());
        let took = asked.elapsed();
        let date = headers.get(reqwest::header::DATE).and_then(|date| http_date(date.to_str().ok()?));
        // Halfway between question and answer, and halfway through the second that the date is exact to.
        let now = asked_ms + millis(took / 2);
        let ahead = date.map(|date| date + 500 - now);
        Ok(Probed { status, took, with_key: self.record.probe_path.is_some() && self.has_key(), ahead })
    }

    async fn ask_freely(&self) -> Result<reqwest::Response, String> {
        let base = || self.base.clone().ok_or_else(|| "it has no address".to_owned());
        let url = match &self.record.probe_path {
            Some(path) => call::address(self, path).map_err(|fault| fault.message)?,
            None => base()?,
        };
        let client = self.clients.for_base(&url).map_err(|error| error.to_string())?;
        let mut request = client.request(Method::GET, url).build().map_err(causes)?;
        if self.record.probe_path.is_some() {
            *request.headers_mut() = self.standing_headers()?;
            let signed = self.credentials.sign(&mut request, &self.clients, &self.clock).await;
            signed.map_err(|fault| fault.message)?;
        }
        client.execute(request).await.map_err(causes)
    }

    /// True if calls are sent with a key.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Where it is, for people.
    pub fn address(&self) -> String {
        self.base.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    fn standing_headers(&self) -> Result<HeaderMap, String> {
        let bad = |_| "its record names a header that cannot be sent".to_owned();
        let header = |(name, value): (&String, &String)| {
            let name = name.parse::<HeaderName>().map_err(|error| bad(error.to_string()))?;
            let value = HeaderValue::from_str(&self.expand(value)).map_err(|error| bad(error.to_string()))?;
            Ok((name, value))
        };
        self.record.wire.headers.iter().map(header).collect()
    }
}

/// An error of the connection with what is behind it, such as a name that nobody knows. Without the address, which may
/// hold a key.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
