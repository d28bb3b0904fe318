//! What an operator should know of routes although it is not wrong.

use super::offer::Offer;
use super::{Route, Routes};
use crate::clock::Millis;
use crate::config;
use crate::providers::Status;

impl Routes {
    /// What the operator should know although it is not wrong: routes that nobody can serve as things stand, and models
    /// about to retire.
    pub fn warnings(&self, now: Millis) -> Vec<String> {
        let mut warnings: Vec<String> = self.routes.iter().flat_map(|(name, route)| route.unservable(name)).collect();
        for (route, name, model) in self.routes.iter().flat_map(|(route, settings)| {
            settings.candidates.iter().map(move |offer| (route, &offer.name, &offer.candidate.model))
        }) {
            if let Some(old) = &model.renamed_from {
                warnings.push(format!("routes.{route}: {old} is gone; {name} serves in its place. Name it instead"));
            }
            if let Status::Retiring { until, successor } = &model.status {
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

impl Route {
    /// Why no request, or none for some category, finds anybody who may serve it, as far as the catalogue and the
    /// configuration tell: people's opinions may still lift a candidate above a floor.
    fn unservable(&self, name: &str) -> Vec<String> {
        let config::Route { quality_floor, floors, regions, regions_only, .. } = &*self.settings;
        let rating = |offer: &Offer| {
            let Offer { candidate, choice, .. } = offer;
            choice.rating.or_else(|| candidate.model.rating(candidate.quality.as_deref()))
        };
        // Who has no rating is judged by its price, which nobody knows before.
        let best =
            self.candidates.iter().map(rating).collect::<Option<Vec<u8>>>().and_then(|all| all.into_iter().max());
        let floors = floors.iter().map(|(category, points)| (format!("floors.{category}"), *points));
        let floors = quality_floor.iter().map(|points| ("quality_floor".to_owned(), *points)).chain(floors);
        let too_high = floors.filter_map(|(what, points)| {
            let best = best.filter(|best| *best < points)?;
            Some(format!(
                "routes.{name}: no candidate reaches {what} = {points}: the best is rated {best}. Lower it, name a better \
                 model, or say `rating` of one"
            ))
        });
        let is_near = |offer: &Offer| {
            let region = offer.choice.region.as_ref().or(offer.candidate.provider.region.as_ref());
            region.is_some_and(|region| regions.contains(region))
        };
        let is_nowhere = *regions_only && !self.candidates.iter().any(is_near);
        let nowhere = is_nowhere.then(|| {
            format!(
                "routes.{name}: no candidate is in {}, and regions_only asks nobody else. Say where they are with \
                 `region`",
                regions.join(", ")
            )
        });
        too_high.chain(nowhere).collect()
    }
}
