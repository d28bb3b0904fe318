//! The one error type. It says who is to blame, whether a repetition may help, whether money may have
//! been spent, and what the caller is told, apart from what the log is told.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{AttemptId, Fault, FaultKind};

/// What went wrong, in the vocabulary that callers can act on. Decides status, type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The request is malformed or asks for something impossible.
    BadRequest,
    /// No key or a wrong one.
    Unauthenticated,
    /// The key may not do this.
    Forbidden,
    /// There is no such model, picture or page.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The body is larger than allowed.
    TooLarge,
    /// The body comes too slowly.
    Stalled,
    /// An idempotency key was used for another request.
    KeyReused,
    /// The answer under an idempotency key was given, and cannot be given again, because its pictures were not
    /// to be stored.
    NotStored,
    /// The answer under an idempotency key was given, and its pictures are not there any more.
    Gone,
    /// The content policy of a provider, or of the gateway, said no.
    Refused,
    /// `only-if-cached`, and it is not.
    NotCached,
    /// Not payable within a budget or a limit of the request.
    OverBudget,
    /// Too many requests.
    Throttled,
    /// The caller's deadline passed; the picture is still being made.
    DeadlinePassed,
    /// Nobody knows whether the provider made and billed the picture.
    OutcomeUnknown,
    /// It was cancelled on purpose, and nothing was billed.
    Cancelled,
    /// The provider failed.
    Upstream,
    /// The gateway is full or shutting down.
    Unavailable,
    /// What the route or the request demands rules out everybody who could make it, and will in a second, too.
    RuledOut,
    /// The gateway itself is wrong.
    Internal,
}

impl Kind {
    /// HTTP status, the one that the OpenAI API uses for the same condition.
    pub const fn status(self) -> u16 {
        match self {
            Kind::BadRequest | Kind::Refused => 400,
            Kind::Unauthenticated => 401,
            Kind::Forbidden => 403,
            Kind::NotFound => 404,
            Kind::MethodNotAllowed => 405,
            Kind::Stalled => 408,
            Kind::NotStored | Kind::Cancelled => 409,
            Kind::Gone => 410,
            Kind::TooLarge => 413,
            Kind::KeyReused => 422,
            Kind::OverBudget | Kind::Throttled => 429,
            Kind::Upstream => 502,
            Kind::Unavailable | Kind::RuledOut => 503,
            Kind::NotCached | Kind::DeadlinePassed | Kind::OutcomeUnknown => 504,
            Kind::Internal => 500,
        }
    }

    /// The `type` of the OpenAI error object.
    pub const fn type_name(self) -> &'static str {
        match self {
            Kind::BadRequest
            | Kind::NotFound
            | Kind::MethodNotAllowed
            | Kind::TooLarge
            | Kind::Stalled
            | Kind::KeyReused
            | Kind::NotStored
            | Kind::Gone
            | Kind::Cancelled
            | Kind::NotCached => "invalid_request_error",
            Kind::Refused => "image_generation_user_error",
            Kind::Unauthenticated => "authentication_error",
            Kind::Forbidden => "permission_error",
            Kind::OverBudget => "insufficient_quota",
            Kind::Throttled => "requests",
            Kind::DeadlinePassed
            | Kind::OutcomeUnknown
            | Kind::Upstream
            | Kind::Unavailable
            | Kind::RuledOut
            | Kind::Internal => "server_error",
        }
    }

    /// The default `code` of the OpenAI error object.
    pub const fn code(self) -> &'static str {
        match self {
            Kind::BadRequest => "invalid_value",
            Kind::Unauthenticated => "invalid_api_key",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not_found",
            Kind::MethodNotAllowed => "method_not_allowed",
            Kind::TooLarge => "request_too_large",
            Kind::Stalled => "body_stalled",
            Kind::KeyReused => "idempotency_key_reused",
            Kind::NotStored => "idempotent_answer_not_stored",
            Kind::Gone => "idempotent_answer_gone",
            Kind::Refused => "moderation_blocked",
            Kind::NotCached => "not_cached",
            Kind::OverBudget => "budget_exceeded",
            Kind::Throttled => "rate_limit_exceeded",
            Kind::DeadlinePassed => "deadline_passed",
            Kind::OutcomeUnknown => "outcome_unknown",
            Kind::Cancelled => "cancelled",
            Kind::Upstream => "provider_error",
            Kind::Unavailable => "unavailable",
            Kind::RuledOut => "ruled_out",
            Kind::Internal => "internal_error",
        }
    }

    /// Should an SDK send the same request again by itself? `None` leaves it to the SDK's own rules.
    /// Where money may be in flight the answer is no.
    pub const fn should_retry(self) -> Option<bool> {
        match self {
            Kind::OutcomeUnknown | Kind::OverBudget | Kind::NotCached => Some(false),
            // It would be answered the same for as long as the key is known. SDKs would repeat a 409 by themselves.
            Kind::KeyReused | Kind::NotStored | Kind::Gone | Kind::Cancelled => Some(false),
            // The picture is being made: the repetition joins it or finds it.
            Kind::DeadlinePassed | Kind::Unavailable => Some(true),
            Kind::RuledOut => Some(false),
            // Failover has been tried already, here.
            Kind::Upstream | Kind::Internal => Some(false),
            _ => None,
        }
    }
}

/// A failed request.
#[derive(Clone, Debug)]
pub struct Error {
    /// What went wrong.
    pub kind: Kind,
    /// For the caller: what is wrong and what to do next. Never a secret, never an upstream page.
    pub message: String,
    /// The field to blame.
    pub param: Option<String>,
    /// A more exact code than the kind's.
    pub code: Option<String>,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// True if money may have been spent on this.
    pub may_have_billed: bool,
    /// For the log only.
    pub context: Vec<(&'static str, String)>,
}

/// Result with the one error type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind with a message for the caller.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            param: None,
            code: None,
            retry_after: None,
            may_have_billed: false,
            context: Vec::new(),
        }
    }

    /// A request that is wrong in the field `param`.
    pub fn bad(param: impl Into<String>, message: impl Into<String>) -> Self {
        Error::new(Kind::BadRequest, message).param(param)
    }

    /// A fault of the gateway itself. The caller learns only that, the log learns `cause`.
    pub fn internal(what: &'static str, cause: impl fmt::Display) -> Self {
        let mut error = Error::new(
            Kind::Internal,
            "The gateway failed to handle this request. Look in its log under the request's id.",
        );
        error.context.push((what, cause.to_string()));
        error
    }

    /// [`Kind::should_retry`] of this very error: never where the same again might be paid again.
    pub fn should_retry(&self) -> Option<bool> {
        if self.may_have_billed { Some(false) } else { self.kind.should_retry() }
    }

    /// True if the same request may succeed for another caller: its own budget, deadline or change of mind is to blame.
    pub fn is_about_its_caller(&self) -> bool {
        matches!(self.kind, Kind::OverBudget | Kind::Cancelled | Kind::Forbidden)
            || (self.kind == Kind::Throttled && self.param.as_deref() == Some("deadline_ms"))
    }

    /// Names the field to blame.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Gives a more exact code.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Adds something for the log.
    #[must_use]
    pub fn context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((key, value.to_string()));
        self
    }

    /// What the caller is told of a fault at `provider`, after everything that may be tried was.
    pub fn from_fault(fault: &Fault, provider: &str, attempt: AttemptId) -> Self {
        let kind = match fault.kind {
            FaultKind::Refused => Kind::Refused,
            FaultKind::Throttled => Kind::Throttled,
            FaultKind::Rejected => Kind::BadRequest,
            FaultKind::Cancelled => Kind::Cancelled,
            FaultKind::NotSent | FaultKind::Denied | FaultKind::Failed => Kind::Upstream,
            // Billed for certain: there is nothing left to find out.
            FaultKind::BadAnswer if fault.billed.is_some() => Kind::Upstream,
            FaultKind::BadAnswer | FaultKind::Unknown | FaultKind::Unfinished => Kind::OutcomeUnknown,
        };
        let message = match fault.kind {
            FaultKind::BadAnswer if fault.billed.is_some() => format!(
                "{provider} billed this and answered with something that is no picture ({}). Nothing was sent again. \
                 Claim it back from the provider under {attempt}.",
                fault.message
            ),
            FaultKind::Unknown | FaultKind::Unfinished => format!(
                "{provider} did not tell how this ended ({}), and it may have billed it. Nothing was sent again. The \
                 reserved amount is in suspense under {attempt}: see `mimeo ledger suspense`.",
                fault.message
            ),
            FaultKind::BadAnswer => format!(
                "{provider} answered with something that is no picture ({}), and it may have billed it. Nothing was \
                 sent again. The reserved amount is in suspense under {attempt}: see `mimeo ledger suspense`.",
                fault.message
            ),
            _ => format!("{provider}: {}", fault.message),
        };
        Error {
            kind,
            message,
            param: fault.param.clone(),
            code: match fault.kind {
                FaultKind::BadAnswer if fault.billed.is_some() => Some("unusable_answer".to_owned()),
                // The kind's own code matters more than the provider's here.
                FaultKind::Unknown | FaultKind::Unfinished | FaultKind::BadAnswer => None,
                _ => fault.code.clone(),
            },
            retry_after: fault.retry_after,
            may_have_billed: fault.kind.may_have_billed(),
            context: vec![
                ("provider", provider.to_owned()),
                ("attempt", attempt.to_string()),
                ("fault", fault.kind.name().to_owned()),
            ],
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.context.iter().try_for_each(|(key, value)| write!(f, "; {key}: {value}"))
    }
}

impl std::error::Error for Error {}
