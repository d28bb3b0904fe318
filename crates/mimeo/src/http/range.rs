//! `Range` and `If-None-Match`, as far as a single immutable file needs them.

use std::ops::Range;

/// What of a file is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slice {
    /// All of it: no range, several, or one that is not understood, which HTTP says to ignore.
    Whole,
    /// These bytes.
    Part(Range<usize>),
    /// Nothing, since the range begins behind the end.
    Unsatisfiable,
}

/// What the `Range` header `wanted` asks of a file of `length` bytes.
pub fn slice(wanted: &[u8], length: usize) -> Slice {
    let text = std::str::from_utf8(wanted).unwrap_or_default().trim();
    let Some((unit, range)) = text.split_once('=') else { return Slice::Whole };
    let Some((first, last)) = range.trim().split_once('-') else { return Slice::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Slice::Whole;
    }
    let number = |text: &str| -> Option<usize> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number beyond all files is behind the end like any other.
        digits.then(|| text.parse().unwrap_or(usize::MAX))
    };
    match (number(first), number(last), first.is_empty(), last.is_empty()) {
        (Some(first), Some(last), ..) if first > last => Slice::Whole,
        (Some(first), ..) if first >= length && (last.is_empty() || number(last).is_some()) => Slice::Unsatisfiable,
        (Some(first), Some(last), ..) => Slice::Part(first..last.saturating_add(1).min(length)),
        (Some(first), None, _, true) => Slice::Part(first..length),
        // The last so many bytes.
        (None, Some(0), true, _) => Slice::Unsatisfiable,
        (None, Some(_), true, _) if length == 0 => Slice::Unsatisfiable,
        (None, Some(count), true, _) => Slice::Part(length.saturating_sub(count)..length),
        _ => Slice::Whole,
    }
}

/// True if the `If-None-Match` list contains `etag` (with its quotes), weak or strong, or `*`.
pub fn etag_matches(list: &[u8], etag: &[u8]) -> bool {
    list.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .any(|candidate| candidate == b"*" || candidate.strip_prefix(b"W/").unwrap_or(candidate) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges() {
        for (wanted, expected) in [
            ("bytes=0-0", Slice::Part(0..1)),
            ("bytes=0-99", Slice::Part(0..10)),
            ("bytes=3-", Slice::Part(3..10)),
            ("bytes=-3", Slice::Part(7..10)),
            ("bytes=-30", Slice::Part(0..10)),
            ("bytes=9-9", Slice::Part(9..10)),
            ("Bytes = 1-2", Slice::Part(1..3)),
            ("bytes=10-", Slice::Unsatisfiable),
            ("bytes=99999999999999999999999-", Slice::Unsatisfiable),
            ("bytes=0-99999999999999999999999", Slice::Part(0..10)),
            ("bytes=-0", Slice::Unsatisfiable),
            ("bytes=2-1", Slice::Whole),
            ("bytes=0-1,3-4", Slice::Whole),
            ("bytes=20-x", Slice::Whole),
            ("bytes=-", Slice::Whole),
            ("bytes=a-b", Slice::Whole),
            ("items=0-1", Slice::Whole),
            ("", Slice::Whole),
        ] {
            assert_eq!(slice(wanted.as_bytes(), 10), expected, "{wanted}");
        }
        assert_eq!(slice(b"bytes=-1", 0), Slice::Unsatisfiable);
    }

    #[test]
    fn lists_of_etags() {
        for list in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*", "\"b\",W/\"a\" "] {
            assert!(etag_matches(list.as_bytes(), b"\"a\""), "{list}");
        }
        for list in ["", "a", "\"b\"", "w/\"a\"", "\"ab\""] {
            assert!(!etag_matches(list.as_bytes(), b"\"a\""), "{list}");
        }
    }

    proptest! {
        #[test]
        fn every_part_is_inside(wanted in "bytes=[0-9,x-]{0,12}", length in 0usize..50) {
            if let Slice::Part(part) = slice(wanted.as_bytes(), length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }
    }
}
