//! What is told of each candidate: why it was kept or dropped, what it would cost and how long it would take.

use super::{Candidate, DropReason, Maker, Plan};
use crate::domain::{Considered, Price, Reason, Seconds, Size, Target, Verdict};

impl Plan {
    /// All candidates as they are seen before anything is done: those that are kept in the order in which they are
    /// tried, then the others. `n` is how many pictures are asked for, `partials` how many unfinished ones are
    /// streamed for each.
    pub fn considered(&self, n: u32, partials: u8) -> Vec<Considered> {
        let kept = (1..).zip(&self.candidates).map(|(rank, candidate)| candidate.considered(rank, n, partials));
        kept.chain(self.unfit()).collect()
    }

    /// Those that cannot serve the request, whatever is known of them.
    pub fn unfit(&self) -> impl Iterator<Item = Considered> {
        self.dropped.iter().map(|(name, reason)| reason.considered(name))
    }
}

impl Candidate {
    fn considered(&self, rank: u32, n: u32, partials: u8) -> Considered {
        let (bound, typical) = match &self.maker {
            Maker::Provider(_, model) => {
                // As few calls as may be; what is reserved may be split otherwise, if that is cheaper.
                let each = n.min(model.max_n.max(1)).max(1);
                let whole = model.expected(&self.request, each, partials).times(n / each);
                let rest = if n.is_multiple_of(each) {
                    Price::FREE
                } else {
                    model.expected(&self.request, n % each, partials)
                };
                (whole.plus(rest), model.typical_latency(self.request.quality.as_deref()))
            }
            Maker::Template => (Price::FREE, None),
        };
        Considered {
            name: self.name.clone(),
            rank: Some(rank),
            verdict: Verdict::Kept,
            reason: None,
            notes: self.remarks(),
            expected: bound,
            bound,
            seconds: typical.map(|typical| {
                let p50 = typical.as_secs_f64();
                Seconds { p50, p95: p50, evidence: 0.0 }
            }),
            quality: None,
            score: None,
        }
    }

    /// What is to be known of it besides its price, time and quality.
    pub fn remarks(&self) -> Vec<String> {
        let renamed = self.renamed_from.as_ref().map(|old| format!("in place of {old}"));
        // What the classifier chose is nowhere else to be seen.
        let quality = self.request.quality.as_ref().filter(|_| !self.name.contains('@'));
        let quality = quality.map(|quality| format!("quality {quality}"));
        let steps = self.request.steps.map(|steps| format!("{steps} steps"));
        renamed.into_iter().chain(quality).chain(steps).chain(self.mapped()).collect()
    }

    /// What becomes of a request that its model cannot serve to the letter.
    fn mapped(&self) -> Option<String> {
        let Target { size, format } = self.target?;
        let size = size.map(|(width, height)| {
            let own =
                if self.request.size == Size::Auto { "its own size".to_owned() } else { self.request.size.to_string() };
            format!("{width}x{height}, of {own}")
        });
        let wanted: Vec<String> = size.into_iter().chain(format.map(|format| format.to_string())).collect();
        Some(format!("pictures are brought to {}", wanted.join(", and to ")))
    }
}

impl DropReason {
    fn considered(&self, name: &str) -> Considered {
        let code = match self {
            DropReason::Unfit(misfit) => misfit.code,
            DropReason::Category(_) | DropReason::OtherThan(_) => "category",
            DropReason::Dealt => "dealt",
        };
        Considered {
            name: name.to_owned(),
            rank: None,
            verdict: Verdict::Dropped,
            reason: Some(Reason { code: code.to_owned(), text: self.to_string() }),
            notes: Vec::new(),
            expected: Price::Unknown,
            bound: Price::Unknown,
            seconds: None,
            quality: None,
            score: None,
        }
    }
}
