//! What replicas tell each other, as text on one channel. A replica of another version may say more: what is
//! not understood is not heard.

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::domain::{AttemptId, Digest, RequestId};

/// A reason to look now instead of at the next poll. Never the truth: it may come late, twice or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A flight for this key has ended, with a picture or without.
    Landed(Digest),
    /// Somebody has purged.
    Purged,
    /// The provider has called back about the job of this attempt.
    Called(AttemptId),
    /// The caller of this request does not want it any more.
    CalledOff(RequestId),
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News<'a> {
    /// A hint, from the process with this mark.
    Hint(&'a str, Hint),
    /// A slot of this account was given back while somebody waited.
    Freed(&'a str),
}

/// Waits for `wanted`, or until some hints were missed, which may have been it.
pub async fn heard(hints: &mut Receiver<Hint>, wanted: Hint) {
    loop {
        match hints.recv().await {
            Ok(hint) if hint != wanted => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // No hints any more: only polling is left.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The one channel of a namespace.
pub(super) fn channel(namespace: &str) -> String {
    format!("{namespace}:news")
}

/// The message of `hint` from the process with the mark `origin`.
pub(super) fn hint(origin: &str, hint: Hint) -> String {
    match hint {
        Hint::Landed(key) => format!("landed {origin} {key}"),
        Hint::Purged => format!("purged {origin}"),
        Hint::Called(attempt) => format!("called {origin} {attempt}"),
        Hint::CalledOff(request) => format!("off {origin} {request}"),
    }
}

/// The message of a free slot.
pub(super) fn freed(account: &str) -> String {
    format!("freed {account}")
}

/// Understands a message.
pub(super) fn parse(message: &[u8]) -> Option<News<'_>> {
    let (what, rest) = std::str::from_utf8(message).ok()?.split_once(' ')?;
    let about = || rest.split_once(' ');
    match what {
        "landed" => about().and_then(|(origin, key)| Some(News::Hint(origin, Hint::Landed(key.parse().ok()?)))),
        "called" => about().and_then(|(origin, id)| Some(News::Hint(origin, Hint::Called(id.parse().ok()?)))),
        "off" => about().and_then(|(origin, id)| Some(News::Hint(origin, Hint::CalledOff(id.parse().ok()?)))),
        "purged" => Some(News::Hint(rest, Hint::Purged)),
        "freed" => Some(News::Freed(rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood() {
        let about = [Hint::Landed(Digest::of(b"x")), Hint::Called(AttemptId(7)), Hint::CalledOff(RequestId(8))];
        for hint in [Hint::Purged].into_iter().chain(about) {
            assert_eq!(parse(super::hint("me", hint).as_bytes()), Some(News::Hint("me", hint)));
        }
        assert_eq!(parse(freed("my account").as_bytes()), Some(News::Freed("my account")));
        for strange in [&b"landed me"[..], b"landed me xyz", b"called me req_7", b"more me", b"", b"\xff \xff"] {
            assert_eq!(parse(strange), None);
        }
    }
}
