//! Which providers are there: the catalogue, the configuration and the environment together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use super::auth::{Credentials, Scheme};
use super::catalogue::Catalogue;
use super::model::Model;
use super::near::near;
use super::provider::{Provider, ResolvedModel, Typical};
use super::rate::Heard;
use super::record::{AccountLimits, Record};
use super::vars;
use super::webhook::Verifier;
use crate::clock::Clock;
use crate::net::Clients;
use crate::pricing::Prices;
use crate::secret::{Environment, Secret, SecretRef};
use crate::settings::{self, Limits};

/// A candidate of a route, resolved.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The provider.
    pub provider: Arc<Provider>,
    /// Its model.
    pub model: ResolvedModel,
    /// The quality that the candidate fixes, in the model's vocabulary.
    pub quality: Option<String>,
}

/// There is no such model; the text says what is near it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoSuchModel(pub String);

/// The providers that are there.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    providers: BTreeMap<String, Arc<Provider>>,
}

impl Registry {
    /// Puts together what is configured, and every provider that needs no configuration: one whose record knows
    /// its address and whose key, if it has one, is in the environment.
    ///
    /// # Errors
    /// Every provider that is configured wrongly: its name, and what to do.
    pub fn build(
        configured: &BTreeMap<String, settings::Provider>,
        environment: &Environment,
        catalogue: &Catalogue,
    ) -> Result<Registry, Vec<(String, String)>> {
        Registry::build_with(configured, environment, catalogue, &Clock::System, &Clients::default())
    }

    /// As [`Registry::build`], with the clock that says which models are retired, and with shared clients.
    ///
    /// # Errors
    /// As [`Registry::build`].
    pub fn build_with(
        configured: &BTreeMap<String, settings::Provider>,
        environment: &Environment,
        catalogue: &Catalogue,
        clock: &Clock,
        clients: &Clients,
    ) -> Result<Registry, Vec<(String, String)>> {
        let mut faults = Vec::new();
        let mut providers = BTreeMap::new();
        let plain = settings::Provider::default();
        let alone = catalogue
            .records()
            .filter(|record| !configured.contains_key(&record.name) && record.needs(environment).is_empty())
            .map(|record| (&record.name, &plain));
        for (name, settings) in configured.iter().chain(alone) {
            if settings.enabled == Some(false) {
                continue;
            }
            match provider(name, settings, environment, catalogue, clock, clients) {
                Ok(provider) => {
                    providers.insert(name.clone(), Arc::new(provider));
                }
                Err(message) => faults.push((name.clone(), message)),
            }
        }
        if faults.is_empty() { Ok(Registry { providers }) } else { Err(faults) }
    }

    /// The provider of that name.
    pub fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.get(name)
    }

    /// All providers, by name.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.values()
    }

    /// The model of a name without provider. One that is listed under that name goes before one that is meant
    /// by an alias or that is gone and has a successor, and what is real before what is simulated; among
    /// equals the provider's name decides. Names that only an open provider would accept are not found.
    pub fn find(&self, model: &str) -> Option<(&Arc<Provider>, ResolvedModel)> {
        let mut found: Vec<_> = self
            .providers
            .values()
            .filter(|provider| provider.lists(model))
            .filter_map(|provider| Some((provider, provider.model(model)?)))
            .collect();
        // Stable, so the order by name holds among equals.
        found.sort_by_key(|(provider, model)| (model.renamed_from.is_some(), provider.is_simulated()));
        found.into_iter().next()
    }

    /// What `provider/model`, `provider/model@quality`, `model` or `model@quality` means.
    ///
    /// # Errors
    /// There is none; the message lists names that are near.
    pub fn resolve(&self, text: &str) -> Result<Candidate, NoSuchModel> {
        // A model's own name may hold slashes and @, so the longer readings go first.
        if let Some((provider, model)) = self.locate(text) {
            return Ok(Candidate { provider, model, quality: None });
        }
        if let Some((name, quality)) = text.rsplit_once('@')
            && let Some((provider, model)) = self.locate(name)
        {
            let known = &model.qualities;
            if !known.iter().any(|known| known == quality || known == super::fit::ANY) {
                return Err(NoSuchModel(if known.is_empty() {
                    format!("{name} has no qualities; write {name} without @{quality}")
                } else {
                    format!("{name} has no quality {quality}; it has {}", known.join(", "))
                }));
            }
            return Ok(Candidate { provider, model, quality: Some(quality.to_owned()) });
        }
        Err(NoSuchModel(self.lost(text)))
    }

    /// How good the catalogue takes the pictures of a candidate to be, named as in [`Registry::resolve`], in points from 0
    /// to 100; `None` if nobody has said so, or there is none.
    pub fn rating(&self, text: &str) -> Option<u8> {
        let Candidate { model, quality, .. } = self.resolve(text).ok()?;
        model.model.rating(quality.as_deref())
    }

    fn locate(&self, name: &str) -> Option<(Arc<Provider>, ResolvedModel)> {
        if let Some((provider, model)) = name.split_once('/')
            && let Some(provider) = self.providers.get(provider)
        {
            // On an open provider `model@quality` would be a model of that very name; a quality is likelier.
            let reads_as_quality = model.contains('@') && provider.is_open() && !provider.lists(model);
            if !reads_as_quality && let Some(model) = provider.model(model) {
                return Some((Arc::clone(provider), model));
            }
        }
        self.find(name).map(|(provider, model)| (Arc::clone(provider), model))
    }

    /// Why `text` was not found.
    fn lost(&self, text: &str) -> String {
        let text: String = text.chars().take(100).collect();
        let bare = text.rsplit_once('@').map_or(text.as_str(), |(name, _)| name);
        let or = |names: Vec<&str>| names.join(" or ");
        if let Some((provider, model)) = bare.split_once('/') {
            match self.providers.get(provider) {
                Some(provider) => {
                    let near = near(model, provider.models().iter().map(|known| known.id.as_str()));
                    let serving = || provider.models().iter().filter(|model| provider.serves(model));
                    return if near.is_empty() {
                        let all: Vec<&str> = serving().map(|model| model.id.as_str()).collect();
                        format!("{} has no model {model}; it has {}", provider.name, all.join(", "))
                    } else {
                        format!("{} has no model {model}; did you mean {}?", provider.name, or(near))
                    };
                }
                None if !self.providers.is_empty() => {
                    let close = near(provider, self.providers.keys().map(String::as_str));
                    return if close.is_empty() {
                        let all: Vec<&str> = self.providers.keys().map(String::as_str).collect();
                        format!("there is no provider {provider}; there are {}", all.join(", "))
                    } else {
                        format!("there is no provider {provider}; did you mean {}?", or(close))
                    };
                }
                None => {}
            }
        }
        let names = self.providers.values().flat_map(|provider| {
            provider.models().iter().filter(|model| provider.serves(model)).map(|model| model.id.as_str())
        });
        let near = near(bare, names);
        if near.is_empty() {
            format!("there is no model {bare}; `mimeo providers` lists the models that are there")
        } else {
            format!("there is no model {bare}; did you mean {}?", or(near))
        }
    }
}

fn provider(
    name: &str,
    settings: &settings::Provider,
    environment: &Environment,
    catalogue: &Catalogue,
    clock: &Clock,
    clients: &Clients,
) -> Result<Provider, String> {
    let record = record_of(name, settings, catalogue)?;
    let prices = settings.prices.as_ref().map(|prices| Prices::flat(prices.usd_per_image));
    if prices.as_ref().is_some_and(|prices| prices.fault().is_some()) {
        return Err("prices.usd_per_image is negative; write what a picture costs, or 0".to_owned());
    }
    if let Some(message) = settings.plan.as_ref().and_then(settings::Plan::fault) {
        return Err(message);
    }
    let priced = |model: &Model| match &prices {
        None => model.clone(),
        Some(flat) => Model { prices: Some(flat.clone()), price_changes: Vec::new(), ..model.clone() },
    };
    let mut models: Vec<Arc<Model>> = record.models.iter().map(|model| Arc::new(priced(model))).collect();
    let mut open = None;
    match (&record.default_model, record.open_models) {
        (Some(default), true) if settings.models.is_empty() => open = Some(Arc::new(priced(default))),
        (Some(default), true) => {
            for id in settings.models.iter().filter(|id| !record.models.iter().any(|model| model.id == **id)) {
                models.push(Arc::new(Model { id: id.clone(), title: String::new(), ..priced(default) }));
            }
        }
        _ => {
            let unknown = |id: &&String| !record.models.iter().any(|model| model.id == **id);
            if let Some(id) = settings.models.iter().find(unknown) {
                return Err(format!(
                    "models names {id}, which the record {} does not know; leave it out, or use a record for servers \
                     with models of their own",
                    record.name
                ));
            }
            if !settings.models.is_empty() {
                // A selection: what is gone stays, because its successor may be selected.
                models.retain(|model| {
                    matches!(model.status, super::Status::Gone { .. }) || settings.models.contains(&model.id)
                });
            }
        }
    }
    let vars = vars::resolve(&record.vars, &settings.vars, environment)?;
    let key = key_of(&record, settings, environment)?;
    Ok(Provider {
        name: name.to_owned(),
        region: settings.region.clone(),
        base: base_of(&record, settings, &vars)?,
        credentials: Credentials::of(&record, key.clone(), &vars)?,
        key,
        vars,
        webhook: record.webhook.as_ref().map(Verifier::of).transpose()?,
        webhook_secret: record.webhook.as_ref().and_then(|webhook| webhook.secret(environment)),
        limits: limits_of(&record, &settings.limits),
        plan: settings.plan.clone().or_else(|| record.plan.as_ref().and_then(settings::Plan::free_part)),
        timeout: Duration::from_secs(u64::from(settings.timeout_s.unwrap_or(record.timeout_s))),
        record,
        models,
        open,
        clients: clients.clone(),
        clock: clock.clone(),
        typical: Typical::default(),
        heard: Heard::default(),
    })
}

/// The limits of an account: what its operator says, all of it, or else what the provider publishes for a new one. Not
/// mixed: who states one limit knows the account, and a new account's others would hold it up.
fn limits_of(record: &Record, stated: &Limits) -> Limits {
    if stated.counts().iter().any(|(_, limit)| limit.is_some()) {
        return *stated;
    }
    let AccountLimits {
        requests_per_second,
        requests_per_minute,
        pictures_per_minute,
        concurrent,
        concurrent_pictures,
    } = record.limits;
    Limits { requests_per_second, requests_per_minute, pictures_per_minute, concurrent, concurrent_pictures, ..*stated }
}

fn record_of(name: &str, settings: &settings::Provider, catalogue: &Catalogue) -> Result<Arc<Record>, String> {
    let wanted = settings.record.as_deref().unwrap_or(name);
    if let Some(record) = catalogue.record(wanted) {
        return Ok(Arc::clone(record));
    }
    let names = || catalogue.records().map(|record| record.name.as_str());
    let close = near(wanted, names());
    let known = if close.is_empty() { names().collect::<Vec<_>>().join(", ") } else { close.join(" or ") };
    Err(match settings.record {
        Some(_) => format!("there is no record {wanted} in the catalogue; did you mean {known}?"),
        None => format!("no record of the catalogue is called {wanted}; say record = \"…\": {known}"),
    })
}

fn base_of(
    record: &Record,
    settings: &settings::Provider,
    vars: &BTreeMap<String, String>,
) -> Result<Option<Url>, String> {
    if !record.shape.is_remote() {
        return Ok(None);
    }
    let Some(text) = settings.base_url.as_deref().or(record.base_url.as_deref()) else {
        return Err(format!("{} has no fixed address; say base_url = \"http://…\"", record.title));
    };
    let text = &vars::expand_address(text, vars);
    let url = Url::parse(text.trim_end_matches('/')).map_err(|error| format!("base_url = \"{text}\": {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("base_url = \"{text}\" must begin with https:// or http:// and name a host"));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("base_url must not have a query, a fragment or a password; secrets belong in api_key".to_owned());
    }
    Ok(Some(url))
}

fn key_of(record: &Record, settings: &settings::Provider, environment: &Environment) -> Result<Option<Secret>, String> {
    if record.auth.scheme == Scheme::None {
        return match settings.api_key {
            Some(_) => Err(format!("{} takes no key; leave api_key out", record.title)),
            None => Ok(None),
        };
    }
    let (source, hint) = match (&settings.api_key, &record.auth.env) {
        (Some(source), _) => (source.clone(), String::new()),
        (None, Some(env)) if environment.get(env).is_none() && record.auth.optional => return Ok(None),
        (None, Some(env)) => {
            (SecretRef::Env(env.clone()), ", nor does api_key = { env = \"…\" } name another".to_owned())
        }
        (None, None) if record.auth.optional => return Ok(None),
        (None, None) => return Err("it needs a key: say api_key = { env = \"NAME\" }".to_owned()),
    };
    source.resolve(environment).map(Some).map_err(|why| format!("it has no key: {why}{hint}"))
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
