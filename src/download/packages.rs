//! The files that are being served, each opened once however many devices read it.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::UNIX_EPOCH,
};

use super::answer::http_date;
use crate::{
    clock::UtcMillis,
    store::{PackageFiles, ReadError},
};

/// A package's file.
#[derive(Debug)]
pub(super) struct Open {
    /// Its content. It is read at places (pread), so that its readers do not disturb each other.
    pub file: File,
    /// When it was stored, as HTTP writes it.
    pub last_modified: String,
    /// The validator: its SHA-256 in quotation marks.
    pub etag: String,
}

/// Those that are being served.
#[derive(Debug)]
pub(super) struct Packages {
    files: PackageFiles,
    open: Mutex<HashMap<String, Weak<Open>>>,
}

impl Packages {
    pub(super) fn new(files: PackageFiles) -> Self {
        Self {
            files,
            open: Mutex::default(),
        }
    }

    /// The file of that name; its content has this many bytes. It is closed when nobody reads it any more.
    pub(super) async fn open(&self, sha256: &str, size_bytes: u64) -> Result<Arc<Open>, ReadError> {
        if let Some(open) = self.held().get(sha256).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let file = self.files.open_named(sha256, size_bytes).await?;
        let stored = file.metadata().and_then(|metadata| metadata.modified());
        let since = stored
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let millis = since.and_then(|since| i64::try_from(since.as_millis()).ok());
        let opened = Arc::new(Open {
            file,
            last_modified: http_date(UtcMillis(millis.unwrap_or(0))),
            etag: format!("\"{sha256}\""),
        });
        let mut held = self.held();
        held.retain(|_, open| open.strong_count() > 0);
        // somebody else may have opened it meanwhile
        if let Some(open) = held.get(sha256).and_then(Weak::upgrade) {
            return Ok(open);
        }
        held.insert(sha256.to_owned(), Arc::downgrade(&opened));
        Ok(opened)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<String, Weak<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
