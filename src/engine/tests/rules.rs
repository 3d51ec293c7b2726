//! What the standards want of a server's answers, and observations that a Reset has ended.

use super::*;
use crate::coap::{Block, Token, reset};

/// Registered, with the observation made.
fn registered() -> (World, Script) {
    let mut world = World::new();
    world.add("meter-1");
    let mut device = Script::new("meter-1", 1);
    device.register(&mut world);
    device.receive(&mut world);
    (world, device)
}

fn answer(world: &mut World, from: Peer, datagram: &[u8]) -> Option<Message<'static>> {
    world.datagram(from, datagram);
    let mut sent = world.take_sent();
    sent.retain(|(_, message)| message.code().is_response());
    sent.pop().map(|(_, message)| message)
}

#[test]
fn a_request_for_a_proxy_is_told_that_there_is_none() {
    for option in [35, 39] {
        for (kind, first) in [("Confirmable", 0x40), ("Non-confirmable", 0x50)] {
            let mut world = World::new();
            let datagram = [first, 1, 0, 7, 0xD1, option - 13, b'x'];
            let answer = answer(&mut world, peer(1), &datagram).expect("is answered");
            assert_eq!(
                answer.code(),
                Code::PROXYING_NOT_SUPPORTED,
                "{option} {kind}"
            );
        }
    }
}

#[test]
fn a_critical_option_that_may_not_be_repeated_is_unknown_the_second_time() {
    let mut world = World::new();
    // Accept: 40, once and twice; Uri-Path twice
    for (options, expected) in [
        (&[0xD1, 4, 40][..], Code::NOT_FOUND),
        (&[0xD1, 4, 40, 0x01, 40], Code::BAD_OPTION),
        (&[0xD1, 4, 40, 0x01, 50], Code::BAD_OPTION),
        (&[0xB1, b'x', 0x01, b'y'], Code::NOT_FOUND),
    ] {
        let datagram = [&[0x40, 1, 0, 7][..], options].concat();
        let answer = answer(&mut world, peer(1), &datagram).expect("is answered");
        assert_eq!(answer.code(), expected, "{options:02x?}");
    }
    let not_confirmable = [0x50, 1, 0, 7, 0xD1, 4, 40, 0x01, 40];
    assert!(answer(&mut world, peer(1), &not_confirmable).is_none());
}

#[test]
fn a_list_of_links_in_another_content_format_is_refused() {
    let (mut world, device) = registered();
    let location = device.location.clone();
    for (format, payload, expected) in [
        (Some(40), "</3/0>", true),
        (None, "</3/0>", true),
        // nothing in whatever format is nothing
        (Some(0), "", true),
        (Some(0), "</3/0>", false),
        (Some(110), "[]", false),
    ] {
        for update in [true, false] {
            let id = world.next_id;
            world.next_id += 1;
            let request = MessageBuilder::new(Kind::Confirmable, Code::POST, id, Token::new(b"r"));
            let request = request.path("rd");
            let request = if update {
                request.path(&location)
            } else {
                request.query("ep=meter-2")
            };
            let request = match format {
                Some(format) => request.content_format(ContentFormat(format)),
                None => request,
            };
            world.add("meter-2");
            let from = if update { device.at } else { peer(2) };
            let datagram = request.payload(payload.into()).build();
            let answer = answer(&mut world, from, &datagram).expect("is answered");
            let expected = match (expected, update) {
                (true, true) => Code::CHANGED,
                (true, false) => Code::CREATED,
                (false, _) => Code::UNSUPPORTED_CONTENT_FORMAT,
            };
            assert_eq!(answer.code(), expected, "{format:?} {payload:?}");
        }
    }
}

#[test]
fn a_body_that_is_too_long_is_told_how_long_one_may_be() {
    let mut world = World::new();
    world.add("meter-1");
    let block = Block {
        number: 8,
        more: true,
        szx: 6,
    };
    let datagram = MessageBuilder::new(Kind::Confirmable, Code::POST, 7, Token::new(b"r"))
        .path("rd")
        .query("ep=meter-1")
        .block1(block.encode())
        .payload(vec![b'x'; 1_024])
        .build();
    let answer = answer(&mut world, peer(1), &datagram).expect("is answered");
    assert_eq!(answer.code(), Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(answer.block1(), Some(block.encode()));
    assert_eq!(answer.size1(), Some(8_192));
}

#[test]
fn a_registration_is_updated_with_put_as_well() {
    let (mut world, device) = registered();
    let put = request(Code::PUT, 900, &["rd", &device.location], &["lt=77".into()]);
    let changed = answer(&mut world, device.at, &put).expect("is answered");
    assert_eq!(changed.code(), Code::CHANGED);
    let key = world.engine.find("meter-1").unwrap();
    let registration = world.engine.device(key).registration.as_ref().unwrap();
    assert_eq!(registration.lifetime_s, 77);
    let elsewhere = request(Code::PUT, 901, &["rd", "x"], &[]);
    let refused = answer(&mut world, device.at, &elsewhere).expect("is answered");
    assert_eq!(refused.code(), Code::NOT_FOUND);
}

#[test]
fn an_empty_acknowledgement_with_a_token_is_one() {
    let mut world = World::new();
    world.add("meter-1");
    world.start("meter-1", 1, &package("V2", &content()));
    let mut device = Script::new("meter-1", 1);
    device.register(&mut world);
    world.take_sent();
    let key = world.engine.find("meter-1").unwrap();
    world.engine.device_mut(key).link.cancel(|_| true);
    world
        .engine
        .send_message(key, asked::Tag::Version, &PlatformMessage::VersionQuery);
    world.engine.settle(key);
    world.collect();
    let (_, query) = world.sent.pop_front().expect("is asked");
    let token = query.token();
    let head = [0x60 | u8::try_from(token.as_bytes().len()).unwrap(), 0];
    let ack = [
        &head[..],
        &query.message_id().to_be_bytes(),
        token.as_bytes(),
    ]
    .concat();
    world.datagram(device.at, &ack);
    world.pass_s(50);
    assert!(world.sent.is_empty(), "it is repeated: {:?}", world.sent);
}

/// Requests for the observation that have left.
fn observations(world: &mut World) -> Vec<Message<'static>> {
    let mut sent = world.take_sent();
    sent.retain(|(_, message)| message.observe() == Some(0));
    sent.into_iter().map(|(_, message)| message).collect()
}

#[test]
fn an_observation_that_is_reset_is_made_anew_once() {
    let mut world = World::new();
    world.add("meter-1");
    let mut device = Script::new("meter-1", 1);
    device.register(&mut world);
    let first = observations(&mut world);
    assert_eq!(first.len(), 1);
    world.datagram(device.at, &reset(first[0].message_id()));
    let second = observations(&mut world);
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].token(), first[0].token());
    assert_ne!(second[0].message_id(), first[0].message_id());
    // two that reset each other come to rest, however slowly they do
    world.pass_s(10);
    world.datagram(device.at, &reset(second[0].message_id()));
    world.pass_s(30);
    assert!(observations(&mut world).is_empty());
    // the next registration begins anew
    device.register(&mut world);
    assert_eq!(observations(&mut world).len(), 1);
}

#[test]
fn a_notification_of_an_observation_that_nobody_made_has_it_made_anew() {
    let (mut world, device) = registered();
    let notify = |world: &mut World, id: u16, kind: Kind, observe: bool| {
        let notification = MessageBuilder::new(kind, Code::CONTENT, id, Token::new(b"old"));
        let notification = if observe {
            notification.observe(id.into())
        } else {
            notification
        };
        world.datagram(device.at, &notification.payload(b"data".to_vec()).build());
        let resets = world
            .sent
            .iter()
            .filter(|(_, m)| m.kind() == Kind::Reset)
            .count();
        let made = observations(world);
        for request in &made {
            world.datagram(device.at, &response(request, Code::CONTENT).build());
        }
        (resets, made.len())
    };
    assert_eq!(notify(&mut world, 1, Kind::Confirmable, true), (1, 1));
    // not for each of many
    for id in 2..50 {
        assert_eq!(notify(&mut world, id, Kind::Confirmable, true), (1, 0));
    }
    world.pass_s(5);
    assert_eq!(notify(&mut world, 50, Kind::Confirmable, true), (1, 1));
    world.pass_s(5);
    // an answer to what was never asked, and what is not reset
    assert_eq!(notify(&mut world, 51, Kind::Confirmable, false), (1, 0));
    assert_eq!(notify(&mut world, 52, Kind::NonConfirmable, true), (0, 0));
    // a stranger has no observation
    let stranger = MessageBuilder::new(Kind::Confirmable, Code::CONTENT, 1, Token::new(b"old"))
        .observe(1)
        .build();
    world.datagram(peer(9), &stranger);
    assert!(observations(&mut world).is_empty());
}
