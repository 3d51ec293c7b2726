//! Several shards, and devices that are now with one, now with another.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::support::{Device, Server, noise};

const MINUTE: Duration = Duration::from_mins(1);

/// Stands between a device and the server as a network does that often gives it another address.
pub(crate) struct Nat {
    /// Where the device finds the server.
    pub(crate) inside: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Nat {
    /// With another address after so many datagrams of the device.
    pub(crate) fn new(server: SocketAddr, datagrams: usize) -> Self {
        let inside = Arc::new(listening());
        let here = inside.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        thread::spawn(move || {
            let mut outside = None;
            let mut sent = 0;
            while !until.load(Ordering::Relaxed) {
                let mut buffer = [0; 2_048];
                let Ok((len, device)) = inside.recv_from(&mut buffer) else {
                    continue; // nothing within the time
                };
                if sent % datagrams == 0 {
                    let socket = Arc::new(listening());
                    back(socket.clone(), inside.clone(), device, until.clone());
                    outside = Some(socket);
                }
                sent += 1;
                let socket = outside.as_ref().unwrap(); // there is one from the first datagram on
                socket.send_to(&buffer[..len], server).unwrap();
            }
        });
        Self { inside: here, stop }
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn listening() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    socket
}

/// Gives the device what comes to one of its addresses, also of those that it no longer has.
fn back(outside: Arc<UdpSocket>, inside: Arc<UdpSocket>, to: SocketAddr, stop: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while !stop.load(Ordering::Relaxed) {
            if let Ok(len) = outside.recv(&mut buffer) {
                let _ = inside.send_to(&buffer[..len], to); // it is gone
            }
        }
    });
}

pub(crate) fn counter(server: &Server, name: &str) -> f64 {
    let text = server.api.text("/metrics");
    let value = (text.lines())
        .filter_map(|line| line.split_once(' '))
        .find(|(of, _)| *of == name);
    let (_, value) = value.unwrap_or_else(|| panic!("no {name} in {text}"));
    value.parse().unwrap()
}

#[test]
fn upgrades_go_on_while_devices_change_their_addresses_and_shards() {
    let server = Server::with(&[
        ("CELLWISE_SHARDS", "4"),
        ("CELLWISE_COAP__ACK_TIMEOUT_MS", "500"),
    ]);
    let content = noise(5, 12_000);
    let package = server.api.upload("meter", "V2.0", &content);
    let endpoints = ["meter-0", "meter-1", "meter-2", "meter-3"];
    for endpoint in endpoints {
        server.api.add_device(endpoint, "meter");
    }
    let task = server.api.create_task("roaming", &package, &endpoints);
    let devices = endpoints.map(|endpoint| {
        let nat = Nat::new(server.coap, 5);
        (Device::at(nat.inside, endpoint, &[]), nat)
    });
    for (device, _nat) in devices {
        let events = device.upgraded();
        let downloaded = events.iter().find(|event| event["event"] == "downloaded");
        assert_eq!(
            downloaded.expect("a download")["sha256"],
            hex::encode(Sha256::digest(&content))
        );
    }
    for upgrade in server.api.finished(&task, MINUTE) {
        assert_eq!(upgrade["state"], "succeeded", "{upgrade}");
        assert_eq!(upgrade["attempts"], 1, "{upgrade}");
    }
    // with four of them one in four new addresses is the same shard's
    let moved = counter(&server, "cellwise_devices_moved_total");
    assert!(moved >= 8.0, "{moved}");
}

#[test]
fn as_many_shards_as_are_set_keep_their_devices_apart_and_count_them_together() {
    let server = Server::with(&[("CELLWISE_SHARDS", "3")]);
    let package = server.api.upload("meter", "V2.0", &noise(6, 700));
    let endpoints: Vec<String> = (0..12).map(|n| format!("meter-{n}")).collect();
    let names: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    for endpoint in &names {
        server.api.add_device(endpoint, "meter");
    }
    let task = server.api.create_task("many", &package, &names);
    let devices: Vec<Device> = (names.iter())
        .map(|endpoint| Device::start(&server, endpoint, &[]))
        .collect();
    for device in devices {
        device.upgraded();
    }
    let upgrades = server.api.finished(&task, MINUTE);
    assert!(
        upgrades
            .iter()
            .all(|upgrade| upgrade["state"] == "succeeded")
    );
    crate::support::wait_for(MINUTE, "the figures", || {
        let registered = counter(&server, "cellwise_registrations_total");
        (registered >= 12.0 && counter(&server, "cellwise_devices") >= 12.0).then_some(())
    });
}

/// How often each of the shards' threads has gone to sleep (proc(5)).
fn sleeps_of_shards(pid: u32) -> Vec<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut sleeps = Vec::new();
    for thread in threads {
        let path = thread.unwrap().path();
        let Ok(name) = fs::read_to_string(path.join("comm")) else {
            continue; // a thread that has ended
        };
        if name.starts_with("shard-") {
            let status = fs::read_to_string(path.join("status")).unwrap();
            let count = (status.lines())
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
                .unwrap();
            sleeps.push(count.trim().parse().unwrap());
        }
    }
    sleeps
}

#[test]
fn shards_without_anything_to_do_sleep_and_their_figures_are_true() {
    let server = Server::with(&[("CELLWISE_SHARDS", "2")]);
    server.api.add_device("meter-1", "meter");
    // Told within a second, and nothing happens after it.
    crate::support::wait_for(MINUTE, "the figures", || {
        (counter(&server, "cellwise_devices") >= 1.0).then_some(())
    });
    thread::sleep(Duration::from_secs(2));
    let before = sleeps_of_shards(server.pid());
    assert_eq!(before.len(), 2);
    thread::sleep(Duration::from_secs(5));
    // Once in a minute each looks whether something was overlooked.
    let woken: u64 = (sleeps_of_shards(server.pid()).iter())
        .zip(before)
        .map(|(after, before)| after - before)
        .sum();
    assert!(woken <= 2, "{woken}");
    // What comes then is counted at once.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&[0x40, 0x01], server.coap).unwrap();
    crate::support::wait_for(MINUTE, "the stranger's datagram", || {
        (counter(&server, "cellwise_datagrams_malformed_total") >= 1.0).then_some(())
    });
}
