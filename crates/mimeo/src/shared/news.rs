//! What replicas tell each other, as text on one channel. A replica of another version may say more: what is
//! not understood is not heard.

use std::time::Duration;

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
    /// The process with this mark was told that this account takes no calls for so long.
    Rests(&'a str, &'a str, Duration),
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

/// The message of the process with the mark `origin` that `account` takes no calls for so long.
pub(super) fn rests(origin: &str, account: &str, pause: Duration) -> String {
    format!("rests {origin} {} {account}", pause.as_millis())
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
        "rests" => {
            let (origin, rest) = rest.split_once(' ')?;
            let (pause, account) = rest.split_once(' ')?;
            Some(News::Rests(origin, account, Duration::from_millis(pause.parse().ok()?)))
        }
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
        let second = Duration::from_secs(1);
        let rests = News::Rests("me", "my account", second);
        assert_eq!(parse(super::rests("me", "my account", second).as_bytes()), Some(rests));
        let strange: [&[u8]; 8] = [
            b"landed me",
            b"rests me x a",
            b"rests me 1",
            b"landed me xyz",
            b"called me req_7",
            b"more me",
            b"",
            b"\xff \xff",
        ];
        for strange in strange {
            assert_eq!(parse(strange), None);
        }
    }
}
