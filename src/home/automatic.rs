//! What begins by itself on a device whose switch is on.

use std::cmp::Ordering;

use super::{
    Channel, DeviceNow, Entry, HomeKey, OfferId, OfferTerms, QuietHours, UpgradeKind, entry,
};
use crate::{
    clock::UtcMillis,
    package::{Version, natural_cmp},
    task::time_zone,
};

/// An offer, as far as it matters to what begins by itself.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'o> {
    /// Its number.
    pub id: OfferId,
    /// On which terms.
    pub terms: &'o OfferTerms,
    /// To which version it leads.
    pub target: &'o Version,
}

/// Which of these offers may begin by themselves on a device in a home: of each channel the newest that the home sees and that fits the
/// device, if its conditions are met. Whatever becomes of that one, none before it is begun in its stead. Nothing leads to a version that is
/// not higher than the one that the device runs, whatever the offer allows to who asks.
///
/// `offers` come by channel, and the newest first.
pub fn by_itself<'o>(
    offers: impl IntoIterator<Item = Offered<'o>>,
    home: &HomeKey,
    device: &DeviceNow<'_>,
    now: UtcMillis,
) -> Vec<OfferId> {
    let mut looked_at: Option<Channel> = None;
    let mut begin = Vec::new();
    for Offered { id, terms, target } in offers {
        let urges = terms.kind != UpgradeKind::OnRequest;
        if looked_at == Some(terms.channel)
            || !urges
            || !leads_up(target, device)
            || !terms.is_visible_to(home, id, now)
        {
            continue;
        }
        let entry = entry(terms, target, false, device, now);
        if matches!(entry, Entry::NotFor(_)) {
            continue;
        }
        looked_at = Some(terms.channel);
        if entry == Entry::Ready {
            begin.push(id);
        }
    }
    begin
}

/// Whether a version is higher than the one that a device runs, as far as that is known.
fn leads_up(target: &Version, device: &DeviceNow<'_>) -> bool {
    device
        .version
        .is_none_or(|version| natural_cmp(target.as_str(), version.as_str()) == Ordering::Greater)
}

/// Whether nothing begins by itself in a home with these quiet hours, in that zone, at `now`.
pub fn is_quiet_at_home(quiet: Option<QuietHours>, zone: &str, now: UtcMillis) -> bool {
    let Some(quiet) = quiet else {
        return false;
    };
    // a zone that is not known any more is quiet: nobody is to be disturbed
    time_zone(zone).map_or(true, |zone| quiet.is_quiet(&zone, now))
}
