//! Which candidates can make a picture, in which order, and why.
//!
//! A route is a virtual model with candidates. A concrete model is a route with one candidate, and so is a template.
//! It is decided in two steps. [`Routes::plan`] says who may make it at all: a function of the request and the
//! configuration alone, because the picture's identity hangs on it. [`choose`](choose::choose) says who is asked first
//! when it has to be made: by what is known then of prices, times, quality and who is busy. Each candidate that is
//! dropped keeps its reason.

mod cascade;
pub mod choose;
mod considered;
pub mod listing;
mod offer;
pub mod performance;
mod plan;
pub mod rank;
mod template;
pub mod trim;
mod virtuals;
mod warnings;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::classify::{self, Reading};
use crate::config;
use crate::domain::request::TemplateCall;
use crate::domain::{CacheMode, Call, ImageRequest, Operation, Stage, Target};
use crate::error::{Error, Kind, Result};
use crate::providers::{self, Misfit, Model, Provider, Registry};
use crate::render::Renderer;
pub use listing::ModelListing;
use offer::Offer;
pub use offer::name_of;
pub use plan::Plan;
pub use template::render_error;
use virtuals::{AUTO, Virtual};

/// What stands before the name of a template where a model is named.
pub const TEMPLATE: &str = "template";

/// All that can be named in `model`.
#[derive(Debug)]
pub struct Routes {
    registry: Registry,
    renderer: Arc<Renderer>,
    routes: BTreeMap<String, Route>,
    virtuals: BTreeMap<&'static str, Virtual>,
    /// Whom those choose among.
    models: Vec<Offer>,
}

/// A configured one.
#[derive(Debug)]
struct Route {
    candidates: Vec<Offer>,
    settings: Arc<config::Route>,
    /// Who makes its drafts, if it wants any.
    drafters: Option<cascade::Drafters>,
}

/// What is known of a request's subject.
#[derive(Clone, Debug, Default)]
pub struct Sense {
    /// What the picture is for.
    pub purpose: Option<String>,
    /// What it shows.
    pub category: Option<String>,
    /// What was read out of it, if anybody has read it.
    pub reading: Option<Reading>,
}

impl Sense {
    /// What a reading comes to.
    pub fn of(reading: Reading) -> Sense {
        let purpose = Some(reading.purpose.name().to_owned());
        let category = Some(reading.category.clone()).filter(|category| category != classify::OTHER);
        Sense { purpose, category, reading: Some(reading) }
    }
}

/// Who makes the picture.
#[derive(Clone, Debug)]
pub enum Maker {
    /// A provider, with one of its models.
    Provider(Arc<Provider>, Arc<Model>),
    /// This process, from a template.
    Template,
}

/// One way to get the picture.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// As people name it: `provider/model`, `provider/model@quality`, `template/article`.
    pub name: String,
    /// What it is for the cache: the record and the model, whatever account is used. A server with
    /// models of its own is known by its own name, since nobody else has those.
    pub identity: String,
    /// Who makes it.
    pub maker: Maker,
    /// The request as this candidate takes it: canonical, with its defaults left out.
    pub request: ImageRequest,
    /// What remains to be done to its pictures, if they are not what is asked for.
    pub target: Option<Target>,
    /// The name that was asked for, if this model serves in place of another.
    pub renamed_from: Option<String>,
    /// What the route says of it.
    pub choice: Arc<config::Choice>,
    /// How good its pictures are thought to be before anybody has seen one, in points from 0 to 100.
    pub rating: Option<u8>,
}

impl Candidate {
    /// Where its pictures are made, if that is known.
    pub fn region(&self) -> Option<&str> {
        let of_account = || match &self.maker {
            Maker::Provider(provider, _) => provider.region.as_deref(),
            Maker::Template => None,
        };
        self.choice.region.as_deref().or_else(of_account)
    }

    /// The provider's name, for ledgers and answers.
    pub fn maker_name(&self) -> &str {
        match &self.maker {
            Maker::Provider(provider, _) => &provider.name,
            Maker::Template => TEMPLATE,
        }
    }
}

/// Why a candidate was dropped.
#[derive(Clone, Debug)]
pub enum DropReason {
    /// It cannot make what is asked for.
    Unfit(Misfit),
    /// The route keeps it from pictures of this category.
    Category(String),
    /// The route asks it for these categories only, and the picture is of none of them as far as is known.
    OtherThan(Vec<String>),
    /// The route deals this request to another one.
    Dealt,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DropReason::Unfit(misfit) => write!(f, "cannot make it: {}", misfit.message),
            DropReason::Category(category) => write!(f, "the route does not ask it for the category {category}"),
            DropReason::OtherThan(only) => write!(f, "the route asks it for {} only", only.join(", ")),
            DropReason::Dealt => f.write_str("requests are divided, and this one went to another"),
        }
    }
}

impl Routes {
    /// The routes of a configuration over the providers that are there.
    ///
    /// # Errors
    /// Every route with a candidate that does not exist: its name, and what to do.
    pub fn new(
        registry: Registry,
        configured: &BTreeMap<String, config::Route>,
        renderer: Arc<Renderer>,
    ) -> Result<Routes, Vec<(String, String)>> {
        let mut routes = BTreeMap::new();
        let mut faults = Vec::new();
        for (name, settings) in configured {
            let mut candidates = Vec::new();
            for choice in &settings.candidates {
                match registry.resolve(&choice.model) {
                    Ok(candidate) => candidates.push(Offer::new(candidate, choice.clone())),
                    Err(_) if configured.contains_key(&choice.model) || virtuals::is_one(&choice.model) => {
                        let message = "is a route, and candidates are models: name those that are to make it";
                        faults.push((name.clone(), format!("candidates: {} {message}", choice.model)));
                    }
                    Err(unknown) => faults.push((name.clone(), format!("candidates: {unknown}"))),
                }
            }
            let drafters = cascade::Drafters::of(settings, &registry, configured).unwrap_or_else(|message| {
                faults.push((name.clone(), message));
                None
            });
            routes.insert(name.clone(), Route { candidates, settings: Arc::new(settings.clone()), drafters });
        }
        let mut virtuals = virtuals::all();
        virtuals.retain(|name, _| !routes.contains_key(*name));
        let models = virtuals::all_models(&registry);
        let this = Routes { registry, renderer, routes, virtuals, models };
        for (name, settings) in configured {
            let Some(shadow) = &settings.shadow else { continue };
            let has_shadow = |route: &Route| route.settings.shadow.is_some();
            let goes_on = match this.named(&shadow.model) {
                Err(unknown) => {
                    faults.push((name.clone(), format!("shadow: {unknown}")));
                    false
                }
                Ok(Named::Route(route)) => has_shadow(route),
                Ok(Named::Auto) => this.chosen_among().any(has_shadow),
                Ok(Named::Virtual(_) | Named::Model(_)) => false,
            };
            if goes_on {
                let told =
                    format!("shadow: {} has a shadow itself, and would go on for ever; name a model", shadow.model);
                faults.push((name.clone(), told));
            }
        }
        if faults.is_empty() { Ok(this) } else { Err(faults) }
    }

    /// The providers.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The candidates of all routes, each with its route's name.
    pub fn candidates(&self) -> impl Iterator<Item = (&str, &providers::Candidate)> {
        self.routes
            .iter()
            .flat_map(|(name, route)| route.candidates.iter().map(move |one| (name.as_str(), &one.candidate)))
    }

    /// True if it matters for `call` what it is for and what it shows.
    pub fn reads(&self, call: &Call) -> bool {
        if call.request.operation == Operation::Render {
            return false;
        }
        if call.route.is_some() {
            // That was read out of it, and its story says what.
            return true;
        }
        // Nothing else is looked up for it: every request passes here, and most of them name a model.
        let name = self.name_of(call);
        let Some(route) = self.routes.get(name) else { return name == AUTO || self.virtuals.contains_key(name) };
        let (candidates, settings) = route.serving(call);
        settings.dynamic_steps || !settings.floors.is_empty() || candidates.iter().any(Offer::is_picky)
    }

    /// The configured routes that [`AUTO`] chooses among.
    fn chosen_among(&self) -> impl Iterator<Item = &Route> {
        virtuals::NAMES.iter().filter_map(|name| self.routes.get(*name))
    }

    /// True if what is made for `call` is stored, whatever its route turns out to be.
    pub fn stores(&self, call: &Call) -> bool {
        let stores = |route: &Route| !route.settings.cache.off;
        let by_route = match (call.request.operation, self.name_of(call)) {
            // No route draws templates.
            (Operation::Render, _) => true,
            (_, name) if self.is_auto(name) => self.chosen_among().all(stores),
            (_, name) => self.routes.get(name).is_none_or(stores),
        };
        by_route && call.cache.mode != CacheMode::NoStore
    }

    /// What can make the picture of `call`, which is about `sense`.
    ///
    /// # Errors
    /// There is no such model, or no candidate can make what is asked for.
    pub fn plan(&self, call: &Call, sense: Sense) -> Result<Plan> {
        if let Some(elsewhere) = self.rendered_elsewhere(call) {
            return self.plan(&elsewhere, sense);
        }
        if call.request.operation == Operation::Render {
            return self.plan_template(call);
        }
        let name = self.name_of(call);
        if let Some(template) = name.strip_prefix(TEMPLATE).and_then(|rest| rest.strip_prefix('/')) {
            return Err(Error::bad(
                "model",
                format!("{name} is a template. Send `template`: \"{template}\" with `data`, and no prompt."),
            ));
        }
        let found = self.named(name).map_err(|message| {
            let stop = if message.ends_with('?') { "" } else { "." };
            Error::new(Kind::NotFound, message + stop).param("model").code("model_not_found")
        })?;
        match found {
            Named::Route(route) => {
                let (candidates, settings) = route.serving(call);
                self.consider(call, sense, name, candidates, settings, None)
            }
            Named::Model(candidate) => {
                let only = Offer::new(*candidate, config::Choice::named(name));
                self.consider(call, sense, name, [&only], &Arc::default(), None)
            }
            Named::Auto => {
                let serving = virtuals::serving(sense.purpose.as_deref(), call.quality_tier.as_deref());
                match (self.routes.get(serving), self.virtuals.get(serving)) {
                    (Some(route), _) => self.consider(call, sense, serving, &route.candidates, &route.settings, None),
                    (None, Some(built_in)) => self.plan_virtual(call, sense, built_in),
                    (None, None) => Err(Error::internal("route", "a virtual model without a route")),
                }
            }
            Named::Virtual(built_in) => self.plan_virtual(call, sense, built_in),
        }
    }

    fn plan_virtual(&self, call: &Call, sense: Sense, built_in: &Virtual) -> Result<Plan> {
        let candidates = virtuals::candidates(&self.models);
        if candidates.clone().next().is_none() {
            if call.request.operation == Operation::Generate && call.n == 1 {
                let mut plan = self.plan_template(&Routes::card_of(call))?;
                plan.warnings.push(format!(
                    "no provider is there that could draw it, so this is a card from the template {}; `mimeo providers \
                     --all` says what each provider needs",
                    plan.route
                ));
                return Ok(plan);
            }
            return Err(Error::new(
                Kind::NotFound,
                format!(
                    "{} chooses among the models of all providers, and none is there. Set a provider's key in the \
                     environment; `mimeo providers --all` says which.",
                    built_in.name
                ),
            )
            .param("model")
            .code("no_provider"));
        }
        self.consider(call, sense, built_in.name, candidates, &built_in.settings, Some(built_in))
    }

    /// Who of `offers` can make it.
    fn consider<'a>(
        &self,
        call: &Call,
        sense: Sense,
        route: &str,
        offers: impl IntoIterator<Item = &'a Offer> + Clone,
        settings: &Arc<config::Route>,
        built_in: Option<&Virtual>,
    ) -> Result<Plan> {
        let is_draft = call.leg.is_some_and(|leg| leg.stage == Stage::Draft);
        let usual = built_in.map(|built_in| built_in.tier).or(is_draft.then_some(cascade::DRAFT_TIER));
        let tier = call.quality_tier.as_deref().or(usual);
        let dealt = offer::dealt(route, call, &offers);
        let (mut candidates, mut dropped) = (Vec::new(), Vec::new());
        let is_trimmed = call.trim_prompt.unwrap_or(settings.trim_prompt);
        let reading = sense.reading.as_ref().filter(|_| settings.dynamic_steps);
        for offer in offers {
            let reason = if offer.choice.share.is_some() && !dealt.is_some_and(|dealt| std::ptr::eq(dealt, offer)) {
                DropReason::Dealt
            } else if let Some(reason) = offer.kept_from(sense.category.as_deref()) {
                reason
            } else {
                match offer.fit(call, tier, is_trimmed, reading) {
                    Ok(candidate) => {
                        candidates.push(candidate);
                        continue;
                    }
                    Err(misfit) => DropReason::Unfit(misfit),
                }
            };
            dropped.push((offer.name.clone(), reason));
        }
        if candidates.is_empty() {
            return Err(none_fits(&dropped));
        }
        let mut plan = Plan::of(candidates, route.to_owned(), Arc::clone(settings));
        plan.built_in = built_in.map(|built_in| {
            let request = ImageRequest { quality: asked_quality(call, tier), ..call.request.clone() };
            (built_in.name, Box::new(request))
        });
        plan.retry_unknown = settings.retry_unknown || call.retry_unknown;
        (plan.dropped, plan.sense) = (dropped, sense);
        Ok(plan)
    }

    /// The model that the caller means.
    fn name_of<'a>(&'a self, call: &'a Call) -> &'a str {
        if let Some(name) = call.route.as_deref().or(call.model.as_deref()) {
            return name;
        }
        // One that the operator configured on purpose goes before what the environment happens to enable.
        match self.routes.keys().collect::<Vec<_>>().as_slice() {
            [only] if !self.routes.contains_key(AUTO) => only,
            _ => AUTO,
        }
    }

    /// What goes by this name.
    fn named(&self, name: &str) -> Result<Named<'_>, String> {
        if let Some(route) = self.routes.get(name) {
            return Ok(Named::Route(route));
        }
        if name == AUTO {
            return Ok(Named::Auto);
        }
        if let Some(built_in) = self.virtuals.get(name) {
            // A provider's model of that name is `provider/name`.
            return Ok(Named::Virtual(built_in));
        }
        self.registry.resolve(name).map(Named::model).map_err(|unknown| {
            let known = self.routes.keys().map(String::as_str).chain(self.virtuals.keys().copied());
            match providers::near(name, known).first().filter(|_| !name.contains('/')) {
                Some(route) => format!("there is no model or route {name}; did you mean {route}?"),
                None => unknown.to_string(),
            }
        })
    }

    /// The call for a template that a provider keeps, `provider/template`: its model is that template.
    fn rendered_elsewhere(&self, call: &Call) -> Option<Call> {
        let wanted = call.request.template.as_ref().filter(|_| call.request.operation == Operation::Render)?;
        let (provider, template) = wanted.id.split_once('/')?;
        self.registry.provider(provider)?;
        let template = Some(TemplateCall { id: template.to_owned(), ..wanted.clone() });
        let request = ImageRequest { operation: Operation::Generate, template, ..call.request.clone() };
        let model = call.model.clone().or_else(|| Some(wanted.id.clone()));
        Some(Call { model, request, ..call.clone() })
    }

    /// The names of all routes: those that are configured, then those that are there without being so.
    pub fn names(&self) -> (Vec<&str>, Vec<&str>) {
        let built_in = self.virtuals.keys().copied().chain((!self.routes.contains_key(AUTO)).then_some(AUTO));
        (self.routes.keys().map(String::as_str).collect(), built_in.collect())
    }
}

/// What goes by a name.
enum Named<'a> {
    Route(&'a Route),
    Virtual(&'a Virtual),
    Auto,
    Model(Box<providers::Candidate>),
}

impl Named<'_> {
    fn model(candidate: providers::Candidate) -> Self {
        Named::Model(Box::new(candidate))
    }
}

/// A number that is the same for the same request to a route, and evenly spread over all.
pub fn fortune(route: &str, call: &Call) -> u64 {
    let mut hash = blake3::Hasher::new();
    let text = [route, &call.caller.tenant, call.request.prompt.trim()];
    for part in text {
        hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    for input in &call.request.inputs {
        hash.update(&input.picture.digest.0);
    }
    let mut number = [0; 8];
    hash.finalize_xof().fill(&mut number);
    u64::from_le_bytes(number)
}

/// The quality that a caller asks a virtual model for: a word, or a tier.
fn asked_quality(call: &Call, tier: Option<&str>) -> Option<String> {
    let word = call.request.quality.as_deref().filter(|word| *word != "auto");
    word.map(str::to_owned).or_else(|| tier.map(|tier| format!("tier {tier}")))
}

fn none_fits(dropped: &[(String, DropReason)]) -> Error {
    let first = dropped.iter().find_map(|(_, reason)| match reason {
        DropReason::Unfit(misfit) => Some(misfit),
        DropReason::Category(_) | DropReason::OtherThan(_) | DropReason::Dealt => None,
    });
    let Some(first) = first else {
        let reasons: Vec<String> = dropped.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        let is_unsaid = dropped.iter().any(|(_, reason)| matches!(reason, DropReason::OtherThan(_)));
        let then = if is_unsaid { " Say in `category` what the picture shows, or ask another model." } else { "" };
        let message = format!("No candidate of this route is asked for this. {}.{then}", reasons.join("; "));
        return Error::bad("model", message);
    };
    let message = match dropped {
        [_] => first.message.clone(),
        several if several.len() > 8 => {
            format!("None of the {} models that are there can make it. For one: {}", several.len(), first.message)
        }
        several => {
            let reasons: Vec<String> = several.iter().map(|(name, reason)| format!("{name} {reason}")).collect();
            format!("No candidate of this route can make it. {}", reasons.join("; "))
        }
    };
    let mut error = Error::bad(first.param.clone(), message);
    error.code = Some(first.code.to_owned());
    error
}
