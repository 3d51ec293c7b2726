use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Events of one connection on their way to the shard: more of it is not read before some were taken.
const MAX_EVENTS: usize = 32;
/// Bytes of all events on their way: nothing is read before some were taken.
const MAX_BYTES: usize = 64 << 20;
/// What an event takes besides its payload, about.
const EVENT_BYTES: usize = 128;

/// Goes with an event to whoever takes it. Until it is dropped the event counts as on its way.
#[derive(Debug)]
pub struct Ticket {
    _of_connection: Arc<()>,
    bytes: usize,
    in_all: Arc<AtomicUsize>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.in_all.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Bytes of all events on their way.
#[derive(Debug, Clone, Default)]
pub(in crate::runtime) struct Tickets(Arc<AtomicUsize>);

impl Tickets {
    /// One for an event of that connection.
    pub(in crate::runtime) fn take(&self, of_connection: Arc<()>, payload_bytes: usize) -> Ticket {
        let bytes = payload_bytes + EVENT_BYTES;
        self.0.fetch_add(bytes, Ordering::AcqRel);
        Ticket {
            _of_connection: of_connection,
            bytes,
            in_all: self.0.clone(),
        }
    }

    /// Whether so much of the connection, or of all, is on its way that it is not to be read.
    pub(super) fn are_out(&self, of_connection: &Arc<()>) -> bool {
        self.are_many(of_connection, MAX_EVENTS)
    }

    /// The same where so many events of the connection may be on their way.
    pub(in crate::runtime) fn are_many(&self, of_connection: &Arc<()>, events: usize) -> bool {
        // the connection itself has one
        Arc::strong_count(of_connection) > events || self.0.load(Ordering::Acquire) > MAX_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bounded_for_a_connection_and_altogether() {
        let (tickets, connection, other) = (Tickets::default(), Arc::new(()), Arc::new(()));
        let mut taken = Vec::new();
        while !tickets.are_out(&connection) {
            taken.push(tickets.take(connection.clone(), 10));
        }
        assert_eq!(taken.len(), MAX_EVENTS);
        assert!(!tickets.are_out(&other));
        taken.pop();
        assert!(!tickets.are_out(&connection));
        taken.push(tickets.take(other.clone(), MAX_BYTES));
        assert!(tickets.are_out(&other) && tickets.are_out(&connection));
        taken.pop();
        assert!(!tickets.are_out(&other));
        taken.clear();
        assert_eq!(tickets.0.load(Ordering::Acquire), 0);
    }
}
