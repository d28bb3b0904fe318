//! Lists of prices that are looked at again and again. What they change counts at once; what fails, is empty or cannot
//! be believed is told and changes nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use reqwest::header::{ETAG, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{Method, Request, Url};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::change::{Change, words};
use super::precedence::{is_stated, start_of};
use super::revise::{Revision, revise};
use super::{PriceBook, day_of};
use crate::alerts::{Alert, AlertKind};
use crate::config;
use crate::domain::Digest;
use crate::net::Clients;
use crate::net::document::{Bounds, document_within, is_private};
use crate::pricing::sheet::{Form, Mapping, Origin, Sheet};
use crate::pricing::{Certainty, Prices};
use crate::providers::quotes::{Quoted, Quotes};
use crate::providers::{Catalogue, Model, Provider, Registry, Status};
use crate::store::{PriceChange, StoreError};

/// A list of prices, and what of it was seen last.
#[derive(Debug)]
pub struct PriceFeed {
    settings: config::Feed,
    /// What its changes are called in the history.
    name: String,
    form: Form,
    mapping: Option<Mapping>,
    clients: Clients,
    seen: Mutex<Seen>,
}

/// What tells whether a list is still the one that was read.
#[derive(Clone, Debug, Default)]
struct Seen {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
    content: Option<Digest>,
}

/// What came of looking at a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Polled {
    /// The list.
    pub feed: String,
    /// True if it is the one that was read before.
    pub unchanged: bool,
    /// How many prices it holds.
    pub rows: usize,
    /// How many of them are of models that are here.
    pub matched: usize,
    /// How many of its rows say nothing that can be used; `mimeo prices diff` says why.
    pub left_out: usize,
    /// What costs something else from now on, in words.
    pub changed: Vec<String>,
    /// What was not believed, in words.
    pub doubted: Vec<String>,
    /// Why it does not help.
    pub failed: Option<String>,
}

impl PriceFeed {
    /// The list that `settings` describe.
    ///
    /// # Errors
    /// Its address is none that can be believed, or its mapping is wrong.
    pub fn new(settings: config::Feed) -> Result<PriceFeed, String> {
        let name = settings.name();
        if let Some(url) = &settings.url
            && !url.parse().is_ok_and(|url| is_private(&url))
        {
            return Err(format!(
                "feeds: {name} must begin with https://, or with http:// and name this machine: whoever can change a \
                 price on its way chooses who is paid"
            ));
        }
        let form = settings.format.name().parse().map_err(|why| format!("feeds: {name}: {why}"))?;
        let pairs: Vec<String> = settings.map.iter().map(|(key, place)| format!("{key}={place}")).collect();
        let mapping = match form {
            Form::Json | Form::Csv => {
                let mapping = Mapping::of(pairs.iter().map(String::as_str));
                Some(mapping.map_err(|why| format!("feeds: map of {name}: {why}"))?)
            }
            _ => None,
        };
        Ok(PriceFeed { settings, name, form, mapping, clients: Clients::default(), seen: Mutex::default() })
    }

    /// How it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long it rests between two looks.
    pub fn rest(&self) -> Duration {
        Duration::from_secs(u64::from(self.settings.every_s))
    }

    /// Its text, unless that is what was read last, with what to remember of it.
    async fn read(&self) -> Result<Option<(Vec<u8>, Seen)>, String> {
        let last = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (content, mut seen) = match (&self.settings.url, &self.settings.file) {
            (Some(url), _) => match self.fetch(url, &last).await? {
                Some(fetched) => fetched,
                None => return Ok(None),
            },
            (None, Some(file)) => {
                let at = |error: std::io::Error| format!("it cannot be read: {error}");
                if tokio::fs::metadata(file).await.map_err(at)?.len() > Bounds::LARGE.bytes as u64 {
                    return Err("it is too large".to_owned());
                }
                (tokio::fs::read(file).await.map_err(at)?, Seen::default())
            }
            (None, None) => return Err("it has neither a url nor a file".to_owned()),
        };
        let digest = Digest::of(&content);
        if last.content == Some(digest) {
            return Ok(None);
        }
        seen.content = Some(digest);
        Ok(Some((content, seen)))
    }

    async fn fetch(&self, url: &str, last: &Seen) -> Result<Option<(Vec<u8>, Seen)>, String> {
        let url: Url = url.parse().map_err(|_| "its address is none")?;
        let client = self.clients.for_base(&url).map_err(|error| error.to_string())?;
        let mut request = Request::new(Method::GET, url);
        for (name, value) in [(IF_NONE_MATCH, &last.etag), (IF_MODIFIED_SINCE, &last.modified)] {
            if let Some(value) = value {
                request.headers_mut().insert(name, value.clone());
            }
        }
        let answer = document_within(Bounds::LARGE, client, request).await?;
        let header = |name| answer.headers.get(name).cloned();
        match answer.status {
            200 => {
                let seen = Seen { etag: header(ETAG), modified: header(LAST_MODIFIED), content: None };
                Ok(Some((answer.body, seen)))
            }
            304 => Ok(None),
            status => Err(format!("it answered {status}")),
        }
    }

    /// What it says of the catalogue, and how many prices it holds.
    fn quotes(&self, content: &[u8], catalogue: &Catalogue, today: Date) -> Result<(Quotes, usize), String> {
        let text = std::str::from_utf8(content).map_err(|_| "it is no text in UTF-8")?;
        let sheet = Sheet::read(text, self.form, self.mapping.as_ref()).map_err(|why| why.to_string())?;
        if sheet.rows.is_empty() {
            return Err("it holds no price of a model that makes pictures".to_owned());
        }
        let origin = Origin { certainty: Certainty::Reported, source: self.name.clone(), as_of: Some(today) };
        Ok((catalogue.quotes(&sheet, &origin, today), sheet.rows.len()))
    }

    fn remember(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

impl PriceBook {
    /// Looks at a list once, unless `stop` comes before it is there. What it changes is written down, told, and reckoned
    /// with when this returns.
    ///
    /// # Errors
    /// The store fails. A list that fails is no error: it is told.
    pub async fn refresh(
        &self,
        feed: &PriceFeed,
        catalogue: &Catalogue,
        registry: &Registry,
        stop: &CancellationToken,
    ) -> Result<Polled, StoreError> {
        let mut polled = Polled { feed: feed.name.clone(), ..Polled::default() };
        let today = day_of(self.0.clock.now());
        let understood = |(content, seen): (Vec<u8>, Seen)| Ok((feed.quotes(&content, catalogue, today)?, seen));
        let Some(read) = stop.run_until_cancelled(feed.read()).await else { return Ok(polled) };
        let ((quotes, rows), seen) = match read.and_then(|read| read.map(understood).transpose()) {
            Ok(Some(read)) => read,
            Ok(None) => {
                polled.unchanged = true;
                return Ok(polled);
            }
            Err(why) => {
                self.fail(feed, &mut polled, why).await?;
                return Ok(polled);
            }
        };
        (polled.rows, polled.left_out) = (rows, quotes.left_out.len());
        for quoted in &quotes.quoted {
            for (provider, model) in meant(registry, quoted, today) {
                polled.matched += 1;
                self.consider(feed, (provider, model), &quoted.said, &mut polled).await?;
            }
        }
        if polled.matched == 0 {
            let why = "none of its prices is of a model that is here and whose price you have not stated yourself";
            self.fail(feed, &mut polled, why.to_owned()).await?;
        }
        feed.remember(seen);
        Ok(polled)
    }

    /// Tells that a list does not help, and why.
    async fn fail(&self, feed: &PriceFeed, polled: &mut Polled, why: String) -> Result<(), StoreError> {
        let message = format!("The price feed {} does not help: {why}. The prices stay as they are.", feed.name);
        self.tell(AlertKind::FeedFailed, feed.name.clone(), message).await?;
        polled.failed = Some(why);
        Ok(())
    }

    /// Takes in what is said of a model, if that is something else than what holds.
    async fn consider(
        &self,
        feed: &PriceFeed,
        (provider, model): (&Provider, &Model),
        said: &Prices,
        polled: &mut Polled,
    ) -> Result<(), StoreError> {
        let now = self.0.clock.now();
        let known = self.undiscounted(provider, model);
        let name = format!("{}/{}", provider.name, model.id);
        let costs =
            |prices: Option<&Prices>| prices.map_or_else(|| "unknown".to_owned(), |prices| words(&prices.rates));
        let from_to = |new: &Prices| format!("{name}: {} instead of {}", costs(Some(new)), costs(known.as_deref()));
        let new = match revise(known.as_deref(), said, self.0.settings.suspect_factor) {
            Revision::Same | Revision::Incomparable => return Ok(()),
            Revision::Doubted(new) => {
                let message = format!(
                    "The price feed {} says {}, which is not believed: more than {} times dearer or cheaper. If it is right, \
                     raise prices.suspect_factor.",
                    feed.name,
                    from_to(&new),
                    self.0.settings.suspect_factor
                );
                polled.doubted.push(from_to(&new));
                return self.tell(AlertKind::FeedFailed, format!("{} {name}", feed.name), message).await;
            }
            Revision::Changed(new) => *new,
        };
        let effective_ms = new.from.and_then(start_of).map_or(now, |start| start.max(now));
        let change = PriceChange {
            at_ms: now,
            effective_ms,
            provider: provider.name.clone(),
            model: model.id.clone(),
            quality: String::new(),
            old: Change::prices(known.as_deref()).to_json(),
            new: Change::Prices(Box::new(new.clone())).to_json(),
            source: feed.name.clone(),
            certainty: new.certainty.name().to_owned(),
        };
        if self.0.store.change_price(change).await?.is_none() {
            // Another process was first, or the list says what it said before and something else has changed it since.
            return Ok(());
        }
        // Before anybody hears of it.
        self.catch_up().await?;
        let told = from_to(&new);
        let when = match new.from.filter(|_| effective_ms > now) {
            Some(day) => format!("from {day} on"),
            None => "from now on".to_owned(),
        };
        let message = format!("{told} {when}, says {}. Calls are set aside and chosen by it.", feed.name);
        polled.changed.push(told);
        self.tell(AlertKind::PriceChanged, name, message).await
    }

    async fn tell(&self, kind: AlertKind, subject: String, message: String) -> Result<(), StoreError> {
        let at = self.0.clock.now();
        self.0.alerts.note(Alert { kind, subject, message, at }).await.map(|_| ())
    }
}

/// The models that are here and that a list means. What the operator has said of an account is not for a list to change.
fn meant<'a>(
    registry: &'a Registry,
    quoted: &'a Quoted,
    today: Date,
) -> impl Iterator<Item = (&'a Provider, &'a Model)> {
    let providers = registry.providers().filter(|provider| provider.record.name == quoted.provider);
    providers.flat_map(move |provider| {
        let is_it = move |model: &&Arc<Model>| {
            model.id == quoted.model && !is_stated(model, today) && !matches!(model.status, Status::Gone { .. })
        };
        provider.models().iter().filter(is_it).map(|model| (provider.as_ref(), model.as_ref()))
    })
}
