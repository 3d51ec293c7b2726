//! Memory that the system may take back, because a file holds the same bytes: one of three islands
//! of unsafe code.
#![allow(unsafe_code)]

use std::{
    io::{self, Write},
    path::Path,
};

use bytes::Bytes;
use memmap2::Mmap;

/// A copy of `bytes` in a file in `dir` that has no name, mapped into memory. Pages that are not read for long make
/// room for others, and are read from the disk again.
///
/// # Errors
/// The disk is full, or the system does not map files there.
pub(super) fn copy(dir: &Path, bytes: &[u8]) -> io::Result<Bytes> {
    let mut file = tempfile::tempfile_in(dir)?;
    file.write_all(bytes)?;
    // What is read later is on the disk now, or the error is.
    file.sync_data()?;
    // SAFETY: what is mapped must not change. The file has no name, its only descriptor is closed at the end of this
    // function, and nothing was given either: nobody can open, write or cut it.
    let map = unsafe { Mmap::map(&file) }?;
    Ok(Bytes::from_owner(map))
}
