//! Fetches pictures that a provider answers with addresses: at once, because the addresses expire, and again if
//! need be, because fetching is free. Where the address comes from somebody else's text, it goes through the guard.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, Request, Url};
use tokio::time::{Instant, sleep, timeout_at};

use super::lift::LARGEST_PICTURE;
use super::provider::Provider;
use crate::net::guard;

/// How long all tries for one picture may take together.
const PATIENCE: Duration = Duration::from_secs(90);

/// Pauses between tries: storage behind a delivery network may lag by seconds.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_millis(600), Duration::from_secs(2), Duration::from_secs(5)];

/// Why a try brought nothing.
enum Miss {
    /// Another try may bring it.
    Again(String),
    /// It is not given to everybody.
    Locked(String),
    /// None will.
    Never(String),
}

/// The picture at `link`, which may be relative to the provider's address.
///
/// # Errors
/// A sentence for the caller, without the address.
pub(super) async fn fetch(provider: &Provider, link: &str) -> Result<Bytes, String> {
    let place = Place::of(provider, link)?;
    let deadline = Instant::now() + PATIENCE;
    let mut pauses = PAUSES.iter();
    let mut with_key = false;
    loop {
        let miss = match timeout_at(deadline, place.get(provider, with_key)).await {
            Ok(Ok(picture)) => return Ok(picture),
            // The provider's own server may want the key for that, too. Most do not, and get none.
            Ok(Err(Miss::Locked(_))) if place.own && !with_key => {
                with_key = true;
                continue;
            }
            Ok(Err(miss)) => miss,
            Err(_) => Miss::Never("the picture could not be fetched in time".to_owned()),
        };
        match (miss, pauses.next()) {
            (Miss::Again(_), Some(pause)) if Instant::now() + *pause < deadline => sleep(*pause).await,
            (Miss::Again(message) | Miss::Locked(message) | Miss::Never(message), _) => return Err(message),
        }
    }
}

/// Where a picture is, and how it may be called.
struct Place {
    url: Url,
    /// The provider's own server: reached as it is, wherever that may be, and with the key if it asks for one.
    own: bool,
}

impl Place {
    fn of(provider: &Provider, link: &str) -> Result<Place, String> {
        let base = provider.base.as_ref().ok_or("it has no address")?;
        // Relative ones are meant from the server's root or from the directory of the API.
        let folder = Url::parse(&format!("{}/", base.as_str().trim_end_matches('/')));
        let url = folder
            .and_then(|folder| folder.join(link))
            .map_err(|_| "it answered with an address that cannot be read".to_owned())?;
        let own = url.host_str() == base.host_str()
            && url.port_or_known_default() == base.port_or_known_default()
            && url.scheme() == base.scheme();
        if own {
            return Ok(Place { url, own });
        }
        guard::check(&url).map_err(|why| format!("the address of the picture may not be called: {why}"))?;
        let allowed = &provider.record.download.hosts;
        if !allowed.is_empty() && !guard::is_within(&url, allowed) {
            return Err("the picture is on a host that this provider does not deliver from".to_owned());
        }
        Ok(Place { url, own })
    }

    async fn get(&self, provider: &Provider, with_key: bool) -> Result<Bytes, Miss> {
        let never = |message: &str| Miss::Never(message.to_owned());
        let client = if self.own { provider.clients.for_base(&self.url) } else { provider.clients.guarded() };
        let client = client.map_err(|error| Miss::Never(error.to_string()))?;
        let mut request = Request::new(Method::GET, self.url.clone());
        if with_key {
            let signed = provider.credentials.sign(&mut request, &provider.clients, &provider.clock).await;
            signed.map_err(|fault| Miss::Again(fault.message))?;
        }
        let broke = |_| Miss::Again("the connection for fetching the picture broke".to_owned());
        let mut response = client.execute(request).await.map_err(broke)?;
        let status = response.status().as_u16();
        match status {
            200..=299 => {}
            404 | 408 | 425 | 429 | 500..=599 => {
                return Err(Miss::Again(format!("fetching the picture failed with status {status}")));
            }
            401 | 403 => return Err(Miss::Locked(format!("fetching the picture failed with status {status}"))),
            300..=399 => return Err(never("the address of the picture leads elsewhere, which is not followed")),
            _ => return Err(Miss::Never(format!("fetching the picture failed with status {status}"))),
        }
        let length = response.content_length().and_then(|length| usize::try_from(length).ok());
        if length.is_some_and(|length| length > LARGEST_PICTURE) {
            return Err(never("the picture is too large"));
        }
        let mut picture = Vec::with_capacity(length.unwrap_or(256 << 10));
        while let Some(piece) = response.chunk().await.map_err(broke)? {
            if picture.len() + piece.len() > LARGEST_PICTURE {
                return Err(never("the picture is too large"));
            }
            picture.extend_from_slice(&piece);
        }
        Ok(Bytes::from(picture))
    }
}
