//! The stories of requests: written down in the background, in batches, never in a caller's way. They are for people;
//! a crash may lose the last moment of them, and so may a database that cannot keep up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::Pipeline;
use crate::config;
use crate::domain::{Price, RequestId, Story, Usd};
use crate::error::Result;
use crate::store::Store;

/// Stories that may wait to be written. Beyond, new ones are dropped: memory is for pictures.
const WAITING: usize = 4096;

/// How long stories are gathered that are written together: each commit of them is one that pictures wait for.
const GATHER: Duration = Duration::from_millis(20);

/// How long who asks for a story waits until those before are written.
const PATIENCE: Duration = Duration::from_secs(2);

/// The stories that are to be written. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Stories(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    tracker: TaskTracker,
    settings: config::Requests,
    waiting: Mutex<Waiting>,
    /// How many of those that were told are written, or lost.
    written: watch::Sender<u64>,
    /// Somebody waits for what was told.
    asked: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    stories: Vec<Story>,
    told: u64,
    dropped: u64,
    is_writing: bool,
}

/// A request with those that it belongs to: one story.
#[derive(Clone, Debug, Serialize)]
pub struct Family {
    /// Always `request`.
    pub object: &'static str,
    /// The request that was asked for.
    #[serde(flatten)]
    pub story: Story,
    /// The request that it goes on with.
    pub parent: Option<Story>,
    /// The requests that go on with it, oldest first.
    pub children: Vec<Story>,
    /// What all of them cost.
    #[serde(rename = "total_cost_usd")]
    pub cost: Price,
    /// What all of them saved.
    #[serde(rename = "total_saved_usd")]
    pub saved: Usd,
}

impl Family {
    /// `story` between its parent and its children.
    fn new(story: Story, parent: Option<Story>, children: Vec<Story>) -> Family {
        let all = || parent.iter().chain([&story]).chain(&children);
        let cost = all().map(|story| story.cost).fold(Price::FREE, Price::plus);
        let saved = all().filter_map(|story| story.saved).sum();
        Family { object: "request", story, parent, children, cost, saved }
    }
}

impl Stories {
    /// Stories that are written to `store` by tasks of `tracker`, as far as `settings` want them.
    pub(super) fn new(store: Arc<Store>, tracker: TaskTracker, settings: config::Requests) -> Stories {
        let (waiting, written) = (Mutex::default(), watch::channel(0).0);
        Stories(Arc::new(Inner { store, tracker, settings, waiting, written, asked: Notify::new() }))
    }

    /// True if they are kept.
    pub(super) fn keep(&self) -> bool {
        self.0.settings.keep_days > 0
    }

    /// True if prompts are kept with them.
    pub(super) fn keep_prompts(&self) -> bool {
        self.0.settings.prompts
    }

    /// Has `story` written down soon, in place of what was told of the same request before.
    pub(super) fn tell(&self, story: Story) {
        if !self.keep() {
            return;
        }
        let mut waiting = self.waiting();
        if waiting.stories.len() >= WAITING {
            waiting.dropped += 1;
            return;
        }
        waiting.told += 1;
        waiting.stories.push(story);
        if !waiting.is_writing {
            waiting.is_writing = true;
            let this = self.clone();
            self.0.tracker.spawn(async move { this.write().await });
        }
    }

    /// Writes until nothing is left. What comes meanwhile goes together into the next transaction.
    async fn write(&self) {
        loop {
            // Nobody needs to know who of the two it was.
            let _ = tokio::time::timeout(GATHER, self.0.asked.notified()).await;
            let (stories, told, dropped) = {
                let mut waiting = self.waiting();
                if waiting.stories.is_empty() {
                    waiting.is_writing = false;
                    return;
                }
                let stories = std::mem::take(&mut waiting.stories);
                (stories, waiting.told, std::mem::take(&mut waiting.dropped))
            };
            if dropped > 0 {
                tracing::warn!(dropped, "stories of requests were not kept: the store does not keep up");
            }
            let count = stories.len();
            if let Err(error) = self.0.store.write_stories(stories).await {
                tracing::warn!(count, %error, "stories of requests could not be written down");
            }
            self.0.written.send_replace(told);
        }
    }

    /// Waits until what was told so far is written, or for too long.
    async fn written(&self) {
        let told = self.waiting().told;
        let mut written = self.0.written.subscribe();
        self.0.asked.notify_one();
        // If it takes too long, what is there is told.
        let _ = tokio::time::timeout(PATIENCE, written.wait_for(|written| *written >= told)).await;
    }

    /// What was told of the request `id`, of any tenant's unless one is named.
    ///
    /// # Errors
    /// The store fails.
    pub(super) async fn of(&self, id: RequestId, tenant: Option<String>) -> Result<Option<Story>> {
        self.written().await;
        Ok(self.0.store.story(id, tenant).await?)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipeline {
    /// What came of the request `id`, with the requests that it belongs to; of any tenant's unless one is named.
    ///
    /// # Errors
    /// The store fails.
    pub async fn story(&self, id: RequestId, tenant: Option<String>) -> Result<Option<Family>> {
        let Some(story) = self.stories.of(id, tenant.clone()).await? else { return Ok(None) };
        Ok(Some(family(&self.store, story, tenant).await?))
    }
}

/// `story` with the requests that it belongs to, as far as `tenant` may see them.
///
/// # Errors
/// The store fails.
pub async fn family(store: &Store, story: Story, tenant: Option<String>) -> Result<Family> {
    let parent = match story.parent {
        Some(parent) => store.story(parent, tenant.clone()).await?,
        None => None,
    };
    let mut children = store.stories_after(story.request).await?;
    children.retain(|child| tenant.as_ref().is_none_or(|tenant| child.tenant == *tenant));
    Ok(Family::new(story, parent, children))
}
