//! A panic in a handler is a fault of the gateway and an answer like any other: the connection and
//! everybody else on it live on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use crate::error::Error;

/// Panics contained since the start, for the log.
static CONTAINED: AtomicU64 = AtomicU64::new(0);

/// The response of `handler`, or the answer to its panic.
pub fn contain<F: Future<Output = Response>>(handler: F) -> impl Future<Output = Response> {
    Contained(Box::pin(handler))
}

struct Contained<F>(Pin<Box<F>>);

impl<F: Future<Output = Response>> Future for Contained<F> {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        // Nothing of the future is looked at after it panicked: its answer is final.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(cause) => {
                let total = CONTAINED.fetch_add(1, Ordering::Relaxed) + 1;
                let cause = cause
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| cause.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                tracing::error!(cause, total, "a handler panicked");
                Poll::Ready(Failure(Error::internal("panic", cause)).into_response())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_answer() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let response = runtime.block_on(contain(async { panic!("on purpose") }));
        assert_eq!(response.status(), 500);
        assert_eq!(runtime.block_on(contain(async { Response::default() })).status(), 200);
    }
}
