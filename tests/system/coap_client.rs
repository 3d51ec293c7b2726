use std::{process::Command, time::Duration};

use crate::support::{Server, clean, run, tool};

/// Runs libcoap's client: what it printed, and the errors that it was answered.
fn coap_client(server: &Server, method: &str, path: &str, more: &[&str]) -> (String, String) {
    let mut command = clean(Command::new(tool("coap-client-notls")));
    command
        .args(["-m", method, "-B", "10"])
        .args(more)
        .arg(server.coap_uri(path));
    let finished = run(&mut command, b"", Duration::from_secs(20));
    assert!(finished.status.success(), "{finished:?}");
    (finished.stdout, finished.stderr.trim().to_owned())
}

#[test]
fn coap_client_registers_pings_and_gets_its_errors() {
    let server = Server::start();
    server.api.add_device("known", "meter");

    let (links, errors) = coap_client(&server, "get", ".well-known/core", &[]);
    assert!(links.contains("</rd>"), "{links}");
    assert_eq!(errors, "");

    for (method, path, expected) in [
        ("get", "nothing", "4.04"),
        ("get", "rd/x", "4.05"),
        ("get", "rd", "4.05"),
        ("put", "rd?ep=known", "4.05"),
        ("post", "rd?ep=unknown", "4.03"),
        ("post", "rd", "4.00"),
        ("post", "rd?ep=known&lt=soon", "4.00"),
        ("post", "rd/nowhere", "4.04"),
        ("delete", "rd/nowhere", "4.04"),
    ] {
        let (_, errors) = coap_client(&server, method, path, &["-e", ""]);
        assert!(errors.starts_with(expected), "{method} {path}: {errors:?}");
        let (_, errors) = coap_client(&server, method, path, &["-e", "", "-N"]);
        assert!(
            errors.starts_with(expected),
            "NON {method} {path}: {errors:?}"
        );
    }

    let links = [
        "-t",
        "40",
        "-e",
        "</>;rt=\"oma.lwm2m\",</3/0>,</4/0>,</19/0>",
        "-v",
        "7",
    ];
    let path = "rd?ep=known&lt=300&b=U&lwm2m=1.0";
    let (dump, errors) = coap_client(&server, "post", path, &links);
    assert_eq!(errors, "");
    assert!(dump.contains("c:2.01"), "{dump}");
    let location = dump
        .split("Location-Path:")
        .skip(1)
        .map(|rest| rest.split([',', ' ', ']']).next().unwrap_or_default())
        .collect::<Vec<_>>();
    // the dump shows the answer more than once
    let [first, id, ..] = location[..] else {
        panic!("no location: {dump}");
    };
    assert_eq!(first, "rd");

    // libcoap pings between requests that are a second apart, if it finds the time
    let (dump, _) = coap_client(
        &server,
        "get",
        ".well-known/core",
        &["-G", "4", "-K", "1", "-v", "7"],
    );
    assert!(dump.contains("t:RST c:0.00"), "{dump}");

    let location = format!("rd/{id}");
    let (dump, _) = coap_client(&server, "post", &location, &["-v", "7"]);
    assert!(dump.contains("c:2.04"), "{dump}");
    let (dump, _) = coap_client(&server, "delete", &location, &["-v", "7"]);
    assert!(dump.contains("c:2.02"), "{dump}");
    let (_, errors) = coap_client(&server, "post", &location, &[]);
    assert!(errors.starts_with("4.04"), "{errors}");
}

#[test]
fn an_unknown_device_registers_where_registration_is_open() {
    let server = Server::with(&[("CELLWISE_LWM2M__REGISTRATION", "open")]);
    let (dump, errors) = coap_client(&server, "post", "rd?ep=stranger", &["-v", "7"]);
    assert_eq!(errors, "");
    assert!(dump.contains("c:2.01"), "{dump}");
}
