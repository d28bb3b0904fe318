//! What went wrong with a place for blobs, whether it may pass, and what to do.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};

use super::bucket::PlainRefused;
use crate::config::{Bucket, Protocol};
use crate::error::{Error, Kind};

/// When a caller should come back after the place could not be reached.
const COME_BACK: Duration = Duration::from_secs(5);

/// Why blobs could not be read or written. The messages hold no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The place cannot be reached, is overloaded or full: the same may work later.
    #[error("the pictures in {place} cannot be reached at the moment: {cause}")]
    Unavailable {
        /// The folder or bucket.
        place: String,
        /// What happened.
        cause: String,
    },
    /// The place is not there or does not let us in: somebody must do something about it.
    #[error("{place} cannot be used for pictures: {cause}")]
    Unusable {
        /// The folder or bucket.
        place: String,
        /// What is wrong, and which setting to look at.
        cause: String,
    },
}

impl From<BlobError> for Error {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Unavailable { .. } => {
                let message = "The place where pictures are kept cannot be reached at the moment. Send the request \
                               again in a few seconds.";
                let mut told = Error::new(Kind::Unavailable, message).context("blobs", error);
                told.retry_after = Some(COME_BACK);
                told
            }
            BlobError::Unusable { .. } => Error::internal("blobs", error),
        }
    }
}

/// A place as messages speak of it.
pub(super) struct Place {
    shown: String,
    bucket: Option<Bucket>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Place {
    pub(super) fn folder(path: &Path) -> Self {
        Place { shown: path.display().to_string(), bucket: None }
    }

    pub(super) fn bucket(bucket: &Bucket) -> Self {
        let slash = if bucket.prefix.is_empty() { "" } else { "/" };
        let shown = format!("{}://{}{slash}{}", bucket.protocol.scheme(), bucket.name, bucket.prefix);
        Place { shown, bucket: Some(bucket.clone()) }
    }

    pub(super) fn unavailable(&self, cause: impl Into<String>) -> BlobError {
        BlobError::Unavailable { place: self.shown.clone(), cause: self.without_secrets(cause.into()) }
    }

    pub(super) fn unusable(&self, cause: impl Into<String>) -> BlobError {
        BlobError::Unusable { place: self.shown.clone(), cause: self.without_secrets(cause.into()) }
    }

    /// The settings do not make a store.
    pub(super) fn misconfigured(&self, error: &object_store::Error) -> BlobError {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        match &self.bucket {
            Some(bucket) => self.unusable(format!("{cause}. Look at {}", credentials(bucket.protocol))),
            None => self.unusable(cause),
        }
    }

    /// What an error of the library means.
    pub(super) fn fault(&self, error: &object_store::Error) -> BlobError {
        use object_store::Error as E;
        let Some(bucket) = &self.bucket else { return self.folder_fault(error) };
        let (name, protocol) = (&bucket.name, bucket.protocol);
        if find::<PlainRefused>(error).is_some() {
            let allow = format!("{}ALLOW_HTTP", protocol.variables());
            return self.unusable(format!(
                "its endpoint has no TLS, so everybody on the way could read the pictures. If the way there is your \
                 own network, set {allow}=true; otherwise give the endpoint an https address"
            ));
        }
        let answer = Answer::of(error);
        if self.lacks_bucket(error) {
            return self.unusable(format!(
                "there is no bucket {name} ({answer}). Create it, or correct blobs.url and {}",
                endpoint(protocol)
            ));
        }
        if answer.is_redirect() {
            return self.unusable(format!("the bucket {name} is elsewhere ({answer}). Look at {}", endpoint(protocol)));
        }
        if matches!(answer.status, Some(401 | 403)) || answer.code.as_deref() == Some("AccessDenied") {
            return self.unusable(format!(
                "access is denied ({answer}). Look at {}, and let them read, write, delete and list in the bucket {name}",
                credentials(protocol)
            ));
        }
        match error {
            E::NotImplemented { .. } | E::NotSupported { .. } | E::InvalidPath { .. } => {
                self.unusable(error.to_string())
            }
            _ => match answer.status {
                // Not now, or others were faster.
                Some(408 | 409 | 429) => self.unavailable(answer.to_string()),
                Some(400..=499) => {
                    self.unusable(format!("{answer}. Look at {} and {}", credentials(protocol), endpoint(protocol)))
                }
                Some(_) => self.unavailable(answer.to_string()),
                None if answer.code.is_some() => self.unavailable(answer.to_string()),
                None => self.unavailable(format!("{}{}", unanswered(error), self.own_role())),
            },
        }
    }

    /// True if an answer says that the bucket itself is absent, not only the object.
    pub(super) fn lacks_bucket(&self, error: &object_store::Error) -> bool {
        let code = Answer::of(error).code;
        self.bucket.is_some() && matches!(code.as_deref(), Some("NoSuchBucket" | "ContainerNotFound"))
    }

    fn folder_fault(&self, error: &object_store::Error) -> BlobError {
        let Some(cause) = find::<io::Error>(error) else { return self.unavailable(innermost(error)) };
        match cause.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
                self.unusable(format!("{cause}. Let this user read and write there, or name another folder"))
            }
            _ => self.unavailable(cause.to_string()),
        }
    }

    /// What to know when there is no answer and no credentials were given: then it is not the bucket that
    /// does not answer, but the machine's own service for them.
    fn own_role(&self) -> &'static str {
        let Some(bucket) = &self.bucket else { return "" };
        let has = |name: &str| bucket.settings.get(name).is_some();
        match bucket.protocol {
            Protocol::S3 if !has("AWS_ACCESS_KEY_ID") => {
                " (AWS_ACCESS_KEY_ID is not set: the role of this machine is asked for credentials)"
            }
            Protocol::Gcs if !has("GOOGLE_APPLICATION_CREDENTIALS") => {
                " (GOOGLE_APPLICATION_CREDENTIALS is not set: this machine's own account may be asked for credentials)"
            }
            Protocol::Azure if !has("AZURE_STORAGE_ACCOUNT_KEY") => {
                " (AZURE_STORAGE_ACCOUNT_KEY is not set: this machine's own identity may be asked for credentials)"
            }
            _ => "",
        }
    }

    /// No library is trusted not to repeat a setting in a message.
    fn without_secrets(&self, text: String) -> String {
        let secret = |name: &str| ["KEY", "SECRET", "TOKEN", "SAS"].iter().any(|word| name.contains(word));
        let settings = self.bucket.iter().flat_map(|bucket| bucket.settings.iter());
        let secrets = settings.filter(|(name, value)| secret(name) && !name.ends_with("_FILE") && value.len() >= 8);
        secrets.fold(text, |text, (_, secret)| text.replace(secret, "…"))
    }
}

/// Where credentials are set.
fn credentials(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::S3 => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        Protocol::Gcs => "GOOGLE_APPLICATION_CREDENTIALS",
        Protocol::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    }
}

/// Where it is set which server is meant.
fn endpoint(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::S3 => "AWS_REGION and AWS_ENDPOINT_URL",
        Protocol::Gcs => "GOOGLE_BASE_URL",
        Protocol::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ENDPOINT",
    }
}

/// What a server answered, as far as it is fit to be repeated.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    status: Option<u16>,
    code: Option<String>,
}

impl Answer {
    /// Reads status and error code out of the library's text, which is the only place it tells them.
    fn of(error: &object_store::Error) -> Answer {
        let text = chain(error).last().map_or_else(String::new, ToString::to_string);
        let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let status = status.or_else(|| text.starts_with("Received redirect").then_some(301));
        // As XML, and as the library tells of one object of several that could not be deleted.
        let between =
            |begin, end| text.split_once(begin).and_then(|(_, rest): (_, &str)| Some(rest.split_once(end)?.0));
        let code = between("<Code>", "</Code>").or_else(|| between("(code: ", ")"));
        let code = code.filter(|code| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        Answer { status, code: code.map(str::to_owned) }
    }

    fn is_redirect(&self) -> bool {
        self.status.is_some_and(|status| (300..400).contains(&status))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, &self.code) {
            (Some(status), Some(code)) => write!(f, "it answers {status} {code}"),
            (Some(status), None) => write!(f, "it answers {status}"),
            (None, Some(code)) => write!(f, "it answers {code}"),
            (None, None) => f.write_str("it gives no reason"),
        }
    }
}

/// Why there is no answer.
fn unanswered(error: &object_store::Error) -> String {
    match find::<HttpError>(error).map(HttpError::kind) {
        Some(HttpErrorKind::Timeout) => "it does not answer in time".to_owned(),
        _ => innermost(error),
    }
}

/// An error and its causes, outermost first.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// The first cause of all. Those around it repeat addresses.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}
