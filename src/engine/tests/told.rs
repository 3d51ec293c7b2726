//! What a registration tells, and what it is good for.

use super::*;
use crate::ledger::Failure;

const LINKS: &str =
    "</>;rt=\"oma.lwm2m\";ct=110,</1/0>,</3/0>,</4>;ver=\"1.3\",</4/0>,</19/0>,</19/1>";

fn register(world: &mut World, id: u16, queries: &[&str], links: &str) -> Vec<u8> {
    let request = MessageBuilder::new(
        Kind::Confirmable,
        Code::POST,
        id,
        crate::coap::Token::new(b"r"),
    )
    .path("rd")
    .query("ep=meter-1");
    let request = queries
        .iter()
        .fold(request, |request, query| request.query(query));
    let request = request
        .content_format(ContentFormat::LINK_FORMAT)
        .payload(links.into());
    world.datagram(peer(1), &request.build());
    let at = world
        .sent
        .iter()
        .position(|(_, m)| m.code() == Code::CREATED);
    let (_, created) = world.sent.remove(at.expect("is registered")).unwrap();
    created.location().last().unwrap().to_vec()
}

fn update(world: &mut World, id: u16, location: &[u8], queries: &[&str], links: &str) {
    let request = MessageBuilder::new(
        Kind::Confirmable,
        Code::POST,
        id,
        crate::coap::Token::new(b"u"),
    )
    .path("rd")
    .path(std::str::from_utf8(location).unwrap());
    let request = queries
        .iter()
        .fold(request, |request, query| request.query(query));
    world.datagram(peer(1), &request.payload(links.into()).build());
    assert_eq!(
        world.sent.pop_back().expect("an answer").1.code(),
        Code::CHANGED
    );
}

fn stored(world: &mut World) -> Option<Registration> {
    let mut known: Option<Registration> = None;
    for change in world.take_changes() {
        if let Change::Registered { registration, .. } = change {
            known = Some(registration.after(known.as_ref()));
        }
    }
    known
}

fn announced(objects: &str, root_path: Option<&str>) -> Announced {
    Announced {
        objects: objects.into(),
        root_path: root_path.map(Into::into),
    }
}

#[test]
fn what_a_registration_tells_is_kept_and_what_an_update_tells_replaces_it() {
    let mut world = World::new();
    world.add("meter-1");
    let location = register(&mut world, 1, &["lwm2m=1.1", "b=U", "Q"], LINKS);
    let first = stored(&mut world).unwrap();
    assert_eq!(first.lwm2m_version, Some(Lwm2mVersion::V1_1));
    assert_eq!(
        (first.binding.to_string().as_str(), first.queue_mode),
        ("U", QueueMode::On)
    );
    let links = "</1/0>,</3/0>,</4>;ver=1.3,</4/0>,</19/0>,</19/1>";
    assert_eq!(first.announced, Some(announced(links, None).into()));
    let key = world.engine.find("meter-1").unwrap();
    assert_eq!(world.engine.device(key).announces(19), Some(true));
    assert_eq!(world.engine.device(key).announces(5), Some(false));
    assert_eq!(world.engine.device(key).announced_objects(), [1, 3, 4, 19]);

    // nothing is news
    update(&mut world, 2, &location, &["b=UQ"], "");
    assert_eq!(stored(&mut world), None);
    update(&mut world, 3, &location, &["b=SQ"], "");
    let second = stored(&mut world).unwrap();
    assert_eq!(
        (second.binding.to_string().as_str(), second.queue_mode),
        ("S", QueueMode::On)
    );
    assert_eq!(
        (second.lwm2m_version, second.announced),
        (first.lwm2m_version, None)
    );
    assert_eq!(world.engine.device(key).announces(19), Some(true));

    update(&mut world, 4, &location, &[], "</3/0>,</5/0>");
    let third = stored(&mut world).unwrap();
    assert_eq!(
        third.announced,
        Some(announced("</3/0>,</5/0>", None).into())
    );
    assert_eq!(world.engine.device(key).announces(19), Some(false));

    // another registration begins with nothing
    register(&mut world, 5, &[], "");
    let fourth = stored(&mut world).unwrap();
    assert_eq!((fourth.lwm2m_version, fourth.announced), (None, None));
    assert_eq!(
        (fourth.binding, fourth.queue_mode),
        (Binding::default(), QueueMode::Off)
    );
    assert_eq!(world.engine.device(key).announces(19), None);
}

#[test]
fn what_a_registration_told_comes_back_after_a_restart() {
    let mut world = World::new();
    world.add("meter-1");
    let links = "</lwm2m>;rt=\"oma.lwm2m\",</lwm2m/3/0>,</lwm2m/4/0>";
    register(&mut world, 1, &["lwm2m=1.2", "b=US"], links);
    let registration = stored(&mut world).unwrap();
    let record = DeviceRecord {
        endpoint: "meter-1".into(),
        product: "meter".into(),
        protocol: crate::ledger::Protocol::Lwm2m,
        secure: false,
        registration: Some(registration.clone()),
        last_heard_at: None,
        coverage: None,
        version: None,
        evidence: Vec::new(),
        wake_ups: None,
        appointment: None,
        via: crate::ledger::Via::Itself,
    };
    let mut world = World::new();
    world.command(Command::Restore(vec![record]));
    let key = world.engine.find("meter-1").unwrap();
    let device = world.engine.device(key);
    assert_eq!(device.announces(4), Some(true));
    assert_eq!(device.announces(19), Some(false));
    assert!(device.root().eq(["lwm2m"]));
    let known = device.registration.as_ref().unwrap();
    assert_eq!(known.lwm2m_version, Some(Lwm2mVersion::V1_2));
    assert_eq!(known.binding, registration.binding);
    // and an update keeps it
    let location = registration.location.into_bytes();
    update(&mut world, 2, &location, &["lt=77"], "");
    let again = stored(&mut world).unwrap();
    assert_eq!(again.lwm2m_version, Some(Lwm2mVersion::V1_2));
    assert_eq!(
        (again.binding, again.announced),
        (registration.binding, None)
    );
}

/// The next request to the device, with its path, which is acknowledged.
fn asked(world: &mut World) -> (Code, String, Message<'static>) {
    let at = world
        .sent
        .iter()
        .position(|(_, m)| m.kind() == Kind::Confirmable);
    let (_, message) = world.sent.remove(at.expect("a request")).unwrap();
    let path: Vec<_> = message
        .path()
        .into_iter()
        .map(String::from_utf8_lossy)
        .collect();
    (message.code(), path.join("/"), message)
}

#[test]
fn everything_on_a_device_is_below_the_root_that_it_tells() {
    let mut config = Config::default();
    let product = crate::config::ProductConfig {
        pmin_zero: true,
        ..Default::default()
    };
    config.products.insert("meter".into(), product);
    let mut world = World::with(config);
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    let links = "</a/b>;rt=\"oma.lwm2m\",</a/b/3/0>,</a/b/19/0>";
    register(&mut world, 1, &[], links);

    let (code, path, write) = asked(&mut world);
    assert_eq!((code, path.as_str()), (Code::PUT, "a/b/19/0/0"));
    world.datagram(peer(1), &response(&write, Code::CHANGED).build());
    let (code, path, observe) = asked(&mut world);
    assert_eq!((code, path.as_str()), (Code::GET, "a/b/19/0/0"));
    assert_eq!(observe.observe(), Some(0));
    world.datagram(peer(1), &response(&observe, Code::CONTENT).build());
    let (code, path, query) = asked(&mut world);
    assert_eq!((code, path.as_str()), (Code::PUT, "a/b/19/1/0"));
    assert_eq!(query.content_format(), Some(ContentFormat::OCTET_STREAM));
    assert_eq!(
        PlatformMessage::decode(query.payload()),
        Ok(PlatformMessage::VersionQuery)
    );
    world.datagram(peer(1), &response(&query, Code::CHANGED).build());
    let mut device = Script::new("meter-1", 1);
    device.observe = Some(observe.token());
    device.says_version(&mut world, "V1");
    let (code, path, _) = asked(&mut world);
    assert_eq!((code, path.as_str()), (Code::GET, "a/b/4/0"));
}

#[test]
fn a_device_without_object_19_is_not_supported_and_its_outcome_tells_what_it_announces() {
    for (links, code, fails) in [
        ("</3/0>,</4/0>", Code::NOT_FOUND, true),
        // another refusal, a device that announces it, and one that announces nothing
        ("</3/0>,</4/0>", Code::METHOD_NOT_ALLOWED, false),
        ("</3/0>,</19/0>", Code::NOT_FOUND, false),
        ("", Code::NOT_FOUND, false),
    ] {
        let mut world = World::new();
        world.add("meter-1");
        world.start("meter-1", 1, &package("V2", &content()));
        register(&mut world, 1, &[], links);
        let (_, _, observe) = asked(&mut world);
        world.take_changes();
        world.datagram(peer(1), &response(&observe, code).build());
        let told = format!("refused the observation of /19/0/0 with {code}");
        assert!(notes(&world).contains(&told));
        let detail = told_at_the_end(&world);
        assert_eq!(detail.is_some(), fails, "{links} {code}");
        if let Some(detail) = detail {
            let outcome = Outcome::Failed(Failure::NotSupported);
            assert_eq!(world.outcome(1), Some(outcome));
            let words = "the device has no object for the upgrade: 19 (PCP), 5, 9 or 33629, as its product and the package want it. \
                         It announces objects 3, 4.";
            assert!(detail.starts_with(words), "{detail}");
        }
    }
}

#[test]
fn a_version_that_is_not_spoken_is_answered_so() {
    let mut world = World::new();
    world.add("meter-1");
    for (version, expected) in [("2.0", Code::PRECONDITION_FAILED), ("1.2", Code::CREATED)] {
        let queries = ["ep=meter-1".to_owned(), format!("lwm2m={version}")];
        world.datagram(peer(1), &request(Code::POST, 1, &["rd"], &queries));
        assert_eq!(world.take_sent()[0].1.code(), expected);
    }
}
