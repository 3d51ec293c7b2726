//! Traces of requests, as a collector of OpenTelemetry gets them.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use cellwise::clock::SystemClock;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;

use crate::support::{Server, wait_for};

const LIMIT: Duration = Duration::from_mins(1);

/// Something that takes OTLP over HTTP, and keeps what it was sent.
struct Collector {
    address: SocketAddr,
    bodies: mpsc::Receiver<(String, Vec<u8>)>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, bodies) = mpsc::channel();
        // it ends with the test's process
        thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                thread::spawn(move || serve(stream.unwrap(), &sender));
            }
        });
        Self { address, bodies }
    }
}

/// Requests of one connection, until it is closed.
fn serve(stream: TcpStream, sender: &mpsc::Sender<(String, Vec<u8>)>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
            head += &line;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let _ = sender.send((head, body)); // the test may be over
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
    }
}

fn attributes(span: &Span) -> Vec<(&str, String)> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let attributes = span.attributes.iter().map(|it| {
        let value = it.value.as_ref().and_then(|it| it.value.as_ref());
        (&*it.key, text(value.unwrap()))
    });
    attributes.collect()
}

#[test]
fn requests_are_traced_without_what_their_callers_say() {
    let collector = Collector::start();
    let endpoint = format!("http://{}/", collector.address);
    let mut server = Server::with(&[("CELLWISE_TELEMETRY__OTLP_ENDPOINT", &*endpoint)]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let asked = ureq::get(server.api.url("/v1/devices?filter=tag.owner==Duchess"))
        .header("authorization", format!("Bearer {}", server.api.token()))
        .header("traceparent", &parent)
        .header("tracestate", "congo=t61rcWkgMzE")
        .call();
    assert_eq!(asked.unwrap().status(), 200);
    server.api.add_device("urn:imei:secret-name", "meter");
    assert_eq!(server.api.get("/v1/devices/urn:imei:other-name").0, 404);
    // a stranger does not say that it is not traced
    let stranger = ureq::get(server.api.url("/v1/devices"))
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-00"))
        .call();
    assert!(matches!(stranger, Err(ureq::Error::StatusCode(401))));
    // a stop sends what is left
    assert!(server.terminate(Duration::from_secs(10)).success());
    let (mut spans, mut sent) = (Vec::new(), Vec::new());
    while let Ok((head, body)) = collector.bodies.recv_timeout(Duration::from_millis(10)) {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        for resource in request.resource_spans {
            let service = resource.resource.unwrap().attributes;
            assert!(service.iter().any(|it| it.key == "service.name"));
            spans.extend(resource.scope_spans.into_iter().flat_map(|it| it.spans));
        }
        sent.extend(body);
    }
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(
        names,
        [
            "GET /v1/devices",
            "POST /v1/devices",
            "GET /v1/devices/{endpoint}",
            "GET /v1/devices"
        ]
    );
    let listed = &spans[0];
    assert_eq!(hex::encode(&listed.trace_id), trace);
    assert_eq!(hex::encode(&listed.parent_span_id), "b7ad6b7169203331");
    assert_eq!(listed.kind, SpanKind::Server as i32);
    assert!(listed.end_time_unix_nano >= listed.start_time_unix_nano);
    let expected = |method: &str, route: &str, operation: &str, status: &str| {
        let all = [
            ("http.request.method", method),
            ("http.route", route),
            ("cellwise.operation", operation),
            ("http.response.status_code", status),
        ];
        all.map(|(key, value)| (key, value.to_owned())).to_vec()
    };
    assert_eq!(
        attributes(listed),
        expected("GET", "/v1/devices", "list_devices", "200")
    );
    assert_eq!(
        attributes(&spans[2]),
        expected("GET", "/v1/devices/{endpoint}", "get_device", "404")
    );
    for own in [&spans[1], &spans[3]] {
        assert!(own.parent_span_id.is_empty() && own.trace_id != listed.trace_id);
    }
    assert_eq!(
        attributes(&spans[3]),
        expected("GET", "/v1/devices", "list_devices", "401")
    );
    let sent = String::from_utf8_lossy(&sent);
    for told in [
        server.api.token(),
        "secret-name",
        "other-name",
        "Duchess",
        "t61rc",
    ] {
        assert!(!sent.contains(told), "{told}");
    }
}

#[test]
fn a_collector_that_hangs_holds_nothing_up() {
    const REQUESTS: u32 = 3_000; // more than wait
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut server = Server::with(&[
        ("CELLWISE_TELEMETRY__OTLP_ENDPOINT", &*endpoint),
        ("CELLWISE_ADMIN__REQUESTS_PER_SECOND", "100000"),
    ]);
    let clock = SystemClock::start();
    let began = clock.now().instant;
    for _ in 0..REQUESTS {
        assert_eq!(server.api.get("/v1/me").0, 200);
    }
    let took = clock.now().instant.since(began);
    println!("{REQUESTS} requests in {took:?}");
    let told = "the collector at telemetry.otlp_endpoint does not take traces";
    wait_for(LIMIT, "the warning", || {
        server.said().contains(told).then_some(())
    });
    assert_eq!(server.said().matches(told).count(), 1);
    assert!(server.terminate(Duration::from_secs(10)).success());
}
