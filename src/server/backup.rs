//! Backups: a directory with the database, the packages' files, the token, and a manifest that says what they are.
//!
//! A backup is made beside a running server, and it is not asked: a reader of the database keeps no writer waiting, and
//! packages' files never change. It is written under a name that ends in `.incomplete`, read again, and renamed when all of it
//! is on the disk. Whatever has the final name is whole.
//!
//! A package may be uploaded or deleted meanwhile. So files are copied, then the database, then the files that it has come to
//! refer to. Where one of these is gone already, the database is copied again.

mod copy;
mod manifest;
mod mark;
mod restore;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

pub(super) use self::copy::hashed;
use self::{
    copy::{copied, private, sync_dir},
    manifest::MANIFEST,
};
pub use self::{
    manifest::{Entry, Manifest},
    mark::LastBackup,
    restore::{Restored, restore},
};
use super::StartError;
use crate::{
    api::TOKEN_FILE,
    clock::UtcMillis,
    store::{
        DatabaseFile, Depth, FILE_NAME, KeptContent, OpenError, PACKAGES_DIRECTORY, free_bytes,
    },
};

/// What is not whole ends so.
const INCOMPLETE: &str = ".incomplete";
/// After so long nobody writes any more to a backup that is not whole.
const ABANDONED_AFTER: Duration = Duration::from_hours(24);
/// What every backup's name begins with; the time follows.
const PREFIX: &str = "cellwise-";
/// How often the database is copied where packages come and go meanwhile.
const ATTEMPTS: u32 = 3;
/// Between two looks at how far the copy of the database is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Room that is left beside a backup.
const SPARE_BYTES: u64 = 16 * 1024 * 1024;

/// Why a backup was not made, or not restored.
#[derive(Debug, Error)]
pub enum BackupError {
    /// A file or directory.
    #[error("cannot {doing} {path}: {source}", path = .path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A database.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The data directory that a backup is restored into.
    #[error(transparent)]
    Directory(#[from] StartError),
    /// There is no server's data.
    #[error("{} holds no {FILE_NAME}; name the server's data directory by --data-dir, or its settings by --config", .0.display())]
    NoData(PathBuf),
    /// Backups of backups.
    #[error("{} is in the data directory itself; a backup belongs on another disk", .0.display())]
    Inside(PathBuf),
    /// Not enough room.
    #[error("{path} has {free_mib} MiB of free space, and {needed_mib} MiB are needed", path = .path.display())]
    NoRoom {
        /// Where it is missing.
        path: PathBuf,
        /// What is free.
        free_mib: u64,
        /// What is needed.
        needed_mib: u64,
    },
    /// What is to be restored is no backup.
    #[error("{path} is no backup: {problem}", path = .path.display())]
    NoBackup {
        /// The directory.
        path: PathBuf,
        /// What is missing or odd.
        problem: String,
    },
    /// A backup of a newer program.
    #[error(
        "{path} was made by Cellwise {version}: its database has the form {step}, and this version knows those up to {known}; \
         restore it with that version or a newer one", path = .path.display()
    )]
    Newer {
        /// The backup.
        path: PathBuf,
        /// Who made it.
        version: String,
        /// The form of its database.
        step: i64,
        /// The newest form that this program knows.
        known: i64,
    },
    /// A file of a backup is not what was written.
    #[error("{path} is damaged: {problem}; take another backup", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Something is there already.
    #[error("{} is not empty; a backup is restored into an empty directory, or one that is not there yet", .0.display())]
    NotEmpty(PathBuf),
}

/// Names what was tried with a file.
fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bytes of the database, and of how many.
    Database(u64, u64),
    /// Packages' files, and of how many.
    Packages(usize, usize),
    /// What was written is read again.
    Checking,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its directory.
    pub path: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
}

/// Makes a backup of a data directory, whether a server uses it or not, in a directory of its own below `to`.
///
/// # Errors
/// Nothing is left behind then but, after a power failure, a directory whose name ends in `.incomplete`.
pub async fn back_up(
    data_dir: &Path,
    to: &Path,
    now: UtcMillis,
    tell: &mut dyn FnMut(Progress),
) -> Result<Made, BackupError> {
    if !data_dir.join(FILE_NAME).is_file() {
        return Err(BackupError::NoData(data_dir.to_owned()));
    }
    let mut whole = DirBuilder::new();
    let parents = whole.recursive(true).mode(0o700).create(to);
    parents.map_err(failed("create", to))?;
    let resolved = |path: &Path| fs::canonicalize(path).map_err(failed("find", path));
    if resolved(to)?.starts_with(resolved(data_dir)?) {
        return Err(BackupError::Inside(to.to_owned()));
    }
    let name = format!("{PREFIX}{}", stamp(now));
    let path = to.join(&name);
    if path.exists() {
        let there = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(failed("create", &path)(there));
    }
    let draft = Draft::begin(to.join(format!("{name}{INCOMPLETE}")))?;
    let manifest = Collection::new(data_dir, draft.path(), tell)
        .collect(now)
        .await?;
    draft.end(&path, to)?;
    Ok(Made { path, manifest })
}

/// `2026-11-29T21:15:00.000Z` as `20261129T211500Z`.
fn stamp(now: UtcMillis) -> String {
    let text = now.to_string();
    let seconds = text.split('.').next().unwrap_or_default();
    format!("{}Z", seconds.replace(['-', ':'], ""))
}

/// Whole backups below `to`, the oldest first.
///
/// # Errors
/// The directory cannot be read.
pub fn backups(to: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(to).map_err(failed("list", to))? {
        let path = entry.map_err(failed("list", to))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(is_backup) && path.join(MANIFEST).is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_backup(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|stamp| {
        let stamp = stamp.as_bytes();
        stamp.len() == 16
            && stamp[8] == b'T'
            && stamp[15] == b'Z'
            && stamp.iter().filter(|byte| byte.is_ascii_digit()).count() == 14
    })
}

/// Removes all backups below `to` but the one that was made just now and the newest others, `keep` in all. Returns how many. What a
/// power failure has left more than a day ago is removed too.
///
/// # Errors
/// One cannot be removed.
pub fn prune(to: &Path, made: &Path, keep: usize, now: UtcMillis) -> Result<usize, BackupError> {
    remove_incomplete(to, now)?;
    let mut old = backups(to)?;
    // by name it need not be the newest: the clock may have been ahead before
    old.retain(|path| path.file_name() != made.file_name());
    old.truncate(old.len().saturating_sub(keep.saturating_sub(1)));
    for path in &old {
        // what is removed in part only is not taken for whole
        let gone = path.with_extension(&INCOMPLETE[1..]);
        fs::rename(path, &gone).map_err(failed("remove", path))?;
        fs::remove_dir_all(&gone).map_err(failed("remove", &gone))?;
    }
    Ok(old.len())
}

/// Removes backups that did not come to their end and that nobody has written to for a day.
fn remove_incomplete(to: &Path, now: UtcMillis) -> Result<(), BackupError> {
    for entry in fs::read_dir(to).map_err(failed("list", to))? {
        let path = entry.map_err(failed("list", to))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.and_then(|name| name.strip_suffix(INCOMPLETE));
        if !name.is_some_and(is_backup) || !path.is_dir() {
            continue;
        }
        let written = last_written(&path).map_err(failed("list", &path))?;
        if written < now.before(ABANDONED_AFTER) {
            fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}

/// When a directory or something that stands in it was written to.
fn last_written(dir: &Path) -> io::Result<UtcMillis> {
    let mut last = fs::metadata(dir)?.mtime();
    for entry in fs::read_dir(dir)? {
        last = last.max(entry?.metadata()?.mtime());
    }
    Ok(UtcMillis(last.saturating_mul(1_000)))
}

/// A directory that is removed unless it comes to its end.
struct Draft(Option<PathBuf>);

impl Draft {
    fn begin(path: PathBuf) -> Result<Self, BackupError> {
        let created = DirBuilder::new().mode(0o700).create(&path);
        created.map_err(failed("create", &path))?;
        let packages = path.join(PACKAGES_DIRECTORY);
        let draft = Self(Some(path));
        let created = DirBuilder::new().mode(0o700).create(&packages);
        created.map_err(failed("create", &packages))?;
        Ok(draft)
    }

    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    /// Gives it its final name, durably.
    fn end(mut self, path: &Path, above: &Path) -> Result<(), BackupError> {
        sync_dir(&self.path().join(PACKAGES_DIRECTORY))?;
        sync_dir(self.path())?;
        fs::rename(self.path(), path).map_err(failed("create", path))?;
        self.0 = None;
        sync_dir(above)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_dir_all(path); // its name says that it is not whole
        }
    }
}

/// What is collected for a backup.
struct Collection<'a> {
    data_dir: &'a Path,
    into: &'a Path,
    tell: &'a mut dyn FnMut(Progress),
    packages: BTreeMap<String, Entry>,
    /// Contents whose files are damaged.
    damaged: BTreeSet<String>,
}

impl<'a> Collection<'a> {
    fn new(data_dir: &'a Path, into: &'a Path, tell: &'a mut dyn FnMut(Progress)) -> Self {
        Self {
            data_dir,
            into,
            tell,
            packages: BTreeMap::new(),
            damaged: BTreeSet::new(),
        }
    }

    async fn collect(mut self, now: UtcMillis) -> Result<Manifest, BackupError> {
        let source = self.data_dir.join(FILE_NAME);
        let mut database = DatabaseFile::open(&source).await?;
        let size_bytes = database.size_bytes().await?;
        let contents = database.contents().await?;
        let packages: u64 = contents.iter().map(|content| content.size_bytes).sum();
        has_room(self.into, size_bytes + packages + SPARE_BYTES)?;
        self.take(&contents)?;
        let copy = self.into.join(FILE_NAME);
        let mut left = ATTEMPTS;
        let left_out = loop {
            self.copy_database(&mut database, &copy, size_bytes).await?;
            let mut written = DatabaseFile::open_unused(&copy).await?;
            let needed = written.contents().await?;
            written.close().await;
            let missing = self.take(&needed)?;
            left -= 1;
            if missing.is_empty() || left == 0 {
                self.forget_all_but(&needed)?;
                break missing;
            }
            fs::remove_file(&copy).map_err(failed("remove", &copy))?;
        };
        database.close().await;
        (self.tell)(Progress::Checking);
        let mut written = DatabaseFile::open_unused(&copy).await?;
        let problems = written.problems(Depth::Whole).await?;
        let step = written.step().await?;
        written.close().await;
        if let Some(problem) = problems.first() {
            return Err(BackupError::Damaged {
                path: source,
                problem: problem.clone(),
            });
        }
        private(&copy)?;
        let mut files = vec![Entry::of(FILE_NAME, hashed(&copy)?)];
        let token = self.data_dir.join(TOKEN_FILE);
        if token.is_file() {
            let copied = copied(&token, &self.into.join(TOKEN_FILE))?;
            files.push(Entry::of(TOKEN_FILE, copied));
        }
        files.extend(self.packages.into_values());
        let manifest = Manifest::new(now, step, files, left_out);
        manifest.write(self.into)?;
        Ok(manifest)
    }

    /// Copies the contents that are not copied yet. Returns those that cannot be had, or are not what was uploaded.
    fn take(&mut self, contents: &[KeptContent]) -> Result<Vec<String>, BackupError> {
        let mut missing = Vec::new();
        for (done, content) in contents.iter().enumerate() {
            (self.tell)(Progress::Packages(done, contents.len()));
            let name = &content.sha256;
            if self.packages.contains_key(name) {
                continue;
            }
            if self.damaged.contains(name) {
                missing.push(name.clone());
                continue;
            }
            let relative = format!("{PACKAGES_DIRECTORY}/{name}");
            let to = self.into.join(&relative);
            match copied(&self.data_dir.join(&relative), &to) {
                Ok(copied) if copied.is(content) => {
                    let entry = Entry::of(&relative, copied);
                    self.packages.insert(name.clone(), entry);
                }
                Ok(_) => {
                    fs::remove_file(&to).map_err(failed("remove", &to))?;
                    self.damaged.insert(name.clone());
                    missing.push(name.clone());
                }
                Err(BackupError::File { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    missing.push(name.clone());
                }
                Err(error) => return Err(error),
            }
        }
        (self.tell)(Progress::Packages(contents.len(), contents.len()));
        Ok(missing)
    }

    /// Removes the contents to which nothing refers any more.
    fn forget_all_but(&mut self, needed: &[KeptContent]) -> Result<(), BackupError> {
        let needed: BTreeSet<&str> = needed.iter().map(|content| &*content.sha256).collect();
        let names: Vec<String> = self.packages.keys().cloned().collect();
        for name in names.iter().filter(|name| !needed.contains(name.as_str())) {
            let path = self.into.join(PACKAGES_DIRECTORY).join(name);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            self.packages.remove(name);
        }
        Ok(())
    }

    async fn copy_database(
        &mut self,
        database: &mut DatabaseFile,
        copy: &Path,
        size_bytes: u64,
    ) -> Result<(), BackupError> {
        let copying = database.copy_to(copy);
        tokio::pin!(copying);
        loop {
            tokio::select! {
                copied = &mut copying => {
                    copied?;
                    (self.tell)(Progress::Database(size_bytes, size_bytes));
                    return Ok(());
                }
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let done = fs::metadata(copy).map_or(0, |file| file.len());
                    (self.tell)(Progress::Database(done.min(size_bytes), size_bytes));
                }
            }
        }
    }
}

fn has_room(dir: &Path, needed: u64) -> Result<(), BackupError> {
    const MIB: u64 = 1024 * 1024;
    let Some(free) = free_bytes(dir) else {
        return Ok(()); // a system that does not tell
    };
    if free < needed {
        return Err(BackupError::NoRoom {
            path: dir.to_owned(),
            free_mib: free / MIB,
            needed_mib: needed.div_ceil(MIB),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
