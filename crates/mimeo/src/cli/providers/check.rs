//! `mimeo providers check`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use serde_json::json;

use crate::cli::{Failure, Outcome, color, print, print_json};
use crate::config::Environment;
use crate::providers::{Record, RecordFault};

pub(super) fn run(files: &[PathBuf], as_json: bool, environment: &Environment) -> Outcome {
    let mut faults = Vec::new();
    let mut right = Vec::new();
    for path in files {
        let file = path.display().to_string();
        let examined = match std::fs::read_to_string(path) {
            Ok(text) => Record::examine(&text, &file),
            Err(error) => Err(vec![RecordFault::file(&file, format!("cannot be read: {error}"))]),
        };
        match examined {
            Ok(record) => right.push((file, record)),
            Err(several) => faults.extend(several),
        }
    }
    if as_json {
        let right: Vec<_> = right
            .iter()
            .map(|(file, record)| json!({ "file": file, "name": record.name, "models": record.models.len() }))
            .collect();
        print_json(&json!({ "right": right, "faults": faults }))?;
    } else {
        for (file, record) in &right {
            let models = match record.models.len() {
                1 => "1 model".to_owned(),
                several => format!("{several} models"),
            };
            print(&format!("{file}: {} is right, with {models}\n", record.name))?;
        }
        let colored = color(environment, std::io::stderr().is_terminal());
        let drawn: Vec<String> = faults.iter().map(|fault| fault.drawn(colored)).collect();
        eprint!("{}", drawn.join("\n"));
    }
    if faults.is_empty() { Ok(()) } else { Err(Failure::Told) }
}
