//! Bytes of pictures, in a folder or in a bucket that several machines share. What is read is verified;
//! what does not match its digest is never given out.
//!
//! A name is never used twice: what is stored once more gets a name of its own. So a process that was
//! frozen and deletes late can only delete what it meant, never bytes that somebody has stored since.

mod bucket;
mod fault;
mod folder;
mod name;
#[cfg(test)]
mod s3_server;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as Location;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};

use super::StoreError;
use crate::clock::{Clock, Millis};
use crate::config::{BlobPlace, Durability};
use crate::domain::Digest;
pub use fault::BlobError;
use fault::Place;
pub use name::BlobName;

/// From this size on, in bytes, a blob goes to a bucket in parts of this size.
const PART: usize = 8 << 20;

/// Parts of one blob that are under way at a time.
const PARTS_AT_ONCE: usize = 4;

/// The object that says which store this is.
const MARK: &str = "mimeo-store-id";

/// How often the mark is looked for while others create it, and how long to wait in between.
const MARK_TRIES: u32 = 10;
const MARK_PAUSE: Duration = Duration::from_millis(100);

/// A place for blobs. Cheap to clone.
#[derive(Clone)]
pub struct Blobs(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    /// What the names of all objects begin with.
    root: Location,
    place: Place,
    /// The same as a folder, if it is one.
    folder: Option<PathBuf>,
    corrupt: AtomicU64,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobRead {
    /// The bytes, verified against their digest.
    Found(Bytes),
    /// Nothing there.
    Missing,
    /// Something is there that does not match the digest, also when read again.
    Corrupt,
}

/// A blob that is there, whether or not anything refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: BlobName,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written, by the clock of whoever keeps it.
    pub written_ms: Millis,
}

impl Listed {
    /// How old it is at `now`. Clocks differ by seconds: compare this with hours.
    pub fn age(&self, now: Millis) -> Duration {
        Duration::from_millis(u64::try_from(now.saturating_sub(self.written_ms)).unwrap_or(0))
    }
}

impl std::fmt::Debug for Blobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the store itself, which knows credentials.
        f.debug_tuple("Blobs").field(&self.0.place).finish()
    }
}

impl Blobs {
    /// Opens a place. A folder is created and freed of what a crash left behind; a bucket is not spoken to
    /// before it is used. `durability` is for folders: a bucket has written when it says so.
    ///
    /// # Errors
    /// The folder cannot be made or read, or the settings of the bucket are wrong or incomplete.
    pub fn open(place: &BlobPlace, durability: Durability) -> Result<Blobs, StoreError> {
        let (store, root, folder, place) = match place {
            BlobPlace::Folder(path) => {
                // The times of files are the machine's, so its clock is the one to compare them with.
                folder::prepare(path, Clock::System.now()).map_err(|error| StoreError::folder(path, &error))?;
                let place = Place::folder(path);
                let store = folder::store(path, durability).map_err(|error| place.fault(&error))?;
                (store, Location::ROOT, Some(path.clone()), place)
            }
            BlobPlace::Bucket(bucket) => {
                let place = Place::bucket(bucket);
                let store = bucket::store(bucket).map_err(|error| place.misconfigured(&error))?;
                (store, Location::from(bucket.prefix.as_str()), None, place)
            }
        };
        Ok(Blobs(Arc::new(Inner { store, root, place, folder, corrupt: AtomicU64::new(0) })))
    }

    /// Blobs found corrupt since the start of this process.
    pub fn corrupt(&self) -> u64 {
        self.0.corrupt.load(Ordering::Relaxed)
    }

    /// Keeps `bytes`, whose digest is `digest`, under a new name. Returns when they are as durable as
    /// configured. Large ones go to a bucket in parts; if this future is dropped meanwhile, the parts stay
    /// until the bucket's own rules drop them.
    ///
    /// # Errors
    /// The place cannot be reached, is full, or does not let us write.
    pub async fn put(&self, digest: Digest, bytes: Bytes) -> Result<BlobName, BlobError> {
        let name = BlobName::fresh(digest);
        self.put_as(name, bytes).await?;
        Ok(name)
    }

    /// Keeps `bytes` under a name of the caller's choice, in place of what has that name already.
    ///
    /// # Errors
    /// As for [`Blobs::put`].
    pub async fn put_as(&self, name: BlobName, bytes: Bytes) -> Result<(), BlobError> {
        self.0.check_folder(&name.folder()).await?;
        let location = self.0.location(&name);
        let written = if self.0.folder.is_none() && bytes.len() >= PART {
            self.0.put_parts(&location, &bytes).await
        } else {
            self.0.store.put(&location, PutPayload::from_bytes(bytes)).await.map(drop)
        };
        written.map_err(|error| self.0.place.fault(&error))
    }

    /// Reads and verifies a blob. One that does not match is read once more, because a transfer may be bad
    /// where the blob is good; nothing is removed.
    ///
    /// # Errors
    /// The place cannot be reached or does not let us read. This is no answer to whether the blob is there.
    pub async fn get(&self, name: &BlobName) -> Result<BlobRead, BlobError> {
        let first = self.0.read(name).await?;
        if first != BlobRead::Corrupt {
            return Ok(first);
        }
        let second = self.0.read(name).await?;
        if second == BlobRead::Corrupt {
            self.0.corrupt.fetch_add(1, Ordering::Relaxed);
            tracing::error!(blob = %name, "a stored picture does not match its digest; it is not given out");
        }
        Ok(second)
    }

    /// Removes a blob; false if it was not there.
    ///
    /// # Errors
    /// The place cannot be reached or does not let us delete.
    pub async fn remove(&self, name: &BlobName) -> Result<bool, BlobError> {
        let location = self.0.location(name);
        // A bucket says of an absent object, too, that it was deleted; so it is asked first. One byte is read
        // because only the answer to a read tells an absent object from an absent bucket.
        if self.0.folder.is_none() {
            let probe = GetOptions { range: Some((0..1).into()), ..GetOptions::default() };
            match self.0.store.get_opts(&location, probe).await {
                Err(error) if self.0.is_missing(&error, name).await? => return Ok(false),
                // Whatever else is wrong, the deletion fails of it as well or does not need it.
                _ => {}
            }
        }
        match self.0.store.delete(&location).await {
            Ok(()) => Ok(true),
            Err(error) if self.0.is_missing(&error, name).await? => Ok(false),
            Err(error) => Err(self.0.place.fault(&error)),
        }
    }

    /// Every blob that is there, in no particular order, page by page. Objects with other names are left out.
    pub fn list(&self) -> BoxStream<'static, Result<Listed, BlobError>> {
        let inner = Arc::clone(&self.0);
        let prefix = (!inner.root.is_root()).then_some(&inner.root);
        let found = inner.store.list(prefix);
        let listed = move |found: object_store::Result<ObjectMeta>| {
            let listed = match found {
                Ok(object) => inner.listed(&object).map(Ok),
                Err(error) => Some(Err(inner.place.fault(&error))),
            };
            std::future::ready(listed)
        };
        let inner = Arc::clone(&self.0);
        // Without this a folder that is gone would look like one that is empty.
        let check = async move { inner.check_folder(folder::FIRST).await.err().map(Err) };
        futures_util::stream::once(check).filter_map(std::future::ready).chain(found.filter_map(listed)).boxed()
    }

    /// Where it is, as messages name it.
    pub fn place(&self) -> String {
        self.0.place.to_string()
    }

    /// True if nobody has used the place yet: it has no mark.
    ///
    /// # Errors
    /// The place cannot be reached or does not let us read.
    pub async fn is_unmarked(&self) -> Result<bool, BlobError> {
        self.0.check_folder(folder::FIRST).await?;
        match self.0.store.get(&self.0.root.clone().join(MARK)).await {
            Ok(_) => Ok(false),
            Err(error @ object_store::Error::NotFound { .. }) if !self.0.place.lacks_bucket(&error) => Ok(true),
            Err(error) => Err(self.0.place.fault(&error)),
        }
    }

    /// Says which store this is: reads the mark in it, or puts `ours` there if there is none. All who ask
    /// get the same answer, whoever comes first.
    ///
    /// # Errors
    /// The place cannot be reached or does not let us read and write, or the mark is not ours.
    pub async fn identity(&self, ours: u128) -> Result<u128, BlobError> {
        self.0.check_folder(folder::FIRST).await?;
        let mark = self.0.root.clone().join(MARK);
        let fault = |error| self.0.place.fault(&error);
        for attempt in 0..MARK_TRIES {
            if attempt > 0 {
                // Another is writing it at this moment and has not ended.
                tokio::time::sleep(MARK_PAUSE).await;
            }
            match self.0.store.get(&mark).await {
                Ok(found) => return self.0.parse_mark(&found.bytes().await.map_err(fault)?),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(fault(error)),
            }
            let text = PutPayload::from(format!("{ours:032x}").into_bytes());
            match self.0.store.put_opts(&mark, text, PutMode::Create.into()).await {
                Ok(_) => return Ok(ours),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(fault(error)),
            }
        }
        Err(self.0.place.unavailable(format!("others are writing {MARK} in it all the time")))
    }
}

impl Inner {
    fn location(&self, name: &BlobName) -> Location {
        name.parts().into_iter().fold(self.root.clone(), |at, part| at.join(part))
    }

    fn listed(&self, object: &ObjectMeta) -> Option<Listed> {
        let parts: Vec<_> = object.location.prefix_match(&self.root)?.collect();
        let text = parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("/");
        let written_ms = object.last_modified.timestamp_millis();
        Some(Listed { name: text.parse().ok()?, bytes: object.size, written_ms })
    }

    async fn put_parts(&self, location: &Location, bytes: &Bytes) -> object_store::Result<()> {
        let mut upload = self.store.put_multipart(location).await?;
        let parts: Vec<_> = (0..bytes.len())
            .step_by(PART)
            .map(|at| Ok(upload.put_part(bytes.slice(at..bytes.len().min(at + PART)).into())))
            .collect();
        let sent = futures_util::stream::iter(parts).try_buffer_unordered(PARTS_AT_ONCE);
        let written = match sent.try_collect::<()>().await {
            Ok(()) => upload.complete().await.map(drop),
            Err(error) => Err(error),
        };
        if written.is_err()
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(error = %self.place.fault(&error), "the parts of a failed upload could not be removed");
        }
        written
    }

    async fn read(&self, name: &BlobName) -> Result<BlobRead, BlobError> {
        let bytes = match self.store.get(&self.location(name)).await {
            Ok(found) => found.bytes().await.map_err(|error| self.place.fault(&error))?,
            Err(error) if self.is_missing(&error, name).await? => return Ok(BlobRead::Missing),
            Err(error) => return Err(self.place.fault(&error)),
        };
        let digest = name.digest();
        let verify = move || if Digest::of(&bytes) == digest { BlobRead::Found(bytes) } else { BlobRead::Corrupt };
        tokio::task::spawn_blocking(verify).await.map_err(|lost| self.place.unavailable(lost.to_string()))
    }

    /// True if `error` says that this blob is absent; an error if the bucket or folder itself is, because
    /// then nothing is known of the blob.
    async fn is_missing(&self, error: &object_store::Error, name: &BlobName) -> Result<bool, BlobError> {
        if !matches!(error, object_store::Error::NotFound { .. }) {
            return Ok(false);
        }
        if self.place.lacks_bucket(error) {
            return Err(self.place.fault(error));
        }
        self.check_folder(&name.folder()).await.map(|()| true)
    }

    /// Fails if a folder that was made when this was opened is there no more: its disk is not mounted, and
    /// what is found or written in its place is not what is meant.
    async fn check_folder(&self, name: &str) -> Result<(), BlobError> {
        match &self.folder {
            Some(root) if !tokio::fs::try_exists(root.join(name)).await.unwrap_or(false) => {
                Err(self.place.unavailable(format!("the folder {name} in it is gone. Is its disk mounted?")))
            }
            _ => Ok(()),
        }
    }

    fn parse_mark(&self, bytes: &[u8]) -> Result<u128, BlobError> {
        let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
        let id = if text.len() == 32 { u128::from_str_radix(text, 16).ok() } else { None };
        id.ok_or_else(|| {
            self.place.unusable(format!(
                "the object {MARK} in it holds no id of a store. If nothing else keeps its objects there, remove it; \
                 otherwise name another place in blobs.url"
            ))
        })
    }
}
