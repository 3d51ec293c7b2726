use std::{cmp::Ordering, collections::BinaryHeap};

/// Milliseconds in a span: as many as there are bits in a word.
const SPAN_MS: u64 = 64;
const SLOTS: usize = 64;
/// Spans that are kept ready: more than two minutes, within which most of what happens follows.
const SPANS: usize = 2_048;
/// Events and bytes of datagrams on a page.
const PAGE_EVENTS: u32 = 32;
const PAGE_BYTES: usize = 4_096;
const NONE: u32 = u32::MAX;

/// Events in the order of their time; of the same millisecond, in the order in which they came. An event may carry
/// a datagram.
///
/// Events are gathered by spans of time, on pages: those of one span, and their datagrams, lie one behind the other.
/// With a million devices it is the way to memory that costs time, and this one is short. A span that begins is
/// sorted by milliseconds. What is far away waits in a heap. The order is the same on every run.
#[derive(Debug)]
pub(super) struct Queue<E> {
    /// Time of the last event taken.
    now_ms: u64,
    /// The span in which that lies, and its events by their millisecond.
    current: Span,
    slots: [Slot; SLOTS],
    /// A bit per slot that holds something.
    occupied: u64,
    /// The spans that follow, each at its number modulo [`SPANS`], with a bit per span that holds something.
    near: Vec<Span>,
    near_occupied: [u64; SPANS / 64],
    pages: Pages<E>,
    far: BinaryHeap<Far<E>>,
    pushed: u64,
    len: usize,
}

/// The pages of the events of a span.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: u32,
    last: u32,
    /// The first millisecond in which something happens.
    soonest: u8,
}

/// The events of a millisecond.
#[derive(Debug, Clone, Copy)]
struct Slot {
    first: u32,
    last: u32,
}

#[derive(Debug)]
struct Pages<E> {
    all: Vec<Page<E>>,
    /// Those that are empty.
    spare: Vec<u32>,
}

#[derive(Debug)]
struct Page<E> {
    nodes: Vec<Node<E>>,
    /// The datagrams of all nodes.
    bytes: Vec<u8>,
    next: u32,
}

#[derive(Debug, Clone, Copy)]
struct Node<E> {
    event: E,
    /// The next one of the same millisecond, once they are sorted.
    next: u32,
    /// Where in the page's bytes its datagram ends; it begins where that of the node before ends.
    end: u32,
    /// In which millisecond of the span.
    slot: u8,
}

#[derive(Debug)]
struct Far<E> {
    at_ms: u64,
    number: u64,
    event: E,
    datagram: Box<[u8]>,
}

impl<E: Copy> Queue<E> {
    pub(super) fn new() -> Self {
        Self {
            now_ms: 0,
            current: Span::EMPTY,
            slots: [Slot::EMPTY; SLOTS],
            occupied: 0,
            near: vec![Span::EMPTY; SPANS],
            near_occupied: [0; SPANS / 64],
            pages: Pages {
                all: Vec::new(),
                spare: Vec::new(),
            },
            far: BinaryHeap::new(),
            pushed: 0,
            len: 0,
        }
    }

    /// Puts an event at a time, at the time of the last one taken when that is later.
    pub(super) fn push(&mut self, at_ms: u64, event: E) {
        self.push_datagram(at_ms, event, &[]);
    }

    /// As [`push`](Self::push), with a datagram.
    pub(super) fn push_datagram(&mut self, at_ms: u64, event: E, datagram: &[u8]) {
        let at_ms = at_ms.max(self.now_ms);
        self.len += 1;
        self.pushed += 1;
        if ahead(self.now_ms, at_ms) < SPANS as u64 {
            self.push_near(at_ms, event, datagram);
        } else {
            self.far.push(Far {
                at_ms,
                number: self.pushed,
                event,
                datagram: datagram.into(),
            });
        }
    }

    /// The time of the next event.
    pub(super) fn next_ms(&self) -> Option<u64> {
        if self.occupied != 0 {
            return Some(start_of(self.now_ms) + u64::from(self.occupied.trailing_zeros()));
        }
        self.next_near()
            .or_else(|| self.far.peek().map(|far| far.at_ms))
    }

    /// The next event. Its datagram is written to `datagram`, in place of what was there.
    pub(super) fn pop(&mut self, datagram: &mut Vec<u8>) -> Option<E> {
        let next_ms = self.next_ms()?;
        let goes_on = ahead(self.now_ms, next_ms) == 0;
        self.now_ms = next_ms;
        if !goes_on {
            self.begin_span();
        }
        let index = slot_of(next_ms);
        let slot = &mut self.slots[usize::from(index)];
        let (node, bytes) = self.pages.get(slot.first)?;
        datagram.clear();
        datagram.extend_from_slice(bytes);
        slot.first = node.next;
        let event = node.event;
        self.len -= 1;
        if slot.first == NONE {
            slot.last = NONE;
            self.occupied &= !(1 << index);
            if self.occupied == 0 {
                let drained = std::mem::replace(&mut self.current, Span::EMPTY);
                self.pages.release(drained);
            }
        }
        Some(event)
    }

    /// Time has come to another span; nothing is left of the one before.
    fn begin_span(&mut self) {
        let row = row_of(self.now_ms);
        self.near_occupied[row / 64] &= !(1 << (row % 64));
        self.current = std::mem::replace(&mut self.near[row], Span::EMPTY);
        let mut page = self.current.first;
        while let Some(content) = self.pages.all.get(page as usize) {
            let next = content.next;
            for index in 0..content.nodes.len() {
                self.link(node_of(page, index));
            }
            page = next;
        }
        while (self.far.peek()).is_some_and(|far| ahead(self.now_ms, far.at_ms) < SPANS as u64)
            && let Some(far) = self.far.pop()
        {
            self.push_near(far.at_ms, far.event, &far.datagram);
        }
    }

    fn push_near(&mut self, at_ms: u64, event: E, datagram: &[u8]) {
        let slot = slot_of(at_ms);
        if ahead(self.now_ms, at_ms) == 0 {
            let node = (self.pages).append(&mut self.current, slot, event, datagram);
            self.link(node);
        } else {
            let row = row_of(at_ms);
            (self.pages).append(&mut self.near[row], slot, event, datagram);
            self.near_occupied[row / 64] |= 1 << (row % 64);
        }
    }

    /// Puts a node of the current span behind the others of its millisecond.
    fn link(&mut self, node: u32) {
        let Some(index) = self.pages.node_mut(node).map(|node| node.slot) else {
            return;
        };
        let slot = &mut self.slots[usize::from(index)];
        match self.pages.node_mut(slot.last) {
            Some(last) => last.next = node,
            None => slot.first = node,
        }
        slot.last = node;
        self.occupied |= 1 << index;
    }

    /// The time of the first event in the spans that follow.
    fn next_near(&self) -> Option<u64> {
        let here = row_of(self.now_ms);
        let words = self.near_occupied.len();
        // to the end of the word, then round the wheel to its beginning
        let rest = !0 << (here % 64);
        let row = (0..=words).find_map(|step| {
            let word = (here / 64 + step) % words;
            let mask = match step {
                0 => rest,
                step if step == words => !rest,
                _ => !0,
            };
            let bits = self.near_occupied[word] & mask;
            (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
        })?;
        let ahead = (row + SPANS - here) % SPANS;
        let start_ms = start_of(self.now_ms) + ahead as u64 * SPAN_MS;
        Some(start_ms + u64::from(self.near[row].soonest))
    }
}

impl Span {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        soonest: u8::MAX,
    };
}

impl Slot {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };
}

impl<E: Copy> Pages<E> {
    /// Writes an event behind the others of its span. Gives its place.
    fn append(&mut self, span: &mut Span, slot: u8, event: E, datagram: &[u8]) -> u32 {
        let has_room = (self.all.get(span.last as usize)).is_some_and(|page| {
            page.nodes.len() < PAGE_EVENTS as usize
                && page.bytes.len() + datagram.len() <= PAGE_BYTES
        });
        if !has_room {
            self.add_page(span);
        }
        let page = &mut self.all[span.last as usize];
        page.bytes.extend_from_slice(datagram);
        page.nodes.push(Node {
            event,
            next: NONE,
            end: u32::try_from(page.bytes.len()).unwrap_or(NONE),
            slot,
        });
        span.soonest = span.soonest.min(slot);
        node_of(span.last, page.nodes.len() - 1)
    }

    fn add_page(&mut self, span: &mut Span) {
        let page = self.spare.pop().unwrap_or_else(|| {
            self.all.push(Page {
                nodes: Vec::with_capacity(PAGE_EVENTS as usize),
                bytes: Vec::new(),
                next: NONE,
            });
            u32::try_from(self.all.len() - 1).unwrap_or(NONE)
        });
        match self.all.get_mut(span.last as usize) {
            Some(last) => last.next = page,
            None => span.first = page,
        }
        span.last = page;
    }

    /// An event with its datagram.
    fn get(&self, node: u32) -> Option<(&Node<E>, &[u8])> {
        let (page, index) = place_of(node);
        let page = self.all.get(page)?;
        let node = page.nodes.get(index)?;
        let start = index
            .checked_sub(1)
            .map_or(0, |before| page.nodes[before].end);
        Some((node, page.bytes.get(start as usize..node.end as usize)?))
    }

    fn node_mut(&mut self, node: u32) -> Option<&mut Node<E>> {
        let (page, index) = place_of(node);
        self.all.get_mut(page)?.nodes.get_mut(index)
    }

    /// Empties the pages of a span.
    fn release(&mut self, span: Span) {
        let mut next = span.first;
        while let Some(page) = self.all.get_mut(next as usize) {
            self.spare.push(next);
            page.nodes.clear();
            page.bytes.clear();
            next = std::mem::replace(&mut page.next, NONE);
        }
    }
}

fn node_of(page: u32, index: usize) -> u32 {
    page * PAGE_EVENTS + u32::try_from(index).unwrap_or(0)
}

/// The page of a node, and its index there. For [`NONE`] there is no such page.
const fn place_of(node: u32) -> (usize, usize) {
    ((node / PAGE_EVENTS) as usize, (node % PAGE_EVENTS) as usize)
}

/// The one that comes first is the greatest: the heap gives that one.
impl<E> Ord for Far<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ms, other.number).cmp(&(self.at_ms, self.number))
    }
}

impl<E> PartialOrd for Far<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Far<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Far<E> {}

/// How many spans later than `now_ms` a time is.
const fn ahead(now_ms: u64, at_ms: u64) -> u64 {
    at_ms / SPAN_MS - now_ms / SPAN_MS
}

const fn start_of(at_ms: u64) -> u64 {
    at_ms - at_ms % SPAN_MS
}

/// The millisecond of its span.
fn slot_of(at_ms: u64) -> u8 {
    u8::try_from(at_ms % SPAN_MS).unwrap_or(0)
}

/// The place of its span.
fn row_of(at_ms: u64) -> usize {
    usize::try_from(at_ms / SPAN_MS).unwrap_or(0) % SPANS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Mostly near, now and then far.
    fn delay() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..3, 0u64..200, 0u64..140_000, 0u64..1_000_000]
    }

    proptest! {
        #[test]
        fn events_come_in_the_order_of_their_time(
            steps in proptest::collection::vec((delay(), 0usize..3), 1..300),
        ) {
            let mut queue = Queue::new();
            let mut expected = std::collections::BTreeSet::new();
            let mut now = 0;
            let mut datagram = Vec::new();
            for (number, (delay, pops)) in steps.into_iter().enumerate() {
                // some carry a datagram
                let text = number.to_string().repeat(number % 3);
                queue.push_datagram(now + delay, number, text.as_bytes());
                expected.insert((now + delay, number));
                for _ in 0..pops {
                    let next = expected.pop_first();
                    prop_assert_eq!(queue.next_ms(), next.map(|(at, _)| at));
                    prop_assert_eq!(queue.pop(&mut datagram), next.map(|(_, number)| number));
                    if let Some((at, number)) = next {
                        let text = number.to_string().repeat(number % 3);
                        prop_assert_eq!(datagram.as_slice(), text.as_bytes());
                        now = at;
                    }
                }
                prop_assert_eq!(queue.len, expected.len());
            }
        }
    }

    #[test]
    fn what_is_far_away_comes_in_its_turn() {
        let mut queue = Queue::new();
        let mut datagram = Vec::new();
        queue.push(10_000_000, "far");
        queue.push(1, "near");
        queue.push_datagram(10_000_000, "far as well", b"hello");
        assert_eq!(queue.pop(&mut datagram), Some("near"));
        assert_eq!(queue.next_ms(), Some(10_000_000));
        assert_eq!(queue.pop(&mut datagram), Some("far"));
        assert!(datagram.is_empty());
        assert_eq!(queue.pop(&mut datagram), Some("far as well"));
        assert_eq!(datagram, b"hello");
        assert_eq!(queue.pop(&mut datagram), None);
    }
}
