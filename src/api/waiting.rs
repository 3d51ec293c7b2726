//! Why an upgrade is not done yet, in a sentence.

use std::time::Duration;

use super::heard::LastHeard;
use crate::{
    clock::UtcMillis,
    ledger::{DeviceRecord, Happened, Protocol, QueueMode, Stage, Via},
    store::{UpgradeDetail, UpgradeState},
    task::{self, CellRules, LimitedBy, ShareNow},
    wording,
};

/// What is known of the cell in which an upgrade waits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CellNow<'c> {
    /// What the operator rules there.
    pub(super) rules: Option<&'c CellRules>,
    /// How many may upgrade there because it is crowded, where it is.
    pub(super) crowded: Option<u32>,
    /// How the upgrade's task stands there beside others.
    pub(super) share: Option<&'c ShareNow>,
    /// The device's gateway and site, as far as they have a limit.
    pub(super) further: &'c [PlaceNow],
}

/// What is known of a site or gateway that has a limit.
#[derive(Debug, Clone)]
pub(super) struct PlaceNow {
    /// `site` or `gateway`.
    pub(super) what: &'static str,
    /// Its name.
    pub(super) name: String,
    /// How many of its devices upgrade.
    pub(super) active: u32,
    /// How many may.
    pub(super) limit: u32,
}

/// What an upgrade waits for at `now`; `None` once it has ended.
pub(super) fn explain(
    detail: &UpgradeDetail,
    device: Option<(&DeviceRecord, LastHeard)>,
    cell: &CellNow<'_>,
    now: UtcMillis,
) -> Option<String> {
    let CellNow { rules, share, .. } = *cell;
    let upgrade = &detail.upgrade;
    match upgrade.state {
        UpgradeState::Pending => {
            let waits = match task::explain(detail.candidate.as_ref()?, now) {
                Err(not_yet) => wording::not_yet(&not_yet),
                Ok(()) => "it is about to begin".to_owned(),
            };
            let last = upgrade.outcome.as_ref().map(|it| it.reason.as_str());
            Some(match last {
                Some("taken_back") => wording::after_take_back(&waits),
                _ => waits,
            })
        }
        UpgradeState::Active(_) if upgrade.cancel_requested_at.is_some() => {
            Some("it was cancelled, and is about to end".to_owned())
        }
        UpgradeState::Active(stage) => {
            let what = match stage {
                Stage::WaitingForDevice => contact(detail, device, now),
                Stage::WaitingForSlot => {
                    if let Some(closed) = closed(detail, rules, now) {
                        return Some(closed);
                    }
                    let own = match (&detail.queue, share) {
                        // how others stand there is not for this caller
                        (None, _) => upgrade.cell.map_or_else(
                            || "a slot".to_owned(),
                            |cell| format!("a slot in cell {cell}"),
                        ),
                        (Some(record), share) => {
                            let queue = queue(detail, device, (rules, cell.crowded), now);
                            let place = record.ahead_in_task + 1;
                            match share {
                                Some(share) => format!("{queue}; {}", wording::share(place, share)),
                                None => queue,
                            }
                        }
                    };
                    // one that has room for it is not what it waits for
                    match full(cell.further) {
                        Some(full) if upgrade.cell.is_none() => full,
                        Some(full) => format!("{own}; {full}"),
                        None => own,
                    }
                }
                Stage::Downloading => downloading(detail, now),
                Stage::QueryingVersion
                | Stage::QueryingCoverage
                | Stage::QueryingCell
                | Stage::Executing => last_line(detail, now),
            };
            let deadline = upgrade.stage.as_ref()?.deadline_at;
            Some(format!("{what}; {} left", span(deadline.since(now))))
        }
        UpgradeState::Succeeded | UpgradeState::Failed | UpgradeState::Cancelled => None,
    }
}

/// What a device that is waited for is reached by, and why it is not, where that is known.
fn contact(
    detail: &UpgradeDetail,
    device: Option<(&DeviceRecord, LastHeard)>,
    now: UtcMillis,
) -> String {
    let reached = reach(device, now);
    match detail.events.last().map(|event| &event.line.happened) {
        Some(Happened::GatewayOffline {
            gateway: Some(gateway),
        }) => format!("gateway {gateway} was offline; {reached}"),
        Some(Happened::ChildOffline {
            gateway: Some(gateway),
        }) => format!("gateway {gateway} says that it is offline; {reached}"),
        _ => reached,
    }
}

fn reach(device: Option<(&DeviceRecord, LastHeard)>, now: UtcMillis) -> String {
    let Some((device, heard)) = device else {
        return "the device was removed".into();
    };
    let heard = match heard.at {
        None => "never heard".to_owned(),
        Some(at) if heard.is_stored => {
            format!("heard {} ago, as far as is stored", span(now.since(at)))
        }
        Some(at) => format!("heard {} ago", span(now.since(at))),
    };
    match &device.registration {
        None if device.protocol != Protocol::Lwm2m => match &device.via {
            Via::Itself => format!("reached over MQTT, {heard}"),
            Via::Gateway(Some(_)) => format!("reached through its gateway, {heard}"),
            Via::Gateway(None) => format!("behind no gateway, {heard}"),
        },
        None => format!("not registered, {heard}"),
        Some(registration) if registration.queue_mode == QueueMode::On => {
            format!("asleep between its reports, {heard}")
        }
        Some(_) => format!("registered, {heard}"),
    }
}

/// Those of these places that are full; `None` where none is.
fn full(places: &[PlaceNow]) -> Option<String> {
    let full = places.iter().filter(|place| place.active >= place.limit);
    let full: Vec<String> = full
        .map(|place| {
            let PlaceNow {
                what,
                name,
                active,
                limit,
            } = place;
            format!("{what} {name}: {active} of {limit} under way")
        })
        .collect();
    (!full.is_empty()).then(|| full.join("; "))
}

/// The cell is closed. The time to wait does not run meanwhile.
fn closed(detail: &UpgradeDetail, rules: Option<&CellRules>, now: UtcMillis) -> Option<String> {
    let cell = detail.upgrade.cell?;
    let (closing, by) = rules?.closed(now)?;
    let until = match closing.until {
        Some(at) => format!("until {at}"),
        None => "until further notice".to_owned(),
    };
    let how = match by {
        LimitedBy::Outage => "out of order",
        _ => "closed by the operator",
    };
    let reason = &closing.reason;
    Some(format!(
        "cell {cell} is {how} {until}: {reason}; the time to wait does not run meanwhile"
    ))
}

fn queue(
    detail: &UpgradeDetail,
    device: Option<(&DeviceRecord, LastHeard)>,
    (rules, crowded): (Option<&CellRules>, Option<u32>),
    now: UtcMillis,
) -> String {
    let stage = detail.upgrade.stage.as_ref();
    let limit = stage.and_then(|stage| stage.cell_limit).unwrap_or(0);
    let cell = detail.upgrade.cell.unwrap_or(0);
    let (active, ahead) = (detail.queue.as_ref()).map_or((0, 0), |q| (q.active, q.ahead));
    let upgrading = match active {
        0 => "no device upgrades".to_owned(),
        1 => "1 device upgrades".to_owned(),
        more => format!("{more} devices upgrade"),
    };
    let before = match ahead {
        0 => String::new(),
        1 => "; 1 waits before it".to_owned(),
        more => format!("; {more} wait before it"),
    };
    let (most, own) = allowed(rules, crowded, now);
    let taken =
        format!("{upgrading} in cell {cell}; this one's coverage allows {limit}{own}{before}");
    if active < limit.min(most) {
        // The slot is there; the device, perhaps, is not.
        format!("{taken}; {}", reach(device, now))
    } else {
        taken
    }
}

/// How many may upgrade in a cell now, whatever their coverage allows, and what says so.
fn allowed(rules: Option<&CellRules>, crowded: Option<u32>, now: UtcMillis) -> (u32, String) {
    let own = rules.map(|rules| rules.limit_at(now));
    let own = own.and_then(|limit| Some((limit.most?, limit.by)));
    match (own, crowded) {
        (own, Some(most)) if own.is_none_or(|(own, _)| most < own) => (
            most,
            format!(", the cell is crowded and allows {most} for now"),
        ),
        (Some((most, LimitedBy::BusyHours)), _) => {
            (most, format!(", the cell's busy hours allow {most}"))
        }
        (Some((most, _)), _) => (most, format!(", the cell's own limit is {most}")),
        (None, _) => (u32::MAX, String::new()),
    }
}

fn downloading(detail: &UpgradeDetail, now: UtcMillis) -> String {
    let upgrade = &detail.upgrade;
    match upgrade.segment {
        Some(segment) => {
            let percent = upgrade.progress_percent();
            let so_far = format!("downloading, {percent} %: segment {segment} asked for last");
            match detail.events.last() {
                // Something has happened since: it was notified again, most likely.
                Some(event) if event.kind == "note" => {
                    format!("{so_far}; {}", last_line(detail, now))
                }
                _ => so_far,
            }
        }
        None => last_line(detail, now),
    }
}

/// What the timeline said last, and when.
fn last_line(detail: &UpgradeDetail, now: UtcMillis) -> String {
    detail.events.last().map_or_else(String::new, |event| {
        format!(
            "{}, {} ago",
            wording::line(&event.line),
            span(now.since(event.at))
        )
    })
}

/// In the unit that fits: `40 s`, `5 min`, `3 h`, `2 d`.
fn span(span: Duration) -> String {
    match span.as_secs() {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_limit_of_a_cell_is_told() {
        let ruled = |limit| CellRules {
            limit: Some(limit),
            ..CellRules::default()
        };
        for (rules, crowded, most, words) in [
            (None, None, u32::MAX, ""),
            (None, Some(7), 7, "the cell is crowded and allows 7"),
            (
                Some(ruled(9)),
                Some(7),
                7,
                "the cell is crowded and allows 7",
            ),
            (Some(ruled(5)), Some(7), 5, "the cell's own limit is 5"),
            (Some(ruled(5)), None, 5, "the cell's own limit is 5"),
        ] {
            let (limit, told) = allowed(rules.as_ref(), crowded, UtcMillis(0));
            assert_eq!(limit, most);
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn a_full_gateway_and_a_full_site_are_named() {
        let place = |what, name: &str, active| PlaceNow {
            what,
            name: name.to_owned(),
            active,
            limit: 4,
        };
        let (gateway, site) = (place("gateway", "gw-1", 4), place("site", "depot-4", 5));
        let told = full(&[gateway.clone(), site]);
        let both = "gateway gw-1: 4 of 4 under way; site depot-4: 5 of 4 under way";
        assert_eq!(told.as_deref(), Some(both));
        // one that has room for it is not what it waits for
        let told = full(&[gateway, place("site", "depot-4", 3)]);
        assert_eq!(told.as_deref(), Some("gateway gw-1: 4 of 4 under way"));
        assert_eq!(full(&[place("site", "depot-4", 3)]), None);
    }

    #[test]
    fn spans_are_told_in_the_unit_that_fits() {
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_199, "119 min"),
            (7_200, "2 h"),
            (86_400 * 2, "2 d"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
