//! One provider that is there: a record with an account, an address and limits.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Url;
use serde_json::Value;

use super::auth::Credentials;
use super::fit::{Fitted, Misfit};
use super::model::{Model, Status};
use super::rate::Heard;
use super::record::{Record, Shape};
use super::watch::{Ticket, Watch};
use super::webhook::{Delivery, Unverified, Verifier};
use super::{comfy, exchange, openai, poll, vars};
use crate::clock::Clock;
use crate::domain::{AttemptId, Fault, FaultKind, Generated, ImageRequest, RateNews};
use crate::net::{Clients, guard};
use crate::secret::Secret;
use crate::settings::{Limits, Plan};

/// A provider account or server that can be called.
pub struct Provider {
    /// Its name in this gateway, such as `openai` or `gpu-box`.
    pub name: String,
    /// The catalogue record that it goes by.
    pub record: Arc<Record>,
    /// Where its pictures are made, if that is known.
    pub region: Option<String>,
    /// Limits of the account, to be kept by whoever submits.
    pub limits: Limits,
    /// What the account has beside the price per picture: the configured plan, else what the record says that every
    /// account has free of charge.
    pub plan: Option<Plan>,
    /// How long one call may take. Fetching a finished picture from an address comes on top.
    pub timeout: Duration,
    pub(super) models: Vec<Arc<Model>>,
    /// What models are like that are not in `models`, if such are served.
    pub(super) open: Option<Arc<Model>>,
    pub(super) base: Option<Url>,
    /// What stands for the placeholders of the record.
    pub(super) vars: BTreeMap<String, String>,
    pub(super) key: Option<Secret>,
    pub(super) credentials: Credentials,
    pub(super) webhook: Option<Verifier>,
    pub(super) webhook_secret: Option<Secret>,
    pub(super) clients: Clients,
    pub(super) clock: Clock,
    pub(super) typical: Typical,
    pub(super) heard: Heard,
}

/// How large this provider's pictures are, by the last one: where an answer does not state its length, its buffer
/// is that large at once, instead of being moved again and again while it grows.
#[derive(Debug, Default)]
pub(super) struct Typical(AtomicUsize);

impl Typical {
    /// Remembers the size of a picture, in bytes.
    pub(super) fn note(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// The length of an answer with `pictures` like the last one, in bytes of JSON; `None` before the first.
    pub(super) fn length(&self, pictures: usize) -> Option<usize> {
        let last = self.0.load(Ordering::Relaxed);
        (last > 0).then(|| (last / 3 * 4 + 4096).saturating_mul(pictures))
    }
}

impl fmt::Debug for Provider {
    /// Short: the record alone would fill pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models: Vec<&str> = self.models.iter().map(|model| model.id.as_str()).collect();
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("record", &self.record.name)
            .field("base", &self.base.as_ref().map(Url::as_str))
            .field("models", &models)
            .finish_non_exhaustive()
    }
}

/// A model as it was found under some name.
#[derive(Clone, Debug)]
pub struct ResolvedModel {
    /// The model that serves the request.
    pub model: Arc<Model>,
    /// The name that was asked for, if it is an alias or a model that is gone.
    pub renamed_from: Option<String>,
    /// The model that was asked for, if another serves in its place.
    asked: Option<Arc<Model>>,
}

impl Deref for ResolvedModel {
    type Target = Model;
    fn deref(&self) -> &Model {
        &self.model
    }
}

impl ResolvedModel {
    /// As [`Model::fit`], with the words of a model that is gone put into its successor's.
    ///
    /// # Errors
    /// As [`Model::fit`].
    pub fn fit(
        &self,
        request: &ImageRequest,
        unknown: &BTreeMap<String, Value>,
        tier: Option<&str>,
    ) -> Result<Fitted, Misfit> {
        match &self.asked {
            None => self.model.fit(request, unknown, tier),
            Some(asked) => self.model.fit(&self.translated(asked, request, tier), unknown, tier),
        }
    }

    /// A request to `asked`, which is gone, in the words of its successor.
    fn translated(&self, asked: &Model, request: &ImageRequest, tier: Option<&str>) -> ImageRequest {
        let mut request = request.clone();
        if let Status::Gone { qualities, .. } = &asked.status {
            let word = match request.quality.as_deref() {
                Some(quality) if quality != "auto" => Some(quality),
                _ if tier.is_some() => None,
                // What leaving it out meant.
                _ => Some(""),
            };
            if let Some(quality) = word.filter(|word| !self.model.qualities.iter().any(|known| known == word)) {
                request.quality = qualities.get(quality).cloned().or(request.quality);
            }
        }
        // Its default is no wish, also where the successor has no such field.
        if request.style.is_some() && request.style.as_deref() == asked.default_text("style") {
            request.style = None;
        }
        request
    }
}

/// One call: what is to be made, and under which name.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The model, one of this provider's.
    pub model: &'a Model,
    /// The wanted picture, as [`Model::fit`] returned it.
    pub request: &'a ImageRequest,
    /// How many pictures, at most the model's `max_n`.
    pub n: u32,
    /// Names this call in the provider's logs, where it takes such a name.
    pub attempt: AttemptId,
    /// End-user identifier to pass on.
    pub user: Option<&'a str>,
    /// How many unfinished pictures to stream for each picture; `None` for an answer in one piece.
    pub partials: Option<u8>,
}

impl Provider {
    /// The model of that name: by id, by alias, through the successor of a model that is gone, or any name at
    /// all where the record serves models that it cannot know.
    pub fn model(&self, name: &str) -> Option<ResolvedModel> {
        let found = self
            .models
            .iter()
            .find(|model| model.id == name)
            .or_else(|| self.models.iter().find(|model| model.aliases.iter().any(|alias| alias == name)));
        match found {
            Some(model) => self.serving(model, name),
            None => self.open_model(name),
        }
    }

    /// True if it runs on this machine or in its network.
    pub fn is_near(&self) -> bool {
        self.base.as_ref().is_some_and(|base| !guard::leads_out(base))
    }

    /// The models that the record or the configuration names, those that are gone included.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// True if one of [`Provider::models`] goes by this name.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.models.iter().any(|model| model.goes_by(name))
    }

    /// True if the model takes calls today.
    pub fn serves(&self, model: &Model) -> bool {
        match &model.status {
            Status::Live => true,
            Status::Gone { .. } => false,
            Status::Retiring { .. } => model.status.successor_on(self.today()).is_none(),
        }
    }

    /// True if every name is accepted as a model.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// True if its pictures are simulated.
    pub fn is_simulated(&self) -> bool {
        self.record.simulated
    }

    /// Makes the pictures of a job, in one call that is never repeated. News go to `watch` as they come, and so
    /// does the ticket of a job that the provider has accepted. For a shape that renders in this process there is nothing to submit.
    ///
    /// # Errors
    /// A fault whose kind says what is known about money.
    pub async fn submit(&self, job: &Job<'_>, watch: &dyn Watch) -> Result<Generated, Fault> {
        match self.record.shape {
            // Boxed, because each of them holds a whole HTTP exchange.
            Shape::OpenaiImages => Box::pin(openai::submit(self, job, watch)).await,
            Shape::Exchange => Box::pin(exchange::submit(self, job, watch)).await,
            Shape::SubmitPoll => Box::pin(poll::submit(self, job, watch)).await,
            Shape::ComfyGraph => Box::pin(comfy::submit(self, job, watch)).await,
            Shape::Template => {
                Err(Fault::new(FaultKind::Rejected, "templates are rendered in this process, not submitted"))
            }
        }
    }

    /// Asks for a job that this or another process has submitted before, until it has ended. Nothing is sent that
    /// could be billed.
    ///
    /// # Errors
    /// As for [`Provider::submit`]; a shape without jobs has nothing to ask for.
    pub async fn resume(&self, job: &Job<'_>, ticket: &Ticket, watch: &dyn Watch) -> Result<Generated, Fault> {
        match self.record.shape {
            Shape::SubmitPoll => Box::pin(poll::resume(self, job, ticket, watch)).await,
            Shape::ComfyGraph => Box::pin(comfy::resume(self, job, ticket, watch)).await,
            Shape::OpenaiImages | Shape::Exchange | Shape::Template => {
                Err(Fault::new(FaultKind::Unknown, "its answers cannot be asked for again"))
            }
        }
    }

    /// What the last answers said of the account's limits, and when the call was sent that was told so; each piece
    /// of news once.
    pub fn rate_news(&self) -> Option<(tokio::time::Instant, RateNews)> {
        self.heard.take()
    }

    /// Is `delivery` this provider's own? `told` is the secret that was told to it with the job, if one was; an
    /// account's own secret goes before it.
    ///
    /// # Errors
    /// Why it is not believed.
    pub async fn verify(&self, delivery: Delivery<'_>, told: Option<&Secret>) -> Result<(), Unverified> {
        let verifier = self.webhook.as_ref().ok_or(Unverified::Unexpected)?;
        let secret = self.webhook_secret.as_ref().or(told);
        verifier.verify(delivery, secret, self.clock.now(), &self.clients).await
    }

    /// `text` with the record's vars filled in.
    pub(super) fn expand(&self, text: &str) -> String {
        vars::expand(text, &self.vars)
    }

    /// The address or path in `text` with the record's vars filled in.
    pub(super) fn expand_address(&self, text: &str) -> String {
        vars::expand_address(text, &self.vars)
    }

    fn today(&self) -> jiff::civil::Date {
        let now = jiff::Timestamp::from_millisecond(self.clock.now()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        now.to_zoned(jiff::tz::TimeZone::UTC).date()
    }

    fn serving(&self, model: &Arc<Model>, name: &str) -> Option<ResolvedModel> {
        let (serving, asked) = match model.status.successor_on(self.today()) {
            None => (model, None),
            Some(successor) => (self.models.iter().find(|other| other.id == successor)?, Some(Arc::clone(model))),
        };
        let renamed_from = (serving.id != name).then(|| name.to_owned());
        Some(ResolvedModel { model: Arc::clone(serving), renamed_from, asked })
    }

    fn open_model(&self, name: &str) -> Option<ResolvedModel> {
        let open = self.open.as_ref()?;
        if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
            return None;
        }
        let model = Model { id: name.to_owned(), title: String::new(), ..Model::clone(open) };
        Some(ResolvedModel { model: Arc::new(model), renamed_from: None, asked: None })
    }
}
