//! An export as a file: a tar archive (POSIX ustar) with the evidence, a manifest that has its SHA-256, the manifest's signature, and the
//! key. Whoever has `tar` and `openssl` can verify it.

use std::io::Read;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{EvidenceCounts, MendedProductBody};
use crate::signing::{MAX_PEM_BYTES, MAX_SIGNATURE_BYTES, PublicKey};

/// What a manifest is called in an archive.
pub(super) const MANIFEST: &str = "manifest.json";
/// The signature over its bytes.
pub(super) const SIGNATURE: &str = "manifest.sig";
/// The key that made it. It proves nothing: whoever forges an archive puts another one here.
pub(super) const KEY: &str = "key.pem";
/// How manifests of this form begin.
const FORMAT: &str = "cellwise-evidence-1";
/// Largest manifest, bytes.
const MAX_MANIFEST: u64 = 1024 * 1024;
/// Read of the evidence at once, bytes.
const CHUNK: usize = 64 * 1024;

/// What is signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// `cellwise-evidence-1`.
    format: String,
    /// The vulnerability.
    pub cve: String,
    /// When it began to be looked at, RFC 3339.
    pub made_at: String,
    /// The products that have packages which mend it, and their versions.
    products: Vec<MendedProductBody>,
    /// What was counted.
    counts: EvidenceCounts,
    /// The name of the file with the evidence.
    pub file: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// The id of the key that signs.
    pub key: String,
    /// What it signs with.
    algorithm: String,
    /// The version of Cellwise that made it.
    cellwise: String,
}

/// The evidence of a manifest.
pub(super) struct Subject<'s> {
    pub(super) cve: String,
    pub(super) made_at: String,
    pub(super) products: Vec<MendedProductBody>,
    pub(super) counts: EvidenceCounts,
    pub(super) file: String,
    pub(super) size_bytes: u64,
    pub(super) sha256: String,
    pub(super) key: &'s PublicKey,
}

impl Manifest {
    pub(super) fn of(subject: Subject<'_>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            cve: subject.cve,
            made_at: subject.made_at,
            products: subject.products,
            counts: subject.counts,
            file: subject.file,
            size_bytes: subject.size_bytes,
            sha256: subject.sha256,
            key: subject.key.id().to_string(),
            algorithm: subject.key.algorithm().name().to_owned(),
            cellwise: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Devices that were looked at, and of these those that are mended, affected, and unknown.
    pub const fn numbers(&self) -> [u64; 4] {
        let counts = &self.counts;
        [
            counts.devices,
            counts.mended,
            counts.affected,
            counts.unknown,
        ]
    }
}

/// The head of a file in the archive, 512 bytes.
///
/// # Errors
/// The name is longer than the format allows.
pub(super) fn head(name: &str, size_bytes: u64, modified_s: u64) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size_bytes);
    header.set_mode(0o644);
    header.set_mtime(modified_s);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

/// What follows a file of this size, up to a whole block.
pub(super) fn padding(size_bytes: u64) -> &'static [u8] {
    let over = usize::try_from(size_bytes % 512).unwrap_or(0);
    if over == 0 { &[] } else { &ZEROS[over..512] }
}

/// The end of an archive: two empty blocks.
pub(super) const END: &[u8] = &ZEROS;

const ZEROS: [u8; 1024] = [0; 1024];

/// Why an archive does not prove what it says.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// No archive of this form.
    #[error("this is no export of evidence: {0}")]
    Form(String),
    /// Another key, or other bytes.
    #[error(
        "the signature is not one by the key {given} over the manifest; the archive says that it was signed by {claimed}"
    )]
    Signature {
        /// The key that was given.
        given: String,
        /// The one that the manifest names.
        claimed: String,
    },
    /// The evidence is not what was signed.
    #[error("{file} is not what was signed: {problem}")]
    Content {
        /// The file in the archive.
        file: String,
        /// What differs.
        problem: String,
    },
}

/// Verifies an archive: the manifest by the key, and the evidence by the manifest. It is read once, and little of it is kept in memory.
///
/// # Errors
/// It does not prove what it says, or cannot be read.
pub fn verify(archive: impl Read, key: &PublicKey) -> Result<Manifest, VerifyError> {
    let form = |error: &dyn std::fmt::Display| VerifyError::Form(error.to_string());
    let mut archive = tar::Archive::new(archive);
    // names of its own form, of which no extension changes the length
    let mut entries = (archive.entries().map_err(|error| form(&error))?).raw(true);
    let mut next = |expected: Option<&str>| {
        let entry = match entries.next() {
            Some(entry) => entry.map_err(|error| form(&error))?,
            None => return Err(VerifyError::Form("it ends too early".to_owned())),
        };
        plain(entry.header())?;
        let name = entry.path().map_err(|error| form(&error))?;
        let name = name.to_string_lossy().into_owned();
        if expected.is_some_and(|expected| expected != name) {
            return Err(VerifyError::Form(format!("it has a file {name:?}")));
        }
        Ok((name, entry))
    };
    let manifest_bytes = small(&mut next(Some(MANIFEST))?.1, MAX_MANIFEST)?;
    let signature = small(&mut next(Some(SIGNATURE))?.1, MAX_SIGNATURE_BYTES as u64)?;
    small(&mut next(Some(KEY))?.1, MAX_PEM_BYTES as u64)?;
    let manifest: Manifest =
        serde_json::from_slice(&manifest_bytes).map_err(|error| form(&error))?;
    if !key.verifies(&manifest_bytes, &signature) {
        return Err(VerifyError::Signature {
            given: key.id().to_string(),
            claimed: manifest.key,
        });
    }
    if manifest.format != FORMAT {
        return Err(VerifyError::Form(format!(
            "its form is {:?}, and {FORMAT:?} is known",
            manifest.format
        )));
    }
    let (name, mut evidence) = next(Some(&manifest.file))?;
    let (size_bytes, sha256) = digest(&mut evidence).map_err(|error| form(&error))?;
    drop(evidence);
    let differs = |problem: String| VerifyError::Content {
        file: name.clone(),
        problem,
    };
    if size_bytes != manifest.size_bytes {
        let expected = manifest.size_bytes;
        return Err(differs(format!(
            "it has {size_bytes} bytes, and {expected} were signed"
        )));
    }
    if sha256 != manifest.sha256 {
        return Err(differs(format!(
            "its SHA-256 is {sha256}, and {} was signed",
            manifest.sha256
        )));
    }
    if entries.next().is_some() {
        return Err(VerifyError::Form("more follows the evidence".to_owned()));
    }
    Ok(manifest)
}

/// Refuses what `tar` would not unpack to the bytes that are read here: a link, a sparse file.
fn plain(header: &tar::Header) -> Result<(), VerifyError> {
    if header.as_ustar().is_some() && header.entry_type().is_file() {
        return Ok(());
    }
    let problem = "it has something that is no plain file";
    Err(VerifyError::Form(problem.to_owned()))
}

fn small(file: &mut impl Read, most: u64) -> Result<Vec<u8>, VerifyError> {
    let mut bytes = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut bytes);
    let read = read.map_err(|error| VerifyError::Form(error.to_string()))?;
    if read as u64 > most {
        return Err(VerifyError::Form("a file in it is too long".to_owned()));
    }
    Ok(bytes)
}

fn digest(file: &mut impl Read) -> std::io::Result<(u64, String)> {
    let (mut sha256, mut size_bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((size_bytes, hex::encode(sha256.finalize())));
        }
        sha256.update(&chunk[..read]);
        size_bytes += read as u64;
    }
}
