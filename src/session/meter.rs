//! Measures what an upgrade exchanges with its device, until that is written down.

use std::time::Duration;

use crate::{
    clock::Instant,
    ledger::{Coverage, HEADER_BYTES, RECORD_BYTES, Traffic, airtime_ms},
};

/// So much of a pause counts as active time: a network keeps an idle NB-IoT device connected for about so long.
const ACTIVE_AT_MOST: Duration = Duration::from_secs(20);

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Down,
    Up,
}

/// A datagram of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Bytes of the CoAP message.
    pub bytes: usize,
    /// It goes over DTLS.
    pub secured: bool,
    /// It went before.
    pub again: bool,
}

/// What was exchanged since it was written down.
#[derive(Debug, Default)]
pub struct Meter {
    traffic: Traffic,
    wire_down: u64,
    wire_up: u64,
    last: Option<(Instant, Way)>,
    /// Datagrams that were sent, less those that came and of which nothing but an address says whose they are.
    unproven_left: u32,
    /// What was counted as sent and never left, less what was taken off for that.
    unsent: Unsent,
}

/// Datagrams that were counted as sent and never left.
#[derive(Debug, Default)]
struct Unsent {
    bytes: u64,
    wire: u64,
    repeats: u64,
}

impl Unsent {
    /// Takes off what of it there is: the rest of it was written down already, and is taken off what is written down next.
    fn take_off(&mut self, traffic: &mut Traffic, wire_down: &mut u64) {
        let take = |owed: &mut u64, sum: &mut u64| {
            let part = (*owed).min(*sum);
            *owed -= part;
            *sum -= part;
        };
        take(&mut self.bytes, &mut traffic.bytes_down);
        take(&mut self.wire, wire_down);
        take(&mut self.repeats, &mut traffic.repeats_down);
    }
}

impl Meter {
    /// A datagram is sent to the device. The time since it was heard counts as active.
    pub fn sent(&mut self, now: Instant, it: Counted) {
        let bytes = it.bytes as u64;
        self.traffic.bytes_down += bytes;
        self.traffic.repeats_down += u64::from(it.again);
        self.wire_down += bytes + overhead(it.secured);
        self.unproven_left = self.unproven_left.saturating_add(1);
        // what is sent again and again to a device that is not there keeps nobody active
        if let Some((at, Way::Up)) = self.last {
            self.active(now.since(at));
        }
        self.last = Some((now, Way::Down));
    }

    /// A datagram that was counted as sent never left: nothing of it counts but the time since the device was heard, as it waits for it.
    pub fn unsent(&mut self, it: Counted) {
        let bytes = it.bytes as u64;
        self.unsent.bytes += bytes;
        self.unsent.wire += bytes + overhead(it.secured);
        self.unsent.repeats += u64::from(it.again);
        self.unproven_left = self.unproven_left.saturating_sub(1);
    }

    /// A datagram came from the device. The time since the datagram before counts as active.
    pub fn came(&mut self, now: Instant, it: Counted) {
        let bytes = it.bytes as u64;
        self.traffic.bytes_up += bytes;
        self.traffic.repeats_up += u64::from(it.again);
        self.wire_up += bytes + overhead(it.secured);
        if let Some((at, _)) = self.last {
            self.active(now.since(at));
        }
        self.last = Some((now, Way::Up));
    }

    /// The same of one of which nothing but its address says that it is the device's. No more of them count than datagrams were sent: somebody
    /// else could send as many as he likes.
    pub fn came_unproven(&mut self, now: Instant, it: Counted) {
        if let Some(left) = self.unproven_left.checked_sub(1) {
            self.unproven_left = left;
            self.came(now, it);
        }
    }

    fn active(&mut self, pause: Duration) {
        let pause = pause.min(ACTIVE_AT_MOST).as_millis();
        self.traffic.active_ms += u64::try_from(pause).unwrap_or(0); // it is 20 s at most
    }

    /// The device has fetched so much of a package over HTTP, as its TCP has acknowledged. It is no part of the estimate: nobody knows what the
    /// network made of it.
    pub fn fetched(&mut self, bytes: u64) {
        self.traffic.bytes_down += bytes;
    }

    /// What is to be written down, in the coverage that the device has; `None` when nothing was exchanged.
    pub fn take(&mut self, coverage: Option<&Coverage>) -> Option<Traffic> {
        let mut traffic = std::mem::take(&mut self.traffic);
        let (mut down, up) = (
            std::mem::take(&mut self.wire_down),
            std::mem::take(&mut self.wire_up),
        );
        self.unsent.take_off(&mut traffic, &mut down);
        if traffic.is_none() {
            return None;
        }
        traffic.airtime_estimated_ms = airtime_ms(down, up, coverage);
        Some(traffic)
    }
}

const fn overhead(secured: bool) -> u64 {
    if secured {
        HEADER_BYTES + RECORD_BYTES
    } else {
        HEADER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(bytes: usize) -> Counted {
        Counted {
            bytes,
            secured: false,
            again: false,
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    #[test]
    fn counts_both_ways_and_what_goes_again() {
        let mut meter = Meter::default();
        meter.sent(at(0), of(500));
        meter.sent(
            at(15),
            Counted {
                again: true,
                ..of(500)
            },
        );
        meter.came(at(17), of(40));
        meter.came(
            at(18),
            Counted {
                again: true,
                ..of(40)
            },
        );
        let traffic = meter.take(None).unwrap();
        assert_eq!((traffic.bytes_down, traffic.bytes_up), (1_000, 80));
        assert_eq!((traffic.repeats_down, traffic.repeats_up), (1, 1));
        // from 15 s to 18 s: nobody was heard before
        assert_eq!(traffic.active_ms, 3_000);
        assert_eq!(traffic.airtime_estimated_ms, airtime_ms(1_056, 136, None));
        assert_eq!(meter.take(None), None, "it is taken once");
    }

    #[test]
    fn a_long_pause_counts_for_twenty_seconds() {
        let mut meter = Meter::default();
        meter.came(at(0), of(10));
        meter.sent(at(5), of(10));
        meter.came(at(3_600), of(10));
        meter.sent(at(7_200), of(10));
        assert_eq!(meter.take(None).unwrap().active_ms, 5_000 + 20_000 + 20_000);
    }

    #[test]
    fn a_device_that_is_not_there_is_not_active() {
        let mut meter = Meter::default();
        for second in 0..100 {
            meter.sent(at(second), of(10));
        }
        assert_eq!(meter.take(None).unwrap().active_ms, 0);
    }

    #[test]
    fn a_flood_in_its_name_counts_no_more_than_what_was_sent() {
        let mut meter = Meter::default();
        meter.sent(at(0), of(10));
        meter.sent(at(0), of(10));
        for _ in 0..1_000 {
            meter.came_unproven(at(1), of(1_000));
        }
        assert_eq!(meter.take(None).unwrap().bytes_up, 2_000);
    }

    #[test]
    fn what_is_fetched_over_http_counts_and_is_not_estimated() {
        let mut meter = Meter::default();
        meter.fetched(1_000_000);
        meter.fetched(0);
        let traffic = meter.take(None).unwrap();
        let only_bytes = Traffic {
            bytes_down: 1_000_000,
            ..Traffic::default()
        };
        assert_eq!(traffic, only_bytes);
        meter.fetched(0);
        assert_eq!(meter.take(None), None);
    }

    #[test]
    fn what_never_left_does_not_count_also_where_it_was_written_down() {
        let mut meter = Meter::default();
        let again = Counted {
            again: true,
            ..of(300)
        };
        meter.sent(at(0), of(100));
        meter.sent(at(1), again);
        meter.unsent(again);
        let traffic = meter.take(None).unwrap();
        assert_eq!((traffic.bytes_down, traffic.repeats_down), (100, 0));
        assert_eq!(traffic.airtime_estimated_ms, airtime_ms(128, 0, None));
        // nobody may say more in its name for it
        meter.came_unproven(at(2), of(10));
        meter.came_unproven(at(2), of(10));
        assert_eq!(meter.take(None).unwrap().bytes_up, 10);

        meter.unsent(of(100));
        assert_eq!(meter.take(None), None);
        meter.sent(at(3), of(40));
        let traffic = meter.take(None).unwrap();
        assert_eq!(traffic.bytes_down, 0, "less than was written down");
        meter.sent(at(4), of(200));
        let traffic = meter.take(None).unwrap();
        assert_eq!(traffic.bytes_down, 140);
        assert_eq!(traffic.airtime_estimated_ms, airtime_ms(168, 0, None));
    }

    #[test]
    fn what_is_encrypted_takes_longer() {
        let mut meter = Meter::default();
        meter.sent(
            at(0),
            Counted {
                secured: true,
                ..of(100)
            },
        );
        let traffic = meter.take(None).unwrap();
        assert_eq!(traffic.bytes_down, 100);
        assert_eq!(traffic.airtime_estimated_ms, airtime_ms(157, 0, None));
    }
}
