//! Routes that are there without being configured: whatever providers are there, they choose among all of their models.
//!
//! A configured route of the same name takes their place. Nothing of theirs depends on which providers are there, so
//! that one more of them makes no stored picture unfindable.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Choice, Objective, Route, Weights};
use crate::domain::Usd;
use crate::providers::{Candidate, Provider, Registry, ResolvedModel, Status};

/// The one that decides by itself which of the others it is.
pub(super) const AUTO: &str = "auto";

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
    name == AUTO || all().contains_key(name)
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

/// Every model that takes calls, of providers whose pictures are real; of all if none is. One that is about to retire
/// comes last among equals.
pub(super) fn candidates(registry: &Registry) -> Vec<(Candidate, Arc<Choice>)> {
    let serving = |provider: &&Arc<Provider>| provider.models().iter().any(|model| provider.serves(model));
    let any_is_real = registry.providers().filter(serving).any(|provider| !provider.is_simulated());
    let mut found: Vec<(Candidate, Arc<Choice>)> = registry
        .providers()
        .filter(|provider| !any_is_real || !provider.is_simulated())
        .flat_map(|provider| {
            let serving = provider.models().iter().filter(|model| provider.serves(model));
            serving.filter_map(|model| {
                let model: ResolvedModel = provider.model(&model.id)?;
                let choice = Choice::named(&format!("{}/{}", provider.name, model.id));
                Some((Candidate { provider: Arc::clone(provider), model, quality: None }, Arc::new(choice)))
            })
        })
        .collect();
    found.sort_by_key(|(candidate, _)| matches!(candidate.model.status, Status::Retiring { .. }));
    found
}
