//! `mimeo doctor`: is everything in order that serving needs, and if not, what is to be done? Unlike `mimeo check` it
//! looks at the world: it asks providers what costs nothing, opens the store, and looks at the disk.

mod accounts;
mod exposure;
mod finding;
mod models;
mod storage;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Common, Failure, Outcome, print, print_json};
use crate::app::Blueprint;
use crate::clock::Clock;
use crate::config::{Choice, Config, ConfigFault, Environment};
use finding::{Finding, Level, text};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Ask nobody on the network: no provider, no Redis, no database server, no bucket
    #[arg(long)]
    offline: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// How long anybody on the network may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    let findings = examine(&arguments, environment).await;
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let (broken, warnings) = (count(Level::Broken), count(Level::Warning));
    if arguments.json {
        print_json(&json!({ "broken": broken, "warnings": warnings, "findings": findings }))?;
    } else {
        print(&text(&findings, super::color(environment, std::io::stdout().is_terminal())))?;
    }
    match broken {
        0 => Ok(()),
        1 => Err(Failure::Failed("one thing is broken".to_owned())),
        several => Err(Failure::Failed(format!("{several} things are broken"))),
    }
}

async fn examine(arguments: &Arguments, environment: &Environment) -> Vec<Finding> {
    let common = &arguments.common;
    let config = match common.config(None) {
        Ok(config) => config,
        Err(failure) => return faults_of(failure).iter().map(misconfigured).collect(),
    };
    let (blueprint, faults) = draw(common, config.clone(), environment);
    let mut findings: Vec<Finding> = faults.iter().map(misconfigured).collect();
    if faults.is_empty() {
        findings.push(Finding::good("configuration", &common.file().display().to_string(), summary(&config)));
    }
    let store = storage::examine(&mut findings, common, &config, environment, arguments.offline).await;
    if let Some(blueprint) = &blueprint {
        accounts::examine(&mut findings, blueprint, &config, arguments.offline).await;
        models::examine(&mut findings, blueprint, store.as_ref(), Clock::System.now()).await;
        storage::examine_redis(&mut findings, blueprint, arguments.offline).await;
    }
    exposure::examine(&mut findings, &config);
    findings
}

fn summary(config: &Config) -> String {
    let count = |count: usize, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
    format!("{}, {}", count(config.routes.len(), "route"), count(config.keys.len(), "key"))
}

fn misconfigured(fault: &ConfigFault) -> Finding {
    Finding::broken("configuration", "", fault.to_string(), "Correct the file; `mimeo check` reads it again.")
}

fn faults_of(failure: Failure) -> Vec<ConfigFault> {
    match failure {
        Failure::Config(faults) => faults,
        Failure::Failed(message) | Failure::Usage(message) => vec![ConfigFault::file("mimeo.toml".as_ref(), message)],
        Failure::Told => Vec::new(),
    }
}

/// All that can be made of the configuration, with every fault of it: what is at fault is left out until the rest holds.
fn draw(common: &Common, mut config: Config, environment: &Environment) -> (Option<Blueprint>, Vec<ConfigFault>) {
    let (mut all, mut left_out): (Vec<ConfigFault>, Vec<String>) = (Vec::new(), Vec::new());
    loop {
        let faults = match common.blueprint(config.clone(), environment) {
            Ok(blueprint) => return (Some(blueprint), all),
            Err(failure) => faults_of(failure),
        };
        let mut is_less = false;
        let leans_on = |route: &str| {
            let candidates = config.routes.get(route).map_or(&[] as &[Choice], |route| route.candidates.as_slice());
            candidates.iter().any(|one| left_out.iter().any(|name| one.model.split('/').next() == Some(name)))
        };
        // A route that leans on what was left out is told by that.
        let is_told =
            |fault: &ConfigFault| entry(fault).is_some_and(|(section, name)| section == "routes" && leans_on(name));
        all.extend(faults.iter().filter(|fault| !is_told(fault)).cloned());
        for fault in &faults {
            match entry(fault) {
                Some(("providers", name)) => {
                    if let Some(provider) = config.providers.get_mut(name) {
                        is_less |= provider.enabled.replace(false) != Some(false);
                        left_out.push(name.to_owned());
                    }
                }
                Some(("routes", name)) => is_less |= config.routes.remove(name).is_some(),
                _ => {}
            }
        }
        if !is_less {
            return (None, all);
        }
    }
}

/// The section and the name of the entry that a fault is about, such as `providers.studio`.
fn entry(fault: &ConfigFault) -> Option<(&str, &str)> {
    fault.message.split_once(": ")?.0.split_once('.')
}
