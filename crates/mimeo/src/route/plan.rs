//! What is decided about a request before anything is done.

use std::sync::Arc;

use super::{Candidate, DropReason, Maker, Sense};
use crate::config;
use crate::domain::{ImageRequest, Target, Usd};

/// What is decided about a request before anything is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order in which they are tried. Never empty.
    pub candidates: Vec<Candidate>,
    /// The others, with why.
    pub dropped: Vec<(String, DropReason)>,
    /// What the route wants.
    pub settings: Arc<config::Route>,
    /// What the request is about.
    pub sense: Sense,
    /// Pay again although nobody knows what came of the same request before.
    pub retry_unknown: bool,
    /// The route, or the model that was asked for by its own name.
    pub route: String,
    /// The virtual model that is nobody's configuration, if it is one, and the request as it is for its key.
    pub(super) built_in: Option<(&'static str, Box<ImageRequest>)>,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

impl Plan {
    /// A plan with these candidates and nothing special about it.
    pub fn of(candidates: Vec<Candidate>, route: String, settings: Arc<config::Route>) -> Plan {
        let (dropped, sense, warnings) = (Vec::new(), Sense::default(), Vec::new());
        Plan { candidates, dropped, settings, sense, retry_unknown: false, route, built_in: None, warnings }
    }

    /// What its pictures depend on: the candidates, each with its request. For a virtual model of ours it is the model's
    /// name, so that a new provider makes no stored picture unfindable. A floor is part of it: what is good enough for one
    /// may be too poor for another, although the same candidates serve both.
    pub fn alternatives(&self) -> Vec<(String, &ImageRequest)> {
        match &self.built_in {
            Some((name, request)) => vec![(format!("virtual/{name}"), request.as_ref())],
            None => {
                let floor = self.floor().map(|(points, _)| format!(" of {points:.0} points")).unwrap_or_default();
                self.candidates.iter().map(|one| (format!("{}{floor}", one.identity), &one.request)).collect()
            }
        }
    }

    /// How good pictures must be, in points, and for which category that is said.
    pub fn floor(&self) -> Option<(f64, Option<&str>)> {
        let category = self.sense.category.as_deref();
        let special = category.and_then(|category| Some((self.settings.floors.get(category)?, Some(category))));
        let (points, category) = special.or(self.settings.quality_floor.as_ref().map(|floor| (floor, None)))?;
        Some((f64::from(*points), category))
    }

    /// What the route looks for, in a few words; `None` if candidates are tried as they are listed.
    pub fn objective(&self) -> Option<String> {
        let floor = self.floor().map(|(points, _)| format!(", of at least {points:.0} points")).unwrap_or_default();
        let what = match self.settings.objective {
            config::Objective::Order if floor.is_empty() => return None,
            config::Objective::Order => "as listed".to_owned(),
            config::Objective::Cost => "cheapest".to_owned(),
            config::Objective::Latency => "fastest".to_owned(),
            config::Objective::Quality => "best".to_owned(),
            config::Objective::Weights(config::Weights { usd_per_second, usd_per_point }) => {
                let worth = |usd: Usd, unit: &str| (!usd.is_zero()).then(|| format!("${usd} a {unit}"));
                let worths = worth(usd_per_second, "second").into_iter().chain(worth(usd_per_point, "point"));
                format!("least of price, {}", worths.collect::<Vec<_>>().join(" and "))
            }
        };
        Some(what + &floor)
    }

    /// True if the best there are will do where none is good enough: nobody has asked for this very floor.
    pub fn is_floor_soft(&self) -> bool {
        self.built_in.is_some()
    }

    /// What the pictures are to be brought to, whoever makes them.
    pub fn target(&self) -> Option<Target> {
        self.candidates.iter().filter_map(|candidate| candidate.target).reduce(Target::and)
    }

    /// The prompt as `provider`'s `model` gets it, if that is not what was `asked`.
    pub fn prompt_sent(&self, asked: &str, provider: &str, model: &str) -> Option<&str> {
        let is_it = |candidate: &&Candidate| match &candidate.maker {
            Maker::Provider(known, its) => known.name == provider && its.id == model,
            Maker::Template => false,
        };
        let prompt = self.candidates.iter().find(is_it)?.request.prompt.as_str();
        (prompt != asked).then_some(prompt)
    }
}
