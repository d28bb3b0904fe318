//! `mimeo-sandbox`: simulated paid image providers with an invoice book.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

/// Simulates paid image providers and keeps an invoice book of every picture they charge for.
#[derive(Parser)]
#[command(name = "mimeo-sandbox", version)]
struct Command {
    #[command(flatten)]
    arguments: mimeo_sandbox::Arguments,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command { arguments } = Command::parse();
    let outcome = if arguments.list {
        // A reader who has gone away (`| head`) is no failure.
        arguments.listing().map(|list| drop(std::io::stdout().write_all(list.as_bytes()))).map_err(Into::into)
    } else {
        mimeo_sandbox::run(arguments.into()).await
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
