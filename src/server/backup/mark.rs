//! The newest backup that is whole: a note of it in the data directory, so that the server and `cellwise doctor` know how old it is.
//!
//! The note says when the backup was made and where. It is not part of a backup: after a restore nothing is known of any.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, fchown},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{BackupError, failed};
use crate::clock::UtcMillis;

/// The note's name.
pub(in crate::server) const LAST_BACKUP: &str = "last-backup.json";
/// A note is shorter than this, bytes: a path has 4,096 at most, and each may be escaped.
const MAX_BYTES: u64 = 32 * 1024;

/// The newest backup that is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    /// When it was begun.
    #[serde(with = "crate::clock::rfc3339")]
    pub at: UtcMillis,
    /// Its directory.
    pub path: PathBuf,
}

impl LastBackup {
    /// What the data directory has noted; `None` where there is no note, or none that can be read.
    pub fn of(data_dir: &Path) -> Option<Self> {
        let file = File::open(data_dir.join(LAST_BACKUP)).ok()?;
        let mut text = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Notes it in the data directory, for the user whose directory it is.
    ///
    /// # Errors
    /// The data directory cannot be written. The backup is whole all the same.
    pub fn note(&self, data_dir: &Path) -> Result<(), BackupError> {
        let path = data_dir.join(LAST_BACKUP);
        let write = || {
            let owner = fs::metadata(data_dir)?;
            let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
            serde_json::to_writer(&mut file, self).map_err(io::Error::from)?;
            writeln!(file)?;
            if file.as_file().metadata()?.uid() != owner.uid() {
                // root makes a backup of a server of another user
                fchown(file.as_file(), Some(owner.uid()), Some(owner.gid()))?;
            }
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(failed("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_cannot_be_read_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(LastBackup::of(dir.path()), None);
        let last = LastBackup {
            at: UtcMillis(1_800_000_000_123),
            path: PathBuf::from("/backup/cellwise-20270115T080000Z"),
        };
        last.note(dir.path()).unwrap();
        assert_eq!(LastBackup::of(dir.path()), Some(last));
        let noted = dir.path().join(LAST_BACKUP);
        for text in ["", "{", r#"{"at":"yesterday","path":"/"}"#] {
            fs::write(&noted, text).unwrap();
            assert_eq!(LastBackup::of(dir.path()), None, "{text}");
        }
    }
}
