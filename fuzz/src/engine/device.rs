//! A device of the play: what it is, and what it says.

use std::collections::VecDeque;

use cellwise::coap::{
    Block, Code, ContentFormat, Kind, Message, MessageBuilder, Token, empty_ack, reset, slice,
};
use pcp::{DeviceMessage, PlatformMessage, ResultCode, Version};

use super::Answer;

/// Segments of the package.
pub(super) const SEGMENTS: u16 = 3;
/// A product with settings of its own.
pub(super) const IMPATIENT: &str = "impatient";
/// Content format of its answers: SenML JSON.
const SENML_JSON: ContentFormat = ContentFormat(110);

/// RSRP and SINR: good, fair, weak.
const SIGNALS: [(i32, i32); 3] = [(-90, 15), (-90, 0), (-112, -8)];

/// The product of a device of the play.
pub(super) const fn product(device: usize) -> &'static str {
    if device % 4 == 3 { IMPATIENT } else { "meter" }
}

/// The version that every upgrade leads to.
pub(super) fn target() -> Version {
    Version::new("V2").expect("is a version")
}

/// A PCP frame whose header is in order.
pub(super) fn frame(code: u8, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).expect("is short");
    let mut frame = vec![0xFF, 0xFE, 1, code, 0, 0];
    frame.extend(len.to_be_bytes());
    frame.extend(data);
    let check_code = pcp::checksum(&frame);
    frame[4..6].copy_from_slice(&check_code.to_be_bytes());
    frame
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: String,
    /// Where it sends from.
    pub(super) peer: usize,
    pub(super) location: String,
    /// The message ID of its registration, until that is answered.
    pub(super) registering: Option<u16>,
    /// The last datagram that it sent.
    pub(super) last: Vec<u8>,
    pub(super) cell: u8,
    pub(super) signal: u8,
    observation: Token,
    next_id: u16,
}

impl Device {
    pub(super) fn new(index: usize) -> Self {
        Self {
            name: format!("meter-{index}"),
            peer: index,
            location: "nowhere".into(),
            registering: None,
            last: Vec::new(),
            cell: 0,
            signal: 0,
            observation: Token::default(),
            next_id: 1,
        }
    }

    fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    pub(super) fn register(&mut self, how: u8) -> Vec<u8> {
        // as a device does that starts anew
        self.next_id = 1;
        let id = self.take_id();
        self.registering = Some(id);
        let lifetime = ["lt=60", "lt=3600", "lt=86400", "lt=0"][usize::from(how >> 1 & 3)];
        let builder = MessageBuilder::new(Kind::Confirmable, Code::POST, id, Token::new(b"r"))
            .path("rd")
            .query(&format!("ep={}", self.name))
            .query(lifetime);
        let builder = match how & 1 {
            1 => builder.query("b=UQ"),
            _ => builder,
        };
        let links = match how >> 3 & 3 {
            1 => "</3/0>,</4/0>,</19/0>,</19/1>",
            3 => "</a>;rt=\"oma.lwm2m\",</a/3/0>,</a/4/0>,</a/5/0>",
            _ => return builder.build(),
        };
        builder
            .content_format(ContentFormat::LINK_FORMAT)
            .payload(links.into())
            .build()
    }

    /// An update (POST) or the end (DELETE) of its registration.
    pub(super) fn about_registration(&mut self, code: Code) -> Vec<u8> {
        MessageBuilder::new(Kind::Confirmable, code, self.take_id(), Token::new(b"u"))
            .path("rd")
            .path(&self.location)
            .build()
    }

    pub(super) fn notification(&mut self, payload: &[u8]) -> Vec<u8> {
        let id = self.take_id();
        MessageBuilder::new(Kind::Confirmable, Code::CONTENT, id, self.observation)
            .observe(id.into())
            .content_format(ContentFormat::OCTET_STREAM)
            .payload(payload.to_vec())
            .build()
    }

    /// What it sends in answer to `request`, one datagram after the other.
    pub(super) fn answers(&mut self, request: &Message, how: Option<Answer>) -> VecDeque<Vec<u8>> {
        let id = request.message_id();
        let with_code = |code| MessageBuilder::response(request, code, 0);
        let Some(how) = how else {
            return self.right_answers(request);
        };
        match how {
            Answer::Acknowledge => [empty_ack(id).to_vec()].into(),
            Answer::Reject => [reset(id).to_vec()].into(),
            Answer::NotFound => [with_code(Code::NOT_FOUND).build()].into(),
            Answer::Nothing => [with_code(Code::CONTENT).build()].into(),
            Answer::Lost => VecDeque::new(),
            Answer::Separate => [self.separate(request)].into(),
            Answer::Late => [empty_ack(id).to_vec(), self.separate(request)].into(),
            Answer::Block => {
                let asked = request.block2().map(Block::decode);
                let asked = asked.and_then(Result::ok).unwrap_or(Block {
                    number: 0,
                    more: false,
                    szx: 0,
                });
                let body = self.coverage();
                let Some((part, block)) = slice(&body, asked) else {
                    return [with_code(Code::BAD_OPTION).build()].into();
                };
                let answer = with_code(Code::CONTENT)
                    .content_format(SENML_JSON)
                    .block2(block.encode())
                    .payload(part.to_vec());
                [answer.build()].into()
            }
        }
    }

    fn right_answers(&mut self, request: &Message) -> VecDeque<Vec<u8>> {
        let with_code = |code| MessageBuilder::response(request, code, 0);
        match request.code() {
            Code::GET if request.observe() == Some(0) => {
                self.observation = request.token();
                [with_code(Code::CONTENT).observe(1).build()].into()
            }
            Code::GET => {
                let answer = with_code(Code::CONTENT)
                    .content_format(SENML_JSON)
                    .payload(self.coverage());
                [answer.build()].into()
            }
            // attributes
            Code::PUT if request.payload().is_empty() => [with_code(Code::CHANGED).build()].into(),
            Code::PUT => {
                let mut datagrams = VecDeque::from([with_code(Code::CHANGED).build()]);
                let message = PlatformMessage::decode(request.payload()).expect("sends valid PCP");
                for reply in replies(&message) {
                    let mut buffer = [0; 64];
                    let frame = reply.encode(&mut buffer).expect("there is room");
                    datagrams.push_back(self.notification(frame));
                }
                datagrams
            }
            _ => [reset(request.message_id()).to_vec()].into(), // a ping
        }
    }

    /// The right response to a read, in a message of its own.
    fn separate(&mut self, request: &Message) -> Vec<u8> {
        let id = self.take_id();
        MessageBuilder::new(Kind::Confirmable, Code::CONTENT, id, request.token())
            .content_format(SENML_JSON)
            .payload(self.coverage())
            .build()
    }

    fn coverage(&self) -> Vec<u8> {
        let mut records = vec![r#"{"bn":"/4/0/"}"#.to_owned()];
        let mut add = |id: u16, value: i32| records.push(format!(r#"{{"n":"{id}","v":{value}}}"#));
        if self.cell < 3 {
            add(8, self.cell.into());
        }
        if let Some((rsrp, sinr)) = SIGNALS.get(usize::from(self.signal)) {
            add(2, *rsrp);
            add(11, *sinr);
        }
        format!("[{}]", records.join(",")).into_bytes()
    }
}

fn replies(message: &PlatformMessage<'_>) -> Vec<DeviceMessage<'static>> {
    let result = ResultCode::SUCCESS;
    let asks_for = |segment| DeviceMessage::SegmentRequest {
        version: target(),
        segment,
    };
    match message {
        PlatformMessage::VersionQuery => vec![DeviceMessage::VersionResponse {
            result,
            version: Version::new("V1").ok(),
        }],
        PlatformMessage::NewVersion { .. } => {
            vec![DeviceMessage::NotificationResponse { result }, asks_for(0)]
        }
        PlatformMessage::SegmentResponse {
            segment: Some(number),
            result: ResultCode::SUCCESS,
            ..
        } => vec![match number + 1 {
            next if next < SEGMENTS => asks_for(next),
            _ => DeviceMessage::DownloadReport { status: result },
        }],
        PlatformMessage::Execute => vec![DeviceMessage::ExecuteResponse { result }],
        _ => Vec::new(),
    }
}
