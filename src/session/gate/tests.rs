use std::ops::RangeInclusive;

use super::*;
use crate::{
    clock::UtcMillis,
    ledger::{DeviceIds, Further},
    task::Closing,
};

const CELL: u32 = 7;
const NOW: Instant = Instant::from_millis(1_000_000);

fn id(device: u8) -> DeviceId {
    DeviceIds::new([7; 32]).of(&device.to_string())
}

fn ready() -> Presence {
    Presence {
        reachable: true,
        sleeps: false,
        probing: false,
        awake_until: NOW + Duration::from_mins(1),
        fresh_until: NOW + Duration::from_mins(1),
        nods_at: NOW + Duration::from_secs(40),
        spare: Duration::from_mins(30),
        comes: Comes::AsItDoes,
        expected_at: None,
    }
}

const WORK: Work = Work {
    bytes: 20_480,
    install: Duration::from_mins(1),
};

const HOLD: GateRequest = GateRequest::Hold {
    further: Further::NONE,
    limit: 1,
    work: WORK,
    adaptive: None,
};

fn wait(limit: u32, presence: Presence) -> GateRequest {
    GateRequest::Wait {
        task: TaskId(1),
        limit,
        further: Further::NONE,
        since: NOW,
        work: WORK,
        adaptive: None,
        presence,
    }
}

fn opened() -> Gate {
    let mut gate = Gate::new(&AdmissionConfig::default());
    gate.open(true);
    gate
}

fn ask(gate: &mut Gate, device: u8, request: GateRequest) -> Vec<GateOrder> {
    let ask = GateAsk {
        device: id(device),
        lane: Lane::Cell(CELL),
        request,
    };
    gate.handle(NOW, ask);
    turns(gate)
}

fn turns(gate: &mut Gate) -> Vec<GateOrder> {
    gate.handle_timeout(NOW);
    std::iter::from_fn(|| gate.poll_order())
        .map(|(_, turn)| turn)
        .collect()
}

#[test]
fn nobody_has_a_turn_before_it_opens_and_while_nothing_can_be_stored() {
    let mut gate = Gate::new(&AdmissionConfig::default());
    assert_eq!(ask(&mut gate, 1, HOLD), []);
    assert_eq!(ask(&mut gate, 2, wait(2, ready())), []);
    gate.store_available(false);
    gate.open(true);
    assert_eq!(turns(&mut gate), []);
    gate.store_available(true);
    let admitted = GateOrder::Admit {
        lane: Lane::Cell(CELL),
        active: 2,
    };
    assert_eq!(turns(&mut gate), [admitted]);
    assert_eq!(gate.slots_taken(Lane::Cell(CELL)), 2);
}

#[test]
fn asks_once_and_then_waits_for_the_answer() {
    let mut gate = opened();
    let stale = Presence {
        fresh_until: NOW,
        ..ready()
    };
    let measure = GateOrder::Measure {
        lane: Lane::Cell(CELL),
    };
    assert_eq!(ask(&mut gate, 1, wait(1, stale)), [measure]);
    assert_eq!(turns(&mut gate), []);
    let probing = Presence {
        probing: true,
        ..stale
    };
    assert_eq!(ask(&mut gate, 1, GateRequest::Presence(probing)), []);
    // the engine could not: it is asked again, once
    assert_eq!(ask(&mut gate, 1, GateRequest::Presence(stale)), [measure]);
    assert_eq!(
        ask(&mut gate, 1, GateRequest::Presence(ready())),
        [GateOrder::Admit {
            lane: Lane::Cell(CELL),
            active: 1
        }]
    );
    // what was said before the turn arrived means nothing any more
    assert_eq!(ask(&mut gate, 1, GateRequest::Presence(stale)), []);
    assert_eq!(ask(&mut gate, 1, GateRequest::Withdraw), []);
    assert_eq!(gate.slots_taken(Lane::Cell(CELL)), 1);
    assert_eq!(ask(&mut gate, 1, GateRequest::Release), []);
    assert_eq!(gate.lane_count(), 0);
}

#[test]
fn tells_how_a_device_stands_also_behind_others() {
    let mut gate = opened();
    assert_eq!(ask(&mut gate, 1, HOLD), []);
    assert_eq!(ask(&mut gate, 2, wait(1, ready())), []);
    assert_eq!(ask(&mut gate, 3, wait(1, ready())), []);
    let standing = Standing {
        taken: 1,
        ahead: 1,
        closed: Closed::default(),
    };
    assert_eq!(
        ask(&mut gate, 3, GateRequest::Standing),
        [GateOrder::Standing(standing)]
    );
}

#[test]
fn another_share_of_a_task_reaches_those_who_wait() {
    let mut gate = opened();
    assert_eq!(ask(&mut gate, 9, HOLD), []);
    for (device, task) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        let GateRequest::Wait {
            limit,
            since,
            work,
            presence,
            ..
        } = wait(1, always_there())
        else {
            panic!("it is told to wait");
        };
        let request = GateRequest::Wait {
            task: TaskId(task),
            limit,
            further: Further::NONE,
            since,
            work,
            adaptive: None,
            presence,
        };
        assert_eq!(ask(&mut gate, device, request), []);
    }
    let second = Share {
        priority: 6,
        weight: 1,
    };
    gate.share(TaskId(2), second);
    let mut order = Vec::new();
    let mut holder = id(9);
    for _ in 0..4 {
        let ask = GateAsk {
            device: holder,
            lane: Lane::Cell(CELL),
            request: GateRequest::Release,
        };
        gate.handle(NOW, ask);
        gate.handle_timeout(NOW);
        let (device, _) = gate.poll_order().unwrap();
        order.push(device);
        holder = device;
    }
    assert_eq!(order, [3, 4, 1, 2].map(id));
}

#[test]
fn what_is_paced_is_looked_at_when_its_time_comes() {
    let config = AdmissionConfig {
        per_cell_per_second: 1,
        ..AdmissionConfig::default()
    };
    let mut gate = Gate::new(&config);
    gate.open(true);
    assert_eq!(ask(&mut gate, 1, wait(10, ready())).len(), 1);
    assert_eq!(ask(&mut gate, 2, wait(10, ready())), []);
    let later = gate.poll_timeout().unwrap();
    assert!(later > NOW);
    gate.handle_timeout(later);
    assert!(gate.poll_order().is_some());
    assert_eq!(gate.poll_timeout(), None);
}

fn sleeper(heard_at: Instant, spare: Duration) -> Presence {
    Presence {
        sleeps: true,
        awake_until: heard_at + Duration::from_mins(1),
        nods_at: heard_at + Duration::from_secs(40),
        spare,
        ..ready()
    }
}

/// What the gate does at the next time that it has named.
fn next(gate: &mut Gate) -> (Instant, Vec<(DeviceId, GateOrder)>) {
    let at = gate.poll_timeout().unwrap();
    gate.handle_timeout(at);
    (at, std::iter::from_fn(|| gate.poll_order()).collect())
}

#[test]
fn keeps_awake_who_will_have_a_slot_in_time_and_nobody_else() {
    let mut gate = opened();
    assert_eq!(ask(&mut gate, 1, HOLD), []);
    let half_an_hour = Duration::from_mins(30);
    for device in 2..8 {
        let presence = sleeper(NOW, half_an_hour);
        assert_eq!(ask(&mut gate, device, wait(1, presence)), []);
    }
    let (at, orders) = next(&mut gate);
    assert_eq!(at, NOW + Duration::from_secs(40));
    // 20 KiB at what is assumed in weak coverage, and a minute to install
    let service = Duration::from_secs(460);
    let mut kept: Vec<_> = (orders.into_iter())
        .map(|(device, order)| match order {
            GateOrder::KeepAwake { turn, .. } => (device, turn),
            order => panic!("{order:?}"),
        })
        .collect();
    kept.sort_by_key(|(_, turn)| *turn);
    let mut waiting: Vec<DeviceId> = (2..8).map(id).collect();
    waiting.sort_by_key(|device| by_lot(*device, NOW));
    let turns = (1..5).map(|turn| NOW + service * turn);
    let expected = waiting.into_iter().zip(turns);
    assert_eq!(kept, expected.collect::<Vec<_>>());
    // the rest are let go, and nothing is due for them
    assert_eq!(
        gate.poll_timeout(),
        Some((NOW + service).before(Duration::from_mins(1)))
    );
}

#[test]
fn who_can_be_told_when_to_come_is_kept_awake_for_a_near_turn_only() {
    let mut gate = opened();
    assert_eq!(ask(&mut gate, 1, HOLD), []);
    for device in 2..8 {
        let presence = Presence {
            comes: Comes::WhenTold,
            ..sleeper(NOW, Duration::from_mins(30))
        };
        assert_eq!(ask(&mut gate, device, wait(1, presence)), []);
    }
    let (now, orders) = next(&mut gate);
    let mut turns = Vec::new();
    for (_, order) in orders {
        turns.push(match order {
            GateOrder::KeepAwake { turn, .. } => {
                assert!(turn.since(now) <= STANDBY_AT_MOST);
                turn
            }
            GateOrder::Appoint { at, turn, .. } => {
                assert!(turn.since(now) > STANDBY_AT_MOST);
                // somewhat before its turn
                assert!(at < turn && turn.since(at) <= turn.since(now) / 5, "{at:?}");
                turn
            }
            order => panic!("{order:?}"),
        });
    }
    turns.sort();
    let service = Duration::from_secs(460);
    let expected = (1..7).map(|turn| NOW + service * turn);
    assert_eq!(turns, expected.collect::<Vec<_>>(), "nobody is let go");
}

#[test]
fn whoever_cannot_be_told_has_the_turns_of_those_who_can() {
    let mut gate = opened();
    assert_eq!(ask(&mut gate, 1, HOLD), []);
    for device in 2..8 {
        let presence = Presence {
            comes: Comes::WhenTold,
            ..sleeper(NOW, Duration::from_mins(30))
        };
        assert_eq!(ask(&mut gate, device, wait(1, presence)), []);
    }
    assert_eq!(next(&mut gate).1.len(), 6);
    let later = NOW + Duration::from_secs(5);
    let presence = sleeper(later, Duration::from_mins(30));
    assert_eq!(ask(&mut gate, 8, wait(1, presence)), []);
    let orders = std::iter::from_fn(|| {
        let at = gate.poll_timeout()?;
        gate.handle_timeout(at);
        gate.poll_order()
    });
    let first = orders.take(1).next();
    assert!(
        matches!(first, Some((device, GateOrder::KeepAwake { turn, .. }))
            if device == id(8) && turn.since(NOW) < Duration::from_mins(10)),
        "{first:?}"
    );
}

#[test]
fn a_slot_that_comes_back_is_taken_by_whoever_was_kept_awake() {
    let mut gate = opened();
    assert_eq!(ask(&mut gate, 1, HOLD), []);
    let presence = sleeper(NOW, Duration::from_mins(30));
    assert_eq!(ask(&mut gate, 2, wait(1, presence)), []);
    let (_, orders) = next(&mut gate);
    assert!(matches!(orders[..], [(_, GateOrder::KeepAwake { .. })]));
    // one that came first wakes up meanwhile
    let earlier = GateRequest::Wait {
        task: TaskId(1),
        limit: 1,
        further: Further::NONE,
        since: Instant::ZERO,
        work: WORK,
        adaptive: None,
        presence: sleeper(NOW, Duration::from_mins(30)),
    };
    assert_eq!(ask(&mut gate, 3, earlier), []);
    gate.handle(
        NOW,
        GateAsk {
            device: id(1),
            lane: Lane::Cell(CELL),
            request: GateRequest::Release,
        },
    );
    gate.handle_timeout(NOW);
    let admitted = GateOrder::Admit {
        lane: Lane::Cell(CELL),
        active: 1,
    };
    assert_eq!(gate.poll_order(), Some((id(2), admitted)));
    assert_eq!(gate.poll_order(), None);
}

#[test]
fn who_may_not_be_kept_awake_any_longer_is_let_go() {
    let mut gate = opened();
    assert_eq!(ask(&mut gate, 1, HOLD), []);
    let presence = sleeper(NOW, Duration::ZERO);
    assert_eq!(ask(&mut gate, 2, wait(1, presence)), []);
    // only that its coverage is measured anew before its turn is thought of
    gate.handle_timeout(NOW + Duration::from_secs(40));
    assert_eq!(gate.poll_order(), None);
}

#[test]
fn a_slow_download_moves_the_turns_behind_it() {
    let mut gate = opened();
    assert_eq!(ask(&mut gate, 1, HOLD), []);
    let progress = |bytes| GateRequest::Progress {
        work: Work { bytes, ..WORK },
    };
    assert_eq!(ask(&mut gate, 1, progress(20_480)), []);
    gate.handle(
        NOW + Duration::from_mins(10),
        GateAsk {
            device: id(1),
            lane: Lane::Cell(CELL),
            request: progress(19_456),
        },
    );
    // 19 KiB are left, a KiB takes ten minutes: nobody can be kept awake so long
    let presence = sleeper(NOW, Duration::from_mins(30));
    assert_eq!(ask(&mut gate, 2, wait(1, presence)), []);
    gate.handle_timeout(NOW + Duration::from_secs(40));
    assert_eq!(gate.poll_order(), None);
}

#[test]
fn what_was_said_before_the_slot_was_heard_of_changes_nothing() {
    let mut gate = opened();
    let admitted = GateOrder::Admit {
        lane: Lane::Cell(CELL),
        active: 1,
    };
    assert_eq!(ask(&mut gate, 1, wait(10, ready())), [admitted]);
    // the settings have changed, and all who wait say so
    assert_eq!(ask(&mut gate, 1, wait(9, ready())), []);
    assert_eq!(gate.slots_taken(Lane::Cell(CELL)), 1);
    assert_eq!(ask(&mut gate, 1, GateRequest::Release), []);
    assert_eq!(ask(&mut gate, 1, wait(9, ready())), [admitted]);
}

const UTC: UtcMillis = UtcMillis(1_800_000_000_000);

fn minutes(minutes: u64) -> Now {
    Now {
        instant: NOW,
        utc: UTC,
    } + Duration::from_mins(minutes)
}

fn closed(until: Option<u64>) -> CellRules {
    CellRules {
        closing: Some(Closing {
            from: UTC,
            until: until.map(|until| minutes(until).utc),
            reason: "works".into(),
        }),
        ..CellRules::default()
    }
}

fn rule(gate: &mut Gate, now: Now, rules: CellRules) {
    gate.rule(now, Lane::Cell(CELL), rules);
}

/// What it says when it is looked at as often as it wants to be, until then, and when it says it.
fn until(gate: &mut Gate, mut now: Now, end: Now) -> Vec<(u64, GateOrder)> {
    let mut said = Vec::new();
    loop {
        gate.keep_time(now);
        gate.handle_timeout(now.instant);
        while let Some((_, order)) = gate.poll_order() {
            said.push((now.instant.since(NOW).as_secs() / 60, order));
        }
        let Some(at) = gate.poll_timeout().filter(|at| *at <= end.instant) else {
            return said;
        };
        assert!(at > now.instant, "it wants to be looked at all the time");
        now = now + at.since(now.instant);
    }
}

/// A gate whose limits follow how crowded lanes are, if it is said so; fifty devices ask for slots of the lane and download an
/// eighth of everything in so many seconds.
fn crowded(adaptive: bool, rules: CellRules, took_s: u64) -> Gate {
    let config = AdmissionConfig {
        per_cell_per_second: 1_000,
        adaptive,
        ..AdmissionConfig::default()
    };
    let mut gate = Gate::new(&config);
    gate.open(true);
    rule(&mut gate, minutes(0), rules);
    for device in 1..=50 {
        ask(&mut gate, device, wait(50, always_there()));
    }
    download(&mut gate, 1..=50, 0, 20_480);
    download(&mut gate, 1..=50, took_s, 17_920);
    gate
}

/// Devices have so many bytes left, so many seconds after the beginning.
fn download(gate: &mut Gate, devices: RangeInclusive<u8>, second: u64, bytes: u64) {
    for device in devices {
        let ask = GateAsk {
            device: id(device),
            lane: Lane::Cell(CELL),
            request: GateRequest::Progress {
                work: Work { bytes, ..WORK },
            },
        };
        gate.handle(NOW + Duration::from_secs(second), ask);
    }
}

#[test]
fn the_limit_of_a_crowded_lane_falls_where_that_is_wanted() {
    let adaptive = |own| CellRules {
        adaptive: own,
        ..CellRules::default()
    };
    for (all, own, took_s, most) in [
        // a KiB takes 3 s where nothing was measured
        (true, None, 30, Some(35)),
        (true, None, 9, None),
        (false, None, 30, None),
        (false, Some(true), 30, Some(35)),
        (true, Some(false), 30, None),
    ] {
        let mut gate = crowded(all, adaptive(own), took_s);
        let view = gate.look(NOW, Lane::Cell(CELL));
        assert_eq!(
            view.adapted.and_then(|it| it.most),
            most,
            "{all} {own:?} {took_s}"
        );
        let told: Vec<_> = std::iter::from_fn(|| gate.poll_adapted()).collect();
        assert_eq!(told.len(), usize::from(most.is_some()));
        // nobody loses a slot, and nobody gets one until the limit has room
        assert_eq!(gate.slots_taken(Lane::Cell(CELL)), 50);
        let until = if most.is_some() { 34 } else { 49 };
        for device in 1..=50 - until {
            ask(&mut gate, device, GateRequest::Release);
        }
        let admitted = ask(&mut gate, 60, wait(50, always_there()));
        assert_eq!(admitted.len(), 1, "{all} {own:?} {took_s}");
        if most.is_some() {
            assert_eq!(ask(&mut gate, 61, wait(50, always_there())), []);
            // it is switched off, and who waits goes on
            let said = AdmissionConfig::default();
            gate.configure(&said);
            rule(&mut gate, minutes(1), CellRules::default());
            assert_eq!(turns(&mut gate).len(), 1);
        }
    }
}

#[test]
fn the_operator_s_limit_holds_in_a_crowded_lane_too() {
    let rules = CellRules {
        limit: Some(20),
        adaptive: Some(true),
        ..CellRules::default()
    };
    let mut gate = crowded(false, rules.clone(), 300);
    let adapted = gate.look(NOW, Lane::Cell(CELL)).adapted.unwrap();
    assert_eq!(
        (adapted.before, adapted.most),
        (None, Some(14)),
        "of twenty"
    );
    let limit = Some(10);
    rule(&mut gate, minutes(10), CellRules { limit, ..rules });
    let lane = Lane::Cell(CELL);
    assert_eq!(
        (gate.ruled(lane), gate.class_of(lane, 50, None)),
        (Some(10), 14)
    );
}

/// A device whose product says so of crowded lanes.
fn of_product(adaptive: Option<bool>) -> GateRequest {
    let GateRequest::Wait { task, work, .. } = wait(50, always_there()) else {
        panic!("it is told to wait");
    };
    GateRequest::Wait {
        task,
        limit: 50,
        further: Further::NONE,
        since: NOW,
        work,
        adaptive,
        presence: always_there(),
    }
}

#[test]
fn the_limit_falls_for_the_products_for_which_that_is_wanted() {
    let lane = Lane::Cell(CELL);
    let config = AdmissionConfig {
        per_cell_per_second: 1_000,
        ..AdmissionConfig::default()
    };
    for (own, followed) in [(None, true), (Some(false), false)] {
        let mut gate = Gate::new(&config);
        gate.open(true);
        let rules = CellRules {
            adaptive: own,
            ..CellRules::default()
        };
        rule(&mut gate, minutes(0), rules);
        for device in 1..=40 {
            // what the others' downloads take tells nothing
            let adaptive = (device > 20).then_some(true);
            assert_eq!(ask(&mut gate, device, of_product(adaptive)).len(), 1);
        }
        download(&mut gate, 1..=40, 0, 20_480);
        download(&mut gate, 1..=20, 30, 17_920);
        let before = gate.look(NOW, lane).adapted;
        assert_eq!(before, None, "nobody follows them");
        download(&mut gate, 21..=40, 30, 17_920);
        let most = gate.look(NOW, lane).adapted.and_then(|it| it.most);
        assert_eq!(most, followed.then_some(28), "{own:?}");
        // a device of the product waits, and one of another has its slot
        let of_it = ask(&mut gate, 50, of_product(Some(true)));
        assert_eq!(of_it.len(), usize::from(!followed));
        assert_eq!(ask(&mut gate, 51, of_product(None)).len(), 1);
        assert_eq!(ask(&mut gate, 52, of_product(Some(false))).len(), 1);
        if followed {
            let off = CellRules {
                adaptive: Some(false),
                ..CellRules::default()
            };
            rule(&mut gate, minutes(1), off);
            assert_eq!(turns(&mut gate).len(), 1, "the cell's own word wins");
        }
    }
}

fn always_there() -> Presence {
    Presence {
        awake_until: Instant::MAX,
        fresh_until: Instant::MAX,
        ..ready()
    }
}

#[test]
fn a_closed_lane_opens_by_itself_at_its_time() {
    let mut gate = opened();
    rule(&mut gate, minutes(0), closed(Some(90)));
    assert_eq!(ask(&mut gate, 1, wait(10, always_there())), []);
    let admitted = GateOrder::Admit {
        lane: Lane::Cell(CELL),
        active: 1,
    };
    let said = until(&mut gate, minutes(0), minutes(200));
    assert_eq!(said, [(90, admitted)]);
    assert_eq!(gate.poll_timeout(), None);
}

#[test]
fn a_lane_that_is_closed_when_it_opens_its_gate_admits_nobody() {
    let mut gate = Gate::new(&AdmissionConfig::default());
    rule(&mut gate, minutes(0), closed(None));
    assert_eq!(ask(&mut gate, 1, HOLD), []);
    assert_eq!(ask(&mut gate, 2, wait(10, always_there())), []);
    gate.open(true);
    assert_eq!(until(&mut gate, minutes(0), minutes(1_000)), []);
    // whoever has a slot keeps it
    assert_eq!(gate.slots_taken(Lane::Cell(CELL)), 1);
    let again = minutes(1_000);
    rule(&mut gate, again, CellRules::default());
    assert_eq!(until(&mut gate, again, again).len(), 1);
}

#[test]
fn busy_hours_begin_and_end_by_themselves() {
    let mut gate = opened();
    // UTC is Friday, 2027-01-15 08:00
    let json = r#"{"from":"08:00","to":"08:30","zone":"UTC","limit":1}"#;
    let rules = CellRules {
        limit: Some(3),
        busy_hours: vec![serde_json::from_str(json).unwrap()],
        ..CellRules::default()
    };
    rule(&mut gate, minutes(0), rules);
    for device in 1..=5 {
        ask(&mut gate, device, wait(10, always_there()));
    }
    assert_eq!(gate.slots_taken(Lane::Cell(CELL)), 1);
    let said = until(&mut gate, minutes(0), minutes(60));
    assert_eq!(said.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [30, 30]);
    assert_eq!(gate.slots_taken(Lane::Cell(CELL)), 3);
    for device in 1..=5 {
        ask(&mut gate, device, GateRequest::Release);
    }
    // the next day there is one again
    let tomorrow = minutes(24 * 60 + 1);
    until(&mut gate, minutes(60), tomorrow);
    assert_eq!(gate.look(tomorrow.instant, Lane::Cell(CELL)).per_kib, None);
}

#[test]
fn a_wall_clock_that_is_set_is_followed() {
    let mut gate = opened();
    rule(&mut gate, minutes(0), closed(Some(600)));
    assert_eq!(ask(&mut gate, 1, wait(10, always_there())), []);
    let set = Now {
        instant: minutes(2).instant,
        utc: minutes(600).utc,
    };
    assert!(gate.poll_timeout().unwrap() <= minutes(1).instant);
    assert_eq!(until(&mut gate, set, set).len(), 1);
}

#[test]
fn tells_for_how_long_a_lane_was_closed_while_a_device_waits() {
    let mut gate = opened();
    let standing = |gate: &mut Gate, at: u64| {
        let ask = GateAsk {
            device: id(1),
            lane: Lane::Cell(CELL),
            request: GateRequest::Standing,
        };
        gate.keep_time(minutes(at));
        gate.handle(minutes(at).instant, ask);
        match gate.poll_order() {
            Some((_, GateOrder::Standing(standing))) => standing.closed,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(&mut gate, 9, HOLD), []);
    assert_eq!(ask(&mut gate, 1, wait(1, always_there())), []);
    assert_eq!(standing(&mut gate, 1), Closed::default());
    let mut rules = closed(Some(40));
    rules.closing.as_mut().unwrap().from = minutes(10).utc;
    rule(&mut gate, minutes(10), rules.clone());
    let now = standing(&mut gate, 30);
    let expected = Closed {
        time: Duration::from_mins(20),
        now: true,
        opens_at: Some(minutes(40).instant),
    };
    assert_eq!(now, expected);
    // an outage that overlaps counts once
    rules.outage = Some(Closing {
        from: minutes(30).utc,
        until: Some(minutes(50).utc),
        reason: "mast".into(),
    });
    rule(&mut gate, minutes(30), rules.clone());
    let over = standing(&mut gate, 60);
    assert_eq!((over.time, over.now), (Duration::from_mins(40), false));
    // the next closing comes on top
    rules.closing = Some(Closing {
        from: minutes(70).utc,
        until: Some(minutes(75).utc),
        reason: "works".into(),
    });
    rule(&mut gate, minutes(70), rules);
    assert_eq!(standing(&mut gate, 80).time, Duration::from_mins(45));
}

#[test]
fn tells_when_who_waits_will_be_through() {
    let mut gate = opened();
    let lane = Lane::Cell(CELL);
    rule(&mut gate, minutes(0), closed(Some(90)));
    for device in 1..=4 {
        assert_eq!(ask(&mut gate, device, wait(10, always_there())), []);
    }
    let mut rules = closed(Some(90));
    rules.limit = Some(2);
    let closed_now = gate.look(NOW, lane).through_at.unwrap();
    assert!(closed_now > minutes(90).instant);
    rules.closing = None;
    rule(&mut gate, minutes(0), rules);
    let work = gate.estimates.service(lane, 10, WORK);
    assert_eq!(gate.look(NOW, lane).through_at, Some(NOW + work * 2));
    rule(&mut gate, minutes(0), closed(None));
    assert_eq!(gate.look(NOW, lane).through_at, None);
}

/// A device is admitted and downloads everything in that time. Gives what is to be written down.
fn downloads(gate: &mut Gate, device: u8, at: Instant, took: Duration) -> Vec<DownloadPace> {
    let mut said = |at, request| {
        let ask = GateAsk {
            device: id(device),
            lane: Lane::Cell(CELL),
            request,
        };
        gate.handle(at, ask);
        gate.handle_timeout(at);
        std::iter::from_fn(|| gate.poll_order()).collect::<Vec<_>>()
    };
    let awake = Presence {
        awake_until: Instant::MAX,
        fresh_until: Instant::MAX,
        ..ready()
    };
    said(at, wait(10, awake));
    said(at, GateRequest::Progress { work: WORK });
    let install = WORK.install;
    let orders = said(at + took, GateRequest::Downloaded { install });
    said(at + took, GateRequest::Release);
    (orders.into_iter())
        .filter_map(|(_, order)| match order {
            GateOrder::WriteDown(pace) => Some(pace),
            _ => None,
        })
        .collect()
}

#[test]
fn what_is_learnt_of_downloads_is_written_down_now_and_then_and_gone_on_with() {
    let mut gate = opened();
    let took = Duration::from_secs(200);
    let mut written = Vec::new();
    let mut at = NOW;
    for _ in 0..100 {
        written.extend(downloads(&mut gate, 1, at, took));
        at = at + took;
    }
    // of the cell and of all together, each after 1, 2, 4, 8, 16 and 32 of them, and for each eighth that comes to them
    assert_eq!(written.len(), 28, "{written:?}");
    let lanes: Vec<_> = written[..2].iter().map(|pace| pace.lane).collect();
    assert_eq!(lanes, [None, Some(Lane::Cell(CELL))]);
    // not twice in a minute
    let quick = Duration::from_secs(20);
    let times = (0..64).filter(|_| {
        at = at + quick;
        !downloads(&mut gate, 1, at, quick).is_empty()
    });
    assert!((2..=22).contains(&times.count()));

    let learnt: Vec<Learnt> = written.into_iter().map(Learnt::Download).collect();
    let mut restarted = opened();
    let service = |gate: &Gate| gate.estimates.service(Lane::Cell(CELL), 10, WORK);
    assert_ne!(service(&restarted), took + WORK.install);
    restarted.restore(&learnt);
    assert_eq!(service(&restarted), took + WORK.install);
}

/// Products change often. What is set for cells does not then, and the pace goes on.
#[test]
fn settings_that_are_the_same_bring_nobody_a_slot_before_its_time() {
    let mut config = AdmissionConfig {
        per_second: 1,
        ..AdmissionConfig::default()
    };
    let mut gate = Gate::new(&config);
    gate.open(true);
    assert_eq!(ask(&mut gate, 1, wait(5, ready())).len(), 1);
    assert_eq!(ask(&mut gate, 2, wait(5, ready())), []);
    gate.configure(&config);
    assert_eq!(turns(&mut gate), []);
    config.per_second = 2;
    gate.configure(&config);
    assert_eq!(turns(&mut gate).len(), 1);
}

/// Lets a device wait in a cell, with these further lanes.
fn wait_in(gate: &mut Gate, device: u8, cell: u32, further: Further) -> Vec<(DeviceId, GateOrder)> {
    let GateRequest::Wait { task, work, .. } = wait(50, always_there()) else {
        panic!("it is told to wait");
    };
    let request = GateRequest::Wait {
        task,
        limit: 50,
        further,
        since: NOW,
        work,
        adaptive: None,
        presence: always_there(),
    };
    say(gate, device, Lane::Cell(cell), request)
}

fn say(
    gate: &mut Gate,
    device: u8,
    lane: Lane,
    request: GateRequest,
) -> Vec<(DeviceId, GateOrder)> {
    let device = id(device);
    gate.handle(
        NOW,
        GateAsk {
            device,
            lane,
            request,
        },
    );
    gate.handle_timeout(NOW);
    std::iter::from_fn(|| gate.poll_order()).collect()
}

#[test]
fn cells_share_the_slots_of_a_site() {
    let site = Lane::site("default", "depot-4");
    let further = Further::of(Some(site), None);
    let mut gate = opened();
    gate.limit(site, Some(2));
    // one of before a restart
    let hold = GateRequest::Hold {
        further,
        limit: 50,
        work: WORK,
        adaptive: None,
    };
    assert_eq!(say(&mut gate, 9, Lane::Cell(1), hold), []);
    assert_eq!(wait_in(&mut gate, 1, 1, further).len(), 1);
    assert_eq!(wait_in(&mut gate, 2, 2, further), []);
    assert_eq!(wait_in(&mut gate, 3, 3, further), []);
    // who is at no site does not wait for it
    assert_eq!(wait_in(&mut gate, 4, 2, Further::NONE).len(), 1);
    let view = gate.look(NOW, site);
    assert_eq!((view.taken, view.waiting), (2, 2));
    // whoever gives a slot back, the next one is in another cell
    let told = say(&mut gate, 9, Lane::Cell(1), GateRequest::Release);
    let lane = Lane::Cell(2);
    let admitted = |device, lane, active| (id(device), GateOrder::Admit { lane, active });
    assert_eq!(told, [admitted(2, lane, 2)]);
    assert_eq!(gate.poll_timeout(), None);
    gate.limit(site, None);
    gate.handle_timeout(NOW);
    let told: Vec<_> = std::iter::from_fn(|| gate.poll_order()).collect();
    assert_eq!(told, [admitted(3, Lane::Cell(3), 1)]);
    assert_eq!(gate.slots_taken(site), 3);
}

#[test]
fn a_gateway_has_the_limit_that_its_product_has_or_that_of_all() {
    let behind = |name, limit| Further::of(None, Some(Lane::gateway(name))).with_limit(limit);
    let mut gate = opened();
    let config = AdmissionConfig {
        per_gateway: 1,
        ..AdmissionConfig::default()
    };
    gate.configure(&config);
    let admitted = |gate: &mut Gate, device, further| !wait_in(gate, device, 1, further).is_empty();
    let wide = behind("wide", Some(2));
    assert!(admitted(&mut gate, 1, wide));
    assert!(admitted(&mut gate, 2, wide));
    assert!(!admitted(&mut gate, 3, wide));
    let usual = behind("usual", None);
    assert!(admitted(&mut gate, 4, usual));
    assert!(!admitted(&mut gate, 5, usual));
    // it is changed: the next one that asks says so
    let wider = behind("wide", Some(9)).known_at(NOW);
    assert!(admitted(&mut gate, 6, wider));
    assert_eq!(gate.slots_taken(Lane::gateway("wide")), 4);
    // one that has begun before that, and asks again, changes nothing
    assert!(admitted(&mut gate, 7, wide));
    assert!(admitted(&mut gate, 8, wide));
    // what holds for all does not hold for it
    gate.configure(&AdmissionConfig::default());
    gate.handle_timeout(NOW);
    let told: Vec<_> = std::iter::from_fn(|| gate.poll_order()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, id(5));
}

#[test]
fn what_the_operator_says_of_one_gateway_comes_before_its_product() {
    let lane = Lane::gateway("gw-1");
    let behind = |limit| Further::of(None, Some(lane)).with_limit(limit);
    let mut gate = opened();
    // it is told before anybody asks, as at a start
    gate.limit(lane, Some(1));
    let admitted = |gate: &mut Gate, device, further| !wait_in(gate, device, 1, further).is_empty();
    assert!(admitted(&mut gate, 1, behind(Some(4))));
    assert!(!admitted(&mut gate, 2, behind(Some(4))));
    assert!(!admitted(&mut gate, 3, behind(Some(4)).known_at(NOW)));
    // the next number holds at once for those who wait
    gate.limit(lane, Some(2));
    assert_eq!(due(&mut gate, NOW), [id(2)]);
    let config = AdmissionConfig {
        per_gateway: 100,
        ..AdmissionConfig::default()
    };
    gate.configure(&config);
    assert_eq!(due(&mut gate, NOW), []);
    // another gateway is none of this
    let other = Further::of(None, Some(Lane::gateway("gw-2")));
    for device in 11..13 {
        assert!(admitted(&mut gate, device, other));
    }
    // where nothing is said of it any more, its product counts
    gate.limit(lane, None);
    assert_eq!(due(&mut gate, NOW), [id(3)]);
    assert!(admitted(&mut gate, 4, behind(Some(4)).known_at(NOW)));
    assert!(!admitted(&mut gate, 5, behind(Some(4)).known_at(NOW)));
}

/// What a device says of a cell then, and who is admitted.
fn tell(gate: &mut Gate, now: Instant, ask: (u8, u32, GateRequest)) -> Vec<DeviceId> {
    let (device, cell, request) = ask;
    let ask = GateAsk {
        device: id(device),
        lane: Lane::Cell(cell),
        request,
    };
    gate.handle(now, ask);
    due(gate, now)
}

/// Who is admitted when time has come.
fn due(gate: &mut Gate, now: Instant) -> Vec<DeviceId> {
    gate.handle_timeout(now);
    let orders = std::iter::from_fn(|| gate.poll_order());
    let admitted = orders.filter(|(_, order)| matches!(order, GateOrder::Admit { .. }));
    admitted.map(|(device, _)| device).collect()
}

#[test]
fn a_slot_of_a_site_is_not_kept_for_one_that_has_fallen_asleep() {
    let site = Lane::site("default", "depot-4");
    let further = Further::of(Some(site), None);
    let mut gate = opened();
    gate.limit(site, Some(1));
    let until = NOW + Duration::from_secs(20);
    let GateRequest::Wait { task, work, .. } = wait(50, ready()) else {
        panic!("it is told to wait");
    };
    let sleeper = GateRequest::Wait {
        task,
        limit: 50,
        further,
        since: NOW,
        work,
        adaptive: None,
        presence: Presence {
            sleeps: true,
            awake_until: until,
            fresh_until: NOW,
            spare: Duration::ZERO,
            ..ready()
        },
    };
    // its coverage is measured, and it does not answer
    assert_eq!(tell(&mut gate, NOW, (1, 1, sleeper)), []);
    assert_eq!(wait_in(&mut gate, 2, 2, further), []);
    assert_eq!(gate.poll_timeout(), Some(until));
    assert_eq!(due(&mut gate, until), [id(2)]);
    assert_eq!(gate.poll_timeout(), None);
}

#[test]
fn one_that_goes_on_to_another_cell_keeps_for_how_long_it_was_passed_over() {
    let site = Lane::site("default", "depot-4");
    let further = Further::of(Some(site), None);
    let mut gate = opened();
    gate.limit(site, Some(1));
    let hold = |further| GateRequest::Hold {
        further,
        limit: 1,
        work: WORK,
        adaptive: None,
    };
    assert_eq!(tell(&mut gate, NOW, (9, 9, hold(further))), []);
    assert_eq!(tell(&mut gate, NOW, (8, 2, hold(Further::NONE))), []);
    let GateRequest::Wait { task, work, .. } = wait(1, always_there()) else {
        panic!("it is told to wait");
    };
    let waits = |since| GateRequest::Wait {
        task,
        limit: 1,
        further,
        since,
        work,
        adaptive: None,
        presence: always_there(),
    };
    assert_eq!(tell(&mut gate, NOW, (1, 1, waits(NOW))), []);
    let moved = NOW + Duration::from_mins(9);
    assert_eq!(tell(&mut gate, moved, (1, 2, waits(NOW))), []);
    assert_eq!(gate.look(moved, Lane::Cell(1)).waiting, 0);
    assert_eq!(tell(&mut gate, moved, (1, 1, GateRequest::Withdraw)), []);
    assert_eq!(gate.look(moved, Lane::Cell(2)).waiting, 1);
    assert_eq!(tell(&mut gate, moved, (3, 3, waits(moved))), []);
    // the slot of the site is kept for the one that has waited for it, until its new cell has room
    let later = NOW + Duration::from_mins(11);
    assert_eq!(tell(&mut gate, later, (9, 9, GateRequest::Release)), []);
    let told = tell(&mut gate, later, (8, 2, GateRequest::Release));
    assert_eq!(told, [id(1)]);
}
