//! Named places at which a test may kill, stop, delay or fail the process, to see what is left of it.
//!
//! `failpoint!("room::name")` is nothing at all unless the cargo feature `failpoints` is on, and only the
//! crate's own dev-dependencies turn that on: what `cargo test` builds has the places, what `cargo build`
//! builds does not. A test says what is to happen in the environment of the process:
//!
//! ```text
//! MIMEO_FAILPOINTS="attempt::after_intent=kill,store::after_blob=stop@2"
//! ```
//!
//! | action | |
//! |---|---|
//! | `kill` | the process ends at once, as by `kill -9` |
//! | `stop` | the process stands still, as by `kill -STOP`, until it is continued or killed |
//! | `sleep:MS` | the thread sleeps so many milliseconds |
//! | `error` | the place returns its error, if it has one: `failpoint!("room::name", error)` |
//!
//! `@N` after an action: only the N-th time that the place is passed, counted from 1. Without it: every time.

/// Every place, in the order in which a request passes them. `tests/it/layers.rs` holds it against the sources.
pub const NAMES: &[&str] = &[
    "attempt::before_intent",
    "attempt::after_intent",
    "attempt::after_accepted",
    "attempt::after_answer",
    "attempt::after_admit",
    "store::before_blob",
    "store::after_blob",
    "store::after_settle",
    "flight::before_publish",
    "store::after_drop",
    "store::after_delete",
];

/// Passes the named place; with a second argument, an `error` action makes the function return it as `Err`.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::failpoint::pass($name, false);
    };
    ($name:literal, $error:expr) => {
        #[cfg(feature = "failpoints")]
        if $crate::failpoint::pass($name, true) {
            return Err($error);
        }
    };
}
pub(crate) use failpoint;

#[cfg(feature = "failpoints")]
pub(crate) use armed::pass;

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};

    use super::NAMES;

    /// What is to happen.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Kill,
        Stop,
        Sleep(Duration),
        Error,
    }

    /// One entry of the script.
    #[derive(Debug)]
    struct Entry {
        name: String,
        action: Action,
        only: Option<u64>,
        passed: AtomicU64,
    }

    /// Does what the script says for this place. True if the place is to return its error.
    pub(crate) fn pass(name: &str, can_fail: bool) -> bool {
        static SCRIPT: OnceLock<Vec<Entry>> = OnceLock::new();
        // Only `config` reads the environment, and a release does not read this one: it exists in tests only, which
        // must reach places that know nothing of any configuration.
        let script = SCRIPT.get_or_init(|| {
            let text = std::env::var("MIMEO_FAILPOINTS").unwrap_or_default();
            // A test whose script does nothing would pass for the wrong reason.
            parse(&text).unwrap_or_else(|fault| die(&format!("MIMEO_FAILPOINTS: {fault}")))
        });
        let Some(action) = due(script, name) else { return false };
        eprintln!("failpoint {name}: {action:?}");
        match action {
            // To this very thread, so that not even this one runs on.
            Action::Kill => _ = raise(Signal::SIGKILL),
            Action::Stop => _ = raise(Signal::SIGSTOP),
            Action::Sleep(time) => std::thread::sleep(time),
            Action::Error if can_fail => return true,
            Action::Error => die(&format!("MIMEO_FAILPOINTS: {name} has no error to return")),
        }
        false
    }

    fn die(why: &str) -> ! {
        eprintln!("error: {why}");
        std::process::abort()
    }

    /// What happens at this passing of `name`.
    fn due(script: &[Entry], name: &str) -> Option<Action> {
        let entry = script.iter().find(|entry| entry.name == name)?;
        let turn = entry.passed.fetch_add(1, Ordering::SeqCst) + 1;
        entry.only.is_none_or(|only| only == turn).then_some(entry.action)
    }

    fn parse(text: &str) -> Result<Vec<Entry>, String> {
        text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(entry).collect()
    }

    fn entry(text: &str) -> Result<Entry, String> {
        let (name, what) = text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form place=action"))?;
        if !NAMES.contains(&name) {
            return Err(format!("there is no place `{name}`; there are: {}", NAMES.join(", ")));
        }
        let (action, only) = match what.split_once('@') {
            Some((action, turn)) => (action, Some(turn.parse().map_err(|_| format!("`{turn}` is not a number"))?)),
            None => (what, None),
        };
        let action = match (action, action.strip_prefix("sleep:").map(str::parse)) {
            ("kill", _) => Action::Kill,
            ("stop", _) => Action::Stop,
            ("error", _) => Action::Error,
            (_, Some(Ok(milliseconds))) => Action::Sleep(Duration::from_millis(milliseconds)),
            _ => return Err(format!("`{action}` is not kill, stop, sleep:MS or error")),
        };
        Ok(Entry { name: name.to_owned(), action, only, passed: AtomicU64::new(0) })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn scripts_say_what_happens_when() {
            let script = parse("attempt::after_intent=kill@2, store::after_blob=sleep:20,").unwrap();
            let turns: Vec<_> = (0..3).map(|_| due(&script, "attempt::after_intent")).collect();
            assert_eq!(turns, [None, Some(Action::Kill), None]);
            for _ in 0..2 {
                assert_eq!(due(&script, "store::after_blob"), Some(Action::Sleep(Duration::from_millis(20))));
            }
            assert_eq!(due(&script, "store::after_settle"), None);
        }

        #[test]
        fn a_mistyped_script_is_refused() {
            for text in [
                "attempt::after_intent",
                "attempt::nowhere=kill",
                "store::after_blob=die",
                "store::after_blob=sleep:x",
                "store::after_blob=kill@soon",
            ] {
                assert!(parse(text).is_err(), "{text}");
            }
        }
    }
}
