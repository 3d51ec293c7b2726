//! Files that are copied and read again.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use super::{BackupError, failed};
use crate::store::KeptContent;

const CHUNK_BYTES: usize = 128 * 1024;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Copied {
    pub(in crate::server) size_bytes: u64,
    /// 64 lower-case hexadecimal digits.
    pub(in crate::server) sha256: String,
    crc: u16,
}

impl Copied {
    /// Whether it is what was uploaded: by its length, its SHA-256 and, where it has one, its check code.
    pub(in crate::server) fn is(&self, content: &KeptContent) -> bool {
        (&self.sha256, self.size_bytes) == (&content.sha256, content.size_bytes)
            && content.crc.is_none_or(|crc| crc == self.crc)
    }
}

/// Reads a file.
pub(in crate::server) fn hashed(path: &Path) -> Result<Copied, BackupError> {
    let file = File::open(path).map_err(failed("read", path))?;
    pass(file, |_| Ok(())).map_err(failed("read", path))
}

/// Copies a file to one that is not there yet, for its owner alone, durably.
pub(super) fn copied(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    let source = File::open(from).map_err(failed("read", from))?;
    let mut copy = (OpenOptions::new().write(true).create_new(true))
        .mode(0o600)
        .open(to)
        .map_err(failed("create", to))?;
    let copied = pass(source, |bytes| copy.write_all(bytes)).map_err(failed("write", to))?;
    copy.sync_all().map_err(failed("sync", to))?;
    Ok(copied)
}

fn pass(mut source: File, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Copied> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut sha256, mut crc, mut size_bytes) = (Sha256::new(), pcp::Checksum::new(), 0);
    loop {
        let read = source.read(&mut buffer)?;
        let bytes = &buffer[..read];
        if bytes.is_empty() {
            break;
        }
        take(bytes)?;
        sha256.update(bytes);
        crc.update(bytes);
        size_bytes += read as u64;
    }
    Ok(Copied {
        size_bytes,
        sha256: hex::encode(sha256.finalize()),
        crc: crc.finish(),
    })
}

/// What a library wrote is for its owner alone, and on the disk.
pub(super) fn private(path: &Path) -> Result<(), BackupError> {
    let mode = Permissions::from_mode(0o600);
    fs::set_permissions(path, mode).map_err(failed("write", path))?;
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(failed("sync", path))
}

/// Makes names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), BackupError> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(failed("sync", path))
}
