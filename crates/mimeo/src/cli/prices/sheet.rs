//! `mimeo prices diff` and `mimeo prices import`: what others say.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::{Common, Environment, Failure, Outcome, print, print_json, table, today};
use crate::cli::color;
use crate::domain::{Certainty, Usd};
use crate::pricing::compare::{self, Term};
use crate::pricing::sheet::{Form, Mapping, Origin, Sheet};
use crate::providers::overrides::{Override, PriceFile};
use crate::providers::quotes::{Quoted, Quotes};
use crate::providers::{Catalogue, Status};

/// What is read, and how.
#[derive(Debug, Args)]
struct Source {
    #[command(flatten)]
    common: Common,
    /// The sheet
    file: PathBuf,
    /// What it is written in: litellm, openrouter, json or csv [default: what it looks like]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Form>,
    /// Where things stand in a json or csv sheet, such as `model=name`, `price=cost.usd` or `unit==megapixel`; the keys
    /// are rows, provider, model, price, unit, per, quality and size
    #[arg(long, value_name = "KEY=PLACE")]
    map: Vec<String>,
    /// Only prices of this record
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Diff {
    #[command(flatten)]
    source: Source,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    source: Source,
    /// The file to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also prices that are the same here
    #[arg(long)]
    all: bool,
    /// How sure the sheet is: verified, reported, recalled or configured
    #[arg(long, default_value = "reported", value_parser = certainty)]
    certainty: Certainty,
    /// Where the sheet is from, for those who read the prices later [default: its file name]
    #[arg(long, value_name = "TEXT")]
    from: Option<String>,
    /// The day on which it was read [default: today]
    #[arg(long, value_name = "YYYY-MM-DD")]
    as_of: Option<Date>,
}

fn certainty(word: &str) -> Result<Certainty, String> {
    [Certainty::Verified, Certainty::Reported, Certainty::Recalled, Certainty::Configured]
        .into_iter()
        .find(|certainty| certainty.name() == word)
        .ok_or_else(|| format!("`{word}` is none of verified, reported, recalled and configured"))
}

/// What the sheet says of the catalogue.
fn quotes(source: &Source, catalogue: &Catalogue, origin: &Origin) -> Result<(Quotes, usize), Failure> {
    let file = source.file.display();
    let text = std::fs::read_to_string(&source.file)
        .map_err(|error| Failure::Failed(format!("{file} cannot be read: {error}")))?;
    let form = source.format.unwrap_or_else(|| Form::of(&text));
    let mapping = match source.map.as_slice() {
        [] => None,
        pairs => Some(Mapping::of(pairs.iter().map(String::as_str)).map_err(Failure::Usage)?),
    };
    let sheet = Sheet::read(&text, form, mapping.as_ref()).map_err(|unreadable| {
        let hint = match mapping {
            None if matches!(form, Form::Json | Form::Csv) => ": --map model=PLACE --map price=PLACE",
            _ => "",
        };
        Failure::Failed(format!("{file}: {unreadable}{hint}"))
    })?;
    let mut quotes = catalogue.quotes(&sheet, origin, today());
    if let Some(wanted) = &source.provider {
        if catalogue.record(wanted).is_none() {
            return Err(Failure::Failed(format!("there is no record {wanted}; `mimeo providers --all` lists them")));
        }
        quotes.quoted.retain(|quoted| quoted.provider == *wanted);
    }
    Ok((quotes, sheet.others))
}

/// What is known and what is said, rate by rate. Where nothing is known, everything is news.
fn terms(quoted: &Quoted) -> Vec<Term> {
    match &quoted.known {
        Some(known) => compare::terms(known, &quoted.said),
        None => compare::rates(&quoted.said)
            .into_iter()
            .map(|(of, usd)| Term { of, known: None, said: Some(usd) })
            .collect(),
    }
}

/// `+12.50 %`.
fn percent(term: &Term) -> Option<String> {
    let difference = term.difference()?;
    let sign = if difference < 0 { "-" } else { "+" };
    Some(format!("{sign}{}.{:02} %", difference.abs() / 100, difference.abs() % 100))
}

pub(super) fn diff(arguments: &Diff, environment: &Environment) -> Outcome {
    let source = &arguments.source;
    let blueprint = source.common.blueprint(source.common.config(None)?, environment)?;
    let origin = Origin { certainty: Certainty::Reported, source: name(&source.file), as_of: Some(today()) };
    let (quotes, others) = quotes(source, &blueprint.catalogue, &origin)?;
    let only_here = silent(&quotes, &blueprint.catalogue, source.provider.as_deref());
    if arguments.json {
        let model = |quoted: &Quoted| {
            let terms = terms(quoted);
            json!({
                "provider": quoted.provider, "model": quoted.model, "name": quoted.name,
                "same": terms.iter().all(Term::is_same),
                "terms": terms.iter().map(|term| json!({
                    "of": term.of, "here_usd": term.known, "there_usd": term.said, "percent": percent(term),
                })).collect::<Vec<Value>>(),
            })
        };
        return print_json(&json!({
            "both": quotes.quoted.iter().map(model).collect::<Vec<Value>>(),
            "only_here": only_here,
            "only_there": quotes.left_out,
            "no_pictures": others,
        }));
    }
    let colored = color(environment, std::io::stdout().is_terminal());
    let mut rows = Vec::new();
    let mut paints = Vec::new();
    let amount = |usd: Option<Usd>| usd.map_or_else(|| "–".to_owned(), |usd| format!("${usd}"));
    let mut same = 0;
    for quoted in &quotes.quoted {
        let terms = terms(quoted);
        if terms.iter().all(Term::is_same) {
            same += 1;
        }
        for term in &terms {
            let (said, paint) = match (term.is_same(), term.known, term.said) {
                (true, ..) => ("same".to_owned(), ""),
                (_, Some(_), None) => ("only here".to_owned(), "\u{1b}[33m"),
                (_, None, _) => ("only there".to_owned(), "\u{1b}[33m"),
                (_, Some(known), Some(said)) if said > known => (percent(term).unwrap_or_default(), "\u{1b}[31m"),
                _ => (percent(term).unwrap_or_default(), "\u{1b}[32m"),
            };
            paints.push(paint);
            rows.push(vec![
                format!("{}/{}", quoted.provider, quoted.model),
                term.of.clone(),
                amount(term.known),
                amount(term.said),
                said,
            ]);
        }
    }
    if !rows.is_empty() {
        let text = table(&["model", "per", "here", "there", "difference"], rows, &[2, 3, 4]);
        print(&if colored { painted(&text, &paints) } else { text })?;
    }
    let count = quotes.quoted.len();
    print(&format!("\n{count} models are in both: {same} cost the same, {} do not\n", count - same))?;
    if !only_here.is_empty() {
        print(&format!("\nonly here ({}):\n", only_here.len()))?;
        only_here.iter().try_for_each(|name| print(&format!("  {name}\n")))?;
    }
    if !quotes.left_out.is_empty() {
        print(&format!("\nonly there, or not to be compared ({}):\n", quotes.left_out.len()))?;
        quotes.left_out.iter().try_for_each(|left| print(&format!("  {}: {}\n", left.name, left.why)))?;
    }
    if others > 0 {
        eprintln!("{others} more models of the sheet make no pictures");
    }
    Ok(())
}

/// The lines of a table below its header, each in its colour.
fn painted(text: &str, paints: &[&str]) -> String {
    let mut lines = text.lines();
    let mut out = lines.next().unwrap_or_default().to_owned() + "\n";
    for (line, paint) in lines.zip(paints) {
        match *paint {
            "" => out.push_str(line),
            paint => out.push_str(&format!("{paint}{line}\u{1b}[0m")),
        }
        out.push('\n');
    }
    out
}

/// The models with a known price of which the sheet says nothing.
fn silent(quotes: &Quotes, catalogue: &Catalogue, provider: Option<&str>) -> Vec<String> {
    let said: BTreeSet<(&str, &str)> =
        quotes.quoted.iter().map(|quoted| (quoted.provider.as_str(), quoted.model.as_str())).collect();
    let records =
        catalogue.records().filter(|record| !record.simulated && provider.is_none_or(|name| name == record.name));
    let models = records.flat_map(|record| record.models.iter().map(move |model| (record.name.as_str(), model)));
    models
        .filter(|(_, model)| model.prices.is_some() && !matches!(model.status, Status::Gone { .. }))
        .filter(|(record, model)| !said.contains(&(record, model.id.as_str())))
        .map(|(record, model)| format!("{record}/{}", model.id))
        .collect()
}

pub(super) fn import(arguments: &Import, environment: &Environment) -> Outcome {
    let source = &arguments.source;
    let config = source.common.config(None)?;
    source.common.blueprint(config.clone(), environment)?;
    // Against the records alone: a file that was imported before must not take its own prices for old news.
    let catalogue = crate::app::records(&config)
        .map_err(|faults| Failure::Failed(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    let as_of = arguments.as_of.unwrap_or_else(today);
    let origin = Origin {
        certainty: arguments.certainty,
        source: arguments.from.clone().unwrap_or_else(|| name(&source.file)),
        as_of: Some(as_of),
    };
    let (quotes, _) = quotes(source, &catalogue, &origin)?;
    let same = |quoted: &Quoted| terms(quoted).iter().all(Term::is_same);
    let models: Vec<Override> = quotes
        .quoted
        .into_iter()
        .filter(|quoted| arguments.all || !same(quoted))
        .map(|quoted| Override {
            provider: quoted.provider,
            model: quoted.model,
            prices: quoted.said,
            price_changes: Vec::new(),
        })
        .collect();
    let count = models.len();
    let toml = toml::to_string(&PriceFile { models }).map_err(|error| Failure::Failed(error.to_string()))?;
    let text = format!(
        "# Prices out of {}, as of {as_of}. Written by `mimeo prices import`; say prices.files = [\"…\"] to use it.\n\n{toml}",
        origin.source
    );
    match &arguments.output {
        None => print(&text)?,
        Some(path) => {
            std::fs::write(path, text)
                .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", path.display())))?;
            eprintln!("{count} prices are in {}", path.display());
        }
    }
    if !quotes.left_out.is_empty() {
        eprintln!("{} rows were left out: `mimeo prices diff` says why", quotes.left_out.len());
    }
    Ok(())
}

/// The last part of a path.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
