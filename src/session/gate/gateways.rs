//! How many devices of each gateway may upgrade at once: as the operator says of that one, else as its product says, else as many as of
//! any.

use std::collections::HashMap;

use crate::{
    clock::Instant,
    ledger::{Further, Lane},
};

#[derive(Debug)]
pub(super) struct Gateways {
    /// For all of which nothing else is said.
    usual: u32,
    /// What the operator says of one.
    own: HashMap<Lane, u32>,
    /// What the products of those say that are known, and when that was found out.
    products: HashMap<Lane, (Option<u32>, Instant)>,
}

impl Gateways {
    pub(super) fn new(usual: u32) -> Self {
        Self {
            usual,
            own: HashMap::new(),
            products: HashMap::new(),
        }
    }

    /// How many devices of that one may upgrade at once.
    pub(super) fn limit(&self, lane: Lane) -> u32 {
        let product = || self.products.get(&lane).and_then(|(limit, _)| *limit);
        let own = self.own.get(&lane).copied();
        own.or_else(product).unwrap_or(self.usual)
    }

    /// The operator says so of that one from now on, or nothing any more.
    pub(super) fn rule(&mut self, lane: Lane, most: Option<u32>) {
        match most {
            Some(most) => self.own.insert(lane, most),
            None => self.own.remove(&lane),
        };
    }

    /// Of which gateway of these the product says something that is new. An upgrade that began earlier may know an older limit.
    pub(super) fn learn(&mut self, further: Further) -> Option<Lane> {
        let (limit, as_of) = (further.per_gateway(), further.as_of());
        let lane = (further.lanes()).find(|lane| matches!(lane, Lane::Gateway(_)))?;
        let known = self.products.get(&lane).copied();
        if known.is_some_and(|(_, since)| since > as_of) {
            return None;
        }
        self.products.insert(lane, (limit, as_of));
        known
            .is_none_or(|(before, _)| before != limit)
            .then_some(lane)
    }

    /// So many of any from now on. Returns whether that is news.
    pub(super) fn configure(&mut self, usual: u32) -> bool {
        let before = std::mem::replace(&mut self.usual, usual);
        before != usual
    }

    /// Those that are known.
    pub(super) fn known(&self) -> impl Iterator<Item = Lane> {
        self.products.keys().copied()
    }
}
