//! By which ways a package can be served, and to devices that speak what.

use super::Protocol;
use crate::package::Package;

/// The kit in C for IoTDA reads nine digits of a `Content-Length`, and takes what is longer for something else.
const MAX_IOTDA_BYTES: u64 = 999_999_999;

/// By which ways a package can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// Over PCP.
    pub pcp: bool,
    /// In `CoAP` blocks, to devices that are upgraded by objects 5, 9 or 33629.
    pub blocks: bool,
    /// Over HTTP.
    pub http: bool,
    /// Bytes of its content.
    pub size_bytes: u64,
}

impl From<&Package> for Ways {
    fn from(package: &Package) -> Self {
        Self {
            pcp: package.pcp.is_some(),
            blocks: package.content.is_some(),
            http: package.http.is_some(),
            size_bytes: package.size_bytes,
        }
    }
}

impl Ways {
    /// Whether a device that speaks that can be served it. `takes_large`: one of IoTDA may be offered what has more than nine digits.
    pub const fn serve(self, protocol: Protocol, takes_large: bool) -> bool {
        match protocol {
            Protocol::Lwm2m => self.pcp || self.blocks,
            Protocol::Iotda => self.http && (self.size_bytes <= MAX_IOTDA_BYTES || takes_large),
            Protocol::ThingsPanel | Protocol::QuecThing => self.http,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_its_way_and_iotda_its_bound() {
        let serve_by = |pcp, blocks, http, size_bytes| {
            let ways = Ways {
                pcp,
                blocks,
                http,
                size_bytes,
            };
            [Protocol::Lwm2m, Protocol::Iotda, Protocol::ThingsPanel]
                .map(|protocol| (ways.serve(protocol, false), ways.serve(protocol, true)))
        };
        let serve = |pcp, http, size_bytes| serve_by(pcp, false, http, size_bytes);
        let (yes, no) = ((true, true), (false, false));
        assert_eq!(serve(true, false, 1), [yes, no, no]);
        assert_eq!(serve_by(false, true, false, 1), [yes, no, no]);
        assert_eq!(serve(false, true, 999_999_999), [no, yes, yes]);
        assert_eq!(serve(true, true, 1_000_000_000), [yes, (false, true), yes]);
    }
}
