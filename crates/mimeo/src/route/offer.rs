//! A model that a route may ask, and what it makes of a request.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Candidate, DropReason, Maker, fortune, trim};
use crate::classify::Reading;
use crate::config;
use crate::domain::{Call, Operation};
use crate::pricing::Prices;
use crate::providers::{self, Misfit};

/// A model that a route may ask. Made once, not for each request.
#[derive(Debug)]
pub(super) struct Offer {
    /// The model.
    pub(super) candidate: providers::Candidate,
    /// What the route says of it.
    pub(super) choice: Arc<config::Choice>,
    /// As people name it.
    pub(super) name: String,
    /// What it is for the cache: see [`Candidate::identity`].
    identity: String,
}

impl Offer {
    pub(super) fn new(candidate: providers::Candidate, choice: config::Choice) -> Offer {
        let record = &candidate.provider.record;
        let origin = if record.open_models { &candidate.provider.name } else { &record.name };
        let identity = format!("{origin}/{}", candidate.model.id);
        Offer { name: name_of(&candidate), identity, choice: Arc::new(choice), candidate }
    }

    /// True if it depends on the category of a picture whether it is asked.
    pub(super) fn is_picky(&self) -> bool {
        !self.choice.only.is_empty() || !self.choice.except.is_empty()
    }

    /// Why its route does not want it for this category; `None` as a category is that nobody knows it.
    pub(super) fn kept_from(&self, category: Option<&str>) -> Option<DropReason> {
        let config::Choice { except, only, .. } = self.choice.as_ref();
        let among = |list: &[String]| category.filter(|category| list.iter().any(|listed| listed == category));
        if let Some(category) = among(except) {
            return Some(DropReason::Category(category.to_owned()));
        }
        (!only.is_empty() && among(only).is_none()).then(|| DropReason::OtherThan(only.clone()))
    }

    /// The candidate for `call`, with the request as it takes it. A quality or a number of steps that its route names
    /// counts unless the caller names one. Where `may_trim`, filler words are taken out if that is cheaper.
    ///
    /// # Errors
    /// It cannot make what is asked for.
    pub(super) fn fit(
        &self,
        call: &Call,
        tier: Option<&str>,
        may_trim: bool,
        reading: Option<&Reading>,
    ) -> Result<Candidate, Misfit> {
        let Offer { candidate, choice, name, identity } = self;
        let model = &candidate.model;
        // All of them is what a model does by itself.
        let saving = reading.filter(|reading| reading.steps.is_some() || reading.share() < 1.0);
        let needed = saving.zip(model.steps).map(|(reading, bounds)| reading.steps(bounds, model.usual_steps()));
        let steps = choice.steps.or(needed).filter(|_| call.request.steps.is_none());
        let named = candidate.quality.as_deref().filter(|_| call.quality_tier.is_none());
        let needed = reading.filter(|_| tier.is_none()).and_then(|reading| reading.quality(&model.qualities));
        let quality = named.or(needed).filter(|_| call.request.quality.is_none());
        let seed = call.leg.and_then(|leg| leg.seed).filter(|_| model.seed && call.request.seed.is_none());
        let mut request = Cow::Borrowed(&call.request);
        if may_trim
            && self.pays_for_text(call)
            && let Cow::Owned(prompt) = trim::trim(&call.request.prompt)
        {
            request.to_mut().prompt = prompt;
        }
        if steps.is_some() {
            request.to_mut().steps = steps;
        }
        if seed.is_some() {
            request.to_mut().seed = seed;
        }
        if let Some(quality) = quality {
            request.to_mut().quality = Some(quality.to_owned());
        }
        let fitted = model.fit(&request, &call.unknown, tier.filter(|_| quality.is_none()))?;
        Ok(Candidate {
            name: name.clone(),
            identity: identity.clone(),
            maker: Maker::Provider(Arc::clone(&candidate.provider), Arc::clone(&model.model)),
            renamed_from: model.renamed_from.clone(),
            choice: Arc::clone(choice),
            rating: choice.rating.or_else(|| model.rating(fitted.request.quality.as_deref())),
            target: fitted.target,
            request: fitted.request,
        })
    }

    /// True if a shorter prompt is a cheaper one. Instructions for an edit stay as they are: in “make me taller” no word
    /// is filler.
    fn pays_for_text(&self, call: &Call) -> bool {
        let prices = self.candidate.model.prices.as_ref();
        call.request.operation == Operation::Generate && prices.is_some_and(Prices::counts_text)
    }
}

/// The one of `offers` that this request is dealt to, if it is dealt to one of those with a share: what these leave of a
/// hundred is for those without. What is asked for decides, so that the same request always goes the same way.
pub(super) fn dealt<'a>(
    route: &str,
    call: &Call,
    offers: &(impl IntoIterator<Item = &'a Offer> + Clone),
) -> Option<&'a Offer> {
    let shares = || offers.clone().into_iter().filter_map(|offer| Some((offer, u64::from(offer.choice.share?))));
    let mut left = fortune(route, call) % 100;
    shares()
        .find(|(_, share)| {
            let is_it = left < *share;
            left = left.saturating_sub(*share);
            is_it
        })
        .map(|(offer, _)| offer)
}

/// A candidate as people name it: `provider/model` or `provider/model@quality`.
pub fn name_of(choice: &providers::Candidate) -> String {
    let quality = choice.quality.as_ref().map(|quality| format!("@{quality}")).unwrap_or_default();
    format!("{}/{}{quality}", choice.provider.name, choice.model.id)
}
