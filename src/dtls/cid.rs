//! The extension that agrees on Connection IDs (RFC 9146 §3).

use openssl::{
    error::ErrorStack,
    ssl::{ExtensionContext, SslAlert, SslCipherRef, SslContextBuilder, SslRef},
};

use super::{ffi, keys::Suite, notes::Notes};

/// Bytes of the IDs that the server gives: which of several it is, and seven that nobody guesses.
pub(super) const OWN_LEN: usize = 8;
/// The longest ID of a client's that is used; each record to it would carry it.
const MAX_PEER_LEN: usize = 32;
/// `connection_id`.
const EXTENSION: u16 = 54;

/// An ID that the server has given.
pub(super) type OwnId = [u8; OWN_LEN];

/// What a handshake has agreed on: records to the server carry `own`, those to the client carry `peer`, or nothing where it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) own: OwnId,
    pub(super) peer: Box<[u8]>,
}

/// An ID for a handshake with the `shard`th of several servers.
pub(super) fn new_id(shard: u8) -> Result<OwnId, ErrorStack> {
    let mut id = [shard; OWN_LEN];
    openssl::rand::rand_bytes(&mut id[1..])?;
    Ok(id)
}

/// The ID in an extension.
fn read(extension: &[u8]) -> Option<&[u8]> {
    let (len, id) = extension.split_first()?;
    (id.len() == usize::from(*len)).then_some(id)
}

/// Has the handshakes of a context agree on IDs where the client offers one. It is declined where it is too long, and with CBC.
pub(super) fn set_up(builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    builder.add_custom_ext(
        EXTENSION,
        ExtensionContext::DTLS_ONLY
            | ExtensionContext::CLIENT_HELLO
            | ExtensionContext::TLS1_2_SERVER_HELLO,
        |ssl: &mut SslRef, _, _| Ok(answer(ssl)),
        |ssl, _, extension, _| {
            let id = read(extension).ok_or(SslAlert::DECODE_ERROR)?;
            if let Some(notes) = Notes::of_mut(ssl) {
                notes.offered = (id.len() <= MAX_PEER_LEN).then(|| id.into());
            }
            Ok(())
        },
    )
}

/// The extension of the `ServerHello`.
fn answer(ssl: &mut SslRef) -> Option<Vec<u8>> {
    let suite = ffi::pending_suite(ssl).or_else(|| ssl.current_cipher());
    let suite = suite.map(SslCipherRef::name).and_then(Suite::named)?;
    if suite == Suite::Cbc {
        return None;
    }
    let notes = Notes::of_mut(ssl)?;
    let own = notes.own_id;
    let peer = notes.offered.clone()?;
    notes.agreed = Some(Ids { own, peer });
    let mut extension = vec![8]; // OWN_LEN
    extension.extend(own);
    Some(extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_an_id_and_nothing_else() {
        assert_eq!(read(&[0]), Some(&[][..]));
        assert_eq!(read(&[2, 7, 8]), Some(&[7, 8][..]));
        for wrong in [&[][..], &[1], &[1, 7, 8], &[2, 7]] {
            assert_eq!(read(wrong), None);
        }
    }
}
