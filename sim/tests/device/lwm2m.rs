//! Registration, observation, reads: the LwM2M client below the upgrade client.

use pcp::{PlatformMessage, ResultCode};
use sim::{
    CoverageClass, Fault,
    coap::{Code, MessageType, Token, Writer, option},
    content::ContentFormat,
    spec::{NotificationType, RegistrationStyle},
};

use super::bench::{Bench, path, reply, spec};

fn silent_server() -> Bench {
    let mut bench = Bench::new(spec());
    bench.serves = false;
    bench
}

#[test]
fn registers_with_everything_a_server_wants_to_know() {
    let mut bench = silent_server();
    bench.start();
    let sent = bench.sent.pop_front().unwrap();
    let message = sent.message();
    assert_eq!(message.code, Code::POST);
    assert_eq!(message.message_type, MessageType::Confirmable);
    assert_eq!(sent.values(option::URI_PATH), ["rd"]);
    assert_eq!(message.uint(option::CONTENT_FORMAT), Some(40));
    assert_eq!(
        sent.values(option::URI_QUERY),
        ["ep=meter-1", "lt=86400", "b=U", "lwm2m=1.0"]
    );
    assert_eq!(
        message.payload,
        br#"</>;rt="oma.lwm2m",</1/0>,</3/0>,</4/0>,</19/0>,</19/1>"#
    );
}

#[test]
fn a_minimal_device_sends_its_name_only() {
    let mut spec = spec();
    spec.behaviour.registration = RegistrationStyle::Minimal;
    let mut bench = Bench::new(spec);
    bench.serves = false;
    bench.start();
    let sent = bench.sent.pop_front().unwrap();
    assert_eq!(sent.values(option::URI_QUERY), ["ep=meter-1"]);
    assert_eq!(sent.message().payload, b"");
}

#[test]
fn repeats_a_registration_with_growing_pauses_and_then_starts_over() {
    let mut bench = silent_server();
    bench.start();
    bench.pass(400_000);
    let times: Vec<_> = bench.sent.iter().map(|sent| sent.at_ms).collect();
    let ids: Vec<_> = bench.sent.iter().map(|sent| sent.message().id).collect();
    assert!(times.len() > 4, "{times:?}");
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((10_000..=15_000).contains(&pauses[0]), "{pauses:?}");
    assert_eq!(pauses[1], pauses[0] * 2);
    assert!(pauses[2] >= pauses[0] * 4 + 60_000, "{pauses:?}");
    assert_eq!(ids[0], ids[2], "a repeat is the same message");
    assert_ne!(ids[2], ids[3]);
}

#[test]
fn updates_at_half_the_lifetime_at_the_location_it_was_given() {
    let mut spec = spec();
    spec.behaviour.lifetime_s = 300;
    let mut bench = Bench::registered(spec);
    bench.serves = false;
    bench.pass(149_999);
    assert!(bench.sent.is_empty());
    bench.pass(1);
    let update = bench.sent.pop_front().unwrap();
    assert_eq!(update.values(option::URI_PATH), ["rd", "1"]);
    let accepted = reply(&update.message(), Code::CHANGED).finish();
    bench.receive(&accepted);
    bench.pass(150_000);
    assert_eq!(bench.sent.len(), 1, "and again");
}

#[test]
fn registers_anew_when_the_server_does_not_know_it() {
    let mut bench = Bench::registered(spec());
    bench.serves = false;
    bench.pass(43_200_000);
    let update = bench.sent.pop_front().unwrap();
    let unknown = reply(&update.message(), Code::NOT_FOUND).finish();
    bench.receive(&unknown);
    let register = bench.sent.pop_front().unwrap();
    assert_eq!(register.values(option::URI_PATH), ["rd"]);
    assert!(!bench.device.is_registered());
}

#[test]
fn registers_anew_when_an_update_goes_unanswered() {
    let mut bench = Bench::registered(spec());
    bench.serves = false;
    bench.pass(43_200_000 + 120_000);
    let last = bench.sent.pop_back().unwrap();
    assert_eq!(last.values(option::URI_PATH), ["rd"]);
}

#[test]
fn accepts_a_response_that_comes_after_its_acknowledgement() {
    let mut bench = silent_server();
    bench.start();
    let register = bench.sent.pop_front().unwrap();
    let request = register.message();
    bench.receive(&Writer::empty(MessageType::Acknowledgement, request.id));
    bench.pass(20_000);
    assert!(bench.sent.is_empty(), "acknowledged is not repeated");
    let response = Writer::new(MessageType::Confirmable, Code::CREATED, 7, request.token)
        .option(option::LOCATION_PATH, b"rd")
        .finish();
    bench.receive(&response);
    assert!(bench.device.is_registered());
    let acknowledgement = bench.sent.pop_front().unwrap();
    assert_eq!(
        acknowledgement.bytes,
        Writer::empty(MessageType::Acknowledgement, 7)
    );
}

#[test]
fn tries_again_after_a_refused_registration() {
    let mut bench = silent_server();
    bench.start();
    let register = bench.sent.pop_front().unwrap();
    let refusal = reply(&register.message(), Code::new(4, 3)).finish();
    bench.receive(&refusal);
    bench.pass(59_000);
    assert!(bench.sent.is_empty());
    bench.pass(20_000);
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn a_ping_is_answered_with_a_reset() {
    let mut bench = Bench::registered(spec());
    bench.receive(&Writer::empty(MessageType::Confirmable, 9));
    assert_eq!(
        bench.sent.pop_front().unwrap().bytes,
        Writer::empty(MessageType::Reset, 9)
    );
}

#[test]
fn an_observation_is_confirmed_and_its_token_used() {
    let mut bench = Bench::registered(spec());
    bench.observe_again();
    let response = bench.sent.pop_front().unwrap();
    assert_eq!(response.message().code, Code::CONTENT);
    assert!(response.message().uint(option::OBSERVE).is_some());
    bench.write(PlatformMessage::VersionQuery);
    let (token, _) = bench.frames.pop_front().unwrap();
    assert_eq!(token.as_slice(), [0xAB, 1]);
}

#[test]
fn a_reset_ends_the_observation() {
    let mut spec = spec();
    spec.behaviour.notifications = NotificationType::NonConfirmable;
    let mut bench = Bench::registered(spec);
    bench.write(PlatformMessage::VersionQuery);
    assert_eq!(bench.said(), ["19 00 V1"]);
    let notification = bench.sent.pop_back().unwrap();
    assert_eq!(
        notification.message().message_type,
        MessageType::NonConfirmable
    );
    bench.receive(&Writer::empty(
        MessageType::Reset,
        notification.message().id,
    ));
    bench.write(PlatformMessage::VersionQuery);
    assert!(bench.said().is_empty());
    bench.observe_again();
    assert_eq!(bench.said(), ["19 00 V1"], "what waited is said");
}

#[test]
fn coverage_is_answered_in_the_devices_own_format() {
    let mut spec = spec();
    spec.coverage = CoverageClass::Poor.coverage(Some(77));
    let mut bench = Bench::registered(spec.clone());
    let all = bench.get(&["4", "0"]);
    assert_eq!(all.message().uint(option::CONTENT_FORMAT), Some(11_542));
    assert_eq!(
        all.message().payload,
        [0xC1, 0, 7, 0xC1, 2, 0x90, 0xC1, 8, 77, 0xC1, 11, 0xF8]
    );
    let cell = bench.get(&["4", "0", "8"]);
    assert_eq!(cell.message().payload, [0xC1, 8, 77]);

    spec.coverage.format = ContentFormat::Text;
    let mut bench = Bench::registered(spec);
    let rsrp = bench.get(&["4", "0", "2"]);
    assert_eq!(rsrp.message().uint(option::CONTENT_FORMAT), Some(0));
    assert_eq!(rsrp.message().payload, b"-112");
    let all = bench.get(&["4", "0"]);
    assert_eq!(all.message().code, Code::NOT_ACCEPTABLE);
}

#[test]
fn resources_that_do_not_exist_are_not_found() {
    let mut spec = spec();
    spec.coverage = CoverageClass::Unmeasurable.coverage(Some(77));
    let mut bench = Bench::registered(spec.clone());
    for path in [
        &["4", "0", "2"][..],
        &["4", "0", "11"],
        &["3", "0", "0"],
        &["4", "1"],
        &["19", "0", "0", "0"],
        &["well-known"],
        &[],
    ] {
        let response = bench.get(path);
        assert_eq!(response.message().code, Code::NOT_FOUND, "{path:?}");
    }
    spec.fault = Some(Fault::NoObject4);
    let mut bench = Bench::registered(spec);
    let response = bench.get(&["4", "0", "8"]);
    assert_eq!(response.message().code, Code::NOT_FOUND);
}

#[test]
fn wrong_methods_and_unknown_critical_options_are_refused() {
    let mut bench = Bench::registered(spec());
    let response = bench.get(&["19", "1", "0"]);
    assert_eq!(response.message().code, Code::METHOD_NOT_ALLOWED);
    bench.sent.clear();
    let block1 = path(
        Writer::new(MessageType::Confirmable, Code::PUT, 5, Token::default()),
        &["19", "1", "0"],
    )
    .uint(27, 0x0E)
    .payload(b"part");
    bench.receive(&block1);
    let response = bench.sent.pop_front().unwrap();
    assert_eq!(response.message().code, Code::BAD_OPTION);
}

#[test]
fn a_repeated_write_is_answered_the_same_way_and_acted_on_once() {
    let mut bench = Bench::registered(spec());
    let mut buf = [0; 64];
    let frame = PlatformMessage::VersionQuery.encode(&mut buf).unwrap();
    let request = bench.write_request(frame);
    bench.receive(&request);
    bench.receive(&request);
    assert_eq!(bench.said(), ["19 00 V1"]);
    assert_eq!(bench.sent.len(), 2);
    assert_eq!(bench.sent[0].bytes, bench.sent[1].bytes);
    assert_eq!(bench.sent[0].message().code, Code::CHANGED);
    assert_eq!(bench.device.report().counters.duplicates, 1);
}

#[test]
fn a_device_without_memory_acts_on_a_repeated_write_again() {
    let mut spec = spec();
    spec.behaviour.deduplicates = false;
    let mut bench = Bench::registered(spec);
    let mut buf = [0; 64];
    let frame = PlatformMessage::VersionQuery.encode(&mut buf).unwrap();
    let request = bench.write_request(frame);
    bench.receive(&request);
    bench.receive(&request);
    assert_eq!(bench.said(), ["19 00 V1", "19 00 V1"]);
}

#[test]
fn a_separate_response_is_repeated_until_acknowledged() {
    let mut spec = spec();
    spec.behaviour.separate_responses = true;
    let mut bench = Bench::new(spec);
    bench.serves = true;
    bench.start();
    bench.serves = false;
    bench.pass(60_000);
    let response = bench.get(&["4", "0", "8"]);
    assert_eq!(response.message().message_type, MessageType::Confirmable);
    assert_eq!(response.message().token.as_slice(), b"read");
    bench.sent.clear();
    bench.pass(15_000);
    assert_eq!(bench.sent.pop_front().unwrap().bytes, response.bytes);
    bench.receive(&Writer::empty(
        MessageType::Acknowledgement,
        response.message().id,
    ));
    bench.sent.clear();
    bench.pass(100_000);
    assert!(bench.sent.is_empty());
}

#[test]
fn garbage_is_counted_and_ignored() {
    let mut bench = Bench::registered(spec());
    bench.receive(b"");
    bench.receive(b"\xFF\xFF\xFF\xFF");
    let request = bench.write_request(b"\xFF\xFEgarbage");
    bench.receive(&request);
    assert_eq!(bench.device.report().counters.malformed, 2);
    assert_eq!(bench.device.report().counters.bad_frames, 1);
    bench.write(PlatformMessage::UpgradeReportResponse {
        result: ResultCode::SUCCESS,
    });
    assert!(bench.said().is_empty());
}

#[test]
fn one_seed_gives_one_device() {
    let conversation = |seed| {
        let mut spec = spec();
        spec.seed = seed;
        let mut bench = Bench::new(spec);
        bench.serves = false;
        bench.start();
        bench.pass(500_000);
        let sent = bench.sent.into_iter();
        sent.map(|sent| (sent.at_ms, sent.bytes))
            .collect::<Vec<_>>()
    };
    assert_eq!(conversation(3), conversation(3));
    assert_ne!(conversation(3), conversation(4));
}
