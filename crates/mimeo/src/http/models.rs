//! `GET /v1/models`: what can be named in `model`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::Value;

use super::Edge;
use super::failure::Failure;
use crate::error::{Error, Kind};
use crate::pipeline::ModelListing;

/// All of them.
pub async fn list(State(edge): State<Arc<Edge>>) -> Json<List> {
    Json(List { object: "list", data: edge.pipeline.models().into_iter().map(Entry::from).collect() })
}

/// One. Names may contain slashes: `provider/model`.
pub async fn one(State(edge): State<Arc<Edge>>, Path(id): Path<String>) -> Result<Json<Entry>, Failure> {
    let found = edge.pipeline.models().into_iter().find(|model| model.id == id);
    found.map(|model| Json(model.into())).ok_or_else(|| {
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

/// The list of models.
#[derive(Debug, Serialize)]
pub struct List {
    object: &'static str,
    data: Vec<Entry>,
}

/// One model: first what clients of OpenAI know, then what is our own.
#[derive(Debug, Serialize)]
pub struct Entry {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: String,
    shutdown_date: Option<String>,
    mimeo: Value,
}

impl From<ModelListing> for Entry {
    fn from(model: ModelListing) -> Entry {
        let ModelListing { id, owned_by, created, shutdown_date, details } = model;
        Entry { id, object: "model", created, owned_by, shutdown_date, mimeo: details }
    }
}
