use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Request {
    let (request, len) = parse(bytes, "/ota").unwrap().unwrap();
    assert_eq!(len, bytes.len());
    request
}

fn plain() -> Request {
    Request {
        method: Method::Get,
        target: Target::Package(PackageId(7), Some("TOKEN".into())),
        wanted: Wanted::Whole,
        if_range: None,
        crc: None,
        keep_alive: true,
        http_1_0: false,
    }
}

#[test]
fn reads_what_the_c_client_writes() {
    // a CR LF before the request, no space after the colon, bare LF, a Host without a port
    let bytes =
        b"\r\nGET /packages/7/a.bin HTTP/1.1\nHost:10.0.0.1\nAuthorization:Bearer TOKEN\n\n";
    assert_eq!(read(bytes), plain());
}

#[test]
fn reads_what_other_clients_write() {
    let bytes = b"GET /packages/7/a.bin HTTP/1.1\r\nHost: u.example:443\r\nauthorization: bearer  TOKEN\r\n\
        Range: bytes=10-\r\nIf-Range: \"e\"\r\nCrc16-Method: MODBUS\r\nConnection: close, TE\r\n\r\n";
    let expected = Request {
        wanted: Wanted::From(10, None),
        if_range: Some("\"e\"".into()),
        crc: Some(CrcKind::Modbus),
        keep_alive: false,
        ..plain()
    };
    assert_eq!(read(bytes), expected);
    let old = read(b"HEAD /t/TOKEN/a.bin HTTP/1.0\r\n\r\n");
    let expected = Request {
        method: Method::Head,
        target: Target::Token("TOKEN".into()),
        keep_alive: false,
        http_1_0: true,
        ..plain()
    };
    assert_eq!(old, expected);
    assert!(read(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
}

#[test]
fn a_target_is_a_package_a_token_or_nothing() {
    let token = || Target::Token("T".into());
    for (path, expected) in [
        ("/t/T/a.bin", token()),
        ("/t/T", token()),
        ("/ota/t/T/a.bin", token()),
        ("http://u.example:80/t/T/a.bin?x=/y", token()),
        ("https://u.example/ota/t/T/a.bin#f", token()),
        ("/packages/12/a.bin", Target::Package(PackageId(12), None)),
        ("/packages/+12/a.bin", Target::Nothing),
        ("/packages/-1/a.bin", Target::Nothing),
        ("/packages/99999999999999999999/a", Target::Nothing),
        ("/packages//a", Target::Nothing),
        ("/t//a", Target::Nothing),
        ("/t/T/a/b", Target::Nothing),
        ("/t/T/", Target::Nothing),
        ("/otat/T", Target::Nothing),
        ("http://u.example", Target::Nothing),
        ("t/T/a", Target::Nothing),
        ("/", Target::Nothing),
        ("*", Target::Nothing),
    ] {
        assert_eq!(target(path, "/ota", None), expected, "{path}");
    }
    assert_eq!(target("/t/T", "", None), token());
}

#[test]
fn several_requests_are_read_one_by_one() {
    let one = b"GET /t/A/x HTTP/1.1\r\n\r\n";
    let two = [one.as_slice(), b"GET /t/B/x HTTP/1.1\n\n"].concat();
    let (request, len) = parse(&two, "").unwrap().unwrap();
    assert_eq!(
        (request.target, len),
        (Target::Token("A".into()), one.len())
    );
    let (request, _) = parse(&two[len..], "").unwrap().unwrap();
    assert_eq!(request.target, Target::Token("B".into()));
}

#[test]
fn content_is_refused() {
    for line in [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "content-length: +0",
    ] {
        let bytes = format!("GET / HTTP/1.1\r\n{line}\r\n\r\n");
        assert_eq!(parse(bytes.as_bytes(), ""), Err(HeadError::Body), "{line}");
    }
    assert!(parse(b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "").is_ok());
    assert_eq!(read(b"POST / HTTP/1.1\r\n\r\n").method, Method::Other);
}

#[test]
fn a_head_is_bounded() {
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_HEAD_BYTES));
    assert_eq!(parse(long.as_bytes(), ""), Err(HeadError::TooLarge));
    let open = "GET / HTTP/1.1\r\n".to_owned() + &"a: b\r\n".repeat(MAX_HEADERS + 1);
    assert_eq!(parse(open.as_bytes(), ""), Err(HeadError::TooLarge));
    assert_eq!(
        parse(&[b'\n'; MAX_HEAD_BYTES], ""),
        Err(HeadError::TooLarge)
    );
    for bad in [
        &b"\x16\x03\x01\x02\0"[..],
        b"GET / HTTP/2\r\n\r\n",
        b"G\0T / HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(parse(bad, ""), Err(HeadError::Malformed));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes, "/ota");
    }

    #[test]
    fn a_part_of_a_request_is_waited_for(cut in 0_usize..90) {
        let whole = b"GET /packages/7/a.bin HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer TOKEN\r\nRange: bytes=1-2\r\n\r\n";
        prop_assert_eq!(parse(&whole[..cut], ""), Ok(None));
    }
}
