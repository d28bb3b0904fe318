//! How a paid call can end, and what is known about money in each case.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::money::{Price, Usd};

/// Tokens as the provider reported them. Zero where it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Text tokens in the prompt.
    pub input_text: u64,
    /// Image tokens of the input pictures.
    pub input_image: u64,
    /// Text tokens that the model wrote (thinking, captions).
    pub output_text: u64,
    /// Image tokens of the pictures made.
    pub output_image: u64,
}

impl Usage {
    /// All input tokens.
    pub fn input(self) -> u64 {
        self.input_text + self.input_image
    }

    /// All output tokens.
    pub fn output(self) -> u64 {
        self.output_text + self.output_image
    }

    /// The share of part `index` of `parts`; shares add up to the whole.
    #[must_use]
    pub fn share(self, index: usize, parts: usize) -> Usage {
        let parts = parts.max(1) as u64;
        let one = |total: u64| total / parts + u64::from((index as u64) < total % parts);
        Usage {
            input_text: one(self.input_text),
            input_image: one(self.input_image),
            output_text: one(self.output_text),
            output_image: one(self.output_image),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            input_text: self.input_text + other.input_text,
            input_image: self.input_image + other.input_image,
            output_text: self.output_text + other.output_text,
            output_image: self.output_image + other.output_image,
        }
    }
}

/// What a provider delivered: bytes that nobody has checked yet.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The pictures as they came.
    pub pictures: Vec<Bytes>,
    /// Tokens, if the provider reports them.
    pub usage: Option<Usage>,
    /// The bill, if the provider itself states it.
    pub billed: Option<Usd>,
    /// The prompt as the provider rewrote it.
    pub revised_prompt: Option<String>,
}

/// News of a generation under way, for callers who stream.
#[derive(Clone, Debug)]
pub enum Progress {
    /// It waits at the provider.
    Queued {
        /// How many are before it, if the provider says so.
        position: Option<u32>,
    },
    /// The provider works on it.
    Running {
        /// How far it is, 0–100, if the provider says so.
        percent: Option<u8>,
    },
    /// An unfinished picture.
    Partial {
        /// Encoded bytes.
        bytes: Bytes,
        /// Counts from 0.
        index: u32,
    },
}

/// How a call to a provider failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Nothing left this machine: no connection could be made.
    NotSent,
    /// The content policy said no. An answer, not an outage.
    Refused,
    /// Too many requests.
    Throttled,
    /// The request itself was rejected (a parameter, a limit). Every repetition would be.
    Rejected,
    /// Key, quota or permission: this account cannot, another might.
    Denied,
    /// The provider failed and documents that it does not bill this.
    Failed,
    /// The provider answered with something unusable after it may have billed.
    BadAnswer,
    /// Nobody knows: sent, and no answer that settles it.
    Unknown,
    /// The provider has accepted the job, and it has not ended in time. It can be asked for later.
    Unfinished,
    /// It was cancelled on purpose before anything was billed.
    Cancelled,
}

impl FaultKind {
    /// True if money may have been spent. Such a call is never repeated by itself, and its
    /// reservation goes to suspense.
    pub const fn may_have_billed(self) -> bool {
        matches!(self, FaultKind::BadAnswer | FaultKind::Unknown | FaultKind::Unfinished)
    }

    /// True if it says that the provider does not do what it should, whatever was asked for.
    pub const fn is_its_providers(self) -> bool {
        matches!(
            self,
            FaultKind::NotSent | FaultKind::Failed | FaultKind::BadAnswer | FaultKind::Unknown | FaultKind::Unfinished
        )
    }

    /// True if another candidate may be tried for the same request.
    pub const fn may_fail_over(self) -> bool {
        matches!(self, FaultKind::NotSent | FaultKind::Throttled | FaultKind::Denied | FaultKind::Failed)
    }

    /// The word used in ledgers, logs and explanations.
    pub const fn name(self) -> &'static str {
        match self {
            FaultKind::NotSent => "not_sent",
            FaultKind::Refused => "refused",
            FaultKind::Throttled => "throttled",
            FaultKind::Rejected => "rejected",
            FaultKind::Denied => "denied",
            FaultKind::Failed => "failed",
            FaultKind::BadAnswer => "bad_answer",
            FaultKind::Unknown => "unknown",
            FaultKind::Unfinished => "unfinished",
            FaultKind::Cancelled => "cancelled",
        }
    }
}

/// What a provider says, in passing, of what its account may still do: at most `remaining` more before `reset` has
/// passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Calls or pictures that are left.
    pub remaining: u32,
    /// From the moment of the answer until there are more.
    pub reset: Duration,
}

/// What the head of a provider's answer says of the account's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateNews {
    /// Of calls.
    pub requests: Option<Allowance>,
    /// Of pictures.
    pub pictures: Option<Allowance>,
}

/// A failed call: what kind, what to tell, what it may have cost.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// For the caller: no secret, no address, no upstream page.
    pub message: String,
    /// The provider's machine-readable code, if it gave one.
    pub code: Option<String>,
    /// The provider's HTTP status, if there was one.
    pub status: Option<u16>,
    /// The parameter that the provider complained of.
    pub param: Option<String>,
    /// When to come back, if the provider said so.
    pub retry_after: Option<Duration>,
    /// Whether the provider itself says that a repetition may help.
    pub should_retry: Option<bool>,
    /// The bill as far as it is known although nothing usable came.
    pub billed: Option<Price>,
}

impl Fault {
    /// A fault with nothing known but its kind and a message.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Fault {
            kind,
            message: message.into(),
            code: None,
            status: None,
            param: None,
            retry_after: None,
            should_retry: None,
            billed: None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}
