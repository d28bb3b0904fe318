//! `mimeo-sandbox`: simulated paid image providers with an invoice book.

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
    let command = Command::parse();
    match mimeo_sandbox::run(command.arguments.into()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
