//! Whether something is offered to a device, and whether it can begin.

use std::cmp::Ordering;

use super::{OfferTerms, Refusal};
use crate::package::{Version, natural_cmp};

/// A device, as far as it matters to what it is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceNow<'d> {
    /// The version that it has told last.
    pub version: Option<&'d Version>,
    /// The charge of its battery, percent, as the integrator has told it.
    pub battery_percent: Option<u8>,
    /// Its RSRP as it was measured last, dBm.
    pub rsrp_dbm: Option<i32>,
}

/// What of an offer is for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It can begin. Where the offer asks for nothing besides a version, nothing was looked at.
    Ready,
    /// It is offered, and cannot begin, or not without the user's word: [`Refusal::SignalWeak`], [`Refusal::SignalUnknown`] or
    /// [`Refusal::Battery`].
    Refused(Refusal),
    /// It is not for the device: [`Refusal::UpToDate`] or [`Refusal::NotOffered`].
    NotFor(Refusal),
}

/// What an offer of `target` is to a device, when it is looked at; `until` is told where the signal is weak. A version below the one that
/// the device runs is none for it, unless the task of the offer allows that.
pub fn entry(
    terms: &OfferTerms,
    target: &Version,
    allow_downgrade: bool,
    device: &DeviceNow<'_>,
    until: crate::clock::UtcMillis,
) -> Entry {
    let conditions = &terms.conditions;
    match device.version {
        Some(version) if version == target => return Entry::NotFor(Refusal::UpToDate),
        Some(version)
            if !allow_downgrade
                && natural_cmp(version.as_str(), target.as_str()) == Ordering::Greater =>
        {
            return Entry::NotFor(Refusal::UpToDate);
        }
        _ => {}
    }
    let fits = |version: &Version| conditions.from.contains(version);
    if !conditions.from.is_empty() && !device.version.is_some_and(fits) {
        return Entry::NotFor(Refusal::NotOffered);
    }
    if let Some(least) = conditions.battery_percent
        && device.battery_percent.is_none_or(|charge| charge < least)
    {
        return Entry::Refused(Refusal::Battery { least });
    }
    match (conditions.rsrp_dbm, device.rsrp_dbm) {
        (Some(_), None) => Entry::Refused(Refusal::SignalUnknown),
        (Some(least_dbm), Some(rsrp_dbm)) if rsrp_dbm < least_dbm => {
            Entry::Refused(Refusal::SignalWeak {
                rsrp_dbm,
                least_dbm,
                until,
            })
        }
        _ => Entry::Ready,
    }
}
