//! A software package as devices see it: a version, a check code, and numbered segments.
//!
//! Pure: the bytes are handed in. [`Segmentation`] decides how a package is cut,
//! [`SegmentFrames`] holds the finished PCP frames of a cut package, built once and shared by every
//! upgrade that serves it.

mod frames;
mod segmentation;

pub use frames::SegmentFrames;
pub use segmentation::{
    DEFAULT_SEGMENT_SIZE, MAX_SEGMENT_COUNT, Segmentation, SegmentationError, UNSAFE_SEGMENT_SIZE,
};

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

/// What identifies a package towards a device, and how it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageIdentity {
    /// The version the device runs once upgraded.
    pub version: pcp::Version,
    /// Tells a device whether segments that it already holds belong to this package.
    pub check_code: u16,
    /// How the package is cut.
    pub segmentation: Segmentation,
}

/// A package that is being served: what devices are told of it, and its segments.
#[derive(Debug)]
pub struct Package {
    /// What identifies it.
    pub identity: PackageIdentity,
    /// Its segments, ready to send.
    pub frames: SegmentFrames,
}
