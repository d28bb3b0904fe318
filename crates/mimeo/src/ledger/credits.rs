//! Free and prepaid credits of accounts: what their plans include, how much of it is left, and what a call costs while
//! there is some.
//!
//! Each thing that a plan includes is a pot, which is full again at the beginning of its period. A call that is made
//! because a pot pays for it reserves its price there, in the transaction that begins the attempt, as others do in
//! budgets: so a pot is never overrun. Only plans that the operator configured count. What a record says of a vendor's
//! free tier may not hold for an account, and a call that is free by mistake is a bill that no budget knows.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Ledger;
use super::budgets::{begin, end, word};
use crate::clock::{Millis, rfc3339};
use crate::config::{Config, Period};
use crate::domain::{Price, Usd};
use crate::error::{Error, Kind, Result};
use crate::store::{Allowance, BudgetLimit, BudgetUse, Scope};

/// The pots of all accounts.
#[derive(Clone, Debug, Default)]
pub struct Credits(BTreeMap<String, Vec<Pot>>);

/// Something that a plan includes.
#[derive(Clone, Debug)]
struct Pot {
    name: String,
    allowance: Allowance,
    per: Period,
    paid: bool,
}

/// A pot, and what is left in it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// The account that it belongs to.
    pub provider: String,
    /// Its name in the ledger, `ACCOUNT/PERIOD/free/UNIT` or `ACCOUNT/PERIOD/prepaid/UNIT`.
    pub pot: String,
    /// `hour`, `day`, `month` or `total`.
    pub per: &'static str,
    /// What it holds when it is full, in pictures, if it counts those.
    pub limit_pictures: Option<u64>,
    /// What it holds when it is full, in US dollars, if it counts those.
    pub limit_usd: Option<Usd>,
    /// Pictures that are left.
    pub pictures: Option<u64>,
    /// US dollars that are left.
    pub usd: Option<Usd>,
    /// When it is full again (RFC 3339); absent is never. What is left then is lost.
    pub resets_at: Option<String>,
    /// True if it was bought, false if it is free of charge.
    pub paid: bool,
}

impl Left {
    /// True if it pays for `pictures` that would cost `price` together. What nobody knows the price of is covered by
    /// pictures only.
    pub fn covers(&self, price: Price, pictures: u32) -> bool {
        match (self.usd, price) {
            (Some(usd), Price::Known(price)) => price <= usd,
            (Some(_), Price::Unknown) => false,
            (None, _) => self.pictures.is_some_and(|left| u64::from(pictures) <= left),
        }
    }

    /// What is left, in words.
    pub fn words(&self) -> String {
        let kind = if self.paid { "prepaid" } else { "free" };
        let amount = match (self.usd, self.pictures) {
            (Some(usd), _) => format!("${usd}"),
            (None, count) => format!("{} pictures", count.unwrap_or(0)),
        };
        format!("{amount} {kind} left per {}", self.per)
    }
}

/// The pots of an account with so much `left` that can pay for `pictures` which cost `price` together, in the order in which
/// they are used: the free ones first, and of those the one that is lost soonest.
pub fn covering(price: Price, pictures: u32, left: Vec<Left>) -> Vec<Left> {
    let mut covering: Vec<Left> = left.into_iter().filter(|left| left.covers(price, pictures)).collect();
    // A time in RFC 3339 sorts as text; what never resets can wait.
    covering.sort_by_key(|left| (left.paid, left.resets_at.is_none(), left.resets_at.clone()));
    covering
}

impl Credits {
    /// The pots that the plans of `config` include.
    pub fn of(config: &Config) -> Credits {
        let pots = |(name, provider): (&String, &crate::config::Provider)| {
            let included = &provider.plan.as_ref()?.included;
            let pots: Vec<Pot> = included
                .iter()
                .flat_map(|included| {
                    let usd = included.usd.map(|usd| ("usd", Allowance::Usd(usd)));
                    let pictures = included.pictures.map(|n| ("pictures", Allowance::Pictures(u64::from(n))));
                    let kind = if included.paid { "prepaid" } else { "free" };
                    usd.into_iter().chain(pictures).map(move |(unit, allowance)| Pot {
                        name: format!("{name}/{}/{kind}/{unit}", word(included.per)),
                        allowance,
                        per: included.per,
                        paid: included.paid,
                    })
                })
                .collect();
            (!pots.is_empty()).then(|| (name.clone(), pots))
        };
        Credits(config.providers.iter().filter_map(pots).collect())
    }

    /// True if the account has any pot, full or empty.
    pub fn has(&self, account: &str) -> bool {
        self.0.contains_key(account)
    }

    /// What a call out of the pot called `name` must fit in at `now`.
    pub(super) fn limits(&self, name: &str, now: Millis) -> Vec<BudgetLimit> {
        self.0.values().flatten().filter(|pot| pot.name == name).map(|pot| pot.limit(now)).collect()
    }

    /// What a call on `account` that is paid in money must wait for: a limit that nothing overruns, whose lock keeps the
    /// call apart from those that count how much the account's pots have left.
    pub(super) fn gate(&self, account: &str) -> Option<BudgetLimit> {
        self.has(account).then(|| BudgetLimit {
            scope: Scope::Credit,
            name: account.to_owned(),
            allowance: Allowance::Pictures(u64::MAX),
            since_ms: Millis::MAX,
            hard: false,
        })
    }
}

impl Pot {
    fn limit(&self, now: Millis) -> BudgetLimit {
        BudgetLimit {
            scope: Scope::Credit,
            name: self.name.clone(),
            allowance: self.allowance,
            since_ms: begin(self.per, now),
            hard: true,
        }
    }

    fn left(&self, provider: &str, used: BudgetUse, now: Millis) -> Left {
        let mut left = Left {
            provider: provider.to_owned(),
            pot: self.name.clone(),
            per: word(self.per),
            limit_pictures: None,
            limit_usd: None,
            pictures: None,
            usd: None,
            resets_at: end(self.per, now).map(rfc3339),
            paid: self.paid,
        };
        match self.allowance {
            Allowance::Usd(limit) => {
                (left.limit_usd, left.usd) = (Some(limit), Some((limit - used.usd).max(Usd::ZERO)));
            }
            Allowance::Pictures(limit) => {
                (left.limit_pictures, left.pictures) = (Some(limit), Some(limit.saturating_sub(used.pictures)));
            }
        }
        left
    }
}

/// What whoever wanted a call out of `pot` is told when it has too little left.
pub(super) fn spent(pot: &str) -> Error {
    let account = pot.split('/').next().unwrap_or_default();
    Error::new(Kind::OverBudget, format!("The credits {pot} of {account} have too little left for this."))
        .code("credits_spent")
}

impl Ledger {
    /// The pots that there are.
    pub fn credits(&self) -> &Credits {
        &self.credits
    }

    /// What is left of the pots of `account`; empty if its plan includes nothing.
    ///
    /// # Errors
    /// The database fails.
    pub async fn credits_left(&self, account: &str) -> Result<Vec<Left>> {
        let pots = self.credits.0.get(account).map_or(&[] as &[Pot], Vec::as_slice);
        if pots.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let used = self.store.budget_use(pots.iter().map(|pot| pot.limit(now)).collect()).await?;
        Ok(pots.iter().zip(used).map(|(pot, used)| pot.left(account, used, now)).collect())
    }

    /// What is left of all pots.
    ///
    /// # Errors
    /// The database fails.
    pub async fn all_credits_left(&self) -> Result<Vec<Left>> {
        let mut left = Vec::new();
        for account in self.credits.0.keys() {
            left.extend(self.credits_left(account).await?);
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    fn pots(text: &str) -> Vec<Pot> {
        let config: Config = toml::from_str(text).unwrap();
        Credits::of(&config).0.into_values().flatten().collect()
    }

    const PLAN: &str = "[providers.studio.plan]\nfee_usd = '20'\n\
        [[providers.studio.plan.included]]\nusd = '10'\nper = 'month'\npaid = true\n\
        [[providers.studio.plan.included]]\npictures = 3\nper = 'month'\n\
        [[providers.studio.plan.included]]\nusd = '0.5'\nper = 'day'\n";

    fn left(used: &[(&str, u64)]) -> Vec<Left> {
        let now = "2026-11-21T08:46:09Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let uses = used.iter().map(|(spent, pictures)| BudgetUse { usd: usd(spent), pictures: *pictures });
        pots(PLAN).iter().zip(uses).map(|(pot, used)| pot.left("studio", used, now)).collect()
    }

    #[test]
    fn free_goes_before_prepaid_and_what_is_lost_soonest_first() {
        let price = Price::Known(usd("0.04"));
        let pots = |used: &[(&str, u64)], price, n| -> Vec<String> {
            covering(price, n, left(used)).into_iter().map(|left| left.pot).collect()
        };
        let pot = |used: &[(&str, u64)], price, n| pots(used, price, n).into_iter().next();
        let untouched = [("0", 0); 3];
        assert_eq!(pot(&untouched, price, 1).as_deref(), Some("studio/day/free/usd"));
        assert_eq!(pot(&[("0", 0), ("0", 0), ("0.47", 9)], price, 1).as_deref(), Some("studio/month/free/pictures"));
        let drawn = [("0", 0), ("0", 1), ("0.47", 9)];
        assert_eq!(
            pot(&drawn, price, 3).as_deref(),
            Some("studio/month/prepaid/usd"),
            "two of three pictures are left"
        );
        // Who comes too late for one goes on to the next.
        let all = ["studio/day/free/usd", "studio/month/free/pictures", "studio/month/prepaid/usd"];
        assert_eq!(pots(&untouched, price, 1), all);
        assert!(pots(&[("9.97", 0), ("0", 3), ("0.6", 9)], price, 1).is_empty());
        // To the last bit, and not beyond.
        let drained = [("10", 0), ("0", 3), ("0.46", 0)];
        assert_eq!(pot(&drained, price, 1).as_deref(), Some("studio/day/free/usd"));
        assert_eq!(pot(&drained, Price::Known(usd("0.040000000001")), 1), None);
    }

    #[test]
    fn a_price_that_nobody_knows_is_covered_by_pictures_only() {
        let unknown = covering(Price::Unknown, 1, left(&[("0", 0); 3]));
        let [only] = unknown.as_slice() else { panic!("{unknown:?}") };
        assert_eq!(
            (only.pot.as_str(), only.words()),
            ("studio/month/free/pictures", "3 pictures free left per month".into())
        );
        assert!(covering(Price::Unknown, 4, left(&[("0", 0); 3])).is_empty());
    }

    #[test]
    fn what_is_left_says_until_when() {
        let all = left(&[("0", 0); 3]);
        assert_eq!(all[0].resets_at.as_deref(), Some("2026-12-01T00:00:00Z"));
        assert_eq!(all[2].resets_at.as_deref(), Some("2026-11-22T00:00:00Z"));
        assert_eq!((all[1].pictures, all[1].limit_pictures, all[1].usd), (Some(3), Some(3), None));
    }
}
