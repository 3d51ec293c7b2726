//! A software package: a version, its content, and the ways in which devices are served it.
//!
//! Pure: the bytes are handed in. Over PCP a package has a check code and numbered segments: [`Segmentation`] decides how
//! it is cut, [`SegmentFrames`] holds the finished frames, built once and shared by every upgrade that serves it.

mod component;
mod content;
mod cve;
mod fits;
mod frames;
mod mending;
mod natural;
mod pcp;
mod sbom;
mod segmentation;
mod spans;
mod version;

pub use self::pcp::{PcpOffer, PcpPackage};
pub use component::{ComponentError, check_component};
pub use content::Content;
pub use cve::{CveError, CveId};
pub use fits::{Fits, choose, is_below, leads_in_a_circle};
pub use frames::SegmentFrames;
pub use mending::{Exposure, Mending};
pub use natural::natural_cmp;
pub use sbom::{SbomError, SbomFormat, SbomKind};
pub use segmentation::{
    DEFAULT_SEGMENT_SIZE, MAX_SEGMENT_COUNT, Segmentation, SegmentationError, UNSAFE_SEGMENT_SIZE,
};
pub use spans::Spans;
pub use version::{Version, VersionError};

use serde::{Deserialize, Serialize};

/// How the versionCheckCode of a product's packages is made.
///
/// Platforms differ: China Telecom's sends a checksum of the package, Huawei's newer edition always
/// sends 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckCodeKind {
    /// The PCP check code of the package's bytes.
    #[default]
    Crc,
    /// Always 0.
    Zero,
}

impl CheckCodeKind {
    /// The versionCheckCode of a package whose bytes have the PCP check code `crc`.
    pub const fn apply(self, crc: u16) -> u16 {
        match self {
            Self::Crc => crc,
            Self::Zero => 0,
        }
    }
}

/// A package that is being served.
#[derive(Debug)]
pub struct Package {
    /// The version that a device runs once upgraded.
    pub version: Version,
    /// Bytes of its content.
    pub size_bytes: u64,
    /// How it is served to devices that speak PCP; `None` where it has too many segments for it, or too long a version.
    pub pcp: Option<PcpPackage>,
    /// How it is served over HTTP, where it is.
    pub http: Option<HttpPackage>,
    /// How it is served in CoAP blocks, where it is.
    pub content: Option<Content>,
    /// The software or the component of a device that it is for, where it is not for the whole.
    pub component: Option<Box<str>>,
}

/// A package as it is served over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPackage {
    /// SHA-256 of its content, 64 lower-case hexadecimal digits: the name of its file.
    pub sha256: String,
}

impl Package {
    /// One that is served over PCP.
    pub fn over_pcp(offer: PcpOffer, frames: SegmentFrames) -> Self {
        Self {
            version: offer.version.into(),
            size_bytes: offer.segmentation.size_bytes(),
            pcp: Some(PcpPackage { offer, frames }),
            http: None,
            content: None,
            component: None,
        }
    }

    /// The same, served over HTTP too.
    #[must_use]
    pub fn and_over_http(self, http: HttpPackage) -> Self {
        Self {
            http: Some(http),
            ..self
        }
    }

    /// One that is served over HTTP alone.
    pub fn over_http(version: Version, size_bytes: u64, http: HttpPackage) -> Self {
        Self {
            version,
            size_bytes,
            pcp: None,
            http: Some(http),
            content: None,
            component: None,
        }
    }

    /// The same, served in CoAP blocks too.
    #[must_use]
    pub fn and_in_blocks(self, content: Content) -> Self {
        Self {
            content: Some(content),
            ..self
        }
    }

    /// The same, for that software or component of a device.
    #[must_use]
    pub fn for_component(self, component: Option<&str>) -> Self {
        Self {
            component: component.map(Into::into),
            ..self
        }
    }

    /// What devices that speak PCP are told of it.
    pub fn pcp_offer(&self) -> Option<&PcpOffer> {
        self.pcp.as_ref().map(|pcp| &pcp.offer)
    }
}
