//! How many posts there are at once, so that receivers that are slow or dead delay nobody else.
//!
//! What works and what does not is known of each webhook by itself; of an origin only the number of posts is bounded.
//! Nobody takes more places than it leaves free, so that there is one for whoever has none.

use std::{collections::HashMap, time::Duration};

use super::schedule::Schedule;
use crate::{clock::Instant, store::WebhookId};

/// Posts at once to one origin.
pub(super) const PER_ORIGIN: usize = 16;
/// Of these, those of webhooks in trouble.
const PROBES_PER_ORIGIN: usize = 4;
/// Posts at once of all webhooks that work.
const WORKING: usize = 128;
/// Posts at once of all webhooks that do not: one each.
const IN_TROUBLE: usize = 32;
/// A webhook in trouble is tried at least this often.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What is known of the webhooks, and of the origins that they lead to.
#[derive(Debug)]
pub(super) struct Receivers {
    schedule: Schedule,
    webhooks: HashMap<WebhookId, Webhook>,
    origins: HashMap<String, Places>,
    /// Of all.
    places: Places,
}

#[derive(Debug, Default, Clone, Copy)]
struct Webhook {
    places: Places,
    /// While it does not work.
    trouble: Option<Trouble>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Places {
    /// Posts under way.
    under_way: usize,
    /// Of these, those that began in trouble.
    probes: usize,
    /// Number of the last post, counted over all.
    turn: u64,
}

impl Places {
    const fn working(&self) -> usize {
        self.under_way - self.probes
    }

    const fn begin(&mut self, probe: bool, turn: u64) {
        self.under_way += 1;
        self.probes += probe as usize;
        self.turn = turn;
    }

    const fn end(&mut self, probe: bool) {
        self.under_way -= 1;
        self.probes -= probe as usize;
    }
}

#[derive(Debug, Clone, Copy)]
struct Trouble {
    failures: u32,
    /// It is left alone until then.
    until: Instant,
}

/// Whose turn it is: the least has the fewest places, and has waited longest.
pub(super) type Precedence = (usize, u64, usize, u64);

impl Receivers {
    /// A webhook in trouble is left alone for the pauses of `schedule`, and never for long.
    pub(super) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            webhooks: HashMap::new(),
            origins: HashMap::new(),
            places: Places::default(),
        }
    }

    /// Posts of the webhook that are under way.
    pub(super) fn under_way(&self, webhook: WebhookId) -> usize {
        self.of_webhook(webhook).places.under_way
    }

    /// The webhook's turn.
    pub(super) fn precedence(&self, webhook: WebhookId, origin: &str) -> Precedence {
        let (webhook, origin) = (self.of_webhook(webhook).places, self.of_origin(origin));
        (
            origin.under_way,
            origin.turn,
            webhook.under_way,
            webhook.turn,
        )
    }

    /// Whether a post may begin now.
    pub(super) fn may_begin(&self, webhook: WebhookId, origin: &str, now: Instant) -> bool {
        let (webhook, origin) = (self.of_webhook(webhook), self.of_origin(origin));
        let free_at_origin = PER_ORIGIN.saturating_sub(origin.under_way);
        if let Some(trouble) = webhook.trouble {
            return webhook.places.under_way == 0
                && trouble.until <= now
                && free_at_origin > 0
                && origin.probes < PROBES_PER_ORIGIN
                && self.places.probes < IN_TROUBLE;
        }
        let free = WORKING.saturating_sub(self.places.working());
        webhook.places.under_way < free_at_origin && origin.working() < free
    }

    /// A post begins.
    pub(super) fn begin(&mut self, webhook: WebhookId, origin: &str) {
        let known = self.webhooks.entry(webhook).or_default();
        let at_origin = self.origins.entry(origin.to_owned()).or_default();
        let (probe, turn) = (known.trouble.is_some(), self.places.turn + 1);
        for places in [&mut known.places, at_origin, &mut self.places] {
            places.begin(probe, turn);
        }
    }

    /// A post has ended: the receiver took it in, for good or ill, or it does not work.
    pub(super) fn end(&mut self, webhook: WebhookId, origin: &str, works: bool, now: Instant) {
        let known = self.webhooks.get_mut(&webhook);
        let (Some(known), Some(at_origin)) = (known, self.origins.get_mut(origin)) else {
            return;
        };
        let probe = known.places.probes > 0;
        for places in [&mut known.places, at_origin, &mut self.places] {
            places.end(probe);
        }
        known.trouble = match known.trouble {
            _ if works => None,
            // what began before the trouble says nothing new
            Some(trouble) if !probe => Some(trouble),
            before => {
                let failures = before.map_or(0, |trouble| trouble.failures) + 1;
                Some(Trouble {
                    failures,
                    until: now + self.schedule.pause(failures).min(LONGEST_PAUSE),
                })
            }
        };
    }

    /// Forgets webhooks that have nothing to be delivered any more.
    pub(super) fn keep(&mut self, wanted: impl Fn(WebhookId) -> bool) {
        self.webhooks
            .retain(|webhook, known| known.places.under_way > 0 || wanted(*webhook));
        self.origins.retain(|_, places| places.under_way > 0);
    }

    /// The webhook is in trouble, as was found out before the server started if not since.
    pub(super) fn fails(&mut self, webhook: WebhookId, now: Instant) {
        let known = self.webhooks.entry(webhook).or_default();
        known.trouble.get_or_insert(Trouble {
            failures: 0,
            until: now,
        });
    }

    /// Whether the webhook is tried next with what failed last. Every other time it is not: there may be an event that
    /// it never takes in, or it may take each in at the second time only.
    pub(super) fn repeats(&self, webhook: WebhookId) -> bool {
        let trouble = self.of_webhook(webhook).trouble;
        trouble.is_some_and(|trouble| trouble.failures > 0 && trouble.failures % 2 == 0)
    }

    /// Until when the webhook is left alone, if it is in trouble.
    pub(super) fn rests_until(&self, webhook: WebhookId) -> Option<Instant> {
        Some(self.of_webhook(webhook).trouble?.until)
    }

    fn of_webhook(&self, webhook: WebhookId) -> Webhook {
        self.webhooks.get(&webhook).copied().unwrap_or_default()
    }

    fn of_origin(&self, origin: &str) -> Places {
        self.origins.get(origin).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: WebhookId = WebhookId(1);
    const B: WebhookId = WebhookId(2);

    fn receivers() -> Receivers {
        Receivers::new(Schedule {
            first_pause: Duration::from_secs(5),
            give_up_after: Duration::from_hours(24),
        })
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    /// Begins as many posts as may be, in turn, and returns how many each has.
    fn begin_all(
        receivers: &mut Receivers,
        all: &[(WebhookId, String)],
        now: Instant,
    ) -> Vec<usize> {
        let mut waiting: Vec<_> = all.iter().collect();
        while !waiting.is_empty() {
            waiting.sort_by_key(|(webhook, origin)| receivers.precedence(*webhook, origin));
            waiting.retain(|(webhook, origin)| {
                let may = receivers.may_begin(*webhook, origin, now);
                if may {
                    receivers.begin(*webhook, origin);
                }
                may
            });
        }
        all.iter()
            .map(|(webhook, _)| receivers.under_way(*webhook))
            .collect()
    }

    fn each_at_its_own(numbers: std::ops::Range<i64>) -> Vec<(WebhookId, String)> {
        numbers
            .map(|number| (WebhookId(number), number.to_string()))
            .collect()
    }

    #[test]
    fn a_webhook_in_trouble_is_probed_ever_more_rarely() {
        let mut receivers = receivers();
        let (mut now, mut repeats) = (0, vec![receivers.repeats(A)]);
        for pause in [5, 15, 45, 135, 300, 300] {
            receivers.begin(A, "a");
            receivers.end(A, "a", false, at(now));
            repeats.push(receivers.repeats(A));
            assert!(!receivers.may_begin(A, "a", at(now + pause - 1)));
            now += pause;
            assert!(receivers.may_begin(A, "a", at(now)));
        }
        assert_eq!(repeats, [false, false, true, false, true, false, true]);
        assert_eq!(receivers.rests_until(A), Some(at(now)));
        receivers.begin(A, "a");
        assert!(!receivers.may_begin(A, "a", at(now)), "one probe at a time");
        receivers.end(A, "a", true, at(now));
        receivers.begin(A, "a");
        assert!(receivers.may_begin(A, "a", at(now)));
        assert_eq!(receivers.rests_until(A), None);
    }

    #[test]
    fn what_failed_before_a_restart_is_probed_first() {
        let mut receivers = receivers();
        receivers.fails(A, at(0));
        receivers.fails(A, at(9));
        assert_eq!(receivers.rests_until(A), Some(at(0)));
        let all = [(A, "a".to_owned())];
        assert_eq!(begin_all(&mut receivers, &all, at(9)), [1]);
        receivers.end(A, "a", false, at(10));
        assert_eq!(receivers.rests_until(A), Some(at(15)));
    }

    #[test]
    fn a_dead_path_is_no_trouble_of_its_neighbour() {
        let mut receivers = receivers();
        receivers.begin(A, "same");
        receivers.end(A, "same", false, at(0));
        assert!(!receivers.may_begin(A, "same", at(1)));
        assert!(receivers.may_begin(B, "same", at(1)));
        assert_eq!(receivers.rests_until(B), None);
        // nor do many of them take the origin's places
        let dead: Vec<_> = (10..60)
            .map(|id| (WebhookId(id), "same".to_owned()))
            .collect();
        for (webhook, origin) in &dead {
            receivers.begin(*webhook, origin);
            receivers.end(*webhook, origin, false, at(0));
        }
        let probes = begin_all(&mut receivers, &dead, at(5));
        assert_eq!(probes.iter().sum::<usize>(), PROBES_PER_ORIGIN);
        assert!(receivers.may_begin(B, "same", at(5)));
    }

    #[test]
    fn what_fails_together_is_one_failure() {
        let mut receivers = receivers();
        let all = [(A, "a".to_owned())];
        let [begun] = begin_all(&mut receivers, &all, at(0))[..] else {
            unreachable!()
        };
        for _ in 1..begun {
            receivers.end(A, "a", false, at(0));
        }
        assert_eq!(receivers.rests_until(A), Some(at(5)));
        assert!(!receivers.may_begin(A, "a", at(5)), "one has not ended");
        receivers.end(A, "a", true, at(6));
        assert!(receivers.may_begin(A, "a", at(6)));
    }

    #[test]
    fn dead_receivers_take_no_place_from_those_that_work() {
        let mut receivers = receivers();
        let dead = each_at_its_own(0..100);
        for (webhook, origin) in &dead {
            receivers.begin(*webhook, origin);
            receivers.end(*webhook, origin, false, at(0));
        }
        let probes = begin_all(&mut receivers, &dead, at(5));
        assert_eq!(probes.iter().sum::<usize>(), IN_TROUBLE);
        let alive = each_at_its_own(100..101);
        assert_eq!(begin_all(&mut receivers, &alive, at(5)), [PER_ORIGIN / 2]);
        // those that were not tried are next
        for (webhook, origin) in &dead[..IN_TROUBLE] {
            receivers.end(*webhook, origin, false, at(5));
        }
        let probes = begin_all(&mut receivers, &dead, at(60));
        assert_eq!(probes[..IN_TROUBLE], [0; IN_TROUBLE]);
        assert_eq!(probes[IN_TROUBLE..2 * IN_TROUBLE], [1; IN_TROUBLE]);
    }

    #[test]
    fn an_origin_gets_so_many_posts_at_once() {
        let mut receivers = receivers();
        let all: Vec<_> = (0..50).map(|id| (WebhookId(id), "a".to_owned())).collect();
        assert_eq!(begin_all(&mut receivers, &all[..2], at(0)), [6, 5]);
        begin_all(&mut receivers, &all, at(0));
        assert_eq!(receivers.of_origin("a").under_way, PER_ORIGIN);
    }

    #[test]
    fn slow_receivers_leave_places_for_the_others() {
        let mut receivers = receivers();
        for number in 0..8 {
            let origin = number.to_string();
            let slow: Vec<_> = (0..50)
                .map(|id| (WebhookId(100 * number + id), origin.clone()))
                .collect();
            begin_all(&mut receivers, &slow, at(0));
        }
        let late = each_at_its_own(1_000..1_003);
        let begun = begin_all(&mut receivers, &late, at(0));
        assert!(begun.iter().all(|begun| *begun > 0), "{begun:?}");
    }

    #[test]
    fn when_all_places_are_taken_who_has_waited_longest_is_next() {
        let mut receivers = receivers();
        let all = each_at_its_own(0..200);
        let begun = begin_all(&mut receivers, &all, at(0));
        assert_eq!(begun[..WORKING], [1; WORKING]);
        assert_eq!(begun[WORKING..], [0; 200 - WORKING]);
        for (webhook, origin) in &all[..WORKING] {
            receivers.end(*webhook, origin, true, at(1));
        }
        let begun = begin_all(&mut receivers, &all, at(1));
        assert_eq!(begun[WORKING..], [1; 200 - WORKING]);
        assert_eq!(begun.iter().sum::<usize>(), WORKING);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut receivers = receivers();
        receivers.begin(A, "a");
        receivers.keep(|_| false);
        assert!(!receivers.webhooks.is_empty() && !receivers.origins.is_empty());
        receivers.end(A, "a", false, at(0));
        receivers.keep(|webhook| webhook == A);
        assert!(receivers.rests_until(A).is_some());
        receivers.keep(|_| false);
        assert!(receivers.webhooks.is_empty() && receivers.origins.is_empty());
        assert_eq!(receivers.places.under_way, 0);
    }
}
