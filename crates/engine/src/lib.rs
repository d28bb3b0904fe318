//! The engine that runs provider records: what is said about pictures and money, what things cost, and how to speak
//! to whoever makes pictures. It knows no store, no ledger, no front door; the gateway above it does.
//!
//! | room | what it does |
//! |---|---|
//! | [`providers`] | the catalogue, the wire shapes, one call |
//! | [`pricing`] | what a call costs: bounds before, bills after |
//! | [`media`] | what bytes are: sniffed, bounded, checked |
//! | [`settings`], [`secret`] | what an operator says of an account |
//! | [`net`] | the one way out |
//! | [`clock`] | the only way to ask for the time |
//! | [`domain`] | pure values that all of them speak of |

pub mod providers;
pub mod pricing;
pub mod media;
pub mod settings;
pub mod net;
pub mod secret;
pub mod clock;
pub mod domain;
