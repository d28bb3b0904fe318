//! Where prices come from beside the catalogue.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// Where prices come from beside the catalogue.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PriceSources {
    /// Files of prices (see `docs/prices.md`) that are laid over the catalogue at start, each over those before it.
    pub files: Vec<PathBuf>,
}
