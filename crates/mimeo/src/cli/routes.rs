//! `mimeo routes`.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Common, Failure, Outcome, print, print_json, table::table};
use crate::clock::Clock;
use crate::config::Environment;
use crate::domain::{Call, Caller, Considered, ImageRequest, Price, Quality, RequestId, Seconds, Size};
use crate::prices::PriceBook;
use crate::route::rank::{Moment, Sight};
use crate::route::{Candidate, Maker, Plan, Routes, Sense};

/// A request that any model of a route may serve.
const TYPICAL: (&str, Size) = ("a lighthouse at dusk", Size::Exact(1024, 1024));

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All routes, one line each
    List(List),
    /// Whom a route would ask for a request, in which order, and why
    Show(Show),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    common: Common,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    common: Common,
    /// The route, or a model
    name: String,
    /// The prompt of the request [default: one that any model can serve]
    #[arg(long)]
    prompt: Option<String>,
    /// Its size [default: 1024x1024]
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    /// What it is for: hero, thumbnail, …
    #[arg(long)]
    purpose: Option<String>,
    /// What it shows
    #[arg(long)]
    category: Option<String>,
    /// draft, standard or premium
    #[arg(long)]
    quality_tier: Option<String>,
    /// Within how many milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    deadline_ms: Option<u64>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    match arguments.command {
        None => list(&arguments.list, environment).await,
        Some(Command::List(options)) => list(&options, environment).await,
        Some(Command::Show(options)) => show(&options, environment).await,
    }
}

/// A route: its name, where it comes from, whom it would ask or why nobody, and what it looks for.
type Line<'a> = (&'a str, &'a str, Result<Vec<Considered>, String>, Option<String>);

async fn list(options: &List, environment: &Environment) -> Outcome {
    let blueprint = options.common.blueprint(options.common.config(None)?, environment)?;
    let book = options.common.book(&blueprint.config, environment).await;
    let routes = &blueprint.routes;
    let (configured, built_in) = routes.names();
    let names =
        configured.iter().map(|name| (*name, "configured")).chain(built_in.iter().map(|name| (*name, "built in")));
    let lines: Vec<Line<'_>> = names
        .map(|(name, kind)| match plan(routes, &call(name)) {
            Ok(plan) => (name, kind, Ok(rank(&plan, now(None), book.as_ref())), plan.objective()),
            Err(error) => (name, kind, Err(error.to_string()), None),
        })
        .collect();
    if options.json {
        let shown = |(name, kind, considered, objective): &Line<'_>| {
            json!({
                "name": name, "kind": kind, "objective": objective,
                "candidates": considered.as_ref().ok().map(|all| all.iter().map(|one| &one.name).collect::<Vec<_>>()),
                "fault": considered.as_ref().err(),
            })
        };
        return print_json(&lines.iter().map(shown).collect::<Vec<_>>());
    }
    let rows = lines.iter().map(|(name, kind, considered, objective)| {
        let first = match considered {
            Ok(all) => {
                match all.iter().filter(|one| one.rank.is_some()).map(|one| one.name.as_str()).collect::<Vec<_>>()[..] {
                    [] => "nobody may be asked now".to_owned(),
                    [first] => first.to_owned(),
                    [first, second] => format!("{first}, then {second}"),
                    [first, second, ref more @ ..] => format!("{first}, then {second}, then {} more", more.len()),
                }
            }
            Err(why) => why.clone(),
        };
        vec![(*name).to_owned(), (*kind).to_owned(), objective.clone().unwrap_or_else(|| "as listed".into()), first]
    });
    print(&table(&["name", "", "objective", "asks for a picture of 1024x1024"], rows, &[]))
}

async fn show(options: &Show, environment: &Environment) -> Outcome {
    let blueprint = options.common.blueprint(options.common.config(None)?, environment)?;
    let book = options.common.book(&blueprint.config, environment).await;
    let mut call = call(&options.name);
    if let Some(prompt) = &options.prompt {
        call.request.prompt.clone_from(prompt);
    }
    call.request.size = options.size.unwrap_or(call.request.size);
    (call.purpose, call.category) = (options.purpose.clone(), options.category.clone());
    call.quality_tier.clone_from(&options.quality_tier);
    let deadline = options.deadline_ms.map(Duration::from_millis);
    let plan = plan(&blueprint.routes, &call).map_err(|error| Failure::Failed(error.to_string()))?;
    let considered: Vec<Considered> =
        rank(&plan, now(deadline), book.as_ref()).into_iter().chain(plan.unfit()).collect();
    if options.json {
        return print_json(&json!({
            "route": plan.route, "objective": plan.objective(), "warnings": plan.warnings, "candidates": considered,
        }));
    }
    let mut text =
        format!("{}: {}\n", plan.route, plan.objective().unwrap_or_else(|| "tried as they are listed".into()));
    for warning in &plan.warnings {
        let _ = writeln!(text, "{warning}");
    }
    text.push('\n');
    let rows = considered.iter().map(|one| {
        let price = one.bound.known().map_or_else(|| "unknown".to_owned(), |usd| format!("${usd}"));
        let seconds = one.seconds.map_or_else(String::new, |time| format!("{:.0} s", time.p50));
        let points = one.quality.map_or_else(String::new, |quality| format!("{:.0}", quality.mean));
        let is_left_out = one.rank.is_none();
        let why = one.reason.as_ref().map(|reason| reason.text.clone());
        vec![
            one.rank.map_or_else(|| "–".to_owned(), |rank| rank.to_string()),
            one.name.clone(),
            if is_left_out && one.quality.is_none() { String::new() } else { price },
            seconds,
            points,
            why.into_iter().chain(one.notes.iter().cloned()).collect::<Vec<_>>().join("; "),
        ]
    });
    text += &table(&["", "candidate", "at most", "typical", "points", ""], rows, &[0, 2, 3, 4]);
    text +=
        "\nTimes and points are the catalogue's here; a running gateway goes by what it has learned, see `explain`.\n";
    print(&text)
}

fn call(model: &str) -> Call {
    let (prompt, size) = TYPICAL;
    let request = ImageRequest { size, ..ImageRequest::generate(prompt) };
    Call { model: Some(model.to_owned()), ..Call::new(RequestId::random(), Caller::local(), request) }
}

fn plan(routes: &Routes, call: &Call) -> crate::error::Result<Plan> {
    routes.plan(call, Sense { purpose: call.purpose.clone(), category: call.category.clone(), reading: None })
}

/// This moment, for a request that is no probe.
fn now(deadline: Option<Duration>) -> Moment {
    Moment { deadline, now: Clock::System.now(), dice: 1.0, ..Moment::default() }
}

/// The candidates as a gateway sees them that has not asked any of them yet, at what `book` says that they cost.
fn rank(plan: &Plan, moment: Moment, book: Option<&PriceBook>) -> Vec<Considered> {
    let day = jiff::Timestamp::from_millisecond(moment.now).unwrap_or_default();
    let day = day.to_zoned(jiff::tz::TimeZone::UTC).date();
    let look = |candidate: &Candidate| {
        let request = &candidate.request;
        let (bound, price, time) = match &candidate.maker {
            Maker::Provider(provider, model) => {
                let listed = || model.expected_with(model.prices_on(day, 0).as_deref(), request, 1, 0);
                let bound = book.map_or_else(listed, |book| book.expected(provider, model, request, 1, 0));
                let price = book.map_or(bound, |book| book.estimate(provider, model, request, 1).usd);
                let time = model.typical_latency(request.quality.as_deref()).map(|typical| typical.as_secs_f64());
                (bound, price, time)
            }
            Maker::Template => (Price::FREE, Price::FREE, None),
        };
        let quality: Quality = candidate.prior(bound, 1);
        let time = time.map(|p50| Seconds { p50, p95: 2.0 * p50, evidence: 0.0 });
        let (errors, sample) = (0.0, quality.mean);
        Sight { bound, price, time, errors, quality, rating: sample, sample, is_busy: false, idle: None }
    };
    plan.rank(moment, look).1
}
