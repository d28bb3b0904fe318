//! What lasts: the index of pictures, the attempts and the ledger in SQLite, the bytes as files or in a bucket.
//!
//! All SQL is in this room, as one method per thing that the rooms above need done atomically. A
//! method that writes returns after its commit. Every picture row, entry and sum is asked for with its
//! tenant or with an unguessable id; there is no way to list across tenants but for the operator.

mod blobs;
mod database;
mod entries;
mod instance;
mod money;
mod report;

use std::path::{Path, PathBuf};

pub use blobs::{BlobError, BlobName, BlobRead, Blobs, Listed};
use database::Database;
pub use database::StoreError;
pub use entries::{EntryListing, EntryWrite, Lookup, NewPicture, PurgeFilter, Refusal, StoredPicture};
use instance::Instance;
pub use money::{AttemptState, BudgetLimit, Finish, NewAttempt, OpenAttempt, Reserved, Saving, Settlement, Subject};
pub use report::{GroupBy, LedgerEvent, LedgerQuery, LedgerReport, LedgerRow, Totals};

use crate::config::{BlobPlace, Durability};

/// The store of one data folder. Several processes may have the same folder open.
#[derive(Debug)]
pub struct Store {
    database: Database,
    /// The bytes of pictures.
    pub blobs: Blobs,
    instance: Instance,
    path: PathBuf,
}

impl Store {
    /// Opens the folder `path`, creating it and bringing its database up to date as needed, with the bytes
    /// of its pictures in `blobs`.
    ///
    /// # Errors
    /// The folder cannot be made or written, or was written by a newer Mimeo, or `blobs` cannot be used.
    pub fn open(path: &Path, blobs: &BlobPlace, durability: Durability) -> Result<Store, StoreError> {
        let at = |error: std::io::Error| StoreError::folder(path, &error);
        std::fs::create_dir_all(path).map_err(at)?;
        let blobs = Blobs::open(blobs, durability)?;
        let instance = Instance::register(&path.join("instances")).map_err(at)?;
        let database = Database::open(&path.join("mimeo.sqlite"), durability)?;
        Ok(Store { database, blobs, instance, path: path.to_owned() })
    }

    /// The data folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
