//! What a handshake's callbacks know, and what they leave behind.

use std::sync::{Arc, OnceLock};

use openssl::{
    error::ErrorStack,
    ex_data::Index,
    ssl::{Ssl, SslRef},
};

use super::{
    cid::{Ids, OwnId},
    cookie::Cookie,
    identity::{Ledger, Serial},
    setup::PskSource,
};

/// What has become of the question for a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Asked {
    /// Not asked.
    #[default]
    Nothing,
    /// There is a key of this identity.
    Known(Box<[u8]>),
    /// There is none: the handshake goes on with a key that nobody has.
    Unknown(Box<[u8]>),
}

/// What a handshake's callbacks know and leave behind; it travels with the `Ssl`.
pub(super) struct Notes {
    pub(super) cookies: [Cookie; 2],
    pub(super) serial: Serial,
    pub(super) ledger: Arc<Ledger>,
    pub(super) keys: Arc<dyn PskSource>,
    pub(super) asked: Asked,
    /// The Connection ID that the server gives.
    pub(super) own_id: OwnId,
    /// The one that the client has offered, if it can be used.
    pub(super) offered: Option<Box<[u8]>>,
    /// What the `ServerHello` has agreed to.
    pub(super) agreed: Option<Ids>,
}

static NOTES: OnceLock<Index<Ssl, Notes>> = OnceLock::new();

impl Notes {
    pub(super) fn of(ssl: &SslRef) -> Option<&Self> {
        ssl.ex_data(*NOTES.get()?)
    }

    pub(super) fn of_mut(ssl: &mut SslRef) -> Option<&mut Self> {
        ssl.ex_data_mut(*NOTES.get()?)
    }
}

/// The place of [`Notes`] in every `Ssl` of the process.
pub(super) fn index() -> Result<Index<Ssl, Notes>, ErrorStack> {
    if let Some(index) = NOTES.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    // Another thread may have been first; its index is as good, and one place stays unused.
    Ok(*NOTES.get_or_init(|| index))
}
