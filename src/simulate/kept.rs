//! What keeping devices awake costs them.

use std::time::Duration;

use serde::Serialize;

/// What one device was sent to stay awake.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    pub(super) pings: u32,
    /// For how much longer it listened than it would have.
    pub(super) awake_ms: u64,
    /// When it sent or received anything last, ms.
    pub(super) contact_ms: u64,
}

/// The same of all devices that sleep.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct StandbyCost {
    pub(crate) devices: usize,
    pub(crate) pings_median: u32,
    pub(crate) pings_p95: u32,
    pub(crate) pings_max: u32,
    pub(crate) minutes_median: f64,
    pub(crate) minutes_p95: f64,
    pub(crate) minutes_max: f64,
}

impl StandbyCost {
    pub(super) fn of(devices: impl Iterator<Item = Kept>) -> Self {
        let (mut pings, mut awake_ms): (Vec<u32>, Vec<u64>) =
            devices.map(|kept| (kept.pings, kept.awake_ms)).unzip();
        pings.sort_unstable();
        awake_ms.sort_unstable();
        let minutes = |percent| {
            let ms = at(&awake_ms, percent).unwrap_or(0);
            Duration::from_millis(ms).as_secs_f64() / 60.0
        };
        Self {
            devices: pings.len(),
            pings_median: at(&pings, 50).unwrap_or(0),
            pings_p95: at(&pings, 95).unwrap_or(0),
            pings_max: at(&pings, 100).unwrap_or(0),
            minutes_median: minutes(50),
            minutes_p95: minutes(95),
            minutes_max: minutes(100),
        }
    }
}

/// What so many percent do not exceed.
fn at<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get(last * percent / 100).copied()
}
