//! `mimeo requests`: what came of requests, and why.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use clap::{Args, Subcommand};

use super::{Common, Failure, Outcome, color, print, print_json, table::table};
use crate::clock::{Millis, rfc3339};
use crate::config::Environment;
use crate::domain::{self, Considered, Price, RequestId, Stage, Story, Usd};
use crate::pipeline::{Family, family};
use crate::store::StoryQuery;

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
    /// The last requests, one line each
    List(List),
    /// One request: what was considered, what was tried, what it cost and saved
    Show {
        #[command(flatten)]
        common: Common,
        /// The request, as `x-request-id` and `mimeo requests list` name it
        request: RequestId,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    common: Common,
    /// Only this tenant's
    #[arg(long)]
    tenant: Option<String>,
    /// From this time (RFC 3339, or a date in UTC)
    #[arg(long, value_parser = super::ledger::time)]
    since: Option<Millis>,
    /// How many
    #[arg(long, default_value_t = 30)]
    limit: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    match arguments.command {
        None => list(arguments.list, environment).await,
        Some(Command::List(options)) => list(options, environment).await,
        Some(Command::Show { common, request, json }) => show(&common, environment, request, json).await,
    }
}

async fn list(options: List, environment: &Environment) -> Outcome {
    let List { common, tenant, since, limit, json } = options;
    let stories = common.store(environment)?.stories(StoryQuery { tenant, since_ms: since, limit }).await?;
    if json {
        return print_json(&stories);
    }
    if stories.is_empty() {
        eprintln!("No request is known. They are kept for requests.keep_days.");
        return Ok(());
    }
    let rows = stories.iter().map(|story| {
        vec![
            rfc3339(story.at_ms),
            story.request.to_string(),
            story.tenant.clone(),
            story.route.clone(),
            story.cache.map_or("", domain::Source::name).to_owned(),
            money(story.cost),
            story.saved.map_or_else(String::new, |saved| format!("${saved}")),
            format!("{} ms", story.took_ms),
            outcome(story).0,
        ]
    });
    let header = ["at", "request", "tenant", "route", "cache", "cost", "saved", "took", ""];
    print(&table(&header, rows, &[5, 6, 7]))
}

async fn show(common: &Common, environment: &Environment, id: RequestId, json: bool) -> Outcome {
    let store = common.store(environment)?;
    let Some(story) = store.story(id, None).await? else {
        return Err(Failure::Failed(format!("{id} is not known. `mimeo requests list` tells those that are")));
    };
    let family = family(&store, story, None).await?;
    if json {
        return print_json(&family);
    }
    print(&Page { colors: color(environment, std::io::stdout().is_terminal()) }.family(&family))
}

/// How a story is laid out.
struct Page {
    colors: bool,
}

impl Page {
    fn family(&self, family: &Family) -> String {
        let members: Vec<&Story> = family.parent.iter().chain([&family.story]).chain(&family.children).collect();
        let mut page = String::new();
        for (place, story) in members.iter().enumerate() {
            if place > 0 {
                let is_shadow = story.stage == Some(Stage::Shadow);
                let was = if is_shadow { "made once more, for comparison, by" } else { "followed by" };
                let _ = write!(page, "\nwhich was {was}\n\n");
            }
            self.story(&mut page, story);
        }
        if members.len() > 1 {
            let _ = writeln!(page, "\n{}: cost {}, saved ${}", self.bold("together"), money(family.cost), family.saved);
        }
        page
    }

    fn story(&self, page: &mut String, story: &Story) {
        let (word, why) = outcome(story);
        let word = self.paint(&word, if why.is_empty() { "32" } else { "31" });
        let _ = writeln!(page, "{}  {word}{why}", self.bold(&story.request.to_string()));
        let cache = story.cache.map(|source| format!("{}, ", source.name())).unwrap_or_default();
        let saved = story.saved.unwrap_or(Usd::ZERO);
        let mut facts = vec![
            ("asked", format!("{} by tenant {}, key {}", rfc3339(story.at_ms), story.tenant, story.key)),
            ("for", asked_for(story)),
            ("came to", format!("{cache}cost {}, saved ${saved}, in {} ms", money(story.cost), story.took_ms)),
        ];
        facts.extend(story.prompt.iter().map(|prompt| ("prompt", prompt.clone())));
        facts.extend(story.reading.iter().map(|line| ("read", line.clone())));
        facts.extend(story.objective.iter().map(|objective| ("objective", objective.clone())));
        facts.extend(story.parent.map(|other| ("follows", other.to_string())));
        facts.extend(story.joined.map(|other| ("joined", other.to_string())));
        facts.extend(story.cache_key.iter().map(|key| ("key", key.clone())));
        facts.extend(story.pictures.iter().map(|id| ("picture", id.to_string())));
        facts.extend(story.warnings.iter().map(|warning| ("warning", warning.clone())));
        for (name, text) in facts {
            let _ = writeln!(page, "  {name:<10} {text}");
        }
        if !story.candidates.is_empty() {
            page.push('\n');
            let header = ["#", "candidate", "", "expected", "at most", "seconds", "quality", "score", "why"];
            page.push_str(&table(&header, story.candidates.iter().map(candidate), &[0, 3, 4, 5, 6, 7]));
        }
        if !story.attempts.is_empty() {
            page.push('\n');
            let rows = story.attempts.iter().map(|tried| {
                let attempt = tried.attempt.map_or_else(|| "–".to_owned(), |id| id.to_string());
                let took = format!("{} ms", tried.ms);
                vec![tried.candidate.clone(), money(tried.billed), took, attempt, tried.text.clone()]
            });
            page.push_str(&table(&["tried", "billed", "took", "attempt", "came to"], rows, &[1, 2]));
        }
    }

    fn bold(&self, text: &str) -> String {
        self.paint(text, "1")
    }

    fn paint(&self, text: &str, style: &str) -> String {
        if self.colors { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A word for what a request came to, and what else there is to say of it.
fn outcome(story: &Story) -> (String, String) {
    match &story.outcome {
        domain::Outcome::Ok => ("ok".to_owned(), String::new()),
        domain::Outcome::Error { code, message, .. } => (code.clone(), format!(": {message}")),
    }
}

fn asked_for(story: &Story) -> String {
    let stage = match story.stage {
        Some(Stage::Shadow) => "shadow, by ".to_owned(),
        Some(stage) => format!("{} of ", stage.name()),
        None => String::new(),
    };
    let mut words = vec![stage + if story.route.is_empty() { "no route" } else { &story.route }];
    words.extend(story.model.iter().filter(|model| **model != story.route).map(|model| format!("asked as {model}")));
    words.extend(story.category.iter().map(|category| format!("category {category}")));
    words.extend(story.purpose.iter().map(|purpose| format!("purpose {purpose}")));
    words.join(", ")
}

fn candidate(candidate: &Considered) -> Vec<String> {
    let is_dropped = candidate.verdict == domain::Verdict::Dropped;
    let price = |price: Price| if is_dropped && price == Price::Unknown { String::new() } else { money(price) };
    let why = candidate.reason.as_ref().map(|reason| reason.text.as_str());
    vec![
        candidate.rank.map_or_else(String::new, |rank| rank.to_string()),
        candidate.name.clone(),
        candidate.verdict.name().to_owned(),
        price(candidate.expected),
        price(candidate.bound),
        candidate.seconds.map_or_else(String::new, |seconds| format!("{:.1}", seconds.p50)),
        candidate.quality.map_or_else(String::new, |quality| format!("{:.0} ± {:.0}", quality.mean, quality.sd)),
        candidate.score.map_or_else(String::new, |score| format!("{score:.3}")),
        why.into_iter().chain(candidate.notes.iter().map(String::as_str)).collect::<Vec<_>>().join("; "),
    ]
}

fn money(price: Price) -> String {
    price.known().map_or_else(|| "unknown".to_owned(), |usd| format!("${usd}"))
}
