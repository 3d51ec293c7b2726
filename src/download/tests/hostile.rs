//! What no client should send, and what odd ones do.

use super::*;

/// The status of the answer to these bytes, and whether the connection is of use after it; `None` where there is no answer.
fn status_of(world: &World, bytes: &[u8]) -> Option<(u16, bool)> {
    let mut stream = world.connect();
    stream
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    let mut first = [0];
    if stream.peek(&mut first).ok()? == 0 {
        return None;
    }
    let answer = Answer::read(&mut stream, bytes.starts_with(b"HEAD"));
    let goes_on = answer.header("Connection") != Some("close");
    if !goes_on {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    Some((answer.status(), goes_on))
}

#[expect(clippy::too_many_lines, reason = "one request after the other")]
#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_have_one_answer_each() {
    let world = World::with(1_000, None, |config| {
        config.download.failed_attempts_per_minute = 1_000;
        config.download.head_timeout_s = 1;
    })
    .await;
    let url = format!("/t/{TOKEN}/x");
    let many_ranges = (0..500).map(|at| format!("{at}-{at}")).collect::<Vec<_>>();
    let many_headers = "a: b\r\n".repeat(65);
    for (request, expected) in [
        // what small clients do
        (format!("GET http://a{url} HTTP/1.1\r\n\r\n"), (200, true)),
        (
            format!("GET HTTPS://a:1{url} HTTP/1.1\r\n\r\n"),
            (200, true),
        ),
        (format!("\r\n\n\r\nGET {url} HTTP/1.1\n\n"), (200, true)),
        (
            format!("GET {url}?a=b HTTP/1.1\r\nHost:\r\n\r\n"),
            (200, true),
        ),
        (format!("GET {url} HTTP/1.0\r\n\r\n"), (200, false)),
        (
            format!("GET {url} HTTP/1.1\r\nConnection: a, Close\r\n\r\n"),
            (200, false),
        ),
        (
            format!("GET {url} HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
            (200, true),
        ),
        // there is nothing to go on with
        (
            format!("GET {url} HTTP/1.1\r\nExpect: 100-continue\r\n\r\n"),
            (200, true),
        ),
        (
            format!("GET {url} HTTP/1.1\r\nUpgrade: h2c\r\n\r\n"),
            (200, true),
        ),
        // ranges
        (
            format!(
                "GET {url} HTTP/1.1\r\nRange: bytes={}\r\n\r\n",
                many_ranges.join(",")
            ),
            (200, true),
        ),
        (
            format!("GET {url} HTTP/1.1\r\nRange: bytes=0-1\r\nRange: bytes=2-3\r\n\r\n"),
            (200, true),
        ),
        (
            format!(
                "GET {url} HTTP/1.1\r\nRange: bytes={}-\r\n\r\n",
                "9".repeat(400)
            ),
            (416, true),
        ),
        (
            format!("HEAD {url} HTTP/1.1\r\nRange: bytes=5000-\r\n\r\n"),
            (200, true),
        ),
        // content, which would be taken for another request
        (
            format!("GET {url} HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n"),
            (400, false),
        ),
        (
            format!("GET {url} HTTP/1.1\r\nContent-Length: +0\r\n\r\n"),
            (400, false),
        ),
        (
            format!("GET {url} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            (400, false),
        ),
        (
            format!("GET {url} HTTP/1.1\r\ntransfer-encoding : chunked\r\n\r\n"),
            (400, false),
        ),
        // no requests of HTTP/1
        (
            format!("GET {url} HTTP/1.1\r\na: b\r\n c: d\r\n\r\n"),
            (400, false),
        ),
        (format!("GET {url} HTTP/1.1\r\na: \0\r\n\r\n"), (400, false)),
        (format!("GET {url} HTTP/1.1\r\nb\r\n\r\n"), (400, false)),
        (format!("GET {url} HTTP/2.0\r\n\r\n"), (400, false)),
        (format!("GET {url}\r\n\r\n"), (400, false)),
        (format!("GET  {url} HTTP/1.1\r\n\r\n"), (400, false)),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), (400, false)),
        // too large
        (
            format!("GET {url} HTTP/1.1\r\n{many_headers}\r\n"),
            (431, false),
        ),
        (
            format!("GET /{} HTTP/1.1\r\n", "a".repeat(8_192)),
            (431, false),
        ),
        ("\n".repeat(8_192), (431, false)),
        // nothing that is here
        ("OPTIONS * HTTP/1.1\r\n\r\n".to_owned(), (405, false)),
        ("CONNECT a:443 HTTP/1.1\r\n\r\n".to_owned(), (405, false)),
        (format!("get {url} HTTP/1.1\r\n\r\n"), (405, false)),
        (format!("GET /{url} HTTP/1.1\r\n\r\n"), (404, true)),
        ("GET /t/%61/x HTTP/1.1\r\n\r\n".to_owned(), (404, true)),
        (
            format!("GET http://{} HTTP/1.1\r\n\r\n", &url[1..]),
            (404, true),
        ),
        // never comes to its end
        (format!("GET {url} HTTP/1.1\r\nHost: a"), (408, false)),
    ] {
        let answered = status_of(&world, request.as_bytes());
        let told: String = request.chars().take(100).collect();
        assert_eq!(answered, Some(expected), "{told:?}");
    }
    assert_eq!(
        status_of(&world, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\n\n"),
        Some((400, false))
    );
    let figures = world.stop().await;
    assert!(
        figures.contains("\ncellwise_download_requests_malformed_total 16\n"),
        "{figures}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pile_of_requests_is_answered_in_turn() {
    let world = World::new(10_000).await;
    let mut stream = world.connect();
    let requests: Vec<String> = (0..2_000)
        .map(|at| format!("GET /t/{TOKEN}/x HTTP/1.1\r\nRange: bytes={at}-{at}\r\n\r\n"))
        .collect();
    let requests = requests.concat();
    // read and written at once: neither side waits for the other
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(requests.as_bytes()).unwrap());
    for at in 0..2_000 {
        let answer = Answer::read(&mut stream, false);
        assert_eq!(
            (answer.status(), &*answer.body),
            (206, &world.content[at..=at])
        );
    }
    writing.join().unwrap();
    drop(stream);
    assert_eq!(world.await_landing().contiguous_bytes, 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_and_asks_and_reads_nothing_holds_little_up() {
    let world = World::with(1_000_000, None, |config| {
        config.download.idle_timeout_s = 1;
    })
    .await;
    let mut stream = world.connect_narrowly();
    stream
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\nRange: bytes=0-0\r\n\r\n");
    // until its own requests are not taken any more, and it is given up
    while stream.write_all(request.as_bytes()).is_ok() {}
    assert_eq!(
        world.await_landing().contiguous_bytes.min(1),
        world.look().contiguous_bytes
    );
    assert_eq!(world.right("Range: bytes=1-9\r\n").status(), 206);
}
