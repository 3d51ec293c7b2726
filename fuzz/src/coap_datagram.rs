//! A CoAP datagram, and the registration that it may carry.

use cellwise::{
    coap::{
        Block, Code, Kind, MAX_DATAGRAM_LEN, Malformed, Message, MessageBuilder, Token,
        put_downlink, reset, slice,
    },
    lwm2m::{
        MAX_ENDPOINT_LEN, MAX_LIFETIME_S, MAX_LINKS, MAX_LINKS_LEN, Objects, RegisterRequest,
        UpdateRequest,
    },
};

/// Reads `input`, and builds again what could be read.
pub fn run(input: &[u8]) {
    match Message::parse(input) {
        Ok(message) => {
            assert!((4..=MAX_DATAGRAM_LEN).contains(&input.len()));
            comes_back(&message);
            blocks(&message);
            registration(&message);
            let _ = (message.wants_proxy(), message.unknown_critical_option());
        }
        Err(malformed) => refused(input, malformed),
    }
}

/// RFC 7252 §3, §4.2 and §4.3: a Reset for what is Confirmable, silence for everything else.
fn refused(input: &[u8], malformed: Malformed) {
    let expected = match *input {
        [first, _, high, low, ..] if first >> 4 == 0b0100 => {
            Some(reset(u16::from_be_bytes([high, low])))
        }
        _ => None,
    };
    assert_eq!(malformed.reply, expected, "{}", malformed.reason);
}

/// What a message says that is built from another's parts.
fn comes_back(message: &Message) {
    let token = message.token();
    assert_eq!(Token::new(token.as_bytes()), token);
    let (code, id) = (message.code(), message.message_id());
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let (path, location) = (message.path(), message.location());
    let queries: Vec<_> = message.queries().collect();
    let mut builder = MessageBuilder::new(message.kind(), code, id, token);
    for segment in path.iter().copied().filter_map(text) {
        builder = builder.path(segment);
    }
    for query in queries.iter().copied().filter_map(text) {
        builder = builder.query(query);
    }
    for segment in location.iter().copied().filter_map(text) {
        builder = builder.location(segment);
    }
    if let Some(value) = message.observe() {
        builder = builder.observe(value);
    }
    if let Some(format) = message.content_format() {
        builder = builder.content_format(format);
    }
    if let Some(value) = message.block1() {
        builder = builder.block1(value);
    }
    if let Some(value) = message.block2() {
        builder = builder.block2(value);
    }
    let built = builder.payload(message.payload().to_vec()).build();
    let again = Message::parse(&built).expect("what was read can be built");
    assert_eq!(
        (again.kind(), again.code(), again.message_id()),
        (message.kind(), code, id)
    );
    assert_eq!(again.token(), token);
    assert_eq!(again.payload(), message.payload());
    for (built, read) in [
        (again.path(), path),
        (again.queries().collect(), queries),
        (again.location(), location),
    ] {
        assert!(
            built
                .into_iter()
                .eq(read.into_iter().filter(|part| text(part).is_some()))
        );
    }
    assert_eq!(again.observe(), message.observe());
    assert_eq!(again.content_format(), message.content_format());
    assert_eq!(again.block1(), message.block1());
    assert_eq!(again.block2(), message.block2());
    downlink(message);
}

/// The way that is written by hand, for segments.
fn downlink(message: &Message) {
    let payload = message.payload();
    let built = put_downlink(
        message.message_id(),
        message.token(),
        payload.to_vec().into(),
    );
    if payload.is_empty() || built.len() > MAX_DATAGRAM_LEN {
        return;
    }
    let built = built.to_bytes();
    let put = Message::parse(&built).expect("a PUT is a message");
    assert_eq!((put.kind(), put.code()), (Kind::Confirmable, Code::PUT));
    assert_eq!(put.token(), message.token());
    assert_eq!(put.payload(), payload);
}

fn blocks(message: &Message) {
    for value in [message.block1(), message.block2()].into_iter().flatten() {
        let Ok(block) = Block::decode(value) else {
            continue;
        };
        assert_eq!(block.encode(), value);
        if let Some((part, sent)) = slice(message.payload(), block) {
            assert!(part.len() <= block.size());
            assert_eq!((sent.number, sent.szx), (block.number, block.szx));
            assert!(!sent.more || part.len() == block.size());
        }
    }
}

/// What is kept of a list of links says the same when it is read again, as far as there was room.
fn announced(objects: &Objects) {
    let links = objects.links();
    assert!(links.len() <= MAX_LINKS_LEN);
    let again = Objects::parse(links.as_bytes());
    assert_eq!(again.links(), links);
    assert!(
        again
            .paths()
            .eq(objects.paths().take(again.paths().count()))
    );
    let root = objects.root().unwrap_or("/");
    assert!(root.starts_with('/') && root.bytes().all(|byte| byte.is_ascii_graphic()));
}

/// Whatever the message is: its queries and payload as a registration and as an update.
fn registration(message: &Message) {
    if let Ok(request) = RegisterRequest::parse(message.queries(), message.payload()) {
        assert!((1..=MAX_ENDPOINT_LEN).contains(&request.endpoint.len()));
        // it stands in a URL's path as it is, and in a query
        let unfit = |byte: u8| !byte.is_ascii_graphic() || b"/?#&%\"<>[]\\^`{|}".contains(&byte);
        assert!(!request.endpoint.bytes().any(unfit));
        assert!(!matches!(&*request.endpoint, "." | ".."));
        assert!((1..=MAX_LIFETIME_S).contains(&request.lifetime_s));
        assert!(request.objects.paths().count() <= MAX_LINKS);
        announced(&request.objects);
    }
    if let Ok(request) = UpdateRequest::parse(message.queries(), message.payload()) {
        let lifetime = request.lifetime_s.unwrap_or(1);
        assert!((1..=MAX_LIFETIME_S).contains(&lifetime));
        assert!(request.objects.is_none_or(|objects| !objects.is_empty()));
    }
}
