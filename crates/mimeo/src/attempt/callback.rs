//! Where providers call back when a job has ended. An address names one attempt and proves by a keyed hash that it was
//! made here; what is sent to it is never believed, but a reason to ask the provider now.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::config::Secret;
use crate::domain::{AttemptId, Digest};
use crate::providers::Callback;
use crate::store::{Store, StoreError};

/// The addresses for callbacks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Callbacks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What the addresses begin with; `None` if providers cannot reach this gateway.
    base: Option<String>,
    store: Arc<Store>,
    key: OnceCell<Digest>,
}

impl Callbacks {
    /// Addresses under `public_url`, where the operator says that there is one; all who have `store` open make the same.
    pub fn new(public_url: Option<String>, store: Arc<Store>) -> Self {
        let base = public_url.map(|url| url.trim_end_matches('/').to_owned());
        Callbacks(Arc::new(Inner { base, store, key: OnceCell::new() }))
    }

    async fn key(&self) -> Result<&Digest, StoreError> {
        self.0.key.get_or_try_init(|| self.0.store.callback_key()).await
    }

    /// Where the provider may call back about the attempt `id`. Without it the job is asked for more often.
    pub(super) async fn of(&self, id: AttemptId) -> Option<Callback> {
        let base = self.0.base.as_ref()?;
        let key = match self.key().await {
            Ok(key) => key,
            Err(error) => {
                tracing::warn!(%error, "there is no address for callbacks now");
                return None;
            }
        };
        let token = hash(key, "address", id).to_hex();
        Some(Callback { address: format!("{base}/v1/callbacks/{id}/{token}"), secret: secret(key, id) })
    }

    /// What the provider of the attempt `id` was told to sign with, if `token` is what its address ends in.
    ///
    /// # Errors
    /// The store fails.
    pub async fn open(&self, id: AttemptId, token: &str) -> Result<Option<Secret>, StoreError> {
        if self.0.base.is_none() {
            return Ok(None);
        }
        let key = self.key().await?;
        // Hashes compare in constant time.
        let is_ours = blake3::Hash::from_hex(token).is_ok_and(|token| token == hash(key, "address", id));
        Ok(is_ours.then(|| secret(key, id)))
    }
}

fn hash(key: &Digest, what: &str, id: AttemptId) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&key.0);
    hasher.update(what.as_bytes()).update(&[0]).update(&id.to_bytes());
    hasher.finalize()
}

fn secret(key: &Digest, id: AttemptId) -> Secret {
    Secret::new(hash(key, "signature", id).to_hex().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::{BlobPlace, Storage};

    #[tokio::test]
    async fn an_address_opens_for_its_own_attempt_only() {
        let path = std::env::temp_dir().join(format!("mimeo-callback-{:032x}", crate::domain::id::random()));
        let storage = Storage { path: path.clone(), ..Storage::default() };
        let place = BlobPlace::Folder(path.join("blobs"));
        let open = || Arc::new(Store::open(&storage, None, &place, Clock::System).unwrap());
        let url = || Some("https://mimeo.example/".to_owned());
        let (one, other) = (Callbacks::new(url(), open()), Callbacks::new(url(), open()));
        let callback = one.of(AttemptId(7)).await.unwrap();
        let token =
            callback.address.strip_prefix(&format!("https://mimeo.example/v1/callbacks/{}/", AttemptId(7))).unwrap();
        assert_eq!(token.len(), 64);
        // Another process with the same store, before and after a restart.
        assert_eq!(other.open(AttemptId(7), token).await.unwrap(), Some(callback.secret.clone()));
        assert_ne!(callback.secret.reveal(), token);
        let mut forged = token.to_owned();
        forged.replace_range(..1, if token.starts_with('0') { "1" } else { "0" });
        for (id, token) in [(8, token), (7, ""), (7, "0"), (7, forged.as_str()), (7, callback.secret.reveal())] {
            assert_eq!(one.open(AttemptId(id), token).await.unwrap(), None, "{id} {token}");
        }
        // Who has no public address has no callbacks.
        let alone = Callbacks::new(None, open());
        assert!(alone.of(AttemptId(7)).await.is_none());
        assert_eq!(alone.open(AttemptId(7), token).await.unwrap(), None);
        std::fs::remove_dir_all(path).unwrap();
    }
}
