//! `mimeo serve`.

use std::net::SocketAddr;

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Common, Failure, Outcome};
use crate::app::{App, Ended, Stop};
use crate::clock::Clock;
use crate::config::{ConfigFault, Environment, check::unprotected};
use crate::providers::Added;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Address to listen on, in place of server.listen; port 0 takes a free one
    #[arg(long, env = "MIMEO_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

pub(super) async fn run(arguments: Arguments, environment: &Environment) -> Outcome {
    let mut config = arguments.common.config(arguments.listen)?;
    let listen = config.server.listen;
    // The address may come from the command line, which the check of the file has not seen.
    if !listen.ip().is_loopback() && config.keys.is_empty() {
        let message = unprotected(&listen.to_string());
        return Err(Failure::Config(vec![ConfigFault::file(&arguments.common.file(), message)]));
    }
    let sandbox = arguments.common.sandbox(&mut config, environment).await?;
    let blueprint = arguments.common.blueprint(config, environment)?;
    for (name, Added { file, is_replacement }) in blueprint.catalogue.added() {
        let instead = if *is_replacement { ", in place of the built-in one" } else { "" };
        tracing::info!("the record {name} is that of {file}{instead}");
    }
    let app = App::open(blueprint, Clock::System)?;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        Failure::Failed(format!("cannot listen on {listen}: {error}. Choose another with --listen"))
    })?;
    // Whoever reads that it listens may rely on it: what keeps it from serving is said before.
    app.begin().await?;
    let address = listener.local_addr()?;
    let mut signals = Signals::heed()?;
    eprintln!("listening on http://{address}");
    if sandbox.is_some() {
        eprintln!("the sandbox provider is simulated: its pictures are drawn here and its bills are not real");
    }
    let stop = Stop::default();
    let ended = tokio::select! {
        ended = app.serve(listener, stop.clone()) => ended,
        // Never ends by itself: the gateway does, when it is told to.
        never = async {
            signals.next().await;
            stop.asked.cancel();
            signals.next().await;
            stop.hurried.cancel();
            std::future::pending().await
        } => never,
    };
    if let Some(sandbox) = sandbox {
        sandbox.stop().await;
    }
    match ended {
        Ended::InTime => Ok(()),
        Ended::Hurried { left } => Err(Failure::Failed(format!(
            "stopped at the second signal, with {left} paid calls under way. What they may have cost will be in suspense \
             at the next start: see `mimeo ledger suspense`"
        ))),
    }
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// From here on these signals do not end the process by themselves.
    pub(super) fn heed() -> std::io::Result<Self> {
        Ok(Signals { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Ends with the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
