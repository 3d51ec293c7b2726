//! The lanes in which devices compete besides the one in whose queue they stand: a site, a gateway. One that many cells share
//! has a limit of its own, and a device is admitted only with room in all of its lanes.
//!
//! A device that finds a further lane full is passed over in its queue: it keeps its place there, holds nothing, and nobody waits for
//! it. It stands in line in the full lane, in the order of waiting. When there is room, queues are asked in the order in which the first
//! ones of theirs have waited, one after the other, until there is none: so nothing stays free that somebody could have. No
//! more are asked than there are slots, of each task and limit in a queue.
//!
//! Nobody starves: a device that was passed over first longer ago than [`AdmissionConfig::overtake_s`](crate::config::AdmissionConfig)
//! comes before all who wait for less long than it does. A slot of its further lanes is kept for it, while it can be reached and its
//! queue is open, until that lets it go. A device has slots in all lanes or in none, and what is kept is kept from those alone who came later, so that
//! nobody waits for somebody who waits for it.

mod room;

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    ops::Bound,
    time::Duration,
};

use super::{Outlook, Readiness, share::Order};
use crate::clock::Instant;
pub(super) use room::Group;
use room::Room;

/// The further lanes of all devices that have any.
#[derive(Debug)]
pub(super) struct Furthers<K, L> {
    /// Those that wait.
    members: HashMap<K, Member<L>>,
    /// Those that hold slots: in whose queue they were, and their further lanes.
    holders: HashMap<K, (L, Box<[L]>)>,
    lanes: HashMap<L, Room<K, L>>,
    /// How many may be in a lane; no entry where everybody may.
    limits: HashMap<L, u32>,
    /// Lanes in which there may be room for those who were passed over, and up to whom these were asked.
    stirred: BTreeMap<L, Option<(Order, L)>>,
    /// One who was passed over for so long comes first.
    pub(super) overtake: Duration,
}

/// A device that waits.
#[derive(Debug)]
struct Member<L> {
    /// In whose queue it stands.
    home: L,
    further: Box<[L]>,
    /// When it was passed over first.
    since: Option<Instant>,
    state: State<L>,
    /// A slot is kept for it, as it is being looked for.
    claims: bool,
    /// It was passed over for long enough: its place among those.
    overdue: Option<Order>,
}

/// How a device stands in the line of a lane.
#[derive(Debug, Clone, Copy)]
enum State<L> {
    /// In none.
    Considered,
    /// It was passed over: its lane was full.
    PassedOver(L, Group<L>, Order),
    /// It was passed over there, and is considered again as there was room.
    Asked(L, Group<L>),
}

impl<K: Copy + Ord + Hash, L: Copy + Ord + Hash> Furthers<K, L> {
    pub(super) fn new(overtake: Duration) -> Self {
        Self {
            members: HashMap::new(),
            holders: HashMap::new(),
            lanes: HashMap::new(),
            limits: HashMap::new(),
            stirred: BTreeMap::new(),
            overtake,
        }
    }

    /// At most so many have a slot in a lane from now on; as many as like where it is `None`.
    pub(super) fn limit(&mut self, lane: L, most: Option<u32>) {
        match most {
            Some(most) => self.limits.insert(lane, most),
            None => self.limits.remove(&lane),
        };
        self.freed(lane);
    }

    /// A device that waits in the queue of `home` competes in these lanes as well.
    pub(super) fn compete(&mut self, device: K, home: L, further: impl Iterator<Item = L>) {
        let mut further: Vec<L> = further.collect();
        further.dedup();
        let before = self.members.get(&device);
        if before.is_some_and(|it| it.home == home && *it.further == *further) {
            return;
        }
        let since = before.and_then(|it| it.since);
        self.forget(device);
        if further.is_empty() {
            return;
        }
        for lane in &further {
            self.lanes.entry(*lane).or_default().waiting += 1;
        }
        let member = Member {
            home,
            further: further.into(),
            since,
            state: State::Considered,
            claims: false,
            overdue: None,
        };
        self.members.insert(device, member);
    }

    /// It waits no more in that queue.
    pub(super) fn withdraw(&mut self, device: K, home: L) {
        if (self.members.get(&device)).is_some_and(|member| member.home == home) {
            self.forget(device);
        }
    }

    fn forget(&mut self, device: K) {
        self.reconsider(device);
        self.is_not_overdue(device);
        if let Some(member) = self.members.remove(&device) {
            for lane in member.further {
                if let Some(room) = self.lanes.get_mut(&lane) {
                    room.waiting -= 1;
                }
                self.forget_if_empty(lane);
            }
        }
    }

    /// It is looked at as one that comes: nothing is kept for it, and it is in no line.
    pub(super) fn reconsider(&mut self, device: K) {
        self.leave_line(device, None);
        self.claims_no_more(device);
    }

    /// It cannot be reached: nothing is kept for it.
    pub(super) fn sleeps(&mut self, device: K) {
        self.reconsider(device);
        self.is_not_overdue(device);
    }

    /// Nothing is kept for it any more; its place stays. Returns whether anything was.
    pub(super) fn lets_go(&mut self, device: K) -> bool {
        let kept = (self.members.get(&device)).is_some_and(|member| {
            member.claims || member.overdue.is_some() || matches!(member.state, State::Asked(..))
        });
        self.claims_no_more(device);
        self.is_not_overdue(device);
        kept
    }

    /// Whether it waits for a slot of a further lane besides.
    pub(super) fn has(&self, device: K) -> bool {
        self.members.contains_key(&device)
    }

    /// It was heard: whoever looks for it keeps a slot anew.
    pub(super) fn claims_no_more(&mut self, device: K) {
        let Some(member) = self.members.get_mut(&device) else {
            return;
        };
        if std::mem::take(&mut member.claims) {
            for lane in member.further.clone() {
                if let Some(room) = self.lanes.get_mut(&lane) {
                    room.claims.remove(&device);
                }
                self.freed(lane);
            }
        }
    }

    fn is_not_overdue(&mut self, device: K) {
        let Some(member) = self.members.get_mut(&device) else {
            return;
        };
        if let Some(order) = member.overdue.take() {
            for lane in member.further.clone() {
                if let Some(room) = self.lanes.get_mut(&lane) {
                    room.overdue.remove(&(order, device));
                }
                self.freed(lane);
            }
        }
    }

    /// It leaves the line that it is in. Whoever comes after it there is asked, unless it is for the sake of `for_lane`.
    fn leave_line(&mut self, device: K, for_lane: Option<L>) {
        let Some(member) = self.members.get_mut(&device) else {
            return;
        };
        match std::mem::replace(&mut member.state, State::Considered) {
            State::Considered => {}
            State::PassedOver(lane, group, order) => {
                if let Some(room) = self.lanes.get_mut(&lane) {
                    room.leave(device, group, order);
                }
            }
            State::Asked(lane, group) => {
                if let Some(room) = self.lanes.get_mut(&lane) {
                    room.is_not_asked(device, group);
                }
                if for_lane != Some(lane) {
                    self.freed(lane);
                }
            }
        }
    }

    /// Slots of a lane that nobody has, and that are kept for nobody else who is looked for; `None` where there is no limit.
    fn free(&self, lane: &L, claims: bool) -> Option<usize> {
        let most = *self.limits.get(lane)?;
        let taken = (self.lanes.get(lane)).map_or(0, |room| room.ends.len() + room.claims.len());
        Some((most as usize).saturating_sub(taken - usize::from(claims)))
    }

    /// Whether there is room for a device in all of its further lanes.
    ///
    /// # Errors
    /// The first lane in which there is none.
    pub(super) fn fits(
        &self,
        device: K,
        order: Order,
        look: &mut impl FnMut(K) -> Outlook,
    ) -> Result<(), L> {
        if self.members.is_empty() {
            return Ok(());
        }
        let Some(member) = self.members.get(&device) else {
            return Ok(());
        };
        for lane in &member.further {
            let Some(free) = self.free(lane, member.claims) else {
                continue;
            };
            let Some(room) = self.lanes.get(lane) else {
                continue;
            };
            let first = (room.overdue.range(..(order, device))).filter(|(_, other)| {
                !room.claims.contains(other) && look(*other).readiness != Readiness::Asleep
            });
            if first.take(free).count() >= free {
                return Err(*lane);
            }
        }
        Ok(())
    }

    /// A slot in each of its further lanes is kept for a device that is being looked for.
    pub(super) fn claim(&mut self, device: K) {
        let Some(member) = self.members.get_mut(&device) else {
            return;
        };
        member.claims = true;
        for lane in &member.further {
            self.lanes.entry(*lane).or_default().claims.insert(device);
        }
    }

    /// The device finds no room in that lane: it is considered again when there is some.
    pub(super) fn pass_over(
        &mut self,
        now: Instant,
        device: K,
        full: L,
        group: Group<L>,
        order: Order,
    ) {
        self.leave_line(device, Some(full));
        self.claims_no_more(device);
        let Some(member) = self.members.get_mut(&device) else {
            return;
        };
        member.since.get_or_insert(now);
        member.state = State::PassedOver(full, group, order);
        let room = self.lanes.entry(full).or_default();
        room.line_up(device, group, order);
    }

    /// Those who are to be considered again, and in whose queue they stand: there may be room for them. `None` where nobody is.
    pub(super) fn stir(&mut self, now: Instant) -> Option<(L, Vec<K>)> {
        loop {
            let (lane, asked) = self
                .stirred
                .first_key_value()
                .map(|(lane, at)| (*lane, *at))?;
            let free = self.free(&lane, false).unwrap_or(usize::MAX);
            let room = self.lanes.get_mut(&lane);
            let from = asked.map_or(Bound::Unbounded, Bound::Excluded);
            let head = room.as_ref().filter(|_| free > 0);
            let head = head.and_then(|it| it.heads.range((from, Bound::Unbounded)).next());
            let (Some(head), Some(room)) = (head.copied(), self.lanes.get_mut(&lane)) else {
                self.stirred.remove(&lane);
                continue;
            };
            self.stirred.insert(lane, Some(head));
            let (_, home) = head;
            let asked = room.ask(home, free);
            if asked.is_empty() {
                continue;
            }
            for (device, group, order) in &asked {
                self.is_asked(now, *device, lane, *group, *order);
            }
            return Some((home, asked.into_iter().map(|(device, ..)| device).collect()));
        }
    }

    fn is_asked(&mut self, now: Instant, device: K, lane: L, group: Group<L>, order: Order) {
        let Some(member) = self.members.get_mut(&device) else {
            return;
        };
        member.state = State::Asked(lane, group);
        let waited = member.since.map(|since| now.since(since));
        if waited.is_some_and(|waited| waited >= self.overtake) {
            member.overdue = Some(order);
            for lane in &member.further {
                let room = self.lanes.entry(*lane).or_default();
                room.overdue.insert((order, device));
            }
        }
    }

    /// Whether somebody is still to be asked whether room is of use to them.
    pub(super) fn is_stirred(&self) -> bool {
        !self.stirred.is_empty()
    }

    /// The device has a slot in all of its lanes from now on.
    pub(super) fn take(&mut self, device: K, end: Instant) {
        let Some(member) = self.members.remove(&device) else {
            return;
        };
        match member.state {
            State::Considered => {}
            State::PassedOver(lane, group, order) => {
                if let Some(room) = self.lanes.get_mut(&lane) {
                    room.leave(device, group, order);
                }
            }
            State::Asked(lane, group) => {
                if let Some(room) = self.lanes.get_mut(&lane) {
                    room.is_not_asked(device, group);
                }
            }
        }
        for lane in &member.further {
            let room = self.lanes.entry(*lane).or_default();
            room.waiting -= 1;
            room.claims.remove(&device);
            if let Some(order) = member.overdue {
                room.overdue.remove(&(order, device));
            }
        }
        self.hold(device, member.home, member.further, end);
    }

    /// A slot in each of these lanes that was granted before a restart.
    pub(super) fn restore(
        &mut self,
        device: K,
        home: L,
        further: impl Iterator<Item = L>,
        end: Instant,
    ) {
        let mut further: Vec<L> = further.collect();
        further.dedup();
        if !further.is_empty() {
            self.hold(device, home, further.into(), end);
        }
    }

    fn hold(&mut self, device: K, home: L, further: Box<[L]>, end: Instant) {
        if let Some((before, _)) = self.holders.get(&device) {
            self.release(device, *before);
        }
        for lane in &further {
            self.lanes
                .entry(*lane)
                .or_default()
                .ends
                .insert(device, end);
        }
        self.holders.insert(device, (home, further));
    }

    /// Its slots are expected to come back at another time.
    pub(super) fn expect(&mut self, device: K, home: L, end: Instant) {
        let holder = self.holders.get(&device).filter(|(of, _)| *of == home);
        for lane in holder.iter().flat_map(|(_, further)| further) {
            if let Some(at) = (self.lanes.get_mut(lane)).and_then(|it| it.ends.get_mut(&device)) {
                *at = end;
            }
        }
    }

    /// It gives back what it has besides its slot in the lane of that queue.
    pub(super) fn release(&mut self, device: K, home: L) {
        if self.holders.get(&device).is_none_or(|(of, _)| *of != home) {
            return;
        }
        let further = self.holders.remove(&device).map(|(_, further)| further);
        for lane in further.into_iter().flatten() {
            if let Some(room) = self.lanes.get_mut(&lane) {
                room.ends.remove(&device);
            }
            self.freed(lane);
            self.forget_if_empty(lane);
        }
    }

    /// There may be room in a lane.
    fn freed(&mut self, lane: L) {
        if (self.lanes.get(&lane)).is_some_and(|room| !room.heads.is_empty()) {
            self.stirred.insert(lane, None);
        }
    }

    fn forget_if_empty(&mut self, lane: L) {
        if (self.lanes.get(&lane)).is_some_and(|room| room.ends.is_empty() && room.waiting == 0) {
            self.lanes.remove(&lane);
            self.stirred.remove(&lane);
        }
    }

    /// Where a device stands that was passed over, and when there will be room for it, if all goes as expected: in the lane that was
    /// full, after those who came before it. `None` for one that is considered.
    pub(super) fn turn(&self, now: Instant, device: K) -> Option<(Group<L>, Order, Instant)> {
        let State::PassedOver(lane, group, order) = self.members.get(&device)?.state else {
            return None;
        };
        let room = self.lanes.get(&lane)?;
        let lines = room.groups.values();
        let ahead: usize = lines
            .map(|line| line.passed_over.range(..(order, device)).count())
            .sum();
        let most = self
            .limits
            .get(&lane)
            .map_or(usize::MAX, |most| *most as usize);
        let mut ends: Vec<Instant> = (room.ends.values())
            .map(|end| (*end).max(now + now.since(*end)))
            .collect();
        ends.sort_unstable();
        let (Some(last), count) = (ends.last(), ends.len()) else {
            return Some((group, order, now));
        };
        // whoever has a slot then has it for about as long as those who have one now
        let place = (count + ahead).saturating_sub(most);
        let rounds = u32::try_from(place / count).unwrap_or(u32::MAX);
        let round = last.since(now).saturating_mul(rounds);
        let end = ends.get(place % count).copied().unwrap_or(now);
        Some((group, order, end + round))
    }

    /// Slots in use in a lane.
    pub(super) fn taken(&self, lane: &L) -> u32 {
        let taken = self.lanes.get(lane).map_or(0, |room| room.ends.len());
        u32::try_from(taken).unwrap_or(u32::MAX)
    }

    /// Devices that want a slot in a lane.
    pub(super) fn waiting(&self, lane: &L) -> usize {
        self.lanes.get(lane).map_or(0, |room| room.waiting)
    }

    /// Whether anybody is in a lane, or wants to be, for whom it is a further one.
    pub(super) fn is_lane(&self, lane: &L) -> bool {
        self.lanes.contains_key(lane)
    }

    /// How many lanes anybody is in, or wants to be.
    #[cfg(test)]
    pub(super) fn lane_count(&self) -> usize {
        self.lanes.len()
    }
}

#[cfg(test)]
mod tests;
