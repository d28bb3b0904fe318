//! What a list of prices changes about prices that are known.

use crate::domain::Usd;
use crate::pricing::{ImageRate, MegapixelRate, Prices, Rates, StepRate, TokenRates};

/// What a list says, beside what is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Revision {
    /// The same.
    Same,
    /// Something else.
    Changed(Box<Prices>),
    /// Something so different that it is not believed.
    Doubted(Box<Prices>),
    /// In another unit, or of other sizes and qualities: it cannot be compared.
    Incomparable,
}

/// Compares. What the list does not speak of (formulas, sizes, tiers) stays as it is known; prices that become dearer
/// or cheaper by more than `factor` are doubted.
pub(super) fn revise(known: Option<&Prices>, said: &Prices, factor: u32) -> Revision {
    let Some(known) = known else { return Revision::Changed(Box::new(said.clone())) };
    let mut pairs = Vec::new();
    let Some(rates) = merged(&known.rates, &said.rates, &mut pairs) else { return Revision::Incomparable };
    if pairs.iter().all(|(old, new)| is_same(*old, *new)) {
        return Revision::Same;
    }
    let prices = Box::new(Prices {
        rates,
        as_of: said.as_of,
        from: said.from,
        certainty: said.certainty,
        source: said.source.clone(),
        ..known.clone()
    });
    if pairs.iter().any(|(old, new)| is_doubtful(*old, *new, factor)) {
        return Revision::Doubted(prices);
    }
    Revision::Changed(prices)
}

/// True if they are less than a ten-thousandth apart: lists hold prices that were rounded.
fn is_same(old: Usd, new: Usd) -> bool {
    old == new || (new - old).pico().abs().saturating_mul(10_000) < old.pico().abs()
}

fn is_doubtful(old: Usd, new: Usd, factor: u32) -> bool {
    let (less, more) = (old.min(new), old.max(new));
    old != new && (less <= Usd::ZERO || more > less * i128::from(factor))
}

/// The known rates with what is said of them, and each amount before and after; `None` if none of it is about the same.
fn merged(known: &Rates, said: &Rates, pairs: &mut Vec<(Usd, Usd)>) -> Option<Rates> {
    let mut put = |old: Usd, new: Usd| {
        pairs.push((old, new));
        new
    };
    Some(match (known, said) {
        (Rates::Image(known), Rates::Image(said)) => Rates::Image(rows(known, said, &mut put)?),
        (Rates::Tokens(known), Rates::Tokens(said)) => Rates::Tokens(Box::new(TokenRates {
            text_input: put(known.text_input, said.text_input),
            image_input: put(known.image_input, said.image_input),
            image_output: put(known.image_output, said.image_output),
            text_output: match (known.text_output, said.text_output) {
                (Some(old), Some(new)) => Some(put(old, new)),
                (old, _) => old,
            },
            ..TokenRates::clone(known)
        })),
        (Rates::Megapixel(known), Rates::Megapixel(said)) if known.megapixel == said.megapixel => {
            let mut both = |old: Option<Usd>, new: Option<Usd>| match (old, new) {
                (Some(old), Some(new)) => Some(put(old, new)),
                (old, _) => old,
            };
            Rates::Megapixel(Box::new(MegapixelRate {
                first: both(known.first, said.first),
                input: both(known.input, said.input),
                usd: put(known.usd, said.usd),
                ..MegapixelRate::clone(known)
            }))
        }
        (Rates::Step(known), Rates::Step(said)) if known.area == said.area => {
            Rates::Step(StepRate { usd: put(known.usd, said.usd), ..known.clone() })
        }
        (Rates::Second(known), Rates::Second(said)) => {
            let mut known = known.clone();
            known.usd = put(known.usd, said.usd);
            Rates::Second(known)
        }
        (Rates::Credit(known), Rates::Credit(said)) => {
            let mut known = known.clone();
            known.usd = put(known.usd, said.usd);
            Rates::Credit(known)
        }
        _ => return None,
    })
}

/// The known rows, each with what is said under the same conditions; `None` if nothing is.
fn rows(known: &[ImageRate], said: &[ImageRate], put: &mut impl FnMut(Usd, Usd) -> Usd) -> Option<Vec<ImageRate>> {
    let mut is_about_it = false;
    let merged = known.iter().map(|row| {
        let same = |other: &&ImageRate| ImageRate { usd: row.usd, ..ImageRate::clone(other) } == *row;
        // What is said twice costs the dearer.
        match said.iter().filter(same).max_by_key(|other| other.usd) {
            Some(other) => {
                is_about_it = true;
                ImageRate { usd: put(row.usd, other.usd), ..row.clone() }
            }
            None => row.clone(),
        }
    });
    let merged: Vec<ImageRate> = merged.collect();
    is_about_it.then_some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(rates: &str) -> Prices {
        toml::from_str(&format!("certainty = 'reported'\nsource = 'x'\nrates = {rates}")).unwrap()
    }

    fn rates(revision: Revision) -> Rates {
        match revision {
            Revision::Changed(prices) => prices.rates,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_spoken_of_stays() {
        let known = prices("{ image = [{ usd = '0.01', quality = 'low' }, { usd = '0.04', quality = 'high' }] }");
        let said = prices("{ image = [{ usd = '0.05', quality = 'high' }, { usd = '9', quality = 'ultra' }] }");
        let expected = prices("{ image = [{ usd = '0.01', quality = 'low' }, { usd = '0.05', quality = 'high' }] }");
        assert_eq!(rates(revise(Some(&known), &said, 10)), expected.rates);
        let twice = prices("{ image = [{ usd = '0.02', quality = 'low' }, { usd = '0.03', quality = 'low' }] }");
        let dearer = prices("{ image = [{ usd = '0.03', quality = 'low' }, { usd = '0.04', quality = 'high' }] }");
        assert_eq!(rates(revise(Some(&known), &twice, 10)), dearer.rates);
        let tokens = |output: &str, table: &str| {
            prices(&format!(
                "{{ tokens = {{ text_input = '0.000005', image_input = '0.000008', image_output = '{output}', \
                 input_picture_tokens = 1, auto_sizes = ['64x64'], output = {{ table = [{table}] }} }} }}"
            ))
        };
        let row = "{ size = '64x64', quality = 'low', tokens = 9 }";
        let changed = rates(revise(Some(&tokens("0.00003", row)), &tokens("0.00004", ""), 10));
        assert_eq!(changed, tokens("0.00004", row).rates);
    }

    #[test]
    fn the_same_the_doubtful_and_the_incomparable() {
        let flat = |usd: &str| prices(&format!("{{ image = [{{ usd = '{usd}' }}] }}"));
        assert_eq!(revise(Some(&flat("0.04")), &flat("0.04"), 10), Revision::Same);
        assert!(matches!(revise(Some(&flat("0.04")), &flat("0.4"), 10), Revision::Changed(_)));
        for usd in ["0.41", "0.0039", "0"] {
            assert!(matches!(revise(Some(&flat("0.04")), &flat(usd), 10), Revision::Doubted(_)), "{usd}");
        }
        assert!(matches!(revise(Some(&flat("0")), &flat("0.01"), 10), Revision::Doubted(_)));
        // What nobody knew cannot be dearer than before.
        assert!(matches!(revise(None, &flat("4000"), 10), Revision::Changed(_)));
        for other in ["{ image = [{ usd = '0.04', quality = 'low' }] }", "{ megapixel = { usd = '0.04' } }"] {
            assert_eq!(revise(Some(&flat("0.04")), &prices(other), 10), Revision::Incomparable, "{other}");
        }
    }
}
