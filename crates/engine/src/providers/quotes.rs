//! What a price sheet says of the models of the catalogue.
//!
//! A sheet has its own names. Who sells is found by the record's name or by what else it is [known as](Record::known_as);
//! the model by its id, its aliases or its path, to the letter first, then without regard to case and punctuation, then
//! by the last part of a path.

use jiff::civil::Date;

use super::catalogue::Catalogue;
use super::check::price_faults;
use super::model::{Model, Status};
use super::record::Record;
use crate::pricing::Prices;
use crate::pricing::sheet::{LeftOut, Origin, Row, Sheet};

/// What a sheet says of one model of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Quoted {
    /// The record.
    pub provider: String,
    /// The model's id.
    pub model: String,
    /// What it is called in the sheet.
    pub name: String,
    /// What holds by the catalogue.
    pub known: Option<Prices>,
    /// What the sheet makes of that.
    pub said: Prices,
}

/// What a sheet says of the catalogue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quotes {
    /// Of the models that were found, by record and id.
    pub quoted: Vec<Quoted>,
    /// The rows that say nothing of any model here, with why.
    pub left_out: Vec<LeftOut>,
}

impl Catalogue {
    /// What `sheet` says of the models here, on `day`.
    pub fn quotes(&self, sheet: &Sheet, origin: &Origin, day: Date) -> Quotes {
        let mut quotes = Quotes { quoted: Vec::new(), left_out: sheet.left_out.clone() };
        for row in &sheet.rows {
            let found = match self.named(row) {
                Ok(found) => found,
                Err(why) => {
                    quotes.left_out.push(LeftOut::new(&row.name, why));
                    continue;
                }
            };
            for (record, model) in found {
                let known = model.prices_on(day, 0).map(std::borrow::Cow::into_owned);
                match said(row, model, known.as_ref(), origin) {
                    Ok(said) => quotes.quoted.push(Quoted {
                        provider: record.name.clone(),
                        model: model.id.clone(),
                        name: row.name.clone(),
                        known,
                        said,
                    }),
                    Err(why) => {
                        let why = format!("{}/{}: {why}", record.name, model.id);
                        quotes.left_out.push(LeftOut::new(&row.name, why));
                    }
                }
            }
        }
        let by_model = |quoted: &Quoted| (quoted.provider.clone(), quoted.model.clone(), quoted.name.clone());
        quotes.quoted.sort_by_key(by_model);
        // A model under a name to the letter goes before the same under another.
        quotes.quoted.dedup_by(|next, first| (&next.provider, &next.model) == (&first.provider, &first.model));
        quotes
    }

    /// The models that a row means.
    fn named(&self, row: &Row) -> Result<Vec<(&Record, &Model)>, String> {
        let sellers: Vec<&Record> = match &row.provider {
            None => self.records().map(|record| &**record).collect(),
            Some(name) => {
                let wanted = plain(name);
                let is_meant = |record: &&Record| {
                    std::iter::once(&record.name).chain(&record.known_as).any(|known| plain(known) == wanted)
                };
                self.records().map(|record| &**record).filter(is_meant).collect()
            }
        };
        let found: Vec<(&Record, &Model)> = sellers
            .iter()
            .filter_map(|record| Some((*record, model_of(record, &row.model)?)))
            .filter(|(_, model)| !matches!(model.status, Status::Gone { .. }))
            .collect();
        match (&row.provider, found.as_slice()) {
            (Some(name), []) if sellers.is_empty() => Err(format!("no record of the catalogue is {name}")),
            (_, []) => Err("the catalogue has no such model that is served".to_owned()),
            (None, [_, _, ..]) => {
                let names: Vec<&str> = found.iter().map(|(record, _)| record.name.as_str()).collect();
                Err(format!("the sheet does not say whose price it is: {}", names.join(" or ")))
            }
            (_, _) => Ok(found),
        }
    }
}

/// The prices that a row makes for a model.
fn said(row: &Row, model: &Model, known: Option<&Prices>, origin: &Origin) -> Result<Prices, String> {
    let said = row.quote.prices(known, origin)?;
    match price_faults(model, &said).into_iter().next() {
        Some((_, message)) => Err(message.replace("{}", "prices")),
        None => Ok(said),
    }
}

/// The model of a record that a sheet calls `name`.
fn model_of<'r>(record: &'r Record, name: &str) -> Option<&'r Model> {
    let names = |model: &'r Model| {
        std::iter::once(&model.id).chain(&model.aliases).chain(&model.path).map(String::as_str).collect::<Vec<_>>()
    };
    let by = |is_meant: &dyn Fn(&str) -> bool| {
        let mut found = record.models.iter().filter(|model| names(model).into_iter().any(is_meant));
        // What fits several is no name.
        found.next().filter(|_| found.next().is_none())
    };
    let last = |path: &str| plain(path.rsplit('/').next().unwrap_or_default());
    by(&|known| known == name)
        .or_else(|| by(&|known| plain(known) == plain(name)))
        // Of two paths the ends say too little: many end in a version.
        .or_else(|| by(&|known| (!known.contains('/') || !name.contains('/')) && last(known) == last(name)))
}

/// A name without case and punctuation but for slashes.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric() || *c == '/').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
#[path = "quotes_tests.rs"]
mod tests;
