//! Pictures that are asked for often, in Redis, by their content hash: nothing in it can ever be stale. Never
//! the only copy, and never given out without comparing its hash.
//!
//! They have a connection of their own, so that megabytes do not keep the limits waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::link::Link;
use crate::domain::Digest;

/// The largest picture that is kept, in bytes: larger ones would push out too much of everything else.
const LARGEST: usize = 8 << 20;
/// Bytes that may wait to be written.
const WAITING: usize = 32 << 20;

/// The hot layer. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pictures(Arc<Inner>);

struct Inner {
    link: Link,
    /// The link that is up if Redis answers at all.
    pulse: Link,
    namespace: String,
    patience: Duration,
    ttl: Duration,
    room: Arc<Semaphore>,
    errands: mpsc::UnboundedSender<Errand>,
    wrong: AtomicU64,
}

pub(super) enum Errand {
    Keep(Digest, Bytes, OwnedSemaphorePermit),
    Remove(Digest),
}

impl Pictures {
    /// The layer on `link`, whose pictures last for `ttl`, and the errands that [`Pictures::keep_all`] runs.
    /// Redis is taken to answer while `pulse` is up.
    pub(super) fn new(
        link: Link,
        pulse: Link,
        namespace: &str,
        patience: Duration,
        ttl: Duration,
    ) -> (Pictures, mpsc::UnboundedReceiver<Errand>) {
        let (errands, received) = mpsc::unbounded_channel();
        let pictures = Pictures(Arc::new(Inner {
            link,
            pulse,
            namespace: namespace.to_owned(),
            patience,
            ttl,
            room: Arc::new(Semaphore::new(WAITING)),
            errands,
            wrong: AtomicU64::new(0),
        }));
        (pictures, received)
    }

    pub(super) fn wrong(&self) -> u64 {
        self.0.wrong.load(Ordering::Relaxed)
    }

    pub(super) async fn get(&self, digest: Digest) -> Option<Bytes> {
        if !self.0.pulse.is_up() {
            return None;
        }
        // Not more than a picture may have, whatever is there.
        let mut command = redis::cmd("GETRANGE");
        command.arg(self.key(digest)).arg(0).arg(LARGEST);
        let read = self.0.link.call(|mut redis| async move { command.query_async::<Vec<u8>>(&mut redis).await });
        // Too late for the caller is not too late for the connection.
        let bytes = timeout(self.0.patience, read).await.ok()??;
        if bytes.is_empty() {
            return None;
        }
        if Digest::of(&bytes) == digest {
            return Some(Bytes::from(bytes));
        }
        self.0.wrong.fetch_add(1, Ordering::Relaxed);
        tracing::error!(blob = %digest, "a picture in Redis does not match its hash; it is removed there. Does another \
                        program write there? Then give this gateway a namespace or a database of its own");
        let _ = self.0.errands.send(Errand::Remove(digest));
        None
    }

    pub(super) fn keep(&self, digest: Digest, bytes: Bytes) {
        if self.0.ttl.is_zero() || bytes.len() > LARGEST || !self.0.pulse.is_up() {
            return;
        }
        // Who cannot wait is dropped: it is a copy.
        let Ok(size) = u32::try_from(bytes.len()) else { return };
        if let Ok(permit) = Arc::clone(&self.0.room).try_acquire_many_owned(size) {
            let _ = self.0.errands.send(Errand::Keep(digest, bytes, permit));
        }
    }

    /// Writes and removes what it is told to, one after another.
    pub(super) async fn keep_all(self, mut errands: mpsc::UnboundedReceiver<Errand>) {
        while let Some(errand) = errands.recv().await {
            let (command, permit) = match errand {
                Errand::Keep(digest, bytes, permit) => {
                    let mut command = redis::cmd("SET");
                    command.arg(self.key(digest)).arg(&bytes[..]).arg("PX").arg(self.0.ttl.as_millis() as u64);
                    (command, Some(permit))
                }
                Errand::Remove(digest) => {
                    let mut command = redis::cmd("DEL");
                    command.arg(self.key(digest));
                    (command, None)
                }
            };
            // What cannot be written is not kept.
            let _ = self.0.link.call(|mut redis| async move { command.exec_async(&mut redis).await }).await;
            drop(permit);
        }
    }

    fn key(&self, digest: Digest) -> String {
        format!("{}:picture:{digest}", self.0.namespace)
    }
}
