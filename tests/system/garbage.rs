use std::{
    env,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use cellwise::clock::SystemClock;

use crate::support::{Device, Random, Server, coap, noise};

/// What the process may grow by while it is sent some 200,000 datagrams, with some 8 MB that it takes once, sooner or later: 100 bytes
/// kept of each datagram would be more than this.
const MAX_GROWTH_BYTES: u64 = 20 << 20;

#[test]
fn garbage_for_a_minute_disturbs_no_upgrade_and_takes_no_memory() {
    // GARBAGE_SECONDS=5 for those in a hurry
    let seconds = env::var("GARBAGE_SECONDS").map_or(60, |text| text.parse().unwrap());
    let mut server = Server::start();
    let package = server.api.upload("meter", "V2.0", &noise(4, 30_000));
    for endpoint in ["before", "meanwhile", "noisy"] {
        server.api.add_device(endpoint, "meter");
    }
    // what an upgrade takes is taken before memory is measured
    let first = server.api.create_task("before", &package, &["before"]);
    Device::start(&server, "before", &[]).upgraded();
    server.api.finished(&first, Duration::from_mins(1));

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| send_garbage(&server, &stop));
        let clock = SystemClock::start();
        let began = clock.now().instant;
        let passed = || clock.now().instant.since(began);
        // what is done once a minute has been done by then
        let warm = Duration::from_secs(seconds).mul_f64(1.1);
        // a thread that has helped is gone ten seconds later, with what it had: the least in a while is what is kept
        let least_until = |part: f64| {
            let end = warm + Duration::from_secs(seconds).mul_f64(part);
            let mut least = server.resident_bytes();
            while passed() < end {
                thread::sleep(Duration::from_millis(50));
                least = least.min(server.resident_bytes());
            }
            least
        };
        while passed() < warm.mul_f64(0.75) {
            thread::sleep(Duration::from_millis(50));
        }
        let before = least_until(0.0);
        let task = server
            .api
            .create_task("meanwhile", &package, &["meanwhile"]);
        Device::start(&server, "meanwhile", &[]).upgraded();
        let upgrades = server.api.finished(&task, Duration::from_mins(1));
        let _ = least_until(0.75);
        let after = least_until(1.0);
        assert!(!sender.is_finished(), "the sender has ended");
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        println!("{sent} datagrams, {before} bytes before, {after} after");
        assert!(sent > seconds * 100, "only {sent} datagrams in {seconds} s");
        assert_eq!(upgrades[0]["state"], "succeeded", "{upgrades:?}");
        assert!(
            after < before + MAX_GROWTH_BYTES,
            "{before} bytes before, {after} after {sent} datagrams"
        );
    });
    server.assert_running();
}

/// Sends until it is told to stop; how many datagrams that were.
fn send_garbage(server: &Server, stop: &AtomicBool) -> u64 {
    let mut random = Random::new(5);
    let mut sockets: Vec<UdpSocket> = (0..32).map(socket).collect();
    // one of them is a registered device
    let register = coap(0, 2, 1, &[(11, b"rd"), (15, b"ep=noisy")], &[]);
    sockets[0].send_to(&register, server.coap).unwrap();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..10 {
            let datagram = garbage(&mut random);
            let socket = &sockets[random.below(sockets.len())];
            // a full buffer of the system's is no matter
            sent += u64::from(socket.send_to(&datagram, server.coap).is_ok());
            // what is answered is thrown away; what is left is dropped by the system
            let _ = socket.recv(&mut [0; 64]);
        }
        // a device behind a NAT comes from another port now and then
        if random.below(50) == 0 {
            let index = 1 + random.below(sockets.len() - 1);
            sockets[index] = socket(index);
        }
        thread::sleep(Duration::from_millis(5));
    }
    sent
}

/// Half of them share the address of the device that is upgraded meanwhile.
fn socket(index: usize) -> UdpSocket {
    let socket = UdpSocket::bind(["127.0.0.1:0", "127.0.0.2:0"][index % 2]).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn garbage(random: &mut Random) -> Vec<u8> {
    let len = random.below(1_400);
    let bytes: Vec<u8> = (0..len).map(|_| random.byte()).collect();
    let id = u16::try_from(random.below(0x1_0000)).unwrap();
    let name = format!("ep={:x}", random.next());
    let kind = u8::try_from(random.below(4)).unwrap();
    let code = random.byte();
    let mut datagram = match random.below(9) {
        0 => bytes,
        1 => vec![0x40, 0, 0, 1],
        2 => coap(kind, code, id, &[], &bytes),
        3 => coap(kind, 2, id, &[(11, b"rd"), (15, name.as_bytes())], &bytes),
        4 => coap(kind, 2, id, &[(11, b"rd"), (15, &bytes)], b""),
        5 => coap(
            kind,
            2,
            id,
            &[(11, b"rd"), (11, &bytes[..len.min(20)])],
            &bytes,
        ),
        // a block in the middle of a transfer that never began
        6 => coap(
            kind,
            2,
            id,
            &[(11, b"rd"), (15, b"ep=noisy"), (27, &[0x1E])],
            &bytes,
        ),
        // a notification, with a frame or what looks like one
        7 => coap(kind, 69, id, &[(6, &[random.byte()])], &frame(random)),
        _ => coap(kind, 1, id, &[(random.below(300), &bytes)], b""),
    };
    match random.below(4) {
        0 => datagram.truncate(random.below(datagram.len() + 1)),
        1 if !datagram.is_empty() => {
            let at = random.below(datagram.len());
            datagram[at] ^= 1 << random.below(8);
        }
        _ => {}
    }
    datagram
}

fn frame(random: &mut Random) -> Vec<u8> {
    let data = noise(random.next(), random.below(40));
    let mut frame = vec![
        0xFF,
        0xFE,
        1,
        19 + u8::try_from(random.below(6)).unwrap(),
        0,
        0,
        0,
    ];
    frame.push(u8::try_from(data.len()).unwrap());
    frame.extend(data);
    let check = pcp::checksum(&frame).to_be_bytes();
    frame[4..6].copy_from_slice(&check);
    frame
}
