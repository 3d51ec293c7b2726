//! A backup becomes a data directory again.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use super::{
    BackupError, Entry, Manifest, Progress, SPARE_BYTES, backups, copied, failed, has_room, hashed,
    sync_dir,
};
use crate::{
    server::data_dir,
    store::{DatabaseFile, Depth, FILE_NAME, PACKAGES_DIRECTORY},
};

/// What a file system of its own has from the beginning.
const FOUND: &str = "lost+found";

/// A backup that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What was in it.
    pub manifest: Manifest,
}

/// Checks the whole backup in `from`, and puts it into `data_dir`, which is empty or not there.
///
/// # Errors
/// The backup is damaged, not whole, or of a newer version: nothing was written. Where writing fails, a file in the directory
/// says so, and no server starts on it.
pub async fn restore(
    from: &Path,
    data_dir: &Path,
    tell: &mut dyn FnMut(Progress),
) -> Result<Restored, BackupError> {
    let manifest = Manifest::read(from).map_err(|error| name_one(from, error))?;
    is_empty(data_dir)?;
    tell(Progress::Checking);
    check(from, &manifest).await?;
    let created = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir);
    created.map_err(failed("create", data_dir))?;
    has_room(data_dir, manifest.size_bytes().saturating_add(SPARE_BYTES))?;
    let _lock = data_dir::take(data_dir)?;
    let mark = data_dir.join(data_dir::HALF_RESTORED);
    let marked = File::create_new(&mark).and_then(|file| file.sync_all());
    marked.map_err(failed("create", &mark))?;
    sync_dir(data_dir)?;
    let packages = data_dir.join(PACKAGES_DIRECTORY);
    let created = DirBuilder::new().mode(0o700).create(&packages);
    created.map_err(failed("create", &packages))?;
    for (done, file) in manifest.files.iter().enumerate() {
        tell(Progress::Packages(done, manifest.files.len()));
        let path = from.join(&file.path);
        let copied = copied(&path, &data_dir.join(&file.path))?;
        file.expect(&path, copied.size_bytes, &copied.sha256)?;
    }
    sync_dir(&packages)?;
    sync_dir(data_dir)?;
    // The server is to know that the database is an older one before it listens to a device.
    let restored = data_dir.join(data_dir::RESTORED);
    let marked = File::create_new(&restored).and_then(|file| file.sync_all());
    marked.map_err(failed("create", &restored))?;
    sync_dir(data_dir)?;
    fs::remove_file(&mark).map_err(failed("remove", &mark))?;
    sync_dir(data_dir)?;
    Ok(Restored { manifest })
}

/// Whoever names the directory of all backups means one of them.
fn name_one(from: &Path, error: BackupError) -> BackupError {
    match backups(from)
        .ok()
        .and_then(|found| found.into_iter().next_back())
    {
        Some(newest) => BackupError::NoBackup {
            path: from.to_owned(),
            problem: format!(
                "it holds backups; name one of them, the newest is {}",
                newest.display()
            ),
        },
        None => error,
    }
}

fn is_empty(data_dir: &Path) -> Result<(), BackupError> {
    let entries = match fs::read_dir(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("list", data_dir))?,
    };
    for entry in entries {
        if entry.map_err(failed("list", data_dir))?.file_name() != FOUND {
            return Err(BackupError::NotEmpty(data_dir.to_owned()));
        }
    }
    Ok(())
}

/// Whether every file is what was written, and the database is sound and has its packages.
async fn check(from: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    for file in &manifest.files {
        let path = from.join(&file.path);
        let found = hashed(&path)?;
        file.expect(&path, found.size_bytes, &found.sha256)?;
    }
    let path = from.join(FILE_NAME);
    let damaged = |problem: String| BackupError::Damaged {
        path: path.clone(),
        problem,
    };
    let mut database = DatabaseFile::open_unused(&path).await?;
    let problems = database.problems(Depth::Whole).await?;
    let contents = database.contents().await?;
    database.close().await;
    if let Some(problem) = problems.into_iter().next() {
        return Err(damaged(problem));
    }
    let there: BTreeSet<&str> = (manifest.files.iter().map(|file| &*file.sha256))
        .chain(manifest.left_out.iter().map(String::as_str))
        .collect();
    let missing = contents
        .iter()
        .find(|content| !there.contains(&*content.sha256));
    missing.map_or(Ok(()), |content| {
        Err(damaged(format!(
            "its package {} is not in the backup",
            content.sha256
        )))
    })
}

impl Entry {
    fn expect(&self, path: &Path, size_bytes: u64, sha256: &str) -> Result<(), BackupError> {
        if (self.size_bytes, &*self.sha256) == (size_bytes, sha256) {
            return Ok(());
        }
        Err(BackupError::Damaged {
            path: path.to_owned(),
            problem: format!(
                "it has {size_bytes} bytes of SHA-256 {sha256}, and was written with {} of {}",
                self.size_bytes, self.sha256
            ),
        })
    }
}
