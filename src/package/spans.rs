//! Which bytes of a package were served, in bounded memory.

use std::ops::Range;

/// Gaps that are remembered. A device that fetches in order has none; one that fetches with several connections has a few.
const MAX_SPANS: usize = 32;

/// Ranges of bytes: sorted, apart from each other, and 32 at most. Where more would be needed, the last ones are forgotten: too
/// little is counted then, never too much.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans(Vec<Range<u64>>);

impl Spans {
    /// Everything up to there.
    pub fn up_to(end: u64) -> Self {
        let mut spans = Self::default();
        spans.add(0..end);
        spans
    }

    /// Adds these bytes. Bytes that are there already count once.
    pub fn add(&mut self, new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        let spans = &mut self.0;
        // those that touch the new one become one with it
        let first = spans.partition_point(|span| span.end < new.start);
        let after = spans.partition_point(|span| span.start <= new.end);
        let mut joined = new;
        for span in &spans[first..after] {
            joined.start = joined.start.min(span.start);
            joined.end = joined.end.max(span.end);
        }
        spans.splice(first..after, [joined]);
        spans.truncate(MAX_SPANS);
    }

    /// Adds what others have.
    pub fn join(&mut self, others: &Self) {
        for span in &others.0 {
            self.add(span.clone());
        }
    }

    /// Whether these bytes are all there.
    pub fn have(&self, these: &Range<u64>) -> bool {
        let first = self.0.partition_point(|span| span.end < these.end);
        (self.0.get(first)).is_some_and(|span| span.start <= these.start)
    }

    /// Where the first of them begins; 0 where there are none.
    pub fn first(&self) -> u64 {
        self.0.first().map_or(0, |first| first.start)
    }

    /// Bytes from the beginning without a gap.
    pub fn contiguous(&self) -> u64 {
        match self.0.first() {
            Some(first) if first.start == 0 => first.end,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_each_byte_once_and_never_too_much(
            ranges in prop::collection::vec((0_u64..200, 0_u64..40), 0..60)
        ) {
            let mut spans = Spans::default();
            let mut bytes = [false; 256];
            for (start, len) in ranges {
                spans.add(start..start + len);
                for at in start..start + len {
                    bytes[usize::try_from(at).unwrap()] = true;
                }
                let truth = bytes.iter().take_while(|served| **served).count() as u64;
                prop_assert!(spans.contiguous() <= truth);
                // 200 bytes leave no room for 33 gaps of these lengths often; where nothing was forgotten it is exact
                if spans.0.len() < MAX_SPANS {
                    prop_assert!(spans.0.windows(2).all(|pair| pair[0].end < pair[1].start));
                }
            }
        }

        #[test]
        fn is_exact_while_there_is_room(
            ranges in prop::collection::vec((0_u64..200, 1_u64..40), 0..MAX_SPANS)
        ) {
            let mut spans = Spans::default();
            let mut bytes = [false; 256];
            for (start, len) in ranges {
                spans.add(start..start + len);
                for at in start..start + len {
                    bytes[usize::try_from(at).unwrap()] = true;
                }
            }
            let truth = bytes.iter().take_while(|served| **served).count() as u64;
            prop_assert_eq!(spans.contiguous(), truth);
            let first = bytes.iter().position(|served| *served).unwrap_or_default() as u64;
            prop_assert_eq!(spans.first(), first);
        }
    }

    #[test]
    fn remembers_a_bounded_number_of_gaps() {
        let mut spans = Spans::default();
        for at in (0..1_000).rev() {
            spans.add(at * 10..at * 10 + 5);
        }
        assert_eq!(spans.0.len(), MAX_SPANS);
        assert_eq!(spans.contiguous(), 5);
        spans.add(5..10);
        assert_eq!(spans.contiguous(), 15);
    }

    proptest! {
        #[test]
        fn has_what_was_added_and_what_others_have(
            ranges in prop::collection::vec((0_u64..200, 1_u64..40), 0..MAX_SPANS)
        ) {
            let mut spans = Spans::default();
            let mut bytes = [false; 256];
            for (start, len) in ranges {
                spans.add(start..start + len);
                for at in start..start + len {
                    bytes[usize::try_from(at).unwrap()] = true;
                }
            }
            for start in 0..200 {
                for end in start + 1..start + 20 {
                    let all = (start..end).all(|at| bytes[usize::try_from(at).unwrap()]);
                    prop_assert_eq!(spans.have(&(start..end)), all, "{}..{}", start, end);
                }
            }
            let mut joined = Spans::up_to(100);
            joined.join(&spans);
            bytes[..100].fill(true);
            let truth = bytes.iter().take_while(|served| **served).count() as u64;
            prop_assert!(joined.contiguous() >= 100 && joined.contiguous() <= truth);
        }
    }
}
