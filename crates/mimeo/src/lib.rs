//! Mimeo: a self-hosted gateway for image generation. Draw once, print many.
//!
//! # The map of the house, in the order in which a request passes
//!
//! | room | what it does |
//! |---|---|
//! | [`http`], [`cli`] | the edges: parse what a caller says, print what comes of it |
//! | [`pipeline`] | **read this first**: one request, phase by phase |
//! | [`cache`] | what a request is (its key), and whether its pictures are there |
//! | [`flight`] | one generation for all who ask for the same picture at the same time |
//! | [`classify`] | what a request is for, and how much of what a model can do it needs |
//! | [`route`] | which candidates can make it, in which order, and why |
//! | [`ledger`] | reserve, settle, release, suspend; budgets |
//! | [`attempt`] | one paid call, with its state written before the first byte leaves |
//! | [`quality`] | how good a candidate's pictures are, as far as anybody has said so |
//! | [`prices`] | what holds now: changed prices, and what was learned from bills |
//! | [`alerts`] | what the operator is told without asking |
//! | [`providers`], [`pricing`] | the catalogue, the wire shapes, what a call costs |
//! | [`render`] | pictures made here, from templates |
//! | [`media`] | what bytes are: sniffed, bounded, checked |
//! | [`store`] | index, ledger and blobs on disk |
//! | [`shared`] | what replicas share besides the store: hints, hot pictures, limits of accounts |
//! | [`net`] | the one way out |
//! | [`domain`] | pure values that all of them speak of |
//! | [`failpoint`] | where a test may kill the process; nothing in a release |
//! | [`app`], [`duties`] | wiring, and background work: the only places that name concrete parts together |

pub mod app;
pub mod duties;
pub mod http;
pub mod cli;
pub mod pipeline;
pub mod cache;
pub mod flight;
pub mod classify;
pub mod route;
pub mod ledger;
pub mod attempt;
pub mod quality;
pub mod prices;
pub mod alerts;
pub mod render;
pub mod store;
pub mod shared;
pub mod config;
pub mod error;
pub mod failpoint;
pub mod telemetry;

// What the engine has is named as if it were here: rooms moved there keep their addresses.
pub use mimeo_engine::{clock, domain, media, net, pricing, providers};
