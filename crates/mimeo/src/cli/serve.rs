//! `mimeo serve`.

use std::net::SocketAddr;

use clap::Args;
use tokio::net::TcpListener;

use super::{Common, Failure, Outcome};
use crate::app::App;
use crate::clock::Clock;
use crate::config::{ConfigFault, Environment, check::unprotected};

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
    let app = App::open(blueprint, Clock::System)?;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        Failure::Failed(format!("cannot listen on {listen}: {error}. Choose another with --listen"))
    })?;
    let address = listener.local_addr()?;
    let terminated = terminated()?;
    eprintln!("listening on http://{address}");
    if sandbox.is_some() {
        eprintln!("the sandbox provider is simulated: its pictures are drawn here and its bills are not real");
    }
    app.serve(listener, terminated).await?;
    if let Some(sandbox) = sandbox {
        sandbox.stop().await;
    }
    Ok(())
}

/// Ends with the first SIGTERM or SIGINT.
pub(super) fn terminated() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}
