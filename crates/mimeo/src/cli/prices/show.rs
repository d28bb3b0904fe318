//! `mimeo prices show`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    Common, Entry, Environment, Failure, Outcome, entries, list, plan_in_words, print, print_json, table, today,
};
use crate::domain::{ImageRequest, Price, Size};
use crate::pricing::{Prices, compare};
use crate::providers::model::Sizes;
use crate::providers::near;

/// The sizes that examples are worked for where a model has no list of its own.
const EXAMPLES: [(u32, u32); 4] = [(512, 512), (1024, 1024), (1536, 1024), (2048, 2048)];

pub(super) async fn run(common: &Common, name: &str, as_json: bool, environment: &Environment) -> Outcome {
    let blueprint = common.blueprint(common.config(None)?, environment)?;
    let book = common.book(&blueprint.config, environment).await;
    let all = entries(&blueprint, book.as_ref(), today());
    let is_named = |entry: &&Entry| {
        let names = std::iter::once(&entry.model.id).chain(&entry.model.aliases);
        names.into_iter().any(|known| {
            known == name || name.strip_prefix(&entry.provider).and_then(|rest| rest.strip_prefix('/')) == Some(known)
        })
    };
    let found: Vec<&Entry> = all.iter().filter(is_named).collect();
    if found.is_empty() {
        let names: Vec<String> = all.iter().flat_map(|entry| [entry.model.id.clone(), entry.name()]).collect();
        let hint = match near(name, names.iter().map(String::as_str)).as_slice() {
            [] => "`mimeo prices list` lists the models that are known".to_owned(),
            close => format!("did you mean {}?", close.join(" or ")),
        };
        return Err(Failure::Failed(format!("there is no model {name}; {hint}")));
    }
    if as_json {
        let values: Vec<Value> = found
            .iter()
            .map(|entry| {
                let mut value = list::value(entry);
                if let Some(fields) = value.as_object_mut() {
                    fields.insert("prices".to_owned(), json!(entry.prices()));
                    fields.insert("examples".to_owned(), examples(entry).into_iter().map(Example::value).collect());
                }
                value
            })
            .collect();
        return print_json(&values);
    }
    let texts: Vec<String> = found.iter().map(|entry| text(entry)).collect();
    print(&texts.join("\n"))
}

fn text(entry: &Entry) -> String {
    let state = if entry.enabled { "" } else { "   not enabled" };
    let mut out = format!("{}   {}{state}\n", entry.name(), entry.model.status.name());
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<8} {value}");
    };
    match entry.prices() {
        None => line("price", "unknown"),
        Some(prices) => {
            version(prices, &mut line);
            for tier in &prices.tiers {
                line("volume", &format!("after {} pictures of a month {}", tier.after_pictures, part(tier.permille)));
            }
            if let Some(permille) = prices.batch_permille {
                line("batch", &part(permille));
            }
        }
    }
    for (quality, billed, listed) in &entry.bills {
        let of = if quality.is_empty() { String::new() } else { format!("@{quality}: ") };
        line("bills", &format!("{of}${billed} for what is listed at ${listed}, and so it is set aside"));
    }
    for change in &entry.model.price_changes {
        line("later", &change.from.map(|day| format!("from {day}:")).unwrap_or_default());
        version(change, &mut line);
    }
    if let Some(plan) = &entry.plan {
        line("plan", &plan_in_words(plan));
        let facts = [plan.certainty.map(|sure| sure.name().to_owned()), plan.as_of.map(|day| format!("read {day}"))];
        let facts = facts.into_iter().flatten().chain(plan.source.clone()).collect::<Vec<_>>().join(", ");
        if !facts.is_empty() {
            line("", &facts);
        }
    }
    out + &worked(entry)
}

/// One version of the prices: rates, and where they are known from.
fn version(prices: &Prices, line: &mut impl FnMut(&str, &str)) {
    for (index, (of, usd)) in compare::rates(prices).into_iter().enumerate() {
        line(if index == 0 { "price" } else { "" }, &format!("${usd} per {of}"));
    }
    let facts = [
        Some(prices.certainty.name().to_owned()),
        prices.as_of.map(|day| format!("read {day}")),
        prices.from.map(|day| format!("holds from {day}")),
    ];
    line("facts", &facts.into_iter().flatten().collect::<Vec<_>>().join(", "));
    line("source", &prices.source);
}

/// `900` → `90 % of the price`.
fn part(permille: u16) -> String {
    let (whole, tenth) = (permille / 10, permille % 10);
    let tenth = if tenth == 0 { String::new() } else { format!(".{tenth}") };
    format!("{whole}{tenth} % of the price")
}

/// What one picture costs at most.
struct Example {
    size: Size,
    quality: Option<String>,
    price: Price,
}

impl Example {
    fn value(self) -> Value {
        json!({ "size": self.size, "quality": self.quality, "usd": self.price.known() })
    }
}

fn exact((width, height): (u32, u32)) -> Size {
    Size::Exact(width, height)
}

/// Pictures without a prompt, by size and quality.
fn examples(entry: &Entry) -> Vec<Example> {
    let model = &entry.model;
    let operation = model.operations.first().copied().unwrap_or(crate::domain::Operation::Generate);
    let request = |size, quality: Option<&String>| ImageRequest {
        operation,
        size,
        quality: quality.cloned(),
        ..ImageRequest::generate("")
    };
    let mut sizes: Vec<Size> = match &model.sizes {
        Sizes::None => vec![Size::Auto],
        Sizes::List(sizes) => sizes.clone(),
        // What it does not make is made of what is nearest.
        other => EXAMPLES.into_iter().filter_map(|(width, height)| other.nearest(width, height)).map(exact).collect(),
    };
    sizes.dedup();
    let steps: Vec<&String> = model.qualities.iter().filter(|quality| *quality != "auto" && *quality != "*").collect();
    let qualities: Vec<Option<&String>> =
        if steps.is_empty() { vec![None] } else { steps.into_iter().map(Some).collect() };
    let each = sizes.into_iter().flat_map(|size| qualities.iter().map(move |quality| (size, *quality)));
    each.map(|(size, quality)| Example {
        size,
        quality: quality.cloned(),
        price: model.expected(&request(size, quality), 1, 0),
    })
    .collect()
}

/// The examples as a table: a line per size, a column per quality.
fn worked(entry: &Entry) -> String {
    let examples = examples(entry);
    let mut qualities: Vec<&str> = Vec::new();
    let mut rows: Vec<(Size, Vec<String>)> = Vec::new();
    for example in &examples {
        let quality = example.quality.as_deref().unwrap_or("one picture");
        if !qualities.contains(&quality) {
            qualities.push(quality);
        }
        let price = example.price.known().map_or_else(|| "unknown".to_owned(), |usd| format!("${usd}"));
        match rows.last_mut().filter(|(size, _)| *size == example.size) {
            Some((_, cells)) => cells.push(price),
            None => rows.push((example.size, vec![price])),
        }
    }
    let header: Vec<&str> = std::iter::once("at most").chain(qualities).collect();
    let right: Vec<usize> = (1..header.len()).collect();
    let rows = rows.into_iter().map(|(size, cells)| std::iter::once(size.to_string()).chain(cells).collect());
    format!("\n{}", table(&header, rows, &right))
}
