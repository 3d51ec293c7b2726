use std::borrow::Cow;

use thiserror::Error;

use super::{ConnectivityReading, ContentError, ResourcePath, Value, decode, format, opaque_of};

/// What a device says of its own accord: `POST /dp` (Send, LwM2M 1.1 §6.4.6). Its payload has values of any number of
/// objects, each with its full path; this is what matters here of them.
#[derive(Debug, Clone, PartialEq)]
pub struct SendRequest {
    /// Of Connectivity Monitoring.
    pub connectivity: ConnectivityReading,
    /// What it would otherwise notify of /19/0/0 or /19/1/0: PCP frames, or its own data. One for each instance, and for
    /// each time for which it is told.
    pub uplink: Vec<Vec<u8>>,
    format: Option<u16>,
}

/// Why it is not taken. The text is meant for the device's log (RFC 7252 §5.5.2).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// A content format that Send does not have.
    #[error("content format must be 110, 112 or 11544")]
    Format,
    /// Unreadable.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl SendRequest {
    /// Reads the payload, in one of the formats that Send has: SenML JSON (110), SenML CBOR (112), and LwM2M CBOR (11544)
    /// since 1.2. Where none is named, its first byte tells which it is.
    ///
    /// # Errors
    /// Another format, or a payload that is none of the format that is named, or too long.
    pub fn parse(content_format: Option<u16>, payload: &[u8]) -> Result<Self, SendError> {
        let format = content_format.or_else(|| guess(payload));
        let format = format.filter(|format| FORMATS.contains(format));
        let format = Some(format.ok_or(SendError::Format)?);
        let connectivity = decode(format, &ResourcePath::CONNECTIVITY_OBJECT, payload)?;
        let mut uplink = Vec::new();
        for path in [ResourcePath::UPLINK, ResourcePath::DOWNLINK] {
            match opaque_of(format, &path, payload) {
                Ok(opaque) => uplink.extend(opaque.values.into_iter().map(Cow::into_owned)),
                Err(ContentError::NotBytes(_)) => {} // neither frames nor data
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self {
            connectivity: ConnectivityReading::from_values(&connectivity),
            uplink,
            format,
        })
    }

    /// The newest value of that resource, where it is in the payload that was [parsed](Self::parse).
    pub fn value(&self, path: &ResourcePath, payload: &[u8]) -> Option<Value> {
        let values = decode(self.format, path, payload).ok()?;
        let wanted = path.resource();
        let found = values.into_iter().find(|(id, _)| Some(*id) == wanted);
        found.map(|(_, value)| value)
    }
}

const FORMATS: [u16; 3] = [format::SENML_JSON, format::SENML_CBOR, format::LWM2M_CBOR];

/// JSON begins a list with a bracket, CBOR with its major type in three bits (RFC 8949 §3.1): 4 is a list, 5 a map.
fn guess(payload: &[u8]) -> Option<u16> {
    match payload.first()? {
        b'[' => Some(format::SENML_JSON),
        first if first >> 5 == 4 => Some(format::SENML_CBOR),
        first if first >> 5 == 5 => Some(format::LWM2M_CBOR),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COVERAGE: &str = r#"[{"bn":"/4/0/","n":"2","v":-95},{"n":"8","v":51234},{"n":"11","v":7},
        {"bn":"/3/0/","n":"3","vs":"V1"},{"bn":"/19/0/","n":"0","vd":"AQID"},{"bn":"/19/1/0","vd":"BAU"}]"#;

    fn parse(
        format: Option<u16>,
        payload: &[u8],
    ) -> (Option<u32>, Option<i32>, Option<i32>, Vec<Vec<u8>>) {
        let send = SendRequest::parse(format, payload).unwrap();
        let found = send.connectivity;
        (found.cell_id, found.rsrp, found.sinr, send.uplink)
    }

    #[test]
    fn takes_coverage_and_uplink_out_of_all_that_is_sent() {
        let expected = (
            Some(51_234),
            Some(-95),
            Some(7),
            vec![vec![1, 2, 3], vec![4, 5]],
        );
        assert_eq!(parse(Some(110), COVERAGE.as_bytes()), expected);
        assert_eq!(parse(None, COVERAGE.as_bytes()), expected);
        // {4: {0: {2: -95, 8: 51234, 11: 7}}, 19: {0: {0: h'010203'}, 1: {0: h'0405'}}}
        let cbor =
            hex::decode("a204a100a302385e0819c8220b0713a200a1004301020301a100420405").unwrap();
        assert_eq!(parse(Some(11_544), &cbor), expected);
        assert_eq!(parse(None, &cbor), expected);
        // [{-2: "/4/0/", 0: "2", 2: -95}, {-2: "/19/0/0", 8: h'01'}]
        let senml = hex::decode(
            "82a321652f342f302f006132 02385ea221672f31392f302f30084101".replace(' ', ""),
        )
        .unwrap();
        let expected = (None, Some(-95), None, vec![vec![1]]);
        assert_eq!(parse(Some(112), &senml), expected);
        assert_eq!(parse(None, &senml), expected);
        assert_eq!(parse(Some(110), b"[]"), (None, None, None, vec![]));
    }

    #[test]
    fn takes_every_record_of_the_uplink_the_oldest_first() {
        let records = br#"[{"bn":"/19/0/0","bt":1700000000,"t":2,"vd":"Ag"},{"t":1,"vd":"AQ"},{"bn":"/19/1/0/","n":"0","vd":"Aw"},{"n":"1","vd":"BA"}]"#;
        let (_, _, _, uplink) = parse(Some(110), records);
        assert_eq!(uplink, [[1], [2], [3], [4]]);
        let numbers = br#"[{"bn":"/19/0/","n":"0","v":1}]"#;
        assert_eq!(parse(Some(110), numbers), (None, None, None, vec![]));
    }

    #[test]
    fn refuses_other_formats_and_what_is_none() {
        for format in [0, 40, 42, 60, 11_542, 11_543] {
            assert_eq!(
                SendRequest::parse(Some(format), b"[]"),
                Err(SendError::Format)
            );
        }
        for payload in [&b""[..], b"x", b"{}"] {
            assert_eq!(SendRequest::parse(None, payload), Err(SendError::Format));
        }
        for (format, payload) in [
            (110, &b"{"[..]),
            (110, b""),
            // a value of nothing
            (110, b"[{\"v\":1}]"),
            (112, b"\xA1"),
            (112, b"\x81\xA1"),
            (11_544, b"\x80"),
        ] {
            let refused = SendRequest::parse(Some(format), payload);
            assert!(matches!(refused, Err(SendError::Content(_))), "{payload:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(payload: Vec<u8>) {
            for format in [None, Some(110), Some(112), Some(11_544)] {
                let _ = SendRequest::parse(format, &payload);
            }
        }
    }
}
