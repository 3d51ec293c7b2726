//! The ports: free for a server that is to start, or in use by the one that runs.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use super::Finding;
use crate::config::Config;

const CHECK: &str = "ports";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Udp,
    Tcp,
}

impl Kind {
    fn bind(self, address: SocketAddr) -> io::Result<()> {
        match self {
            Self::Udp => UdpSocket::bind(address).map(drop),
            Self::Tcp => TcpListener::bind(address).map(drop),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

pub(super) fn all(config: &Config, server: Option<u32>) -> Vec<Finding> {
    let ports = [
        (
            config.coap.enabled,
            "coap.listen",
            Kind::Udp,
            config.coap.listen,
        ),
        (
            config.dtls.enabled,
            "dtls.listen",
            Kind::Udp,
            config.dtls.listen,
        ),
        (
            config.mqtt.tcp,
            "mqtt.tcp_listen",
            Kind::Tcp,
            config.mqtt.tcp_listen,
        ),
        (
            config.mqtt.tls,
            "mqtt.tls_listen",
            Kind::Tcp,
            config.mqtt.tls_listen,
        ),
        (true, "admin.listen", Kind::Tcp, config.admin.listen),
        (
            config.app.enabled,
            "app.listen",
            Kind::Tcp,
            config.app.listen,
        ),
        (
            config.download.http,
            "download.http_listen",
            Kind::Tcp,
            config.download.http_listen,
        ),
        (
            config.download.https,
            "download.https_listen",
            Kind::Tcp,
            config.download.https_listen,
        ),
    ];
    (ports.into_iter())
        .filter(|(used, ..)| *used)
        .map(|(_, setting, kind, address)| port(setting, kind, address, server))
        .collect()
}

fn port(setting: &str, kind: Kind, address: SocketAddr, server: Option<u32>) -> Finding {
    let what = format!("{setting} {address}/{}", kind.name());
    if address.port() == 0 {
        return Finding::ok(CHECK, format!("{what}: the system chooses"));
    }
    let error = match (kind.bind(address), server) {
        (Ok(()), None) => return Finding::ok(CHECK, format!("{what} is free")),
        (Ok(()), Some(process)) => {
            let told = format!("{what} is free, although the server runs (process {process})");
            return Finding::error(
                CHECK,
                told,
                "the server listens elsewhere: restart it with these settings, or look with the settings that it has",
            );
        }
        (Err(error), _) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => in_use(&what, kind, address, server),
        io::ErrorKind::AddrNotAvailable => Finding::error(
            CHECK,
            format!("{what}: this machine does not have the address"),
            "set one that `ip address` shows, or 0.0.0.0 or [::] for all",
        ),
        io::ErrorKind::PermissionDenied => Finding::error(
            CHECK,
            format!("{what} may not be used by this user"),
            "set a port above 1023, or give the service CAP_NET_BIND_SERVICE",
        ),
        _ => Finding::error(CHECK, format!("{what}: {error}"), "set another address"),
    }
}

fn in_use(what: &str, kind: Kind, address: SocketAddr, server: Option<u32>) -> Finding {
    let holder = holder(kind, address.port());
    match (holder, server) {
        (Some((process, _)), Some(server)) if process == server => Finding::ok(
            CHECK,
            format!("{what} is used by the server (process {process})"),
        ),
        // other users' processes do not show their sockets
        (None, Some(server)) => Finding::ok(
            CHECK,
            format!(
                "{what} is in use, by the server as it seems (process {server}); as root it can be told"
            ),
        ),
        (holder, _) => {
            let by = holder.map_or_else(
                || "by a process of another user, or by several".to_owned(),
                |(process, name)| format!("by {name} (process {process})"),
            );
            Finding::error(
                CHECK,
                format!("{what} is in use {by}"),
                "stop that program, or set another port",
            )
        }
    }
}

/// The process that has this port, and its name, where this user may know.
fn holder(kind: Kind, port: u16) -> Option<(u32, String)> {
    let tables = ["", "6"].map(|version| format!("/proc/net/{}{version}", kind.name()));
    let inodes: Vec<String> = (tables.iter())
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| {
            let found = table.lines().filter_map(|line| socket(line, kind, port));
            found.map(str::to_owned).collect::<Vec<_>>()
        })
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        let files = fs::read_dir(entry.path().join("fd")).ok()?;
        let has = files.flatten().any(|file| {
            let target = fs::read_link(file.path());
            target.is_ok_and(|target| {
                inodes
                    .iter()
                    .any(|inode| target.as_os_str() == inode.as_str())
            })
        });
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        has.then(|| (process, name.trim_end().to_owned()))
    })
}

/// The number of the socket in a line of `/proc/net/udp` or `/proc/net/tcp` (proc(5)), where it is bound to this port; of TCP one that
/// listens.
fn socket(line: &str, kind: Kind, port: u16) -> Option<&str> {
    const LISTENS: &str = "0A";
    let words: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
    let found = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    (found == port && (kind == Kind::Udp || *state == LISTENS)).then_some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::doctor::Level;

    #[test]
    fn a_port_is_free_or_somebody_has_it() {
        let own = std::process::id();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (kind, address) in [
            (Kind::Tcp, listener.local_addr().unwrap()),
            (Kind::Udp, datagrams.local_addr().unwrap()),
        ] {
            assert_eq!(holder(kind, address.port()).map(|it| it.0), Some(own));
            let taken = port("x.listen", kind, address, None);
            assert_eq!(taken.level, Level::Error);
            assert!(
                taken.told.contains(&format!("(process {own})")),
                "{taken:?}"
            );
            let served = port("x.listen", kind, address, Some(own));
            assert_eq!(served.level, Level::Ok, "{served:?}");
        }
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(port("x.listen", Kind::Tcp, address, None).level, Level::Ok);
        let elsewhere = port("x.listen", Kind::Tcp, address, Some(own));
        assert!(
            elsewhere.level == Level::Error && elsewhere.told.contains("although the server runs")
        );
        let foreign = port(
            "x.listen",
            Kind::Udp,
            "192.0.2.1:5683".parse().unwrap(),
            None,
        );
        assert!(
            foreign.told.contains("does not have the address"),
            "{foreign:?}"
        );
    }
}
