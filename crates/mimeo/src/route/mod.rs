//! Which candidates can make a picture, in which order, and why.
//!
//! A route is a virtual model with candidates. A concrete model is a route with one candidate, and so
//! is a template. Choosing is a pure function of the request, the catalogue and the clock; each
//! candidate that is dropped keeps its reason.

pub mod listing;
pub mod trim;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::clock::Millis;
use crate::config;
use crate::domain::request::TemplateCall;
use crate::domain::{Call, ImageRequest, Operation, Size, Target};
use crate::error::{Error, Kind, Result};
use crate::providers::{self, Fitted, Misfit, Model, Provider, Registry, ResolvedModel};
use crate::render::{RenderError, Renderer};
pub use listing::ModelListing;

/// What stands before the name of a template where a model is named.
pub const TEMPLATE: &str = "template";

/// The route that serves requests without a model, if it is configured.
const DEFAULT_ROUTE: &str = "auto";

/// All that can be named in `model`.
#[derive(Debug)]
pub struct Routes {
    registry: Registry,
    renderer: Arc<Renderer>,
    routes: BTreeMap<String, Route>,
}

#[derive(Debug)]
struct Route {
    candidates: Vec<providers::Candidate>,
    settings: config::Route,
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
}

impl Candidate {
    /// The provider's name, for ledgers and answers.
    pub fn maker_name(&self) -> &str {
        match &self.maker {
            Maker::Provider(provider, _) => &provider.name,
            Maker::Template => TEMPLATE,
        }
    }

    /// What becomes of a request that its model cannot serve to the letter, in brackets; nothing if it can.
    fn mapped(&self) -> String {
        let Some(Target { size, format }) = self.target else { return String::new() };
        let size = size.map(|(width, height)| {
            let own =
                if self.request.size == Size::Auto { "its own size".to_owned() } else { self.request.size.to_string() };
            format!("{width}x{height}, of {own}")
        });
        let wanted: Vec<String> = size.into_iter().chain(format.map(|format| format.to_string())).collect();
        format!(" (pictures are brought to {})", wanted.join(", and to "))
    }
}

/// Why a candidate was dropped.
#[derive(Clone, Debug)]
pub enum DropReason {
    /// It cannot make what is asked for.
    Unfit(Misfit),
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DropReason::Unfit(misfit) => write!(f, "cannot make it: {}", misfit.message),
        }
    }
}

/// What is decided about a request before anything is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order in which they are tried. Never empty.
    pub candidates: Vec<Candidate>,
    /// The others, with why.
    pub dropped: Vec<(String, DropReason)>,
    /// How the route uses the cache.
    pub cache: config::RouteCache,
    /// Try the next candidate also after a refusal.
    pub failover_on_refusal: bool,
    /// Pay again although nobody knows what came of the same request before.
    pub retry_unknown: bool,
    /// What is done with free and prepaid credits.
    pub credits: config::CreditUse,
    /// The route, or the model that was asked for by its own name.
    pub route: String,
}

impl Plan {
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

    /// One line per candidate.
    pub fn explain(&self) -> Vec<String> {
        let kept = self.candidates.iter().enumerate().map(|(index, candidate)| {
            let renamed = candidate.renamed_from.as_ref();
            let renamed = renamed.map(|old| format!(" (in place of {old})")).unwrap_or_default();
            format!("{}. {}{renamed}{}", index + 1, candidate.name, candidate.mapped())
        });
        let dropped = self.dropped.iter().map(|(name, reason)| format!("dropped {name}: {reason}"));
        kept.chain(dropped).collect()
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
            for text in &settings.candidates {
                match registry.resolve(text) {
                    Ok(candidate) => candidates.push(candidate),
                    Err(unknown) => faults.push((name.clone(), format!("candidates: {unknown}"))),
                }
            }
            routes.insert(name.clone(), Route { candidates, settings: settings.clone() });
        }
        if faults.is_empty() { Ok(Routes { registry, renderer, routes }) } else { Err(faults) }
    }

    /// The providers.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The candidates of all routes, each with its route's name.
    pub fn candidates(&self) -> impl Iterator<Item = (&str, &providers::Candidate)> {
        self.routes.iter().flat_map(|(name, route)| route.candidates.iter().map(move |one| (name.as_str(), one)))
    }

    /// What can make the picture of `call`.
    ///
    /// # Errors
    /// There is no such model, or no candidate can make what is asked for.
    pub fn plan(&self, call: &Call) -> Result<Plan> {
        if let Some(elsewhere) = self.rendered_elsewhere(call) {
            return self.plan(&elsewhere);
        }
        if call.request.operation == Operation::Render {
            return self.plan_template(call);
        }
        let name = self.name_of(call)?;
        if let Some(template) = name.strip_prefix(TEMPLATE).and_then(|rest| rest.strip_prefix('/')) {
            return Err(Error::bad(
                "model",
                format!("{name} is a template. Send `template`: \"{template}\" with `data`, and no prompt."),
            ));
        }
        let (resolved, settings) = match self.routes.get(name) {
            Some(route) => (route.candidates.clone(), route.settings.clone()),
            None => {
                let candidate = self.registry.resolve(name).map_err(|unknown| {
                    let routes = providers::near(name, self.routes.keys().map(String::as_str));
                    let message = match routes.first() {
                        Some(route) => format!("there is no model or route {name}; did you mean {route}?"),
                        None => format!("{unknown}."),
                    };
                    Error::new(Kind::NotFound, message).param("model").code("model_not_found")
                })?;
                (vec![candidate], config::Route::default())
            }
        };
        let route = name.to_owned();
        let mut candidates = Vec::new();
        let mut dropped = Vec::new();
        for choice in resolved {
            let name = name_of(&choice);
            let is_trimmed = call.trim_prompt.unwrap_or(settings.trim_prompt) && pays_for_text(&choice, call);
            match fit(&choice, call, is_trimmed) {
                Ok(Fitted { request, target }) => candidates.push(Candidate {
                    target,
                    identity: identity(&choice),
                    renamed_from: choice.model.renamed_from.clone(),
                    maker: Maker::Provider(choice.provider, choice.model.model),
                    name,
                    request,
                }),
                Err(misfit) => dropped.push((name, DropReason::Unfit(misfit))),
            }
        }
        if candidates.is_empty() {
            return Err(none_fits(&dropped));
        }
        Ok(Plan {
            candidates,
            dropped,
            cache: settings.cache,
            failover_on_refusal: settings.failover_on_refusal,
            retry_unknown: settings.retry_unknown || call.retry_unknown,
            credits: settings.credits,
            route,
        })
    }

    /// The model that the caller means.
    fn name_of<'a>(&'a self, call: &'a Call) -> Result<&'a str> {
        if let Some(name) = call.model.as_deref() {
            return Ok(name);
        }
        if self.routes.contains_key(DEFAULT_ROUTE) {
            return Ok(DEFAULT_ROUTE);
        }
        // One that the operator configured on purpose goes before what the environment happens to enable.
        if let [only] = self.routes.keys().collect::<Vec<_>>().as_slice() {
            return Ok(only);
        }
        Err(Error::bad(
            "model",
            format!(
                "You must provide a model: a route or a model that GET /v1/models lists. A route called {DEFAULT_ROUTE} \
                 would serve requests without one."
            ),
        )
        .code("missing_required_parameter"))
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

    fn plan_template(&self, call: &Call) -> Result<Plan> {
        let Some(wanted) = &call.request.template else {
            return Err(Error::internal("route", "a render without a template"));
        };
        let model = call.model.as_deref().filter(|model| *model != format!("{TEMPLATE}/{}", wanted.id));
        if let Some(model) = model {
            return Err(Error::bad(
                "model",
                format!(
                    "`template` and `model` = {model} exclude each other: a template is drawn here. Leave `model` out."
                ),
            ));
        }
        if call.n != 1 {
            return Err(Error::bad("n", "A template with the same data is always the same picture: n must be 1."));
        }
        if let Some(name) = call.unknown.keys().next() {
            return Err(unknown_parameter(name));
        }
        let unusable = [
            ("quality", call.request.quality.is_some()),
            ("background", call.request.background.is_some()),
            ("style", call.request.style.is_some()),
            ("seed", call.request.seed.is_some()),
            ("steps", call.request.steps.is_some()),
            ("guidance", call.request.guidance.is_some()),
            ("negative_prompt", call.request.negative_prompt.is_some()),
            ("image", !call.request.inputs.is_empty()),
            ("mask", call.request.mask.is_some()),
        ];
        if let Some((field, _)) = unusable.iter().find(|(_, given)| *given) {
            return Err(Error::bad(*field, format!("`{field}` has no meaning with a template. Leave it out.")));
        }
        let template = self.renderer.template(&wanted.id).ok_or_else(|| {
            let known: Vec<&str> = self.renderer.templates().map(|template| template.id.as_str()).collect();
            Error::new(Kind::NotFound, format!("There is no template `{}`; there are {}.", wanted.id, known.join(", ")))
                .param("template")
                .code("template_not_found")
        })?;
        let data = self.renderer.canonical_data(&wanted.id, &wanted.data).map_err(|error| render_error(&error))?;
        let mut request = call.request.clone();
        request.template = Some(TemplateCall { id: wanted.id.clone(), version: template.version.clone(), data });
        // What is spelled out and what is left out are one request here too.
        request.output_format = request.output_format.filter(|format| *format != crate::domain::Format::Png);
        if request.size == Size::Exact(template.width, template.height) {
            request.size = Size::Auto;
        }
        request.moderation = None;
        let name = format!("{TEMPLATE}/{}", wanted.id);
        let route = name.clone();
        let candidate = Candidate {
            identity: name.clone(),
            name,
            maker: Maker::Template,
            request,
            target: None,
            renamed_from: None,
        };
        Ok(Plan {
            candidates: vec![candidate],
            dropped: Vec::new(),
            cache: config::RouteCache::default(),
            failover_on_refusal: false,
            retry_unknown: false,
            credits: config::CreditUse::Ignore,
            route,
        })
    }

    /// What the operator should know although it is not wrong: models about to retire.
    pub fn warnings(&self, now: Millis) -> Vec<String> {
        let mut warnings = Vec::new();
        for (route, name, model) in self.routes.iter().flat_map(|(route, settings)| {
            settings.candidates.iter().map(move |candidate| (route, name_of(candidate), &candidate.model))
        }) {
            if let Some(old) = &model.renamed_from {
                warnings.push(format!("routes.{route}: {old} is gone; {name} serves in its place. Name it instead"));
            }
            if let providers::Status::Retiring { until, successor } = &model.status {
                let successor = successor.as_ref().map(|next| format!("; {next} takes its place")).unwrap_or_default();
                let today = jiff::Timestamp::from_millisecond(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
                let days = today.to_zoned(jiff::tz::TimeZone::UTC).date().until(*until).map(|span| span.get_days());
                let days = days.map(|days| format!(" (in {days} days)")).unwrap_or_default();
                warnings.push(format!("routes.{route}: {name} retires on {until}{days}{successor}"));
            }
        }
        warnings
    }
}

/// The request as a candidate takes it. A quality that the candidate names counts unless the caller
/// names one.
fn fit(choice: &providers::Candidate, call: &Call, is_trimmed: bool) -> Result<Fitted, Misfit> {
    let tier = call.quality_tier.as_deref();
    let model: &ResolvedModel = &choice.model;
    let mut request = std::borrow::Cow::Borrowed(&call.request);
    if is_trimmed {
        let prompt = trim::trim(&call.request.prompt);
        if prompt != call.request.prompt {
            request.to_mut().prompt = prompt.into_owned();
        }
    }
    match (&choice.quality, &call.request.quality) {
        (Some(quality), None) if tier.is_none() => {
            request.to_mut().quality = Some(quality.clone());
            model.fit(&request, &call.unknown, None)
        }
        _ => model.fit(&request, &call.unknown, tier),
    }
}

/// True if a shorter prompt is a cheaper one. Instructions for an edit stay as they are: in “make me taller” no word
/// is filler.
fn pays_for_text(choice: &providers::Candidate, call: &Call) -> bool {
    let prices = choice.model.prices.as_ref();
    call.request.operation == Operation::Generate && prices.is_some_and(crate::pricing::Prices::counts_text)
}

/// A candidate as people name it: `provider/model` or `provider/model@quality`.
pub fn name_of(choice: &providers::Candidate) -> String {
    let quality = choice.quality.as_ref().map(|quality| format!("@{quality}")).unwrap_or_default();
    format!("{}/{}{quality}", choice.provider.name, choice.model.id)
}

fn identity(choice: &providers::Candidate) -> String {
    let record = &choice.provider.record;
    let origin = if record.open_models { &choice.provider.name } else { &record.name };
    format!("{origin}/{}", choice.model.id)
}

fn none_fits(dropped: &[(String, DropReason)]) -> Error {
    let Some((_, DropReason::Unfit(first))) = dropped.first() else {
        return Error::internal("route", "a route without candidates");
    };
    let message = match dropped {
        [_] => first.message.clone(),
        several => {
            let reasons: Vec<String> = several.iter().map(|(name, reason)| format!("{name} {reason}")).collect();
            format!("No candidate of this route can make it. {}", reasons.join("; "))
        }
    };
    let mut error = Error::bad(first.param.clone(), message);
    error.code = Some(first.code.to_owned());
    error
}

fn unknown_parameter(name: &str) -> Error {
    Error::bad(name, format!("Unknown parameter: '{name}'.")).code("unknown_parameter")
}

/// What a caller is told when a template cannot be drawn.
pub fn render_error(error: &RenderError) -> Error {
    let sentence = format!("{error}.");
    match error {
        RenderError::UnknownTemplate { .. } => {
            Error::new(Kind::NotFound, sentence).param("template").code("template_not_found")
        }
        RenderError::NotAnObject => Error::bad("data", sentence),
        RenderError::Field { field, .. } => Error::bad(format!("data.{field}"), sentence),
        RenderError::Size { .. } => Error::bad("size", sentence),
        RenderError::Template { .. } | RenderError::Engine(_) | RenderError::Panicked(_) => {
            Error::internal("render", error)
        }
    }
}
