//! A server that is just good enough.

use std::net::SocketAddr;

use pcp::{DeviceMessage, PlatformMessage, ResultCode, Version};
use sim::coap::{Block, Code, Message, MessageType, Token, Writer, option};
use tokio::net::UdpSocket;

pub(crate) const PACKAGE: &[u8] = &[0x5A; 1200];

const SEGMENT_SIZE: u16 = 500;

const FORBIDDEN: Code = Code(0x83); // 4.03

/// Offers V2 to whoever it observes, and holds no state: every answer follows from the message.
#[derive(Default)]
pub(crate) struct Server {
    next_id: u16,
    /// Where it tells devices with object 5 to fetch the package; without it devices are taken to have PCP.
    pub(crate) uri: Option<String>,
}

impl Server {
    /// Serves over plain UDP.
    pub(crate) async fn start() -> SocketAddr {
        Self::default().run(|_| None).await
    }

    /// The same, of devices with object 5.
    pub(crate) async fn start_with_object() -> SocketAddr {
        Self::default()
            .run(|at| Some(format!("coap://{at}/p/package")))
            .await
    }

    async fn run(mut self, uri: impl FnOnce(SocketAddr) -> Option<String>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        self.uri = uri(address);
        tokio::spawn(async move {
            let mut server = self;
            let mut buf = [0; 1500];
            loop {
                let (len, from) = socket.recv_from(&mut buf).await.unwrap();
                for reply in server.serve(&buf[..len], None) {
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        address
    }

    /// What is sent back. A client whose identity is known registers under that name or not at all.
    pub(crate) fn serve(&mut self, datagram: &[u8], identity: Option<&str>) -> Vec<Vec<u8>> {
        let message = Message::parse(datagram).unwrap();
        match (message.message_type, message.code) {
            (MessageType::Confirmable, Code::POST) => {
                let (id, token) = (message.id, message.token);
                let reply = |code| Writer::new(MessageType::Acknowledgement, code, id, token);
                let claimed = format!("ep={}", identity.unwrap_or_default());
                let mut queries = message.values(option::URI_QUERY);
                if identity.is_some() && !queries.any(|query| query == claimed.as_bytes()) {
                    return vec![reply(FORBIDDEN).finish()];
                }
                let created = reply(Code::CREATED)
                    .option(option::LOCATION_PATH, b"rd")
                    .option(option::LOCATION_PATH, b"1")
                    .finish();
                if self.uri.is_some() {
                    let observe = self.request(Code::GET, &["5", "0", "3"], Some(0)).finish();
                    let read = self.request(Code::GET, &["3", "0", "3"], None).finish();
                    return vec![created, observe, read];
                }
                let observe = self.request(Code::GET, &["19", "0", "0"], Some(0)).finish();
                vec![created, observe]
            }
            (MessageType::Confirmable, Code::GET) => vec![block(&message)],
            _ if self.uri.is_some() => self.serve_object(&message),
            // The observation is confirmed.
            (MessageType::Acknowledgement, Code::CONTENT) => {
                vec![self.write(PlatformMessage::NewVersion {
                    version: Version::new("V2").unwrap(),
                    segment_size: SEGMENT_SIZE,
                    segment_count: 3,
                    check_code: pcp::checksum(PACKAGE),
                })]
            }
            (MessageType::Confirmable, Code::CONTENT) => {
                let mut replies = vec![Writer::empty(MessageType::Acknowledgement, message.id)];
                replies.extend(self.answer(message.payload));
                replies
            }
            _ => Vec::new(),
        }
    }

    /// What a device tells of itself and of object 5, as TLV.
    fn serve_object(&mut self, message: &Message<'_>) -> Vec<Vec<u8>> {
        let mut replies = Vec::new();
        if message.message_type == MessageType::Confirmable {
            replies.push(Writer::empty(MessageType::Acknowledgement, message.id));
        }
        match message.payload {
            [0xC2, 3, b'V', b'1'] => {
                let uri = self.uri.clone().unwrap_or_default();
                let write = self.request(Code::PUT, &["5", "0", "1"], None);
                replies.push(write.payload(uri.as_bytes()));
            }
            [0xC1, 3, 2] => replies.push(self.request(Code::POST, &["5", "0", "2"], None).finish()),
            _ => {}
        }
        replies
    }

    fn answer(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let result = ResultCode::SUCCESS;
        match DeviceMessage::decode(frame).unwrap() {
            DeviceMessage::SegmentRequest { segment, .. } => {
                let data = PACKAGE
                    .chunks(usize::from(SEGMENT_SIZE))
                    .nth(usize::from(segment))
                    .unwrap();
                vec![self.write(PlatformMessage::SegmentResponse {
                    result,
                    segment: Some(segment),
                    data,
                })]
            }
            DeviceMessage::DownloadReport { .. } => vec![
                self.write(PlatformMessage::DownloadReportResponse { result }),
                self.write(PlatformMessage::Execute),
            ],
            DeviceMessage::UpgradeReport { .. } => {
                vec![self.write(PlatformMessage::UpgradeReportResponse { result })]
            }
            _ => Vec::new(),
        }
    }

    fn write(&mut self, message: PlatformMessage<'_>) -> Vec<u8> {
        let mut buf = [0; 600];
        let frame = message.encode(&mut buf).unwrap();
        self.request(Code::PUT, &["19", "1", "0"], None)
            .payload(frame)
    }

    fn request(&mut self, code: Code, path: &[&str], observe: Option<u32>) -> Writer {
        self.next_id = self.next_id.wrapping_add(1);
        let token = Token::new(b"t").unwrap();
        let mut writer = Writer::new(MessageType::Confirmable, code, self.next_id, token);
        if let Some(observe) = observe {
            writer = writer.uint(option::OBSERVE, observe);
        }
        path.iter().fold(writer, |writer, segment| {
            writer.option(option::URI_PATH, segment.as_bytes())
        })
    }
}

/// A block of the package.
fn block(request: &Message<'_>) -> Vec<u8> {
    let asked = request.uint(option::BLOCK2).and_then(Block::from_value);
    let (size, offset) = asked.map_or((256, 0), |block| (block.size(), block.offset()));
    let rest = &PACKAGE[usize::try_from(offset).unwrap()..];
    let data = &rest[..rest.len().min(size.into())];
    let block = Block::at(offset, size, data.len() < rest.len()).unwrap();
    let kind = MessageType::Acknowledgement;
    Writer::new(kind, Code::CONTENT, request.id, request.token)
        .option(option::ETAG, b"etag")
        .uint(option::BLOCK2, block.value())
        .payload(data)
}
