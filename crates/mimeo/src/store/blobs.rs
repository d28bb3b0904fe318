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
    pub async fn put(&self, digest: Digest, bytes: Bytes) -> io::Result<()> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.put(digest, &bytes)).await
    }

    /// Reads and verifies a blob.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub async fn get(&self, digest: Digest) -> io::Result<BlobRead> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.get(digest)).await
    }

    /// Removes a blob; true if it was there.
    ///
    /// # Errors
    /// The disk cannot be written.
    pub fn remove(&self, digest: Digest) -> io::Result<bool> {
        match fs::remove_file(self.0.path(digest)) {
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
    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(name.get(..2).unwrap_or("00")).join(&name)
    }

    fn put(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        let target = self.path(digest);
        // The same content is there already. Only its length is compared here: a damaged file is found
        // and removed when it is read, and then made again.
        if fs::metadata(&target).is_ok_and(|there| there.len() == bytes.len() as u64) {
            return Ok(());
        }
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
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        if self.durability == Durability::Power {
            file.sync_data()?;
        }
        Ok(())
    }

    fn get(&self, digest: Digest) -> io::Result<BlobRead> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BlobRead::Missing),
            Err(error) => return Err(error),
        };
        if Digest::of(&bytes) == digest {
            return Ok(BlobRead::Found(Bytes::from(bytes)));
        }
        self.corrupt.fetch_add(1, Ordering::Relaxed);
        tracing::error!(blob = %digest, "a stored picture does not match its hash; it is removed and will be made again");
        let _ = fs::remove_file(&path);
        Ok(BlobRead::Corrupt)
    }
}
