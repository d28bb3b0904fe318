//! What an operator says of a provider's account: where it is, what it may do, what it may cost.

mod plan;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::domain::Usd;
use crate::secret::{SecretRef, TextRef};
pub use plan::{Included, Plan};

/// A provider account or server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// The catalogue record to use. By default the one that is called like this provider.
    pub record: Option<String>,
    /// The provider's secret: `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub api_key: Option<SecretRef>,
    /// Base address, in place of the record's.
    pub base_url: Option<String>,
    /// What the record leaves open, such as an account or a region: `{ account = "…" }`, or for each
    /// `{ env = "NAME" }` or `{ file = "PATH" }`.
    pub vars: BTreeMap<String, TextRef>,
    /// Where its pictures are made, such as `eu`, for routes that prefer regions.
    pub region: Option<String>,
    /// How long one call may take, in seconds, in place of the record's.
    pub timeout_s: Option<u32>,
    /// Limits of the account.
    pub limits: Limits,
    /// What this account pays, in place of the record's prices.
    pub prices: Option<Prices>,
    /// The plan that this account is on, in place of what the record says that every account has. See docs/prices.md.
    pub plan: Option<Plan>,
    /// Names of the models that are there, for servers whose models no record can know.
    pub models: Vec<String>,
    /// False takes the provider out without deleting its settings.
    pub enabled: Option<bool>,
    /// Environments whose keys may spend on this account, such as `["staging", "dev"]`. Left empty, only keys without
    /// an environment may; those also reach accounts that name `prod`.
    pub environments: Vec<String>,
    /// The most that may be spent on this account. A route then goes on with its next candidate.
    pub budget: Budgets,
}

/// Limits of an account, as its provider enforces them. Requests wait for their turn, but neither many nor long.
/// Where nothing is said the limits are learned from the provider's answers; see docs/limits.md. Credits or money per
/// month are a `budget` of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls started per second.
    pub requests_per_second: Option<u32>,
    /// Calls started per minute.
    pub requests_per_minute: Option<u32>,
    /// Pictures asked for per minute, where the provider counts these instead of calls.
    pub pictures_per_minute: Option<u32>,
    /// Calls under way at a time.
    pub concurrent: Option<u32>,
    /// Pictures being made at a time, in all calls together.
    pub concurrent_pictures: Option<u32>,
    /// Calls that wait for their turn at a time. By default four times `concurrent`, at least 16. Beyond, a route's
    /// next candidate is asked, or the caller is sent away with 429 and `Retry-After`.
    pub queue: Option<u32>,
    /// The longest that a call may wait for its turn, in seconds. Who would wait longer is not let in.
    pub max_wait_s: u32,
}

impl Limits {
    /// Nothing is limited. For tests and for `..`.
    pub const NONE: Limits = Limits {
        requests_per_second: None,
        requests_per_minute: None,
        pictures_per_minute: None,
        concurrent: None,
        concurrent_pictures: None,
        queue: None,
        max_wait_s: 30,
    };

    /// The limits that must be at least 1 where they are given, by name.
    pub fn counts(&self) -> [(&'static str, Option<u32>); 5] {
        [
            ("requests_per_second", self.requests_per_second),
            ("requests_per_minute", self.requests_per_minute),
            ("pictures_per_minute", self.pictures_per_minute),
            ("concurrent", self.concurrent),
            ("concurrent_pictures", self.concurrent_pictures),
        ]
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::NONE
    }
}

/// A flat price.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// US dollars per picture, exact.
    pub usd_per_image: Usd,
}

/// Time over which a budget counts. Periods begin at midnight UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// From each full hour.
    Hour,
    /// From midnight UTC.
    Day,
    /// From the first of the month.
    Month,
    /// For ever.
    Total,
}

/// The most that may be spent, in money, in pictures or in both.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// US dollars, exact.
    pub usd: Option<Usd>,
    /// Pictures that are paid for, whatever they cost. Pictures from the cache do not count.
    pub pictures: Option<u64>,
    /// Over which time.
    pub per: Period,
    /// True only warns when it is overrun: in the answer's `x-mimeo-warning` header and in the log.
    #[serde(default)]
    pub soft: bool,
}

/// One budget, or several that must all hold.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(with = "Vec<Budget>")]
pub struct Budgets(pub Vec<Budget>);

impl<'de> Deserialize<'de> for Budgets {
    /// By hand, because a derived one does not say which of the two it did not understand, nor why.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Budgets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a budget such as { usd = \"200\", per = \"month\" }, or a list of budgets")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Budgets, A::Error> {
                Budget::deserialize(MapAccessDeserializer::new(map)).map(|budget| Budgets(vec![budget]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Budgets, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Budgets)
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}
