use std::time::Duration;

use super::PullTerms;
use crate::{
    engine::Speaker,
    ledger::{PullToken, TaskId, UpgradeId},
    package::Content,
};

/// What an engine serves a package from that a device fetches, whether it has the device or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub(super) token: PullToken,
    pub(super) content: Content,
    pub(super) upgrade: UpgradeId,
    pub(super) task: TaskId,
    pub(super) block_bytes: u16,
    bytes_per_second: u64,
    secured: bool,
    /// The device.
    endpoint: Box<str>,
    /// The gateway that it is behind.
    gateway: Option<Box<str>>,
}

impl Lease {
    /// A block waits no longer than this: a device that is not answered repeats (RFC 7252 §4.8: after two seconds at the
    /// soonest).
    const MAX_PAUSE: Duration = Duration::from_millis(1_500);

    pub(super) fn new(
        token: PullToken,
        endpoint: Box<str>,
        gateway: Option<Box<str>>,
        terms: &PullTerms,
    ) -> Self {
        Self {
            token,
            content: terms.content.clone(),
            upgrade: terms.upgrade,
            task: terms.task,
            block_bytes: terms.block_bytes,
            bytes_per_second: terms.bytes_per_second,
            secured: terms.secured,
            endpoint,
            gateway,
        }
    }

    /// How long nothing more is answered after so many bytes.
    pub(super) fn pause_after(&self, bytes: u64) -> Duration {
        let millis = (bytes * 1_000).checked_div(self.bytes_per_second);
        Duration::from_millis(millis.unwrap_or_default()).min(Self::MAX_PAUSE)
    }

    /// Bytes of the package.
    pub(super) fn len(&self) -> u64 {
        self.content.bytes().len() as u64
    }

    /// Whether it is for whoever asks: over what its URI names, and over DTLS for the device, or the gateway that it is behind.
    pub(super) fn is_for(&self, speaker: &Speaker<'_>) -> bool {
        if !self.secured {
            return !speaker.peer().secured;
        }
        let gateway = self.gateway.as_deref();
        speaker.has_shown(&self.endpoint) || gateway.is_some_and(|name| speaker.has_shown(name))
    }

    pub(super) const fn is_secured(&self) -> bool {
        self.secured
    }
}
