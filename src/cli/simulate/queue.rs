use std::{cmp::Reverse, collections::BinaryHeap};

/// Milliseconds that the wheel holds: most of what happens follows within a minute.
const SLOTS: u64 = 1 << 16;
const NONE: u32 = u32::MAX;

/// Events in the order of their time; of the same millisecond, in the order in which they came.
///
/// A wheel of one slot per millisecond takes what is near, a heap what is far. Both give the same order on
/// every run.
#[derive(Debug)]
pub(super) struct Queue<E> {
    /// Time of the last event taken; everything in the wheel lies within [`SLOTS`] from here.
    now_ms: u64,
    slots: Vec<Slot>,
    /// A bit per slot that holds something, and a bit per word of these.
    occupied: Vec<u64>,
    summary: Vec<u64>,
    nodes: Vec<Node<E>>,
    free: u32,
    far: BinaryHeap<Reverse<(u64, u64, u32)>>,
    pushed: u64,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    first: u32,
    last: u32,
}

#[derive(Debug)]
struct Node<E> {
    event: Option<E>,
    next: u32,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        let slots = usize::try_from(SLOTS).unwrap_or(0);
        let empty = Slot {
            first: NONE,
            last: NONE,
        };
        Self {
            now_ms: 0,
            slots: vec![empty; slots],
            occupied: vec![0; slots / 64],
            summary: vec![0; slots / 64 / 64],
            nodes: Vec::new(),
            free: NONE,
            far: BinaryHeap::new(),
            pushed: 0,
            len: 0,
        }
    }

    /// Puts an event at a time, at the time of the last one taken when that is later.
    pub(super) fn push(&mut self, at_ms: u64, event: E) {
        let at_ms = at_ms.max(self.now_ms);
        let node = self.take_node(event);
        self.len += 1;
        self.pushed += 1;
        if at_ms - self.now_ms < SLOTS {
            self.link(at_ms, node);
        } else {
            self.far.push(Reverse((at_ms, self.pushed, node)));
        }
    }

    /// The time of the next event.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.next_near()
            .or_else(|| self.far.peek().map(|Reverse((at, ..))| *at))
    }

    /// The next event.
    pub(super) fn pop(&mut self) -> Option<E> {
        self.now_ms = self.next_ms()?;
        while let Some(Reverse((at, _, node))) = self.far.peek().copied()
            && at - self.now_ms < SLOTS
        {
            self.far.pop();
            self.link(at, node);
        }
        let index = slot_of(self.now_ms);
        let slot = &mut self.slots[index];
        let first = slot.first;
        let node = self.nodes.get_mut(first as usize)?;
        slot.first = node.next;
        node.next = self.free;
        self.free = first;
        let event = node.event.take();
        if slot.first == NONE {
            slot.last = NONE;
            self.occupied[index / 64] &= !(1 << (index % 64));
            if self.occupied[index / 64] == 0 {
                self.summary[index / 4096] &= !(1 << (index / 64 % 64));
            }
        }
        self.len -= 1;
        event
    }

    fn take_node(&mut self, event: E) -> u32 {
        if let Some(node) = self.nodes.get_mut(self.free as usize) {
            let index = self.free;
            self.free = node.next;
            node.event = Some(event);
            node.next = NONE;
            return index;
        }
        let index = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.nodes.push(Node {
            event: Some(event),
            next: NONE,
        });
        index
    }

    fn link(&mut self, at_ms: u64, node: u32) {
        let index = slot_of(at_ms);
        let slot = &mut self.slots[index];
        match self.nodes.get_mut(slot.last as usize) {
            Some(last) => last.next = node,
            None => slot.first = node,
        }
        slot.last = node;
        self.occupied[index / 64] |= 1 << (index % 64);
        self.summary[index / 4096] |= 1 << (index / 64 % 64);
    }

    /// The time of the next event in the wheel.
    fn next_near(&self) -> Option<u64> {
        let start = slot_of(self.now_ms);
        let rest = self.occupied[start / 64] & (u64::MAX << (start % 64));
        let index = if rest != 0 {
            start / 64 * 64 + rest.trailing_zeros() as usize
        } else {
            let word = self.next_word(start / 64)?;
            word * 64 + self.occupied[word].trailing_zeros() as usize
        };
        let ahead = (index + self.slots.len() - start) % self.slots.len();
        Some(self.now_ms + ahead as u64)
    }

    /// The next word after `word` that is not empty, round the wheel to `word` itself.
    fn next_word(&self, word: usize) -> Option<usize> {
        let words = self.occupied.len();
        let group = word / 64;
        let after = |word: usize| !0 << (word % 64) << 1;
        let rest = self.summary[group] & after(word);
        if rest != 0 {
            return Some(group * 64 + rest.trailing_zeros() as usize);
        }
        let groups = words / 64;
        (1..=groups)
            .map(|step| (group + step) % groups)
            .find(|group| self.summary[*group] != 0)
            .map(|group| group * 64 + self.summary[group].trailing_zeros() as usize)
    }
}

fn slot_of(at_ms: u64) -> usize {
    usize::try_from(at_ms % SLOTS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn events_come_in_the_order_of_their_time(
            steps in proptest::collection::vec((0u64..300_000, 0usize..3), 1..300),
        ) {
            let mut queue = Queue::new();
            let mut expected = std::collections::BTreeSet::new();
            let mut now = 0;
            for (number, (delay, pops)) in steps.into_iter().enumerate() {
                queue.push(now + delay, number);
                expected.insert((now + delay, number));
                for _ in 0..pops {
                    let next = expected.pop_first();
                    prop_assert_eq!(queue.next_ms(), next.map(|(at, _)| at));
                    prop_assert_eq!(queue.pop(), next.map(|(_, number)| number));
                    now = next.map_or(now, |(at, _)| at);
                }
                prop_assert_eq!(queue.len, expected.len());
            }
        }
    }

    #[test]
    fn what_is_far_away_comes_in_its_turn() {
        let mut queue = Queue::new();
        queue.push(10_000_000, "far");
        queue.push(1, "near");
        queue.push(10_000_000, "far as well");
        assert_eq!(queue.pop(), Some("near"));
        assert_eq!(queue.next_ms(), Some(10_000_000));
        assert_eq!(queue.pop(), Some("far"));
        assert_eq!(queue.pop(), Some("far as well"));
        assert_eq!(queue.pop(), None);
    }
}
