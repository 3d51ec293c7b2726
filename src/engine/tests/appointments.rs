use super::*;
use crate::{
    config::{Appointments, ProductConfig},
    ledger::{Appointment, Lane, UpdateTimer},
};

/// A device that waits for a slot and is told to come: another one has the cell.
struct Waiting {
    world: World,
    first: Script,
    device: Script,
}

/// The lifetimes that a device was written, with the requests. Its coverage it tells.
fn written(device: &mut Script, world: &mut World) -> Vec<(u32, Message<'static>)> {
    let mut written = Vec::new();
    loop {
        let received = device.receive(world);
        if received.is_empty() {
            return written;
        }
        for received in received {
            match received {
                Received::Lifetime(message) => written.push((value(&message), message)),
                Received::Read(_, read) => device.answer_read(world, &read, 7, -112, -8),
                _ => {}
            }
        }
    }
}

fn value(message: &Message) -> u32 {
    match message.content_format() {
        Some(ContentFormat(0)) => {
            let text = std::str::from_utf8(message.payload()).unwrap();
            text.parse().unwrap()
        }
        Some(ContentFormat(11542)) => {
            let [0xC4, 1, value @ ..] = message.payload() else {
                panic!("no entry of TLV: {:?}", message.payload());
            };
            u32::from_be_bytes(value.try_into().unwrap())
        }
        other => panic!("in format {other:?}"),
    }
}

fn config(appointments: Appointments) -> Config {
    let mut config = Config::default();
    config.admission.keep_awake_s = 0;
    config.upgrade.nudge_after_s = 3_600; // the first one keeps its slot
    let product = ProductConfig {
        appointments,
        ..ProductConfig::default()
    };
    config.products.insert("meter".into(), product);
    config
}

impl Waiting {
    fn with(appointments: Appointments) -> Self {
        let mut world = World::with(config(appointments));
        let package = package("V2", &content());
        let [first, device] = ["meter-1", "meter-2"].map(|endpoint| {
            let n = endpoint.as_bytes()[6] - b'0';
            let mut device = Script::new(endpoint, u16::from(n)).asleep_between();
            world.add(endpoint);
            world.start(endpoint, n.into(), &package);
            device.negotiate(&mut world, 7, -112, -8);
            device.receive(&mut world);
            device
        });
        Self {
            world,
            first,
            device,
        }
    }

    fn new() -> Self {
        Self::with(Appointments::Lifetime)
    }

    /// Its turn is in an hour.
    fn told(&mut self, in_s: u64) -> Instant {
        let now = self.world.now.instant;
        let at = now + Duration::from_secs(in_s);
        let order = GateOrder::Appoint {
            lane: Lane::Cell(7),
            at,
            turn: at + Duration::from_mins(5),
        };
        let device = ids().of("meter-2");
        self.world.command(Command::Gate { device, order });
        at
    }

    fn answers(&mut self, write: &Message, code: Code) {
        let answer = response(write, code);
        self.world.datagram(self.device.at, &answer.build());
    }

    fn stored(&self) -> Option<Appointment> {
        let last = self.world.changes.iter().rev().find_map(|change| {
            let Change::Appointed { appointment, .. } = change else {
                return None;
            };
            Some(*appointment)
        });
        last.flatten()
    }

    /// The first one is done, and this one is upgraded.
    fn device_ends(&mut self) {
        let failed = DeviceMessage::DownloadReport {
            status: ResultCode::CHECK_FAILED,
        };
        self.first.say(&mut self.world, &failed);
        self.device.update(&mut self.world);
        written(&mut self.device, &mut self.world);
        self.device.say(&mut self.world, &failed);
        assert!(self.world.outcome(2).is_some());
    }
}

#[test]
fn its_lifetime_is_written_so_that_it_comes_and_written_back_when_the_upgrade_is_over() {
    let mut it = Waiting::new();
    let at = it.told(3_600);
    let writes = written(&mut it.device, &mut it.world);
    let [(3_693, write)] = &writes[..] else {
        panic!("{writes:?}");
    };
    let stored = Appointment {
        usual_s: 86_400,
        written_s: 3_693,
        at: Some(it.world.now.utc_at(at)),
        timer: UpdateTimer::Unknown,
    };
    assert_eq!(it.stored(), Some(stored));
    it.answers(write, Code::CHANGED);
    let line = format!("expected at {} by appointment", stored.at.unwrap());
    let notes = notes(&it.world);
    assert!(
        notes.iter().any(|note| note.starts_with(&line)),
        "{notes:?}"
    );
    // it has said so, and is not written to again when the gate has the same in mind
    it.told(3_500);
    assert_eq!(written(&mut it.device, &mut it.world).len(), 0);
    it.world.pass_s(3_600);
    it.device.update(&mut it.world);
    it.device_ends();
    let writes = written(&mut it.device, &mut it.world);
    let [(86_400, write)] = &writes[..] else {
        panic!("{writes:?}");
    };
    let owed = it.stored().unwrap();
    assert_eq!((owed.usual_s, owed.at), (86_400, None));
    it.answers(write, Code::CHANGED);
    assert_eq!(it.stored(), None);
    let lifetime_s = it
        .world
        .changes
        .iter()
        .rev()
        .find_map(|change| match change {
            Change::Registered { registration, .. } => Some(registration.lifetime_s),
            _ => None,
        });
    assert_eq!(lifetime_s, Some(86_400));
    it.world.pass_s(600);
    it.device.update(&mut it.world);
    assert_eq!(written(&mut it.device, &mut it.world).len(), 0);
}

#[test]
fn nothing_leaves_before_the_usual_lifetime_is_committed() {
    let mut it = Waiting::new();
    it.world.stalled = true;
    it.world.held_back.clear();
    it.told(3_600);
    let appointed = it.world.newest;
    assert!(matches!(
        it.world.changes.last(),
        Some(Change::Appointed { .. })
    ));
    let after = it.world.held_back.last().map(|(_, after)| *after);
    assert_eq!(after, Some(appointed));
}

#[test]
fn a_stop_or_a_restart_does_not_leave_it_with_a_strange_lifetime() {
    let mut it = Waiting::new();
    it.told(3_600);
    let (_, write) = written(&mut it.device, &mut it.world)[0];
    it.answers(&write, Code::CHANGED);
    it.world.pass_s(120);
    it.world.command(Command::Stop {
        endpoint: "meter-2".into(),
        upgrade: UpgradeId(2),
        reason: crate::ledger::StopReason::TaskStopped,
    });
    assert_eq!(written(&mut it.device, &mut it.world).len(), 0, "it sleeps");
    // the server is started anew
    let registration = it
        .world
        .changes
        .iter()
        .rev()
        .find_map(|change| match change {
            Change::Registered {
                endpoint,
                registration,
                ..
            } if endpoint == "meter-2" => Some(registration.clone()),
            _ => None,
        });
    let record = DeviceRecord {
        endpoint: "meter-2".into(),
        product: "meter".into(),
        protocol: crate::ledger::Protocol::Lwm2m,
        secure: false,
        registration,
        last_heard_at: Some(it.world.now.utc),
        coverage: None,
        version: None,
        evidence: Vec::new(),
        wake_ups: None,
        appointment: it.stored(),
        via: crate::ledger::Via::Itself,
    };
    // also where appointments are not made any more
    let mut after = World::begun(Config::default(), it.world.now + Duration::from_secs(30));
    after.engine.restore_device(after.now, &record);
    after.pass_s(3_480);
    it.device.update(&mut after);
    let writes = written(&mut it.device, &mut after);
    assert!(matches!(writes[..], [(86_400, _)]), "{writes:?}");
    // the answer is lost, and it is written again at another contact
    after.pass_s(600);
    after.sent.clear();
    it.device.update(&mut after);
    let writes = written(&mut it.device, &mut after);
    let [(86_400, write)] = &writes[..] else {
        panic!("{writes:?}");
    };
    let answer = response(write, Code::CHANGED).build();
    after.datagram(it.device.at, &answer);
    let last = after.changes.last();
    assert!(
        matches!(
            last,
            Some(Change::Appointed {
                appointment: None,
                ..
            })
        ),
        "{last:?}"
    );
}

#[test]
fn who_refuses_is_left_alone() {
    for answer in [Code::METHOD_NOT_ALLOWED, Code::NOT_FOUND, Code::FORBIDDEN] {
        let mut it = Waiting::new();
        it.told(3_600);
        let (_, write) = written(&mut it.device, &mut it.world)[0];
        it.answers(&write, answer);
        assert_eq!(it.stored(), None, "it has what it had");
        let said = format!("answered the write of its lifetime (/1/0/1) with {answer}");
        let notes = notes(&it.world);
        assert!(
            notes.iter().any(|note| note.starts_with(&said)),
            "{notes:?}"
        );
        it.world.pass_s(600);
        it.device.update(&mut it.world);
        it.told(3_600);
        assert_eq!(written(&mut it.device, &mut it.world).len(), 0);
    }
}

#[test]
fn who_reads_no_text_is_written_tlv() {
    let mut it = Waiting::new();
    it.told(3_600);
    let (_, write) = written(&mut it.device, &mut it.world)[0];
    it.answers(&write, Code::UNSUPPORTED_CONTENT_FORMAT);
    let writes = written(&mut it.device, &mut it.world);
    let [(3_693, write)] = &writes[..] else {
        panic!("{writes:?}");
    };
    assert_eq!(write.content_format(), Some(ContentFormat(11542)));
    it.answers(write, Code::CHANGED);
    it.device_ends();
    let (usual, write) = written(&mut it.device, &mut it.world)[0];
    assert_eq!(
        (usual, write.content_format()),
        (86_400, Some(ContentFormat(11542)))
    );
}

#[test]
fn a_client_that_updates_at_half_of_its_lifetime_is_written_twice_the_time() {
    let mut it = Waiting::new();
    it.told(400);
    let (_, write) = written(&mut it.device, &mut it.world)[0];
    it.answers(&write, Code::CHANGED);
    it.world.pass_s(493 / 2);
    it.device.update(&mut it.world);
    written(&mut it.device, &mut it.world);
    it.told(3_600);
    let (lifetime_s, write) = written(&mut it.device, &mut it.world)[0];
    assert_eq!(lifetime_s, 7_200);
    it.answers(&write, Code::CHANGED);
    assert_eq!(it.stored().map(|it| it.timer), Some(UpdateTimer::Half));
}

#[test]
fn who_has_begun_anew_with_its_own_lifetime_owes_nothing() {
    let mut it = Waiting::new();
    it.told(3_600);
    let (_, write) = written(&mut it.device, &mut it.world)[0];
    it.answers(&write, Code::CHANGED);
    it.world.pass_s(300);
    it.device.register(&mut it.world);
    assert_eq!(it.stored(), None);
    // one that tells none may have either
    it.device.receive(&mut it.world);
    it.told(3_600);
    let (_, write) = written(&mut it.device, &mut it.world)[0];
    it.answers(&write, Code::CHANGED);
    it.world.pass_s(300);
    it.device.queries.retain(|query| !query.starts_with("lt"));
    it.device.register(&mut it.world);
    assert!(it.stored().is_some());
}

#[test]
fn nobody_is_written_to_where_the_product_has_no_appointments() {
    let mut it = Waiting::with(Appointments::Never);
    it.told(3_600);
    assert_eq!(written(&mut it.device, &mut it.world).len(), 0);
    assert_eq!(it.stored(), None);
}

#[test]
fn a_write_that_is_not_answered_may_have_arrived() {
    let mut it = Waiting::new();
    it.told(3_600);
    it.world.sent.clear();
    it.world.pass_s(300); // it sleeps, and the request is given up
    it.world.sent.clear();
    it.device.update(&mut it.world);
    assert!(it.stored().is_some());
    it.device_ends();
    let writes = written(&mut it.device, &mut it.world);
    assert!(matches!(writes[..], [(86_400, _)]), "{writes:?}");
}

#[test]
fn what_a_device_is_used_to_is_learnt_and_stored() {
    let mut world = World::new();
    let mut device = Script::new("meter-1", 1).asleep_between();
    world.add("meter-1");
    device.register(&mut world);
    for _ in 0..4 {
        device.receive(&mut world);
        world.pass_s(21_600);
        device.update(&mut world);
    }
    let wake_ups = world.changes.iter().rev().find_map(|change| match change {
        Change::Registered { wake_ups, .. } => Some(*wake_ups),
        _ => None,
    });
    let wake_ups = wake_ups.flatten().unwrap();
    assert_eq!((wake_ups.period_s, wake_ups.seen), (21_600, 3));
    assert_eq!(wake_ups.last_at, world.now.utc);
}
