//! Pure values: what a request, a picture, an amount of money and an outcome *are*.
//!
//! Nothing here does I/O, reads a clock, awaits, or knows a provider, a database or HTTP.

pub mod answer;
pub mod call;
pub mod cascade;
pub mod certainty;
pub mod finding;
pub mod id;
pub mod money;
pub mod outcome;
pub mod picture;
pub mod request;
pub mod story;
pub mod target;

pub use answer::{Answer, Delivered, Source, Understood};
pub use call::{CacheMode, CachePolicy, Call, Caller};
pub use cascade::{Cascaded, Leg, Stage};
pub use certainty::Certainty;
pub use finding::{Check, Finding};
pub use id::{AttemptId, Digest, ImageId, RequestId, WishId};
pub use money::{Price, Usd};
pub use outcome::{Allowance, Fault, FaultKind, Generated, Progress, RateNews, Usage};
pub use picture::{Format, Picture};
pub use request::{ImageRequest, InputPicture, Operation, Size};
pub use story::{Considered, Outcome, Quality, Reason, Seconds, Story, Tried, Verdict};
pub use target::{Form, Target};
