use super::*;
use crate::ledger::DeviceIds;

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
    }
}

fn wait(limit: u32, presence: Presence) -> GateRequest {
    GateRequest::Wait {
        limit,
        since: NOW,
        presence,
    }
}

fn opened() -> Gate {
    let mut gate = Gate::new(&AdmissionConfig::default());
    gate.open(true);
    gate
}

fn ask(gate: &mut Gate, device: u8, request: GateRequest) -> Vec<GateOrder> {
    gate.handle(GateAsk {
        device: id(device),
        lane: Lane::Cell(CELL),
        request,
    });
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
    assert_eq!(ask(&mut gate, 1, GateRequest::Hold), []);
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
    assert_eq!(ask(&mut gate, 1, GateRequest::Hold), []);
    assert_eq!(ask(&mut gate, 2, wait(1, ready())), []);
    assert_eq!(ask(&mut gate, 3, wait(1, ready())), []);
    let standing = Standing { taken: 1, ahead: 1 };
    assert_eq!(
        ask(&mut gate, 3, GateRequest::Standing),
        [GateOrder::Standing(standing)]
    );
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
