use std::collections::VecDeque;

use bytes::BytesMut;
use rmqtt_codec::error::EncodeError;

use super::event::{ConnId, Event, Output};

/// What is to be sent at once is gathered in steps of so much.
const CHUNK: usize = 4096;

/// What the driver has yet to do. Packets for one connection in a row become one [`Output::Send`].
#[derive(Default)]
pub(super) struct Outbox {
    queue: VecDeque<Output>,
    gathered: BytesMut,
    gathered_for: Option<ConnId>,
}

impl Outbox {
    /// Adds a packet. Nothing is added where it cannot be written.
    pub(super) fn packet(
        &mut self,
        conn: ConnId,
        write: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
    ) -> Result<usize, EncodeError> {
        if self.gathered_for != Some(conn) {
            self.flush();
            self.gathered_for = Some(conn);
        }
        let before = self.gathered.len();
        if self.gathered.capacity() - before < 64 {
            self.gathered.reserve(CHUNK);
        }
        let written = write(&mut self.gathered);
        if let Err(error) = written {
            self.gathered.truncate(before);
            return Err(error);
        }
        Ok(self.gathered.len() - before)
    }

    /// Takes the last packet back, of which so many bytes were written.
    pub(super) fn take_back(&mut self, bytes: usize) {
        let kept = self.gathered.len().saturating_sub(bytes);
        self.gathered.truncate(kept);
    }

    pub(super) fn push(&mut self, output: Output) {
        self.flush();
        self.queue.push_back(output);
    }

    /// An event need not keep its place among packets: nobody sees the difference.
    pub(super) fn event(&mut self, event: Event) {
        self.queue.push_back(Output::Event(event));
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        if self.queue.is_empty() {
            self.flush();
        }
        self.queue.pop_front()
    }

    fn flush(&mut self) {
        if let Some(conn) = self.gathered_for.take()
            && !self.gathered.is_empty()
        {
            let bytes = self.gathered.split().freeze();
            self.queue.push_back(Output::Send { conn, bytes });
        }
    }
}
