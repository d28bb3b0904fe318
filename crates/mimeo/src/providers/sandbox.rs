//! The shape of the simulated provider's own API.

use super::provider::{Job, Provider};
use crate::domain::{Fault, FaultKind, Generated};

pub(super) async fn submit(_provider: &Provider, _job: &Job<'_>) -> Result<Generated, Fault> {
    Err(Fault::new(FaultKind::NotSent, "not there yet"))
}
