//! What an upgrade costs on the air: bytes, repeats and active time as they are measured, and the airtime as it is estimated.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::Coverage;

/// Bytes of IP and UDP around a datagram: 20 (RFC 791) and 8 (RFC 768). They are in the estimate, not among the bytes.
pub const HEADER_BYTES: u64 = 28;
/// Bytes that DTLS 1.2 with AES-CCM-8 adds to a datagram: a record header of 13 (RFC 6347 §4.1), a nonce of 8 and a code of 8 (RFC 6655 §3).
pub const RECORD_BYTES: u64 = 29;

/// A transport block of the estimate: `I_TBS` = 4 with ten subframes or resource units (3GPP TS 36.213 tables 16.4.1.5.1-1 and 16.5.1.2-2).
const BLOCK_BITS: u64 = 680;
/// How long it takes down without repetition: ten subframes of 1 ms, in microseconds.
const BLOCK_DOWN_US: u64 = 10_000;
/// How long it takes up without repetition: ten resource units of 8 ms, a single tone of 15 kHz (3GPP TS 36.211 §10.1.2.3).
const BLOCK_UP_US: u64 = 80_000;

/// What an upgrade costs. A value is what came since the one before it was written down, or a sum of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes of CoAP messages to the device, and of packages that it has fetched over HTTP; repeats included; without DTLS, TLS, HTTP, UDP,
    /// TCP and IP.
    pub bytes_down: u64,
    /// Bytes of CoAP messages from the device, repeats included; without DTLS, UDP and IP.
    pub bytes_up: u64,
    /// Datagrams that were sent again.
    pub repeats_down: u64,
    /// Datagrams that came again.
    pub repeats_up: u64,
    /// Time in which the device was active, ms: after a datagram until the next one, 20 s of each pause at the most.
    pub active_ms: u64,
    /// Time that its datagrams occupied the channel, ms, as it is estimated ([`airtime_ms`]). What was fetched over HTTP is not in it.
    pub airtime_estimated_ms: u64,
}

impl Traffic {
    /// Bytes in both directions.
    pub const fn bytes(&self) -> u64 {
        self.bytes_down.saturating_add(self.bytes_up)
    }

    /// Whether nothing was exchanged.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.bytes_down, more.bytes_down);
        add(&mut self.bytes_up, more.bytes_up);
        add(&mut self.repeats_down, more.repeats_down);
        add(&mut self.repeats_up, more.repeats_up);
        add(&mut self.active_ms, more.active_ms);
        add(&mut self.airtime_estimated_ms, more.airtime_estimated_ms);
    }
}

/// What a device has exchanged in a month, as far as a budget looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes in both directions.
    pub bytes: u64,
    /// Airtime in both directions, ms, as it is estimated.
    pub airtime_estimated_ms: u64,
}

impl AddAssign<&Traffic> for Usage {
    fn add_assign(&mut self, more: &Traffic) {
        self.bytes = self.bytes.saturating_add(more.bytes());
        self.airtime_estimated_ms =
            (self.airtime_estimated_ms).saturating_add(more.airtime_estimated_ms);
    }
}

impl Usage {
    /// What a package will cost a device of that coverage: its bytes; and for the airtime around each segment 60 bytes down (IP, UDP, CoAP,
    /// PCP) and 90 bytes up (the request and the acknowledgement).
    pub fn of_package(size_bytes: u64, segments: u64, coverage: Option<&Coverage>) -> Self {
        let down = size_bytes.saturating_add(segments.saturating_mul(60));
        let up = segments.saturating_mul(90);
        Self {
            bytes: size_bytes,
            airtime_estimated_ms: airtime_ms(down, up, coverage),
        }
    }
}

/// How often each block is sent where the coverage is so: 1, 8 or 32 times, by the weaker of RSRP and SINR in Huawei `IoTDA`'s ranges. All are
/// repetition numbers of 3GPP TS 36.213 (tables 16.4.1.3-2 and 16.5.1.1-3). Where nothing was measured, it is as in good coverage.
fn repetitions(coverage: Option<&Coverage>) -> u64 {
    let band = coverage.map_or(0, Coverage::band);
    // bands count from 1, three of each range of RSRP
    let weaker = band
        .checked_sub(1)
        .map_or(0, |band| (band / 3).max(band % 3));
    match weaker {
        0 => 1,
        1 => 8,
        _ => 32,
    }
}

/// The airtime of bytes on the wire (with [`HEADER_BYTES`] and [`RECORD_BYTES`]), ms, rounded up. An estimate: bits of each direction, repeats
/// included, at 680 bits in 10 ms down and in 80 ms up, times the repetitions of its coverage.
pub fn airtime_ms(wire_down: u64, wire_up: u64, coverage: Option<&Coverage>) -> u64 {
    let us = |bytes: u64, block_us: u64| {
        (u128::from(bytes) * 8 * u128::from(block_us)).div_ceil(u128::from(BLOCK_BITS))
    };
    let once = us(wire_down, BLOCK_DOWN_US) + us(wire_up, BLOCK_UP_US);
    let all = once.saturating_mul(u128::from(repetitions(coverage)));
    u64::try_from(all.div_ceil(1_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(rsrp_dbm: i32, sinr_db: i32) -> Coverage {
        Coverage {
            cell: Some(1),
            rsrp_dbm: Some(rsrp_dbm),
            sinr_db: Some(sinr_db),
        }
    }

    #[test]
    fn the_weaker_of_rsrp_and_sinr_says_how_often_a_block_is_sent() {
        for (rsrp, sinr, times) in [
            (-90, 10, 1),
            (-105, 7, 1),
            (-105, 6, 8),
            (-106, 7, 8),
            (-115, -3, 8),
            (-115, -4, 32),
            (-116, 20, 32),
            (-130, -10, 32),
        ] {
            let times_here = repetitions(Some(&coverage(rsrp, sinr)));
            assert_eq!(times_here, times, "{rsrp} {sinr}");
        }
        assert_eq!(repetitions(None), 1);
        assert_eq!(repetitions(Some(&Coverage::default())), 1);
    }

    #[test]
    fn airtime_is_bits_by_the_rate_of_the_coverage() {
        // 85 bytes are 680 bits
        assert_eq!(airtime_ms(85, 0, None), 10);
        assert_eq!(airtime_ms(0, 85, None), 80);
        assert_eq!(airtime_ms(85, 85, Some(&coverage(-110, 8))), 8 * 90);
        assert_eq!(airtime_ms(85, 85, Some(&coverage(-120, 8))), 32 * 90);
        assert_eq!(airtime_ms(0, 0, None), 0);
        assert_eq!(airtime_ms(1, 0, None), 1);
        assert_eq!(airtime_ms(u64::MAX, u64::MAX, None), u64::MAX);
    }

    #[test]
    fn a_package_costs_its_bytes_and_what_is_around_each_segment() {
        let cost = Usage::of_package(100_000, 200, None);
        assert_eq!(cost.bytes, 100_000);
        assert_eq!(cost.airtime_estimated_ms, airtime_ms(112_000, 18_000, None));
    }
}
