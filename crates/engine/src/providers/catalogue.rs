//! The catalogue: all records that are known, by name. The binary carries those in `providers/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{Record, RecordFault};

/// All known provider records, by name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue(BTreeMap<String, Arc<Record>>);

/// The files of the records that the binary carries, with their texts.
pub(super) const EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

impl Catalogue {
    /// The records that the binary carries. A test rules out that one of them is wrong; it would be missing.
    pub fn embedded() -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (file, text) in EMBEDDED {
            if let Err(fault) = catalogue.add(text, file) {
                tracing::error!(%fault, "a record of the catalogue is wrong, and left out");
            }
        }
        catalogue
    }

    /// Adds a record, in place of one of the same name. `file` is for messages.
    ///
    /// # Errors
    /// The record is wrong; the catalogue is as before.
    pub fn add(&mut self, text: &str, file: &str) -> Result<(), RecordFault> {
        let record = Record::parse(text, file)?;
        self.0.insert(record.name.clone(), Arc::new(record));
        Ok(())
    }

    /// The record of that name.
    pub fn record(&self, name: &str) -> Option<&Arc<Record>> {
        self.0.get(name)
    }

    /// All records, by name.
    pub fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_record_is_right() {
        let faults: Vec<String> = EMBEDDED
            .iter()
            .filter_map(|(file, text)| Record::parse(text, file).err())
            .map(|fault| fault.to_string())
            .collect();
        assert!(faults.is_empty(), "{faults:#?}");
        assert_eq!(Catalogue::embedded().records().count(), EMBEDDED.len(), "two files have one name");
    }
}
