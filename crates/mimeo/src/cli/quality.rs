//! `mimeo quality`: what is believed of whom, and how sure that is.

use std::sync::Arc;

use clap::Args;

use super::{Common, Outcome, print, print_json, table::table};
use crate::clock::Clock;
use crate::config::Environment;
use crate::quality::{NEUTRAL, Opinions, Sources};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    let config = arguments.common.config(None)?;
    let store = Arc::new(arguments.common.store(environment)?);
    let opinions = Opinions::new(store, Clock::System, config.quality.half_life());
    opinions.refresh().await?;
    let blueprint = arguments.common.blueprint(config, environment)?;
    let prior = |candidate: &str| blueprint.routes.registry().rating(candidate).map_or(NEUTRAL, f64::from);
    let lines = opinions.list(prior);
    if arguments.json {
        return print_json(&lines);
    }
    if lines.is_empty() {
        eprintln!("Nothing was said of any picture yet. POST /v1/feedback takes it.");
        return Ok(());
    }
    let rows = lines.into_iter().map(|line| {
        vec![
            line.candidate,
            line.category.unwrap_or_else(|| "(all)".to_owned()),
            format!("{:.0} ± {:.0}", line.opinion.mean, line.opinion.sd),
            format!("{:.1}", line.opinion.evidence),
            words(line.sources),
        ]
    });
    print(&table(&["candidate", "category", "quality", "votes", "of"], rows, &[2, 3]))
}

fn words(sources: Sources) -> String {
    let Sources { rating, accepted, clicks, judge } = sources;
    let all = [(rating, "ratings"), (accepted, "accepted or not"), (clicks, "clicks"), (judge, "judged")];
    let said = all.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    said.collect::<Vec<_>>().join(", ")
}
