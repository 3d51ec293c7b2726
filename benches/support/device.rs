//! A device that costs little: what it says to a server's questions, without timers and without memory.
//!
//! Its CoAP is the simulator's, which shares nothing with the server.

use pcp::{DeviceMessage, PlatformMessage, ResultCode, Version};
use sim::{
    coap::{Code, Message, MessageType, Token, Writer, option},
    content::ContentFormat,
};

const LINK_FORMAT: u32 = 40;
const OCTET_STREAM: u32 = 42;
const LINKS: &str =
    r#"</>;rt="oma.lwm2m";ct=11542,</1/0>,</3/0>,</4/0>,</5/0>,</6/0>,</19/0>,</19/1>"#;
/// Good coverage: object 4's RSRP and SINR.
const RSRP_DBM: i64 = -90;
const SINR_DB: i64 = 10;
const NB_IOT: i64 = 7;
/// Every this many segments the whole frame is checked.
const CHECKED_EVERY: u16 = 256;

/// What runs on a device before its upgrade.
pub(crate) const RUNS: &str = "V1";
/// What it is upgraded to.
pub(crate) const TARGET: &str = "V2";

/// How far a device has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Off,
    Registering,
    Registered,
    /// It has said that it takes the new version.
    Downloading,
}

/// One device. There may be a million.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) stage: Stage,
    /// Counts its messages.
    id: u16,
    /// Of the observation of its uplink.
    token: Token,
    /// The last segment of its registration's path.
    location: Box<[u8]>,
}

/// What a datagram from the server was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Registered,
    /// The new version was offered for the first time, and taken.
    Offered,
    Segment(u16),
    /// Anything else that happens on the way.
    Other,
}

impl Device {
    pub(crate) fn new(index: u32) -> Self {
        Self {
            stage: Stage::Off,
            // any number will do, but for a million devices to have the same one
            id: (index.wrapping_mul(0x9E37_79B1) >> 16) as u16,
            token: Token::default(),
            location: Box::default(),
        }
    }

    fn take_id(&mut self) -> u16 {
        self.id = self.id.wrapping_add(1);
        self.id
    }

    /// POST /rd. Said again it is the same message.
    pub(crate) fn register(&mut self, endpoint: &str) -> Vec<u8> {
        if self.stage != Stage::Registering {
            self.stage = Stage::Registering;
            self.take_id();
        }
        let token = token(self.id);
        Writer::new(MessageType::Confirmable, Code::POST, self.id, token)
            .option(option::URI_PATH, b"rd")
            .uint(option::CONTENT_FORMAT, LINK_FORMAT)
            .option(option::URI_QUERY, format!("ep={endpoint}").as_bytes())
            .option(option::URI_QUERY, b"lt=86400")
            .option(option::URI_QUERY, b"lwm2m=1.1")
            .option(option::URI_QUERY, b"b=UQ")
            .payload(LINKS.as_bytes())
    }

    /// POST /rd/…: the registration's update, which also tells that the device is awake.
    pub(crate) fn update(&mut self) -> Vec<u8> {
        let id = self.take_id();
        Writer::new(MessageType::Confirmable, Code::POST, id, token(id))
            .option(option::URI_PATH, b"rd")
            .option(option::URI_PATH, &self.location)
            .finish()
    }

    /// PCP 21 in a confirmable notification of /19/0/0.
    pub(crate) fn request_segment(&mut self, segment: u16) -> Vec<u8> {
        let version = Version::new(TARGET).unwrap();
        self.notify(&DeviceMessage::SegmentRequest { version, segment })
    }

    fn notify(&mut self, message: &DeviceMessage<'_>) -> Vec<u8> {
        let mut buffer = [0; 32];
        let frame = message.encode(&mut buffer).unwrap();
        let id = self.take_id();
        Writer::new(MessageType::Confirmable, Code::CONTENT, id, self.token)
            // always as long as this: datagrams of one kind have one size
            .uint(option::OBSERVE, 0x0001_0000 | u32::from(id))
            .uint(option::CONTENT_FORMAT, OCTET_STREAM)
            .payload(frame)
    }

    /// Takes a datagram, and hands what is said to it to `say`.
    pub(crate) fn take(&mut self, cell: u32, bytes: &[u8], mut say: impl FnMut(&[u8])) -> Heard {
        let Ok(message) = Message::parse(bytes) else {
            return Heard::Other;
        };
        match (message.message_type, message.code) {
            (MessageType::Confirmable, Code::EMPTY) => {
                say(&Writer::empty(MessageType::Reset, message.id));
            }
            (MessageType::Confirmable, Code::PUT) => {
                let (id, token) = (message.id, message.token);
                say(&Writer::new(MessageType::Acknowledgement, Code::CHANGED, id, token).finish());
                return self.frame(message.payload, say);
            }
            (MessageType::Confirmable, Code::GET) => say(&self.answer(cell, &message)),
            (MessageType::Acknowledgement, Code::CREATED) if self.stage == Stage::Registering => {
                self.location = message
                    .values(option::LOCATION_PATH)
                    .last()
                    .unwrap_or_default()
                    .into();
                self.stage = Stage::Registered;
                return Heard::Registered;
            }
            _ => {}
        }
        Heard::Other
    }

    /// PCP from the server.
    fn frame(&mut self, frame: &[u8], mut say: impl FnMut(&[u8])) -> Heard {
        // the short way, because it is gone thousands of times a second: code 21, success, number, content
        if let [0xFF, 0xFE, _, 21, _, _, _, _, 0, high, low, _, ..] = *frame {
            let segment = u16::from_be_bytes([high, low]);
            if segment.is_multiple_of(CHECKED_EVERY) {
                PlatformMessage::decode(frame).unwrap();
            }
            return Heard::Segment(segment);
        }
        match PlatformMessage::decode(frame) {
            Ok(PlatformMessage::VersionQuery) => {
                let version = Version::new(RUNS).unwrap();
                say(&self.notify(&DeviceMessage::VersionResponse {
                    result: ResultCode::SUCCESS,
                    version: Some(version),
                }));
                Heard::Other
            }
            Ok(PlatformMessage::NewVersion { .. }) => {
                let before = std::mem::replace(&mut self.stage, Stage::Downloading);
                say(&self.notify(&DeviceMessage::NotificationResponse {
                    result: ResultCode::SUCCESS,
                }));
                if before == Stage::Downloading {
                    Heard::Other
                } else {
                    Heard::Offered
                }
            }
            _ => Heard::Other,
        }
    }

    /// The answer to a GET: of the observation of /19/0/0, or of object 4 or a resource of it.
    fn answer(&mut self, cell: u32, request: &Message<'_>) -> Vec<u8> {
        let path: Vec<&[u8]> = request.values(option::URI_PATH).collect();
        let begin = |code| {
            Writer::new(
                MessageType::Acknowledgement,
                code,
                request.id,
                request.token,
            )
        };
        match path[..] {
            [b"19", b"0", b"0"] => {
                self.token = request.token;
                begin(Code::CONTENT)
                    .uint(option::OBSERVE, 0x0001_0000)
                    .uint(option::CONTENT_FORMAT, OCTET_STREAM)
                    .finish()
            }
            [b"4", b"0", ref resource @ ..] => {
                let values = [(0, NB_IOT), (2, RSRP_DBM), (8, cell.into()), (11, SINR_DB)];
                let asked: Vec<(u16, i64)> = (values.into_iter())
                    .filter(|(id, _)| {
                        (resource.first()).is_none_or(|asked| *asked == id.to_string().as_bytes())
                    })
                    .collect();
                let content = ContentFormat::Tlv.encode(4, 0, &asked).unwrap();
                begin(Code::CONTENT)
                    .uint(option::CONTENT_FORMAT, ContentFormat::Tlv.number())
                    .payload(&content)
            }
            _ => begin(Code::NOT_FOUND).finish(),
        }
    }
}

fn token(id: u16) -> Token {
    let [high, low] = id.to_be_bytes();
    // two bytes of the message's number and two more: as long as tokens usually are
    Token::new(&[high, low, 0xC3, 0x5A]).unwrap()
}
