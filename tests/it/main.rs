//! Black-box tests: the real binary as a child process, a simulated paid provider as another, HTTP between.
//!
//! After every test the ledger is compared with the provider's invoice book (I6), see [`world`].

mod cache;
mod cli;
mod delivery;
mod front_door;
mod layers;
mod money;
mod sdk;
mod tenants;
mod world;
