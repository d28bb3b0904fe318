//! What the operator is told without asking. An alert is a row before anything else, so that it outlives the process,
//! is told once however many replicas notice the same, and is sent again when nobody takes it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};
use ring::hmac;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Millis, rfc3339};
use crate::config::{self, Secret, Webhook};
use crate::net::Clients;
use crate::net::document::document;
use crate::store::{AlertRow, NewAlert, Store, StoreError};

/// How often an alert is sent at most.
const TRIES: u32 = 5;

/// How long after the first try comes the second, at least; twice as long each time. Longer than a try takes, so that
/// nobody else sends it meanwhile.
const PAUSE_MS: Millis = 20_000;

/// How many kinds and subjects are remembered in memory, so that what is noticed at every request is not asked of the
/// database each time.
const REMEMBERED: usize = 1024;

/// The header with the signature.
const SIGNATURE: HeaderName = HeaderName::from_static("x-mimeo-signature");

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertKind {
    /// A feed says that something costs more, or less, than before.
    PriceChanged,
    /// Bills are not what was expected.
    PriceDrift,
    /// A feed cannot be read, is empty, or says what cannot be believed.
    FeedFailed,
    /// A model will be gone in 30, 7 or 1 days.
    ModelRetiring,
    /// A candidate of a route is too slow for it.
    SlowCandidate,
    /// The budget of a provider's account is used up.
    AccountSpent,
}

impl AlertKind {
    /// The word in listings and in what is sent.
    pub const fn name(self) -> &'static str {
        match self {
            AlertKind::PriceChanged => "price_changed",
            AlertKind::PriceDrift => "price_drift",
            AlertKind::FeedFailed => "feed_failed",
            AlertKind::ModelRetiring => "model_retiring",
            AlertKind::SlowCandidate => "slow_candidate",
            AlertKind::AccountSpent => "account_spent",
        }
    }

    /// True if the same about the same is never told twice.
    const fn is_once(self) -> bool {
        matches!(self, AlertKind::ModelRetiring)
    }

    /// True if what is told is an event and no state: then another message about the same is news.
    const fn is_event(self) -> bool {
        matches!(self, AlertKind::PriceChanged | AlertKind::PriceDrift)
    }
}

/// Something to tell the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// What it is.
    pub kind: AlertKind,
    /// What it is about, such as `provider/model`. The same about the same subject is told once in a while only; of what
    /// changes, the same message.
    pub subject: String,
    /// What to know and what to do.
    pub message: String,
    /// When it was noticed.
    pub at: Millis,
}

impl Alert {
    /// What counts as the same, for telling it once.
    fn about(&self) -> (AlertKind, String) {
        let message = if self.kind.is_event() { self.message.as_str() } else { "" };
        (self.kind, format!("{} {message}", self.subject))
    }
}

/// Tells the operator. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Alerts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    clock: Clock,
    tasks: TaskTracker,
    repeat_ms: Millis,
    webhook: Option<Webhook>,
    clients: Clients,
    /// When what was told last: the kind, with the subject and, of events, the message.
    told: Mutex<HashMap<(AlertKind, String), Millis>>,
    waiting: Notify,
}

/// What is sent.
#[derive(Serialize)]
struct Letter<'a> {
    /// Names the alert: who gets two of the same name has got one twice.
    id: i64,
    kind: &'a str,
    subject: &'a str,
    message: &'a str,
    at: String,
}

impl Alerts {
    /// Alerts that are kept in `store` and sent to `webhook`, if there is one. `tasks` owns what is written after
    /// [`Alerts::raise`] has returned.
    pub fn new(
        store: Arc<Store>,
        clock: Clock,
        tasks: TaskTracker,
        settings: &config::Alerts,
        webhook: Option<Webhook>,
    ) -> Alerts {
        Alerts(Arc::new(Inner {
            store,
            clock,
            tasks,
            repeat_ms: Millis::from(settings.repeat_s).saturating_mul(1000),
            webhook,
            clients: Clients::default(),
            told: Mutex::default(),
            waiting: Notify::new(),
        }))
    }

    /// Tells the operator, soon; costs next to nothing if that was told already.
    pub fn raise(&self, alert: Alert) {
        let this = self.clone();
        if !this.is_news(&alert) {
            return;
        }
        self.0.tasks.spawn(async move {
            let (kind, subject) = (alert.kind, alert.subject.clone());
            if let Err(error) = this.note(alert).await {
                tracing::error!(kind = kind.name(), subject, %error, "an alert could not be written down");
            }
        });
    }

    /// Writes the alert down, unless the same about the same was told a while ago. True if it is news.
    ///
    /// # Errors
    /// The store fails.
    pub async fn note(&self, alert: Alert) -> Result<bool, StoreError> {
        let about = alert.about();
        let Alert { kind, subject, message, at } = alert;
        let row = NewAlert {
            at_ms: at,
            kind: kind.name(),
            subject: subject.clone(),
            message: message.clone(),
            is_event: kind.is_event(),
            is_to_be_sent: self.0.webhook.is_some(),
        };
        let since = (!kind.is_once()).then(|| at.saturating_sub(self.0.repeat_ms));
        let is_news = match self.0.store.alert(row, since).await {
            Ok(is_news) => is_news,
            Err(error) => {
                self.told().remove(&about);
                return Err(error);
            }
        };
        if is_news {
            tracing::warn!(kind = kind.name(), subject, "{message}");
            self.0.waiting.notify_one();
        }
        Ok(is_news)
    }

    /// Sends what is due.
    ///
    /// # Errors
    /// The store fails.
    pub async fn deliver(&self) -> Result<(), StoreError> {
        let Some(webhook) = &self.0.webhook else { return Ok(()) };
        while let Some(alert) = self.0.store.take_alert(self.0.clock.now(), PAUSE_MS, TRIES).await? {
            let AlertRow { seq, tries, ref kind, .. } = alert;
            match self.send(webhook, &alert).await {
                Ok(()) => self.0.store.told(seq, self.0.clock.now()).await?,
                Err(why) => {
                    let then = if tries < TRIES { "is sent again" } else { "is not sent again; see `mimeo alerts`" };
                    tracing::warn!(alert = seq, kind, tries, "the webhook did not take an alert: {why}. It {then}");
                }
            }
        }
        Ok(())
    }

    /// Waits until there may be something to send.
    pub async fn waiting(&self) {
        self.0.waiting.notified().await;
    }

    async fn send(&self, webhook: &Webhook, alert: &AlertRow) -> Result<(), String> {
        let AlertRow { seq: id, kind, subject, message, .. } = alert;
        let letter = Letter { id: *id, kind, subject, message, at: rfc3339(alert.at_ms) };
        let body = serde_json::to_vec(&letter).map_err(|error| error.to_string())?;
        let url: Url = webhook.url.reveal().parse().map_err(|_| "its address is none")?;
        let client = self.0.clients.for_base(&url).map_err(|error| error.to_string())?;
        let mut request = Request::new(Method::POST, url);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(secret) = &webhook.secret {
            let signature = HeaderValue::from_str(&signature(secret, &body)).map_err(|error| error.to_string())?;
            request.headers_mut().insert(SIGNATURE, signature);
        }
        *request.body_mut() = Some(body.into());
        let answer = document(client, request).await?;
        if (200..300).contains(&answer.status) { Ok(()) } else { Err(format!("it answered {}", answer.status)) }
    }

    /// False if that was told so short a time ago that it is not told again. If it is news, it counts as told.
    fn is_news(&self, alert: &Alert) -> bool {
        let mut told = self.told();
        let about = alert.about();
        let is_old = |last: Millis| alert.kind.is_once() || alert.at.saturating_sub(last) < self.0.repeat_ms;
        if told.get(&about).is_some_and(|last| is_old(*last)) {
            return false;
        }
        if told.len() >= REMEMBERED {
            // The database knows them all the same.
            told.clear();
        }
        told.insert(about, alert.at);
        true
    }

    fn told(&self) -> std::sync::MutexGuard<'_, HashMap<(AlertKind, String), Millis>> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `sha256=` and the HMAC-SHA256 of `body`, in lower-case digits.
fn signature(secret: &Secret, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes()), body);
    tag.as_ref().iter().fold("sha256=".to_owned(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// How long the duty that sends alerts rests, unless there is news.
pub const REST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use axum::Router;
    use axum::extract::State;
    use axum::http::StatusCode;
    use axum::routing::post;
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{BlobPlace, Storage};

    const NOON: Millis = 1_795_262_400_000;

    /// A letter box that gives these answers, one after the other and then the last, and keeps what it got.
    #[derive(Default)]
    struct Desk {
        answers: Mutex<VecDeque<StatusCode>>,
        letters: Mutex<Vec<String>>,
    }

    async fn letter(State(desk): State<Arc<Desk>>, body: String) -> StatusCode {
        desk.letters.lock().unwrap().push(body);
        let mut answers = desk.answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0] }
    }

    /// A store in a folder, and the time.
    struct Office {
        path: std::path::PathBuf,
        store: Arc<Store>,
        clock: Clock,
    }

    impl Office {
        fn open() -> Office {
            let path = std::env::temp_dir().join(format!("mimeo-alerts-{:032x}", crate::domain::id::random()));
            let storage = Storage { path: path.clone(), ..Storage::default() };
            let (place, clock) = (BlobPlace::Folder(path.join("blobs")), Clock::manual(NOON));
            Office { store: Arc::new(Store::open(&storage, None, &place, clock.clone()).unwrap()), path, clock }
        }

        /// A process that has just begun.
        fn alerts(&self, webhook: Option<Webhook>) -> Alerts {
            let settings = config::Alerts { repeat_s: 3600, ..config::Alerts::default() };
            Alerts::new(Arc::clone(&self.store), self.clock.clone(), TaskTracker::new(), &settings, webhook)
        }

        fn about(&self, kind: AlertKind, subject: &str) -> Alert {
            Alert { kind, subject: subject.to_owned(), message: "look".to_owned(), at: self.clock.now() }
        }
    }

    impl Drop for Office {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    #[tokio::test]
    async fn the_same_is_told_once_in_a_while_and_what_ends_once_at_all() {
        let office = Office::open();
        let (one, other) = (office.alerts(None), office.alerts(None));
        let tell = async |alerts: &Alerts, kind| alerts.note(office.about(kind, "studio/brush-1")).await.unwrap();
        for kind in [AlertKind::PriceDrift, AlertKind::ModelRetiring] {
            assert!(tell(&one, kind).await);
            assert!(!tell(&other, kind).await, "one of the replicas has told it");
        }
        office.clock.advance(Duration::from_secs(3599));
        assert!(!tell(&one, AlertKind::PriceDrift).await);
        office.clock.advance(Duration::from_secs(1));
        assert!(tell(&other, AlertKind::PriceDrift).await, "it is still so");
        office.clock.advance(Duration::from_secs(3600 * 24 * 365));
        assert!(!tell(&one, AlertKind::ModelRetiring).await);
        assert_eq!(office.store.alerts(9).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_letter_that_is_not_taken_is_sent_again_and_one_that_is_taken_is_not() {
        let office = Office::open();
        let refused = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::FOUND, StatusCode::NO_CONTENT];
        let desk = Arc::new(Desk { answers: Mutex::new(refused.into()), ..Desk::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/letters", listener.local_addr().unwrap());
        let router = Router::new().route("/letters", post(letter)).with_state(Arc::clone(&desk));
        TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
        let webhook = Webhook { url: Secret::new(url), secret: None };
        let (one, other) = (office.alerts(Some(webhook.clone())), office.alerts(Some(webhook)));

        assert!(one.note(office.about(AlertKind::PriceDrift, "studio/brush-1")).await.unwrap());
        // Whoever looks for letters, there is one, and the next try is 20 s later, and then 40 s.
        let mut sent = Vec::new();
        for seconds in [0, 19, 1, 39, 1, 3600, 86_400] {
            office.clock.advance(Duration::from_secs(seconds));
            one.deliver().await.unwrap();
            other.deliver().await.unwrap();
            sent.push(desk.letters.lock().unwrap().len());
        }
        assert_eq!(sent, [1, 1, 2, 2, 3, 3, 3]);
        let letters = desk.letters.lock().unwrap().clone();
        assert!(letters.iter().all(|letter| *letter == letters[0]), "the same letter, by its name: {letters:?}");
        let row = office.store.alerts(1).await.unwrap().remove(0);
        assert_eq!((row.tries, row.told_ms), (3, Some(NOON + 60_000)));
    }

    #[test]
    fn the_signature_is_the_published_one() {
        // RFC 4231, test case 2.
        let told = signature(&Secret::new("Jefe"), b"what do ya want for nothing?");
        assert_eq!(told, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
