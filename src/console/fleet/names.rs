//! Where a device is, by its name.

use crate::console::fields::encode;

/// Pages below `/devices` that are no device's. A device of such a name is reached with an escaped letter (RFC 3986 §2.1).
const PAGES: [&str; 5] = ["complete", "export", "import", "new", "unknown"];
/// The same in the API.
const CALLS: [&str; 2] = ["unknown", "count"];

/// The page of a device, below the console.
pub(in crate::console) fn page_of(endpoint: &str) -> String {
    format!("/devices/{}", segment(endpoint, &PAGES))
}

/// The path of a device in the API.
pub(in crate::console) fn call_of(endpoint: &str) -> String {
    format!("/v1/devices/{}", segment(endpoint, &CALLS))
}

fn segment(endpoint: &str, taken: &[&str]) -> String {
    let mut letters = endpoint.chars();
    match letters.next() {
        Some(first) if taken.contains(&endpoint) => {
            format!("%{:02x}{}", u32::from(first), letters.as_str())
        }
        _ => encode(endpoint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_are_called_as_a_page_are_reached() {
        for (endpoint, page, call) in [
            (
                "urn:imei:1",
                "/devices/urn%3Aimei%3A1",
                "/v1/devices/urn%3Aimei%3A1",
            ),
            ("new", "/devices/%6eew", "/v1/devices/new"),
            ("unknown", "/devices/%75nknown", "/v1/devices/%75nknown"),
            ("count", "/devices/count", "/v1/devices/%63ount"),
            (
                "a b/ü",
                "/devices/a%20b%2F%C3%BC",
                "/v1/devices/a%20b%2F%C3%BC",
            ),
            ("", "/devices/", "/v1/devices/"),
        ] {
            assert_eq!(page_of(endpoint), page);
            assert_eq!(call_of(endpoint), call);
        }
    }
}
