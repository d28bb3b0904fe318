//! `mimeo feedback`: what was said of pictures, out of one store and into another.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Common, Failure, Outcome, print, print_json, table::table};
use crate::clock::rfc3339;
use crate::config::Environment;
use crate::store::{Feedback, FeedbackKind, Store};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what was said, the newest first
    List {
        #[command(flatten)]
        common: Common,
        /// The newest so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write all of it to stdout, one JSON object per line, the oldest first
    Export {
        #[command(flatten)]
        common: Common,
        /// As one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Read what `export` wrote, from here or from another gateway. What is known already is left out, so that it may be
    /// read twice
    Import {
        #[command(flatten)]
        common: Common,
        /// File, or - for stdin
        file: PathBuf,
        /// Say what came of it as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Rows that are read or written at once.
const PAGE: u32 = 1000;

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    match arguments.command {
        Command::List { common, limit, json } => list(&common.store(environment)?, limit, json).await,
        Command::Export { common, json } => export(&common.store(environment)?, json).await,
        Command::Import { common, file, json } => {
            // Read first: a bad file leaves nothing behind.
            let rows = read(&file)?;
            import(&common.store(environment)?, rows, json).await
        }
    }
}

async fn list(store: &Store, limit: u32, json: bool) -> Outcome {
    let rows = store.latest_feedback(limit).await?;
    if json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        eprintln!("Nothing was said yet. POST /v1/feedback takes it.");
        return Ok(());
    }
    let rows = rows.into_iter().map(|row| {
        let said = match row.kind {
            FeedbackKind::Clicks => format!("{} of {}", row.value, row.trials),
            FeedbackKind::Accepted => if row.value == 1 { "yes" } else { "no" }.to_owned(),
            kind => format!("{} of {}", row.value, kind.most()),
        };
        vec![
            rfc3339(row.at_ms),
            row.candidate,
            row.category,
            row.kind.name().to_owned(),
            said,
            row.key,
            row.picture.to_string(),
        ]
    });
    print(&table(&["at", "candidate", "category", "kind", "said", "key", "picture"], rows, &[]))
}

async fn export(store: &Store, json: bool) -> Outcome {
    let mut out = std::io::stdout().lock();
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let page = store.feedback_after(after, i64::MIN, PAGE).await?;
        let Some(last) = page.last().map(|heard| heard.seq) else { break };
        after = last;
        for heard in page {
            if json {
                all.push(heard.feedback);
                continue;
            }
            let line = serde_json::to_string(&heard.feedback).map_err(|error| Failure::Failed(error.to_string()))?;
            match writeln!(out, "{line}") {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
    drop(out);
    if json { print_json(&all) } else { Ok(()) }
}

async fn import(store: &Store, rows: Vec<Feedback>, json: bool) -> Outcome {
    let read = rows.len();
    let mut new = 0;
    for page in rows.chunks(PAGE as usize) {
        new += store.import_feedback(page.to_vec()).await?;
    }
    if json {
        return print_json(&serde_json::json!({ "read": read, "new": new }));
    }
    eprintln!("{read} read, {new} of them new. A running gateway counts them within seconds.");
    Ok(())
}

/// The rows of a file: JSON objects one after another, or one array of them.
fn read(file: &Path) -> Result<Vec<Feedback>, Failure> {
    let failed = |why: String| Failure::Failed(format!("{}: {why}", file.display()));
    let mut reader: Box<dyn std::io::BufRead> = if file.as_os_str() == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        Box::new(BufReader::new(std::fs::File::open(file).map_err(|why| failed(why.to_string()))?))
    };
    let is_array = reader.fill_buf().map_err(|why| failed(why.to_string()))?.trim_ascii_start().first() == Some(&b'[');
    let rows: Result<Vec<Feedback>, serde_json::Error> = if is_array {
        serde_json::from_reader(reader)
    } else {
        serde_json::Deserializer::from_reader(reader).into_iter().collect()
    };
    let rows = rows.map_err(|why| failed(format!("{why}. It must be what `mimeo feedback export` writes")))?;
    match rows.iter().position(|row| !row.is_possible()) {
        Some(at) => Err(failed(format!("row {}: its value is not one of its kind", at + 1))),
        None => Ok(rows),
    }
}
