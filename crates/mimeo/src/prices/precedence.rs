//! What goes before what: an operator's own word, a version that begins, and what feeds have said.

use jiff::civil::Date;

use crate::clock::Millis;
use crate::pricing::{Certainty, Prices};
use crate::providers::Model;

/// True if what a feed has said at `since` does not hold against what is listed for `model` on `today`: an operator's own
/// word, or a version that has begun since.
pub(super) fn is_older(since: Millis, model: &Model, today: Date) -> bool {
    let has_begun_since = |prices: &Prices| prices.from.and_then(start_of).is_some_and(|start| start > since);
    is_stated(model, today) || model.prices_on(today, 0).is_some_and(|prices| has_begun_since(&prices))
}

/// True if what is listed for `model` on `today` is the operator's own word.
pub(super) fn is_stated(model: &Model, today: Date) -> bool {
    model.prices_on(today, 0).is_some_and(|prices| prices.certainty == Certainty::Configured)
}

/// When a day begins, in UTC.
pub(super) fn start_of(day: Date) -> Option<Millis> {
    Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::Catalogue;

    fn model(prices: &str) -> Model {
        let mut catalogue = Catalogue::default();
        let record = "name = 'studio'\ntitle = 'the studio'\nshape = 'openai-images'\nbase_url = 'http://127.0.0.1:9'\n\
            [auth]\nscheme = 'none'\n[wire]\ngenerate = '/draw'\n[fields]\nmodel = 'model'\nprompt = 'prompt'\nn = 'n'\n\
            [[models]]\nid = 'brush'\n";
        catalogue.add(&format!("{record}{prices}"), "studio.toml").unwrap();
        catalogue.record("studio").unwrap().models[0].clone()
    }

    #[test]
    fn what_a_feed_has_said_holds_until_a_version_begins() {
        let flat = |certainty: &str, usd: &str| {
            format!("certainty = '{certainty}'\nsource = 'x'\nrates = {{ image = [{{ usd = '{usd}' }}] }}\n")
        };
        let versions = format!(
            "[models.prices]\n{}[[models.price_changes]]\nfrom = '2027-01-01'\n{}",
            flat("verified", "0.04"),
            flat("reported", "0.05")
        );
        let announced = model(&versions);
        let noon = |day: &str| start_of(day.parse().unwrap()).unwrap() + 43_200_000;
        for (said, today, expected) in [
            ("2026-11-21", "2026-12-31", false),
            ("2026-11-21", "2027-01-01", true),
            ("2027-01-01", "2027-01-01", false),
            ("2027-02-01", "2027-03-01", false),
        ] {
            assert_eq!(is_older(noon(said), &announced, today.parse().unwrap()), expected, "{said} on {today}");
        }
        let mut stated = model(&format!("[models.prices]\n{}", flat("verified", "0.04")));
        if let Some(prices) = stated.prices.as_mut() {
            prices.certainty = Certainty::Configured;
        }
        assert!(is_older(noon("2027-02-01"), &stated, "2027-02-01".parse().unwrap()));
    }
}
