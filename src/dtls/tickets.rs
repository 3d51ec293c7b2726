//! What is noted in a session ticket, and which tickets are still good.
//!
//! A TLS 1.2 ticket holds the whole session, so it outlives a change of the device's key, and a move of the identity to
//! another device. Therefore the server's note in it (encrypted and authenticated with the rest) names the handshake, the
//! identity, and who has it with which key.
//! Refusing a ticket costs the device a full handshake and nothing else.

use openssl::ssl::SslRef;

use super::{
    identity::{Identity, IdentityDigest, Serial},
    notes::Notes,
};

/// The note's fixed part: the handshake's number, then the identity's digest. Of a pre-shared key a byte follows that says so,
/// its holder's digest, and its identity.
const FIXED_LEN: usize = 8 + 32;

/// The note for a ticket of this handshake's session; empty, and never good, if there is no identity.
pub(super) fn note(ssl: &SslRef) -> Vec<u8> {
    let (Some(notes), Some(identity)) = (Notes::of(ssl), Identity::of(ssl)) else {
        return Vec::new();
    };
    let mut note = Vec::with_capacity(FIXED_LEN + 32);
    note.extend(notes.serial.0.to_be_bytes());
    note.extend(identity.digest().0);
    if let Identity::Psk(identity) = identity {
        let Some(holder) = notes.keys.holder(&identity) else {
            return Vec::new();
        };
        note.push(1);
        note.extend(holder.0);
        note.extend(identity);
    }
    note
}

/// Whether a session with this note may be resumed: its identity was not ended since, and if it is that
/// of a pre-shared key it is still known.
pub(super) fn is_good(ssl: &SslRef, note: &[u8]) -> bool {
    let Some(notes) = Notes::of(ssl) else {
        return false;
    };
    let Some((serial, rest)) = note.split_first_chunk::<8>() else {
        return false;
    };
    let Some((digest, rest)) = rest.split_first_chunk::<32>() else {
        return false;
    };
    let serial = Serial(u64::from_be_bytes(*serial));
    let known = match rest {
        [] => true,
        [_, rest @ ..] => rest
            .split_first_chunk::<32>()
            .is_some_and(|(holder, identity)| {
                notes
                    .keys
                    .holder(identity)
                    .is_some_and(|now| now.0 == *holder)
            }),
    };
    known && !notes.ledger.ended_since(&IdentityDigest(*digest), serial)
}
