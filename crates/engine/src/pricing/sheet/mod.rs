//! Price sheets that others publish: read exactly, row by row. Of each row it is known what it says, or why it was left
//! out.
//!
//! Two formats are known by themselves: the price list of LiteLLM (`model_prices_and_context_window.json`) and the list
//! of models of OpenRouter (`GET /api/v1/models`). Every other JSON or CSV is read with a [`Mapping`]. What a sheet says
//! is a [`Quote`]: often less than [`Prices`](super::Prices), since sheets know what a token costs and not how many of
//! them a picture takes. [`Quote::prices`] lays it over what is known.

mod amount;
mod litellm;
mod mapping;
mod openrouter;
mod quote;
mod raw;

use std::fmt;

use serde::Serialize;

pub use mapping::Mapping;
pub use quote::{Origin, PerMegapixel, Quote};

/// What a sheet says, model by model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    /// One per model and provider, by name.
    pub rows: Vec<Row>,
    /// What could not be used, with why.
    pub left_out: Vec<LeftOut>,
    /// How many models it names besides that make no pictures.
    pub others: usize,
}

/// What a sheet says of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is called in the sheet.
    pub name: String,
    /// Who sells it, in the sheet's words; `None` if the sheet does not say.
    pub provider: Option<String>,
    /// The model, without the provider.
    pub model: String,
    /// What it costs.
    pub quote: Quote,
}

/// A row that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// What it is called in the sheet.
    pub name: String,
    /// Why, and where it helps what to do.
    pub why: String,
}

impl LeftOut {
    /// `name` was left out because of `why`.
    pub fn new(name: impl Into<String>, why: impl Into<String>) -> LeftOut {
        LeftOut { name: name.into(), why: why.into() }
    }
}

/// What a sheet is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The price list of LiteLLM.
    Litellm,
    /// The list of models of OpenRouter.
    Openrouter,
    /// Any other JSON, by a mapping.
    Json,
    /// Lines with a header, separated by commas, by a mapping.
    Csv,
}

impl Form {
    /// What `text` looks like. Any JSON that neither of the two known formats can be told from is [`Form::Json`].
    pub fn of(text: &str) -> Form {
        match text.trim_start_matches('\u{feff}').trim_start().as_bytes().first() {
            Some(b'{' | b'[') if text.contains("\"litellm_provider\"") => Form::Litellm,
            Some(b'{') if text.contains("\"pricing\"") && text.contains("\"data\"") => Form::Openrouter,
            Some(b'{' | b'[') => Form::Json,
            _ => Form::Csv,
        }
    }
}

impl std::str::FromStr for Form {
    type Err = String;

    fn from_str(name: &str) -> Result<Form, String> {
        match name {
            "litellm" => Ok(Form::Litellm),
            "openrouter" => Ok(Form::Openrouter),
            "json" => Ok(Form::Json),
            "csv" => Ok(Form::Csv),
            _ => Err(format!("`{name}` is no format of a price sheet; there are litellm, openrouter, json and csv")),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Litellm => "litellm",
            Form::Openrouter => "openrouter",
            Form::Json => "json",
            Form::Csv => "csv",
        })
    }
}

/// Why a sheet could not be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

impl Sheet {
    /// Reads a sheet. Every amount is taken from its digits as they are written, never through a float; what is finer
    /// than a pico-dollar is rounded up.
    ///
    /// # Errors
    /// The text is not of that form, or the mapping is missing or names what is not there. What is wrong with single
    /// rows is no error: they are in `left_out`.
    pub fn read(text: &str, form: Form, mapping: Option<&Mapping>) -> Result<Sheet, Unreadable> {
        let text = text.trim_start_matches('\u{feff}');
        let mapped = || {
            mapping.ok_or_else(|| {
                Unreadable(format!("a {form} sheet needs a mapping that says where the model and its price are"))
            })
        };
        let mut sheet = match form {
            Form::Litellm => litellm::read(text)?,
            Form::Openrouter => openrouter::read(text)?,
            Form::Json => mapping::read_json(text, mapped()?)?,
            Form::Csv => mapping::read_csv(text, mapped()?)?,
        };
        sheet.rows.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
        Ok(sheet)
    }
}

#[cfg(test)]
mod tests;
