//! Black-box tests: the real binary as a child process, a simulated paid provider as another, HTTP between.
//!
//! After every test the ledger is compared with the provider's invoice book (I6), see [`books`].

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, what it prints is its report, and no paid work is its own"
)]

mod accounts;
mod add_a_provider;
mod async_jobs;
mod books;
mod budgets;
mod cache;
mod cascade;
mod catalogue;
mod checks;
mod classifier;
mod cli;
#[expect(dead_code, reason = "no test uses every way to start one")]
mod cluster;
mod conformance;
mod crash;
mod delivery;
mod doctor;
mod drift;
mod engines;
mod feedback;
mod front_door;
mod hostile;
mod idempotency;
mod layers;
mod limits;
mod money;
mod overload;
mod prices;
mod proxy;
mod reconcile;
mod replicas;
mod requests;
mod retention;
mod routes;
mod sdk;
mod shared;
mod sizes;
mod store;
mod tenants;
mod variants;
mod world;
