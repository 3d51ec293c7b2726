//! Check codes of parts, as devices ask for them (`Crc16-Method`): computed at a bounded pace, and kept.
//!
//! A code is computed before the head leaves that has it, from bytes that have to be read for it. Devices of a fleet ask for the same
//! parts, so that most codes are there. Who asks for ever other parts waits: for the pace of its token, and for its turn.

use std::{
    fs::File,
    io,
    num::NonZeroUsize,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crc::{CRC_16_KERMIT, CRC_16_MODBUS, Crc};
use lru::LruCache;
use tokio::{sync::Semaphore, time::sleep};

use super::{Shared, head::CrcKind, packages::Open};
use crate::grants::Live;

/// Codes that are kept: about 200 bytes each.
const KEPT: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();
/// Codes that are computed at the same time: so a crowd neither takes all processors nor a thread each.
const AT_ONCE: usize = 2;
/// Bytes per second over which codes are computed for one token.
const BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
/// Bytes of a file that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// Of which content, which of its bytes, and which code.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    etag: String,
    bytes: Range<u64>,
    kind: CrcKind,
}

/// Those that are known.
pub(super) struct CheckCodes {
    known: Mutex<LruCache<Key, u16>>,
    turns: Semaphore,
}

impl Default for CheckCodes {
    fn default() -> Self {
        Self {
            known: Mutex::new(LruCache::new(KEPT)),
            turns: Semaphore::new(AT_ONCE),
        }
    }
}

impl CheckCodes {
    fn known(&self) -> MutexGuard<'_, LruCache<Key, u16>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The check code of these bytes; `None` where they cannot be read. It is computed on a thread that may wait for the disk.
    pub(super) async fn crc_of(
        &self,
        live: &Live,
        open: &Arc<Open>,
        bytes: &Range<u64>,
        kind: CrcKind,
    ) -> Option<u16> {
        let codes = &self.check_codes;
        let key = Key {
            etag: open.etag.clone(),
            bytes: bytes.clone(),
            kind,
        };
        if let Some(code) = codes.known().get(&key) {
            return Some(*code);
        }
        let wait = {
            let mut pace = live
                .check_code_pace
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now().instant;
            pace.take(bytes.end - bytes.start, BYTES_PER_SECOND, now)
        };
        sleep(wait).await;
        let _turn = codes.turns.acquire().await.ok()?; // it is never closed
        // somebody else may have computed it meanwhile
        if let Some(code) = codes.known().get(&key) {
            return Some(*code);
        }
        let (open, bytes) = (open.clone(), bytes.clone());
        let work = tokio::task::spawn_blocking(move || compute(&open.file, bytes, kind));
        let code = work.await.ok()?.ok()?;
        codes.known().put(key, code);
        Some(code)
    }
}

fn compute(file: &File, bytes: Range<u64>, kind: CrcKind) -> io::Result<u16> {
    static KERMIT: Crc<u16> = Crc::<u16>::new(&CRC_16_KERMIT);
    static MODBUS: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);
    let mut digest = match kind {
        CrcKind::Ccitt => KERMIT.digest(),
        CrcKind::Modbus => MODBUS.digest(),
    };
    let mut buffer = vec![0; READ_BYTES];
    let mut at = bytes.start;
    while at < bytes.end {
        let len = usize::try_from(bytes.end - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..len).unwrap_or_default();
        file.read_exact_at(part, at)?;
        digest.update(part);
        at += len as u64;
    }
    Ok(digest.finalize())
}
