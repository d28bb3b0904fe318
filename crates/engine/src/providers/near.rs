//! Names that look like a mistyped one, for messages.

/// Those of `names` that may be meant by `wanted`, the nearest first, at most three.
pub fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_ascii_lowercase();
    let limit = (wanted.chars().count() / 3).max(2);
    let mut found: Vec<(usize, &str)> = names
        .map(|name| {
            let lower = name.to_ascii_lowercase();
            let contained = wanted.len() >= 3 && (lower.contains(&wanted) || wanted.contains(&lower));
            let distance = distance(&wanted, &lower);
            // Part of a name is near enough, but no nearer than a typing error.
            (if contained { distance.min(limit) } else { distance }, name)
        })
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Edits (insert, delete, replace) that lead from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    // Names are short; a text that is not a name need not be measured to its end.
    let to: Vec<char> = to.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&to) {
            let best = (diagonal + usize::from(a != *b)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, edits) in [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("abc", "abc", 0)] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn mistyped_names_are_found() {
        let names = ["picture-2", "picture-1-mini", "draft"];
        assert_eq!(near("pictur-2", names.into_iter()), ["picture-2"]);
        assert_eq!(near("mini", names.into_iter()), ["picture-1-mini"]);
        assert!(near("something else entirely", names.into_iter()).is_empty());
    }
}
