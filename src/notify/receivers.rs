//! How much each receiver is given at once, so that one that is slow or dead delays nobody else.

use std::{collections::HashMap, time::Duration};

use super::schedule::Schedule;
use crate::clock::Instant;

/// Deliveries at once to one receiver.
const PER_RECEIVER: usize = 16;
/// Deliveries at once to all receivers that work.
const WORKING: usize = 128;
/// Deliveries at once to all receivers that do not: one each.
const IN_TROUBLE: usize = 32;
/// A receiver in trouble is tried at least this often.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What is known of the receivers. Those of which there is nothing to say are not kept.
#[derive(Debug)]
pub(super) struct Receivers {
    schedule: Schedule,
    known: HashMap<String, Receiver>,
    working: usize,
    in_trouble: usize,
}

#[derive(Debug, Default)]
struct Receiver {
    under_way: usize,
    /// Of these, those that began while it was in trouble.
    probes: usize,
    /// Since when it does not work.
    trouble: Option<Trouble>,
}

#[derive(Debug, Clone, Copy)]
struct Trouble {
    since: Instant,
    failures: u32,
    /// It is left alone until then.
    until: Instant,
}

impl Receivers {
    /// A receiver in trouble is left alone for the pauses of `schedule`, and never for long.
    pub(super) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            known: HashMap::new(),
            working: 0,
            in_trouble: 0,
        }
    }

    /// How many deliveries may begin now.
    pub(super) fn allowance(&self, receiver: &str, now: Instant) -> usize {
        let known = self.known.get(receiver);
        let under_way = known.map_or(0, |known| known.under_way);
        if let Some(trouble) = known.and_then(|known| known.trouble) {
            let may_probe = under_way == 0 && trouble.until <= now && self.in_trouble < IN_TROUBLE;
            return usize::from(may_probe);
        }
        (PER_RECEIVER.saturating_sub(under_way)).min(WORKING.saturating_sub(self.working))
    }

    /// A delivery begins.
    pub(super) fn begin(&mut self, receiver: &str) {
        let known = self.known.entry(receiver.to_owned()).or_default();
        known.under_way += 1;
        if known.trouble.is_some() {
            known.probes += 1;
            self.in_trouble += 1;
        } else {
            self.working += 1;
        }
    }

    /// A delivery has ended: the receiver took it in, for good or ill, or it does not work.
    pub(super) fn end(&mut self, receiver: &str, works: bool, now: Instant) {
        let Some(known) = self.known.get_mut(receiver) else {
            return;
        };
        known.under_way = known.under_way.saturating_sub(1);
        let probe = known.probes > 0;
        if probe {
            known.probes -= 1;
            self.in_trouble -= 1;
        } else {
            self.working = self.working.saturating_sub(1);
        }
        known.trouble = match known.trouble {
            _ if works => None,
            // what began before the trouble says nothing new
            Some(trouble) if !probe => Some(trouble),
            before => {
                let failures = before.map_or(0, |trouble| trouble.failures) + 1;
                Some(Trouble {
                    since: before.map_or(now, |trouble| trouble.since),
                    failures,
                    until: now + self.schedule.pause(failures).min(LONGEST_PAUSE),
                })
            }
        };
        if known.under_way == 0 && known.trouble.is_none() {
            self.known.remove(receiver);
        }
    }

    /// Forgets receivers to which nothing is to be delivered any more.
    pub(super) fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.known
            .retain(|receiver, known| known.under_way > 0 || wanted(receiver));
    }

    /// Since when the receiver does not work, and until when it is left alone.
    pub(super) fn trouble(&self, receiver: &str) -> Option<(Instant, Instant)> {
        let trouble = self.known.get(receiver)?.trouble?;
        Some((trouble.since, trouble.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receivers() -> Receivers {
        Receivers::new(Schedule {
            first_pause: Duration::from_secs(5),
            give_up_after: Duration::from_hours(24),
        })
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_receiver_in_trouble_is_probed_ever_more_rarely() {
        let mut receivers = receivers();
        assert_eq!(receivers.allowance("a", at(0)), PER_RECEIVER);
        let mut now = 0;
        for pause in [5, 15, 45, 135, 300, 300] {
            receivers.begin("a");
            assert_eq!(receivers.allowance("b", at(now)), PER_RECEIVER);
            receivers.end("a", false, at(now));
            assert_eq!(receivers.allowance("a", at(now + pause - 1)), 0);
            now += pause;
            assert_eq!(receivers.allowance("a", at(now)), 1);
        }
        assert_eq!(receivers.trouble("a"), Some((at(0), at(now))));
        receivers.begin("a");
        assert_eq!(receivers.allowance("a", at(now)), 0, "one probe at a time");
        receivers.end("a", true, at(now));
        assert_eq!(receivers.allowance("a", at(now)), PER_RECEIVER);
        assert_eq!(receivers.trouble("a"), None);
        assert!(receivers.known.is_empty());
    }

    #[test]
    fn what_fails_together_is_one_failure() {
        let mut receivers = receivers();
        for _ in 0..PER_RECEIVER {
            receivers.begin("a");
        }
        for _ in 1..PER_RECEIVER {
            receivers.end("a", false, at(0));
        }
        assert_eq!(receivers.trouble("a"), Some((at(0), at(5))));
        assert_eq!(receivers.allowance("a", at(5)), 0, "one has not ended");
        receivers.end("a", true, at(6));
        assert_eq!(receivers.allowance("a", at(6)), PER_RECEIVER);
    }

    #[test]
    fn dead_receivers_take_no_place_from_those_that_work() {
        let mut receivers = receivers();
        let dead: Vec<String> = (0..100).map(|number| format!("dead {number}")).collect();
        for receiver in &dead {
            receivers.begin(receiver);
            receivers.end(receiver, false, at(0));
        }
        let mut probes = 0;
        for receiver in &dead {
            for _ in 0..receivers.allowance(receiver, at(5)) {
                receivers.begin(receiver);
                probes += 1;
            }
        }
        assert_eq!(probes, IN_TROUBLE);
        assert_eq!(receivers.allowance("alive", at(5)), PER_RECEIVER);
        for receiver in &dead {
            receivers.end(receiver, true, at(6));
        }
        assert_eq!((receivers.working, receivers.in_trouble), (0, 0));
    }

    #[test]
    fn all_that_work_share_the_places() {
        let mut receivers = receivers();
        for number in 0..WORKING / PER_RECEIVER {
            for _ in 0..PER_RECEIVER {
                receivers.begin(&number.to_string());
            }
            assert_eq!(receivers.allowance(&number.to_string(), at(0)), 0);
        }
        assert_eq!(receivers.allowance("late", at(0)), 0);
        receivers.end("0", true, at(1));
        assert_eq!(receivers.allowance("late", at(1)), 1);
    }
}
