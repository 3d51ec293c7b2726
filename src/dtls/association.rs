use openssl::{
    error::ErrorStack,
    ssl::{ErrorCode, SslStream},
};
use thiserror::Error;

use super::{
    context::{MAX_PAYLOAD_LEN, shortest_sealed},
    ffi::Sleeper,
    record,
    transport::Pipe,
};

/// One peer's established association: records in, records out, nothing else.
///
/// It knows neither its peer's address nor its identity, so that another record layer (one with
/// Connection IDs, RFC 9146, which OpenSSL does not have) can take its place behind these functions.
pub(super) struct Association {
    stream: Sleeper<Pipe>,
    /// The fewest bytes of a sealed record.
    shortest: usize,
}

/// Whether an association goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It does.
    Open,
    /// The peer has closed it, with the key.
    Closed,
    /// The record layer has given it up.
    Failed,
}

/// A datagram could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// There is no association with the peer.
    #[error("there is no association with this peer")]
    NoAssociation,
    /// Longer than [`MAX_PAYLOAD_LEN`].
    #[error("longer than {MAX_PAYLOAD_LEN} bytes")]
    TooLong,
    /// The record layer does not take it: the association is at its end.
    #[error("the association cannot send any more")]
    Failed,
}

impl Association {
    /// What a finished handshake leaves.
    pub(super) fn new(stream: SslStream<Pipe>) -> Self {
        Self {
            shortest: shortest_sealed(stream.ssl()),
            stream: Sleeper::new(stream),
        }
    }

    /// Opens the records of a datagram, and whatever was held back before; `opened` gets each content.
    ///
    /// Records that are forged, damaged or repeated are left out by the record layer without a word
    /// (RFC 6347 §4.1.2.7).
    pub(super) fn receive(
        &mut self,
        datagram: Option<&[u8]>,
        scratch: &mut [u8],
        mut opened: impl FnMut(&[u8]),
    ) -> State {
        if let Some(datagram) = datagram {
            if !record::is_sound(datagram, self.shortest, true) {
                return State::Open;
            }
            self.stream.transport().put(datagram);
        }
        let read = |stream: &mut SslStream<Pipe>| loop {
            // An old error would be taken for one of this call.
            drop(ErrorStack::get());
            match stream.ssl_read(scratch) {
                Ok(len) => opened(&scratch[..len]),
                Err(error) => match error.code() {
                    ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => break State::Open,
                    ErrorCode::ZERO_RETURN => break State::Closed,
                    _ => break State::Failed,
                },
            }
        };
        self.stream.awake(read).unwrap_or(State::Failed)
    }

    /// Seals `bytes` as one record.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        if bytes.len() > MAX_PAYLOAD_LEN {
            return Err(SendError::TooLong);
        }
        drop(ErrorStack::get());
        match self.stream.awake(|stream| stream.ssl_write(bytes)) {
            Some(Ok(_)) => Ok(()),
            _ => Err(SendError::Failed),
        }
    }

    /// Tells the peer that it is over.
    pub(super) fn close(&mut self) {
        drop(ErrorStack::get());
        // The alert is written or it is not: the association ends in any case.
        let _ = self.stream.awake(SslStream::shutdown);
    }

    /// The datagrams that are to leave.
    pub(super) fn take_outbound(&mut self) -> Vec<Vec<u8>> {
        self.stream.transport().take()
    }
}
