//! `GET /v1/budgets`: budgets and what is used of them. A key sees its own and its tenant's, an admin's key all.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};

use super::Edge;
use super::auth::Identity;
use super::failure::Failure;
use crate::ledger::BudgetListing;

/// The budgets that the caller may see.
pub async fn list(
    State(edge): State<Arc<Edge>>,
    Extension(identity): Extension<Identity>,
) -> Result<Json<Vec<BudgetListing>>, Failure> {
    let ledger = &edge.pipeline.ledger;
    let listed = if identity.admin { ledger.budgets().await? } else { ledger.budgets_of(&identity.caller).await? };
    Ok(Json(listed))
}
