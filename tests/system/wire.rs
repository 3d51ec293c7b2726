//! The server as a device sees it that is written byte by byte: what real clients send that libraries would not.

use std::{thread, time::Duration};

use serde_json::json;

use crate::support::{Received, Server, Wire, coap, noise, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

fn observes(message: &Received) -> bool {
    message.kind == 0 && !message.values(6).is_empty()
}

/// Answers what is asked until the observation was, and gives the targets of all of it.
fn asked_up_to_the_observation(wire: &Wire) -> Vec<String> {
    let mut targets = Vec::new();
    loop {
        let request = wire.receive_until(|message| message.kind == 0);
        targets.push(request.target());
        wire.answer(&request, if observes(&request) { 205 } else { 204 });
        if observes(&request) {
            return targets;
        }
    }
}

/// What devices announce. Of a registration without it so little comes that less may be sent than what is asked.
const LINKS: &[u8] = b"</1/0>,</3/0>,</4/0>,</5/0>,</19/0>,</19/1>";

#[test]
fn pmin_is_written_for_the_products_that_want_it_from_the_moment_that_a_device_is_one() {
    let server = Server::with(&[("CELLWISE_PRODUCTS__METER__PMIN_ZERO", "true")]);
    server.api.add_device("one", "valve");
    let wire = Wire::to(&server);
    wire.register(1, &["ep=one"], LINKS);
    assert_eq!(asked_up_to_the_observation(&wire), ["/19/0/0"]);
    let change = json!({"product": "meter"});
    assert_eq!(server.api.patch("/v1/devices/one", &change).0, 200);
    wire.register(2, &["ep=one"], LINKS);
    assert_eq!(
        asked_up_to_the_observation(&wire),
        ["/19/0/0?pmin=0", "/19/0/0"]
    );
}

#[test]
fn what_a_registration_tells_is_shown_and_outlives_a_restart() {
    let mut server = Server::start();
    server.api.add_device("one", "meter");
    let wire = Wire::to(&server);
    let links =
        b"</lwm2m>;rt=\"oma.lwm2m\",</lwm2m/3/0>,</lwm2m/4>;ver=\"1.3\",</lwm2m/4/0>,</lwm2m/19/0>";
    let queries = ["ep=one", "lwm2m=1.1", "b=UQ", "lt=600"];
    let location = wire.register(1, &queries, links);
    assert_eq!(asked_up_to_the_observation(&wire), ["/lwm2m/19/0/0"]);
    let shown = |server: &Server| {
        let known = wait_for(LIMIT, "the registration", || {
            let (_, device) = server.api.get("/v1/devices/one");
            (device["registered"] == true).then(|| device["registration"].clone())
        });
        let keys = ["lwm2m_version", "binding", "objects", "root_path"];
        keys.map(|key| known[key].clone())
    };
    let expected = ["1.1", "UQ", "</3/0>,</4>;ver=1.3,</4/0>,</19/0>", "/lwm2m"];
    assert_eq!(shown(&server), expected);
    server.kill_and_restart();
    assert_eq!(shown(&server), expected);
    // an update that tells other things changes these
    let update = |id, binding: &[u8], links: &[u8]| {
        let options: [(usize, &[u8]); 4] =
            [(11, b"rd"), (11, &location), (12, &[40]), (15, binding)];
        wire.ask(&coap(0, 2, id, &options, links)).code
    };
    assert_eq!(update(2, b"b=U", b""), 204);
    let expected = ["1.1", "U", "</3/0>,</4>;ver=1.3,</4/0>,</19/0>", "/lwm2m"];
    wait_for(LIMIT, "the binding", || {
        (shown(&server) == expected).then_some(())
    });
    assert_eq!(update(3, b"b=U", b"</3/0>"), 204);
    let expected = ["1.1", "U", "</3/0>", "/"];
    wait_for(LIMIT, "the links", || {
        (shown(&server) == expected).then_some(())
    });
}

#[test]
fn a_sleeping_device_that_sends_is_begun_with_and_what_it_sends_counts() {
    let server = Server::with(&[("CELLWISE_LWM2M__AWAKE_WINDOW_S", "1")]);
    server.api.add_device("one", "meter");
    let package = server.api.upload("meter", "V2.0", &noise(1, 1_000));
    let wire = Wire::to(&server);
    // Send from somebody who is not registered
    let payload = br#"[{"bn":"/4/0/","n":"2","v":-95},{"n":"8","v":77},{"n":"11","v":7}]"#;
    let send =
        |id, format: u8, payload: &[u8]| coap(0, 2, id, &[(11, b"dp"), (12, &[format])], payload);
    assert_eq!(wire.ask(&send(1, 110, payload)).code, 404);
    wire.register(2, &["ep=one", "b=UQ"], b"");
    asked_up_to_the_observation(&wire);
    assert_eq!(wire.ask(&send(3, 42, payload)).code, 415);
    assert_eq!(wire.ask(&send(4, 110, b"nothing")).code, 400);
    // it sleeps when its upgrade begins
    thread::sleep(Duration::from_secs(2));
    let task = server.api.create_task("t", &package, &["one"]);
    wait_for(LIMIT, "the upgrade", || {
        let (_, upgrades) = server.api.get(&format!("/v1/tasks/{task}/upgrades"));
        (upgrades["items"][0]["state"] == "waiting_for_device").then_some(())
    });
    assert_eq!(wire.ask(&send(5, 110, payload)).code, 204);
    let query = wire.receive_until(|message| message.kind == 0);
    assert_eq!((query.code, query.target().as_str()), (3, "/19/1/0"));
    assert_eq!(query.payload[3], 19);
    wait_for(LIMIT, "the coverage", || {
        let (_, device) = server.api.get("/v1/devices/one");
        (device["coverage"]["cell_id"] == 77).then_some(())
    });
}

#[test]
fn messages_that_are_against_the_rules_or_at_their_limits_are_answered_as_the_rules_say() {
    let server = Server::start();
    server.api.add_device("one", "meter");
    let wire = Wire::to(&server);
    let (rd, ep) = ((11, &b"rd"[..]), (15, &b"ep=one"[..]));
    let block = |number: u8| vec![0, number << 4 | 0b1110];
    let big = [b'x'; 1_024];
    for (what, datagram, expected) in [
        ("Proxy-Uri", coap(0, 1, 1, &[(35, b"coap://x")], b""), 505),
        ("Proxy-Scheme", coap(0, 1, 2, &[(39, b"coap")], b""), 505),
        (
            "Accept twice",
            coap(0, 1, 3, &[(17, &[40]), (17, &[40])], b""),
            402,
        ),
        (
            "lwm2m=2.0",
            coap(0, 2, 4, &[rd, ep, (15, b"lwm2m=2.0")], b""),
            412,
        ),
        ("text", coap(0, 2, 5, &[rd, (12, &[]), ep], b"</3/0>"), 415),
        (
            "the ninth KiB",
            coap(0, 2, 6, &[rd, (12, &[40]), ep, (27, &block(8))], &big),
            413,
        ),
    ] {
        let answer = wire.ask(&datagram);
        assert_eq!(answer.code, expected, "{what}: {answer:?}");
        if expected == 413 {
            assert_eq!(answer.values(60), [8_192_u16.to_be_bytes()], "Size1");
            assert_eq!(answer.values(27), [vec![block(8)[1]]], "Block1");
        }
    }
    let location = wire.register(7, &["ep=one"], LINKS);
    let first = wire.receive_until(observes);
    // the observation is reset, and made anew at once
    wire.send(&[&[0x70, 0][..], &first.id.to_be_bytes()].concat());
    let second = wire.receive_until(observes);
    assert_ne!(second.id, first.id);
    assert_eq!(second.token, first.token);
    wire.answer(&second, 205);
    // another's notification with a token of its own is reset, and the observation made anew
    server.api.add_device("two", "meter");
    let other = Wire::to(&server);
    other.register(1, &["ep=two"], LINKS);
    assert_eq!(asked_up_to_the_observation(&other), ["/19/0/0"]);
    let strange = [&[0x41, 69, 0, 99, 7][..], &[0x61, 1]].concat();
    other.send(&strange);
    let reset = other.receive();
    assert_eq!((reset.kind, reset.id), (3, 99));
    assert!(observes(&other.receive()));

    let put = coap(0, 3, 8, &[rd, (11, &location)], b"");
    assert_eq!(wire.ask(&put).code, 204);
    let delete = coap(0, 4, 9, &[rd, (11, &location)], b"");
    for _ in 0..3 {
        assert_eq!(wire.ask(&delete).code, 202);
    }
    let another = coap(0, 4, 10, &[rd, (11, &location)], b"");
    assert_eq!(wire.ask(&another).code, 404);
}

#[test]
fn a_client_whose_message_id_never_changes_stays_registered() {
    let server = Server::start();
    server.api.add_device("one", "meter");
    let wire = Wire::to(&server);
    let location = wire.register(1, &["ep=one", "lt=10"], b"");
    asked_up_to_the_observation(&wire);
    let update = coap(0, 2, 1, &[(11, b"rd"), (11, &location)], b"");
    for _ in 0..3 {
        thread::sleep(Duration::from_secs(6));
        assert_eq!(wire.ask(&update).code, 204);
    }
}
