//! Blobs in a folder.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use super::{BlobName, MARK};
use crate::clock::Millis;
use crate::config::Durability;

/// How old a file must be, in milliseconds, before it is certain that nobody is writing it any more.
const ABANDONED: Millis = 3600 * 1000;

/// One of the folders that [`prepare`] makes.
pub(super) const FIRST: &str = "00";

/// The store over a folder that [`prepare`] has made. It writes a file under a temporary name, syncs it if
/// `durability` asks for that, renames it, and syncs the folder.
pub(super) fn store(root: &Path, durability: Durability) -> object_store::Result<Arc<dyn ObjectStore>> {
    let store = LocalFileSystem::new_with_prefix(root)?;
    Ok(Arc::new(store.with_fsync(durability == Durability::Power)))
}

/// Makes the folder with all folders in it, so that a put creates and syncs none, and an absent one is a
/// sign that something is wrong. Removes what a crash left behind; `now` is the machine's time.
pub(super) fn prepare(root: &Path, now: Millis) -> io::Result<()> {
    fs::create_dir_all(root)?;
    for first in 0..=u8::MAX {
        let folder = root.join(format!("{first:02x}"));
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => sweep(&folder, now, &is_unfinished)?,
            made => made?,
        }
    }
    sweep(root, now, &is_unfinished)?;
    // Earlier versions wrote all temporary files here.
    let old = root.join("tmp");
    if old.is_dir() {
        sweep(&old, now, &|_, _| true)?;
        // It stays for now if a file of the last hour is in it.
        let _ = fs::remove_dir(&old);
    }
    File::open(root)?.sync_all()
}

/// The store writes `NAME` as `NAME#1` (or another number) first.
fn is_unfinished(folder: &str, file: &str) -> bool {
    let Some((name, number)) = file.split_once('#') else { return false };
    let ours = name == MARK || format!("{folder}/{name}").parse::<BlobName>().is_ok();
    ours && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Removes the files of one folder that `doomed` names, by folder and file, and that are abandoned.
fn sweep(folder: &Path, now: Millis, doomed: &dyn Fn(&str, &str) -> bool) -> io::Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !doomed(&name, &entry.file_name().to_string_lossy()) {
            continue;
        }
        // Whoever writes it may finish or remove it at any time, and another process may sweep as well.
        let Ok(about) = entry.metadata() else { continue };
        let written = about.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
        let age = now.saturating_sub(Millis::try_from(written).unwrap_or(Millis::MAX));
        if about.is_file() && age > ABANDONED {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(file = %entry.path().display(), %error, "an abandoned file could not be removed");
                }
                _ => {}
            }
        }
    }
    Ok(())
}
