//! The command line. Data goes to stdout, everything else to stderr; every listing has `--json`.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 64 bad configuration or record.

mod alerts;
mod budgets;
mod cache;
mod check;
mod classify;
mod credits;
mod demo;
mod doctor;
mod feedback;
mod generate;
mod keys;
mod ledger;
mod prices;
mod providers;
mod quality;
mod reconcile;
mod render;
mod requests;
mod routes;
mod serve;
mod table;

use std::fmt;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tokio_util::task::TaskTracker;

use crate::alerts::Alerts;
use crate::app::Blueprint;
use crate::clock::Clock;
use crate::config::{Config, ConfigFault, Environment};
use crate::error::Error;
use crate::prices::PriceBook;

/// Draw once, print many: a gateway for image generation that never pays twice for the same picture.
#[derive(Debug, Parser)]
#[command(name = "mimeo", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what Mimeo does: no configuration, no key, no network
    Demo(demo::Arguments),
    /// Run the gateway
    Serve(serve::Arguments),
    /// Check configuration, catalogue and templates without opening anything
    Check(Common),
    /// Look at keys, providers, clock, disk, engines and retiring models, and say what to do
    Doctor(doctor::Arguments),
    /// Make one picture from a prompt
    Generate(generate::Arguments),
    /// Show how a prompt is read: what it is for, what it shows, how many steps it needs
    Classify(classify::Arguments),
    /// Draw a template
    Render(render::Arguments),
    /// What was spent, saved, and is in suspense
    Ledger(ledger::Arguments),
    /// What came of requests, and why
    Requests(requests::Arguments),
    /// Providers and their models
    Providers(providers::Arguments),
    /// Routes, and whom they would ask
    Routes(routes::Arguments),
    /// What pictures cost, where that is known from, what has changed, and how right it was
    Prices(prices::Arguments),
    /// What the operator was told without asking
    Alerts(alerts::Arguments),
    /// Budgets, and what is used of them
    Budgets(budgets::Arguments),
    /// What people say of pictures
    Feedback(feedback::Arguments),
    /// How good the pictures of each candidate are believed to be
    Quality(quality::Arguments),
    /// Free and prepaid credits of accounts, and what is left of them
    Credits(credits::Arguments),
    /// What is stored, and purging it
    Cache(cache::Arguments),
    /// Keys that callers authenticate with
    Keys(keys::Arguments),
    /// Run simulated paid providers with an invoice book
    Sandbox(mimeo_sandbox::Arguments),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print reference pages that are generated from the code
    #[command(hide = true)]
    Reference {
        /// Which page
        #[arg(value_parser = ["config", "providers"])]
        page: String,
    },
}

/// Where the configuration and the data are.
#[derive(Clone, Debug, Default, Args)]
struct Common {
    /// Configuration file [default: mimeo.toml, if it is there]
    #[arg(long, env = "MIMEO_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder, in place of storage.path
    #[arg(long, env = "MIMEO_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Why a command ended badly. Says itself which exit code it is.
#[derive(Debug)]
enum Failure {
    /// It did not work.
    Failed(String),
    /// It was called wrongly.
    Usage(String),
    /// The configuration is bad.
    Config(Vec<ConfigFault>),
    /// A record is bad, and was told so already.
    Told,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Failed(message) | Failure::Usage(message) => f.write_str(message),
            Failure::Config(faults) => {
                f.write_str(&faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
            Failure::Told => f.write_str("a record is bad"),
        }
    }
}

type Outcome = Result<(), Failure>;

/// Threads that may wait for the disk or draw a template at a time. Each keeps almost a megabyte for its buffers, and
/// tokio's own bound, 512, is reached when the disk is slow: just when more of them make nothing faster.
const BLOCKING: usize = 32;

/// Runs the command that the arguments of this process name.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = Environment::of_process();
    // The demo shows a provider that is down on purpose; its warnings would only confuse.
    let quiet = matches!(arguments.command, Command::Demo(_)).then_some("error");
    crate::telemetry::begin(
        environment.get("MIMEO_LOG").or(quiet),
        color(&environment, std::io::stderr().is_terminal()),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(BLOCKING).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::from(1);
        }
    };
    let outcome = runtime.block_on(run(arguments.command, &environment));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Config(faults)) => {
            for fault in faults {
                eprintln!("error: {fault}");
            }
            ExitCode::from(64)
        }
        Err(Failure::Told) => ExitCode::from(64),
    }
}

async fn run(command: Command, environment: &Environment) -> Outcome {
    match command {
        Command::Demo(arguments) => demo::run(arguments, environment).await,
        Command::Serve(arguments) => serve::run(arguments, environment).await,
        Command::Check(common) => check::run(&common, environment),
        Command::Doctor(arguments) => doctor::run(arguments, environment).await,
        Command::Generate(arguments) => Box::pin(generate::run(arguments, environment)).await,
        Command::Classify(arguments) => classify::run(arguments, environment).await,
        Command::Render(arguments) => render::run(arguments, environment).await,
        Command::Ledger(arguments) => ledger::run(arguments, environment).await,
        Command::Requests(arguments) => requests::run(arguments, environment).await,
        Command::Providers(arguments) => providers::run(arguments, environment),
        Command::Routes(arguments) => routes::run(arguments, environment).await,
        Command::Prices(arguments) => prices::run(arguments, environment).await,
        Command::Alerts(arguments) => alerts::run(arguments, environment).await,
        Command::Budgets(arguments) => budgets::run(arguments, environment).await,
        Command::Feedback(arguments) => feedback::run(arguments, environment).await,
        Command::Quality(arguments) => quality::run(arguments, environment).await,
        Command::Credits(arguments) => credits::run(arguments, environment).await,
        Command::Cache(arguments) => cache::run(arguments, environment).await,
        Command::Keys(arguments) => keys::run(arguments),
        Command::Sandbox(arguments) if arguments.list => {
            print(&arguments.listing().map_err(|error| Failure::Failed(error.to_string()))?)
        }
        Command::Sandbox(arguments) => {
            mimeo_sandbox::run(arguments.into()).await.map_err(|error| Failure::Failed(error.to_string()))
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "mimeo", &mut std::io::stdout());
            Ok(())
        }
        Command::Reference { page } if page == "providers" => print(&providers::page()),
        Command::Reference { page: _ } => print(&crate::config::reference()),
    }
}

impl Common {
    /// The configuration, with what the command line and the environment say on top.
    fn config(&self, listen: Option<SocketAddr>) -> Result<Config, Failure> {
        let mut config = Config::load(self.config.as_deref()).map_err(Failure::Config)?;
        if let Some(data) = &self.data {
            config.storage.path.clone_from(data);
        }
        if let Some(listen) = listen {
            config.server.listen = listen;
        }
        Ok(config)
    }

    /// The file that faults are told of.
    fn file(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from("mimeo.toml"))
    }

    /// The configuration with everything that can be made of it.
    fn blueprint(&self, mut config: Config, environment: &Environment) -> Result<Blueprint, Failure> {
        crate::app::imagine_sandbox(&mut config);
        let file = self.file();
        Blueprint::draw(config, environment, &file).map_err(|faults| {
            // Only here is the text at hand again, to tell the lines.
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            Failure::Config(faults.into_iter().map(|fault| fault.located(&text)).collect())
        })
    }

    /// Starts the simulated provider, if the configuration wants one in this process. Everything else is
    /// checked first: a bad configuration leaves nothing behind.
    async fn sandbox(
        &self,
        config: &mut Config,
        environment: &Environment,
    ) -> Result<Option<mimeo_sandbox::Sandbox>, Failure> {
        if !crate::app::wants_sandbox(config) {
            return Ok(None);
        }
        self.blueprint(config.clone(), environment)?;
        crate::app::embed_sandbox(config).await.map_err(|error| Failure::Failed(error.to_string()))
    }

    /// The prices that hold now, with what feeds and bills have changed while a gateway ran; `None` where nothing was made
    /// yet. A store that cannot be read is told, and the catalogue's prices do.
    async fn book(&self, config: &Config, environment: &Environment) -> Option<PriceBook> {
        if config.storage.url.is_none() && !config.storage.path.exists() {
            return None;
        }
        let opened = async {
            let store = Arc::new(self.store(environment)?);
            let (clock, tasks) = (Clock::System, TaskTracker::new());
            let alerts = Alerts::new(Arc::clone(&store), clock.clone(), tasks.clone(), &config.alerts, None);
            let book = PriceBook::new(store, clock, alerts, tasks, config.prices.clone());
            book.load().await?;
            Ok::<_, Failure>(book)
        };
        opened.await.map_err(|why| eprintln!("what feeds and bills have changed is not known here: {why}")).ok()
    }

    /// The store alone, for commands that only look.
    fn store(&self, environment: &Environment) -> Result<crate::store::Store, Failure> {
        let config = self.config(None)?;
        let url = crate::app::storage_url(&config, environment, &self.file())
            .map_err(|fault| Failure::Config(vec![fault]))?;
        if url.is_none() && !config.storage.path.exists() {
            return Err(Failure::Failed(format!(
                "there is no data folder {}: nothing was made yet, or --data names another place",
                config.storage.path.display()
            )));
        }
        let blobs = config.blob_place(environment).map_err(|message| Failure::Failed(format!("blobs: {message}")))?;
        Ok(crate::store::Store::open(&config.storage, url.as_ref(), &blobs, Clock::System)?)
    }
}

/// Writes data to stdout. A reader who has gone away (`| head`) is no failure.
fn print(text: &str) -> Outcome {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes a value to stdout as JSON.
fn print_json(value: &impl serde::Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Failed(error.to_string()))?;
    print(&(text + "\n"))
}

/// Whether to colour what goes to a terminal (https://no-color.org).
fn color(environment: &Environment, terminal: bool) -> bool {
    terminal && environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}
