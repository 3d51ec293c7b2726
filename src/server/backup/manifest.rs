//! What a backup says of itself.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{BackupError, copy::Copied, failed};
use crate::{
    api::TOKEN_FILE,
    clock::UtcMillis,
    store::{FILE_NAME, PACKAGES_DIRECTORY, newest_known_step},
};

/// Its file in a backup. It is written last.
pub(super) const MANIFEST: &str = "manifest.json";
/// The form of backups that this program makes and reads.
const FORMAT: u32 = 1;
/// A hundred thousand packages fit.
const MAX_BYTES: u64 = 32 * 1024 * 1024;

/// What a backup is, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of the backup.
    pub format: u32,
    /// The version of Cellwise that made it.
    pub version: String,
    /// When it was begun, RFC 3339. What was committed by then is in it.
    pub created_at: String,
    /// The newest step of the form of its database.
    pub database_step: i64,
    /// Its files.
    pub files: Vec<Entry>,
    /// Packages that the database has and whose files were missing or damaged, by their SHA-256.
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// What tells whether this program may read the rest.
#[derive(Deserialize)]
struct Form {
    format: u32,
    version: String,
    database_step: i64,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path in the backup, and in the data directory.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
    /// SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl Entry {
    pub(super) fn of(path: &str, copied: Copied) -> Self {
        Self {
            path: path.to_owned(),
            size_bytes: copied.size_bytes,
            sha256: copied.sha256,
        }
    }

    /// Whether a backup has a file of this name: none leads out of it.
    fn is_known(&self) -> bool {
        let package = self.path.strip_prefix(PACKAGES_DIRECTORY);
        let package = package.and_then(|path| path.strip_prefix('/'));
        match package {
            Some(name) => name == self.sha256 && is_sha256(name),
            None => [FILE_NAME, TOKEN_FILE].contains(&&*self.path),
        }
    }
}

fn is_sha256(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Manifest {
    pub(super) fn new(
        now: UtcMillis,
        database_step: i64,
        files: Vec<Entry>,
        left_out: Vec<String>,
    ) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: now.to_string(),
            database_step,
            files,
            left_out,
        }
    }

    /// The length of all files.
    pub fn size_bytes(&self) -> u64 {
        let sizes = self.files.iter().map(|file| file.size_bytes);
        sizes.fold(0, u64::saturating_add)
    }

    /// How many packages' files are in it.
    pub fn packages(&self) -> usize {
        let package = |file: &&Entry| file.path.starts_with(PACKAGES_DIRECTORY);
        self.files.iter().filter(package).count()
    }

    pub(super) fn write(&self, into: &Path) -> Result<(), BackupError> {
        let path = into.join(MANIFEST);
        let write = || {
            let mut file: File = (OpenOptions::new().write(true).create_new(true))
                .mode(0o600)
                .open(&path)?;
            serde_json::to_writer_pretty(&mut file, self).map_err(io::Error::other)?;
            writeln!(file)?;
            file.sync_all()
        };
        write().map_err(failed("write", &path))
    }

    /// Reads the manifest of a backup, and checks that this program may restore it.
    pub(super) fn read(from: &Path) -> Result<Self, BackupError> {
        let none = |problem: String| BackupError::NoBackup {
            path: from.to_owned(),
            problem,
        };
        let name = from.file_name().map(|name| name.to_string_lossy());
        if name.is_some_and(|name| name.ends_with(super::INCOMPLETE)) {
            return Err(none("it did not come to its end".to_owned()));
        }
        let path = from.join(MANIFEST);
        let length = fs::metadata(&path).map(|file| file.len());
        let length = length.map_err(|error| none(format!("it has no {MANIFEST} ({error})")))?;
        if length > MAX_BYTES {
            return Err(none(format!(
                "its {MANIFEST} has more than {MAX_BYTES} bytes"
            )));
        }
        let text = fs::read(&path).map_err(failed("read", &path))?;
        // the form first: what a newer one has else is not known
        let odd = |error: serde_json::Error| none(format!("{MANIFEST}: {error}"));
        let form: Form = serde_json::from_slice(&text).map_err(odd)?;
        let known = newest_known_step();
        if form.format > FORMAT || form.database_step > known {
            return Err(BackupError::Newer {
                path: from.to_owned(),
                version: form.version,
                step: form.database_step,
                known,
            });
        }
        let manifest: Self = serde_json::from_slice(&text).map_err(odd)?;
        if let Some(file) = manifest.files.iter().find(|file| !file.is_known()) {
            return Err(none(format!(
                "{MANIFEST} names {:?}, which no backup has",
                file.path
            )));
        }
        if !manifest.files.iter().any(|file| file.path == FILE_NAME) {
            return Err(none(format!("{MANIFEST} does not name {FILE_NAME}")));
        }
        Ok(manifest)
    }
}
