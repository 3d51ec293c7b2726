//! The packages' files: named by the SHA-256 of their content, written once, never changed.
//!
//! An upload goes to a temporary name, is synced, and is renamed when its metadata may be written. So
//! a file under its final name is complete, whenever the power fails.

mod mapped;

use std::{
    fs::{DirBuilder, File, Permissions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use md5::Md5;
use nix::sys::statvfs::statvfs;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::{
    io::AsyncWriteExt,
    sync::{Mutex, MutexGuard},
    task::spawn_blocking,
};

use super::{PackageRecord, Store, StoreError};
use crate::package::{self, SegmentFrames};

/// The directory of the packages' files in the data directory.
pub const PACKAGES_DIRECTORY: &str = "packages";
const TEMPORARY: &str = "tmp-";
/// Read at once of a file of any size.
const READ_BYTES: usize = 256 * 1024;

/// Bytes that are free on the disk of a directory; `None` where the system does not tell.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    let system = statvfs(dir).ok()?;
    Some(system.fragment_size() * system.blocks_available())
}

/// Bytes of the disk of a directory; `None` where the system does not tell.
pub fn disk_bytes(dir: &Path) -> Option<u64> {
    let system = statvfs(dir).ok()?;
    Some(system.fragment_size() * system.blocks())
}

/// Something about a file went wrong.
#[derive(Debug, Error)]
#[error("cannot {doing} {path}: {source}")]
pub struct FileError {
    /// What was tried.
    doing: &'static str,
    /// The file.
    path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

impl FileError {
    fn new(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// Why an upload was given up.
#[derive(Debug, Error)]
pub enum UploadError {
    /// More bytes than allowed.
    #[error(
        "the package has more than {max_bytes} bytes, which is the most this server takes (admin.max_package_bytes)"
    )]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// Full disk, and the like.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a package's content cannot be had.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It is gone, or may not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody changed it.
    #[error(
        "{path} is damaged: it is not what was uploaded; delete the package and upload it again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// Why unused files were not removed.
#[derive(Debug, Error)]
pub enum SweepError {
    /// The directory, or a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The directory of the packages' files.
#[derive(Debug, Clone)]
pub struct PackageFiles {
    dir: Arc<Path>,
    lock: Arc<Mutex<()>>,
}

impl PackageFiles {
    /// Opens the directory in `data_dir`, and creates it if it is not there.
    pub async fn open(data_dir: &Path) -> Result<Self, FileError> {
        let dir = data_dir.join(PACKAGES_DIRECTORY);
        let opened = dir.clone();
        blocking(&dir, "open the directory", move || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&opened)?;
            close_to_others(&opened, 0o700)?;
            for entry in std::fs::read_dir(&opened)? {
                close_to_others(&entry?.path(), 0o600)?;
            }
            Ok(())
        })
        .await?;
        Ok(Self {
            dir: dir.into(),
            lock: Arc::default(),
        })
    }

    /// Removes what uploads left that did not end, and files that no package refers to: a crash between a file and its row
    /// leaves one. Only for whoever knows that nobody else has the directory: what looks left may be somebody's work.
    pub async fn remove_unused(&self, store: &dyn Store) -> Result<u64, SweepError> {
        let _kept = self.lock().await;
        let opened = self.dir.clone();
        let names = blocking(&self.dir, "list", move || {
            std::fs::read_dir(&opened)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()
        })
        .await?;
        let mut removed = 0;
        for name in &names {
            let unused = match name {
                name if name.starts_with(TEMPORARY) => true,
                name if is_sha256(name) => !store.content_in_use(name).await?,
                _ => false,
            };
            if unused {
                self.remove(name).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Begins an upload of at most `max_bytes` bytes.
    pub async fn upload(&self, max_bytes: u64) -> Result<Upload, FileError> {
        let mut name = [0; 16];
        getrandom::fill(&mut name).map_err(|error| FileError {
            doing: "choose a name in",
            path: self.dir.to_path_buf(),
            source: io::Error::other(error),
        })?;
        let path = self.dir.join(format!("{TEMPORARY}{}", hex::encode(name)));
        let file = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .await
            .map_err(FileError::new("create", &path))?;
        Ok(Upload {
            temporary: Temporary(path),
            file,
            sha256: Sha256::new(),
            md5: Md5::new(),
            crc: pcp::Checksum::new(),
            size_bytes: 0,
            max_bytes,
        })
    }

    /// Keeps files and metadata in step: held from [`SealedUpload::publish`] until the row is written, and
    /// from a row's deletion until its file is removed.
    pub async fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().await
    }

    /// The content of a package, if it is still what was uploaded.
    pub async fn read(&self, package: &PackageRecord) -> Result<Vec<u8>, ReadError> {
        let package = &package.package;
        self.read_named(&package.sha256, package.size_bytes).await
    }

    /// The file of that name, if it is still what was uploaded.
    pub async fn read_named(
        &self,
        sha256: &str,
        expected_bytes: u64,
    ) -> Result<Vec<u8>, ReadError> {
        let path = self.path(sha256);
        let opened = path.clone();
        // The length is looked at first: a file that was replaced may be larger than memory.
        let content = blocking(&path, "read", move || {
            if std::fs::metadata(&opened)?.len() != expected_bytes {
                return Ok(None);
            }
            let content = std::fs::read(&opened)?;
            let digest = hex::encode(Sha256::digest(&content));
            Ok(Some((content, digest)))
        })
        .await?;
        match content {
            Some((content, digest)) if digest == sha256 => Ok(content),
            _ => Err(ReadError::Damaged { path }),
        }
    }

    /// The file of that name, to be read in parts. What it holds is not looked at, only that it has as many bytes as
    /// expected.
    pub async fn open_named(&self, sha256: &str, expected_bytes: u64) -> Result<File, ReadError> {
        let path = self.path(sha256);
        let opened = path.clone();
        let file = blocking(&path, "open", move || {
            let file = File::open(opened)?;
            Ok((file.metadata()?.len() == expected_bytes).then_some(file))
        })
        .await?;
        file.ok_or(ReadError::Damaged { path })
    }

    /// Whether a package's content is still what was uploaded. It is read in parts.
    pub async fn verify(&self, package: &PackageRecord) -> Result<(), ReadError> {
        self.md5_of(package).await.map(drop)
    }

    /// The MD5 of a package's content, 32 lower-case hexadecimal digits, if it is still what was uploaded.
    pub async fn md5_of(&self, package: &PackageRecord) -> Result<String, ReadError> {
        let package = &package.package;
        let path = self.path(&package.sha256);
        let mut file = self.open_named(&package.sha256, package.size_bytes).await?;
        let digests = blocking(&path, "read", move || {
            let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
            let mut buffer = vec![0; READ_BYTES];
            loop {
                let len = file.read(&mut buffer)?;
                let Some(part) = buffer.get(..len).filter(|part| !part.is_empty()) else {
                    return Ok((hex::encode(sha256.finalize()), hex::encode(md5.finalize())));
                };
                sha256.update(part);
                md5.update(part);
            }
        })
        .await?;
        match digests {
            (sha256, md5) if sha256 == package.sha256 => Ok(md5),
            _ => Err(ReadError::Damaged { path }),
        }
    }

    /// The package's segments, ready to send; `None` where it is not served over PCP. The system may take the memory back while nobody asks for them: a
    /// hundred packages that are being served need no more than those of their segments that are asked for.
    pub async fn frames(
        &self,
        package: &PackageRecord,
    ) -> Result<Option<SegmentFrames>, ReadError> {
        let Some(offer) = &package.package.pcp else {
            return Ok(None);
        };
        let segmentation = offer.segmentation;
        let content = self.read(package).await?;
        let (dir, path) = (self.dir.clone(), self.path(&package.package.sha256));
        let built = blocking(&path, "cut", move || {
            let Some(frames) = SegmentFrames::build(&content, segmentation) else {
                return Ok(None);
            };
            drop(content);
            Ok(Some(match mapped::copy(&dir, frames.as_bytes()) {
                Ok(copy) => frames.kept_in(copy),
                Err(error) => {
                    // A full disk is no reason to stop a download.
                    tracing::warn!(%error, "a package's segments are kept in memory");
                    frames
                }
            }))
        })
        .await?;
        built.map(Some).ok_or(ReadError::Damaged { path })
    }

    /// The package's content, to be served in CoAP blocks, mapped into memory; `None` where it is too long for that. Only for a
    /// file of which it was seen that it is still what was uploaded ([`frames`](Self::frames), [`verify`](Self::verify)).
    pub async fn content(
        &self,
        package: &PackageRecord,
    ) -> Result<Option<package::Content>, ReadError> {
        let package = &package.package;
        let file = self.open_named(&package.sha256, package.size_bytes).await?;
        if package.size_bytes > package::Content::MAX_BYTES || package.size_bytes == 0 {
            return Ok(None);
        }
        let path = self.path(&package.sha256);
        let bytes = blocking(&path, "map", move || mapped::view(&file)).await?;
        Ok(package::Content::new(bytes, &package.sha256))
    }

    /// Removes the content of that name. It is no error when it is not there.
    pub async fn remove(&self, sha256: &str) -> Result<(), FileError> {
        let path = self.path(sha256);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::new("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(sha256)
    }
}

/// A temporary file, removed when nobody has renamed it.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is gone when it was renamed; what cannot be removed is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A file that is being received. Dropping it removes what was written.
#[derive(Debug)]
pub struct Upload {
    temporary: Temporary,
    file: tokio::fs::File,
    sha256: Sha256,
    md5: Md5,
    crc: pcp::Checksum,
    size_bytes: u64,
    max_bytes: u64,
}

impl Upload {
    /// Appends bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        self.size_bytes += bytes.len() as u64;
        if self.size_bytes > self.max_bytes {
            return Err(UploadError::TooLarge {
                max_bytes: self.max_bytes,
            });
        }
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.crc.update(bytes);
        self.file
            .write_all(bytes)
            .await
            .map_err(FileError::new("write", &self.temporary.0))?;
        Ok(())
    }

    /// Ends the upload: syncs the file and tells what it holds.
    pub async fn seal(mut self) -> Result<SealedUpload, FileError> {
        let path = &self.temporary.0;
        self.file
            .flush()
            .await
            .map_err(FileError::new("write", path))?;
        self.file
            .sync_all()
            .await
            .map_err(FileError::new("sync", path))?;
        Ok(SealedUpload {
            temporary: self.temporary,
            content: Content {
                sha256: hex::encode(self.sha256.finalize()),
                md5: hex::encode(self.md5.finalize()),
                size_bytes: self.size_bytes,
                crc: self.crc.finish(),
            },
        })
    }
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// MD5, 32 lower-case hexadecimal digits.
    pub md5: String,
    /// Its length.
    pub size_bytes: u64,
    /// PCP's check code over it.
    pub crc: u16,
}

/// A file that was received and synced, under its temporary name. Dropping it removes it.
#[derive(Debug)]
pub struct SealedUpload {
    temporary: Temporary,
    content: Content,
}

impl SealedUpload {
    /// What it holds.
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// Its bytes, mapped into memory: to be looked at on a thread that may wait for the disk.
    pub async fn map(&self) -> Result<Bytes, FileError> {
        let path = self.temporary.0.clone();
        blocking(&self.temporary.0, "read", move || {
            mapped::view(&File::open(path)?)
        })
        .await
    }

    /// Gives the file its final name, durably.
    pub async fn publish(self, files: &PackageFiles) -> Result<Content, FileError> {
        let path = files.path(&self.content.sha256);
        let (target, dir) = (path.clone(), files.dir.clone());
        let temporary = self.temporary;
        blocking(&path, "publish", move || {
            std::fs::rename(&temporary.0, &target)?;
            File::open(&dir)?.sync_all()
        })
        .await?;
        Ok(self.content)
    }
}

/// Other files in the directory are not ours.
fn is_sha256(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What an earlier version left open, or who copied the directory.
fn close_to_others(path: &Path, mode: u32) -> io::Result<()> {
    if std::fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    path: &Path,
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, FileError> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(FileError::new(doing, path))
}

#[cfg(test)]
mod tests;
