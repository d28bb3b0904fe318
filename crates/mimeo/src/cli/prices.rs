//! `mimeo prices`: what pictures cost, where that is known from, what others say, what has changed, and how right it
//! was.

mod accuracy;
mod history;
mod list;
mod refresh;
mod sheet;
mod show;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use jiff::civil::Date;

use super::{Common, Failure, Outcome, print, print_json, table::table};
use crate::app::Blueprint;
use crate::clock::Clock;
use crate::config::{Environment, Included, Period, Plan};
use crate::domain::Usd;
use crate::prices::PriceBook;
use crate::pricing::Prices;
use crate::providers::{Model, Provider, Status};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what every model that is known costs
    List(list::List),
    /// Show everything that is known of one model's prices, with worked examples
    Show {
        #[command(flatten)]
        common: Common,
        /// The model: NAME or PROVIDER/NAME
        model: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare with a price sheet of others
    Diff(sheet::Diff),
    /// Turn a price sheet of others into a file for prices.files
    Import(sheet::Import),
    /// Prices that have changed while the gateway ran, with who said so
    History {
        #[command(flatten)]
        common: Common,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// How far bills were from what was expected, by model and quality, over the last 30 days
    Accuracy {
        #[command(flatten)]
        common: Common,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at the price feeds now; a running gateway reckons with what they change within seconds
    Refresh {
        #[command(flatten)]
        common: Common,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    match arguments.command {
        None => list::run(&arguments.list, environment).await,
        Some(Command::List(listing)) => list::run(&listing, environment).await,
        Some(Command::Show { common, model, json }) => show::run(&common, &model, json, environment).await,
        Some(Command::Diff(arguments)) => sheet::diff(&arguments, environment),
        Some(Command::Import(arguments)) => sheet::import(&arguments, environment),
        Some(Command::History { common, json }) => history::run(&common, json, environment).await,
        Some(Command::Accuracy { common, json }) => accuracy::run(&common, json, environment).await,
        Some(Command::Refresh { common, json }) => refresh::run(&common, json, environment).await,
    }
}

/// A model with what it costs today.
struct Entry {
    /// The provider's name here, or that of the record where no such provider is there.
    provider: String,
    model: Model,
    /// True if every name that is not listed costs this.
    is_any: bool,
    /// True if the provider can be called.
    enabled: bool,
    plan: Option<Plan>,
    /// The qualities that are billed otherwise than listed: what is billed, and for what is listed at how much.
    bills: Vec<(String, Usd, Usd)>,
}

impl Entry {
    fn prices(&self) -> Option<&Prices> {
        self.model.prices.as_ref()
    }

    fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model.id)
    }

    /// The name in tables.
    fn label(&self) -> String {
        if self.is_any { "any other".to_owned() } else { self.model.id.clone() }
    }
}

/// Every model that is known and served: of the providers that are there as their operator has them and as `book` says
/// that they have become, of the others as their record does.
fn entries(blueprint: &Blueprint, book: Option<&PriceBook>, day: Date) -> Vec<Entry> {
    let registry = blueprint.routes.registry();
    let mut entries: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    let listed = |model: &Model| model.prices_on(day, 0).map(std::borrow::Cow::into_owned);
    let priced = |model: &Model, prices: Option<Prices>| Model {
        prices,
        price_changes: model.price_changes.iter().filter(|prices| prices.from > Some(day)).cloned().collect(),
        ..model.clone()
    };
    let is_served = |model: &Model| !matches!(model.status, Status::Gone { .. });
    for provider in registry.providers().filter(|provider| provider.record.shape.is_remote()) {
        let said = |provider: &Provider, model: &Model| match book {
            Some(book) => book.undiscounted(provider, model).map(|prices| Prices::clone(&prices)),
            None => listed(model),
        };
        let entry = |model: &Model, is_any| Entry {
            provider: provider.name.clone(),
            model: priced(model, said(provider, model)),
            is_any,
            enabled: true,
            plan: provider.plan.clone(),
            bills: book.map(|book| book.off_list(provider, model)).unwrap_or_default(),
        };
        let listed = provider.models().iter().filter(|model| is_served(model)).map(|model| entry(model, false));
        let any = provider.record.default_model.as_ref().filter(|_| provider.is_open());
        let any = any.and_then(|model| provider.model(&model.id)).map(|model| entry(&model, true));
        entries.insert(provider.name.clone(), listed.chain(any).collect());
    }
    for record in blueprint.catalogue.records() {
        let is_there = registry.providers().any(|provider| provider.record.name == record.name);
        if is_there || record.simulated || !record.shape.is_remote() || entries.contains_key(&record.name) {
            continue;
        }
        let entry = |model: &Model, is_any| Entry {
            provider: record.name.clone(),
            model: priced(model, listed(model)),
            is_any,
            enabled: false,
            plan: record.plan.clone(),
            bills: Vec::new(),
        };
        let listed = record.models.iter().filter(|model| is_served(model)).map(|model| entry(model, false));
        let any = record.default_model.as_ref().filter(|_| record.open_models).map(|model| entry(model, true));
        entries.insert(record.name.clone(), listed.chain(any).collect());
    }
    entries.into_values().flatten().collect()
}

/// Today, in UTC.
fn today() -> Date {
    let now = jiff::Timestamp::from_millisecond(Clock::System.now()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    now.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// A plan in a sentence: `$49 per month for 1000 pictures per month`.
fn plan_in_words(plan: &Plan) -> String {
    let amount = |included: &Included| {
        let what = match (included.pictures, included.usd) {
            (Some(pictures), _) => format!("{pictures} pictures"),
            (None, Some(usd)) => format!("${usd} worth of pictures"),
            (None, None) => "nothing".to_owned(),
        };
        match included.per {
            Period::Total => format!("{what} once"),
            Period::Hour => format!("{what} per hour"),
            Period::Day => format!("{what} per day"),
            Period::Month => format!("{what} per month"),
        }
    };
    let list = |paid: bool| {
        let parts: Vec<String> = plan.included.iter().filter(|included| included.paid == paid).map(amount).collect();
        Some(parts.join(" and ")).filter(|list| !list.is_empty())
    };
    let free = list(false).map(|list| format!("{list} free"));
    let paid = match (plan.fee_usd, list(true)) {
        (Some(fee), Some(list)) => Some(format!("${fee} per month for {list}")),
        (Some(fee), None) => Some(format!("${fee} per month")),
        (None, list) => list,
    };
    let words: Vec<String> = free.into_iter().chain(paid).collect();
    let title = plan.title.as_ref().map(|title| format!("{title}: ")).unwrap_or_default();
    title + &words.join(", ")
}
