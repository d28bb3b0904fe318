//! Bytes of pictures: one file per content hash. What is read is verified; what does not match its
//! hash is never given out.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::config::Durability;
use crate::domain::Digest;

/// Where a blob lies. A name is never used twice: it is made of the hash of the content and of a number
/// of its own, so whoever deletes one deletes nothing that somebody else has stored since.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobName(String);

impl BlobName {
    fn new(digest: Digest) -> BlobName {
        let hash = digest.to_string();
        let nonce = crate::domain::id::random() as u64;
        BlobName(format!("{}/{hash}.{nonce:016x}", hash.get(..2).unwrap_or("00")))
    }

    /// The hash of the content.
    pub fn digest(&self) -> Option<Digest> {
        self.0.get(3..67)?.parse().ok()
    }
}

impl std::fmt::Display for BlobName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for BlobName {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(BlobName(text.to_owned()))
    }
}

/// A folder of blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    durability: Durability,
    corrupt: AtomicU64,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobRead {
    /// The bytes, verified against their hash.
    Found(Bytes),
    /// Nothing there.
    Missing,
    /// Something was there that does not match the hash. It was removed.
    Corrupt,
}

impl Blobs {
    pub(super) fn open(root: &Path, durability: Durability) -> io::Result<Blobs> {
        fs::create_dir_all(root.join("tmp"))?;
        // All folders are made once, so that a put creates and syncs none.
        for first in 0..=u8::MAX {
            let folder = root.join(format!("{first:02x}"));
            if let Err(error) = fs::create_dir(&folder)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(error);
            }
        }
        File::open(root)?.sync_all()?;
        Ok(Blobs(Arc::new(Inner { root: root.to_owned(), durability, corrupt: AtomicU64::new(0) })))
    }

    /// Blobs found corrupt since the start of this process.
    pub fn corrupt(&self) -> u64 {
        self.0.corrupt.load(Ordering::Relaxed)
    }

    /// Keeps `bytes`, whose hash is `digest`. Returns when they are as durable as configured.
    ///
    /// # Errors
    /// The disk is full or cannot be written.
    pub async fn put(&self, digest: Digest, bytes: Bytes) -> io::Result<BlobName> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.put(digest, &bytes)).await
    }

    /// Reads and verifies a blob.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub async fn get(&self, name: &BlobName) -> io::Result<BlobRead> {
        let (inner, name) = (Arc::clone(&self.0), name.clone());
        blocking(move || inner.get(&name)).await
    }

    /// Removes a blob; true if it was there.
    ///
    /// # Errors
    /// The disk cannot be written.
    pub async fn remove(&self, name: &BlobName) -> io::Result<bool> {
        match fs::remove_file(self.0.path(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

impl Inner {
    fn path(&self, name: &BlobName) -> PathBuf {
        self.root.join(&name.0)
    }

    fn put(&self, digest: Digest, bytes: &[u8]) -> io::Result<BlobName> {
        let name = BlobName::new(digest);
        let target = self.path(&name);
        let folder = target.parent().unwrap_or(&self.root);
        let temporary = self.root.join("tmp").join(format!("{:032x}", crate::domain::id::random()));
        let written = self.write(&temporary, bytes).and_then(|()| fs::rename(&temporary, &target));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        if self.durability == Durability::Power {
            // The name must survive as well as the content.
            File::open(folder)?.sync_all()?;
        }
        Ok(name)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        if self.durability == Durability::Power {
            file.sync_data()?;
        }
        Ok(())
    }

    fn get(&self, name: &BlobName) -> io::Result<BlobRead> {
        let path = self.path(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BlobRead::Missing),
            Err(error) => return Err(error),
        };
        if name.digest() == Some(Digest::of(&bytes)) {
            return Ok(BlobRead::Found(Bytes::from(bytes)));
        }
        self.corrupt.fetch_add(1, Ordering::Relaxed);
        tracing::error!(blob = %name, "a stored picture does not match its hash; it is made again when it is asked for");
        Ok(BlobRead::Corrupt)
    }
}
