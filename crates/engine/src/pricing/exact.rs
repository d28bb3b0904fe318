//! Which prices leave nothing open, so that a bill must be what they say.

use super::{ImageRate, Prices, Rates, Wanted};
use crate::domain::Size;

impl Prices {
    /// True if [`Prices::expected`] is what a call costs that gets all its pictures, and no bound: nothing that the
    /// price depends on is left to the model, and nothing is counted only when it is done. `wanted.steps` must be those
    /// that are really taken.
    pub fn is_exact(&self, wanted: &Wanted<'_>) -> bool {
        match &self.rates {
            Rates::Image(rows) => rows.iter().all(|row| is_settled(row, wanted)),
            Rates::Credit(rate) => {
                let rows = rate.rows();
                !rows.is_empty() && rows.iter().all(|row| is_settled(row, wanted))
            }
            Rates::Megapixel(rate) => {
                wanted.size != Size::Auto && (rate.steps_included.is_none() || wanted.steps.is_some())
            }
            Rates::Step(rate) => {
                let needs_area = rate.area.is_some() || rate.tile.is_some();
                wanted.steps.is_some() && (wanted.size != Size::Auto || !needs_area)
            }
            Rates::Tokens(_) | Rates::Second(_) => false,
        }
    }
}

/// True if whether a row holds does not depend on what the model chooses.
fn is_settled(row: &ImageRate, wanted: &Wanted<'_>) -> bool {
    (wanted.size != Size::Auto || (row.size.is_none() && row.max_pixels.is_none()))
        && (wanted.quality.is_some() || row.quality.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(size: Size, quality: Option<&'static str>, steps: Option<u32>) -> Wanted<'static> {
        Wanted { size, quality, output_format: None, text_bytes: 9, inputs: &[], steps, n: 2, partials: 0 }
    }

    #[test]
    fn what_is_left_open_is_not_exact() {
        let prices = |rates: &str| -> Prices {
            toml::from_str(&format!("certainty = 'verified'\nsource = 'x'\nrates = {rates}")).unwrap()
        };
        let sized = Size::Exact(64, 64);
        let (all, no_size) = (wanted(sized, Some("low"), Some(9)), wanted(Size::Auto, Some("low"), Some(9)));
        let (no_quality, no_steps) = (wanted(sized, None, Some(9)), wanted(sized, Some("low"), None));
        let tokens = "{ tokens = { text_input = '0', image_input = '0', image_output = '0.1', input_picture_tokens = 1, \
                      auto_sizes = ['64x64'], output = { table = [{ size = '64x64', quality = 'low', tokens = 9 }] } } }";
        for (rates, expected) in [
            ("{ image = [{ usd = '1' }] }", [true, true, true, true]),
            ("{ image = [{ usd = '1' }, { usd = '2', quality = 'low' }] }", [true, true, false, true]),
            ("{ image = [{ usd = '1', size = '64x64' }] }", [true, false, true, true]),
            ("{ image = [{ usd = '1', max_pixels = 9 }] }", [true, false, true, true]),
            ("{ credit = { usd = '1', image = [{ credits = '2', quality = 'low' }] } }", [true, true, false, true]),
            ("{ credit = { usd = '1' } }", [false; 4]),
            ("{ megapixel = { usd = '1', auto_pixels = 9 } }", [true, false, true, true]),
            ("{ megapixel = { usd = '1', steps_included = 5 } }", [true, false, true, false]),
            ("{ step = { usd = '1' } }", [true, true, true, false]),
            ("{ step = { usd = '1', area = 9 } }", [true, false, true, false]),
            ("{ second = { usd = '1', most_s = 9 } }", [false; 4]),
            (tokens, [false; 4]),
        ] {
            let found = [all, no_size, no_quality, no_steps].map(|wanted| prices(rates).is_exact(&wanted));
            assert_eq!(found, expected, "{rates}");
        }
    }
}
