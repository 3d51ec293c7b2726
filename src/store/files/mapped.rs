//! Memory that the system may take back, because a file holds the same bytes: one of three islands
//! of unsafe code.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use bytes::Bytes;
use memmap2::Mmap;

/// The content of a file that nobody changes, mapped into memory: it is read when it is looked at, and takes no memory of
/// its own.
///
/// # Errors
/// The system does not map files there.
pub(super) fn view(file: &File) -> io::Result<Bytes> {
    // SAFETY: what is mapped must not change. The file is an upload that has ended: it is in a directory that is closed to
    // others, and nothing of ours writes to it any more, or cuts it, under its temporary name or the final one. A package
    // that is deleted loses its name alone: its bytes stay as long as they are mapped.
    let map = unsafe { Mmap::map(file) }?;
    Ok(Bytes::from_owner(map))
}

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
