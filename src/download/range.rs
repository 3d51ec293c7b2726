//! Which part of a package is asked for (RFC 9110 §14).

use std::ops::Range;

/// What `Range` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: there is no `Range`, or one that is ignored: of another unit, of several parts, or malformed (§14.2).
    Whole,
    /// From this byte, to that one inclusively, or to the end.
    From(u64, Option<u64>),
    /// So many bytes at the end.
    Last(u64),
}

/// What of the content is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it: 200.
    Whole,
    /// These bytes: 206.
    Bytes(Range<u64>),
    /// None: 416.
    Unsatisfiable,
}

/// Reads the value of `Range`.
pub fn parse(value: &str) -> Wanted {
    let Some((unit, range)) = value.split_once('=') else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else {
        return Wanted::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let (first, last) = (first.trim_end(), last.trim_start());
    match (first, number(first), last, number(last)) {
        ("", _, _, Some(bytes)) => Wanted::Last(bytes),
        (_, Some(first), "", _) => Wanted::From(first, None),
        (_, Some(first), _, Some(last)) if first <= last => Wanted::From(first, Some(last)),
        // also several parts, which leave a comma in the second number
        _ => Wanted::Whole,
    }
}

/// A number of digits alone. One that does not fit is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

impl Wanted {
    /// What is meant of content of this many bytes.
    pub fn of(self, size_bytes: u64) -> Part {
        let bytes = match self {
            Self::Whole => return Part::Whole,
            Self::From(first, last) => {
                first..last.map_or(size_bytes, |last| last.saturating_add(1).min(size_bytes))
            }
            Self::Last(bytes) => size_bytes.saturating_sub(bytes)..size_bytes,
        };
        if bytes.is_empty() {
            return Part::Unsatisfiable;
        }
        Part::Bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_single_ranges_and_ignores_all_else() {
        for (value, wanted) in [
            ("bytes=0-499", Wanted::From(0, Some(499))),
            ("bytes=500-", Wanted::From(500, None)),
            ("bytes=-5", Wanted::Last(5)),
            ("BYTES=0-0", Wanted::From(0, Some(0))),
            (
                "bytes=5-99999999999999999999999",
                Wanted::From(5, Some(u64::MAX)),
            ),
            ("bytes = 1 - 2", Wanted::From(1, Some(2))),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=0-1,", Wanted::Whole),
            ("bytes=--1", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
            ("0-1", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(parse(value), wanted, "{value:?}");
        }
    }

    #[test]
    fn cuts_at_the_end_of_the_content() {
        assert_eq!(Wanted::From(10, Some(99)).of(50), Part::Bytes(10..50));
        assert_eq!(Wanted::From(49, None).of(50), Part::Bytes(49..50));
        assert_eq!(Wanted::From(50, None).of(50), Part::Unsatisfiable);
        assert_eq!(Wanted::Last(0).of(50), Part::Unsatisfiable);
        assert_eq!(Wanted::Last(99).of(50), Part::Bytes(0..50));
        assert_eq!(Wanted::Last(1).of(0), Part::Unsatisfiable);
        assert_eq!(Wanted::Whole.of(0), Part::Whole);
    }

    proptest! {
        #[test]
        fn never_leaves_the_content(value in "(bytes=)?[0-9]{0,21}-?[0-9]{0,21}", size in 0..u64::MAX) {
            if let Part::Bytes(bytes) = parse(&value).of(size) {
                prop_assert!(bytes.start < bytes.end && bytes.end <= size);
            }
        }
    }
}
