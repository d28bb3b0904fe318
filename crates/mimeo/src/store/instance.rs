//! Which processes have this data folder open, and which of them are dead.
//!
//! Each process holds a lock on a file of its own. The operating system drops the lock when the process
//! ends, however it ends: an attempt whose owner's lock can be taken has nobody who would finish it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// This process' entry.
#[derive(Debug)]
pub(super) struct Instance {
    /// Names the process in `attempts.owner`.
    pub(super) id: u128,
    folder: PathBuf,
    // Held open, and thereby locked, as long as the process lives.
    _lock: File,
}

impl Instance {
    pub(super) fn register(folder: &Path) -> io::Result<Instance> {
        std::fs::create_dir_all(folder)?;
        let id = crate::domain::id::random();
        let lock = open(&path_of(folder, id))?;
        lock.lock()?;
        Ok(Instance { id, folder: folder.to_owned(), _lock: lock })
    }

    /// True if the process `owner` has ended. Its file is removed.
    pub(super) fn is_dead(&self, owner: u128) -> bool {
        if owner == self.id {
            return false;
        }
        let path = path_of(&self.folder, owner);
        match File::open(&path) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(file) => match file.try_lock() {
                Ok(()) => {
                    let _ = std::fs::remove_file(&path);
                    true
                }
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
            },
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(path_of(&self.folder, self.id));
    }
}

fn path_of(folder: &Path, id: u128) -> PathBuf {
    folder.join(format!("{id:032x}.lock"))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).read(true).open(path)
}
