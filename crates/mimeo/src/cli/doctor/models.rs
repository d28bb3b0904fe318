//! Models that routes lean on: those that go and what could take their place at what price, and those whose price
//! nobody knows.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::finding::{Finding, Level};
use crate::app::Blueprint;
use crate::clock::Millis;
use crate::config::{Budgets, Config};
use crate::domain::{ImageRequest, Price, Size, Usd};
use crate::providers::{Candidate, Model, Status};
use crate::route::name_of;
use crate::store::Store;

/// A size that is asked for where nothing is known of a route's pictures.
const USUAL: (u32, u32) = (1024, 1024);

/// The length of a prompt that prices are compared for, in bytes.
const PROMPT: usize = 200;

/// A model that can do what another can.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Replacement {
    /// `provider/model`, with `@quality` where that is chosen.
    pub(super) model: String,
    /// What one picture costs at most; `None` is unknown.
    pub(super) usd_per_image: Option<Usd>,
    /// What one picture of the model that goes costs at most.
    pub(super) instead_of_usd: Option<Usd>,
    /// True if its provider names it as the successor.
    pub(super) is_successor: bool,
    /// True if its provider is there; false if that needs a key or an address first.
    pub(super) is_enabled: bool,
}

impl Replacement {
    /// In one line.
    pub(super) fn words(&self) -> String {
        let usd = |usd: Option<Usd>| usd.map_or_else(|| "an unknown price".to_owned(), |usd| format!("${usd}"));
        let mut notes = Vec::new();
        if self.is_successor {
            notes.push("its provider's successor");
        }
        if !self.is_enabled {
            notes.push("not enabled");
        }
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        format!(
            "{}: {} a picture, in place of {}{notes}",
            self.model,
            usd(self.usd_per_image),
            usd(self.instead_of_usd)
        )
    }
}

/// What is asked of a model when it is compared with another.
struct Wish {
    size: (u32, u32),
    quality: Option<String>,
    /// The tier that the quality is, so that others' qualities of that rank are compared with it.
    tier: Option<String>,
}

pub(super) async fn examine(findings: &mut Vec<Finding>, blueprint: &Blueprint, store: Option<&Store>, now: Millis) {
    let at = jiff::Timestamp::from_millisecond(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let today = at.to_zoned(TimeZone::UTC).date();
    let mut sizes = BTreeMap::new();
    let mut is_calm = true;
    for (route, candidate) in blueprint.routes.candidates() {
        if !sizes.contains_key(route) {
            let known = match store {
                Some(store) => store.typical_size(route).await.unwrap_or_default(),
                None => None,
            };
            sizes.insert(route, known.unwrap_or(USUAL));
        }
        let size = sizes.get(route).copied().unwrap_or(USUAL);
        let found = [going(blueprint, route, candidate, size, today), unpriced(blueprint, route, candidate, size)];
        is_calm &= found.iter().all(Option::is_none);
        findings.extend(found.into_iter().flatten());
    }
    if is_calm && !blueprint.config.routes.is_empty() {
        findings.push(Finding::good(
            "models",
            "",
            "none that a route leans on is announced to go, and all have prices",
        ));
    }
}

/// A candidate whose model goes, or is gone.
fn going(blueprint: &Blueprint, route: &str, candidate: &Candidate, size: (u32, u32), today: Date) -> Option<Finding> {
    // A name that means another model by now is still what the route says.
    let old_name = candidate.model.renamed_from.as_deref().unwrap_or(&candidate.model.id);
    let mut models = candidate.provider.models().iter();
    let model = models.find(|model| model.goes_by(old_name)).unwrap_or(&candidate.model.model);
    let (found, successor) = match &model.status {
        Status::Live => return None,
        Status::Retiring { until, successor } => {
            let days = today.until(*until).map(|span| span.get_days()).unwrap_or_default();
            let found = match days {
                1.. => format!("{} retires on {until}, in {days} days", name_of(candidate)),
                _ => format!("{}/{old_name} retired on {until}", candidate.provider.name),
            };
            (found, successor.as_deref())
        }
        Status::Gone { since, successor, .. } => {
            (format!("{}/{old_name} is gone since {since}", candidate.provider.name), Some(successor.as_str()))
        }
    };
    let serves = (candidate.model.id != model.id).then(|| format!("; {} serves in its place", name_of(candidate)));
    let tier = |quality: &String| model.tiers.iter().find(|(_, own)| *own == quality).map(|(tier, _)| tier.clone());
    let wish = Wish { size, quality: candidate.quality.clone(), tier: candidate.quality.as_ref().and_then(tier) };
    let replacements = replacements(blueprint, candidate, model, successor, &wish);
    let todo = match replacements.first() {
        Some(_) => format!("Name one of these in routes.{route}.candidates:"),
        None => format!("Name another model in routes.{route}.candidates: none that is known can do all that it can."),
    };
    // One that has ended without a successor fails every call.
    let is_over = !candidate.provider.serves(model) && serves.is_none();
    let level = if is_over { Level::Broken } else { Level::Warning };
    let found = format!("{found}{}", serves.unwrap_or_default());
    Some(Finding { level, replacements, ..Finding::warning("models", &format!("routes.{route}"), found, todo) })
}

/// Models that can do all that `old` can, the cheapest first, those of unknown price last.
fn replacements(
    blueprint: &Blueprint,
    candidate: &Candidate,
    old: &Model,
    successor: Option<&str>,
    wish: &Wish,
) -> Vec<Replacement> {
    let own = wish.price(old).map(|(_, price)| price).and_then(Price::known);
    let registry = blueprint.routes.registry();
    let simulated = candidate.provider.is_simulated();
    let there = registry.providers().filter(|provider| provider.is_simulated() == simulated).flat_map(|provider| {
        let models = provider.models().iter().filter(|model| provider.serves(model));
        models.map(move |model| (provider.name.as_str(), provider.record.name.as_str(), model.as_ref(), true))
    });
    let is_there = |record: &str| registry.providers().any(|provider| provider.record.name == record);
    let idle = blueprint.catalogue.records().filter(|record| record.simulated == simulated && !is_there(&record.name));
    let idle = idle.flat_map(|record| {
        record.models.iter().map(move |model| (record.name.as_str(), record.name.as_str(), model, false))
    });
    let mut found: Vec<Replacement> = there
        .chain(idle)
        .filter(|(_, _, model, _)| model.status == Status::Live && model.id != old.id && can_replace(model, old))
        .filter_map(|(provider, record, model, is_enabled)| {
            let (quality, price) = wish.price(model)?;
            let quality = quality.map(|quality| format!("@{quality}")).unwrap_or_default();
            Some(Replacement {
                model: format!("{provider}/{}{quality}", model.id),
                usd_per_image: price.known(),
                instead_of_usd: own,
                is_successor: successor == Some(model.id.as_str()) && record == candidate.provider.record.name,
                is_enabled,
            })
        })
        .collect();
    // First those that can be named at once; of each the cheapest first.
    found.sort_by_key(|one| (!one.is_enabled, one.usd_per_image.is_none(), one.usd_per_image, one.model.clone()));
    found
}

/// True if `new` can be asked for all that `old` can.
fn can_replace(new: &Model, old: &Model) -> bool {
    old.operations.iter().all(|operation| new.operations.contains(operation))
        && new.max_inputs >= old.max_inputs
        && (new.seed || !old.seed)
        && (new.mask || !old.mask)
}

impl Wish {
    /// The quality that `model` makes it in, and what one picture then costs at most; `None` if it cannot make the size.
    fn price(&self, model: &Model) -> Option<(Option<String>, Price)> {
        let own = self.quality.clone().filter(|quality| model.qualities.contains(quality));
        let (width, height) = self.size;
        let request = ImageRequest {
            size: Size::Exact(width, height),
            quality: own.clone(),
            ..ImageRequest::generate("x".repeat(PROMPT))
        };
        let tier = self.tier.as_deref().filter(|_| own.is_none());
        let fitted = model.fit(&request, &BTreeMap::new(), tier).ok()?;
        if fitted.target.is_some_and(|target| target.size.is_some()) {
            return None;
        }
        let price = model.expected(&fitted.request, 1, 0);
        Some((fitted.request.quality, price))
    }
}

/// A candidate whose price nobody knows.
fn unpriced(blueprint: &Blueprint, route: &str, candidate: &Candidate, size: (u32, u32)) -> Option<Finding> {
    let model = &candidate.model.model;
    let wish = Wish { size, quality: candidate.quality.clone(), tier: None };
    // What it cannot make in that size it makes in another, which is then brought to it.
    let any = || model.expected(&ImageRequest::generate("x".repeat(PROMPT)), 1, 0);
    if wish.price(model).map_or_else(any, |(_, price)| price) != Price::Unknown {
        return None;
    }
    let (of, provider) = (format!("routes.{route}"), &candidate.provider.name);
    let name = name_of(candidate);
    let todo = format!("Say what a picture costs: providers.{provider}.prices = {{ usd_per_image = \"…\" }}.");
    let bound = bounds(&blueprint.config, route, provider);
    Some(if bound.is_empty() {
        Finding::warning("prices", &of, format!("nobody knows what {name} costs"), todo)
    } else {
        let found =
            format!("nobody knows what {name} costs, and budgets in money refuse it: those of {}", bound.join(", "));
        Finding::broken("prices", &of, found, todo)
    })
}

/// Whose budgets in money bound a call through `route` to `provider`.
fn bounds(config: &Config, route: &str, provider: &str) -> Vec<String> {
    let is_bound = |budgets: &Budgets| budgets.0.iter().any(|budget| budget.usd.is_some() && !budget.soft);
    let keys = config.keys.iter().filter(|(_, key)| is_bound(&key.budget)).map(|(name, _)| format!("keys.{name}"));
    let tenants = config.tenants.iter().filter(|(_, t)| is_bound(&t.budget)).map(|(name, _)| format!("tenants.{name}"));
    let route = config.routes.get(route).filter(|r| is_bound(&r.budget)).map(|_| format!("routes.{route}"));
    let account = config.providers.get(provider).filter(|p| is_bound(&p.budget));
    let account = account.map(|_| format!("providers.{provider}"));
    keys.chain(tenants).chain(route).chain(account).collect()
}
