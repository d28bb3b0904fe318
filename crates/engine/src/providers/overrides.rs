//! Prices that an operator lays over those of the catalogue: files of their own, so that a record need not be copied to
//! change a number in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalogue::Catalogue;
use super::check::price_faults;
use super::near::near;
use super::record::RecordFault;
use crate::pricing::Prices;

/// A file of prices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PriceFile {
    /// The models whose prices it states.
    pub models: Vec<Override>,
}

/// The prices of one model, in place of those of its record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The record of the catalogue.
    pub provider: String,
    /// The model, by its id or an alias; the id of the default model for all that have no entry of their own.
    pub model: String,
    /// What it costs. With a day `from`, what the record says of the time before stays.
    pub prices: Prices,
    /// What it will cost, each from its day on. What the record announces for later does not count any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub price_changes: Vec<Prices>,
}

impl Catalogue {
    /// Lays the prices in `text` over those of the records; `file` is for messages.
    ///
    /// # Errors
    /// Every fault of the file; the catalogue is as before.
    pub fn lay(&mut self, text: &str, file: &str) -> Result<(), Vec<RecordFault>> {
        let parsed: PriceFile = toml::from_str(text).map_err(|error| {
            let message = error.message().replace('\n', "; ");
            vec![match error.span() {
                Some(span) => RecordFault::at(file, text, &span, message),
                None => RecordFault::file(file, message),
            }]
        })?;
        let mut laid = self.clone();
        let mut faults = Vec::new();
        for one in parsed.models {
            let name = format!("{}/{}", one.provider, one.model);
            if let Err(messages) = laid.lay_one(one) {
                faults
                    .extend(messages.into_iter().map(|message| RecordFault::file(file, format!("{name}: {message}"))));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        *self = laid;
        Ok(())
    }

    fn lay_one(&mut self, one: Override) -> Result<(), Vec<String>> {
        let or = |close: Vec<&str>| match close.as_slice() {
            [] => String::new(),
            close => format!("; did you mean {}?", close.join(" or ")),
        };
        let Some(record) = self.record(&one.provider) else {
            let close = near(&one.provider, self.records().map(|record| record.name.as_str()));
            return Err(vec![format!("there is no record {} in the catalogue{}", one.provider, or(close))]);
        };
        let mut record = (**record).clone();
        let named = |model: &&mut super::Model| model.id == one.model || model.aliases.contains(&one.model);
        let ids: Vec<String> =
            record.models.iter().chain(&record.default_model).map(|model| model.id.clone()).collect();
        let Some(model) = record.models.iter_mut().chain(&mut record.default_model).find(named) else {
            let close = near(&one.model, ids.iter().map(String::as_str));
            return Err(vec![format!("{} has no model {}{}", record.name, one.model, or(close))]);
        };
        let versions = std::iter::once(&one.prices).chain(&one.price_changes);
        let mut faults: Vec<String> = versions
            .flat_map(|prices| price_faults(model, prices))
            .map(|(_, text)| text.replace("{}", "prices"))
            .collect();
        let mut before = one.prices.from;
        for change in &one.price_changes {
            if change.from.is_none() || change.from <= before {
                faults.push("price_changes: each needs a day `from`, after that of the one before it".to_owned());
            }
            before = change.from;
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut versions: Vec<Prices> = model.prices.take().into_iter().chain(model.price_changes.drain(..)).collect();
        // One that has always held leaves none before it.
        versions.retain(|known| known.from < one.prices.from);
        versions.push(one.prices);
        versions.extend(one.price_changes);
        let mut versions = versions.into_iter();
        (model.prices, model.price_changes) = (versions.next(), versions.collect());
        self.replace(record);
        Ok(())
    }
}

#[cfg(test)]
#[path = "overrides_tests.rs"]
mod tests;
