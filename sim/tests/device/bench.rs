//! A device on a test bench: a clock that only the test moves, and a server's side that does exactly
//! what it is told, apart from acknowledging, registering and observing when that is switched on.

use std::collections::VecDeque;

use pcp::{DeviceMessage, PlatformMessage, ResultCode, Version};
use sim::{
    Device, DeviceSpec,
    coap::{Code, Message, MessageType, Token, Writer, option},
};

pub(crate) const SEGMENT_SIZE: u16 = 40;

pub(crate) fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

pub(crate) fn spec() -> DeviceSpec {
    DeviceSpec::new("meter-1", version("V1"))
}

pub(crate) fn package() -> Vec<u8> {
    (0..250_u32).map(|i| (i * 7 % 251) as u8).collect()
}

pub(crate) fn segment_count() -> u16 {
    u16::try_from(package().len().div_ceil(usize::from(SEGMENT_SIZE))).unwrap()
}

pub(crate) fn segment(number: u16) -> Vec<u8> {
    package()
        .chunks(usize::from(SEGMENT_SIZE))
        .nth(usize::from(number))
        .unwrap()
        .to_vec()
}

/// A datagram of the device's, without borrowing it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) at_ms: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap()
    }

    pub(crate) fn values(&self, number: u16) -> Vec<String> {
        self.message()
            .values(number)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    }
}

pub(crate) struct Bench {
    pub(crate) device: Device,
    pub(crate) now_ms: u64,
    /// Acknowledges notifications, accepts registrations and observes /19/0/0 after each.
    pub(crate) serves: bool,
    pub(crate) registrations: u8,
    /// Messages of the device's own application that it has sent.
    pub(crate) own_data: u8,
    pub(crate) address_changes: u32,
    /// PCP frames that the device has sent, with the token of the notification.
    pub(crate) frames: VecDeque<(Token, Vec<u8>)>,
    /// Everything that the device has sent and that `serves` has not dealt with.
    pub(crate) sent: VecDeque<Sent>,
    next_id: u16,
}

impl Bench {
    pub(crate) fn new(spec: DeviceSpec) -> Self {
        Self {
            device: Device::new(spec),
            now_ms: 1_000,
            serves: true,
            registrations: 0,
            own_data: 0,
            address_changes: 0,
            frames: VecDeque::new(),
            sent: VecDeque::new(),
            next_id: 100,
        }
    }

    /// A device that has registered and is observed.
    pub(crate) fn registered(spec: DeviceSpec) -> Self {
        let mut bench = Self::new(spec);
        bench.start();
        assert!(bench.device.is_registered());
        bench.sent.clear();
        bench
    }

    /// A device that holds the first segments and has asked for the next.
    pub(crate) fn downloading(spec: DeviceSpec, segments: u16) -> Self {
        let mut bench = Self::registered(spec);
        bench.notify_version();
        for number in 0..segments {
            bench.answer_segment(number);
        }
        bench.frames.clear();
        bench
    }

    pub(crate) fn start(&mut self) {
        self.device.start(self.now_ms);
        self.drain();
    }

    pub(crate) fn receive(&mut self, datagram: &[u8]) {
        self.device.handle_datagram(self.now_ms, datagram);
        self.drain();
    }

    /// Lets time pass, and everything happen that falls due.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while let Some(at_ms) = self.device.poll_timeout().filter(|at| *at <= end_ms) {
            self.now_ms = at_ms.max(self.now_ms);
            self.device.handle_timeout(self.now_ms);
            self.drain();
        }
        self.now_ms = end_ms;
    }

    fn drain(&mut self) {
        loop {
            if self.device.take_address_change() {
                self.address_changes += 1;
            }
            let Some(bytes) = self.device.poll_transmit() else {
                return;
            };
            let sent = Sent {
                at_ms: self.now_ms,
                bytes,
            };
            let message = sent.message();
            if message.code == Code::CONTENT && pcp::is_pcp(message.payload) {
                self.frames
                    .push_back((message.token, message.payload.to_vec()));
            }
            if !(self.serves && self.serve(&message)) {
                self.sent.push_back(sent);
            }
        }
    }

    fn serve(&mut self, message: &Message<'_>) -> bool {
        if message.message_type != MessageType::Confirmable {
            return false;
        }
        let path: Vec<_> = message.values(option::URI_PATH).collect();
        match (message.code, &*path) {
            (Code::POST, [b"rd"]) => {
                self.registrations += 1;
                let location = [b'0' + self.registrations];
                let reply = reply(message, Code::CREATED)
                    .option(option::LOCATION_PATH, b"rd")
                    .option(option::LOCATION_PATH, &location)
                    .finish();
                self.device.handle_datagram(self.now_ms, &reply);
                self.observe();
            }
            (Code::POST, _) => {
                let reply = reply(message, Code::CHANGED).finish();
                self.device.handle_datagram(self.now_ms, &reply);
            }
            (Code::CONTENT, _) => {
                if !pcp::is_pcp(message.payload) {
                    self.own_data += 1;
                }
                let reply = Writer::empty(MessageType::Acknowledgement, message.id);
                self.device.handle_datagram(self.now_ms, &reply);
            }
            _ => return false,
        }
        true
    }

    pub(crate) const fn take_id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// Observes /19/0/0 with a token that names the registration.
    fn observe(&mut self) {
        let token = Token::new(&[0xAB, self.registrations]).unwrap();
        let id = self.take_id();
        let request = path(
            Writer::new(MessageType::Confirmable, Code::GET, id, token).uint(option::OBSERVE, 0),
            &["19", "0", "0"],
        )
        .finish();
        self.device.handle_datagram(self.now_ms, &request);
    }

    /// Observes as a server does that has lost its observation.
    pub(crate) fn observe_again(&mut self) {
        self.observe();
        self.drain();
    }

    /// Reads a resource; the response is left in `sent`.
    pub(crate) fn get(&mut self, segments: &[&str]) -> Sent {
        self.sent.clear();
        let id = self.take_id();
        let token = Token::new(b"read").unwrap();
        let writer = Writer::new(MessageType::Confirmable, Code::GET, id, token);
        self.receive(&path(writer, segments).finish());
        self.sent.pop_back().expect("a response")
    }

    pub(crate) fn write_request(&mut self, frame: &[u8]) -> Vec<u8> {
        let id = self.take_id();
        let token = Token::new(b"w").unwrap();
        path(
            Writer::new(MessageType::Confirmable, Code::PUT, id, token),
            &["19", "1", "0"],
        )
        .uint(option::CONTENT_FORMAT, 42)
        .payload(frame)
    }

    /// Writes a frame to /19/1/0.
    pub(crate) fn write(&mut self, message: PlatformMessage<'_>) {
        let mut buf = [0; 1024];
        let frame = message.encode(&mut buf).unwrap();
        let request = self.write_request(frame);
        self.receive(&request);
    }

    pub(crate) fn new_version(check_code: u16) -> PlatformMessage<'static> {
        PlatformMessage::NewVersion {
            version: version("V2"),
            segment_size: SEGMENT_SIZE,
            segment_count: segment_count(),
            check_code,
        }
    }

    /// Notifies V2 and lets the device's pause before its first request pass.
    pub(crate) fn notify_version(&mut self) {
        self.write(Self::new_version(pcp::checksum(&package())));
        self.pass(self.device.spec().timing.first_request_delay_ms);
    }

    /// Answers a request for a segment and lets the device's pause before the next pass.
    pub(crate) fn answer_segment(&mut self, number: u16) {
        self.write(PlatformMessage::SegmentResponse {
            result: ResultCode::SUCCESS,
            segment: Some(number),
            data: &segment(number),
        });
        self.pass(self.device.spec().timing.segment_delay_ms);
    }

    /// Serves segments for as long as the device asks for them.
    pub(crate) fn serve_download(&mut self) {
        while let Some(frame) = self.take_frame() {
            if let DeviceMessage::SegmentRequest { segment, .. } =
                DeviceMessage::decode(&frame).unwrap()
            {
                self.answer_segment(segment);
            } else {
                self.frames.push_front((Token::default(), frame));
                return;
            }
        }
    }

    pub(crate) fn take_frame(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front().map(|(_, frame)| frame)
    }

    /// The frames that the device has sent since the last look.
    pub(crate) fn said(&mut self) -> Vec<String> {
        self.frames
            .drain(..)
            .map(|(_, frame)| brief(&DeviceMessage::decode(&frame).unwrap()))
            .collect()
    }
}

/// A message in a few characters, as in `21 V2 #3`.
pub(crate) fn brief(message: &DeviceMessage<'_>) -> String {
    match message {
        DeviceMessage::VersionResponse {
            result,
            version: Some(version),
        } => format!("19 {:02X} {version}", result.0),
        DeviceMessage::VersionResponse { result, .. } => format!("19 {:02X}", result.0),
        DeviceMessage::NotificationResponse { result } => format!("20 {:02X}", result.0),
        DeviceMessage::SegmentRequest { version, segment } => format!("21 {version} #{segment}"),
        DeviceMessage::DownloadReport { status } => format!("22 {:02X}", status.0),
        DeviceMessage::ExecuteResponse { result } => format!("23 {:02X}", result.0),
        DeviceMessage::UpgradeReport { result, version } => {
            format!("24 {:02X} {version}", result.0)
        }
        DeviceMessage::Unknown { code, .. } => format!("{}", code.0),
    }
}

pub(crate) fn reply(request: &Message<'_>, code: Code) -> Writer {
    Writer::new(
        MessageType::Acknowledgement,
        code,
        request.id,
        request.token,
    )
}

pub(crate) fn path(writer: Writer, segments: &[&str]) -> Writer {
    segments.iter().fold(writer, |writer, segment| {
        writer.option(option::URI_PATH, segment.as_bytes())
    })
}
