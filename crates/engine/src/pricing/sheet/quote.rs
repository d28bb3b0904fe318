//! What a sheet says of one model, and what prices that makes.

use jiff::civil::Date;

use crate::domain::{Certainty, Usd};
use crate::pricing::{CreditRate, ImageRate, MegapixelRate, Prices, Rates, Round, SecondRate, StepRate, TokenRates};

/// What a sheet says of one model. Everything in US dollars, and more than nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quote {
    /// Per picture, by size and quality where the sheet says so.
    pub images: Vec<ImageRate>,
    /// Per token of text sent.
    pub text_input: Option<Usd>,
    /// Per token of a picture sent.
    pub image_input: Option<Usd>,
    /// Per token of text that the model writes.
    pub text_output: Option<Usd>,
    /// Per token of a picture made.
    pub image_output: Option<Usd>,
    /// Per megapixel.
    pub megapixel: Option<PerMegapixel>,
    /// Per sampling step.
    pub step: Option<Usd>,
    /// Per second of work.
    pub second: Option<Usd>,
    /// Per credit of the provider's own money.
    pub credit: Option<Usd>,
}

/// A price per megapixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerMegapixel {
    /// US dollars.
    pub usd: Usd,
    /// How many pixels that is the price of; 1 or more.
    pub pixels: u32,
}

/// Where a quote comes from, for the prices that are made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// How sure it is.
    pub certainty: Certainty,
    /// Its address or file.
    pub source: String,
    /// When it was read.
    pub as_of: Option<Date>,
}

impl Quote {
    /// True if it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Quote::default()
    }

    /// Takes over what `other` says besides.
    pub(super) fn join(&mut self, other: Quote) {
        self.images.extend(other.images);
        let both = |mine: &mut Option<Usd>, theirs: Option<Usd>| *mine = (*mine).max(theirs);
        both(&mut self.text_input, other.text_input);
        both(&mut self.image_input, other.image_input);
        both(&mut self.text_output, other.text_output);
        both(&mut self.image_output, other.image_output);
        both(&mut self.step, other.step);
        both(&mut self.second, other.second);
        both(&mut self.credit, other.credit);
        self.megapixel = self.megapixel.or(other.megapixel);
    }

    /// The prices that this makes, laid over what is known of the model: its unit, its token counts, its rounding, its
    /// discounts and the rates that the sheet is silent about stay.
    ///
    /// # Errors
    /// Why it makes none: it is coarser than what is known, of another unit, or incomplete.
    pub fn prices(&self, known: Option<&Prices>, origin: &Origin) -> Result<Prices, String> {
        let rates = match known {
            Some(known) => self.over(&known.rates)?,
            None => self.alone()?,
        };
        Ok(Prices {
            as_of: origin.as_of,
            from: None,
            certainty: origin.certainty,
            source: origin.source.clone(),
            batch_permille: known.and_then(|known| known.batch_permille),
            tiers: known.map(|known| known.tiers.clone()).unwrap_or_default(),
            rates,
        })
    }

    /// The units that this is in, for messages.
    fn units(&self) -> String {
        let units = [
            (!self.images.is_empty(), "picture"),
            (self.image_output.or(self.text_output).or(self.text_input).or(self.image_input).is_some(), "token"),
            (self.megapixel.is_some(), "megapixel"),
            (self.step.is_some(), "step"),
            (self.second.is_some(), "second"),
            (self.credit.is_some(), "credit"),
        ];
        let named: Vec<&str> = units.into_iter().filter(|(is_there, _)| *is_there).map(|(_, unit)| unit).collect();
        named.join(" and per ")
    }

    fn over(&self, known: &Rates) -> Result<Rates, String> {
        let of = |quoted: Option<Usd>| {
            let unit = known.unit().trim_end_matches('s');
            quoted.ok_or_else(|| {
                format!("it is priced per {}, which cannot be set against the known price per {unit}", self.units())
            })
        };
        Ok(match known {
            Rates::Image(rows) => {
                of(self.images.first().map(|row| row.usd))?;
                let same = |row: &ImageRate| rows.first().is_some_and(|first| first.usd == row.usd);
                let has_steps = !rows.iter().all(same);
                let is_flat = self.images.iter().all(|row| row.size.is_none() && row.quality.is_none());
                if has_steps && is_flat {
                    return Err(
                        "it has one price for every picture, but the price is known to depend on size or quality"
                            .to_owned(),
                    );
                }
                Rates::Image(self.images.clone())
            }
            Rates::Tokens(rates) => Rates::Tokens(Box::new(TokenRates {
                image_output: of(self.image_output)?,
                text_input: self.text_input.unwrap_or(rates.text_input),
                image_input: self.image_input.unwrap_or(rates.image_input),
                text_output: match rates.text_output {
                    // A model that writes no text needs no price for it.
                    None => None,
                    Some(known) => Some(self.text_output.unwrap_or(known)),
                },
                ..TokenRates::clone(rates)
            })),
            Rates::Megapixel(rate) => {
                let usd = of(self.megapixel.map(|quoted| quoted.of(rate.megapixel)))?;
                if rate.first.is_some_and(|first| first != rate.usd) {
                    return Err("it has one price per megapixel, but the first one is known to have its own".to_owned());
                }
                let first = rate.first.map(|_| usd);
                Rates::Megapixel(Box::new(MegapixelRate { usd, first, ..MegapixelRate::clone(rate) }))
            }
            Rates::Step(rate) => Rates::Step(StepRate { usd: of(self.step)?, ..rate.clone() }),
            Rates::Second(rate) => Rates::Second(SecondRate { usd: of(self.second)?, ..rate.clone() }),
            Rates::Credit(rate) => Rates::Credit(CreditRate { usd: of(self.credit)?, ..rate.clone() }),
        })
    }

    fn alone(&self) -> Result<Rates, String> {
        if self.image_output.is_some() && !self.images.is_empty() {
            return Err("it is billed per token, so that its price per picture holds for one size only".to_owned());
        }
        if !self.images.is_empty() {
            return Ok(Rates::Image(self.images.clone()));
        }
        if let Some(PerMegapixel { usd, pixels }) = self.megapixel {
            return Ok(Rates::Megapixel(Box::new(MegapixelRate {
                usd,
                first: None,
                input: None,
                megapixel: pixels,
                round: Round::Exact,
                auto_pixels: None,
                steps_included: None,
            })));
        }
        if let Some(usd) = self.step {
            return Ok(Rates::Step(StepRate { usd, area: None, tile: None }));
        }
        Err(format!("it is priced per {}, and nobody knows how many of these a picture takes", self.units()))
    }
}

impl PerMegapixel {
    /// What `pixels` cost, rounded up to the next pico-dollar.
    fn of(self, pixels: u32) -> Usd {
        let whole = self.usd * i128::from(pixels);
        let each = i128::from(self.pixels.max(1));
        Usd::from_pico(whole.pico().div_euclid(each) + i128::from(whole.pico().rem_euclid(each) > 0))
    }
}
