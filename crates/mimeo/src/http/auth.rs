//! Who calls. Every path needs a key, except those on one short list.

use std::collections::{BTreeMap, HashMap};

use axum::http::{HeaderMap, Method, header};

use super::{callbacks, media};
use crate::config;
use crate::domain::{Caller, Digest};
use crate::error::{Error, Kind, Result};

/// A caller, and whether all tenants' ledger rows and all budgets are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who calls.
    pub caller: Caller,
    /// True if this key sees the ledger of every tenant and every budget.
    pub admin: bool,
}

/// The keys that open the gateway, known by their hashes only.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    by_hash: HashMap<Digest, Identity>,
}

impl KeyRing {
    /// The ring of the configured keys. Without any, everybody is the one local caller, which is why
    /// the configuration refuses to listen beyond loopback then.
    ///
    /// # Errors
    /// A sentence about a hash that is none. It is never skipped: a ring that came out empty would
    /// let everybody in.
    pub fn new(keys: &BTreeMap<String, config::Key>) -> Result<Self, String> {
        let mut by_hash = HashMap::with_capacity(keys.len());
        for (name, key) in keys {
            let hash = key
                .hash
                .strip_prefix("blake3:")
                .and_then(|hex| hex.parse::<Digest>().ok())
                .ok_or_else(|| format!("keys.{name}: hash is not one that `mimeo keys new {name}` printed"))?;
            let caller = Caller {
                tenant: key.tenant.clone().unwrap_or_else(|| name.clone()),
                key: name.clone(),
                pool: key.pool.clone(),
            };
            by_hash.insert(hash, Identity { caller, admin: key.admin });
        }
        Ok(KeyRing { by_hash })
    }

    /// True if there are no keys, and so no strangers.
    pub fn is_open(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// The caller whose key is in the headers.
    ///
    /// # Errors
    /// No key, or none of this ring.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Identity> {
        if self.is_open() {
            let caller = Caller { tenant: "default".to_owned(), key: "local".to_owned(), pool: None };
            return Ok(Identity { caller, admin: true });
        }
        let Some(header) = headers.get(header::AUTHORIZATION) else {
            return Err(unauthenticated("You did not provide an API key. Send it as `Authorization: Bearer KEY`."));
        };
        let key = bearer(header.as_bytes()).ok_or_else(|| {
            unauthenticated("The Authorization header is not of the form `Authorization: Bearer KEY`.")
        })?;
        // Looking up by hash tells a listener at the clock nothing: which hash a guess has cannot be steered.
        self.by_hash
            .get(&Digest::of(key))
            .cloned()
            .ok_or_else(|| unauthenticated("Incorrect API key provided. `mimeo keys new NAME` makes one."))
    }
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_at_checked(7)?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
}

fn unauthenticated(message: &str) -> Error {
    Error::new(Kind::Unauthenticated, message)
}

/// True for what needs no key. A list of what is open, not of what is closed: a new route is closed
/// until somebody writes it here.
pub fn is_public(method: &Method, path: &str) -> bool {
    match *method {
        // The 128 random bits of a picture's name are the right to fetch it.
        Method::GET | Method::HEAD => matches!(path, "/healthz" | "/readyz") || media::is_picture_path(path),
        // The address proves that this gateway has made it, and its provider signs besides where it can.
        Method::POST => callbacks::is_callback_path(path),
        _ => false,
    }
}

/// A new key and the hash by which it is known: `mimeo_` and 43 characters that carry 256 random bits,
/// and `blake3:` with the hash of all that.
///
/// # Errors
/// The machine has no randomness to give.
pub fn new_key() -> Result<(String, String)> {
    let mut bits = [0u8; 32];
    getrandom::fill(&mut bits).map_err(|error| Error::internal("randomness", error))?;
    let key = format!("mimeo_{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(bits));
    let hash = hash_of(&key);
    Ok((key, hash))
}

/// The hash by which `key` is known in the configuration.
pub fn hash_of(key: &str) -> String {
    format!("blake3:{}", Digest::of(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn keys(toml: &str) -> BTreeMap<String, config::Key> {
        toml::from_str(toml).unwrap()
    }

    fn ring(key: &str) -> KeyRing {
        KeyRing::new(&keys(&format!("[web]\nhash = '{}'\ntenant = 'shop'", hash_of(key)))).unwrap()
    }

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn keys_open_only_their_own_door() {
        let (key, hash) = new_key().unwrap();
        assert_eq!(key.len(), 6 + 43);
        assert_eq!(hash, hash_of(&key));
        assert_ne!(new_key().unwrap().0, key);
        let ring = ring(&key);
        let identity = ring.identify(&with(&format!("Bearer {key}"))).unwrap();
        assert_eq!(identity.caller.tenant, "shop");
        assert!(!identity.admin);
        assert!(ring.identify(&with(&format!("bearer  {key}"))).is_ok());
        for wrong in ["Bearer ", "Bearer", "Bearer x", "Basic eDp5", "Bearer mimeo_", key.as_str(), hash.as_str()] {
            assert_eq!(ring.identify(&with(wrong)).unwrap_err().kind, Kind::Unauthenticated, "{wrong}");
        }
        assert!(ring.identify(&HeaderMap::new()).is_err());
    }

    #[test]
    fn without_keys_everybody_is_local() {
        let identity = KeyRing::default().identify(&HeaderMap::new()).unwrap();
        assert_eq!((identity.caller.tenant.as_str(), identity.caller.key.as_str()), ("default", "local"));
        assert!(identity.admin);
    }

    #[test]
    fn a_bad_hash_is_never_skipped() {
        assert!(KeyRing::new(&keys("[web]\nhash = 'blake3:12'")).is_err());
    }

    #[test]
    fn the_open_paths() {
        let picture = format!("/media/img_{:032x}", 7);
        for open in ["/healthz", "/readyz", picture.as_str(), "/media/img_7", "/media/img_7/1200x630.png"] {
            assert!(is_public(&Method::GET, open), "{open}");
            assert!(!is_public(&Method::POST, open), "{open}");
        }
        assert!(is_public(&Method::POST, "/v1/callbacks/att_1/abc"));
        assert!(!is_public(&Method::GET, "/v1/callbacks/att_1/abc"));
        for closed in [
            "/",
            "/v1/callbacks",
            "/v1/callbacks/att_1",
            "/v1/images/jobs",
            "/v1/models",
            "/media",
            "/media/",
            "/media/../v1/ledger",
            "/healthz/",
            "/media/img_7/",
            "/media/img_7/x",
            "/media/img_7/1x1.svg",
            "/media/img_7/1x1.png/",
            "/media//1x1.png",
        ] {
            assert!(!is_public(&Method::GET, closed) && !is_public(&Method::POST, closed), "{closed}");
        }
    }
}
