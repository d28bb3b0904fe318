//! Routes that are there without being configured: whatever providers are there, they choose among all of their models.
//!
//! A configured route of the same name takes their place. Nothing of theirs depends on which providers are there, so
//! that one more of them makes no stored picture unfindable.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Offer;
use crate::config::{Choice, Objective, Route, Weights};
use crate::domain::Usd;
use crate::providers::{Candidate, Model, Provider, Registry, Status};

/// The one that decides by itself which of the others it is.
pub(super) const AUTO: &str = "auto";

/// The others.
pub(super) const NAMES: [&str; 5] = ["draft", "thumbnail", "standard", "premium", "hero"];

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Virtual {
    /// Its name.
    pub name: &'static str,
    /// What `quality_tier` means if the caller says nothing.
    pub tier: &'static str,
    /// The rest.
    pub settings: Arc<Route>,
}

/// A thousandth of a dollar.
const MILL: i128 = Usd::SCALE / 1000;

/// All of them, by name, but for [`AUTO`].
pub(super) fn all() -> BTreeMap<&'static str, Virtual> {
    let one = |name, tier, objective, floor: u8, cost_of_point: i128, cost_of_second: i128| {
        let weights =
            Weights { usd_per_second: Usd::from_pico(cost_of_second), usd_per_point: Usd::from_pico(cost_of_point) };
        let objective = if objective { Objective::Weights(weights) } else { Objective::Cost };
        let settings = Route { objective, quality_floor: Some(floor), dynamic_steps: true, ..Route::default() };
        (name, Virtual { name, tier, settings: Arc::new(settings) })
    };
    // A draft is looked at by somebody who waits: a second is worth a twentieth of a cent. A hero is looked at by
    // everybody: a point of quality is worth a fifth of a cent.
    [
        one("draft", "draft", true, 20, 0, MILL / 2),
        one("thumbnail", "draft", false, 30, 0, 0),
        one("standard", "standard", false, 50, 0, 0),
        one("premium", "premium", false, 70, 0, 0),
        one("hero", "premium", true, 70, 2 * MILL, 0),
    ]
    .into()
}

/// True if `name` is one of them.
pub(super) fn is_one(name: &str) -> bool {
    name == AUTO || NAMES.contains(&name)
}

/// Which of them serves a request for this purpose or tier.
pub(super) fn serving(purpose: Option<&str>, tier: Option<&str>) -> &'static str {
    match (purpose, tier) {
        (Some("hero"), _) => "hero",
        (Some("thumbnail"), _) => "thumbnail",
        (_, Some("draft")) => "draft",
        (_, Some("premium")) => "premium",
        (_, Some(_)) => "standard",
        (Some("draft"), None) => "draft",
        (Some("premium"), None) => "premium",
        _ => "standard",
    }
}

/// Every model that takes calls now, each as a candidate; one that is about to retire comes last. Made once: what is in it
/// may retire later, and nothing is added while a process lives.
pub(super) fn all_models(registry: &Registry) -> Vec<Offer> {
    let of_provider = |provider: &Arc<Provider>| {
        let offer = |model: &Arc<Model>| {
            let candidate =
                Candidate { provider: Arc::clone(provider), model: provider.model(&model.id)?, quality: None };
            Some(Offer::new(candidate, Choice::named(&format!("{}/{}", provider.name, model.id))))
        };
        provider.models().iter().filter(|model| provider.serves(model)).filter_map(offer).collect::<Vec<Offer>>()
    };
    let mut all: Vec<Offer> = registry.providers().flat_map(of_provider).collect();
    all.sort_by_key(|offer| matches!(offer.candidate.model.status, Status::Retiring { .. }));
    all
}

/// Those of `all` that take calls at this time, of providers whose pictures are real; of all providers if none is.
pub(super) fn candidates(all: &[Offer]) -> impl Iterator<Item = &Offer> + Clone {
    let serving = all.iter().filter(|offer| offer.candidate.provider.serves(&offer.candidate.model));
    let is_real = |offer: &Offer| !offer.candidate.provider.is_simulated();
    let any_is_real = serving.clone().any(is_real);
    serving.filter(move |offer| !any_is_real || is_real(offer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::Environment;
    use crate::net::Clients;
    use crate::providers::Catalogue;
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn record(name: &str, rest: &str) -> String {
        format!(
            "name = \"{name}\"\ntitle = \"X\"\nshape = \"exchange\"\nbase_url = \"https://{name}.example\"\n\
             auth = {{ scheme = \"none\" }}\nwire = {{ generate = \"/v1\" }}\nfields = {{ prompt = \"prompt\" }}\n\
             result = {{ pictures = [\"picture\"] }}\n{rest}"
        )
    }

    fn names(all: &[Offer]) -> Vec<String> {
        candidates(all).map(|offer| offer.name.clone()).collect()
    }

    #[test]
    fn who_retires_comes_last_and_goes_when_its_day_comes() {
        let mut catalogue = Catalogue::default();
        let studio = "[[models]]\nid = \"old\"\nstatus = { retiring = { until = \"1970-01-03\", successor = \"new\" } }\n\
                      [[models]]\nid = \"new\"\n[[models]]\nid = \"older\"\n\
                      status = { gone = { since = \"1969-01-01\", successor = \"new\" } }\n";
        catalogue.add(&record("studio", studio), "studio.toml").unwrap();
        catalogue.add(&record("toy", "simulated = true\n[[models]]\nid = \"doodle\"\n"), "toy.toml").unwrap();
        let clock = Clock::manual(0);
        let all = |disabled: &[&str]| {
            let off = crate::config::Provider { enabled: Some(false), ..Default::default() };
            let off = disabled.iter().map(|name| ((*name).to_owned(), off.clone())).collect();
            all_models(
                &Registry::build_with(&off, &Environment::default(), &catalogue, &clock, &Clients::default()).unwrap(),
            )
        };
        let (made, alone) = (all(&[]), all(&["studio"]));
        assert_eq!(names(&made), ["studio/new", "studio/old"], "what is simulated is no picture where there are some");
        assert_eq!(names(&alone), ["toy/doodle"]);
        clock.advance(2 * DAY);
        assert_eq!(names(&made), ["studio/new"]);
    }
}
