//! Content formats: what is asked for, what is refused, and what comes all the same.

use super::*;
use crate::lwm2m::{Container, ResourcePath, Wrapping};

const fn wrapping(container: Container, multiple: bool) -> Wrapping {
    Wrapping {
        container,
        multiple,
    }
}

const TLV: Wrapping = wrapping(Container::Tlv, false);

const WRAPPINGS: [Wrapping; 16] = [
    wrapping(Container::Text, false),
    wrapping(Container::Cbor, false),
    wrapping(Container::SenmlJson, false),
    wrapping(Container::SenmlJson, true),
    wrapping(Container::SenmlCbor, false),
    wrapping(Container::SenmlCbor, true),
    TLV,
    wrapping(Container::Tlv, true),
    wrapping(Container::TlvOld, false),
    wrapping(Container::TlvOld, true),
    wrapping(Container::Json, false),
    wrapping(Container::Json, true),
    wrapping(Container::JsonOld, false),
    wrapping(Container::JsonOld, true),
    wrapping(Container::Lwm2mCbor, false),
    wrapping(Container::Lwm2mCbor, true),
];

/// A device that wraps what it has to say, and takes writes in certain formats only.
struct Stock {
    script: Script,
    wrapping: Wrapping,
    /// Content formats in which it is written to, and the answer to any other.
    takes: Vec<u16>,
    refuses_with: Code,
    /// It acknowledges first and answers in a message of its own.
    separate: bool,
    /// Content formats in which it was written to.
    written: Vec<u16>,
    /// Its objects are below that path.
    root: Option<&'static str>,
}

impl Stock {
    fn new(wrapping: Wrapping, takes: &[u16]) -> Self {
        Self {
            script: Script::new("meter", 1),
            wrapping,
            takes: takes.to_vec(),
            refuses_with: Code::UNSUPPORTED_CONTENT_FORMAT,
            separate: false,
            written: Vec::new(),
            root: None,
        }
    }

    fn label(&self) -> ContentFormat {
        ContentFormat(self.wrapping.container.format())
    }

    /// Deals with everything that was sent to it; returns the frames that it was written.
    fn receive(&mut self, world: &mut World) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(at) = (world.sent.iter()).position(|(to, _)| *to == self.script.at) {
            let (_, message) = world.sent.remove(at).unwrap();
            match message.code() {
                Code::GET if message.observe() == Some(0) => {
                    self.script.observe = Some(message.token());
                    let answer = response(&message, Code::CONTENT).observe(1);
                    let answer = answer.content_format(self.label()).build();
                    world.datagram(self.script.at, &answer);
                }
                Code::GET => self.script.answer_read(world, &message, 7, -90, 15),
                Code::PUT => frames.extend(self.written(world, &message)),
                _ => {}
            }
        }
        frames
    }

    fn written(&mut self, world: &mut World, message: &Message) -> Option<Vec<u8>> {
        let path: Vec<&[u8]> = (self.root.iter().map(|root| root.as_bytes()))
            .chain([&b"19"[..], b"1", b"0"])
            .collect();
        assert_eq!(message.path(), path);
        let format = message.content_format().unwrap().0;
        self.written.push(format);
        // the format's own tests say what these bytes are
        let path = ResourcePath::DOWNLINK;
        let read = crate::lwm2m::opaque_of(Some(format), &path, message.payload()).unwrap();
        let as_it_writes = read
            .wrapping
            .is_none_or(|wrapping| wrapping == self.wrapping);
        let taken = self.takes.contains(&format) && as_it_writes;
        let code = if taken {
            Code::CHANGED
        } else {
            self.refuses_with
        };
        if self.separate {
            let ack = crate::coap::empty_ack(message.message_id());
            world.datagram(self.script.at, &ack);
            let id = world.next_id;
            world.next_id += 1;
            let late = MessageBuilder::new(Kind::Confirmable, code, id, message.token());
            world.datagram(self.script.at, &late.build());
        } else {
            world.datagram(self.script.at, &response(message, code).build());
        }
        if !taken {
            return None;
        }
        assert_eq!(read.values.len(), 1);
        Some(read.values[0].to_vec())
    }

    fn notify(&self, world: &mut World, payload: &[u8]) {
        let token = self.script.observe.expect("is observed");
        let id = world.next_id;
        world.next_id += 1;
        let datagram = MessageBuilder::new(Kind::Confirmable, Code::CONTENT, id, token)
            .observe(u32::from(id))
            .content_format(self.label())
            .payload(payload.to_vec());
        world.datagram(self.script.at, &datagram.build());
    }

    fn say(&self, world: &mut World, message: &DeviceMessage<'_>) {
        let mut buffer = [0; 64];
        let frame = message.encode(&mut buffer).unwrap();
        let payload = self.wrapping.wrap(&ResourcePath::UPLINK, frame);
        self.notify(world, &payload);
    }

    fn asks_segment(&self, world: &mut World, segment: u16) {
        let version = version("V2");
        self.say(world, &DeviceMessage::SegmentRequest { version, segment });
    }

    /// Goes through a whole upgrade of 10 segments.
    fn is_upgraded(&mut self, world: &mut World) {
        world.add("meter");
        world.start("meter", 1, &package("V2", &content()));
        self.script.register(world);
        let success = ResultCode::SUCCESS;
        let frames = self.receive(world);
        assert_eq!(decoded(&frames), [PlatformMessage::VersionQuery]);
        let runs = Some(version("V1"));
        let version_told = DeviceMessage::VersionResponse {
            result: success,
            version: runs,
        };
        self.say(world, &version_told);
        let frames = self.receive(world);
        assert!(matches!(
            decoded(&frames)[..],
            [PlatformMessage::NewVersion { .. }]
        ));
        let mut downloaded = Vec::new();
        for segment in 0..10 {
            self.asks_segment(world, segment);
            let frames = self.receive(world);
            match decoded(&frames)[..] {
                [PlatformMessage::SegmentResponse { data, .. }] => {
                    downloaded.extend_from_slice(data);
                }
                ref other => panic!("{other:?}"),
            }
        }
        assert_eq!(downloaded, content());
        self.say(world, &DeviceMessage::DownloadReport { status: success });
        let frames = self.receive(world);
        assert_eq!(decoded(&frames).last(), Some(&PlatformMessage::Execute));
        self.script.register(world);
        self.receive(world);
        let report = DeviceMessage::UpgradeReport {
            result: success,
            version: version("V2"),
        };
        self.say(world, &report);
        assert!(world.outcome(1).unwrap().is_success());
    }
}

#[track_caller]
fn noted(world: &World, line: &str) {
    let lines = notes(world);
    let found = lines.iter().any(|told| told == line);
    assert!(found, "{line:?} is not among {lines:#?}");
}

#[test]
fn frames_are_taken_out_of_whatever_wraps_them() {
    for wrapping in WRAPPINGS {
        let mut world = World::new();
        let mut device = Stock::new(wrapping, &[42]);
        device.is_upgraded(&mut world);
        assert!(device.written.iter().all(|format| *format == 42));
    }
}

#[test]
fn a_device_that_refuses_octets_is_written_to_as_it_writes() {
    for wrapping in WRAPPINGS {
        for separate in [false, true] {
            let mut world = World::new();
            let format = wrapping.container.format();
            let mut device = Stock::new(wrapping, &[format]);
            device.separate = separate;
            device.is_upgraded(&mut world);
            let (first, others) = device.written.split_first().unwrap();
            assert_eq!(*first, 42);
            assert!(
                others.iter().all(|written| *written == format),
                "remembered"
            );
            // the version, the notification, 10 segments, the answer to the report and the command
            assert_eq!(others.len(), 14 + usize::from(wrapping.multiple));
            noted(
                &world,
                &format!(
                    "refused the write to /19/1/0 in content format 42 with 4.15: \
                     written in content format {format} from now on"
                ),
            );
        }
    }
}

#[test]
fn a_device_that_tells_instances_is_written_instances_at_once() {
    let mut world = World::new();
    let wrapping = TLV.of_instance().unwrap();
    let mut device = Stock::new(wrapping, &[11_542]);
    world.add("meter");
    device.script.register(&mut world);
    device.receive(&mut world);
    device.notify(&mut world, &wrapping.wrap(&ResourcePath::UPLINK, b"data"));
    device.is_upgraded(&mut world);
    assert_eq!(device.written.len(), 15);
}

#[test]
fn a_device_that_shows_no_format_of_its_own_is_written_to_in_tlv() {
    let mut world = World::new();
    world.add("meter");
    world.start("meter", 1, &package("V2", &content()));
    let mut device = Stock::new(TLV, &[11_542]);
    device.script.register(&mut world);
    // its observation is answered without a word on formats
    let (_, observation) = world.sent.pop_front().unwrap();
    let answer = response(&observation, Code::CONTENT).observe(1).build();
    world.datagram(device.script.at, &answer);
    let frames = device.receive(&mut world);
    assert_eq!(decoded(&frames), [PlatformMessage::VersionQuery]);
    assert_eq!(device.written, [42, 11_542]);
}

#[test]
fn what_may_mean_the_format_is_tried_once_in_the_devices_own() {
    let written = |code: Code, knows_own: bool| {
        let mut world = World::new();
        world.add("meter");
        world.start("meter", 1, &package("V2", &content()));
        let mut device = Stock::new(TLV, &[]);
        device.refuses_with = code;
        device.script.register(&mut world);
        if !knows_own {
            let (_, observation) = world.sent.pop_front().unwrap();
            let answer = response(&observation, Code::CONTENT).observe(1).build();
            world.datagram(device.script.at, &answer);
        }
        device.receive(&mut world);
        // asked again a minute later: what was refused in either format is tried in both again
        world.pass_s(61);
        device.receive(&mut world);
        device.written
    };
    for code in [
        Code::BAD_REQUEST,
        Code::BAD_OPTION,
        Code::METHOD_NOT_ALLOWED,
        Code::NOT_ACCEPTABLE,
        Code::INTERNAL_SERVER_ERROR,
        Code::NOT_IMPLEMENTED,
    ] {
        // its own, as a value and as an instance
        let all = [42, 11_542, 11_542];
        assert_eq!(written(code, true), [all, all].concat(), "{code}");
        // the observation that is made anew with the second question shows its format
        let later = [42, 42, 11_542, 11_542];
        assert_eq!(written(code, false), later, "{code}");
    }
    for code in [Code::FORBIDDEN, Code::NOT_FOUND, Code::SERVICE_UNAVAILABLE] {
        assert_eq!(written(code, true), [42, 42], "{code}");
    }
}

#[test]
fn a_refused_segment_gives_way_to_a_newer_one() {
    let mut world = World::new();
    let mut device = Stock::new(TLV, &[42]);
    world.add("meter");
    world.start("meter", 1, &package("V2", &content()));
    device.script.register(&mut world);
    device.receive(&mut world);
    let version_told = DeviceMessage::VersionResponse {
        result: ResultCode::SUCCESS,
        version: Some(version("V1")),
    };
    device.say(&mut world, &version_told);
    device.receive(&mut world);
    // it changes its mind about formats in the middle
    device.takes = vec![11_542];
    device.written.clear();
    device.asks_segment(&mut world, 0);
    let at = world.sent.iter().position(|(_, m)| m.code() == Code::PUT);
    let (_, first) = world.sent.remove(at.unwrap()).unwrap();
    device.asks_segment(&mut world, 1);
    assert_eq!(first.payload()[8..11], [0, 0, 0]);
    // the answer to the segment that is no longer asked for means nothing; the next one is refused and written again
    world.datagram(
        device.script.at,
        &response(&first, device.refuses_with).build(),
    );
    let frames = device.receive(&mut world);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0][8..11], [0, 0, 1]);
    assert_eq!(device.written, [42, 11_542]);
}

/// A device that names the version of LwM2M that it speaks.
fn stock(version: &str) -> Script {
    let mut device = Script::new("meter", 1);
    device.queries.push(format!("lwm2m={version}"));
    device
}

/// Registers, and returns what the observation was asked for in, each time, when it is refused with that code.
fn observations(code: Option<Code>) -> (World, Script, Vec<Option<u16>>) {
    let mut world = World::new();
    world.add("meter");
    world.start("meter", 1, &package("V2", &content()));
    let mut device = stock("1.0");
    device.register(&mut world);
    let mut asked = Vec::new();
    // what is asked next has to be the observation, ahead of the version query
    while let Some((_, message)) = world.sent.pop_front()
        && message.observe() == Some(0)
    {
        asked.push(message.accept().map(|format| format.0));
        let answer = match code {
            Some(code) => response(&message, code).build(),
            None => crate::coap::reset(message.message_id()).to_vec(),
        };
        world.datagram(device.at, &answer);
    }
    (world, device, asked)
}

#[test]
fn an_observation_that_is_refused_for_its_format_is_made_again_without() {
    for code in [
        Code::BAD_REQUEST,
        Code::BAD_OPTION,
        Code::NOT_ACCEPTABLE,
        Code::UNSUPPORTED_CONTENT_FORMAT,
        Code::INTERNAL_SERVER_ERROR,
        Code::NOT_IMPLEMENTED,
    ] {
        let (world, _, asked) = observations(Some(code));
        assert_eq!(asked, [Some(42), None], "{code}");
        noted(
            &world,
            &format!(
                "refused the observation of /19/0/0 in content format 42 with {code}: asked without"
            ),
        );
        noted(
            &world,
            &format!("refused the observation of /19/0/0 with {code}"),
        );
    }
    let (_, _, asked) = observations(None);
    assert_eq!(asked, [Some(42), None]);
    for code in [Code::NOT_FOUND, Code::METHOD_NOT_ALLOWED, Code::FORBIDDEN] {
        let (_, _, asked) = observations(Some(code));
        assert_eq!(asked, [Some(42)], "{code}");
    }
}

#[test]
fn a_device_that_names_no_version_is_asked_for_no_format() {
    let mut world = World::new();
    let mut device = Script::new("meter", 1);
    world.add("meter");
    device.register(&mut world);
    let (_, observation) = world.sent.pop_front().unwrap();
    assert_eq!(
        (observation.observe(), observation.accept()),
        (Some(0), None)
    );
    let answer = response(&observation, Code::BAD_OPTION).build();
    world.datagram(device.at, &answer);
    assert!(world.sent.is_empty(), "there is nothing to leave out");
}

#[test]
fn reads_ask_for_what_the_version_makes_mandatory() {
    for (version, object, resource) in [
        (None, None, None),
        (Some("1.0"), Some(11_542), Some(11_542)),
        (Some("1.1"), Some(112), Some(0)),
        (Some("1.2"), Some(112), Some(0)),
    ] {
        let mut world = World::new();
        let mut device = version.map_or_else(|| Script::new("meter", 1), stock);
        let read = asked_for_coverage(&mut world, &mut device);
        assert_eq!(read.accept().map(|format| format.0), object);
        world.datagram(device.at, &response(&read, Code::NOT_FOUND).build());
        let read = next_read(&mut world, &mut device);
        assert_eq!(read.path(), [&b"4"[..], b"0", b"2"]);
        assert_eq!(read.accept().map(|format| format.0), resource);
        // a device that does not follow is read all the same
        device.answer_read(&mut world, &read, 7, -90, 15);
    }
}

#[test]
fn a_read_that_is_refused_for_its_format_is_put_again_without_from_then_on() {
    for code in [
        Code::BAD_REQUEST,
        Code::BAD_OPTION,
        Code::NOT_ACCEPTABLE,
        Code::UNSUPPORTED_CONTENT_FORMAT,
        Code::INTERNAL_SERVER_ERROR,
    ] {
        let mut world = World::new();
        let mut device = stock("1.1");
        let read = asked_for_coverage(&mut world, &mut device);
        world.datagram(device.at, &response(&read, code).build());
        let again = next_read(&mut world, &mut device);
        assert_eq!((again.path(), again.accept()), (read.path(), None));
        noted(
            &world,
            &format!("refused the read of /4/0 in content format 112 with {code}: asked without"),
        );
        // refused without as well: that was not it
        world.datagram(device.at, &response(&again, code).build());
        let read = next_read(&mut world, &mut device);
        assert_eq!(read.path(), [&b"4"[..], b"0", b"2"]);
        assert_eq!(read.accept(), None, "remembered");
        world.datagram(device.at, &response(&read, Code::NOT_FOUND).build());
        let read = next_read(&mut world, &mut device);
        answer(&mut world, &device, &read, 0, b"17");
        noted(
            &world,
            "in cell 17, where 10 may upgrade at once by its coverage: waiting for a slot",
        );
    }
}

#[test]
fn every_block_of_an_answer_is_asked_for_in_the_same_format() {
    let mut world = World::new();
    let mut device = stock("1.1");
    let mut read = asked_for_coverage(&mut world, &mut device);
    // [{-2: "/4/0/", 0: "2", 2: -95}, {0: "8", 2: 17}, {0: "11", 2: 7}]
    let whole =
        hex::decode("83a321652f342f302f006132 02385ea20061380211a200623131 0207".replace(' ', ""))
            .unwrap();
    for (number, part) in (0..).zip(whole.chunks(16)) {
        assert_eq!(read.accept(), Some(ContentFormat(112)));
        let block = crate::coap::Block {
            number,
            more: number == 0,
            szx: 0,
        };
        let part = response(&read, Code::CONTENT)
            .content_format(ContentFormat(112))
            .block2(block.encode())
            .payload(part.to_vec());
        world.datagram(device.at, &part.build());
        if number == 0 {
            read = next_read(&mut world, &mut device);
        }
    }
    noted(
        &world,
        "in cell 17, where 50 may upgrade at once by its coverage: waiting for a slot",
    );
}

#[test]
fn below_another_root_too_frames_are_wrapped() {
    let mut world = World::new();
    let mut device = Stock::new(TLV, &[11_542]);
    device.root = Some("lwm2m");
    device.script.links = "</lwm2m>;rt=\"oma.lwm2m\",</lwm2m/4/0>,</lwm2m/19/0>,</lwm2m/19/1>";
    device.is_upgraded(&mut world);
    assert_eq!(device.written[..3], [42, 11_542, 11_542]);
}

#[test]
fn what_was_refused_is_remembered_over_registrations() {
    let (mut world, mut device, _) = observations(Some(Code::BAD_OPTION));
    world.take_sent();
    device.register(&mut world);
    let (_, observation) = world.sent.pop_front().unwrap();
    assert_eq!(observation.observe(), Some(0));
    assert_eq!(observation.accept(), None);
}

#[test]
fn an_observation_that_nothing_comes_back_to_is_made_without_a_format_next_time() {
    let mut world = World::new();
    world.add("meter");
    world.start("meter", 1, &package("V2", &content()));
    let mut device = stock("1.1");
    device.register(&mut world);
    let (_, observation) = world.sent.pop_front().unwrap();
    assert_eq!(observation.accept(), Some(ContentFormat::OCTET_STREAM));
    world.pass_s(160);
    world.take_sent();
    device.register(&mut world);
    let (_, observation) = world.sent.pop_front().unwrap();
    assert_eq!(
        (observation.observe(), observation.accept()),
        (Some(0), None)
    );
}

#[test]
fn two_frames_in_one_notification_are_two() {
    let mut world = World::new();
    let mut device = Script::new("meter", 1);
    world.add("meter");
    world.start("meter", 1, &package("V2", &content()));
    device.negotiate(&mut world, 7, -90, 15);
    device.receive(&mut world);
    let mut payload = Vec::new();
    for message in [
        DeviceMessage::NotificationResponse {
            result: ResultCode::SUCCESS,
        },
        DeviceMessage::SegmentRequest {
            version: version("V2"),
            segment: 3,
        },
    ] {
        payload.extend_from_slice(message.encode(&mut [0; 64]).unwrap());
    }
    let malformed = world.engine.counters().pcp_malformed;
    device.notify(&mut world, &payload);
    let frames = device.frames(&mut world);
    assert!(matches!(
        decoded(&frames)[..],
        [PlatformMessage::SegmentResponse {
            segment: Some(3),
            ..
        }]
    ));
    noted(&world, "accepted the new version (PCP 20)");
    assert_eq!(world.engine.counters().pcp_malformed, malformed);
    // and a rest that is none is a malformed one
    payload.extend([0xFF, 0xFE, 1]);
    device.notify(&mut world, &payload);
    assert_eq!(world.engine.counters().pcp_malformed, malformed + 1);
}

#[test]
fn several_values_are_several_messages() {
    let mut world = World::new();
    let mut device = Stock::new(TLV, &[42]);
    world.add("meter");
    world.start("meter", 1, &package("V2", &content()));
    device.script.register(&mut world);
    device.receive(&mut world);
    // its instances: nothing, data of its own, and the answer
    let mut payload = vec![0x88, 0, 0, 0x40, 0, 0x42, 1, b'h', b'i', 0x48, 2, 25];
    let version_told = DeviceMessage::VersionResponse {
        result: ResultCode::SUCCESS,
        version: Some(version("V1")),
    };
    payload.extend_from_slice(version_told.encode(&mut [0; 64]).unwrap());
    payload[2] = u8::try_from(payload.len() - 3).unwrap();
    device.notify(&mut world, &payload);
    assert_eq!(world.engine.counters().service_data, 1);
    let frames = device.receive(&mut world);
    assert!(matches!(
        decoded(&frames)[..],
        [PlatformMessage::NewVersion { .. }]
    ));
}

#[test]
fn what_cannot_be_read_or_is_no_frame_is_the_devices_own_data() {
    let mut world = World::new();
    let mut device = Stock::new(TLV, &[42]);
    world.add("meter");
    device.script.register(&mut world);
    device.receive(&mut world);
    let payloads = [
        &[0xC8, 0, 200, 1][..],          // cut off
        &[0xC2, 0, b'h', b'i'],          // wrapped
        b"data of its own",              // not TLV at all
        &[0xC1, 7, 1, 0xC2, 0, 0xFF, 1], // of two resources, one of them the right one
    ];
    for (number, payload) in (1..).zip(payloads) {
        device.notify(&mut world, payload);
        assert_eq!(world.engine.counters().service_data, number);
    }
    assert_eq!(world.engine.counters().pcp_malformed, 0);
    // data that looks like a format of LwM2M, and names none
    for (number, payload) in (5..).zip([&b"{\"t\":21}"[..], b"[21]", b"[]"]) {
        let token = device.script.observe.unwrap();
        let id = world.next_id;
        world.next_id += 1;
        let datagram = MessageBuilder::new(Kind::NonConfirmable, Code::CONTENT, id, token)
            .observe(u32::from(id))
            .payload(payload.to_vec());
        world.datagram(device.script.at, &datagram.build());
        assert_eq!(world.engine.counters().service_data, number);
    }
    // nothing in it: a sign of life
    device.notify(&mut world, &[0xC0, 0]);
    assert_eq!(world.engine.counters().service_data, 7);
}

#[test]
fn a_bare_frame_is_one_whatever_its_label_says() {
    let mut world = World::new();
    let mut device = Stock::new(TLV, &[42]);
    world.add("meter");
    world.start("meter", 1, &package("V2", &content()));
    device.script.register(&mut world);
    device.receive(&mut world);
    let version_told = DeviceMessage::VersionResponse {
        result: ResultCode::SUCCESS,
        version: Some(version("V1")),
    };
    let frame = version_told.encode(&mut [0; 64]).unwrap().to_vec();
    device.notify(&mut world, &frame);
    assert!(world.stages().contains(&Stage::QueryingCoverage));
}

/// Answers the version query and returns the read of the object that follows.
fn asked_for_coverage(world: &mut World, device: &mut Script) -> Message<'static> {
    world.add("meter");
    world.start("meter", 1, &package("V2", &content()));
    device.register(world);
    device.receive(world);
    device.says_version(world, "V1");
    next_read(world, device)
}

fn next_read(world: &mut World, device: &mut Script) -> Message<'static> {
    let received = device.receive(world);
    let read = received.into_iter().find_map(|received| match received {
        Received::Read(_, message) => Some(message),
        _ => None,
    });
    read.expect("is read")
}

fn answer(world: &mut World, device: &Script, read: &Message, format: u16, payload: &[u8]) {
    let answer = response(read, Code::CONTENT)
        .content_format(ContentFormat(format))
        .payload(payload.to_vec());
    world.datagram(device.at, &answer.build());
}

fn detail(world: &World) -> String {
    told_at_the_end(world).expect("has ended")
}

#[test]
fn an_answer_in_an_unknown_format_is_told_as_that() {
    let mut world = World::new();
    let mut device = Script::new("meter", 1);
    let read = asked_for_coverage(&mut world, &mut device);
    answer(&mut world, &device, &read, 50, b"{\"2\":-95}");
    let read = next_read(&mut world, &mut device); // RSRP
    answer(&mut world, &device, &read, 50, b"-95");
    let read = next_read(&mut world, &mut device); // the cell alone
    answer(&mut world, &device, &read, 50, b"17");
    for path in ["/4/0", "/4/0/2", "/4/0/8"] {
        let line = format!(
            "the read of {path} was answered in content format 50, which is not understood"
        );
        noted(&world, &line);
    }
    let outcome = world.outcome(1).unwrap();
    assert_eq!(outcome.reason(), "cell_unknown");
    let told = "what the device answered about its cell (/4/0/8) is not understood, so it cannot be admitted to one: \
                the read of /4/0/8 was answered in content format 50, which is not understood. Sent last: ";
    assert!(detail(&world).starts_with(told), "{}", detail(&world));
}

#[test]
fn an_answer_that_is_damaged_is_told_as_that() {
    let mut world = World::new();
    let mut device = Script::new("meter", 1);
    let read = asked_for_coverage(&mut world, &mut device);
    answer(&mut world, &device, &read, 11_542, &[0xC4, 8, 1]);
    noted(
        &world,
        "the answer to the read of /4/0 is unreadable: malformed TLV: an entry is longer than what holds it",
    );
    let read = next_read(&mut world, &mut device);
    world.datagram(device.at, &response(&read, Code::NOT_FOUND).build());
    let read = next_read(&mut world, &mut device);
    world.datagram(device.at, &response(&read, Code::NOT_FOUND).build());
    // the cell may have been in the answer that could not be read
    let told = "what the device answered about its cell (/4/0/8) is not understood, so it cannot be admitted to one: \
                the answer to the read of /4/0 is unreadable: malformed TLV";
    assert!(detail(&world).starts_with(told), "{}", detail(&world));
}

#[test]
fn a_cell_that_is_no_number_is_told_as_it_is() {
    let mut world = World::new();
    let mut device = Script::new("meter", 1);
    let read = asked_for_coverage(&mut world, &mut device);
    let payload = br#"[{"bn":"/4/0/","n":"2","v":-95},{"n":"8","vs":"here"},{"n":"11","v":7}]"#;
    answer(&mut world, &device, &read, 110, payload);
    noted(
        &world,
        r#"the answer to the read of /4/0 tells "here" as the cell"#,
    );
    let read = next_read(&mut world, &mut device);
    answer(&mut world, &device, &read, 0, b"here");
    let told = "what the device answered about its cell (/4/0/8) is not understood, so it cannot be admitted to one: \
                the answer to the read of /4/0/8 tells \"here\" as the cell. ";
    assert!(detail(&world).starts_with(told), "{}", detail(&world));
}

#[test]
fn a_device_that_does_not_tell_its_cell_is_said_not_to() {
    let mut world = World::new();
    let mut device = Script::new("meter", 1);
    let read = asked_for_coverage(&mut world, &mut device);
    answer(&mut world, &device, &read, 0, &[0xC1, 2, 0xA1]);
    let read = next_read(&mut world, &mut device);
    world.datagram(device.at, &response(&read, Code::NOT_FOUND).build());
    let told =
        "the device does not tell its cell (/4/0/8), so it cannot be admitted to one. Sent last";
    assert!(detail(&world).starts_with(told), "{}", detail(&world));
}

#[test]
fn blocks_that_do_not_fit_together_are_told_as_that() {
    for (number, len) in [(1, 16), (0, 5_000)] {
        let mut world = World::new();
        let mut device = Script::new("meter", 1);
        let read = asked_for_coverage(&mut world, &mut device);
        let block = crate::coap::Block {
            number,
            more: true,
            szx: 0,
        };
        let part = response(&read, Code::CONTENT)
            .content_format(ContentFormat(110))
            .block2(block.encode())
            .payload(vec![b'['; len.min(1_200)]);
        world.datagram(device.at, &part.build());
        let lines = notes(&world);
        let told = lines.iter().any(|line| {
            line.starts_with("the answer to the read of /4/0 is unreadable: its blocks do not fit")
        });
        // a block that is longer than it may be shows with the next one
        assert_eq!(told, number == 1, "{lines:#?}");
    }
}

#[test]
fn a_signal_strength_of_8_bits_has_the_limit_that_it_stands_for() {
    let mut world = World::new();
    let mut device = Script::new("meter", 1);
    let read = asked_for_coverage(&mut world, &mut device);
    device.answer_read(&mut world, &read, 7, 121, -8);
    let reported = world.changes.iter().find_map(|change| match change {
        Change::CoverageReported { reading, .. } => Some(reading.coverage),
        _ => None,
    });
    assert_eq!(reported.unwrap().rsrp_dbm, Some(-135));
    noted(
        &world,
        "in cell 7, where 1 may upgrade at once by its coverage: waiting for a slot",
    );
}
