//! What is kept beside a package's content: who vouches for it, what it is made of, and what it mends.

use jiff::civil::Date;
use thiserror::Error;

use super::{PackageRecord, StoreError};
use crate::{
    clock::UtcMillis,
    ledger::PackageId,
    package::{CveId, SbomKind},
    signing::{Algorithm, KeyId},
};

/// A signature over a package's bytes, that was verified when it was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSignature {
    /// The key that verified it.
    pub key: KeyId,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// The signature.
    pub bytes: Vec<u8>,
    /// When it was verified.
    pub verified_at: UtcMillis,
    /// When the key was removed from its product; `None` while it is there.
    pub key_removed_at: Option<UtcMillis>,
}

/// A bill of materials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SbomRecord {
    /// What it is.
    pub kind: SbomKind,
    /// SHA-256 of the document, 64 lower-case hexadecimal digits: the name of its file.
    pub sha256: String,
    /// Its length.
    pub size_bytes: u64,
}

/// What is kept beside a package's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Papers {
    /// Who vouches for it.
    pub signature: Option<PackageSignature>,
    /// What it is made of.
    pub sbom: Option<SbomRecord>,
    /// Vulnerabilities that its version mends, in order, each once.
    pub cves_mended: Vec<CveId>,
    /// The last day on which its version is supported.
    pub support_ends: Option<Date>,
    /// What is new in it.
    pub release_notes: Option<String>,
}

impl Papers {
    /// Takes from `newer` what that has. The same package that comes again brings what was not there before.
    #[must_use]
    pub fn with(self, newer: &Self) -> Self {
        let newer = newer.clone();
        Self {
            signature: newer.signature.or(self.signature),
            sbom: newer.sbom.or(self.sbom),
            cves_mended: if newer.cves_mended.is_empty() {
                self.cves_mended
            } else {
                newer.cves_mended
            },
            support_ends: newer.support_ends.or(self.support_ends),
            release_notes: newer.release_notes.or(self.release_notes),
        }
    }

    /// Changes what is to be changed.
    #[must_use]
    pub fn changed(mut self, change: &PapersChange) -> Self {
        if let Some(sbom) = &change.sbom {
            self.sbom.clone_from(sbom);
        }
        if let Some(cves) = &change.cves_mended {
            self.cves_mended.clone_from(cves);
        }
        if let Some(support_ends) = change.support_ends {
            self.support_ends = support_ends;
        }
        if let Some(notes) = &change.release_notes {
            self.release_notes.clone_from(notes);
        }
        self
    }
}

/// What to change about a package. `None` leaves it as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PapersChange {
    /// Another bill of materials, or none.
    pub sbom: Option<Option<SbomRecord>>,
    /// Other vulnerabilities that it mends, in order, each once.
    pub cves_mended: Option<Vec<CveId>>,
    /// Another end of its support, or none that is known.
    pub support_ends: Option<Option<Date>>,
    /// Other notes, or none.
    pub release_notes: Option<Option<String>>,
}

/// What [`super::Catalog::update_package`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatedPackage {
    /// The package as it is now.
    pub record: PackageRecord,
    /// The name of a file that nothing refers to any more.
    pub unused: Option<String>,
}

/// Why a package was not changed.
#[derive(Debug, Error)]
pub enum UpdatePackageError {
    /// No such package.
    #[error("there is no package {}", .0.0)]
    NotFound(PackageId),
    /// Somebody has changed it meanwhile.
    #[error("package {} was changed meanwhile: it has revision {revision}; look at it again", .id.0)]
    Changed {
        /// The package.
        id: PackageId,
        /// Its revision.
        revision: u32,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}
