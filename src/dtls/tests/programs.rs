//! The clients that people have, over UDP on this machine. `tests/run` installs them.

use std::{
    io::{Read as _, Write as _},
    net::UdpSocket,
    process::{Child, Command, Stdio},
};

use super::*;
use crate::clock::SystemClock;

const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until `ended` says so: answers CoAP requests with what they hold, and echoes anything else.
fn serve(socket: &UdpSocket, mut ended: impl FnMut(&World) -> bool) -> World {
    let clock = SystemClock::start();
    let mut world = World::with(|setup| setup.timing.initial_timeout = Duration::from_secs(1));
    socket
        .set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    let begun = clock.now().instant;
    let mut buffer = [0; 2048];
    while !ended(&world) {
        world.now = clock.now();
        assert!(
            world.now.instant.since(begun) < PATIENCE,
            "{:?}",
            world.dtls.counts()
        );
        if let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            world.dtls.handle_datagram(world.now, peer, &buffer[..len]);
        }
        world.dtls.work(world.now, 10);
        world.dtls.handle_timeout(world.now);
        while let Some(event) = world.dtls.poll_event() {
            match event {
                Output::Transmit { peer, bytes } => {
                    let _ = socket.send_to(&bytes, peer); // its port may be closed by now
                }
                Output::Data { peer, bytes, .. } => {
                    let _ = world.dtls.send(peer, &answer(&bytes)); // it may have closed
                }
                event => world.events.push(event),
            }
        }
    }
    world
}

/// A GET is answered 2.05 with "hello" on its acknowledgement (RFC 7252 §3).
fn answer(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [first, 0x01, id0, id1, rest @ ..] if first & 0xf0 == 0x40 => {
            let token = &rest[..usize::from(first & 0x0f)];
            let mut answer = vec![0x60 | first & 0x0f, 0x45, *id0, *id1];
            answer.extend(token);
            answer.push(0xff);
            answer.extend(b"hello");
            answer
        }
        other => other.to_vec(),
    }
}

fn start(program: &str, arguments: &[&str]) -> Child {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} does not start; tests/run installs it: {error}"))
}

fn established(world: &World) -> bool {
    let identity = psk_identity("device-1");
    world
        .events
        .iter()
        .any(|event| matches!(event, Output::Established { identity: of, .. } if **of == identity))
}

#[test]
fn libcoaps_clients_are_served() {
    for program in ["coap-client-openssl", "coap-client-gnutls"] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let uri = format!(
            "coaps://127.0.0.1:{}/rd",
            socket.local_addr().unwrap().port()
        );
        let arguments = [
            "-m",
            "get",
            "-B",
            "20",
            "-u",
            "device-1",
            "-k",
            "key of device-1",
            &uri,
        ];
        let mut child = start(program, &arguments);
        let world = serve(&socket, |_| child.try_wait().unwrap().is_some());
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("hello"), "{program}: {text} {errors}");
        assert!(established(&world), "{program}");
    }
}

#[test]
fn openssls_client_is_served_with_each_suite() {
    for suite in [CCM, GCM, CBC] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let key = hex::encode(key_of("device-1"));
        let suites = format!("{suite}:@SECLEVEL=0");
        let arguments = [
            "s_client",
            "-dtls1_2",
            "-quiet",
            "-psk",
            &key,
            "-psk_identity",
            "device-1",
            "-cipher",
            &suites,
            "-connect",
            &address,
        ];
        let mut child = start("openssl", &arguments);
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"hello\n").unwrap();
        let mut output = child.stdout.take().unwrap();
        let heard = std::thread::spawn(move || {
            let mut text = [0; 6];
            output.read_exact(&mut text).map(|()| text)
        });
        let world = serve(&socket, |_| heard.is_finished());
        drop(input);
        let _ = child.kill(); // it may have ended
        child.wait().unwrap();
        assert_eq!(&heard.join().unwrap().unwrap(), b"hello\n");
        assert!(established(&world), "{suite}");
    }
}
