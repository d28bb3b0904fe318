//! The catalogue: all records that are known, by name. The binary carries those in `providers/`; an operator may add a
//! folder of others.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use super::record::{Record, RecordFault};

/// All known provider records, by name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    records: BTreeMap<String, Arc<Record>>,
    /// What an operator added, by the names of the records.
    added: BTreeMap<String, Added>,
}

/// Where a record comes from that an operator added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Its file.
    pub file: String,
    /// True if it took the place of one of the same name.
    pub is_replacement: bool,
}

/// The files of the records that the binary carries, with their texts.
pub(super) const EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

impl Catalogue {
    /// The records that the binary carries. A test rules out that one of them is wrong; it would be missing. They are
    /// read once: a start asks for them several times, and each reading takes tens of milliseconds.
    pub fn embedded() -> Catalogue {
        static READ: LazyLock<Catalogue> = LazyLock::new(|| {
            let mut catalogue = Catalogue::default();
            for (file, text) in EMBEDDED {
                if let Err(fault) = catalogue.add(text, file) {
                    tracing::error!(%fault, "a record of the catalogue is wrong, and left out");
                }
            }
            catalogue
        });
        READ.clone()
    }

    /// Adds a record, in place of one of the same name. `file` is for messages.
    ///
    /// # Errors
    /// The record is wrong; the catalogue is as before.
    pub fn add(&mut self, text: &str, file: &str) -> Result<(), RecordFault> {
        let record = Record::parse(text, file)?;
        self.records.insert(record.name.clone(), Arc::new(record));
        Ok(())
    }

    /// Adds every `*.toml` of a folder, each in place of a record of the same name. Other files and folders in it do
    /// not matter.
    ///
    /// # Errors
    /// Every fault of every file, or that the folder cannot be read; the catalogue is as before.
    pub fn add_folder(&mut self, folder: &Path) -> Result<(), Vec<RecordFault>> {
        let unreadable = |path: &Path, error: std::io::Error| {
            let message = format!("cannot be read: {error}");
            vec![RecordFault::file(&path.display().to_string(), message)]
        };
        let entries = std::fs::read_dir(folder).and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>());
        let mut files: Vec<_> = entries.map_err(|error| unreadable(folder, error))?;
        files.retain(|entry| entry.path().extension().is_some_and(|extension| extension == "toml"));
        files.sort_by_key(std::fs::DirEntry::file_name);
        let (mut faults, mut read) = (Vec::new(), BTreeMap::new());
        for path in files.iter().map(std::fs::DirEntry::path) {
            let file = path.display().to_string();
            let examined = match std::fs::read_to_string(&path) {
                Ok(text) => Record::examine(&text, &file),
                Err(error) => Err(unreadable(&path, error)),
            };
            match examined {
                Ok(record) => {
                    if let Some((_, other)) = read.insert(record.name.clone(), (Arc::new(record), file.clone())) {
                        let message = format!("its name is that of the record in {other}; every record needs its own");
                        faults.push(RecordFault::file(&file, message));
                    }
                }
                Err(several) => faults.extend(several),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        for (name, (record, file)) in read {
            let is_replacement = self.records.insert(name.clone(), record).is_some();
            self.added.insert(name, Added { file, is_replacement });
        }
        Ok(())
    }

    /// Puts a changed record in the place of the one of its name. It is not checked.
    pub(super) fn replace(&mut self, record: Record) {
        self.records.insert(record.name.clone(), Arc::new(record));
    }

    /// The record of that name.
    pub fn record(&self, name: &str) -> Option<&Arc<Record>> {
        self.records.get(name)
    }

    /// All records, by name.
    pub fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values()
    }

    /// What an operator added, by the names of the records.
    pub fn added(&self) -> &BTreeMap<String, Added> {
        &self.added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_record_is_right() {
        let faults: Vec<String> = EMBEDDED
            .iter()
            .filter_map(|(file, text)| Record::examine(text, file).err())
            .flatten()
            .map(|fault| fault.to_string())
            .collect();
        assert!(faults.is_empty(), "{faults:#?}");
        assert_eq!(Catalogue::embedded().records().count(), EMBEDDED.len(), "two files have one name");
    }

    #[test]
    fn a_folder_adds_all_or_nothing() {
        let folder = std::env::temp_dir().join(format!("mimeo-catalogue-{:032x}", crate::domain::id::random()));
        std::fs::create_dir_all(&folder).unwrap();
        let (_, sandbox) = EMBEDDED.iter().find(|(file, _)| file.contains("sandbox")).unwrap();
        let write = |file: &str, text: &str| std::fs::write(folder.join(file), text).unwrap();
        write("b.toml", &sandbox.replace("the sandbox", "my sandbox"));
        write("a.toml", &sandbox.replace("name = \"sandbox\"", "name = \"mine\""));
        write("notes.md", "no record");
        let mut catalogue = Catalogue::embedded();
        catalogue.add_folder(&folder).unwrap();
        assert_eq!(catalogue.record("sandbox").unwrap().title, "my sandbox");
        let added: Vec<_> =
            catalogue.added().iter().map(|(name, added)| (name.as_str(), added.is_replacement)).collect();
        assert_eq!(added, [("mine", false), ("sandbox", true)]);

        write("c.toml", &sandbox.replacen("title", "titel", 1).replace("timeout_s = 60", "timeout_s = true"));
        write("d.toml", &sandbox.replace("timeout_s = 60", "timeout_s = 0"));
        let mut catalogue = Catalogue::embedded();
        let faults = catalogue.add_folder(&folder).unwrap_err();
        let files: Vec<_> = faults.iter().map(|fault| fault.file.rsplit('/').next().unwrap()).collect();
        assert_eq!(files, ["c.toml", "c.toml", "d.toml"], "{faults:#?}");
        assert_eq!(catalogue.record("sandbox").unwrap().title, "the sandbox");
        assert!(catalogue.added().is_empty());

        std::fs::remove_file(folder.join("c.toml")).unwrap();
        write("d.toml", sandbox);
        let faults = catalogue.add_folder(&folder).unwrap_err();
        assert!(faults[0].message.contains("every record needs its own"), "{faults:?}");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(catalogue.add_folder(&folder).unwrap_err()[0].message.contains("cannot be read"));
    }
}

#[cfg(test)]
#[path = "simulation_tests.rs"]
mod simulations;
