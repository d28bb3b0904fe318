//! Who makes pictures: the catalogue of providers, and the engines that speak to them.
//!
//! A provider is data. `providers/*.toml` says what each can, costs and sends ([`record`], [`model`]); the shapes
//! in this folder execute it. In the order in which a request meets them:
//!
//! | file | what it does |
//! |---|---|
//! | [`record`], [`wiring`], [`model`] | the format of a record; parsed and checked in `check`; [`schema`] for editors |
//! | [`Catalogue`] | all records that are known |
//! | [`registry`] | records + configuration + environment → the providers that are there; names → models |
//! | [`fit`], [`sizes`] | does a model take a request, what is its canonical form for it, and what remains to be done to the picture |
//! | [`provider`] | one provider: account, address, [`Provider::submit`] |
//! | [`watch`] | who looks on while a call is under way; the ticket of an accepted job |
//! | `openai` | the shape of the OpenAI Images API, with `answer` for what comes back |
//! | `exchange` | the shape of most: one request, and the picture in its answer |
//! | `poll` | the shape of those that answer with a job |
//! | `pace` | how often a job is asked for |
//! | `comfy` | the shape of servers that execute a graph |
//! | [`overrides`], [`quotes`] | prices that an operator lays over the catalogue; what a price sheet says of its models |
//! | `pointer`, `answer` | places in JSON, and what an answer holds |
//! | [`lift`], `sse` | reading answers of many megabytes in one pass |
//! | `call`, `body` | one HTTP exchange: sent once, and watched |
//! | [`auth`], [`vars`] | how a call proves whose it is; what the operator fills into addresses |
//! | [`webhook`] | who calls back is the provider |
//! | `probe` | is it there, and does it take the key, asked free of charge |
//! | `fault` | what an error means for money |
//! | `rate` | what an answer says, in passing, of the account's limits |
//! | `download` | fetching pictures that come as addresses |

mod answer;
pub mod auth;
mod body;
mod call;
mod catalogue;
mod check;
mod comfy;
mod download;
mod fault;
pub mod fit;
mod hex;
pub mod lift;
pub mod model;
mod near;
mod need;
mod openai;
pub mod overrides;
mod pace;
mod probe;
pub mod provider;
mod rate;
mod exchange;
mod poll;
mod pointer;
pub mod quotes;
pub mod record;
pub mod registry;
mod schema;
pub mod vars;
pub mod watch;
pub mod sizes;
pub mod webhook;
pub mod wiring;
mod sse;
#[cfg(test)]
mod testing;

pub use catalogue::{Added, Catalogue};
pub use fit::{Fitted, Misfit};
pub use model::{Model, Status};
pub use near::near;
pub use need::Need;
pub use probe::Probed;
pub use provider::{Job, Provider, ResolvedModel};
pub use record::{Record, RecordFault, Shape};
pub use registry::{Candidate, NoSuchModel, Registry};
pub use schema::schema;
pub use watch::{Callback, NotNoted, Ticket, Watch};
