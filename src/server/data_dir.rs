//! The data directory: there once, for one server, and for its owner alone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use super::{LISTENING_FILE, Listening, StartError};
use crate::store::free_bytes;

pub(super) const LOCK_FILE: &str = "cellwise.lock";
/// Here while a backup is restored. Where it stays, some of the backup is missing.
pub(super) const HALF_RESTORED: &str = "restore.incomplete";
/// Here from the end of a restore to the start that takes note of it. Whoever puts an older data directory back in another way, as
/// from a snapshot, makes this file.
pub(super) const RESTORED: &str = "restored";
/// Below this the server does not start: the database's log and an upload's first parts need room.
pub(super) const LEAST_ROOM_MIB: u64 = 8;
/// Below this it says so.
pub(super) const SCANT_ROOM_MIB: u64 = 256;

/// Makes the directory, takes it for this server, and sees to who may look into it. The lock lasts as long as the file.
pub(super) fn take(dir: &Path) -> Result<File, StartError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::DataDir { path, source }
    };
    (DirBuilder::new().recursive(true).mode(0o700))
        .create(dir)
        .map_err(failed(dir))?;
    let path = dir.join(LOCK_FILE);
    // A directory of somebody else's is not ours to close, such as one that data_dir names by mistake.
    let ours = path.exists() || is_empty(dir).map_err(failed(dir))?;
    let lock = (OpenOptions::new().write(true).create(true).truncate(false))
        .mode(0o600)
        .open(&path)
        .map_err(failed(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StartError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => return Err(failed(&path)(source)),
    }
    if dir.join(HALF_RESTORED).exists() {
        return Err(StartError::HalfRestored(dir.to_owned()));
    }
    close_to_others(dir, ours).map_err(failed(dir))?;
    has_room(dir)?;
    Ok(lock)
}

/// Why the directory could not be taken, as far as that can be told without touching it.
pub(super) fn unfit(dir: &Path) -> Option<StartError> {
    let failed = |source| StartError::DataDir {
        path: dir.to_owned(),
        source,
    };
    match fs::read_dir(dir) {
        Ok(_) => has_room(dir).err(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(failed(error)),
    }
}

fn is_empty(dir: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(dir)?.next().is_none())
}

fn close_to_others(dir: &Path, ours: bool) -> io::Result<()> {
    let mode = fs::metadata(dir)?.permissions().mode() & 0o777;
    let open = mode & 0o077 != 0;
    if !open {
        return Ok(());
    }
    if ours && fs::set_permissions(dir, Permissions::from_mode(0o700)).is_ok() {
        tracing::warn!(
            data_dir = %dir.display(),
            "the data directory was open to others (mode {mode:04o}); its mode is 0700 now"
        );
    } else {
        tracing::warn!(
            data_dir = %dir.display(),
            "the data directory is open to others (mode {mode:04o}); run chmod 700 {}", dir.display()
        );
    }
    Ok(())
}

fn has_room(dir: &Path) -> Result<(), StartError> {
    let Some(bytes) = free_bytes(dir) else {
        return Ok(()); // a system that does not tell
    };
    let mib = bytes / (1024 * 1024);
    if mib < LEAST_ROOM_MIB {
        return Err(StartError::NoRoom {
            path: dir.to_owned(),
            mib,
            least_mib: LEAST_ROOM_MIB,
        });
    }
    if mib < SCANT_ROOM_MIB {
        tracing::warn!(data_dir = %dir.display(), free_mib = mib, "there is little room left on the disk");
    }
    Ok(())
}

/// Whether an older state was put back, and the database does not know it yet.
pub(super) fn was_restored(dir: &Path) -> bool {
    dir.join(RESTORED).exists()
}

/// The database knows now that it was put back.
pub(super) fn restore_is_noted(dir: &Path) -> Result<(), StartError> {
    let path = dir.join(RESTORED);
    let removed = fs::remove_file(&path).and_then(|()| File::open(dir)?.sync_all());
    removed.map_err(|source| StartError::DataDir { path, source })
}

/// Whoever started the server on free ports finds them here.
pub(super) fn write_listening(dir: &Path, listening: &Listening) -> Result<(), StartError> {
    let path = dir.join(LISTENING_FILE);
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        let pid = std::process::id();
        let text = serde_json::json!({
            "coap": listening.coap,
            "coaps": listening.coaps,
            "mqtt": listening.mqtt,
            "mqtts": listening.mqtts,
            "admin": listening.admin,
            "app": listening.app,
            "download_http": listening.http,
            "download_https": listening.https,
            "pid": pid,
        });
        writeln!(file, "{text}")?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(|source: io::Error| StartError::DataDir {
        path: path.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_directory_is_made_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/data");
        let lock = take(&data).unwrap();
        assert_eq!((mode(&data), mode(&data.join(LOCK_FILE))), (0o700, 0o600));
        assert!(matches!(take(&data), Err(StartError::InUse(_))));
        drop(lock);
        take(&data).unwrap();
    }

    #[test]
    fn a_directory_that_was_open_is_closed_and_one_of_somebody_else_is_left_alone() {
        let open = Permissions::from_mode(0o755);
        let dir = tempfile::tempdir().unwrap();
        let (empty, strange) = (dir.path().join("empty"), dir.path().join("strange"));
        for path in [&empty, &strange] {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, open.clone()).unwrap();
        }
        fs::write(strange.join("letters"), "").unwrap();
        drop(take(&empty).unwrap());
        drop(take(&strange).unwrap());
        assert_eq!((mode(&empty), mode(&strange)), (0o700, 0o755));
    }
}
