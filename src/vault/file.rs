//! Secrets in files of their own, which their owner alone may read.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use thiserror::Error;

/// No secret has as many bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Why there is no secret.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// The file cannot be read or written.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Others on this machine may read it.
    #[error(
        "{path} may be read or written by others (mode {mode:04o}): delete it to have a new one made, \
         or run chmod 600 {path}"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A link, a directory, a device.
    #[error(
        "{0} is a link, or another thing than a file: put a file in its place, or delete it to have one made"
    )]
    NoFile(PathBuf),
}

/// Reads a secret; `None`: the file is not there.
///
/// # Errors
/// Others may read the file, it is a link, or it cannot be read.
pub fn read_secret(path: &Path) -> Result<Option<Vec<u8>>, SecretFileError> {
    let error = |source| file_error("read", path, source);
    // not blocked by a pipe that nobody writes to
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) if is_link(path) => return Err(SecretFileError::NoFile(path.to_owned())),
        Err(source) => return Err(error(source)),
    };
    // of what was opened, whatever stands under its name by now
    let metadata = file.metadata().map_err(error)?;
    if !metadata.is_file() {
        return Err(SecretFileError::NoFile(path.to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(SecretFileError::Permissions { path, mode });
    }
    let mut secret = Vec::new();
    file.take(MAX_BYTES)
        .read_to_end(&mut secret)
        .map_err(error)?;
    Ok(Some(secret))
}

/// Writes `secret`, as a line, to a file that is not there yet, mode 0600; its directory is made where it is missing. No crash
/// leaves half of it. Returns whether it was written: not where somebody else was first.
///
/// # Errors
/// The file cannot be written.
pub fn create_secret(path: &Path, secret: &str) -> Result<bool, SecretFileError> {
    let error = |doing| move |source| file_error(doing, path, source);
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(error("create the directory of"))?;
    // under another name first, mode 0600
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(error("create"))?;
    writeln!(file, "{secret}").map_err(error("write"))?;
    file.as_file().sync_all().map_err(error("sync"))?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(refused) => return Err(error("create")(refused.error)),
    }
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(error("sync the directory of"))?;
    Ok(true)
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

fn file_error(doing: &'static str, path: &Path, source: io::Error) -> SecretFileError {
    SecretFileError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below").join("secret");
        assert_eq!(read_secret(&path).unwrap(), None);
        assert!(create_secret(&path, "first").unwrap());
        assert!(!create_secret(&path, "second").unwrap());
        assert_eq!(read_secret(&path).unwrap().unwrap(), b"first\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // nothing is left of the second
        let beside = fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(beside.count(), 1);
    }

    #[test]
    fn what_others_may_read_and_what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        create_secret(&path, "secret").unwrap();
        for mode in [0o640, 0o604, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = read_secret(&path).unwrap_err().to_string();
            assert!(refused.contains("chmod 600"), "{refused}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read_secret(&path).unwrap().is_some());
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for (name, target) in [("link", "secret"), ("dangling", "nothing")] {
            std::os::unix::fs::symlink(dir.path().join(target), dir.path().join(name)).unwrap();
            // nor is anything written through it
            assert!(!create_secret(&dir.path().join(name), "secret").unwrap());
        }
        assert!(!dir.path().join("nothing").exists());
        for name in ["link", "dangling", "pipe", "."] {
            let refused = read_secret(&dir.path().join(name)).unwrap_err();
            assert!(matches!(refused, SecretFileError::NoFile(_)), "{refused}");
        }
    }
}
