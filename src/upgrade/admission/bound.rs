//! What no order of admissions can beat.

use std::{collections::BTreeMap, time::Duration};

/// The shortest time in which devices can be served in one lane, given for each its limit and how long it holds its slot.
///
/// It is the maximum over all limits L of the time that the devices with limits up to L hold their slots, added up and divided
/// by L. Nothing can be faster: a device with a limit of L or less is admitted only while fewer than L hold a slot, so that
/// right after the admission of any of them at most L slots are in use. Between two such admissions the number of them that
/// hold a slot can only fall. So at most L of them hold one at any time, and n hours of slots take at least n / L hours.
pub fn lower_bound(devices: impl IntoIterator<Item = (u32, Duration)>) -> Duration {
    let mut by_limit: BTreeMap<u32, Duration> = BTreeMap::new();
    for (limit, service) in devices {
        *by_limit.entry(limit.max(1)).or_default() += service;
    }
    let mut so_far = Duration::ZERO;
    (by_limit.into_iter())
        .map(|(limit, service)| {
            so_far += service;
            so_far / limit
        })
        .max()
        .unwrap_or_default()
}
