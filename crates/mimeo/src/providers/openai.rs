//! The shape of the OpenAI Images API.

use super::provider::{Job, Provider};
use crate::domain::{Fault, FaultKind, Generated, Progress};

pub(super) async fn submit(
    _provider: &Provider,
    _job: &Job<'_>,
    _progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Generated, Fault> {
    Err(Fault::new(FaultKind::NotSent, "not there yet"))
}
