//! Devices that need a slot, because they are at a site.

use super::*;

fn at_site() -> UpgradeOrder {
    let site = Lane::site("default", "depot-4");
    UpgradeOrder {
        further: Further::of(Some(site), None),
        ..order()
    }
}

impl World {
    fn gate_says(&mut self, order: GateOrder) {
        self.command(Command::Gate {
            device: id(),
            order,
        });
    }

    fn admits(&mut self) {
        let lane = Lane::site("default", "depot-4");
        self.gate_says(GateOrder::Admit { lane, active: 1 });
    }

    fn asked(&mut self) -> Vec<GateRequest> {
        std::mem::take(&mut self.asks)
    }
}

#[test]
fn a_device_with_a_site_waits_for_its_slot_and_holds_it_to_the_end() {
    let mut world = World::of(Protocol::Iotda);
    world.command(Command::Start {
        order: at_site(),
        offers: offers(),
    });
    world.connect();
    world.published();
    assert_eq!(world.asked(), []);
    world.tells("V1");
    assert_eq!(world.stage(), Some(Stage::WaitingForSlot));
    assert_eq!(world.published(), [] as [Value; 0], "it is offered nothing");
    let asked = world.asked();
    let [GateRequest::Wait { further, .. }] = asked[..] else {
        panic!("{asked:?}");
    };
    assert!(further.lanes().eq(at_site().further.lanes()));
    // what it cannot use goes back, and it keeps its place
    world.disconnect();
    world.admits();
    let asked = world.asked();
    assert!(
        matches!(
            asked[..],
            [
                GateRequest::Presence(Presence {
                    reachable: false,
                    ..
                }),
                GateRequest::Release,
                GateRequest::Wait { .. },
            ]
        ),
        "{asked:?}"
    );
    world.connect();
    assert!(matches!(world.asked()[..], [GateRequest::Presence(_)]));
    world.admits();
    assert_eq!(world.stage(), Some(Stage::Downloading));
    let grant = world.granted();
    world.serve(&grant.token, SIZE);
    world.reports(0, 100, "V2");
    world.connect();
    world.tells("V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
    assert_eq!(world.asked(), [GateRequest::Release]);
    let told = world.told();
    for code in ["queued_at", "slot_granted_at"] {
        assert_eq!(told.iter().filter(|it| *it == code).count(), 1, "{told:?}");
    }
}

#[test]
fn a_device_without_a_site_needs_no_slot() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    assert_eq!(world.stage(), Some(Stage::Downloading));
    assert_eq!(world.asked(), []);
}

#[test]
fn a_slot_of_before_a_restart_is_told_to_the_gate() {
    let now = World::of(Protocol::Iotda).now;
    let mut world = World::begun(Protocol::Iotda, Config::default(), now);
    world.command(Command::AddDevice {
        endpoint: DEVICE.into(),
        product: "meters".into(),
        secure: false,
        protocol: Protocol::Iotda,
        via: crate::ledger::Via::Itself,
    });
    let active = |stage| ActiveUpgrade {
        order: at_site(),
        stage: StageChange {
            stage,
            entered_at: now.utc,
            deadline_at: now.utc + Duration::from_hours(1),
            queued_at: Some(now.utc),
            slot_deadline_at: Some(now.utc + Duration::from_hours(1)),
            cell: None,
            cell_limit: None,
            confirmed: false,
            download_errors: 0,
        },
        progress: None,
    };
    let downloading = active(Stage::Downloading);
    world.engine.restore_upgrade(now, downloading, offers());
    world.drain();
    let asked = world.asked();
    assert!(matches!(asked[..], [GateRequest::Hold { .. }]), "{asked:?}");
}
