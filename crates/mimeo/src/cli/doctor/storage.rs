//! Where things last: the disk, the database, the place of the pictures, and Redis.

use std::path::Path;
use std::time::Duration;

use super::PATIENCE;
use super::finding::Finding;
use crate::app::Blueprint;
use crate::cli::Common;
use crate::config::{BlobPlace, Config, Environment};
use crate::store::Store;

/// Free space below which a gateway will not go on for long, and below which it may not even begin, in MiB.
const LITTLE_MB: u64 = 2048;
const NONE_MB: u64 = 200;

/// How long the database may take for a small question before it slows every request down.
const SLOW: Duration = Duration::from_millis(20);

/// The oldest PostgreSQL that Mimeo is made for.
const OLDEST_POSTGRES: u32 = 13;

/// Looks at the disk, the database and the pictures. Returns the store, if it is there.
pub(super) async fn examine(
    findings: &mut Vec<Finding>,
    common: &Common,
    config: &Config,
    environment: &Environment,
    is_offline: bool,
) -> Option<Store> {
    findings.push(disk(&config.storage.path, config.cache.max_mb));
    let is_elsewhere = config.storage.url.is_some();
    let is_bucket = matches!(config.blob_place(environment), Ok(BlobPlace::Bucket(_)));
    if is_offline && (is_elsewhere || is_bucket) {
        return None;
    }
    if !is_elsewhere && !config.storage.path.join("mimeo.sqlite").exists() {
        findings.push(Finding::good("database", "SQLite", "it is not there yet; the first start makes it"));
        return None;
    }
    let store = match common.store(environment) {
        Ok(store) => store,
        Err(failure) => {
            let faults: Vec<String> = super::faults_of(failure).iter().map(|fault| fault.message.clone()).collect();
            let todo =
                "See that the server of storage.url runs and lets this machine in, or that the data folder is whole.";
            findings.push(Finding::broken("database", "", faults.join("; "), todo));
            return None;
        }
    };
    findings.push(match store.database().await {
        Ok(facts) => {
            let found = format!("{} answers in {} ms", facts.version, facts.took.as_millis());
            if is_elsewhere && is_older(&facts.version, OLDEST_POSTGRES) {
                let todo = format!("Mimeo is made for PostgreSQL {OLDEST_POSTGRES} or newer: upgrade the server.");
                Finding::warning("database", facts.engine, found, todo)
            } else if facts.took > SLOW && is_elsewhere {
                let todo = "Run gateway and database near each other: every paid call waits for two commits.";
                Finding::warning("database", facts.engine, found, todo)
            } else {
                Finding::good("database", facts.engine, found)
            }
        }
        Err(error) => Finding::broken("database", "", error.to_string(), "Start it, or correct storage.url."),
    });
    let place = store.blobs.place();
    findings.push(match store.blobs.is_unmarked().await {
        Ok(false) => Finding::good("pictures", &place, "the place is there"),
        Ok(true) => Finding::good("pictures", &place, "the place is there, and empty"),
        Err(error) => Finding::broken(
            "pictures",
            &place,
            error.to_string(),
            "Correct blobs.url and its credentials, or let this machine read there.",
        ),
    });
    Some(store)
}

pub(super) async fn examine_redis(findings: &mut Vec<Finding>, blueprint: &Blueprint, is_offline: bool) {
    let Some(address) = blueprint.redis.as_ref().filter(|_| !is_offline) else { return };
    let name = address.to_string();
    let patience = Duration::from_millis(u64::from(blueprint.config.shared.patience_ms));
    findings.push(match address.visit(PATIENCE).await {
        Ok(visit) => {
            let found = format!("{} answers in {} ms", visit.version, visit.took.as_millis());
            if visit.took > patience {
                let todo = format!(
                    "Replicas go on without it after shared.patience_ms = {}: raise that, or run it nearer.",
                    patience.as_millis()
                );
                Finding::warning("redis", &name, found, todo)
            } else {
                Finding::good("redis", &name, found)
            }
        }
        Err(why) => Finding::broken(
            "redis",
            &name,
            why,
            "Start Redis 6 or newer there, or correct shared.url, its password included. Meanwhile replicas go on without it.",
        ),
    });
}

/// True if `version` names a major version before `oldest`. One that names none is not judged.
fn is_older(version: &str, oldest: u32) -> bool {
    let digits = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse::<u32>().is_ok_and(|major| major < oldest)
}

/// Room on the disk of the data folder, and whether it can be written.
fn disk(path: &Path, max_mb: u64) -> Finding {
    let name = path.display().to_string();
    // What is not there yet will be made in the nearest folder above it.
    let here = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let Some(there) = here.ancestors().find(|folder| folder.is_dir()) else {
        return Finding::broken("disk", &name, "there is no such folder, nor one above it", "Correct storage.path.");
    };
    if nix::unistd::access(there, nix::unistd::AccessFlags::W_OK).is_err() {
        let found = format!("{} cannot be written", there.display());
        let todo = "Let the user that runs Mimeo write there, or name another folder in storage.path.";
        return Finding::broken("disk", &name, found, todo);
    }
    let free = match nix::sys::statvfs::statvfs(there) {
        // These are of different widths on different systems.
        #[allow(clippy::unnecessary_cast, reason = "they are of 64 bits on some systems only")]
        Ok(facts) => (facts.blocks_available() as u64).saturating_mul(facts.fragment_size() as u64) >> 20,
        Err(error) => {
            let todo = "See that the disk is mounted.";
            return Finding::warning("disk", &name, format!("its free space is not known: {error}"), todo);
        }
    };
    judge_disk(&name, free, max_mb)
}

fn judge_disk(name: &str, free: u64, max_mb: u64) -> Finding {
    let found = format!("{free} MiB are free");
    let bound = if max_mb == 0 { "set cache.max_mb, which is without bound now" } else { "lower cache.max_mb" };
    let todo = format!("Make room, move storage.path to a larger disk, or {bound}.");
    match free {
        0..NONE_MB => Finding::broken("disk", name, found, todo),
        NONE_MB..LITTLE_MB => Finding::warning("disk", name, found, todo),
        _ => Finding::good("disk", name, found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn versions_are_judged_by_their_first_number() {
        for (version, expected) in
            [("9.6.24", true), ("12.22 (Debian 12.22-1)", true), ("13.0", false), ("17beta1", false), ("", false)]
        {
            assert_eq!(is_older(version, OLDEST_POSTGRES), expected, "{version}");
        }
    }

    #[test]
    fn a_disk_is_judged_by_what_is_free() {
        for (free, level) in [(0, Level::Broken), (199, Level::Broken), (200, Level::Warning), (2048, Level::Good)] {
            assert_eq!(judge_disk("data", free, 0).level, level, "{free}");
        }
        assert!(judge_disk("data", 5, 0).todo.unwrap().contains("set cache.max_mb"));
        assert_eq!(disk(&std::env::temp_dir().join("not/there/yet"), 0).check, "disk");
        assert_ne!(disk(&std::env::temp_dir().join("not/there/yet"), 0).found, "");
    }
}
