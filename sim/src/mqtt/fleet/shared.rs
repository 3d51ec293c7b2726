//! What the devices of a fleet have in common.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::Target;

/// What the devices of a fleet have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: Target,
    pub(super) socket_errors: AtomicU64,
    pub(super) bytes: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Shared {
    pub(super) const fn new(target: Target) -> Self {
        Self {
            target,
            socket_errors: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    pub(super) fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn last_error(&self) -> Option<String> {
        let last = self.last_error.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, error: String) {
        self.socket_errors.fetch_add(1, Ordering::Relaxed);
        let last = self.last_error.lock();
        *last.unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}
