//! The command line, in a form that another binary can embed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Options;
use crate::simulation::{Described, SimulationError, simulations};

/// Flags of the sandbox.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub listen: SocketAddr,

    /// File of the invoice book; without it the book is kept in memory
    #[arg(long, value_name = "FILE")]
    pub book: Option<PathBuf>,

    /// Milliseconds that each billed answer takes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub latency_ms: u64,

    /// Pad every picture to at least so many bytes
    #[arg(long, value_name = "N")]
    pub picture_bytes: Option<usize>,

    /// Do not fsync the book: faster, and a power cut loses its last lines
    #[arg(long)]
    pub no_fsync: bool,

    /// Serve this simulated provider (or `graph`, a server of graphs) at the root too; all are under /as/NAME
    #[arg(long = "as", value_name = "NAME")]
    pub as_provider: Option<String>,

    /// File of a further simulation; repeatable
    #[arg(long = "simulation", value_name = "FILE")]
    pub simulations: Vec<PathBuf>,

    /// List the simulated providers and end
    #[arg(long)]
    pub list: bool,
}

impl Arguments {
    /// The list that `--list` asks for: a line per simulated provider, with its name, its title and where its API is
    /// described.
    ///
    /// # Errors
    /// When a file cannot be read or is no simulation.
    pub fn listing(&self) -> Result<String, SimulationError> {
        let line = |one: Described| format!("{:<24} {:<32} {}\n", one.name, one.title, one.docs);
        Ok(simulations(&self.simulations)?.into_iter().map(line).collect())
    }
}

impl From<Arguments> for Options {
    fn from(arguments: Arguments) -> Self {
        Self {
            listen: arguments.listen,
            book: arguments.book,
            latency: Duration::from_millis(arguments.latency_ms),
            durable: !arguments.no_fsync,
            picture_bytes: arguments.picture_bytes,
            as_provider: arguments.as_provider,
            simulations: arguments.simulations,
        }
    }
}
