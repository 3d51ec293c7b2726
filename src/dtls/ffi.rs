//! What libssl offers and no safe binding does: one of three islands of unsafe code, beside `store/files/mapped.rs` and
//! `download/unsent.rs`.
//!
//! Every function here is part of libssl's documented interface from OpenSSL 1.1.1 on (`ssl.h`,
//! `bio.h`), unchanged in 3.x; the signatures are copied from there. Each takes its object by a
//! reference of the `openssl` crate, so that it is alive, and by an exclusive one where libssl changes
//! it. The callbacks do not unwind: a panic in an `extern "C"` function ends the process.
#![allow(unsafe_code)]

use std::{
    ffi::{c_int, c_long, c_uchar, c_uint, c_void},
    io::{Read, Write},
    ptr,
    time::Duration,
};

use foreign_types::ForeignTypeRef as _;
use openssl::{
    error::ErrorStack,
    ssl::{SslCipherRef, SslContextBuilder, SslRef, SslStream},
};
use openssl_sys::{SSL, SSL_CIPHER, SSL_CTX, SSL_CTX_ctrl, SSL_SESSION};

use super::tickets;

/// `BIO_ADDR`, of which only pointers are used.
#[repr(C)]
struct BioAddr {
    _private: [u8; 0],
}

type GenerateTicket = unsafe extern "C" fn(*mut SSL, *mut c_void) -> c_int;
type DecryptTicket = unsafe extern "C" fn(
    *mut SSL,
    *mut SSL_SESSION,
    *const c_uchar,
    usize,
    c_int,
    *mut c_void,
) -> c_int;
type Timer = unsafe extern "C" fn(*mut SSL, c_uint) -> c_uint;

unsafe extern "C" {
    fn BIO_ADDR_new() -> *mut BioAddr;
    fn BIO_ADDR_free(address: *mut BioAddr);
    fn DTLSv1_listen(ssl: *mut SSL, client: *mut BioAddr) -> c_int;
    fn DTLS_set_timer_cb(ssl: *mut SSL, callback: Option<Timer>);
    fn SSL_get_pending_cipher(ssl: *const SSL) -> *const SSL_CIPHER;
    fn SSL_CTX_set_timeout(context: *mut SSL_CTX, seconds: c_long) -> c_long;
    fn SSL_CTX_set_session_ticket_cb(
        context: *mut SSL_CTX,
        generate: Option<GenerateTicket>,
        decrypt: Option<DecryptTicket>,
        argument: *mut c_void,
    ) -> c_int;
    fn SSL_SESSION_set1_ticket_appdata(
        session: *mut SSL_SESSION,
        data: *const c_void,
        len: usize,
    ) -> c_int;
    fn SSL_SESSION_get0_ticket_appdata(
        session: *mut SSL_SESSION,
        data: *mut *mut c_void,
        len: *mut usize,
    ) -> c_int;
}

// ssl.h, tls1.h
const SSL_CTRL_SET_MAX_CERT_LIST: c_int = 51;
const SSL_CTRL_SET_MAX_SEND_FRAGMENT: c_int = 52;
const SSL_CTRL_SET_TLSEXT_TICKET_KEYS: c_int = 59;
const SSL_TICKET_SUCCESS: c_int = 5;
const SSL_TICKET_SUCCESS_RENEW: c_int = 6;
const SSL_TICKET_RETURN_IGNORE_RENEW: c_int = 2;
const SSL_TICKET_RETURN_USE: c_int = 3;
const SSL_TICKET_RETURN_USE_RENEW: c_int = 4;

/// Has a fresh `Ssl` take the `ClientHello` that its stream will read, whose cookie its context's
/// callback verifies. Tells whether it did; its handshake then goes on.
pub(super) fn listen<S: Read + Write>(stream: &mut SslStream<S>) -> bool {
    // SAFETY: BIO_ADDR_new has no precondition; null is handled. DTLSv1_listen gets an Ssl that lives as
    // long as the exclusively borrowed stream, and an address that it fills in (with nothing: this
    // stream's BIO knows no addresses), which nobody else has and which is freed once.
    let taken = unsafe {
        let client = BIO_ADDR_new();
        if client.is_null() {
            return false;
        }
        let taken = DTLSv1_listen(stream.ssl().as_ptr(), client);
        BIO_ADDR_free(client);
        taken
    };
    // Whatever was wrong with the hello must not be found by the next call on this thread.
    drop(ErrorStack::get());
    taken == 1
}

/// Takes the library's own timer away, because it looks at the machine's clock: see `handshake`.
pub(super) fn stop_clock<S: Read + Write>(stream: &mut SslStream<S>) {
    // SAFETY: the Ssl lives as long as the exclusively borrowed stream; the callback is a function.
    unsafe { DTLS_set_timer_cb(stream.ssl().as_ptr(), Some(flight_timer)) }
}

/// Called by libssl when a flight begins, for the microseconds until it is repeated: the longest span that fits, which is
/// 71 minutes.
unsafe extern "C" fn flight_timer(_: *mut SSL, _: c_uint) -> c_uint {
    c_uint::MAX
}

/// The suite that a handshake has chosen.
pub(super) fn pending_suite(ssl: &SslRef) -> Option<&SslCipherRef> {
    // SAFETY: the Ssl is borrowed, and not changed. The suite is null or one of libssl's constants, which
    // nobody changes; the reference given out is a shared one.
    unsafe {
        let suite = SSL_get_pending_cipher(ssl.as_ptr());
        (!suite.is_null()).then(|| SslCipherRef::from_ptr(suite.cast_mut()))
    }
}

/// Sizes and keys of a context that have no safe setter.
pub(super) struct ContextValues<'a> {
    /// Longest record that is sent, bytes of content, 512 to 16384.
    pub(super) max_send_fragment: u16,
    /// Longest chain of certificates that a client may send, bytes.
    pub(super) max_cert_list: u16,
    /// How long sessions are good for.
    pub(super) ticket_lifetime: Duration,
    /// The name of the keys (16 bytes), the key of the MAC (32) and that of the cipher (32).
    pub(super) ticket_keys: &'a [u8; 80],
}

/// Sets the values, and has `tickets` decide over every ticket of the context.
pub(super) fn configure(
    builder: &mut SslContextBuilder,
    values: &ContextValues<'_>,
) -> Result<(), ErrorStack> {
    let context = builder.as_ptr();
    let lifetime = c_long::try_from(values.ticket_lifetime.as_secs()).unwrap_or(c_long::MAX);
    // SAFETY: the context lives as long as the exclusively borrowed builder. The two sizes travel in the
    // call; of the keys, 80 bytes are copied (SSL_CTX_ctrl does not write through the pointer, and
    // refuses other lengths). The callbacks are functions and use no argument.
    let fine = unsafe {
        SSL_CTX_set_timeout(context, lifetime);
        SSL_CTX_ctrl(
            context,
            SSL_CTRL_SET_MAX_CERT_LIST,
            c_long::from(values.max_cert_list),
            ptr::null_mut(),
        );
        SSL_CTX_ctrl(
            context,
            SSL_CTRL_SET_MAX_SEND_FRAGMENT,
            c_long::from(values.max_send_fragment),
            ptr::null_mut(),
        ) == 1
            && SSL_CTX_ctrl(
                context,
                SSL_CTRL_SET_TLSEXT_TICKET_KEYS,
                80,
                values.ticket_keys.as_ptr().cast_mut().cast(),
            ) == 1
            && SSL_CTX_set_session_ticket_cb(
                context,
                Some(generate_ticket),
                Some(decrypt_ticket),
                ptr::null_mut(),
            ) == 1
    };
    if fine { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Called by libssl before it makes a ticket. 0 would end the handshake; a ticket that tells nothing
/// is refused later.
unsafe extern "C" fn generate_ticket(ssl: *mut SSL, _: *mut c_void) -> c_int {
    // SAFETY: libssl calls with the Ssl of the handshake that is under way, and nothing else uses it
    // meanwhile. The session belongs to it; the data are copied.
    unsafe {
        let ssl = SslRef::from_ptr(ssl);
        let Some(session) = ssl.session() else {
            return 1;
        };
        let data = tickets::note(ssl);
        SSL_SESSION_set1_ticket_appdata(session.as_ptr(), data.as_ptr().cast(), data.len());
    }
    1
}

/// Called by libssl when it has tried to decrypt a ticket.
unsafe extern "C" fn decrypt_ticket(
    ssl: *mut SSL,
    session: *mut SSL_SESSION,
    _key_name: *const c_uchar,
    _key_name_len: usize,
    status: c_int,
    _: *mut c_void,
) -> c_int {
    let answer = match status {
        SSL_TICKET_SUCCESS => SSL_TICKET_RETURN_USE,
        SSL_TICKET_SUCCESS_RENEW => SSL_TICKET_RETURN_USE_RENEW,
        _ => return SSL_TICKET_RETURN_IGNORE_RENEW,
    };
    let mut data: *mut c_void = ptr::null_mut();
    let mut len = 0;
    // SAFETY: libssl calls with the Ssl of the handshake that is under way, and nothing else uses it
    // meanwhile; of these states a session is part (null is handled all the same). get0 lends `len`
    // bytes that live as long as the session, which is longer than this call.
    let good = unsafe {
        if session.is_null()
            || SSL_SESSION_get0_ticket_appdata(session, &raw mut data, &raw mut len) != 1
            || data.is_null()
        {
            return SSL_TICKET_RETURN_IGNORE_RENEW;
        }
        let note = std::slice::from_raw_parts(data.cast::<u8>(), len);
        tickets::is_good(SslRef::from_ptr(ssl), note)
    };
    if good {
        answer
    } else {
        SSL_TICKET_RETURN_IGNORE_RENEW
    }
}

/// What only the tests' clients need: they keep their own time, on the machine's clock.
#[cfg(test)]
pub(super) mod client {
    use openssl::ssl::SslSession;
    use openssl_sys::SSL_ctrl;

    use super::*;

    const DTLS_CTRL_HANDLE_TIMEOUT: c_int = 74;

    /// Has a client repeat its flights after 30 ms; OpenSSL takes fewer than 15 for none.
    pub(in crate::dtls) fn hurry<S: Read + Write>(stream: &mut SslStream<S>) {
        // SAFETY: as in `stop_clock`.
        unsafe { DTLS_set_timer_cb(stream.ssl().as_ptr(), Some(soon)) }
    }

    unsafe extern "C" fn soon(_: *mut SSL, _: c_uint) -> c_uint {
        30_000
    }

    /// Has a client offer a session.
    pub(in crate::dtls) fn resume(ssl: &mut SslRef, session: &SslSession) {
        // SAFETY: the session was made by a client's context, and is one for DTLS as this client is.
        unsafe { ssl.set_session(session) }.unwrap();
    }

    /// Repeats the flight if its time has come, and tells whether it had.
    pub(in crate::dtls) fn handle_timeout(ssl: &SslRef) -> bool {
        // SAFETY: the Ssl is borrowed from a stream that nothing else uses meanwhile; this control takes no
        // argument.
        unsafe {
            SSL_ctrl(
                ssl.as_ptr(),
                DTLS_CTRL_HANDLE_TIMEOUT,
                0,
                std::ptr::null_mut(),
            ) == 1
        }
    }
}
