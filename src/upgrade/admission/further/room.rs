//! Who is in a lane, and who was passed over there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

use super::super::share::Order;
use crate::{clock::Instant, ledger::TaskId};

/// Devices that may use the same slots of a queue: of its lane, their task and limit.
pub(in super::super) type Group<L> = (L, TaskId, u32);

/// A further lane.
#[derive(Debug)]
pub(super) struct Room<K, L> {
    /// Who holds a slot, and when it is expected to come back.
    pub(super) ends: HashMap<K, Instant>,
    /// For whom a slot is kept, as they are being looked for.
    pub(super) claims: BTreeSet<K>,
    /// Who comes first.
    pub(super) overdue: BTreeSet<(Order, K)>,
    pub(super) groups: BTreeMap<Group<L>, Line<K>>,
    /// Those who were passed over, by their queues.
    queues: BTreeMap<L, BTreeSet<Order>>,
    /// The first one of each queue.
    pub(super) heads: BTreeSet<(Order, L)>,
    /// Devices that want a slot.
    pub(super) waiting: usize,
}

#[derive(Debug)]
pub(super) struct Line<K> {
    pub(super) passed_over: BTreeSet<(Order, K)>,
    asked: BTreeSet<K>,
}

impl<K, L> Default for Room<K, L> {
    fn default() -> Self {
        Self {
            ends: HashMap::new(),
            claims: BTreeSet::new(),
            overdue: BTreeSet::new(),
            groups: BTreeMap::new(),
            queues: BTreeMap::new(),
            heads: BTreeSet::new(),
            waiting: 0,
        }
    }
}

impl<K> Default for Line<K> {
    fn default() -> Self {
        Self {
            passed_over: BTreeSet::new(),
            asked: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Ord + Hash, L: Copy + Ord + Hash> Room<K, L> {
    pub(super) fn line_up(&mut self, device: K, group: Group<L>, order: Order) {
        let line = self.groups.entry(group).or_default();
        line.passed_over.insert((order, device));
        let (home, ..) = group;
        self.in_queue(home, |queue| {
            queue.insert(order);
        });
    }

    pub(super) fn leave(&mut self, device: K, group: Group<L>, order: Order) {
        if let Some(line) = self.groups.get_mut(&group) {
            line.passed_over.remove(&(order, device));
        }
        self.forget_if_empty(group);
        let (home, ..) = group;
        self.in_queue(home, |queue| {
            queue.remove(&order);
        });
    }

    pub(super) fn is_not_asked(&mut self, device: K, group: Group<L>) {
        if let Some(line) = self.groups.get_mut(&group) {
            line.asked.remove(&device);
        }
        self.forget_if_empty(group);
    }

    fn forget_if_empty(&mut self, group: Group<L>) {
        let line = self.groups.get(&group);
        if line.is_some_and(|it| it.passed_over.is_empty() && it.asked.is_empty()) {
            self.groups.remove(&group);
        }
    }

    /// Changes who was passed over of a queue; its head follows.
    fn in_queue(&mut self, home: L, change: impl FnOnce(&mut BTreeSet<Order>)) {
        let queue = self.queues.entry(home).or_default();
        let before = queue.first().copied();
        change(queue);
        let after = queue.first().copied();
        if queue.is_empty() {
            self.queues.remove(&home);
        }
        if before != after {
            if let Some(order) = before {
                self.heads.remove(&(order, home));
            }
            self.heads.extend(after.map(|order| (order, home)));
        }
    }

    /// Of each group of a queue, has as many considered as there are slots.
    pub(super) fn ask(&mut self, home: L, free: usize) -> Vec<(K, Group<L>, Order)> {
        let of_home = (home, TaskId(i64::MIN), 0)..=(home, TaskId(i64::MAX), u32::MAX);
        let mut asked = Vec::new();
        for (group, line) in self.groups.range_mut(of_home) {
            while line.asked.len() < free
                && let Some((order, device)) = line.passed_over.pop_first()
            {
                line.asked.insert(device);
                asked.push((device, *group, order));
            }
        }
        for (_, (home, ..), order) in &asked {
            self.in_queue(*home, |queue| {
                queue.remove(order);
            });
        }
        asked
    }
}
