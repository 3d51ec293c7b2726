use openssl::{
    error::ErrorStack,
    ssl::{ErrorCode, SslStream},
};
use thiserror::Error;

use super::{context::MAX_PAYLOAD_LEN, ffi, transport::Pipe};

/// One peer's established association: records in, records out, nothing else.
///
/// It knows neither its peer's address nor its identity, so that another record layer (one with
/// Connection IDs, RFC 9146, which OpenSSL does not have) can take its place behind these functions.
pub(super) struct Association {
    stream: SslStream<Pipe>,
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
    pub(super) fn new(mut stream: SslStream<Pipe>) -> Self {
        ffi::release_buffers(&mut stream);
        Self { stream }
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
            self.stream.get_mut().put(datagram);
        }
        let state = loop {
            // An old error would be taken for one of this call.
            drop(ErrorStack::get());
            match self.stream.ssl_read(scratch) {
                Ok(len) => opened(&scratch[..len]),
                Err(error) => match error.code() {
                    ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => break State::Open,
                    ErrorCode::ZERO_RETURN => break State::Closed,
                    _ => break State::Failed,
                },
            }
        };
        ffi::release_buffers(&mut self.stream);
        state
    }

    /// Seals `bytes` as one record.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        if bytes.len() > MAX_PAYLOAD_LEN {
            return Err(SendError::TooLong);
        }
        drop(ErrorStack::get());
        let sent = self.stream.ssl_write(bytes);
        ffi::release_buffers(&mut self.stream);
        sent.map(drop).map_err(|_| SendError::Failed)
    }

    /// Tells the peer that it is over.
    pub(super) fn close(&mut self) {
        drop(ErrorStack::get());
        // The alert is written or it is not: the association ends in any case.
        let _ = self.stream.shutdown();
    }

    /// The datagrams that are to leave.
    pub(super) fn take_outbound(&mut self) -> Vec<Vec<u8>> {
        self.stream.get_mut().take()
    }
}
