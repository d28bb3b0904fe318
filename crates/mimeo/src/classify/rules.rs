//! The operator's rules, ready to be held against requests.

use super::words::Words;
use crate::config::classifier::{Rule, When};
use crate::domain::{Call, Size};

/// The rules, in their order.
#[derive(Clone, Debug)]
pub(super) struct Rules(Vec<Ready>);

#[derive(Clone, Debug)]
struct Ready {
    title: String,
    rule: Rule,
    phrases: Vec<Phrase>,
}

impl Rules {
    /// Makes `rules` ready.
    ///
    /// # Errors
    /// Every phrase that nothing can match, with what to do.
    pub(super) fn new(rules: &[Rule]) -> Result<Rules, Vec<String>> {
        let mut faults = Vec::new();
        let mut ready = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            let title = rule.title(place);
            let mut phrases = Vec::new();
            for text in &rule.when.prompt_matches {
                match Phrase::new(text) {
                    Some(phrase) => phrases.push(phrase),
                    None => faults.push(format!(
                        "{title}: when.prompt_matches: `{text}` has no word of two or more letters to look for"
                    )),
                }
            }
            ready.push(Ready { title, rule: rule.clone(), phrases });
        }
        if faults.is_empty() { Ok(Rules(ready)) } else { Err(faults) }
    }

    /// The first rule that is about `call`, with what it is called.
    pub(super) fn matching(&self, call: &Call) -> Option<(&str, &Rule)> {
        if self.0.is_empty() {
            return None;
        }
        let words = Words::of(&call.request.prompt);
        let words: Vec<&str> = words.iter().collect();
        let found = self.0.iter().find(|ready| {
            let says = ready.phrases.is_empty() || ready.phrases.iter().any(|phrase| phrase.is_in(&words));
            says && holds(&ready.rule.when, call)
        });
        found.map(|ready| (ready.title.as_str(), &ready.rule))
    }
}

/// Whether all that is said besides the prompt holds.
fn holds(when: &When, call: &Call) -> bool {
    let When { prompt_matches: _, min_pixels, max_pixels, purpose, category, model, key, tenant, reference, metadata } =
        when;
    let pixels = match call.request.size {
        Size::Exact(width, height) => Some(u64::from(width) * u64::from(height)),
        Size::Auto => None,
    };
    let same = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
    min_pixels.is_none_or(|least| pixels.is_some_and(|pixels| pixels >= least))
        && max_pixels.is_none_or(|most| pixels.is_some_and(|pixels| pixels <= most))
        && same(purpose, call.purpose.as_deref())
        && same(category, call.category.as_deref())
        && same(model, call.model.as_deref())
        && same(key, Some(&call.caller.key))
        && same(tenant, Some(&call.caller.tenant))
        && reference.is_none_or(|reference| reference != call.request.inputs.is_empty())
        && metadata.iter().all(|(name, value)| call.metadata.get(name) == Some(value))
}

/// Words that stand side by side.
#[derive(Clone, Debug)]
struct Phrase(Vec<Pattern>);

impl Phrase {
    fn new(text: &str) -> Option<Phrase> {
        let words: Vec<Pattern> = Words::of_pattern(text).iter().map(Pattern::new).collect();
        let says_something = words.iter().any(|word| word.0.iter().any(|piece| !piece.is_empty()));
        says_something.then_some(Phrase(words))
    }

    fn is_in(&self, words: &[&str]) -> bool {
        words.windows(self.0.len()).any(|window| self.0.iter().zip(window).all(|(pattern, word)| pattern.is(word)))
    }
}

/// What stands between the `*` of a word.
#[derive(Clone, Debug)]
struct Pattern(Vec<String>);

impl Pattern {
    fn new(word: &str) -> Pattern {
        Pattern(word.split('*').map(str::to_owned).collect())
    }

    fn is(&self, word: &str) -> bool {
        let [first, between @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|whole| whole == word);
        };
        let Some(rest) = word.strip_prefix(first.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
        // The first place of each is the one that leaves most for those after it.
        for piece in between {
            match rest.split_once(piece.as_str()) {
                Some((_, after)) => rest = after,
                None if piece.is_empty() => {}
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::call;
    use super::*;

    fn matches(when: &str, call: &Call) -> bool {
        let rule: Rule = toml::from_str(&format!("category = 'x'\nwhen = {{ {when} }}")).unwrap();
        Rules::new(&[rule]).unwrap().matching(call).is_some()
    }

    #[test]
    fn phrases_and_stars() {
        for (pattern, prompt, expected) in [
            ("glass bottle", "A GLASS bottle on white", true),
            ("glass bottle", "a glass, bottle-green", true),
            ("glass bottle", "a glass water bottle", false),
            ("bottle*", "bottles", true),
            ("*flasche", "eine Glasflasche", true),
            ("*flasche", "Flaschenpost", false),
            ("b*tt*e", "a bottle", true),
            ("b*tt*e", "a battery", false),
            ("a*b*b", "ab", false),
            ("ab*ba", "aba", false),
            ("t-shirt", "my T-Shirt", true),
            ("straße", "STRAßE", true),
        ] {
            assert_eq!(
                matches(&format!("prompt_matches = ['{pattern}']"), &call(prompt)),
                expected,
                "{pattern}: {prompt}"
            );
        }
        for nothing in ["", "*", "**", "x", "- !"] {
            let rule =
                Rule { when: When { prompt_matches: vec![nothing.into()], ..When::default() }, ..Rule::default() };
            assert!(Rules::new(&[rule]).unwrap_err()[0].contains("two or more letters"), "{nothing:?}");
        }
    }

    #[test]
    fn all_that_is_said_must_hold() {
        let mut small = call("a kite");
        small.request.size = Size::Exact(100, 100);
        small.metadata.insert("shop".into(), "toys".into());
        small.purpose = Some("tile".into());
        for (when, expected) in [
            ("max_pixels = 10000", true),
            ("max_pixels = 9999", false),
            ("min_pixels = 10000, max_pixels = 20000, purpose = 'tile'", true),
            ("purpose = 'hero'", false),
            ("prompt_matches = ['kite', 'plane']", true),
            ("prompt_matches = ['plane'], max_pixels = 10000", false),
            ("metadata = { shop = 'toys' }", true),
            ("metadata = { shop = 'toys', colour = 'red' }", false),
            ("key = 'local'", true),
            ("tenant = 'acme'", false),
            ("reference = false", true),
            ("reference = true", false),
            ("model = 'auto'", false),
        ] {
            assert_eq!(matches(when, &small), expected, "{when}");
        }
        assert!(!matches("min_pixels = 1", &call("a kite")), "nobody knows how many pixels `auto` is");
    }

    #[test]
    fn the_first_one_counts() {
        let rule = |name: &str, key: &str| -> Rule {
            toml::from_str(&format!("name = '{name}'\nsteps = 7\nwhen = {{ key = '{key}' }}")).unwrap()
        };
        let rules = Rules::new(&[rule("other", "web"), rule("first", "local"), rule("second", "local")]).unwrap();
        assert_eq!(rules.matching(&call("a kite")).map(|(title, _)| title), Some("first"));
    }
}
