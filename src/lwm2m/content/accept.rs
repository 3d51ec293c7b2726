use super::format;
use crate::lwm2m::{Lwm2mVersion, ResourcePath};

/// The content format in which a client of that version of LwM2M is asked for numbers at `path`: one that it has to be
/// able to write. `None` for a client that does not say what it speaks: it is left to its own choice.
///
/// * 1.0 (§6.4): TLV, for every path.
/// * From 1.1 on (Core §7.4) nothing that holds several values is mandatory, and TLV should not be used any more. One
///   resource is asked for as plain text, which is mandatory; anything else as `SenML` CBOR, which a client should be
///   able to write, or else `SenML` JSON.
pub fn accept_for(version: Option<Lwm2mVersion>, path: &ResourcePath) -> Option<u16> {
    Some(match (version?, path.resource()) {
        (Lwm2mVersion::V1_0, _) => format::TLV,
        (Lwm2mVersion::V1_1 | Lwm2mVersion::V1_2, Some(_)) => format::TEXT,
        (Lwm2mVersion::V1_1 | Lwm2mVersion::V1_2, None) => format::SENML_CBOR,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_what_the_version_makes_mandatory() {
        let (object, cell) = (ResourcePath::CONNECTIVITY, ResourcePath::CELL_ID);
        for (version, path, expected) in [
            (None, object, None),
            (None, cell, None),
            (Some(Lwm2mVersion::V1_0), object, Some(11_542)),
            (Some(Lwm2mVersion::V1_0), cell, Some(11_542)),
            (Some(Lwm2mVersion::V1_1), object, Some(112)),
            (Some(Lwm2mVersion::V1_1), cell, Some(0)),
            (Some(Lwm2mVersion::V1_2), object, Some(112)),
            (Some(Lwm2mVersion::V1_2), cell, Some(0)),
        ] {
            assert_eq!(accept_for(version, &path), expected, "{version:?} {path}");
        }
    }
}
