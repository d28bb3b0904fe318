//! Routes: virtual models, their candidates, and what is best for them.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Budgets, Cascade, CreditUse, RouteQuality};
use crate::domain::Usd;

/// A virtual model: candidates, and how one of them is chosen.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// `provider/model` or `provider/model@quality`, or a table `{ model = "…", … }` that says more about it, see
    /// docs/routes.md. The next one is tried when one is down, throttled or out of quota, and certainly has not billed.
    pub candidates: Vec<Choice>,
    /// In which order candidates are tried: as they are listed (`order`), the cheapest first (`cost`), the fastest
    /// (`latency`), the best (`quality`), or by what time and quality are worth (`{ weights = { usd_per_second =
    /// "0.001", usd_per_point = "0.0005" } }`).
    pub objective: Objective,
    /// How good pictures must at least be, in points from 0 to 100. A candidate that is below that with nine chances
    /// in ten is not asked, and if all are, nobody is.
    pub quality_floor: Option<u8>,
    /// The same for single categories, such as `glass = 80`, in place of `quality_floor`.
    pub floors: BTreeMap<String, u8>,
    /// How soon pictures must be there, in milliseconds: candidates whose calls take longer, as the slowest twentieth
    /// of those of late tells, are not asked while another is fast enough. A caller's own `deadline_ms` goes before.
    pub deadline_ms: Option<u64>,
    /// Regions, the best first. Candidates elsewhere, and those without a region, come last.
    pub regions: Vec<String>,
    /// True asks nobody outside of `regions`.
    pub regions_only: bool,
    /// True lets the classifier choose steps and quality where neither caller nor candidate does: fewer for plain
    /// pictures.
    pub dynamic_steps: bool,
    /// Has some requests made a second time by another model, in the background, to compare. Nobody gets these
    /// pictures, and they are paid for.
    pub shadow: Option<Shadow>,
    /// Makes a draft first, and the final later or not at all.
    pub cascade: Option<Cascade>,
    /// From how many seconds on in the slowest twentieth of its calls a candidate is slow: that raises an alert, and others are
    /// asked before it.
    pub slow_s: Option<u32>,
    /// How this route uses the cache.
    pub cache: RouteCache,
    /// True tries the next candidate also after a refusal by a content policy.
    pub failover_on_refusal: bool,
    /// True lets a repeated request be paid again although it was sent before and nobody knows what came
    /// of that. A request may say so for itself with `retry_unknown`.
    pub retry_unknown: bool,
    /// What is looked for in pictures that were paid for, and what becomes of those that fail.
    pub quality: RouteQuality,
    /// The most that may be spent through this route.
    pub budget: Budgets,
    /// What this route does with free and prepaid credits (`plan` of a provider): `first` uses them before money,
    /// `only` uses nothing else, `ignore` pays as if there were none.
    pub credits: CreditUse,
    /// True takes filler words such as “please” and “a picture of” out of prompts where text is paid by the token.
    /// Quoted text, names, numbers and negations stay. A request may say so for itself with `trim_prompt`.
    pub trim_prompt: bool,
}

/// What is best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// As they are listed.
    #[default]
    Order,
    /// The cheapest.
    Cost,
    /// The fastest.
    Latency,
    /// The best pictures.
    Quality,
    /// The least of price, time and lack of quality together, in money.
    Weights(Weights),
}

impl Objective {
    /// As it is configured; `None` where the route's own order counts.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Objective::Order => None,
            Objective::Cost => Some("cost"),
            Objective::Latency => Some("latency"),
            Objective::Quality => Some("quality"),
            Objective::Weights(_) => Some("weights"),
        }
    }
}

/// What time and quality are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// US dollars for each second that a picture comes sooner.
    pub usd_per_second: Usd,
    /// US dollars for each point of quality, of a hundred.
    pub usd_per_point: Usd,
}

/// A candidate, with what the route knows of it.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct Choice {
    /// `provider/model` or `provider/model@quality`.
    pub model: String,
    /// `first` (the default), `overflow` (only while those are busy or down) or `backup` (only after all others).
    #[schemars(default)]
    pub role: Role,
    /// Where it is, such as `eu`.
    pub region: Option<String>,
    /// How good its pictures are, in points from 0 to 100, as far as anybody can say beforehand; feedback moves it. By
    /// default the catalogue's own judgement.
    pub rating: Option<u8>,
    /// Only for these categories, such as `["food"]`; not for pictures of which nobody knows what they show.
    #[schemars(default)]
    pub only: Vec<String>,
    /// Never for these, such as `["glass"]`.
    #[schemars(default)]
    pub except: Vec<String>,
    /// Only at these hours, in UTC: `"22:00-06:00"`. `24:00` is the end of the day.
    pub hours: Option<Hours>,
    /// How many in a hundred requests go to it; the rest is for candidates without a share, which also stand in for those
    /// with one. Which one a request goes to is decided by what it asks for, so that the same one always goes the same
    /// way.
    pub share: Option<u8>,
    /// Sampling steps, if the caller names none.
    pub steps: Option<u32>,
    /// How many seconds longer a call takes that comes after five minutes without one.
    pub cold_start_s: Option<u32>,
}

/// When a candidate is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Like any other.
    #[default]
    First,
    /// While the first are busy or down.
    Overflow,
    /// After all others.
    Backup,
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            model: String,
            #[serde(default)]
            role: Role,
            region: Option<String>,
            rating: Option<u8>,
            #[serde(default)]
            only: Vec<String>,
            #[serde(default)]
            except: Vec<String>,
            hours: Option<Hours>,
            share: Option<u8>,
            steps: Option<u32>,
            cold_start_s: Option<u32>,
        }
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Choice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"provider/model\" or a table with `model`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Choice, E> {
                Ok(Choice::named(text))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Choice, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                let Table { model, role, region, rating, only, except, hours, share, steps, cold_start_s } = table;
                Ok(Choice { model, role, region, rating, only, except, hours, share, steps, cold_start_s })
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}

impl Choice {
    /// A candidate of which nothing else is said.
    pub fn named(model: &str) -> Choice {
        Choice { model: model.to_owned(), ..Choice::default() }
    }
}

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Hours of a day, in UTC: from the first minute up to, not including, the last. May go over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: u16,
    until: u16,
}

impl Hours {
    /// True if `minute`, counted from midnight, is among them.
    pub fn hold(self, minute: u16) -> bool {
        match self.from < self.until {
            true => (self.from..self.until).contains(&minute),
            false => minute >= self.from || minute < self.until,
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hours { from, until } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02} UTC", from / 60, from % 60, until / 60, until % 60)
    }
}

impl std::str::FromStr for Hours {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            (hours < 24 && minutes < 60 || (hours, minutes) == (24, 0)).then_some(hours * 60 + minutes)
        };
        let both = text.split_once('-').and_then(|(from, until)| Some((minute(from)?, minute(until)?)));
        match both {
            Some((from, until)) if from < DAY && from != until => Ok(Hours { from, until }),
            Some((from, until)) if from == until => {
                Err(format!("`{text}` ends when it begins; leave hours out for the whole day"))
            }
            _ => Err(format!("`{text}` is no time of day such as \"22:00-06:00\", in UTC")),
        }
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Hours {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hours".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "Hours of a day, in UTC: `\"22:00-06:00\"`." })
    }
}

/// Requests that are made a second time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// The model or route that makes them, too.
    pub model: String,
    /// How many in a hundred of the requests for which a picture is made (1–100).
    pub percent: u8,
}

/// How a route uses the cache.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteCache {
    /// Pictures per request: 1 is always the same one, K a pool of up to K (at most 100) in rotation.
    pub variants: Option<u32>,
    /// How long a picture answers the same request, in seconds, in place of `cache.ttl_s`.
    pub ttl_s: Option<u64>,
    /// True turns the cache off: every request is made anew and nothing is stored.
    pub off: bool,
}

impl Route {
    /// What is wrong with it, and what to do.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |message: String| faults.push(message);
        if self.candidates.is_empty() {
            fault("candidates is empty; name at least one provider/model".into());
        }
        if self.cache.variants.is_some_and(|k| !(1..=100).contains(&k)) {
            fault("cache.variants must be between 1 and 100".into());
        }
        for (what, points) in self
            .quality_floor
            .iter()
            .map(|floor| ("quality_floor".to_owned(), floor))
            .chain(self.floors.iter().map(|(category, floor)| (format!("floors.{category}"), floor)))
        {
            if *points > 100 {
                fault(format!("{what} = {points}: quality is counted from 0 to 100"));
            }
        }
        if self.deadline_ms == Some(0) {
            fault("deadline_ms = 0 leaves no time at all; leave it out or raise it".into());
        }
        if self.slow_s == Some(0) {
            fault("slow_s = 0 calls everybody slow; leave it out or raise it".into());
        }
        if self.regions_only && self.regions.is_empty() {
            fault("regions_only without regions would ask nobody; name regions".into());
        }
        if let Objective::Weights(Weights { usd_per_second, usd_per_point }) = self.objective {
            if usd_per_second < Usd::ZERO || usd_per_point < Usd::ZERO {
                fault("objective.weights must not be negative".into());
            } else if usd_per_second.is_zero() && usd_per_point.is_zero() {
                fault("objective.weights without any worth is objective = \"cost\"; say that".into());
            }
        }
        if let Some(shadow) = &self.shadow
            && !(1..=100).contains(&shadow.percent)
        {
            fault(format!("shadow.percent = {} is not between 1 and 100", shadow.percent));
        }
        self.cascade.iter().flat_map(Cascade::faults).for_each(&mut fault);
        let drafters = self.cascade.iter().map(|cascade| ("cascade.draft", cascade.draft.as_slice()));
        for (of, choices) in std::iter::once(("candidates", self.candidates.as_slice())).chain(drafters) {
            choices
                .iter()
                .flat_map(Choice::faults)
                .chain(shares_fault(choices))
                .for_each(|why| fault(format!("{of}: {why}")));
        }
        faults
    }
}

impl Choice {
    /// What is wrong with it.
    fn faults(&self) -> Vec<String> {
        let Choice { model, rating, share, steps, only, except, .. } = self;
        let mut faults = Vec::new();
        if rating.is_some_and(|points| points > 100) {
            faults.push(format!("{model}: rating is counted from 0 to 100"));
        }
        if share.is_some_and(|share| !(1..=100).contains(&share)) {
            faults.push(format!("{model}: share must be between 1 and 100"));
        }
        if *steps == Some(0) {
            faults.push(format!("{model}: steps must be at least 1"));
        }
        if let Some(both) = only.iter().find(|category| except.contains(category)) {
            faults.push(format!("{model}: {both} is in both `only` and `except`; take it out of one"));
        }
        faults
    }
}

/// What is wrong with how `choices` divide requests, if they do.
fn shares_fault(choices: &[Choice]) -> Option<String> {
    let shares: u32 = choices.iter().filter_map(|choice| choice.share).map(u32::from).sum();
    let has_rest = choices.iter().any(|choice| choice.share.is_none());
    match shares {
        0 | 100 => None,
        101.. => Some(format!("the shares add up to {shares}, and there are 100 in all")),
        _ if !has_rest => Some(format!(
            "the shares add up to {shares}; make that 100, or name a candidate without a share, which gets the rest"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_names_or_tables() {
        let route: Route = toml::from_str(
            "candidates = [\"a/b@high\", { model = \"c/d\", role = \"overflow\", except = [\"glass\"], hours = \"22:00-06:00\" }]\n\
             objective = { weights = { usd_per_second = \"0.001\" } }\nfloors = { glass = 80 }",
        )
        .unwrap();
        assert_eq!(route.candidates[0], Choice::named("a/b@high"));
        let hours = route.candidates[1].hours.unwrap();
        assert!(hours.hold(23 * 60) && hours.hold(0) && !hours.hold(6 * 60) && !hours.hold(12 * 60));
        let evening: Hours = "18:00-24:00".parse().unwrap();
        assert!(evening.hold(18 * 60) && evening.hold(DAY - 1) && !evening.hold(0) && !evening.hold(12 * 60));
        assert!("24:00-06:00".parse::<Hours>().is_err() && "6:00-6:00".parse::<Hours>().is_err());
        assert!(route.faults().is_empty(), "{:?}", route.faults());
        for wrong in [
            "candidates = [3]",
            "candidates = [{ role = \"first\" }]",
            "candidates = [{ model = \"a/b\", colour = 1 }]",
            "candidates = [{ model = \"a/b\", hours = \"25:00-1:00\" }]",
            "objective = \"cheap\"",
        ] {
            assert!(toml::from_str::<Route>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        let faults = |text: &str| toml::from_str::<Route>(text).unwrap().faults().join("; ");
        assert!(faults("").contains("candidates is empty"));
        let shares = "candidates = [{ model = \"a\", share = 60 }, { model = \"b\", share = 60 }]";
        assert!(faults(shares).contains("120"));
        assert!(faults("candidates = [{ model = \"a\", share = 60 }]").contains("add up to 60"));
        assert_eq!(faults("candidates = [{ model = \"a\", share = 60 }, \"b\"]"), "");
        let drafts = "candidates = [\"a\"]\ncascade = { draft = [{ model = \"b\", steps = 0 }] }";
        assert!(faults(drafts).contains("cascade.draft: b: steps"));
        assert!(faults("candidates = [\"a\"]\nregions_only = true").contains("name regions"));
        assert!(faults("candidates = [\"a\"]\nquality_floor = 101").contains("0 to 100"));
        assert!(faults("candidates = [\"a\"]\nobjective = { weights = {} }").contains("cost"));
    }
}
