//! Limits of sites and gateways in a course.

use std::collections::HashMap;

use super::*;

/// Where the devices of a course are, and with which limits.
struct Place<'a> {
    own: &'a [(Lane, u32)],
    site: Option<&'a str>,
    gateway: Option<&'a str>,
}

/// Devices that all have room in their cell, in that place.
fn there(devices: u32, place: &Place<'_>) -> Given {
    let mut given = awake(devices, 50);
    given.lanes = Lanes::new(place.own.iter().copied());
    let site = place.site.map(|site| ("default", site));
    let lanes = given.lanes.of(site, place.gateway);
    for device in &mut given.devices {
        device.lanes = lanes;
    }
    given
}

/// Whoever has waited for a slot of a site or gateway is asked for its coverage anew when there is one: three round trips at most.
const ASKED_ANEW_S: u64 = 3 * PER_KIB_MS / 2 / 1_000;

/// It takes so many turns.
fn assert_rounds(given: &Given, rounds: u64) {
    let course = course(given);
    let took = seconds(course.finish.unwrap());
    let exact = rounds * SERVICE_S;
    assert!(
        (exact..=exact + rounds * ASKED_ANEW_S + 30).contains(&took),
        "{took} s for {rounds} rounds of {SERVICE_S} s"
    );
    assert_eq!(course.succeeded, given.devices.len() as u64);
}

#[test]
fn devices_behind_a_gateway_take_turns_though_their_cell_has_room() {
    let gateway = Lane::gateway("gw-1");
    let behind = |own: &[(Lane, u32)]| {
        let gateway = Some("gw-1");
        let site = None;
        there(20, &Place { own, site, gateway })
    };
    assert_rounds(&awake(20, 50), 1);
    assert_rounds(&behind(&[(gateway, 1)]), 20);
    // as many as of any gateway, where nothing is said of this one
    let usual = Config::default().admission.per_gateway;
    assert_rounds(&behind(&[]), 20_u32.div_ceil(usual).into());
    // as its product says, unless it is said of this one
    for (own, rounds) in [(&[][..], 2), (&[(gateway, 20)][..], 1)] {
        let mut given = behind(own);
        given.lanes.products_say(HashMap::from([(gateway, 10)]));
        assert_rounds(&given, rounds);
    }
}

#[test]
fn devices_at_a_site_take_turns_in_whatever_cells_they_are() {
    let own = [(Lane::site("default", "depot"), 2)];
    let at = |site| {
        let mut given = there(
            20,
            &Place {
                own: &own,
                site: Some(site),
                gateway: None,
            },
        );
        for (number, device) in (0_u32..).zip(&mut given.devices) {
            device.cell = Some(number);
        }
        given
    };
    assert_rounds(&at("depot"), 10);
    // a site without a limit is no matter of admission
    assert_rounds(&at("harbour"), 1);
    assert!(at("harbour").lanes.is_empty());
}

#[test]
fn the_narrowest_lane_of_a_device_decides() {
    let own = [
        (Lane::site("default", "depot"), 5),
        (Lane::gateway("gw-1"), 1),
    ];
    let site = Some("depot");
    let gateway = Some("gw-1");
    let both = there(
        10,
        &Place {
            own: &own,
            site,
            gateway,
        },
    );
    assert_rounds(&both, 10);
    // two gateways at one site go on at the same time
    let mut two = both.clone();
    let other = two.lanes.of(Some(("default", "depot")), Some("gw-2"));
    for device in &mut two.devices[..5] {
        device.lanes = other;
    }
    assert_rounds(&two, 5);
}

#[test]
fn it_is_told_which_sites_and_gateways_are_through_last_and_what_they_wait_for() {
    let own = [
        (Lane::site("default", "depot"), 20),
        (Lane::gateway("gw-1"), 1),
        (Lane::gateway("gw-2"), 2),
    ];
    let site = Some("depot");
    let gateway = Some("gw-1");
    let mut given = there(
        20,
        &Place {
            own: &own,
            site,
            gateway,
        },
    );
    let other = given.lanes.of(Some(("default", "depot")), Some("gw-2"));
    for device in &mut given.devices[10..] {
        device.lanes = other;
    }
    let made = full(&given);
    let gateways: Vec<_> = (made.gateways.iter())
        .map(|it| (&*it.lane, it.devices))
        .collect();
    assert_eq!(gateways, [("gw-1", 10), ("gw-2", 10)]);
    assert_eq!(made.gateways[0].held_by, HeldBy::Slots);
    let bound = |at: usize| made.gateways[at].lower_bound_s;
    assert!(bound(0) >= 10 * SERVICE_S / 2 && bound(1) <= bound(0) * 3 / 4);
    assert_eq!((&*made.sites[0].lane, made.sites[0].devices), ("depot", 20));
    // neither the site nor the cell is what the devices wait for
    assert_eq!(made.sites[0].held_by, HeldBy::Elsewhere);
    assert_eq!(made.cells[0].held_by, HeldBy::Elsewhere);
    assert_eq!(made.gateways[0].ends, made.finish);
    // without either, none is named
    let free = full(&awake(5, 1));
    assert!(free.sites.is_empty() && free.gateways.is_empty());
    assert_eq!(free.cells[0].held_by, HeldBy::Slots);
}

#[test]
fn those_who_wait_in_a_closed_cell_keep_no_slot_of_their_site() {
    let own = [(Lane::site("default", "depot"), 1)];
    let mut given = there(
        10,
        &Place {
            own: &own,
            site: Some("depot"),
            gateway: None,
        },
    );
    for device in &mut given.devices[..5] {
        device.cell = Some(8);
    }
    let closed = CellRules {
        closing: Some(Closing {
            from: NOW,
            until: None,
            reason: "mast".to_owned(),
        }),
        ..CellRules::default()
    };
    given.cells = vec![(8, closed)];
    let course = course(&given);
    assert_eq!((course.succeeded, course.unfinished), (5, 5));
    let last = seconds(*course.ends.last().unwrap());
    let most = 5 * (SERVICE_S + ASKED_ANEW_S) + 30;
    assert!(last <= most, "{last} s");
}

#[test]
fn slots_of_other_tasks_count_at_a_gateway() {
    let own = [(Lane::gateway("gw-1"), 1)];
    let gateway = Some("gw-1");
    let mut given = there(
        1,
        &Place {
            own: &own,
            site: None,
            gateway,
        },
    );
    let mut other = given.devices[0].clone();
    other.endpoint = "other".into();
    other.cell = Some(99);
    other.place = super::super::Place::Downloading(KIB * 1_024);
    given.others = vec![other];
    assert_rounds(&given, 2);
}

#[test]
fn those_who_join_compete_where_the_others_do() {
    let own = [(Lane::gateway("gw-1"), 1)];
    let mut given = there(
        40,
        &Place {
            own: &own,
            site: None,
            gateway: Some("gw-1"),
        },
    );
    given.task.rules = rules(r#"{"membership": "joining"}"#);
    // those who have joined by then come before them
    for device in &mut given.devices[20..] {
        device.not_before = NOW + Duration::from_hours(2);
    }
    let alone = seconds(course(&given).finish.unwrap());
    given.joining_per_day = Some(400.0);
    let with_others = seconds(course(&given).finish.unwrap());
    assert!(
        with_others >= alone + SERVICE_S,
        "{with_others} s, {alone} s alone"
    );
}

#[test]
fn what_is_kept_of_a_device_is_small() {
    // a million of them are read at once, and stand in each course
    assert_eq!(size_of::<LanesId>(), 4);
    assert!(size_of::<Subject>() <= 144, "{}", size_of::<Subject>());
    assert!(
        size_of::<super::super::unit::Unit>() <= 400,
        "{}",
        size_of::<super::super::unit::Unit>()
    );
    // devices of the same site and gateway share what is kept of these
    let mut lanes = Lanes::new([(Lane::site("default", "depot"), 1)]);
    let site = Some(("default", "depot"));
    let first = lanes.of(site, Some("gw-1"));
    assert_eq!(lanes.of(site, Some("gw-1")), first);
    assert_ne!(lanes.of(site, Some("gw-2")), first);
    assert_ne!(lanes.of(site, None), LanesId::default());
    assert_eq!(lanes.of(Some(("acme", "depot")), None), LanesId::default());
    assert_eq!(lanes.of(None, None), LanesId::default());
}
