//! `GET /v1/requests/{id}`: what came of a request, and why. A key sees its own tenant's, an admin's key all.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};

use super::Edge;
use super::auth::Identity;
use super::failure::Failure;
use crate::domain::RequestId;
use crate::error::{Error, Kind};
use crate::pipeline::Family;

/// The story of a request that the caller may see. One of somebody else's is as unknown as one that never was.
pub async fn one(
    State(edge): State<Arc<Edge>>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
) -> Result<Json<Family>, Failure> {
    let tenant = (!identity.admin).then_some(identity.caller.tenant);
    let known = match id.parse::<RequestId>() {
        Ok(id) => edge.pipeline.story(id, tenant).await?,
        Err(_) => None,
    };
    known.map(Json).ok_or_else(|| {
        Failure(
            Error::new(
                Kind::NotFound,
                "There is no such request, or it is not known any more: see requests.keep_days in the configuration. \
                 Its name is in the header x-request-id of its answer.",
            )
            .code("request_not_found"),
        )
    })
}
