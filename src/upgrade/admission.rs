//! Who may upgrade in a lane at the same time.
//!
//! A device is admitted while the devices that upgrade in its lane are fewer than its own coverage allows; it holds its
//! slot to the end of the upgrade. Devices of the same limit are a class. Within a class the order is that of arrival;
//! a device that sleeps is passed over, and considered again when it is heard: no slot is ever held for a sleeper. One that
//! is kept awake for a turn comes before those who have woken up since.
//!
//! Between classes, the one with the smallest limit comes first, because it can use the fewest moments: it is what a
//! crowded lane waits for in the end (see [`lower_bound`]). While its first device does not fit, the moment at which it
//! will is known from the ends that are expected. Until then others are admitted that are expected to have ended by
//! that moment. So the lane is empty when a device comes that needs it empty, and is not idle before. In the scheduling
//! of batch jobs this is backfilling with one reservation (Lifka, "The ANL/IBM SP Scheduling System", 1995).
//!
//! Nobody starves: a class whose first device fits, and is held back for another's sake longer than
//! [`AdmissionConfig::overtake_s`], has its slots all the same, until the lane is full; then one of a smaller limit has its
//! turn before that happens again.
//!
//! A device may compete in further lanes besides the one in whose queue it stands: it is admitted with room in all of them
//! (`further`).
//!
//! All of that is so among the devices of one task. Where devices of several tasks wait in a lane, tasks of a higher priority
//! come first, and those of the same priority have their turns in proportion to their weights (`share`). A slot that is of no
//! use to whose turn it is has the next one who will have ended by the time that it is.

mod bound;
mod forecast;
mod further;
mod lane;
mod pace;
mod share;
mod walk;

use std::{collections::HashMap, hash::Hash, time::Duration};

pub use bound::lower_bound;

use crate::{clock::Instant, config::AdmissionConfig, ledger::TaskId, task::Share};
use further::Furthers;
use lane::LaneState;
use pace::Pace;
use share::Shares;

/// Whether a waiting device could take a slot this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Reachable, its coverage is fresh.
    Ready,
    /// Reachable, but its coverage was measured too long ago.
    Stale,
    /// Its coverage is being measured, or it is being pinged.
    Probing,
    /// It listens all the time, but was not heard lately.
    Unheard,
    /// It sleeps, or did not answer: nothing before it is heard.
    Asleep,
}

/// What is to be expected of a waiting device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Whether it could take a slot this moment.
    pub readiness: Readiness,
    /// How long it will hold its slot.
    pub service: Duration,
    /// Until when it can be reached, when it is kept awake as long as that is allowed.
    pub reach: Instant,
}

/// What to do next for a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<K> {
    /// Give the device a slot: it holds one from now on.
    Admit(K),
    /// Measure the device's coverage anew.
    Measure(K),
    /// Find out whether the device can be reached.
    Ping(K),
    /// Ask again then: nothing is to be done before by the passing of time alone.
    Later(Instant),
}

/// Slots and queues of all lanes. `K` identifies a device, `L` a lane.
#[derive(Debug)]
pub struct Admission<K, L: Clone + Eq + Hash> {
    lanes: HashMap<L, LaneState<K>>,
    /// What lanes are limited to, whatever coverage allows.
    most: HashMap<L, u32>,
    arrivals: u64,
    overtake: Duration,
    shares: Shares,
    pace: Pace<L>,
    furthers: Furthers<K, L>,
}

impl<K: Copy + Ord + Hash, L: Copy + Ord + Hash> Admission<K, L> {
    /// No lanes yet.
    pub fn new(config: &AdmissionConfig) -> Self {
        Self {
            lanes: HashMap::new(),
            most: HashMap::new(),
            arrivals: 0,
            overtake: Duration::from_secs(config.overtake_s),
            shares: Shares::new(Duration::from_secs(config.ageing_s)),
            pace: Pace::new(config),
            furthers: Furthers::new(Duration::from_secs(config.overtake_s)),
        }
    }

    /// Other settings apply from now on. Whoever waits keeps its place and its limit.
    pub fn configure(&mut self, config: &AdmissionConfig) {
        self.overtake = Duration::from_secs(config.overtake_s);
        self.shares.ageing = Duration::from_secs(config.ageing_s);
        self.pace = Pace::new(config);
        self.furthers.overtake = self.overtake;
    }

    /// From now on at most so many have a slot in `lane`, whatever their coverage allows: nobody gets one where it is 0, and
    /// coverage alone counts where it is `None`. Whoever has a slot keeps it.
    pub fn restrict(&mut self, lane: L, most: Option<u32>) {
        match most {
            Some(most) => self.most.insert(lane, most),
            None => self.most.remove(&lane),
        };
        let Some(state) = self.lanes.get_mut(&lane) else {
            return;
        };
        if most == Some(0) {
            // whoever waits in a closed lane cannot take what is kept for it elsewhere
            for device in state.devices() {
                self.furthers.lets_go(device);
            }
        } else {
            state.restrict(most.unwrap_or(u32::MAX));
        }
    }

    /// From now on at most so many have a slot in `lane` of those for whom it is a further one; everybody may where it is `None`.
    /// Whoever has a slot keeps it.
    pub fn limit(&mut self, lane: L, most: Option<u32>) {
        self.furthers.limit(lane, most);
    }

    fn is_closed(&self, lane: &L) -> bool {
        self.most.get(lane) == Some(&0)
    }

    fn lane_mut(&mut self, lane: L) -> &mut LaneState<K> {
        let most = self.most.get(&lane).copied().filter(|most| *most > 0);
        (self.lanes.entry(lane)).or_insert_with(|| LaneState::new(most.unwrap_or(u32::MAX)))
    }

    /// The task has this share of slots from now on, also for those who wait. Returns whether that is news.
    pub fn share(&mut self, task: TaskId, share: Share) -> bool {
        self.shares.set(task, share)
    }

    /// Lets `device` wait in `lane` for a slot of `task`, in the order of `since`; a device that waits there already keeps
    /// its place and gets a new limit.
    pub fn wait(&mut self, device: K, lane: L, task: TaskId, limit: u32, since: Instant) {
        self.arrivals += 1;
        let order = (since, self.arrivals);
        self.furthers.reconsider(device);
        self.lane_mut(lane).wait(device, task, limit, order);
    }

    /// A device that waits in `lane` competes in these lanes as well, and in no others: it is admitted with a slot in all of them.
    pub fn compete(&mut self, device: K, lane: L, further: impl Iterator<Item = L>) {
        self.furthers.compete(device, lane, further);
    }

    /// The device was heard: it is considered again.
    pub fn heard(&mut self, device: K, lane: L) {
        self.furthers.claims_no_more(device);
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.wake(device);
        }
    }

    /// A device that waits cannot be reached any more: nothing is kept for it in further lanes. Returns whether anything was: poll
    /// its lane then.
    pub fn unreachable(&mut self, device: K) -> bool {
        self.furthers.lets_go(device)
    }

    /// Whether the device waits for a slot of a further lane besides.
    pub fn competes(&self, device: K) -> bool {
        self.furthers.has(device)
    }

    /// The device is kept awake for a turn. It comes before those who wake up meanwhile: it would have been kept awake for
    /// nothing otherwise.
    pub fn promise(&mut self, device: K, lane: L) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.promise(device);
        }
    }

    /// When the device is expected, once it sleeps, `None` where that is not known; and whether it comes when it is told to. Of
    /// one limit those who do not come first: they have but the moments in which they are awake.
    pub fn expect_back(&mut self, device: K, lane: L, at: Option<Instant>, comes_when_told: bool) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.expect_back(device, at, comes_when_told);
        }
    }

    /// Takes the device out of the queue.
    pub fn withdraw(&mut self, device: K, lane: L) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.leave_queue(device);
        }
        self.furthers.withdraw(device, lane);
        self.forget_if_empty(lane);
    }

    /// Occupies a slot that was granted before a restart, and is expected to come back at `end`.
    pub fn restore(&mut self, device: K, lane: L, end: Instant) {
        self.lane_mut(lane).hold(device, end);
    }

    /// Occupies those that were granted with it in further lanes.
    pub fn restore_further(
        &mut self,
        device: K,
        lane: L,
        further: impl Iterator<Item = L>,
        end: Instant,
    ) {
        self.furthers.restore(device, lane, further, end);
    }

    /// The slot of `device` is expected to come back at another time.
    pub fn expect(&mut self, device: K, lane: L, end: Instant) {
        if let Some(state) = self.lanes.get_mut(&lane)
            && state.holds(device)
        {
            state.hold(device, end);
            self.furthers.expect(device, lane, end);
        }
    }

    /// Gives a slot back, and with it those in further lanes. Nothing happens when the device holds none there.
    pub fn release(&mut self, device: K, lane: L) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.release(device);
        }
        self.furthers.release(device, lane);
        self.forget_if_empty(lane);
    }

    /// Slots in use in `lane`.
    pub fn active(&self, lane: L) -> u32 {
        self.lanes.get(&lane).map_or(0, LaneState::active)
    }

    /// Slots in use in `lane` of those for whom it is a further one.
    pub fn taken(&self, lane: L) -> u32 {
        self.furthers.taken(&lane)
    }

    /// Devices that wait, and want a slot in `lane`, which is a further one for them.
    pub fn wanted(&self, lane: L) -> usize {
        self.furthers.waiting(&lane)
    }

    /// Devices that wait in `lane` and came before `device`.
    pub fn ahead(&self, device: K, lane: L) -> usize {
        (self.lanes.get(&lane)).map_or(0, |lane| lane.ahead(device))
    }

    /// Devices that wait in `lane`, in the order in which they came.
    pub fn waiting(&self, lane: L) -> impl Iterator<Item = K> {
        let state = self.lanes.get(&lane);
        state.into_iter().flat_map(LaneState::devices)
    }

    #[cfg(test)]
    fn further_lane_count(&self) -> usize {
        self.furthers.lane_count()
    }

    /// Lanes in which anybody upgrades or waits.
    pub fn lane_count(&self) -> usize {
        self.lanes.len()
    }

    /// Their numbers.
    pub fn lanes(&self) -> impl Iterator<Item = L> {
        self.lanes.keys().copied()
    }

    /// The next thing to do for `lane`, `None` when nobody can be admitted. Call again until it is,
    /// or until it says when to ask again.
    pub fn poll(
        &mut self,
        now: Instant,
        lane: L,
        look: impl FnMut(K) -> Outlook,
    ) -> Option<Step<K>> {
        if self.is_closed(&lane) {
            return None;
        }
        let state = self.lanes.get_mut(&lane)?;
        let beside = (lane, &mut self.furthers);
        let (step, next) = state.next_step(now, self.overtake, &self.shares, beside, look)?;
        if let Step::Admit(device) = step {
            // the queue of a site or gateway is one of devices that share no radio channel
            let paced = if self.furthers.is_lane(&lane) {
                self.pace.check_overall(now)
            } else {
                self.pace.check(now, &lane)
            };
            if let Err(at) = paced {
                return Some(Step::Later(at));
            }
            state.grant(device, next, now, &self.shares);
            self.furthers.take(device, now + next.service);
        }
        Some(step)
    }

    /// A lane in which somebody is considered again, because there may be room in a further lane: poll it, and call this again
    /// until it gives none.
    pub fn stir(&mut self, now: Instant) -> Option<L> {
        let (home, devices) = self.furthers.stir(now)?;
        if self.is_closed(&home) {
            for device in &devices {
                self.furthers.lets_go(*device);
            }
        }
        if let Some(state) = self.lanes.get_mut(&home) {
            for device in devices {
                state.consider(device);
            }
        }
        Some(home)
    }

    /// Whether [`stir`](Self::stir) has somebody to consider.
    pub fn is_stirred(&self) -> bool {
        self.furthers.is_stirred()
    }

    /// When those of `devices` that can be reached then will be admitted to `lane`, if all goes as expected and nobody else
    /// comes than is expected.
    pub fn forecast(
        &self,
        now: Instant,
        lane: L,
        devices: &[K],
        look: impl FnMut(K) -> Outlook,
    ) -> HashMap<K, Instant> {
        let open = self.lanes.get(&lane).filter(|_| !self.is_closed(&lane));
        open.map_or_else(HashMap::new, |state| {
            let passed_over = devices.iter().filter_map(|device| {
                let ((_, task, limit), order, at) = self.furthers.turn(now, *device)?;
                Some(forecast::PassedOver {
                    device: *device,
                    task,
                    limit,
                    order,
                    at,
                })
            });
            let passed_over: Vec<_> = passed_over.collect();
            forecast::turns(state, &self.shares, now, (devices, &passed_over), look)
        })
    }

    fn forget_if_empty(&mut self, lane: L) {
        if (self.lanes.get(&lane)).is_some_and(LaneState::is_empty) {
            self.lanes.remove(&lane);
        }
    }
}

#[cfg(test)]
mod tests;
