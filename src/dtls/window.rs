/// Which of the newest 64 records of an epoch were taken (RFC 6347 §4.1.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Window {
    /// One above the newest.
    next: u64,
    /// Whether each was taken, the newest in the lowest bit.
    taken: u64,
}

impl Window {
    /// Whether no record was taken.
    pub(super) fn is_untouched(&self) -> bool {
        self.next == 0
    }

    /// Whether a record of this number may be opened: it was not taken, and is not too old to tell.
    pub(super) fn is_fresh(&self, number: u64) -> bool {
        match self.next.checked_sub(number.saturating_add(1)) {
            None => true,
            Some(age) => age < 64 && self.taken >> age & 1 == 0,
        }
    }

    /// A fresh record has shown to be the peer's. Tells whether it is the newest.
    pub(super) fn take(&mut self, number: u64) -> bool {
        let next = number.saturating_add(1);
        if let Some(age) = self.next.checked_sub(next) {
            self.taken |= 1_u64
                .checked_shl(u32::try_from(age).unwrap_or(64))
                .unwrap_or(0);
            return false;
        }
        let ahead = u32::try_from(next - self.next).unwrap_or(64);
        self.taken = self.taken.checked_shl(ahead).unwrap_or(0) | 1;
        self.next = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_number_is_taken_once_and_old_ones_never() {
        let mut window = Window::default();
        assert!(window.is_fresh(0) && window.take(0) && !window.is_fresh(0));
        assert!(window.take(70));
        assert!(!window.is_fresh(6) && window.is_fresh(7));
        assert!(!window.take(7));
        assert!(!window.is_fresh(7));
        assert!(window.take((1 << 48) - 1));
        assert!(!window.is_fresh(70));
    }

    proptest! {
        #[test]
        fn it_says_what_a_set_would(numbers in proptest::collection::vec(0..300u64, 0..200)) {
            let mut window = Window::default();
            let mut taken = HashSet::new();
            let mut newest = None;
            for number in numbers {
                let recent = newest.is_none_or(|newest: u64| number + 64 > newest);
                let fresh = recent && !taken.contains(&number);
                prop_assert_eq!(window.is_fresh(number), fresh);
                if fresh {
                    prop_assert_eq!(window.take(number), newest.is_none_or(|newest| number > newest));
                    taken.insert(number);
                    newest = newest.max(Some(number));
                }
            }
        }
    }
}
