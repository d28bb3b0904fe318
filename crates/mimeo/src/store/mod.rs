//! What lasts: the index of pictures, the attempts and the ledger in a database, the bytes in blobs.
//!
//! All SQL is in this room, as one method per thing that the rooms above need done atomically. A
//! method that writes returns after its commit. Every picture row, entry and sum is asked for with its
//! tenant or with an unguessable id; there is no way to list across tenants but for the operator.

mod about;
mod address;
mod alerts;
mod attempts;
mod blobs;
mod calls;
mod drafts;
mod entries;
mod feedback;
mod instance;
mod jobs;
mod money;
mod postgres;
mod prices;
mod replies;
mod report;
mod requests;
mod retention;
mod sql;
mod sqlite;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use about::DatabaseFacts;
pub use address::{BadDatabaseAddress, DatabaseAddress};
pub use alerts::{AlertRow, NewAlert};
pub use attempts::{AttemptState, Finish, Finished, NewAttempt, OpenAttempt, Reserved, Settlement, Term};
pub use blobs::{BlobError, BlobName, BlobRead, Blobs, Listed};
pub use calls::{PastCall, Timing};
pub use drafts::{Draft, NewDraft, NewDrafts};
pub use entries::{EntryListing, EntryWrite, Lookup, NewPicture, PurgeFilter, Refusal, StoredPicture};
pub use feedback::{Feedback, FeedbackKind, Heard, Subjected};
use instance::Instance;
pub use jobs::AcceptedJob;
pub use money::{Allowance, BudgetLimit, BudgetUse, Saving, Scope, Subject};
pub use prices::{PriceChange, Settled};
pub use replies::{Claim, Past, Reply};
pub use report::{GroupBy, LedgerEvent, LedgerQuery, LedgerReport, LedgerRow, Totals};
pub use requests::StoryQuery;
pub use retention::{Findings, Kept, Uses};
use sql::{Engine, values};

use crate::clock::Clock;
use crate::config;

/// How long a process on this machine may be silent before the others give it up. Long, because its end is
/// noticed at once in another way; only one that is frozen must be waited for.
const LEASE_HERE: Duration = Duration::from_secs(60);

/// How long a process on any machine may be silent before the others give it up.
const LEASE_ANYWHERE: Duration = Duration::from_secs(15);

/// Why the store could not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no.
    #[error("the database failed: {0}")]
    Database(String),
    /// The database or the blobs cannot be reached now.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// The data folder cannot be used.
    #[error("the data folder {path} cannot be used: {cause}. Name another with --data")]
    Folder {
        /// The folder.
        path: String,
        /// What the operating system said.
        cause: String,
    },
    /// The database was written by a newer Mimeo.
    #[error(
        "{path} was written by a newer Mimeo (schema {found}, this one knows {known}): upgrade, or use another folder"
    )]
    Newer {
        /// The database.
        path: String,
        /// Its schema.
        found: usize,
        /// The newest schema that this program knows.
        known: usize,
    },
    /// The place of the pictures' bytes cannot be used.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The blobs belong to another database.
    #[error(
        "the pictures in blobs.url belong to another database: this one would pay for all of its pictures again. Name \
         the place that it was used with, or an empty one"
    )]
    OtherBlobs,
    /// The place of the blobs is empty, and the index leads to some.
    #[error(
        "the pictures that this database leads to are not in {place}: without them, all would be paid for again. If it \
         is a folder, see that it is mounted; else name the place that it was used with. To start again without \
         pictures, run `mimeo cache purge --all` first"
    )]
    BlobsAbsent {
        /// Where they should be.
        place: String,
    },
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// True if the same may work later.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Blobs(BlobError::Unavailable { .. }))
    }

    fn folder(path: &Path, error: &std::io::Error) -> Self {
        StoreError::Folder { path: path.display().to_string(), cause: error.to_string() }
    }
}

impl From<StoreError> for crate::error::Error {
    fn from(error: StoreError) -> Self {
        use crate::error::{Error, Kind};
        match error {
            StoreError::Unavailable(why) => {
                let message = "The gateway's store cannot be reached now. Nothing was sent or paid; try again shortly.";
                let mut error = Error::new(Kind::Unavailable, message).code("store_unavailable").context("store", why);
                error.retry_after = Some(Duration::from_secs(2));
                error
            }
            StoreError::Blobs(error) => error.into(),
            error => Error::internal("store", error),
        }
    }
}

/// The store. Several processes may have the same one open.
#[derive(Debug)]
pub struct Store {
    engine: Engine,
    /// The bytes of pictures.
    pub blobs: Blobs,
    instance: Instance,
    path: PathBuf,
}

impl Store {
    /// Opens the store that `storage` describes, with the database at `url` if there is one, creating it and
    /// bringing its schema up to date as needed.
    ///
    /// # Errors
    /// The folder cannot be made or written, the server cannot be reached, or the schema is a newer one.
    pub fn open(
        storage: &config::Storage,
        url: Option<&config::Secret>,
        place: &config::BlobPlace,
        clock: Clock,
    ) -> Result<Store, StoreError> {
        let path = storage.path.as_path();
        let at = |error: std::io::Error| StoreError::folder(path, &error);
        std::fs::create_dir_all(path).map_err(at)?;
        let blobs = Blobs::open(place, storage.durability)?;
        let lease = storage.lease_s.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let (engine, instance) = match url {
            None => (
                Engine::sqlite(&path.join("mimeo.sqlite"), storage.durability, clock)?,
                Instance::new(lease.unwrap_or(LEASE_HERE), Some(path.join("instances"))),
            ),
            Some(url) => (Engine::postgres(url.reveal())?, Instance::new(lease.unwrap_or(LEASE_ANYWHERE), None)),
        };
        Ok(Store { engine, blobs, instance: instance.map_err(at)?, path: path.to_owned() })
    }

    /// Makes sure that the blobs are those that the index leads to: with others, every picture would seem to
    /// be lost, and would be paid for again.
    ///
    /// # Errors
    /// They are others or none, or something cannot be reached.
    pub async fn check_blobs(&self) -> Result<(), StoreError> {
        let fresh = i64::from_le_bytes((crate::domain::id::random() as u64).to_le_bytes()).saturating_abs();
        let (known, has_blobs) = self
            .engine
            .write(move |sql| {
                let has_mark = sql.first("SELECT 1 FROM meta WHERE name = 'blob_store'", &[])?.is_some();
                let has_blobs = has_mark && sql.first("SELECT 1 FROM blobs LIMIT 1", &[])?.is_some();
                sql.execute(
                    "INSERT INTO meta (name, value) VALUES ('blob_store', ?1) ON CONFLICT (name) DO NOTHING",
                    &values![fresh],
                )?;
                let row = sql.first("SELECT value FROM meta WHERE name = 'blob_store'", &[])?;
                Ok((row.map_or(Ok(fresh), |row| row.int(0))?, has_blobs))
            })
            .await?;
        let known = u128::from(known.unsigned_abs());
        // A share that is not mounted is an empty folder. Only the first who comes may mark an empty place.
        if has_blobs && self.blobs.is_unmarked().await? {
            return Err(StoreError::BlobsAbsent { place: self.blobs.place() });
        }
        let found = self.blobs.identity(known).await?;
        if found == known { Ok(()) } else { Err(StoreError::OtherBlobs) }
    }

    /// True if other machines may have the same store open.
    pub const fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
    }

    /// The data folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
