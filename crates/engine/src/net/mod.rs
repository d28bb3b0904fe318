//! The one way out: the HTTP clients, and the guard that keeps them off private addresses.

pub mod client;
pub mod document;
pub mod guard;
pub mod socket;

pub use client::{Clients, NoClient};
