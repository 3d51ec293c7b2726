//! A device, a clock that only the test moves, and a server that registers it, acknowledges what it is notified of, and
//! serves a package by Block2.

use std::collections::BTreeSet;

use pcp::Version;
use sim::{
    Character, Device, DeviceSpec, Image, Port, UpdatesBy,
    coap::{Block, Code, Message, MessageType, Token, Writer, option},
};

pub(crate) const URI: &str = "coap://192.0.2.1:5683/p/AAECAwQFBgcICQoLDA0ODw";

pub(crate) fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

pub(crate) fn package() -> Vec<u8> {
    (0..5_000_u32).map(|i| (i * i % 251) as u8).collect()
}

pub(crate) fn spec(updates_by: UpdatesBy, character: Character) -> DeviceSpec {
    let mut spec = DeviceSpec::new("meter-1", version("V1"));
    spec.updates_by = updates_by;
    spec.object.character = character;
    spec.object.images = [Image::new(version("V2"), &package())].into();
    spec.behaviour.keep_image = true;
    spec
}

/// A message without borrowing it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) port: Port,
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap()
    }

    pub(crate) fn code(&self) -> Code {
        self.message().code
    }

    pub(crate) fn block(&self, number: u16) -> Option<Block> {
        self.message().uint(number).and_then(Block::from_value)
    }

    pub(crate) fn values(&self, number: u16) -> Vec<String> {
        (self.message().values(number))
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    }
}

/// How the server serves a package.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub(crate) content: Vec<u8>,
    pub(crate) etag: Vec<u8>,
    /// The largest blocks that it gives.
    pub(crate) size: u16,
    /// Every so many datagrams of the download are lost, in both directions; 0 for none.
    pub(crate) loses: usize,
    /// It answers with this instead.
    pub(crate) refuses: Option<Code>,
    /// It acknowledges first, and answers in a message of its own.
    pub(crate) separately: bool,
}

pub(crate) struct Field {
    pub(crate) device: Device,
    pub(crate) now_ms: u64,
    pub(crate) serving: Serving,
    pub(crate) registrations: u8,
    pub(crate) address_changes: u32,
    /// Requests for blocks that the device has sent, those that were lost too.
    pub(crate) asked: Vec<Sent>,
    /// What it has notified: the token, and the payload.
    pub(crate) told: Vec<(Vec<u8>, Vec<u8>)>,
    responses: Vec<Sent>,
    carried: usize,
    next_id: u16,
}

impl Field {
    /// A device that has registered.
    pub(crate) fn new(spec: DeviceSpec) -> Self {
        let mut field = Self {
            device: Device::new(spec),
            now_ms: 1_000,
            serving: Serving {
                content: package(),
                etag: b"\x01\x02\x03\x04\x05\x06".to_vec(),
                size: 1024,
                loses: 0,
                refuses: None,
                separately: false,
            },
            registrations: 0,
            address_changes: 0,
            asked: Vec::new(),
            told: Vec::new(),
            responses: Vec::new(),
            carried: 0,
            next_id: 100,
        };
        field.device.start(field.now_ms);
        field.drain();
        assert!(field.device.is_registered());
        field
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
            self.address_changes += u32::from(self.device.take_address_change());
            let Some((port, bytes)) = self.device.poll_transmit_from() else {
                return;
            };
            self.serve(Sent { port, bytes });
        }
    }

    fn serve(&mut self, sent: Sent) {
        let message = sent.message();
        let path: Vec<_> = message.values(option::URI_PATH).collect();
        let reply = |code| {
            let kind = MessageType::Acknowledgement;
            Writer::new(kind, code, message.id, message.token)
        };
        match (message.message_type, message.code, &*path) {
            (MessageType::Confirmable, Code::POST, [b"rd"]) => {
                self.registrations += 1;
                let location = [b'0' + self.registrations];
                let reply = reply(Code::CREATED)
                    .option(option::LOCATION_PATH, b"rd")
                    .option(option::LOCATION_PATH, &location);
                self.give(sent.port, &reply.finish());
            }
            (MessageType::Confirmable, Code::POST, _) => {
                self.give(sent.port, &reply(Code::CHANGED).finish());
            }
            (_, Code::GET, _) => {
                self.asked.push(sent.clone());
                self.serve_block(&sent);
            }
            (MessageType::Confirmable | MessageType::NonConfirmable, Code::CONTENT, _)
                if message.uint(option::OBSERVE).is_some() =>
            {
                (self.told).push((message.token.as_slice().to_vec(), message.payload.to_vec()));
                if message.message_type == MessageType::Confirmable {
                    let empty = Writer::empty(MessageType::Acknowledgement, message.id);
                    self.give(sent.port, &empty);
                }
            }
            _ => self.responses.push(sent),
        }
    }

    fn serve_block(&mut self, sent: &Sent) {
        let request = sent.message();
        if self.is_lost() {
            return;
        }
        let block = sent.block(option::BLOCK2);
        let size = block.map_or(512, Block::size).min(self.serving.size);
        let offset = block.map_or(0, Block::offset);
        let begin = usize::try_from(offset).unwrap();
        let kind = MessageType::Acknowledgement;
        let (kind, id) = if self.serving.separately {
            self.give(sent.port, &Writer::empty(kind, request.id));
            (MessageType::Confirmable, self.take_id())
        } else {
            (kind, request.id)
        };
        let rest = self.serving.content.get(begin..).unwrap_or_default();
        let data = rest[..rest.len().min(size.into())].to_vec();
        let more = rest.len() > data.len();
        let datagram = match self.serving.refuses {
            Some(code) => Writer::new(kind, code, id, request.token).finish(),
            None => Writer::new(kind, Code::CONTENT, id, request.token)
                .option(option::ETAG, &self.serving.etag)
                .uint(
                    option::BLOCK2,
                    Block::at(offset, size, more).unwrap().value(),
                )
                .uint(
                    option::SIZE2,
                    u32::try_from(self.serving.content.len()).unwrap(),
                )
                .payload(&data),
        };
        if !self.is_lost() {
            self.give(sent.port, &datagram);
        }
    }

    fn is_lost(&mut self) -> bool {
        self.carried += 1;
        self.serving.loses > 0 && self.carried.is_multiple_of(self.serving.loses)
    }

    fn give(&mut self, port: Port, datagram: &[u8]) {
        (self.device).handle_datagram_at(self.now_ms, port, datagram);
    }

    pub(crate) const fn take_id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// Asks the device for something; none if it does not answer.
    pub(crate) fn ask(
        &mut self,
        code: Code,
        path: &str,
        finish: impl Fn(Writer) -> Vec<u8>,
    ) -> Option<Sent> {
        self.responses.clear();
        let id = self.take_id();
        let token = Token::new(&id.to_be_bytes()).unwrap();
        self.ask_with(code, path, id, token, finish)
    }

    pub(crate) fn ask_with(
        &mut self,
        code: Code,
        path: &str,
        id: u16,
        token: Token,
        finish: impl Fn(Writer) -> Vec<u8>,
    ) -> Option<Sent> {
        let mut writer = Writer::new(MessageType::Confirmable, code, id, token);
        let observes = path.strip_prefix("observe ");
        if observes.is_some() {
            writer = writer.uint(option::OBSERVE, 0);
        }
        for segment in observes.unwrap_or(path).split('/') {
            writer = writer.option(option::URI_PATH, segment.as_bytes());
        }
        self.give(Port::Main, &finish(writer));
        self.drain();
        let of_it = |sent: &Sent| sent.message().token == token;
        let found = self.responses.iter().position(of_it)?;
        Some(self.responses.remove(found))
    }

    /// Reads a resource as TLV, and returns its value.
    pub(crate) fn read(&mut self, path: &str) -> Option<Vec<u8>> {
        let sent = self.ask(Code::GET, path, Writer::finish)?;
        if sent.code() != Code::CONTENT {
            return None;
        }
        assert_eq!(sent.message().uint(option::CONTENT_FORMAT), Some(11_542));
        let payload = sent.message().payload.to_vec();
        match payload[0] >> 3 & 3 {
            0 => Some(payload[2..].to_vec()),
            _ => Some(payload[3..].to_vec()),
        }
    }

    pub(crate) fn number(&mut self, path: &str) -> Option<u8> {
        match &*self.read(path)? {
            [value] => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn text(&mut self, path: &str) -> Option<String> {
        self.read(path).map(|text| String::from_utf8(text).unwrap())
    }

    pub(crate) fn write(&mut self, path: &str, payload: &[u8]) -> Option<Code> {
        let finish = |writer: Writer| writer.uint(option::CONTENT_FORMAT, 0).payload(payload);
        self.ask(Code::PUT, path, finish).map(|sent| sent.code())
    }

    pub(crate) fn execute(&mut self, path: &str, argument: &str) -> Option<Code> {
        let finish = |writer: Writer| writer.payload(argument.as_bytes());
        self.ask(Code::POST, path, finish).map(|sent| sent.code())
    }

    pub(crate) fn observe(&mut self, path: &str) -> Option<Sent> {
        self.ask(Code::GET, &format!("observe {path}"), Writer::finish)
    }

    /// Writes one block of a package.
    pub(crate) fn push_block(
        &mut self,
        path: &str,
        offset: usize,
        size: u16,
        content: &[u8],
    ) -> Option<Sent> {
        let rest = &content[offset..];
        let data = &rest[..rest.len().min(size.into())];
        let more = rest.len() > data.len();
        let block = Block::at(offset as u64, size, more).unwrap();
        self.ask(Code::PUT, path, |writer| {
            (writer.uint(option::CONTENT_FORMAT, 42))
                .uint(option::BLOCK1, block.value())
                .payload(data)
        })
    }

    /// Pushes a package, in smaller blocks where the device wants them, until it refuses one. Returns the last answer.
    pub(crate) fn push(&mut self, path: &str, size: u16, content: &[u8]) -> Option<Code> {
        let (mut offset, mut size) = (0, size);
        loop {
            let sent = self.push_block(path, offset, size, content)?;
            if sent.code() != Code::CONTINUE {
                return Some(sent.code());
            }
            offset += usize::from(size);
            size = size.min(sent.block(option::BLOCK1).unwrap().size());
        }
    }

    /// Ports from which blocks were asked for, in order of first use.
    pub(crate) fn ports(&self) -> Vec<Port> {
        let ports: BTreeSet<_> = self.asked.iter().map(|sent| sent.port).collect();
        ports.into_iter().collect()
    }
}
