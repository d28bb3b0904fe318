//! Models that are about to go, announced while there is time to choose another one.

use std::collections::BTreeMap;

use jiff::civil::Date;

use crate::alerts::{Alert, AlertKind};
use crate::clock::Millis;
use crate::config;
use crate::providers::{Registry, Status};

/// Days before the end at which it is announced.
const AHEAD: [i32; 3] = [1, 7, 30];

/// What is to be announced on `today`. Who was not there on the day hears of it on the next, but only of the nearest.
pub(super) fn announcements(
    registry: &Registry,
    routes: &BTreeMap<String, config::Route>,
    today: Date,
    now: Millis,
) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for provider in registry.providers() {
        for model in provider.models() {
            let Status::Retiring { until, successor } = &model.status else { continue };
            let Ok(left) = today.until(*until).map(|span| span.get_days()) else { continue };
            let Some(ahead) = AHEAD.into_iter().find(|ahead| left <= *ahead).filter(|_| left > 0) else { continue };
            let name = format!("{}/{}", provider.name, model.id);
            let leaning = leaning(registry, routes, &provider.name, &model.id);
            let days = if left == 1 { "tomorrow".to_owned() } else { format!("in {left} days") };
            let then = match successor {
                Some(successor) => format!("From then on its requests go to {successor}."),
                None => "No model is named that takes its place.".to_owned(),
            };
            let who = match leaning.as_slice() {
                [] => "No route names it.".to_owned(),
                [one] => format!("The route {one} leans on it."),
                several => format!("The routes {} lean on it.", several.join(", ")),
            };
            alerts.push(Alert {
                kind: AlertKind::ModelRetiring,
                subject: format!("{name} until {until}, {ahead} days"),
                message: format!("{name} is gone {days}, from {until} on. {then} {who} See `mimeo doctor`."),
                at: now,
            });
        }
    }
    alerts
}

/// The routes with a candidate that this model is.
fn leaning(registry: &Registry, routes: &BTreeMap<String, config::Route>, provider: &str, model: &str) -> Vec<String> {
    let is_it = |choice: &config::Choice| {
        let found = registry.resolve(&choice.model);
        found.is_ok_and(|found| found.provider.name == provider && found.model.model.id == model)
    };
    let leaning = routes.iter().filter(|(_, route)| route.candidates.iter().any(is_it));
    leaning.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::providers::Catalogue;

    const STUDIO: &str = "name = 'studio'\ntitle = 'the studio'\nshape = 'openai-images'\nbase_url = 'http://127.0.0.1:9'\n\
        [auth]\nscheme = 'none'\n[wire]\ngenerate = '/draw'\n[fields]\nmodel = 'model'\nprompt = 'prompt'\nn = 'n'\n\
        [[models]]\nid = 'brush-1'\nstatus = { retiring = { until = '2026-12-01', successor = 'brush-2' } }\n\
        [[models]]\nid = 'brush-2'\n\
        [[models]]\nid = 'brush-3'\nstatus = { retiring = { until = '2027-12-01' } }\n";

    fn on(day: &str) -> Vec<(String, String)> {
        let mut catalogue = Catalogue::default();
        catalogue.add(STUDIO, "studio.toml").unwrap();
        let registry = Registry::build(&BTreeMap::new(), &Environment::default(), &catalogue).unwrap();
        let route = |candidates: &[&str]| config::Route {
            candidates: candidates.iter().map(|name| config::Choice::named(name)).collect(),
            ..config::Route::default()
        };
        let routes = BTreeMap::from([
            ("cards".to_owned(), route(&["studio/brush-2", "studio/brush-1"])),
            ("hero".to_owned(), route(&["studio/brush-2"])),
        ]);
        let alerts = announcements(&registry, &routes, day.parse().unwrap(), 7);
        alerts.into_iter().map(|alert| (alert.subject, alert.message)).collect()
    }

    #[test]
    fn it_is_told_thirty_seven_and_one_days_ahead() {
        let stages = [
            ("2026-10-31", None),
            ("2026-11-01", Some("30 days")),
            ("2026-11-20", Some("30 days")),
            ("2026-11-24", Some("7 days")),
            ("2026-11-29", Some("7 days")),
            ("2026-11-30", Some("1 days")),
            ("2026-12-01", None),
            ("2027-03-01", None),
        ];
        for (day, stage) in stages {
            let told: Vec<String> = on(day).into_iter().map(|(subject, _)| subject).collect();
            let expected: Vec<String> =
                stage.iter().map(|stage| format!("studio/brush-1 until 2026-12-01, {stage}")).collect();
            assert_eq!(told, expected, "{day}");
        }
        let told = on("2026-11-30").remove(0).1;
        for part in ["gone tomorrow", "go to brush-2", "The route cards leans on it"] {
            assert!(told.contains(part), "`{part}` is not in: {told}");
        }
        assert!(on("2027-11-25").remove(0).1.contains("No route names it"));
    }
}
