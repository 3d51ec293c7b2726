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
    let Lwm2mVersion { major, minor } = version?;
    Some(match (major, minor, path.resource()) {
        (0, ..) | (1, 0, _) => format::TLV,
        (_, _, Some(_)) => format::TEXT,
        (_, _, None) => format::SENML_CBOR,
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
            (Some((1, 0)), object, Some(11_542)),
            (Some((1, 0)), cell, Some(11_542)),
            (Some((1, 1)), object, Some(112)),
            (Some((1, 1)), cell, Some(0)),
            (Some((1, 2)), object, Some(112)),
            (Some((1, 2)), cell, Some(0)),
        ] {
            let version = version.map(|(major, minor)| Lwm2mVersion { major, minor });
            assert_eq!(accept_for(version, &path), expected, "{version:?} {path}");
        }
    }
}
