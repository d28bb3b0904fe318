//! `mimeo routes`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Common, Failure, Outcome, print, print_json, table::table};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::domain::{Call, Caller, Considered, ImageRequest, Quality, RequestId, Seconds, Size};
use crate::prices::PriceBook;
use crate::quality::Opinions;
use crate::route::choose::Sight;
use crate::route::performance::Performance;
use crate::route::rank::Moment;
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

/// What gateways have learned of candidates and of prices, as far as it is stored.
#[derive(Default)]
struct Learned {
    performance: Performance,
    opinions: Option<Opinions>,
    book: Option<PriceBook>,
}

impl Learned {
    /// What there is; nothing, where nothing was made yet, and with a warning where it cannot be read.
    async fn of(common: &Common, config: &Config, environment: &Environment) -> Result<Learned, Failure> {
        let Some(book) = common.book(config, environment).await else { return Ok(Learned::default()) };
        let store = Arc::new(common.store(environment)?);
        let performance = Performance::default();
        performance.begin(&store, &Clock::System).await?;
        let opinions = Opinions::new(store, Clock::System, config.quality.half_life());
        opinions.refresh().await?;
        Ok(Learned { performance, opinions: Some(opinions), book: Some(book) })
    }

    /// A candidate as a gateway sees it that is not busy, on the day of `moment`.
    fn look(&self, plan: &Plan, candidate: &Candidate, moment: Moment) -> Sight {
        let Maker::Provider(provider, model) = &candidate.maker else { return Sight::of_template() };
        let request = &candidate.request;
        let (bound, price) = match &self.book {
            Some(book) => {
                (book.expected(provider, model, request, 1, 0), book.estimate(provider, model, request, 1).usd)
            }
            None => {
                let day = jiff::Timestamp::from_millisecond(moment.now).unwrap_or_default();
                let day = day.to_zoned(jiff::tz::TimeZone::UTC).date();
                let listed = model.expected_with(model.prices_on(day, 0).as_deref(), request, 1, 0);
                (listed, listed)
            }
        };
        let typical = model.typical_latency(request.quality.as_deref());
        let cold_start = Duration::from_secs(u64::from(candidate.choice.cold_start_s.unwrap_or(0)));
        let name = candidate.known_as();
        let known = self.performance.of(&name, typical, cold_start);
        let prior = candidate.prior(bound, 1);
        let opinion = self.opinions.as_ref().map(|opinions| {
            let opinion = opinions.opinion(&name, plan.sense.category.as_deref(), prior.mean);
            Quality { mean: opinion.mean, sd: opinion.sd, evidence: opinion.evidence }
        });
        let quality = opinion.unwrap_or(prior);
        Sight {
            bound,
            price,
            time: known.time,
            errors: known.errors,
            quality,
            rating: prior.mean,
            sample: quality.mean,
            is_busy: false,
            idle: known.idle,
        }
    }
}

/// A route: its name, where it comes from, whom it would ask or why nobody, and what it looks for.
type Line<'a> = (&'a str, &'a str, Result<Vec<Considered>, String>, Option<String>);

async fn list(options: &List, environment: &Environment) -> Outcome {
    let blueprint = options.common.blueprint(options.common.config(None)?, environment)?;
    let learned = Learned::of(&options.common, &blueprint.config, environment).await?;
    let routes = &blueprint.routes;
    let (configured, built_in) = routes.names();
    let names =
        configured.iter().map(|name| (*name, "configured")).chain(built_in.iter().map(|name| (*name, "built in")));
    let lines: Vec<Line<'_>> = names
        .map(|(name, kind)| match plan(routes, &call(name)) {
            Ok(plan) => (name, kind, Ok(rank(&plan, now(None), &learned)), plan.objective()),
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
    let learned = Learned::of(&options.common, &blueprint.config, environment).await?;
    let mut call = call(&options.name);
    if let Some(prompt) = &options.prompt {
        call.request.prompt.clone_from(prompt);
    }
    call.request.size = options.size.unwrap_or(call.request.size);
    (call.purpose, call.category) = (options.purpose.clone(), options.category.clone());
    call.quality_tier.clone_from(&options.quality_tier);
    let deadline = options.deadline_ms.map(Duration::from_millis);
    let plan = plan(&blueprint.routes, &call).map_err(|error| Failure::Failed(error.to_string()))?;
    let considered: Vec<Considered> = rank(&plan, now(deadline), &learned).into_iter().chain(plan.unfit()).collect();
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
        let seconds = |of: fn(Seconds) -> f64| one.seconds.map_or_else(String::new, |time| in_seconds(of(time)));
        let points = one.quality.map_or_else(String::new, |quality| format!("{:.0}", quality.mean));
        let is_left_out = one.rank.is_none();
        let why = one.reason.as_ref().map(|reason| reason.text.clone());
        vec![
            one.rank.map_or_else(|| "–".to_owned(), |rank| rank.to_string()),
            one.name.clone(),
            if is_left_out && one.quality.is_none() { String::new() } else { price },
            seconds(|time| time.p50),
            seconds(|time| time.p95),
            points,
            why.into_iter().chain(one.notes.iter().cloned()).collect::<Vec<_>>().join("; "),
        ]
    });
    text += &table(&["", "candidate", "at most", "typical", "slowest 5 %", "points", ""], rows, &[0, 2, 3, 4, 5]);
    text += match learned.opinions {
        Some(_) => {
            "\nTimes and points are what was learned, and the catalogue's where nothing was yet. Who is busy or down now, only \
             the\nrunning gateway knows: see `explain`.\n"
        }
        None => {
            "\nTimes and points are the catalogue's, since nothing was made here yet; later they are what was learned.\n"
        }
    };
    print(&text)
}

fn in_seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
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

/// The candidates as a gateway sees them now.
fn rank(plan: &Plan, moment: Moment, learned: &Learned) -> Vec<Considered> {
    plan.rank(moment, |candidate| learned.look(plan, candidate, moment)).1
}
