//! Simulated paid image providers with a durable invoice book.
//!
//! A sandbox behaves like many paid providers, charges for every picture, writes each charge to a book on
//! disk before the answer leaves, and fails in all the ways that cost money, on demand. Tests compare the ledger of a
//! gateway with the book; demos and benchmarks use it as their upstream. Every answer says that it is simulated.
//!
//! In the order a request meets them:
//!
//! * `server`: connections and the router. `shop`: what the routes share.
//! * `openai`, `compatible`, `native`: three providers in code; `simulation`: many more, each described in a file;
//!   `graph`: a server that executes graphs of nodes; `control`: the sandbox's own controls.
//! * [`price`] and [`money`]: what an order costs.
//! * `rate`: a limit on the rate of requests, if one is set.
//! * `sale`: the one way every paid request goes; `script` and [`fault`]: what goes wrong on it.
//! * [`book`]: the invoices. `picture`: the pictures, `files`: those with an address. `body`: how bytes leave, whole,
//!   slow or broken.

mod arguments;
mod body;
pub mod book;
mod compatible;
mod control;
pub mod fault;
mod fields;
mod files;
mod graph;
pub mod money;
mod native;
mod openai;
mod picture;
pub mod price;
mod problem;
mod rate;
mod sale;
mod script;
mod server;
mod shop;
mod simulation;
mod stats;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

pub use arguments::Arguments;
pub use book::{Book, BookError, Invoice, Line, Totals};
pub use fault::{Directive, Fault};
pub use money::Usd;
pub use script::{Entry, OneOrMany};
pub use simulation::{Described, Example, Listed, SimulationError, simulations};
pub use stats::Stats;

/// How a sandbox runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on. Port 0 picks a free one. Default: a free port on the loopback address.
    pub listen: SocketAddr,
    /// The invoice book's file, created when absent and continued when not. `None` keeps the book in memory.
    pub book: Option<PathBuf>,
    /// The time each billed answer takes. Default: none.
    pub latency: Duration,
    /// Whether the book is fsynced before each answer. Default: yes.
    pub durable: bool,
    /// Pad every picture to at least so many bytes. `None` leaves them as they are, a few hundred kilobytes.
    pub picture_bytes: Option<usize>,
    /// The simulation that is also served without `/as/NAME` in front, or `graph`. Default: none.
    pub as_provider: Option<String>,
    /// Files of further simulations; they replace built-in ones of the same name.
    pub simulations: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            book: None,
            latency: Duration::ZERO,
            durable: true,
            picture_bytes: None,
            as_provider: None,
            simulations: Vec::new(),
        }
    }
}

/// Why a sandbox could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The invoice book cannot be used.
    #[error(transparent)]
    Book(#[from] BookError),
    /// A simulation cannot be played.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// The signals that end the program cannot be watched.
    #[error("cannot watch for signals: {0}")]
    Signals(io::Error),
}

/// A running sandbox. Dropping it ends its connections at once; [`Sandbox::stop`] ends them in order and frees the
/// book's file.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    shop: Arc<shop::Shop>,
    shutdown: server::Shutdown,
    tasks: TaskTracker,
    _ends_with_this: [DropGuard; 2],
}

/// Opens the book, binds the address and serves.
///
/// # Errors
/// When the book or the address cannot be had, or a simulation cannot be played.
pub async fn start(options: Options) -> Result<Sandbox, StartError> {
    let at_root = options.as_provider.as_deref().filter(|name| *name != graph::NAME);
    let simulations = simulation::Simulations::load(&options.simulations, at_root)?;
    let book = Arc::new(Book::open(options.book.as_deref(), options.durable)?);
    let unavailable = |source| StartError::Listen { address: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(unavailable)?;
    let address = listener.local_addr().map_err(unavailable)?;
    let shutdown = server::Shutdown::default();
    let tasks = TaskTracker::new();
    let work = (tasks.clone(), shutdown.gently.clone());
    let shop = Arc::new(shop::Shop::new(&options, (book, address), simulations, work));
    tasks.spawn(server::serve(listener, server::router(Arc::clone(&shop)), shutdown.clone(), tasks.clone()));
    let guards = [shutdown.gently.clone().drop_guard(), shutdown.now.clone().drop_guard()];
    Ok(Sandbox { address, shop, shutdown, tasks, _ends_with_this: guards })
}

impl Sandbox {
    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDR`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The invoice book.
    pub fn book(&self) -> &Book {
        &self.shop.book
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        self.shop.counters.read(self.shop.book.totals().count)
    }

    /// The jobs that simulations accepted, oldest first.
    pub fn jobs(&self) -> Vec<Listed> {
        self.shop.jobs.list()
    }

    /// Appends to the script of faults, as `POST /control/faults` does.
    pub fn script(&self, entries: Vec<Entry>) {
        self.shop.script.append(entries);
    }

    /// Changes the time each billed answer takes.
    pub fn set_latency(&self, latency: Duration) {
        self.shop.set_latency(latency);
    }

    /// Stops: no new connections, half a second for open requests, then all are cut, hanging ones included. When it
    /// returns, the book's file is complete and free for another sandbox.
    pub async fn stop(self) {
        server::stop(&self.shutdown, &self.tasks).await;
        self.shop.book.close().await;
    }
}

/// Runs a sandbox until the program is told to end (SIGTERM or ctrl-c). Prints its address to standard error.
///
/// # Errors
/// When it cannot start.
pub async fn run(options: Options) -> Result<(), StartError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let sandbox = start(options).await?;
    eprintln!("listening on {}", sandbox.url());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    sandbox.stop().await;
    Ok(())
}
