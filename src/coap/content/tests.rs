use proptest::prelude::*;

use super::*;
use crate::coap::MessageBuilder;
use crate::coap::Token;

const ETAG: [u8; ETAG_LEN] = [1, 2, 3, 4, 5, 6];

fn block(number: u32, szx: u8) -> Block {
    Block {
        number,
        more: false,
        szx,
    }
}

fn get(kind: Kind, block2: Option<u32>) -> Vec<u8> {
    let token = Token::new(b"12345678");
    let builder = MessageBuilder::new(kind, Code::GET, 7, token).path("p");
    let builder = builder.path("name").query("a=b").observe(0);
    match block2 {
        Some(value) => builder.block2(value).build(),
        None => builder.build(),
    }
}

/// The answer, and where its body lies in memory.
fn answer(request: &[u8], content: &Bytes, size: u16) -> (Vec<u8>, Result<Part, Code>) {
    let message = Message::parse(request).unwrap();
    let request = ContentRequest::below(b"p", &message).unwrap();
    assert_eq!(request.name, b"name");
    let part = (request.asked).and_then(|asked| Part::of(content.len(), asked, size));
    let Ok(found) = part else {
        return (Vec::new(), part);
    };
    let datagram = content_response(&message, 99, (content, ETAG), found);
    assert_eq!(
        datagram.parts()[1].as_ptr(),
        content[found.start..].as_ptr(),
        "the body is shared"
    );
    (datagram.to_bytes().into_owned(), part)
}

#[test]
fn an_answer_has_all_options_and_the_token_and_shares_the_bytes() {
    let content = Bytes::from(vec![7; 70_000]);
    for (kind, answers, id) in [
        (Kind::Confirmable, Kind::Acknowledgement, 7),
        (Kind::NonConfirmable, Kind::NonConfirmable, 99),
    ] {
        let request = get(kind, Some(block(3, 6).encode()));
        let (bytes, _) = answer(&request, &content, 512);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.kind(), message.message_id()), (answers, id));
        assert_eq!(message.code(), Code::CONTENT);
        assert_eq!(message.token(), Token::new(b"12345678"));
        assert_eq!(message.content_format(), Some(ContentFormat::OCTET_STREAM));
        let sent = Block::decode(message.block2().unwrap()).unwrap();
        assert_eq!((sent.number, sent.more, sent.szx), (3, true, 6));
        let etags: Vec<_> = message.values(CoapOption::ETag).collect();
        assert_eq!(etags, [ETAG]);
        assert_eq!(message.uint(CoapOption::Size2), Some(70_000));
        assert_eq!(message.payload(), [7; 1_024]);
    }
}

/// A head that did not fit would be copied with the body.
#[test]
fn the_longest_head_fits() {
    // not a byte of it is touched
    let content = Bytes::from(vec![0; 1 << 30]);
    for number in [0, 1, (1 << 20) - 1] {
        let request = get(Kind::Confirmable, Some(block(number, 6).encode()));
        let (bytes, part) = answer(&request, &content, 512);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.payload().len(), 1_024);
        assert_eq!(message.uint(CoapOption::Size2), Some(1 << 30));
        assert_eq!(part.unwrap().block.more, number < (1 << 20) - 1);
    }
}

#[test]
fn who_names_no_block_gets_the_size_that_is_set_or_all_of_it() {
    let content = Bytes::from(vec![7; 300]);
    let request = get(Kind::Confirmable, None);
    for (size, szx) in [(256, 4), (299, 4), (64, 2), (16, 0), (0, 0)] {
        let (bytes, _) = answer(&request, &content, size);
        let message = Message::parse(&bytes).unwrap();
        let sent = Block::decode(message.block2().unwrap()).unwrap();
        assert_eq!((sent.number, sent.more, sent.szx), (0, true, szx), "{size}");
        assert_eq!(message.payload().len(), sent.size());
    }
    // 300 bytes are no size of a block, so that they are cut
    let (bytes, _) = answer(&request, &content, 300);
    assert!(Message::parse(&bytes).unwrap().block2().is_some());
    let (bytes, _) = answer(&request, &content, 512);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.block2(), None);
    assert_eq!(message.uint(CoapOption::Size2), Some(300));
    assert_eq!(message.payload(), [7; 300]);
    // who asks for blocks is told that there is one
    let request = get(Kind::Confirmable, Some(block(0, 5).encode()));
    let (bytes, _) = answer(&request, &content, 512);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.block2(), Some(block(0, 5).encode()));
    // the numbers of blocks end at 2^20
    let part = Part::of(1 << 30, None, 512).unwrap();
    assert_eq!((part.block.szx, part.end), (6, 1_024));
}

#[test]
fn what_cannot_be_answered_is_told() {
    let content = Bytes::from(vec![7; 300]);
    let refused = |request: &[u8]| answer(request, &content, 512).1.unwrap_err();
    let of = |value| refused(&get(Kind::Confirmable, Some(value)));
    assert_eq!(of(7), Code::BAD_REQUEST);
    assert_eq!(of(block(5, 2).encode()), Code::BAD_OPTION);
    assert_eq!(of(block((1 << 20) - 1, 6).encode()), Code::BAD_OPTION);
    let build = || {
        let token = Token::new(b"1");
        let builder = MessageBuilder::new(Kind::Confirmable, Code::GET, 7, token);
        builder.path("p").path("name")
    };
    let accept = build().accept(ContentFormat::LINK_FORMAT);
    assert_eq!(refused(&accept.build()), Code::NOT_ACCEPTABLE);
    let accept = build().accept(ContentFormat::OCTET_STREAM);
    assert!(answer(&accept.build(), &content, 512).1.is_ok());
    let mut critical = build().build();
    critical.extend([0xE0, 0, 2]); // 271 above Uri-Path: an even number, elective
    assert!(answer(&critical, &content, 512).1.is_ok());
    critical.extend([0x10]); // the next one
    assert_eq!(refused(&critical), Code::BAD_OPTION);
    let mut proxied = build().build();
    proxied.extend([0xD1, 11, b'x']); // 24 above Uri-Path: Proxy-Uri
    assert_eq!(refused(&proxied), Code::PROXYING_NOT_SUPPORTED);
}

#[test]
fn other_requests_are_none_of_these() {
    let token = Token::new(b"1");
    let build = |kind, code, path: &[&str]| {
        let mut builder = MessageBuilder::new(kind, code, 7, token);
        for segment in path {
            builder = builder.path(segment);
        }
        builder.build()
    };
    for (kind, code, path) in [
        (Kind::Confirmable, Code::POST, &["p", "name"][..]),
        (Kind::Acknowledgement, Code::GET, &["p", "name"]),
        (Kind::Confirmable, Code::GET, &["p"]),
        (Kind::Confirmable, Code::GET, &["rd", "name"]),
        (Kind::Confirmable, Code::GET, &["p", "name", "more"]),
    ] {
        let bytes = build(kind, code, path);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(ContentRequest::below(b"p", &message), None, "{path:?}");
    }
}

proptest! {
    #[test]
    fn blocks_of_any_size_put_together_are_the_content(
        len in 1usize..5_000,
        szx in 0u8..=6,
        size in 0u16..2_000,
        named in any::<bool>(),
    ) {
        let content: Bytes = (0..=250).cycle().take(len).collect::<Vec<u8>>().into();
        let mut got = Vec::new();
        let mut next = named.then(|| block(0, szx));
        loop {
            let request = get(Kind::Confirmable, next.map(Block::encode));
            let (bytes, part) = answer(&request, &content, size);
            let part = part.unwrap();
            let message = Message::parse(&bytes).unwrap();
            prop_assert!(bytes.len() <= 31 + 1_024);
            got.extend_from_slice(message.payload());
            let sent = message.block2().map(|value| Block::decode(value).unwrap());
            let Some(sent) = sent.filter(|sent| sent.more) else {
                break;
            };
            prop_assert_eq!(sent, part.block);
            prop_assert_eq!(message.payload().len(), sent.size());
            next = Some(block(sent.number + 1, sent.szx));
        }
        prop_assert_eq!(&got[..], &content[..]);
        let after = block(u32::try_from(len.div_ceil(16 << szx)).unwrap(), szx);
        prop_assert_eq!(Part::of(len, Some(after), size), Err(Code::BAD_OPTION));
    }
}
