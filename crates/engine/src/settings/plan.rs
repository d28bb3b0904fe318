//! What an account has beside the price per picture: a plan that was bought, and what is free of charge.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Period;
use crate::domain::{Certainty, Usd};

/// A plan of an account: its fee, and what it includes. What is included and not used does not roll over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// Its name as the provider writes it.
    pub title: Option<String>,
    /// US dollars per month, whether pictures are made or not.
    pub fee_usd: Option<Usd>,
    /// What can be had without paying for it each time.
    pub included: Vec<Included>,
    /// The day on which this was read, `YYYY-MM-DD`.
    #[schemars(with = "Option<String>")]
    pub as_of: Option<Date>,
    /// How sure it is; in a record only.
    pub certainty: Option<Certainty>,
    /// Address of the page.
    pub source: Option<String>,
}

/// Pictures, or money's worth of them, that a plan includes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Included {
    /// How many pictures, whatever each would cost; this or `usd`.
    pub pictures: Option<u32>,
    /// Pictures that would cost so many US dollars; this or `pictures`. Credits count as what they are worth.
    pub usd: Option<Usd>,
    /// How often this is there anew. Periods begin at midnight UTC; `total` is once and never again.
    pub per: Period,
    /// True if it was bought with the fee; false if every account has it free of charge.
    #[serde(default)]
    pub paid: bool,
}

impl Plan {
    /// The part of it that costs nothing: what an account has that bought no plan. `None` if that is nothing.
    pub fn free_part(&self) -> Option<Plan> {
        let included: Vec<Included> = self.included.iter().filter(|included| !included.paid).cloned().collect();
        (!included.is_empty()).then(|| Plan { fee_usd: None, included, ..self.clone() })
    }

    /// What is contradictory in this plan, if anything.
    pub fn fault(&self) -> Option<String> {
        if self.fee_usd.is_some_and(|fee| fee < Usd::ZERO) {
            return Some("plan.fee_usd is negative; write what the plan costs per month".to_owned());
        }
        for included in &self.included {
            if included.pictures.is_some() == included.usd.is_some() {
                return Some("plan.included says how much: either pictures or usd".to_owned());
            }
            if included.pictures == Some(0) || included.usd.is_some_and(|usd| usd <= Usd::ZERO) {
                return Some("plan.included: what is included must be more than nothing; leave it out".to_owned());
            }
            if included.paid && self.fee_usd.is_none() {
                return Some("plan.included has paid = true, but plan.fee_usd does not say what was paid".to_owned());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_is_free_is_there_without_the_plan() {
        let both = "fee_usd = \"49\"\n[[included]]\npictures = 1000\nper = \"month\"\npaid = true\n\
                    [[included]]\nusd = \"0.11\"\nper = \"day\"";
        let free = plan(both).free_part().unwrap();
        assert_eq!(free.fee_usd, None);
        assert_eq!(
            free.included,
            [Included { pictures: None, usd: "0.11".parse().ok(), per: Period::Day, paid: false }]
        );
        let bought = "fee_usd = \"49\"\n[[included]]\npictures = 1000\nper = \"month\"\npaid = true";
        assert_eq!(plan(bought).free_part(), None);
    }

    #[test]
    fn contradictions_are_named() {
        for (text, says) in [
            ("fee_usd = \"-1\"", "negative"),
            ("[[included]]\nper = \"day\"", "either pictures or usd"),
            ("[[included]]\nper = \"day\"\npictures = 1\nusd = \"1\"", "either pictures or usd"),
            ("[[included]]\nper = \"day\"\npictures = 0", "more than nothing"),
            ("[[included]]\nper = \"month\"\npictures = 9\npaid = true", "fee_usd"),
        ] {
            assert!(plan(text).fault().unwrap().contains(says), "{text}");
        }
        assert_eq!(plan("fee_usd = \"5\"\n[[included]]\nper = \"month\"\npictures = 9\npaid = true").fault(), None);
        assert!(toml::from_str::<Plan>("rollover = true").is_err());
    }
}
