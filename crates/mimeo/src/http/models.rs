//! `GET /v1/models`: what can be named in `model`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Edge;
use super::failure::Failure;
use crate::error::{Error, Kind};
use crate::pipeline::ModelListing;

/// All of them.
pub async fn list(State(edge): State<Arc<Edge>>) -> Json<Value> {
    let data: Vec<Value> = edge.pipeline.models().iter().map(entry).collect();
    Json(json!({ "object": "list", "data": data }))
}

/// One. Names may contain slashes: `provider/model`.
pub async fn one(State(edge): State<Arc<Edge>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let found = edge.pipeline.models().into_iter().find(|model| model.id == id);
    found.map(|model| Json(entry(&model))).ok_or_else(|| {
        let shown: String = id.chars().take(100).collect();
        Failure(
            Error::new(
                Kind::NotFound,
                format!("The model '{shown}' does not exist. GET /v1/models lists those that do."),
            )
            .param("model")
            .code("model_not_found"),
        )
    })
}

fn entry(model: &ModelListing) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "mimeo": model.details,
    })
}
