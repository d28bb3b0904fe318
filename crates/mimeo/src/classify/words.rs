//! What the words of a prompt are: the lists of `words.toml`, looked up phrase by phrase. What they weigh together is
//! decided in `weigh`.
//!
//! The longest phrase that begins at a word counts, then the next word after it is looked at. So `coffee table` is no
//! drink. A long word without an entry is looked up by its end, for languages that glue words together.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::Purpose;
use crate::config::Background;
use crate::domain::request::canonical_text;

/// The lists, as they are written.
const LISTS: &str = include_str!("words.toml");

/// How much of a prompt is read, in bytes: some two thousand words. Longer ones say what they want before that.
const MOST_READ: usize = 16 << 10;

/// The fewest letters that a word must have beyond the end that it is looked up by.
const STEM: usize = 3;

/// A category, as the lists describe it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Category {
    /// Its name.
    pub(super) name: String,
    /// Complexity before anything else is known, 0–1.
    pub(super) effort: f32,
    /// The background where nothing else is said.
    pub(super) ground: Background,
    /// As surroundings of something else, it makes them complex.
    pub(super) is_scene: bool,
    /// It needs its effort wherever it stands in the picture.
    pub(super) is_telling: bool,
    /// Before an object it says what that is made of.
    pub(super) is_material: bool,
}

/// What a phrase speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A category, by its place in [`Lexicon::categories`].
    Category(usize),
    /// A purpose, by its place in [`Purpose::KNOWN`].
    Purpose(usize),
    /// A background.
    Background(Background),
    /// More to draw.
    More,
    /// Less to draw.
    Less,
}

/// How much a phrase speaks for what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Vote {
    pub(super) class: Class,
    /// ½, 1 or 2.
    pub(super) weight: f32,
}

/// Where in a prompt a phrase stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It is what is to be shown.
    Subject,
    /// It follows a word such as `on` or `with`.
    Around,
    /// It follows a word such as `no` or `without`.
    Absent,
    /// It stands in quotes: it is to be written, not shown.
    Quoted,
}

/// A phrase of the lists, found in a prompt.
#[derive(Clone, Debug)]
pub(super) struct Hit<'a> {
    /// The phrase, as the lists have it.
    pub(super) phrase: &'a str,
    /// What it speaks for.
    pub(super) votes: &'a [Vote],
    /// Where it stands.
    pub(super) role: Role,
    /// The category of the phrase that follows at once, if that has one.
    pub(super) before: Option<usize>,
}

/// A phrase of the lists.
#[derive(Clone, Debug, Default)]
struct Entry {
    votes: Vec<Vote>,
    /// It counts only at the beginning of a clause.
    is_first: bool,
    /// It counts only at the end of a clause.
    is_last: bool,
}

/// The lists, ready to be looked up.
#[derive(Clone, Debug)]
pub(super) struct Lexicon {
    categories: Vec<Category>,
    phrases: HashMap<String, Entry>,
    ends: HashMap<String, Vec<Vote>>,
    negations: HashSet<String>,
    affirmations: HashSet<String>,
    links: HashSet<String>,
    /// Words of the longest phrase.
    longest: usize,
}

/// `words.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    sets: BTreeMap<String, Vec<String>>,
    grammar: Grammar,
    category: BTreeMap<String, Group>,
    purpose: BTreeMap<String, Group>,
    background: BTreeMap<Background, Group>,
    detail: Detail,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grammar {
    negations: HashSet<String>,
    ends: HashSet<String>,
    links: HashSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detail {
    more: Group,
    less: Group,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Group {
    effort: f32,
    ground: Background,
    scene: bool,
    telling: bool,
    material: bool,
    strong: Vec<String>,
    words: Vec<String>,
    weak: Vec<String>,
    ends: Vec<String>,
}

impl Lexicon {
    /// The lists that the binary carries.
    ///
    /// # Errors
    /// They cannot be read, which a test looks for.
    pub(super) fn embedded() -> Result<Lexicon, String> {
        let lists: Lists = toml::from_str(LISTS).map_err(|error| format!("the lists of words: {error}"))?;
        let mut lexicon = Lexicon {
            categories: Vec::new(),
            phrases: HashMap::new(),
            ends: HashMap::new(),
            negations: lists.grammar.negations,
            affirmations: lists.grammar.ends,
            links: lists.grammar.links,
            longest: 1,
        };
        for (index, (name, group)) in lists.category.into_iter().enumerate() {
            lexicon.add(&group, Class::Category(index), &lists.sets);
            lexicon.categories.push(Category {
                name,
                effort: group.effort,
                ground: group.ground,
                is_scene: group.scene,
                is_telling: group.telling,
                is_material: group.material,
            });
        }
        for (name, group) in lists.purpose {
            let place = Purpose::KNOWN.iter().position(|known| known.name() == name);
            let place = place.ok_or_else(|| format!("the lists of words: there is no purpose {name}"))?;
            lexicon.add(&group, Class::Purpose(place), &lists.sets);
        }
        for (background, group) in lists.background {
            lexicon.add(&group, Class::Background(background), &lists.sets);
        }
        lexicon.add(&lists.detail.more, Class::More, &lists.sets);
        lexicon.add(&lists.detail.less, Class::Less, &lists.sets);
        Ok(lexicon)
    }

    fn add(&mut self, group: &Group, class: Class, sets: &BTreeMap<String, Vec<String>>) {
        for (phrases, weight) in [(&group.strong, 2.0), (&group.words, 1.0), (&group.weak, 0.5)] {
            for phrase in phrases.iter().flat_map(|phrase| spelled_out(phrase, sets)) {
                let bare = phrase.trim_start_matches('^').trim_end_matches('$');
                self.longest = self.longest.max(bare.split(' ').count());
                let entry = self.phrases.entry(bare.to_owned()).or_default();
                entry.is_first |= phrase.starts_with('^');
                entry.is_last |= phrase.ends_with('$');
                if !entry.votes.iter().any(|vote| vote.class == class) {
                    entry.votes.push(Vote { class, weight });
                }
            }
        }
        for end in &group.ends {
            self.ends.entry(end.clone()).or_default().push(Vote { class, weight: 2.0 });
        }
    }

    /// All categories, by name.
    pub(super) fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// The category of that name and its place.
    pub(super) fn category(&self, name: &str) -> Option<&Category> {
        self.categories.iter().find(|category| category.name == name)
    }

    /// The phrases of the lists that stand in `prompt`, in its order, each once.
    pub(super) fn hits(&self, prompt: &str) -> Vec<Hit<'_>> {
        let text = Words::of(prompt);
        let mut hits: Vec<Hit<'_>> = Vec::new();
        let mut seen = HashSet::new();
        let (mut is_absent, mut is_around) = (false, false);
        // Where the last phrase ended, to know which ones stand side by side.
        let mut ended = usize::MAX;
        let mut at = 0;
        while let Some(word) = text.words.get(at) {
            if word.opens {
                (is_absent, is_around) = (false, false);
                ended = usize::MAX;
            }
            let name = text.slice(at, 1);
            is_absent &= !self.affirmations.contains(name);
            is_around |= self.links.contains(name);
            let Some((phrase, entry, length)) = self.longest_at(&text, at) else {
                is_absent |= self.negations.contains(name);
                at += 1;
                continue;
            };
            let role = match (word.is_quoted, is_absent, is_around) {
                (true, _, _) => Role::Quoted,
                (_, true, _) => Role::Absent,
                (_, _, true) => Role::Around,
                _ => Role::Subject,
            };
            let category = entry.iter().find_map(|vote| match vote.class {
                Class::Category(index) => Some(index),
                _ => None,
            });
            if ended == at
                && category.is_some()
                && let Some(last) = hits.last_mut()
            {
                last.before = category;
            }
            // A phrase may end with such a word, as `logo for` does.
            is_around |= (at..at + length).any(|inside| self.links.contains(text.slice(inside, 1)));
            at += length;
            if seen.insert((phrase, role == Role::Absent)) {
                hits.push(Hit { phrase, votes: entry, role, before: None });
                ended = at;
            }
        }
        hits
    }

    /// The longest phrase that begins at the word `at`: itself, what it speaks for, and how many words it has.
    fn longest_at<'a>(&'a self, text: &Words, at: usize) -> Option<(&'a str, &'a [Vote], usize)> {
        let clause = text.rest_of_clause(at);
        for length in (1..=self.longest.min(clause)).rev() {
            let words = text.slice(at, length);
            let found = self.phrases.get_key_value(words).or_else(|| self.singular(words));
            let opens = text.words.get(at).is_some_and(|word| word.opens);
            if let Some((phrase, entry)) =
                found.filter(|(_, entry)| (!entry.is_first || opens) && (!entry.is_last || length == clause))
            {
                return Some((phrase, &entry.votes, length));
            }
        }
        let (end, votes) = self.end_of(text.slice(at, 1))?;
        Some((end, votes, 1))
    }

    /// A regular English plural.
    fn singular(&self, words: &str) -> Option<(&String, &Entry)> {
        let bare = words.strip_suffix('s').filter(|bare| bare.chars().count() > 2 && !bare.ends_with('s'))?;
        self.phrases.get_key_value(bare).or_else(|| {
            let shorter = bare.strip_suffix('e')?;
            let other = self.phrases.get_key_value(shorter);
            other.or_else(|| self.phrases.get_key_value(&format!("{}y", shorter.strip_suffix('i')?)))
        })
    }

    /// The longest known end of a long word.
    fn end_of(&self, word: &str) -> Option<(&str, &[Vote])> {
        let ends = word.char_indices().skip(STEM).filter_map(|(at, _)| word.get(at..));
        let (end, votes) = ends.filter_map(|end| self.ends.get_key_value(end)).next()?;
        Some((end, votes))
    }
}

/// A phrase with a word of its set in place of `{set}`, for each.
fn spelled_out(phrase: &str, sets: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let set = phrase.split_once('{').and_then(|(before, rest)| {
        let (name, after) = rest.split_once('}')?;
        Some((before, sets.get(name)?, after))
    });
    match set {
        Some((before, words, after)) => words.iter().map(|word| format!("{before}{word}{after}")).collect(),
        None => vec![phrase.to_owned()],
    }
}

/// A word of a prompt.
#[derive(Clone, Copy, Debug)]
struct Word {
    start: usize,
    end: usize,
    /// It is the first of a clause.
    opens: bool,
    /// It stands in quotes.
    is_quoted: bool,
}

/// A prompt as words in lower case with single spaces between them, so that a phrase is a slice.
#[derive(Debug, Default)]
pub(super) struct Words {
    text: String,
    words: Vec<Word>,
}

impl Words {
    /// The words of `prompt`, as far as it is read. Single letters are left out.
    pub(super) fn of(prompt: &str) -> Words {
        Words::read(prompt, char::is_alphanumeric)
    }

    /// The same, where `*` is a letter.
    pub(super) fn of_pattern(pattern: &str) -> Words {
        Words::read(pattern, |letter| letter == '*' || letter.is_alphanumeric())
    }

    fn read(prompt: &str, is_letter: impl Fn(char) -> bool) -> Words {
        let mut read = prompt.len().min(MOST_READ);
        while !prompt.is_char_boundary(read) {
            read -= 1;
        }
        let prompt = canonical_text(prompt.get(..read).unwrap_or_default());
        let mut words = Words::default();
        let mut word = String::new();
        let mut opens = true;
        let mut closing: Option<char> = None;
        // Quotes that nothing closes any more, such as a sign for inches.
        let mut unclosed: Vec<char> = Vec::new();
        let mut is_inside = false;
        for (at, letter) in prompt.char_indices().chain([(prompt.len(), ' ')]) {
            if is_letter(letter) {
                word.extend(letter.to_lowercase());
                is_inside = true;
                continue;
            }
            if word.chars().nth(1).is_some() {
                words.push(&word, opens, closing.is_some());
                opens = false;
            }
            word.clear();
            let was_inside = std::mem::take(&mut is_inside);
            match (closing, letter) {
                (Some(quote), _) if letter == quote => (closing, opens) = (None, true),
                (None, '"' | '“' | '„' | '«' | '»') => {
                    let other = match letter {
                        '„' => '“',
                        '“' => '”',
                        '«' => '»',
                        '»' => '«',
                        same => same,
                    };
                    let rest = prompt.get(at + letter.len_utf8()..).unwrap_or_default();
                    if !unclosed.contains(&other) && rest.contains(other) {
                        closing = Some(other);
                    } else {
                        unclosed.push(other);
                    }
                    opens = true;
                }
                // An apostrophe parts a word. Nobody closes single quotes reliably, so they part clauses and are no quotes.
                (_, '\'' | '’') if was_inside => {}
                (_, '-' | '_' | '/' | '&' | '#') => {}
                (_, other) if other.is_whitespace() && other != '\n' => {}
                _ => opens = true,
            }
        }
        words
    }

    fn push(&mut self, word: &str, opens: bool, is_quoted: bool) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let start = self.text.len();
        self.text.push_str(word);
        self.words.push(Word { start, end: self.text.len(), opens, is_quoted });
    }

    /// `length` words from the word `at` on, with a space between them; empty if they are not all there.
    fn slice(&self, at: usize, length: usize) -> &str {
        let last = self.words.get(at + length.saturating_sub(1));
        let bounds = self.words.get(at).zip(last).map(|(first, last)| first.start..last.end);
        bounds.and_then(|bounds| self.text.get(bounds)).unwrap_or_default()
    }

    /// How many words are left of the clause that the word `at` is in, itself included.
    fn rest_of_clause(&self, at: usize) -> usize {
        let after = self.words.iter().skip(at + 1).take_while(|word| !word.opens).count();
        if at < self.words.len() { after + 1 } else { 0 }
    }

    /// The words, one after the other.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.words.iter().filter_map(|word| self.text.get(word.start..word.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrases(prompt: &str) -> Vec<(&'static str, Role)> {
        let lexicon = Box::leak(Box::new(Lexicon::embedded().unwrap()));
        lexicon.hits(prompt).into_iter().map(|hit| (hit.phrase, hit.role)).collect()
    }

    #[test]
    fn words_are_lower_case_and_whole() {
        let words = Words::of("  A T-shirt’s Größe,\n“OPEN late” e-bike — ŒUVRE");
        let opens: Vec<(&str, bool, bool)> =
            words.iter().zip(&words.words).map(|(text, word)| (text, word.opens, word.is_quoted)).collect();
        assert_eq!(
            opens,
            [
                ("shirt", true, false),
                ("größe", false, false),
                ("open", true, true),
                ("late", false, true),
                ("bike", true, false),
                ("œuvre", true, false)
            ]
        );
    }

    #[test]
    fn the_longest_phrase_counts_and_clauses_part() {
        assert_eq!(phrases("coffee table"), [("coffee table", Role::Subject)]);
        assert_eq!(phrases("coffee, table"), [("coffee", Role::Subject), ("table", Role::Subject)]);
        assert_eq!(
            phrases("two coffee tables and cherries"),
            [("coffee table", Role::Subject), ("cherry", Role::Subject)]
        );
        assert_eq!(phrases("mug on white"), [("mug", Role::Subject), ("on white", Role::Around)]);
        assert_eq!(phrases("on white marble"), []);
        assert_eq!(phrases("Sektglas"), [("glas", Role::Subject)]);
    }

    #[test]
    fn what_is_not_there_or_only_written_is_known() {
        assert_eq!(
            phrases("a cat with no dogs, without birds on a sofa, \"free the whales\""),
            [
                ("cat", Role::Subject),
                ("dog", Role::Absent),
                ("bird", Role::Absent),
                ("sofa", Role::Around),
                ("whale", Role::Quoted)
            ]
        );
        assert_eq!(phrases("no background"), [("no background", Role::Subject)]);
    }

    #[test]
    fn the_lists_are_sound() {
        let lexicon = Lexicon::embedded().unwrap();
        assert!(lexicon.longest <= 6, "a phrase of {} words", lexicon.longest);
        for (phrase, entry) in &lexicon.phrases {
            let words = Words::of(phrase);
            assert_eq!(words.text, *phrase, "can never be found: it is not written as prompts are read");
            let categories = entry.votes.iter().filter(|vote| matches!(vote.class, Class::Category(_))).count();
            assert!(categories <= 3, "{phrase} is in {categories} categories");
        }
        for category in &lexicon.categories {
            assert!((0.0..=1.0).contains(&category.effort) && category.effort > 0.0, "{}", category.name);
        }
    }
}
