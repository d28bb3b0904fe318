//! `mimeo prices refresh`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{Common, Failure, Outcome, print, print_json};
use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::config::Environment;
use crate::prices::{Polled, PriceBook};

pub(super) async fn run(common: &Common, json: bool, environment: &Environment) -> Outcome {
    let blueprint = common.blueprint(common.config(None)?, environment)?;
    if blueprint.feeds.is_empty() {
        return Err(Failure::Failed(
            "there is no feed to look at: name one with [[prices.feeds]], or lay prices over the catalogue with \
             prices.files"
                .to_owned(),
        ));
    }
    let store = Arc::new(common.store(environment)?);
    let (clock, tasks) = (Clock::System, TaskTracker::new());
    let settings = &blueprint.config.alerts;
    let alerts = Alerts::new(Arc::clone(&store), clock.clone(), tasks.clone(), settings, blueprint.webhook);
    let book = PriceBook::new(store, clock, alerts.clone(), tasks.clone(), blueprint.config.prices.clone());
    book.load().await?;
    let (never, mut all) = (CancellationToken::new(), Vec::new());
    for feed in &blueprint.feeds {
        all.push(book.refresh(feed, &blueprint.catalogue, blueprint.routes.registry(), &never).await?);
    }
    alerts.deliver().await?;
    tasks.close();
    tasks.wait().await;
    if json {
        print_json(&all)?;
    } else {
        all.iter().try_for_each(|polled| print(&told(polled)))?;
    }
    match all.iter().filter(|polled| polled.failed.is_some()).count() {
        0 => Ok(()),
        1 => Err(Failure::Failed("a feed does not help; no price of it was changed".to_owned())),
        several => Err(Failure::Failed(format!("{several} feeds do not help; no price of them was changed"))),
    }
}

fn told(polled: &Polled) -> String {
    let Polled { feed, unchanged: _, rows, matched, left_out, changed, doubted, failed } = polled;
    let mut text = match failed {
        Some(why) => format!("{feed}: {why}\n"),
        None => format!("{feed}: {rows} prices, {matched} of models that are here, {} changed\n", changed.len()),
    };
    if *left_out > 0 {
        text += &format!("  {left_out} left out: `mimeo prices diff` with a copy of it says why\n");
    }
    for line in changed {
        text = text + "  " + line + "\n";
    }
    for line in doubted {
        text = text + "  not believed: " + line + "\n";
    }
    text
}
