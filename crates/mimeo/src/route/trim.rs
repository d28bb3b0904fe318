//! Filler words, taken out of prompts that are paid by the token: “Please draw me a cat, thanks” asks for “a cat”.
//!
//! What might change the picture stays: quoted text, names, numbers, negations, and every word in the middle of a
//! prompt but one that stands there twice by mistake.

use std::borrow::Cow;
use std::sync::LazyLock;

/// The words that are taken out. Phrases are in `route/filler.txt`, the longest first here.
#[derive(Debug, Default)]
struct Filler {
    opening: Vec<&'static str>,
    closing: Vec<&'static str>,
    doubled: Vec<&'static str>,
    /// Words that speak of something to be written in the picture.
    writing: Vec<&'static str>,
}

static FILLER: LazyLock<Filler> = LazyLock::new(|| Filler::parse(include_str!("filler.txt")));

impl Filler {
    fn parse(text: &'static str) -> Filler {
        let mut filler = Filler::default();
        let mut none = Vec::new();
        let mut section = "";
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name;
                continue;
            }
            match section {
                "opening" => &mut filler.opening,
                "closing" => &mut filler.closing,
                "doubled" => &mut filler.doubled,
                "writing" => &mut filler.writing,
                _ => &mut none,
            }
            .push(line);
        }
        for list in [&mut filler.opening, &mut filler.closing] {
            list.sort_by_key(|phrase| std::cmp::Reverse(phrase.len()));
        }
        filler
    }
}

/// `prompt` without filler words, doubled blanks and doubled commas. Trimming twice changes nothing, and something
/// always remains.
pub fn trim(prompt: &str) -> Cow<'_, str> {
    let mut now = Cow::Borrowed(prompt);
    loop {
        let next = once(&now);
        // Every step makes it shorter, so this ends.
        if next.len() >= now.len() || !next.contains(char::is_alphanumeric) {
            return now;
        }
        now = Cow::Owned(next);
    }
}

/// About how many tokens `sent` has less than `asked`: one for every four bytes, as vendors estimate English text.
pub fn tokens_saved(asked: &str, sent: &str) -> usize {
    asked.len().saturating_sub(sent.len()).div_ceil(4)
}

fn once(prompt: &str) -> String {
    let pieces = pieces(prompt);
    // What is to be written is quoted, or else it may be anything that follows.
    if let [Piece::Plain(text)] = pieces.as_slice()
        && speaks_of_writing(text)
    {
        return without_opening(text.trim_start()).to_owned();
    }
    let last = pieces.len().saturating_sub(1);
    let mut out = String::with_capacity(prompt.len());
    for (index, piece) in pieces.into_iter().enumerate() {
        let Piece::Plain(text) = piece else {
            out.push_str(piece.text());
            continue;
        };
        let mut text = tidy(text);
        if index == 0 {
            text = without_opening(text.trim_start()).to_owned();
        }
        if index == last {
            text = without_closing(text.trim_end()).to_owned();
        }
        out.push_str(&text);
    }
    out
}

fn speaks_of_writing(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_alphanumeric());
    words.any(|word| FILLER.writing.iter().any(|known| known.eq_ignore_ascii_case(word)))
}

/// A part of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Plain(&'a str),
    /// With its quotation marks. What is quoted may be written in the picture.
    Quoted(&'a str),
}

impl<'a> Piece<'a> {
    const fn text(self) -> &'a str {
        match self {
            Piece::Plain(text) | Piece::Quoted(text) => text,
        }
    }
}

/// The pieces of a prompt, in order. A quotation that does not end goes to the end.
fn pieces(prompt: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut rest, mut before) = (prompt, None);
    'quotations: loop {
        let mut previous = before;
        for (start, mark) in rest.char_indices() {
            let (plain, tail) = rest.split_at(start);
            if let Some(length) = quotation(previous, mark, tail) {
                let (quoted, after) = tail.split_at(length);
                if !plain.is_empty() {
                    pieces.push(Piece::Plain(plain));
                }
                pieces.push(Piece::Quoted(quoted));
                (before, rest) = (quoted.chars().next_back(), after);
                continue 'quotations;
            }
            previous = Some(mark);
        }
        if !rest.is_empty() {
            pieces.push(Piece::Plain(rest));
        }
        return pieces;
    }
}

/// The length of the quotation that `tail` begins with, in bytes, if its first character, `mark`, opens one.
fn quotation(previous: Option<char>, mark: char, tail: &str) -> Option<usize> {
    let ends: &[char] = match mark {
        '"' => &['"'],
        '`' => &['`'],
        '“' | '”' => &['”'],
        '„' => &['“', '”'],
        '«' => &['»'],
        '»' => &['«'],
        '「' => &['」'],
        '『' => &['』'],
        '‘' => &['’'],
        // An apostrophe inside or at the end of a word opens nothing, and one without a partner neither.
        '\'' if previous.is_none_or(|c| !c.is_alphanumeric()) => return single_quotation(tail),
        _ => return None,
    };
    let inside = tail.get(mark.len_utf8()..)?;
    let length = inside.char_indices().find(|(_, c)| ends.contains(c)).map(|(at, end)| at + end.len_utf8());
    Some(length.map_or(tail.len(), |length| mark.len_utf8() + length))
}

fn single_quotation(tail: &str) -> Option<usize> {
    let ends = tail.match_indices('\'').skip(1).map(|(at, mark)| at + mark.len());
    let is_end =
        |end: &usize| tail.get(*end..).and_then(|rest| rest.chars().next()).is_none_or(|c| !c.is_alphanumeric());
    ends.into_iter().find(is_end)
}

/// The text with one blank, one comma and one little word wherever there are several in a row. Lines stay indented.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let is_blank = |c: char| c == ' ' || c == '\t';
    for c in text.chars() {
        let so_far = out.trim_end_matches(is_blank);
        match c {
            _ if is_blank(c) && out.ends_with(is_blank) && !so_far.ends_with('\n') => {}
            // Between digits a comma belongs to a number, however odd.
            ',' if so_far.ends_with(',') && !so_far.trim_end_matches(',').ends_with(|c: char| c.is_ascii_digit()) => {
                out.truncate(so_far.len());
            }
            _ => out.push(c),
        }
    }
    without_doubled(&out)
}

fn without_doubled(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut kept: Vec<&str> = Vec::with_capacity(words.len());
    for word in words {
        let is_doubled = kept.last() == Some(&word) && FILLER.doubled.contains(&word);
        if !is_doubled {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// Where `text` begins with `phrase` as words of their own, what comes after it.
fn after<'a>(text: &'a str, phrase: &str) -> Option<&'a str> {
    let head = text.get(..phrase.len())?;
    let rest = text.get(phrase.len()..)?;
    let ends = rest.chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, ',' | ':'));
    (same(head, phrase) && ends).then_some(rest)
}

/// True if both are the same but for the case of the first letter.
fn same(text: &str, phrase: &str) -> bool {
    let first = |text: &str| text.chars().next().map(|c| c.to_ascii_lowercase());
    first(text) == first(phrase) && text.get(1..) == phrase.get(1..)
}

fn without_opening(text: &str) -> &str {
    for phrase in &FILLER.opening {
        let Some(rest) = after(text, phrase) else { continue };
        let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ':'));
        // `Please Please Me` is a name.
        let is_capital = |text: &str| text.starts_with(char::is_uppercase);
        let is_name = !phrase.contains(' ') && is_capital(text) && is_capital(rest);
        // `I want to break free` says what to draw.
        if !is_name && after(rest, "to").is_none() {
            return rest;
        }
    }
    text
}

fn without_closing(text: &str) -> &str {
    let bare = text.trim_end_matches(['.', '!', ' ']);
    for phrase in &FILLER.closing {
        let Some(start) = bare.len().checked_sub(phrase.len()) else { continue };
        let (Some(head), Some(tail)) = (bare.get(..start), bare.get(start..)) else { continue };
        let head = head.trim_end();
        if same(tail, phrase) && head.ends_with([',', '.', '!', '?', ';']) {
            return head.trim_end_matches([',', ';', ' ']);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_says_nothing_goes() {
        for (asked, sent) in [
            ("Please draw me a cat, thanks", "a cat"),
            ("Can you please generate an image of a  red  kite, please.", "a red kite"),
            ("I would like a picture of the the sea,, at dawn", "the sea, at dawn"),
            ("a picture of: Marie Curie", "Marie Curie"),
            ("A kite. Thank you!", "A kite."),
            ("could you, please, show me 3 kites , , no clouds", "3 kites , no clouds"),
            ("Please draw me a poster that says Hello, thanks", "a poster that says Hello, thanks"),
            ("a sign „Danke  schön“ in  red, thanks", "a sign „Danke  schön“ in red"),
            ("please  a menu:\n  -  soup\n  - fish, if possible", "a menu:\n  - soup\n  - fish"),
            ("a kite", "a kite"),
        ] {
            assert_eq!(trim(asked), sent, "{asked}");
        }
        assert!(matches!(trim("a kite"), Cow::Borrowed(_)));
        assert_eq!((tokens_saved("please a kite", "a kite"), tokens_saved("a", "a")), (2, 0));
    }

    #[test]
    fn what_may_change_the_picture_stays() {
        for prompt in [
            "",
            "please",
            "Can you",
            "Please Please Me, the album cover",
            "a sign that says \"please  please,, thanks\"",
            "“A picture of  a  picture” as a title",
            "a man holding a picture of his mother",
            "a sign that says please",
            "a card reading Congratulations, thank you",
            "the words  one  two,, three, please",
            "a sign „Bitte  warten“ or »bitte  warten«",
            "a terminal showing:\n    fn main() {\n        run();\n    }",
            "I want to break free, the album cover",
            "a yo yo, very very red, bye bye",
            "I don't want a picture of a cat",
            "no no no, no clouds",
            "1,,000 kites at 10 10",
            "a 5\" pipe,, and  what follows an open quotation",
            "it's 'a  picture,, of' Kate's",
            "a photo of a kite",
            "pleased people",
            "A PICTURE OF DORIAN GRAY",
        ] {
            assert_eq!(trim(prompt), prompt);
        }
    }

    #[test]
    fn quotations_are_found() {
        let plain = |text| Piece::Plain(text);
        let quoted = |text| Piece::Quoted(text);
        assert_eq!(pieces("say \"a\"«b» it's"), [plain("say "), quoted("\"a\""), quoted("«b»"), plain(" it's")]);
        assert_eq!(pieces("rock 'n' roll's 'til"), [plain("rock "), quoted("'n'"), plain(" roll's 'til")]);
        assert_eq!(pieces("“open"), [quoted("“open")]);
    }

    /// Prompts in which everything happens that is looked for.
    fn prompts() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "please",
            "Please",
            "can you",
            "a picture of",
            "I would like",
            "thanks",
            "a",
            "a",
            "the",
            "of",
            "no",
            "not",
            "never",
            "without",
            "7",
            "3.5",
            "Paris",
            "kite",
            "\"two  a a,, words\"",
            "'please'",
            "\"",
            "'",
            "“x” ",
            ",",
            ", ,",
            ".",
            " ",
            "\n",
            "é",
            "🪁",
        ]);
        prop::collection::vec(word, 0..12).prop_map(|words| words.join(" "))
    }

    fn kept(text: &str) -> Vec<String> {
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '.')).map(|word| word.trim_matches('.'));
        let matters = |word: &&str| {
            matches!(*word, "no" | "not" | "never" | "without" | "Paris" | "kite" | "é")
                || word.chars().next().is_some_and(|c| c.is_ascii_digit())
        };
        words.filter(matters).map(str::to_owned).collect()
    }

    proptest! {
        #[test]
        fn trimming_twice_changes_nothing(prompt in prop_oneof![prompts(), ".{0,40}"]) {
            let sent = trim(&prompt).into_owned();
            prop_assert_eq!(trim(&sent), sent.as_str());
            prop_assert!(sent.len() <= prompt.len());
            prop_assert_eq!(prompt.contains(char::is_alphanumeric), sent.contains(char::is_alphanumeric));
        }

        #[test]
        fn numbers_names_negations_and_quotations_stay(prompt in prompts()) {
            let sent = trim(&prompt).into_owned();
            prop_assert_eq!(kept(&sent), kept(&prompt));
            let quotations = |text: &str| -> Vec<String> {
                pieces(text).into_iter().filter(|piece| matches!(piece, Piece::Quoted(_))).map(|p| p.text().to_owned()).collect()
            };
            // A quotation that goes to the end loses the blanks there, as every prompt does.
            let (before, after) = (quotations(prompt.trim()), quotations(sent.trim()));
            prop_assert_eq!(before, after);
        }
    }
}
