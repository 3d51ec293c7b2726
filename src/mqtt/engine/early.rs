//! What devices say before they are read, in the first seconds after a start of the server: kept, within bounds, until they are. A
//! device of `ThingsPanel` tells its version once, when it has connected.

use std::collections::HashMap;

use bytes::Bytes;

use super::super::endpoint::{Ack, Uplink};
use crate::ledger::DeviceId;

/// Messages of one device.
const OF_A_DEVICE: usize = 8;
/// Bytes of all of them, with what each takes besides.
const IN_ALL: usize = 16 << 20;
/// What a message takes besides its payload, about.
const BESIDES: usize = 128;

/// A message that waits.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) uplink: Uplink,
    pub(super) payload: Bytes,
    pub(super) ack: Option<Ack>,
}

/// Messages of devices that are not read yet.
#[derive(Debug, Default)]
pub(super) struct Early {
    by_device: HashMap<DeviceId, Vec<Message>>,
    bytes: usize,
    /// Some found no room: who is read after that is asked what it runs.
    lossy: bool,
    /// All devices of before are read: another one is being added or removed.
    all_read: bool,
}

impl Early {
    /// Keeps a message; gives it back where there is no room for it.
    pub(super) fn keep(&mut self, device: DeviceId, message: Message) -> Result<(), Message> {
        let bytes = message.payload.len() + BESIDES;
        let has = self.by_device.get(&device).map_or(0, Vec::len);
        if has >= OF_A_DEVICE || self.bytes + bytes > IN_ALL {
            self.lossy = true;
            return Err(message);
        }
        self.bytes += bytes;
        self.by_device.entry(device).or_default().push(message);
        Ok(())
    }

    /// What a device has said, in its order.
    pub(super) fn take(&mut self, device: DeviceId) -> Vec<Message> {
        let messages = self.by_device.remove(&device).unwrap_or_default();
        let bytes = (messages.iter()).map(|it| it.payload.len() + BESIDES);
        self.bytes -= bytes.sum::<usize>();
        messages
    }

    /// What cannot be heard before all devices are read is lost.
    pub(super) const fn lose(&mut self) {
        self.lossy = true;
    }

    /// Whether all devices of before are read.
    pub(super) const fn are_all_read(&self) -> bool {
        self.all_read
    }

    /// Whether messages were lost.
    pub(super) const fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// All devices of before are read: of the others nothing is waited for.
    pub(super) fn all_read(&mut self) -> impl Iterator<Item = Message> + use<> {
        let before = std::mem::take(self);
        self.all_read = true;
        before.by_device.into_values().flatten()
    }

    /// The connection of a device is over: what it has said counts once it is read, unless all are. Gives what counts no more: on
    /// somebody else's broker, acknowledgements of all devices go in one order, so that none may be missing.
    pub(super) fn disconnected(&mut self, device: DeviceId) -> Vec<Message> {
        if self.all_read {
            self.take(device)
        } else {
            Vec::new()
        }
    }

    /// Devices of which something is kept.
    pub(super) fn len(&self) -> usize {
        self.by_device.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::DeviceIds;

    fn message(bytes: usize) -> Message {
        Message {
            uplink: Uplink::Events { gzip: false },
            payload: vec![0; bytes].into(),
            ack: None,
        }
    }

    #[test]
    fn what_is_kept_is_bounded_for_a_device_and_altogether() {
        let ids = DeviceIds::new([1; 32]);
        let mut early = Early::default();
        let kept = (0..20).filter(|_| early.keep(ids.of("a"), message(10)).is_ok());
        assert_eq!(kept.count(), OF_A_DEVICE);
        assert!(early.is_lossy());
        let mut kept = 0;
        while early
            .keep(ids.of(&kept.to_string()), message(64 << 10))
            .is_ok()
        {
            kept += 1;
        }
        assert_eq!(kept, 255);
        assert_eq!(early.take(ids.of("a")).len(), OF_A_DEVICE);
        assert_eq!(early.take(ids.of("a")).len(), 0);
        assert_eq!(early.all_read().count(), 255);
        assert_eq!((early.bytes, early.len()), (0, 0));
        assert!(!early.is_lossy());
    }

    #[test]
    fn what_nobody_will_read_goes_with_its_connection() {
        let id = DeviceIds::new([1; 32]).of("a");
        let mut early = Early::default();
        early.keep(id, message(10)).unwrap();
        assert!(early.disconnected(id).is_empty());
        assert_eq!(early.all_read().count(), 1);
        early.keep(id, message(10)).unwrap();
        assert_eq!(early.disconnected(id).len(), 1);
        assert_eq!(early.len(), 0);
    }
}
