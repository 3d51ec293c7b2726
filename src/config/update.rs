use std::net::IpAddr;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};

/// By which of its objects a device over `LwM2M` is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdateBy {
    /// By what it announces.
    #[default]
    Auto,
    /// By PCP in `BinaryAppDataContainer` (object 19).
    Pcp,
    /// By Firmware Update (object 5).
    Firmware,
    /// By Software Management (object 9).
    Software,
    /// By Advanced Firmware Update (object 33629).
    Components,
}

/// How a package gets to a device that is upgraded by an object of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// The device fetches it, unless it says that it cannot.
    #[default]
    Auto,
    /// The device fetches it.
    Pull,
    /// It is written to the device.
    Push,
}

/// What a device fetches packages by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UriScheme {
    /// CoAP.
    Coap,
    /// CoAP over DTLS.
    Coaps,
    /// HTTP.
    Http,
    /// HTTPS.
    Https,
}

/// The path of a resource, such as `/3/0/3`.
pub type ResourceText = ArrayString<32>;

/// Packages that may be written to a device: 2^20 blocks of 1,024 bytes (RFC 7959 §2.2).
pub const PUSH_MAX_BYTES: u64 = 1 << 30;

/// A host that fits into a URI of less than 128 bytes beside scheme, port and token: no client takes all longer ones.
const MAX_HOST: usize = 80;

/// Whether it is the path of an object, an instance and a resource. LwM2M 1.0 §6.1: each is a number of 16 bits.
pub(super) fn is_resource(path: &str) -> bool {
    let number = |part: &str| {
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        digits && part.parse::<u16>().is_ok_and(|number| number < u16::MAX)
    };
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    rest.split('/').count() == 3 && rest.split('/').all(number)
}

/// Whether it is an address that a device can reach, or a name as DNS has them.
pub(super) fn is_host(host: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return !address.is_unspecified() && !address.is_multicast();
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && (label.bytes()).all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // what ends in a number is read as an address (RFC 3986 §3.2.2), and it is none
    let numeric = |last: &str| last.bytes().all(|byte| byte.is_ascii_digit());
    host.len() <= MAX_HOST
        && host.split('.').all(label)
        && !host.rsplit('.').next().is_some_and(numeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_three_numbers() {
        for path in ["/3/0/3", "/5/0/7", "/65534/65534/65534"] {
            assert!(is_resource(path), "{path}");
        }
        for path in [
            "",
            "/",
            "3/0/3",
            "/3/0",
            "/3/0/3/0",
            "/3/0/",
            "/3//3",
            "/3/0/+3",
            "/3/0/65535",
            "/3/0/3 ",
            "/3/0/x",
        ] {
            assert!(!is_resource(path), "{path}");
        }
    }

    #[test]
    fn a_host_is_an_address_or_a_name() {
        let longest = format!("{}.{}", "a".repeat(63), "b".repeat(16));
        for host in [
            "192.0.2.7",
            "2001:db8::7",
            "updates.example.com",
            "u",
            "1st.example",
            &longest,
        ] {
            assert!(is_host(host), "{host}");
        }
        let longer = format!("{longest}b");
        for host in [
            "",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "[2001:db8::7]",
            "a..b",
            ".a",
            "a.",
            "-a.b",
            "a-.b",
            "a b",
            "a/b",
            "a:5683",
            "user@host",
            "192.0.2.777",
            "1.2",
            "\u{e4}.example",
            &longer,
        ] {
            assert!(!is_host(host), "{host}");
        }
        assert!(!is_host(&"a".repeat(64)));
    }
}
