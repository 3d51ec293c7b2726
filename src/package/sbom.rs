//! What a bill of materials says it is. Its components are not read: they are for others.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, SeqAccess},
};
use thiserror::Error;

/// A standard for bills of materials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SbomFormat {
    /// `CycloneDX` (ECMA-424), as JSON.
    CycloneDx,
    /// SPDX (ISO/IEC 5962), as JSON or JSON-LD.
    Spdx,
}

impl SbomFormat {
    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CycloneDx => "cyclonedx",
            Self::Spdx => "spdx",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::CycloneDx, Self::Spdx]
            .into_iter()
            .find(|it| it.name() == name)
    }
}

/// What a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SbomKind {
    /// Its standard.
    pub format: SbomFormat,
    /// The version of the standard, such as `1.6` or `2.3`: up to 16 characters.
    pub spec_version: String,
    /// Components, packages or elements that it lists.
    pub components: u32,
}

/// Why a document is no bill of materials.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SbomError {
    /// Not JSON.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// Neither of the two.
    #[error(
        "it is neither CycloneDX (\"bomFormat\": \"CycloneDX\") nor SPDX (\"spdxVersion\", or an \"@context\" of spdx.org) in JSON"
    )]
    Neither,
    /// What the standard requires is missing or wrong.
    #[error("it says that it is {format}, but {problem}")]
    Broken {
        /// What it says that it is.
        format: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

/// The members by which the two are known. All others are passed over, checked for nothing but their syntax.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "bomFormat")]
    bom_format: Option<String>,
    #[serde(rename = "specVersion")]
    spec_version: Option<String>,
    components: Option<Counted>,
    #[serde(rename = "spdxVersion")]
    spdx_version: Option<String>,
    #[serde(rename = "SPDXID")]
    spdx_id: Option<String>,
    #[serde(rename = "dataLicense")]
    data_license: Option<String>,
    #[serde(rename = "documentNamespace")]
    namespace: Option<String>,
    packages: Option<Counted>,
    #[serde(rename = "@context")]
    context: Option<Context>,
    #[serde(rename = "@graph")]
    graph: Option<Counted>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Context {
    One(String),
    Other(IgnoredAny),
}

/// The length of a list.
struct Counted(u32);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> de::Visitor<'de> for List {
            type Value = Counted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Counted, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Counted(count))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

impl SbomKind {
    /// What a document is. It is read once, and nothing of its length is kept in memory.
    pub fn of(document: &[u8]) -> Result<Self, SbomError> {
        if document.trim_ascii_start().first() != Some(&b'{') {
            // a list would be taken for the members in their order
            return match serde_json::from_slice::<IgnoredAny>(document) {
                Ok(_) => Err(SbomError::Neither),
                Err(error) => Err(SbomError::Json(error.to_string())),
            };
        }
        let read: Document =
            serde_json::from_slice(document).map_err(|error| SbomError::Json(error.to_string()))?;
        match (&read.bom_format, &read.spdx_version, &read.context) {
            (Some(format), None, _) if format == "CycloneDX" => cyclonedx(&read),
            (None, Some(_), _) => spdx_2(&read),
            (None, None, Some(Context::One(context))) => spdx_3(&read, context),
            _ => Err(SbomError::Neither),
        }
    }
}

/// ECMA-424 §7: `bomFormat` and `specVersion` are required.
fn cyclonedx(read: &Document) -> Result<SbomKind, SbomError> {
    let broken = |problem| SbomError::Broken {
        format: "CycloneDX",
        problem,
    };
    let version = (read.spec_version.as_deref()).filter(|version| is_version(version));
    let version = version.ok_or_else(|| broken("\"specVersion\" is no version such as \"1.6\""))?;
    Ok(SbomKind {
        format: SbomFormat::CycloneDx,
        spec_version: version.to_owned(),
        components: read.components.as_ref().map_or(0, |list| list.0),
    })
}

/// SPDX 2.3 §6: what a document has to say of itself.
fn spdx_2(read: &Document) -> Result<SbomKind, SbomError> {
    let broken = |problem| SbomError::Broken {
        format: "SPDX",
        problem,
    };
    let version = (read.spdx_version.as_deref()).and_then(|text| text.strip_prefix("SPDX-"));
    let version = version
        .filter(|version| is_version(version))
        .ok_or_else(|| broken("\"spdxVersion\" is no version such as \"SPDX-2.3\""))?;
    if read.spdx_id.as_deref() != Some("SPDXRef-DOCUMENT") {
        return Err(broken("\"SPDXID\" is not \"SPDXRef-DOCUMENT\""));
    }
    if read.data_license.is_none() {
        return Err(broken("there is no \"dataLicense\""));
    }
    if read.namespace.is_none() {
        return Err(broken("there is no \"documentNamespace\""));
    }
    Ok(SbomKind {
        format: SbomFormat::Spdx,
        spec_version: version.to_owned(),
        components: read.packages.as_ref().map_or(0, |list| list.0),
    })
}

/// SPDX 3.0 §4 (serialization): `https://spdx.org/rdf/3.0.1/spdx-context.jsonld`, and a graph of elements.
fn spdx_3(read: &Document, context: &str) -> Result<SbomKind, SbomError> {
    let version = (context.strip_prefix("https://spdx.org/rdf/"))
        .and_then(|rest| rest.strip_suffix("/spdx-context.jsonld"))
        .ok_or(SbomError::Neither)?;
    let broken = |problem| SbomError::Broken {
        format: "SPDX",
        problem,
    };
    if !is_version(version) {
        return Err(broken("\"@context\" names no version such as 3.0.1"));
    }
    let graph = read.graph.as_ref();
    let graph = graph.ok_or_else(|| broken("there is no \"@graph\""))?;
    Ok(SbomKind {
        format: SbomFormat::Spdx,
        spec_version: version.to_owned(),
        components: graph.0,
    })
}

/// Numbers with dots between them.
fn is_version(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 16 && text.contains('.') && text.split('.').all(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(text: &str) -> Result<(&'static str, String, u32), SbomError> {
        SbomKind::of(text.as_bytes())
            .map(|kind| (kind.format.name(), kind.spec_version, kind.components))
    }

    const SPDX: &str = r#"{"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "dataLicense": "CC0-1.0", "name": "meter",
        "documentNamespace": "https://example.com/meter", "packages": [{"name": "a"}, {"name": "b"}]}"#;

    #[test]
    fn a_document_is_what_it_says() {
        for (text, expected) in [
            (
                r#"{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"mbedtls"}]}"#,
                ("cyclonedx", "1.6", 1),
            ),
            (
                r#" {"$schema":"x","specVersion":"1.5","bomFormat":"CycloneDX"}"#,
                ("cyclonedx", "1.5", 0),
            ),
            (SPDX, ("spdx", "2.3", 2)),
            (
                r#"{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[{},{},{}]}"#,
                ("spdx", "3.0.1", 3),
            ),
        ] {
            let (format, version, components) = expected;
            assert_eq!(kind(text), Ok((format, version.to_owned(), components)));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "{}",
            "[]",
            "7",
            r#"["CycloneDX","1.6"]"#,
            r#"{"bomFormat":"cyclonedx","specVersion":"1.6"}"#,
            r#"{"bomFormat":"CycloneDX","specVersion":"1.6","spdxVersion":"SPDX-2.3"}"#,
            r#"{"@context":"https://example.com/context.jsonld","@graph":[]}"#,
            r#"{"@context":["https://spdx.org/rdf/3.0.1/spdx-context.jsonld"],"@graph":[]}"#,
        ] {
            assert_eq!(kind(text), Err(SbomError::Neither), "{text}");
        }
        for text in [
            r#"{"bomFormat":"CycloneDX"}"#,
            r#"{"bomFormat":"CycloneDX","specVersion":"new"}"#,
            &SPDX.replace("SPDX-2.3", "2.3"),
            &SPDX.replace("SPDXRef-DOCUMENT", "x"),
            &SPDX.replace("dataLicense", "x"),
            &SPDX.replace("documentNamespace", "x"),
            r#"{"@context":"https://spdx.org/rdf/next/spdx-context.jsonld","@graph":[]}"#,
            r#"{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld"}"#,
        ] {
            let refused = kind(text);
            assert!(matches!(refused, Err(SbomError::Broken { .. })), "{text}");
        }
        for text in [
            "",
            "<bom/>",
            &SPDX[..40],
            r#"{"bomFormat":"CycloneDX","specVersion":"1.6","components":{}}"#,
            r#"{"bomFormat":"CycloneDX","specVersion":1.6}"#,
            r#"{"bomFormat":"CycloneDX","bomFormat":"CycloneDX","specVersion":"1.6"}"#,
            &"{\"a\":".repeat(10_000),
        ] {
            let refused = kind(text);
            assert!(matches!(refused, Err(SbomError::Json(_))), "{text:.50}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fall(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(SbomKind::of(&bytes).is_err());
        }
    }
}
