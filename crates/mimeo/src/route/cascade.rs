//! Routes that make a draft first: who makes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::virtuals::{self, AUTO};
use super::{Offer, Route, Routes, Sense};
use crate::config::{self, Finalize, OnFail};
use crate::domain::{Call, Operation, Stage};
use crate::providers::Registry;

/// The quality of a draft where its candidate names none.
pub(super) const DRAFT_TIER: &str = "draft";

/// Who makes the drafts of a route.
#[derive(Debug)]
pub(super) struct Drafters {
    pub(super) candidates: Vec<Offer>,
    /// What the route wants of them.
    pub(super) settings: Arc<config::Route>,
}

impl Drafters {
    /// The drafters that `settings` of a route name, among `configured` routes.
    ///
    /// # Errors
    /// What is wrong with them, and what to do.
    pub(super) fn of(
        settings: &config::Route,
        registry: &Registry,
        configured: &BTreeMap<String, config::Route>,
    ) -> Result<Option<Drafters>, String> {
        let Some(cascade) = &settings.cascade else { return Ok(None) };
        let other = match cascade.draft.as_slice() {
            [only] => configured.get(&only.model),
            _ => None,
        };
        if let (Some(other), Some(name)) = (other, cascade.draft.first())
            && other.cascade.is_some()
        {
            return Err(format!("cascade.draft: {} makes a draft first itself; name another", name.model));
        }
        let choices = other.map_or(&cascade.draft, |other| &other.candidates);
        let mut candidates = Vec::new();
        for choice in choices {
            let candidate = registry.resolve(&choice.model).map_err(|unknown| format!("cascade.draft: {unknown}"))?;
            candidates.push(Offer::new(candidate, choice.clone()));
        }
        // Whether a draft that went wrong is given out is the cascade's to say, where that looks at it.
        let on_fail = match cascade.finalize {
            Finalize::Approval => settings.quality.on_fail,
            Finalize::OnFail | Finalize::OnPass => OnFail::Warn,
        };
        // How good a picture must be is said of the final. Money and cache are the route's, whoever draws.
        let own = config::Route {
            quality: config::RouteQuality { on_fail, ..settings.quality.clone() },
            candidates: choices.clone(),
            objective: other.map_or_else(config::Objective::default, |other| other.objective),
            quality_floor: other.and_then(|other| other.quality_floor),
            floors: other.map_or_else(BTreeMap::new, |other| other.floors.clone()),
            shadow: None,
            cascade: None,
            ..settings.clone()
        };
        Ok(Some(Drafters { candidates, settings: Arc::new(own) }))
    }
}

impl Route {
    /// Who serves `call`, and what is wanted of them: the drafters, where it is to be a draft.
    pub(super) fn serving(&self, call: &Call) -> (&[Offer], &Arc<config::Route>) {
        let is_draft = call.leg.is_some_and(|leg| leg.stage == Stage::Draft);
        match self.drafters.as_ref().filter(|_| is_draft) {
            Some(drafters) => (&drafters.candidates, &drafters.settings),
            None => (&self.candidates, &self.settings),
        }
    }
}

impl Routes {
    /// True if it matters for [`Routes::cascade`] what `call` is about: which route it comes to is read out of it, and one
    /// that it may come to makes a draft first.
    pub fn reads_for_cascade(&self, call: &Call) -> bool {
        let has_cascade = |name: &&str| self.routes.get(*name).is_some_and(|route| route.settings.cascade.is_some());
        may_begin(call) && self.is_auto(self.name_of(call)) && virtuals::NAMES.iter().any(has_cascade)
    }

    /// The cascade that `call` begins, which is about `sense`, with the name of its route: if it names such a route or comes
    /// to it.
    pub fn cascade(&self, call: &Call, sense: &Sense) -> Option<(&config::Cascade, &str)> {
        let name = match self.name_of(call) {
            name if self.is_auto(name) => virtuals::serving(sense.purpose.as_deref(), call.quality_tier.as_deref()),
            name => name,
        };
        let (name, route) = self.routes.get_key_value(name).filter(|_| may_begin(call))?;
        Some((route.settings.cascade.as_ref()?, name))
    }

    /// How many pictures answer the same request, as the route of `call` says.
    pub fn variants_of(&self, call: &Call) -> Option<u32> {
        self.routes.get(self.name_of(call))?.settings.cache.variants
    }

    /// True if what is asked for decides who serves `name`.
    pub(super) fn is_auto(&self, name: &str) -> bool {
        name == AUTO && !self.routes.contains_key(AUTO)
    }
}

/// True if `call` may begin with a draft: it belongs to nothing that has begun, and asks for a picture.
fn may_begin(call: &Call) -> bool {
    call.leg.is_none()
        && call.request.template.is_none()
        && matches!(call.request.operation, Operation::Generate | Operation::Edit)
}
