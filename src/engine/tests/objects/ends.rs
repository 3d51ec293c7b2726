//! What is left when an upgrade by one of the standard's objects has ended, or loses its slot.

use super::*;
use crate::{
    config::UriScheme,
    engine::objects::UpdateInstance,
    engine::observation::{Observation, Purpose},
    grants::Links,
    ledger::StopReason,
    package::Fits,
    session::Offer,
};

use super::super::{packages::begin, restart::restarted_with};

const COMPONENTS: &str = "</3/0>,</4/0>,</33629/0>,</33629/3>";

/// A device that downloads, and what it is to fetch.
fn downloading() -> (World, Client, String) {
    downloading_in(world_with(ProductConfig::default()))
}

fn downloading_in(mut world: World) -> (World, Client, String) {
    let mut client = Client::new(LINKS);
    offered(&mut world, &mut client, &in_blocks(None));
    client.tells(&mut world, "5/0/3", "1");
    client.answer(&mut world);
    let uri = client.uri.clone().unwrap();
    let path = uri.strip_prefix("coap://192.0.2.1:5683/").unwrap();
    (world, client, path.to_owned())
}

fn block(world: &mut World, path: &str, number: u32) -> bool {
    let served = Client::fetches_block(world, (7_001, path), number, 4);
    served.is_some()
}

fn stop(world: &mut World) {
    world.command(Command::Stop {
        endpoint: "meter-1".into(),
        upgrade: UpgradeId(1),
        reason: StopReason::Cancelled,
    });
}

fn bytes_down(world: &World) -> u64 {
    let traffic = world.changes.iter().filter_map(|change| match change {
        Change::Traffic { traffic, .. } => Some(traffic.bytes_down),
        _ => None,
    });
    traffic.sum()
}

/// A notification that was not asked for by anything that is under way, and what is answered.
fn notifies(
    world: &mut World,
    client: &Client,
    (kind, token): (Kind, crate::coap::Token),
    (number, value): (u32, &str),
) -> Option<Message<'static>> {
    let id = world.next_id;
    world.next_id += 1;
    let datagram = MessageBuilder::new(kind, Code::CONTENT, id, token)
        .observe(number)
        .content_format(ContentFormat::TEXT)
        .payload(value.as_bytes().to_vec())
        .build();
    world.datagram(client.script.at, &datagram);
    let answers = |(to, it): &(Peer, Message<'static>)| {
        *to == client.script.at && it.message_id() == id && it.code() == Code::EMPTY
    };
    let at = world.sent.iter().position(answers)?;
    world.sent.remove(at).map(|(_, message)| message)
}

#[test]
fn an_upgrade_that_is_let_go_serves_nothing_more_and_is_forgotten_by_its_device() {
    let (mut world, mut client, path) = downloading();
    assert!(block(&mut world, &path, 0));
    client.written.clear();
    world.command(Command::Abandon {
        upgrade: UpgradeId(1),
    });
    assert_eq!(world.recalled.len(), 1);
    assert!(!block(&mut world, &path, 1));
    client.answer(&mut world);
    assert_eq!(client.written, [("5/0/1".to_owned(), Vec::new())]);
}

#[test]
fn what_was_fetched_last_counts_for_an_upgrade_that_ends_in_the_middle() {
    let (mut world, _, path) = downloading();
    world.sizes.clear();
    for number in 0..5 {
        assert!(block(&mut world, &path, number));
    }
    let sent: usize = (world.sizes.iter())
        .filter(|(to, _)| *to == peer(7_001))
        .map(|(_, len)| *len)
        .sum();
    let before = bytes_down(&world);
    stop(&mut world);
    assert!(
        bytes_down(&world) >= before + sent as u64 - 300,
        "of the first block it was told"
    );
    let done = (world.changes.iter())
        .rev()
        .find_map(|change| match change {
            Change::Progress { progress, .. } => Some(progress.done_bytes),
            _ => None,
        });
    assert_eq!(done, Some(5 * 256));
}

#[test]
fn a_slot_that_is_given_back_ends_what_is_served() {
    let mut world = world_with(ProductConfig::default());
    let mut client = Client::new(LINKS);
    client.deaf_to = Some("5/0");
    offered(&mut world, &mut client, &in_blocks(None));
    assert_eq!(world.stages().last(), Some(&Stage::Downloading));
    // as after a restart of the server, when the answer to the URI was not stored
    let terms = crate::engine::PullTerms {
        content: in_blocks(None).content.clone().unwrap(),
        upgrade: UpgradeId(1),
        task: TaskId(1),
        attempt: 1,
        package: PackageId(1),
        block_bytes: 256,
        secured: false,
        bytes_per_second: 0,
        done_bytes: 0,
    };
    let token = world.engine.open_pull_of("meter-1", &terms).unwrap();
    let path = format!("p/{}", token.text());
    assert!(block(&mut world, &path, 0));
    for _ in 0..600 {
        world.pass_s(1);
        client.answer(&mut world);
        if world.stages().last() == Some(&Stage::WaitingForSlot) {
            break;
        }
    }
    assert_eq!(world.stages().last(), Some(&Stage::WaitingForSlot));
    assert_eq!(world.recalled, [token]);
    assert!(!block(&mut world, &path, 1));
}

#[test]
fn a_notification_that_nobody_wants_any_more_ends_its_observation() {
    let (mut world, mut client, _) = downloading();
    let state = client.observed["5/0/3"];
    let wanted = notifies(&mut world, &client, (Kind::Confirmable, state), (50, "1"));
    assert_eq!(wanted.unwrap().kind(), Kind::Acknowledgement);
    stop(&mut world);
    client.answer(&mut world);
    for (kind, number) in [(Kind::Confirmable, 51), (Kind::NonConfirmable, 52)] {
        for token in [state, client.observed["5/0/5"]] {
            let answer = notifies(&mut world, &client, (kind, token), (number, "0"));
            assert_eq!(answer.unwrap().kind(), Kind::Reset, "{kind:?}");
        }
    }
    assert!(world.take_sent().is_empty(), "it is not observed anew");
}

#[test]
fn what_another_instance_tells_is_not_taken_for_this_one_s() {
    let mut world = world_with(ProductConfig::default());
    let mut client = Client::new(COMPONENTS);
    for (path, value) in [
        ("33629/0/14", "application"),
        ("33629/3/14", "modem"),
        ("33629/3/15", OLD),
        ("33629/3/3", "0"),
        ("33629/3/5", "0"),
        ("33629/3/9", "1"),
    ] {
        client.set(path, value);
    }
    client.szx = 2;
    offered(&mut world, &mut client, &in_blocks(Some("modem")));
    let device = ids().of("meter-1");
    let other = UpdateInstance::new(UpdateObject::Components, 0);
    let token = Observation::of_update(device, Purpose::Result, other).token();
    assert_ne!(token, client.observed["33629/3/5"]);
    let answer = notifies(&mut world, &client, (Kind::Confirmable, token), (9, "8"));
    assert_eq!(answer.unwrap().kind(), Kind::Reset);
    assert_eq!(world.outcome(1), None);
    client.tells(&mut world, "33629/3/3", "2");
    client.answer(&mut world);
    let own = client.observed["33629/3/5"];
    notifies(&mut world, &client, (Kind::Confirmable, own), (9, "8"));
    let failed = Failure::UpdateResult(UpdateObject::Components, 8);
    assert_eq!(world.outcome(1), Some(Outcome::Failed(failed)));
}

#[test]
fn a_notification_that_comes_late_does_not_answer_a_question() {
    let mut config = Config::default();
    config.upgrade.nudge_after_s = 60;
    let (mut world, mut client, _) = downloading_in(world_of(config));
    let token = client.observed["5/0/3"];
    assert_eq!(client.fetches(&mut world, 7_001, 6), image());
    let asks = |(_, it): &(Peer, Message<'static>)| it.code() == Code::GET && it.token() == token;
    for _ in 0..100 {
        world.pass_s(1);
        if world.sent.iter().any(asks) {
            break;
        }
    }
    assert!(world.sent.iter().any(asks), "it is asked how it stands");
    let late = notifies(&mut world, &client, (Kind::Confirmable, token), (1, "0"));
    assert_eq!(late.unwrap().kind(), Kind::Acknowledgement);
    client.set("5/0/3", "2");
    client.number += 1;
    client.answer(&mut world);
    assert_eq!(client.executed.len(), 1, "{:#?}", notes(&world));
}

#[test]
fn what_is_to_be_forgotten_is_told_whatever_comes_between() {
    let (mut world, mut client, _) = downloading();
    client.written.clear();
    stop(&mut world);
    // it restarts before that reaches it, and is gone again
    world.take_sent();
    client.script.register(&mut world);
    world.take_sent();
    world.pass_s(400);
    world.take_sent();
    client.script.update(&mut world);
    client.answer(&mut world);
    assert_eq!(client.written, [("5/0/1".to_owned(), Vec::new())]);
    // once
    client.script.update(&mut world);
    client.answer(&mut world);
    assert_eq!(client.written.len(), 1);
}

#[test]
fn each_step_of_several_is_served_from_its_own_beginning() {
    let step = |id, from: &str, target: &str| Offer {
        id: PackageId(id),
        version: version(target).into(),
        from: Fits {
            versions: vec![from.parse().unwrap()],
            ..Fits::default()
        },
        package: Some(in_blocks_to(target, None)),
    };
    let steps = vec![step(1, OLD, NEW), step(2, NEW, "V3")];
    let mut world = world_with(ProductConfig::default());
    let mut client = Client::new(LINKS);
    client.script.register(&mut world);
    client.answer(&mut world);
    begin(
        &mut world,
        Arc::new(Offers::new(steps, true, false).unwrap()),
        None,
    );
    let answers = |world: &mut World, client: &mut Client, seconds| {
        for _ in 0..seconds {
            world.pass_s(1);
            client.answer(world);
        }
    };
    answers(&mut world, &mut client, 20);
    client.tells(&mut world, "5/0/3", "1");
    let first = client.uri.clone().unwrap();
    assert_eq!(client.fetches(&mut world, 7_001, 4), image());
    client.tells(&mut world, "5/0/3", "2");
    client.answer(&mut world);
    client.set("3/0/3", NEW);
    client.set("5/0/3", "0");
    client.set("5/0/5", "1");
    client.observed.clear();
    world.pass_s(30);
    world.recalled.clear();
    world.changes.clear();
    client.script.register(&mut world);
    client.answer(&mut world);
    assert_eq!(world.recalled.len(), 1, "{:#?}", notes(&world));
    let path = first.strip_prefix("coap://192.0.2.1:5683/").unwrap();
    assert!(!block(&mut world, path, 0));
    answers(&mut world, &mut client, 20);
    let second = client.uri.clone();
    assert!(second.is_some_and(|it| it != first), "{:#?}", notes(&world));
    // it fetches nothing
    client.tells(&mut world, "5/0/3", "1");
    answers(&mut world, &mut client, 400);
    let mut far = world.changes.iter().filter_map(|change| match change {
        Change::Progress { progress, .. } => Some(progress.done_bytes),
        _ => None,
    });
    assert!(far.all(|done| done == 0), "{:#?}", world.changes);
}

/// The versions of the device that were written down.
fn versions(world: &World) -> Vec<&str> {
    let versions = world.changes.iter().filter_map(|change| match change {
        Change::VersionReported { version, .. } => Some(version.as_str()),
        _ => None,
    });
    versions.collect()
}

#[test]
fn the_version_of_a_component_is_not_that_of_its_device() {
    for (component, expected) in [(Some("modem"), &[][..]), (None, &[OLD, NEW][..])] {
        let mut world = world_with(ProductConfig::default());
        let mut client = Client::new("</3/0>,</4/0>,</33629/0>");
        for (path, value) in [
            ("33629/0/14", "modem"),
            ("33629/0/15", OLD),
            ("33629/0/3", "0"),
            ("33629/0/5", "0"),
            ("33629/0/9", "1"),
        ] {
            client.set(path, value);
        }
        offered(&mut world, &mut client, &in_blocks(component));
        client.tells(&mut world, "33629/0/3", "2");
        client.answer(&mut world);
        client.set("33629/0/15", NEW);
        client.tells(&mut world, "33629/0/3", "0");
        client.tells(&mut world, "33629/0/5", "1");
        client.answer(&mut world);
        assert!(succeeded(&world), "{:#?}", notes(&world));
        assert_eq!(versions(&world), expected, "{component:?}");
        // without an upgrade it is asked where one would ask it
        world.command(Command::AskVersion {
            endpoint: "meter-1".into(),
        });
        let paths: Vec<Vec<u8>> = (world.sent.iter())
            .filter(|(_, it)| it.code() == Code::GET)
            .map(|(_, it)| it.path().join(&b'/'))
            .collect();
        assert_eq!(paths, [b"33629/0/15".to_vec()]);
    }
}

#[test]
fn each_device_is_told_the_scheme_that_it_has() {
    let links = |base: &str| Links::new(base, true).unwrap();
    for (protocol, begins) in [
        ("2", "http://192.0.2.1:80/t/"),
        ("3", "https://192.0.2.1:443/t/"),
    ] {
        let mut world = world_with(ProductConfig::default());
        world.engine.reached_at(Reached {
            links: vec![links("https://192.0.2.1"), links("http://192.0.2.1")],
            ..Reached::default()
        });
        let mut client = Client::new(LINKS);
        client.set("5/0/8", protocol);
        client.set("5/0/9", "0");
        offered(&mut world, &mut client, &in_blocks(None));
        let uri = client.uri.unwrap_or_default();
        assert!(uri.starts_with(begins), "{uri}");
    }
    let alone = Reached {
        links: vec![links("https://updates.example.com/ota")],
        ..Reached::default()
    };
    assert!(alone.links_by(UriScheme::Https).is_some());
    assert!(alone.links_by(UriScheme::Http).is_none());
    assert!(alone.links_by(UriScheme::Coaps).is_none());
}

#[test]
fn who_encrypts_goes_on_encrypted_after_a_restart_of_the_server() {
    let mut world = world_with(ProductConfig::default());
    world.engine.reached_at(Reached {
        coaps: Some(Reached::authority("192.0.2.1", 5684)),
        ..Reached::default()
    });
    world.speaker = Some((vec!["meter-1".into()], None));
    let mut client = Client::new(LINKS);
    client.script.at = Peer::secured(peer(7_000).address);
    offered(&mut world, &mut client, &in_blocks(None));
    let uri = client.uri.clone().unwrap();
    let token = uri.strip_prefix("coaps://192.0.2.1:5684/p/").unwrap();
    client.tells(&mut world, "5/0/3", "1");

    let mut after = restarted_with(&world, &in_blocks(None));
    after.speaker = Some((vec!["meter-1".into()], None));
    let get = MessageBuilder::new(
        Kind::Confirmable,
        Code::GET,
        77,
        crate::coap::Token::new(b"1"),
    );
    let get = get.path("p").path(token).build();
    after.datagram(Peer::secured(peer(7_001).address), &get);
    let answer = after.sent.iter().find(|(_, it)| it.message_id() == 77);
    assert_eq!(answer.map(|(_, it)| it.code()), Some(Code::CONTENT));
}
