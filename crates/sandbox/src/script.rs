//! Which faults meet which request: the directives of its prompt, then the first script entry that matches it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::fault::{Directive, Fault, UnknownFault, directives};

/// One entry of the script that `POST /control/faults` appends to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What happens to the request: one fault, or several that combine.
    pub fault: OneOrMany,
    /// Only requests whose prompt contains this text.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<String>,
    /// How many requests meet this entry, 1 if omitted.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// A fault or a list of faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// A single fault.
    One(Fault),
    /// Faults that combine, in order.
    Many(Vec<Fault>),
}

/// What will happen to one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Extra time before the answer, on top of the sandbox's own latency.
    pub latency: Duration,
    /// Time between the pieces of the body.
    pub trickle: Option<Duration>,
    /// The least size of each picture, in bytes.
    pub bytes: Option<usize>,
    /// Whether the addresses of the pictures have run out.
    pub expired: bool,
    /// How many fetches of each picture come too early.
    pub lag: u32,
    /// Whether one poll answers a status that nobody knows.
    pub odd: bool,
    /// What the first poll answers instead.
    pub poll_fail: Option<StatusCode>,
    /// What goes wrong, if anything does.
    pub outcome: Option<Fault>,
}

impl Plan {
    fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::Latency(time) => self.latency += time,
            Fault::Trickle(time) => self.trickle = Some(time),
            Fault::Bytes(bytes) => self.bytes = Some(bytes),
            Fault::ExpiredUrl => self.expired = true,
            Fault::Lag(fetches) => self.lag = fetches,
            Fault::OddStatus => self.odd = true,
            Fault::PollFail(status) => self.poll_fail = Some(status),
            // The first one decides, so that `[[fail=503*2]][[refuse]]` is refused on the third try.
            outcome => self.outcome = self.outcome.take().or(Some(outcome)),
        }
    }
}

/// The faults that wait for requests.
#[derive(Debug, Default)]
pub(crate) struct Script {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    /// How often each prompt with a counted directive was seen.
    seen: HashMap<blake3::Hash, u32>,
}

impl Script {
    /// Decides what happens to the next request with this prompt, using up what is counted.
    pub(crate) fn plan(&self, prompt: &str) -> Result<Plan, UnknownFault> {
        let found = directives(prompt)?;
        let mut plan = Plan::default();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = if found.iter().any(|directive| directive.times.is_some()) {
            match state.seen.entry(blake3::hash(prompt.as_bytes())) {
                Slot::Vacant(slot) => *slot.insert(1) - 1,
                Slot::Occupied(mut slot) => {
                    *slot.get_mut() += 1;
                    slot.get() - 1
                }
            }
        } else {
            0
        };
        for Directive { fault, times } in found {
            if times.is_none_or(|times| earlier < times) {
                plan.apply(fault);
            }
        }
        let matches = |entry: &Entry| entry.matching.as_ref().is_none_or(|text| prompt.contains(text.as_str()));
        if let Some(index) = state.entries.iter().position(matches) {
            let faults = match &state.entries[index].fault {
                OneOrMany::One(fault) => vec![fault.clone()],
                OneOrMany::Many(faults) => faults.clone(),
            };
            faults.into_iter().for_each(|fault| plan.apply(fault));
            state.entries[index].times -= 1;
            if state.entries[index].times == 0 {
                state.entries.remove(index);
            }
        }
        Ok(plan)
    }

    /// Appends entries; those for no request at all are dropped.
    pub(crate) fn append(&self, entries: Vec<Entry>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.entries.extend(entries.into_iter().filter(|entry| entry.times > 0));
    }

    /// Forgets the script and how often prompts were seen.
    pub(crate) fn clear(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// The entries that still wait.
    pub(crate) fn waiting(&self) -> Vec<Entry> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).entries.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(script: &Script, prompt: &str) -> Option<String> {
        script.plan(prompt).unwrap().outcome.map(|fault| fault.to_string())
    }

    #[test]
    fn counted_directives_end() {
        let script = Script::default();
        let prompt = "[[fail=503*2]][[refuse*3]][[latency=5]]";
        let outcomes: Vec<_> = (0..4).map(|_| outcome(&script, prompt)).collect();
        let expected = [Some("fail=503"), Some("fail=503"), Some("refuse"), None].map(|o| o.map(str::to_owned));
        assert_eq!(outcomes, expected);
        assert_eq!(outcome(&script, "[[fail=503*2]] another").as_deref(), Some("fail=503"));
        assert_eq!(script.plan(prompt).unwrap().latency, Duration::from_millis(5));
    }

    #[test]
    fn the_script_is_consumed_in_order_by_matching_requests() {
        let script = Script::default();
        let entries = r#"[{"fault":"hang","match":"kite","times":2},{"fault":["latency=7","quota"]}]"#;
        script.append(serde_json::from_str(entries).unwrap());
        assert_eq!(outcome(&script, "a red kite").as_deref(), Some("hang"));
        let plan = script.plan("a boat").unwrap();
        assert_eq!((plan.latency.as_millis(), plan.outcome), (7, Some(Fault::Quota)));
        assert_eq!(outcome(&script, "a boat"), None);
        assert_eq!(script.waiting().len(), 1);
        script.clear();
        assert_eq!(outcome(&script, "a red kite"), None);
    }
}
