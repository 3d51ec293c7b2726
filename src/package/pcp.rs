//! How a package is served over PCP.

use super::{SegmentFrames, Segmentation, Version};

/// What a device is told of a package (PCP 20).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcpOffer {
    /// The version in the protocol's 16 bytes.
    pub version: pcp::Version,
    /// Tells a device whether segments that it already holds belong to this package (versionCheckCode).
    pub check_code: u16,
    /// How the package is cut.
    pub segmentation: Segmentation,
}

/// A package as it is served over PCP.
#[derive(Debug)]
pub struct PcpPackage {
    /// What devices are told of it.
    pub offer: PcpOffer,
    /// Its segments, ready to send.
    pub frames: SegmentFrames,
}

/// What a device says of itself over PCP.
impl From<pcp::Version> for Version {
    fn from(version: pcp::Version) -> Self {
        Self::told(version.significant())
    }
}
