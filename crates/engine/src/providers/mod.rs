//! Who makes pictures: the catalogue of providers, and the engines that speak to them.
//!
//! A provider is data. `providers/*.toml` says what each can, costs and sends ([`record`], [`model`]); the shapes
//! in this folder execute it. In the order in which a request meets them:
//!
//! | file | what it does |
//! |---|---|
//! | [`record`], [`model`] | the format of a record; parsed and checked in `check` |
//! | [`registry`] | records + configuration + environment → the providers that are there; names → models |
//! | [`fit`] | does a model take a request, and what is its canonical form for it |
//! | [`provider`] | one provider: account, address, [`Provider::submit`] |
//! | [`watch`] | who looks on while a call is under way; the ticket of an accepted job |
//! | `openai` | the shape of the OpenAI Images API, with `answer` for what comes back |
//! | `sandbox` | the shape of the simulated provider's own API |
//! | [`lift`], `sse` | reading answers of many megabytes in one pass |
//! | `call`, `body` | one HTTP exchange: sent once, and watched |
//! | `fault` | what an error means for money |
//! | `rate` | what an answer says, in passing, of the account's limits |
//! | `download` | fetching pictures that come as addresses |

mod answer;
mod body;
mod call;
mod check;
mod download;
mod fault;
pub mod fit;
pub mod lift;
pub mod model;
mod near;
mod openai;
pub mod provider;
mod rate;
pub mod record;
pub mod registry;
pub mod watch;
mod sandbox;
mod sse;
#[cfg(test)]
mod testing;

pub use fit::Misfit;
pub use model::{Model, Status};
pub use near::near;
pub use provider::{Job, Provider, ResolvedModel};
pub use record::{Record, RecordFault, Shape};
pub use registry::{Candidate, Catalogue, NoSuchModel, Registry};
pub use watch::{Callback, NotNoted, Ticket, Watch};
