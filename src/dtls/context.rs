//! What all handshakes have in common: suites, keys, certificates, callbacks.

use std::{fmt, sync::Arc};

use openssl::{
    error::ErrorStack,
    ex_data::Index,
    pkey::PKey,
    ssl::{
        Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode,
        SslVerifyMode, SslVersion,
    },
    x509::X509,
};

use super::{
    cid,
    cookie::{Cookie, is_expected, mac},
    ffi::{self, ContextValues},
    identity::{Ledger, Serial},
    notes::{self, Asked, Notes},
    setup::{Certificates, DtlsSetup, PskSource, SetupError},
};

/// Longest application datagram that is sent, bytes.
pub const MAX_PAYLOAD_LEN: usize = 2048;

/// Longest message of a handshake that is taken, bytes. A client's chain of certificates is the longest
/// there is; without certificates nothing comes near a hello.
const MAX_MESSAGE_LEN: u16 = 8 * 1024;
const MAX_MESSAGE_LEN_PSK: u16 = 2 * 1024;

/// The suites of LwM2M (Core 1.1, §5.2.8), the ones with the shortest records first.
///
/// From OpenSSL 3.2 on, `CCM_8` is too weak for any security level but 0: its tags have 64 bits. What else
/// that level would let through is not in the list; certificates have a level of their own.
const PSK_SUITES: &str = "@SECLEVEL=0:PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:PSK-AES128-CBC-SHA256";
const CERTIFICATE_SUITES: &str = ":ECDHE-ECDSA-AES128-CCM8:ECDHE-ECDSA-AES128-GCM-SHA256";
/// `SSL_OP_NO_ENCRYPT_THEN_MAC`, which the binding does not name: records with CBC have one form, which is opened in
/// constant time (`cbc`).
const NO_ENCRYPT_THEN_MAC: SslOptions = SslOptions::from_bits_retain(1 << 19);
/// 112 bits: no SHA-1, no RSA of 1024 bits in anybody's chain.
const CERTIFICATE_LEVEL: i32 = 2;

fn refused(part: &'static str) -> impl FnOnce(ErrorStack) -> SetupError {
    move |source| SetupError::Refused { part, source }
}

/// Makes the `Ssl` of each peer.
pub(super) struct Context {
    suites_and_keys: SslContext,
    index: Index<Ssl, Notes>,
    keys: Arc<dyn PskSource>,
    pub(super) ledger: Arc<Ledger>,
    mtu: u32,
    /// Which of several it is: its Connection IDs begin so.
    shard: u8,
    /// Longest handshake message that is taken, bytes.
    pub(super) max_message_len: u32,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("mtu", &self.mtu)
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(super) fn new(
        setup: &DtlsSetup,
        ledger: Arc<Ledger>,
        shard: u8,
    ) -> Result<Self, SetupError> {
        let index = notes::index().map_err(refused("another index"))?;
        let mut builder =
            SslContextBuilder::new(SslMethod::dtls_server()).map_err(refused("a context"))?;
        set_up_protocol(&mut builder, setup.certificates.is_some())
            .map_err(refused("the suites of LwM2M"))?;
        let max_message_len = if let Some(certificates) = &setup.certificates {
            set_up_certificates(&mut builder, certificates)?;
            MAX_MESSAGE_LEN
        } else {
            MAX_MESSAGE_LEN_PSK
        };
        let mut ticket_keys = [0; 80];
        for (place, part) in ticket_keys.chunks_mut(32).zip(0u8..) {
            let key = mac(&setup.seed, &[b"ticket", &[part]]);
            place.copy_from_slice(&key[..place.len()]);
        }
        let values = ContextValues {
            max_send_fragment: 2048,
            max_cert_list: MAX_MESSAGE_LEN,
            ticket_lifetime: setup.timing.ticket_lifetime,
            ticket_keys: &ticket_keys,
        };
        ffi::configure(&mut builder, &values).map_err(refused("its limits"))?;
        set_up_callbacks(&mut builder, setup, index);
        cid::set_up(&mut builder).map_err(refused("Connection IDs"))?;
        Ok(Self {
            suites_and_keys: builder.build(),
            index,
            keys: Arc::clone(&setup.keys),
            ledger,
            mtu: setup.limits.handshake_datagram_len,
            shard,
            max_message_len: u32::from(max_message_len),
        })
    }

    /// Longest datagram of a handshake, bytes.
    pub(super) fn datagram_len(&self) -> usize {
        usize::try_from(self.mtu).unwrap_or(usize::MAX)
    }

    /// An `Ssl` for a peer that has shown one of these cookies.
    pub(super) fn ssl(&self, cookies: [Cookie; 2], serial: Serial) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(&self.suites_and_keys)?;
        let notes = Notes {
            cookies,
            serial,
            ledger: Arc::clone(&self.ledger),
            keys: Arc::clone(&self.keys),
            asked: Asked::Nothing,
            own_id: cid::new_id(self.shard)?,
            offered: None,
            agreed: None,
        };
        ssl.set_ex_data(self.index, notes);
        ssl.set_accept_state();
        ssl.set_mtu(self.mtu)?;
        Ok(ssl)
    }
}

fn set_up_protocol(
    builder: &mut SslContextBuilder,
    with_certificates: bool,
) -> Result<(), ErrorStack> {
    builder.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
    builder.set_max_proto_version(Some(SslVersion::DTLS1_2))?;
    let certificate_suites = if with_certificates {
        CERTIFICATE_SUITES
    } else {
        ""
    };
    builder.set_cipher_list(&format!("{PSK_SUITES}{certificate_suites}"))?;
    builder.set_options(
        SslOptions::NO_QUERY_MTU
            | SslOptions::CIPHER_SERVER_PREFERENCE
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_COMPRESSION
            | NO_ENCRYPT_THEN_MAC,
    );
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    // Tickets keep sessions on the devices' side; nothing is kept here by session ID.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_session_id_context(b"cellwise")
}

/// Whether a port can be opened with these certificates.
///
/// # Errors
/// One is no certificate, or the key is not the certificate's.
pub fn check_certificates(certificates: &Certificates) -> Result<(), SetupError> {
    let mut builder =
        SslContextBuilder::new(SslMethod::dtls_server()).map_err(refused("a context"))?;
    set_up_certificates(&mut builder, certificates)
}

fn set_up_certificates(
    builder: &mut SslContextBuilder,
    certificates: &Certificates,
) -> Result<(), SetupError> {
    const CHAIN: &str = "the server's certificate";
    const KEY: &str = "the server's private key";
    const AUTHORITY: &str = "the authority for clients";
    let chain = X509::stack_from_pem(&certificates.chain_pem).map_err(refused(CHAIN))?;
    let mut chain = chain.into_iter();
    let own = chain.next().ok_or(SetupError::OutOfRange(
        "there is no certificate in the server's chain",
    ))?;
    builder.set_certificate(&own).map_err(refused(CHAIN))?;
    for above in chain {
        builder
            .add_extra_chain_cert(above)
            .map_err(refused(CHAIN))?;
    }
    let key = PKey::private_key_from_pem(&certificates.key_pem).map_err(refused(KEY))?;
    builder.set_private_key(&key).map_err(refused(KEY))?;
    builder.check_private_key().map_err(refused(KEY))?;
    let authorities =
        X509::stack_from_pem(&certificates.client_ca_pem).map_err(refused(AUTHORITY))?;
    if authorities.is_empty() {
        return Err(SetupError::OutOfRange(
            "there is no certificate of an authority for clients",
        ));
    }
    for authority in authorities {
        builder
            .add_client_ca(&authority)
            .map_err(refused(AUTHORITY))?;
        builder
            .cert_store_mut()
            .add_cert(authority)
            .map_err(refused(AUTHORITY))?;
    }
    builder.verify_param_mut().set_auth_level(CERTIFICATE_LEVEL);
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    builder
        .set_sigalgs_list("ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512")
        .map_err(refused("its signature algorithms"))?;
    builder
        .set_groups_list("P-256:P-384:X25519")
        .map_err(refused("its curves"))
}

fn set_up_callbacks(builder: &mut SslContextBuilder, setup: &DtlsSetup, index: Index<Ssl, Notes>) {
    builder.set_cookie_generate_cb(move |ssl, out| {
        let cookie = ssl.ex_data(index).map_or([0; 16], |notes| notes.cookies[0]);
        match out.first_chunk_mut() {
            Some(place) => *place = cookie,
            None => return Ok(0),
        }
        Ok(cookie.len())
    });
    builder.set_cookie_verify_cb(move |ssl, cookie| {
        ssl.ex_data(index)
            .is_some_and(|notes| is_expected(&notes.cookies, cookie))
    });
    let keys = Arc::clone(&setup.keys);
    let decoys = mac(&setup.seed, &[b"decoy"]);
    builder.set_psk_server_callback(move |ssl, identity, out| {
        let identity = identity.unwrap_or_default();
        let key = keys.psk(identity);
        if let Some(notes) = Notes::of_mut(ssl) {
            notes.asked = match &key {
                Some(_) => Asked::Known(identity.into()),
                None => Asked::Unknown(identity.into()),
            };
        }
        // An identity that nobody has goes on with a key that nobody has, and fails as a wrong key does
        // (RFC 4279 §2): strangers do not learn who is known.
        let decoy = mac(&decoys, &[identity]);
        let key = key.as_ref().map_or(&decoy[..16], |key| key.as_bytes());
        match out.get_mut(..key.len()) {
            Some(place) => place.copy_from_slice(key),
            None => return Ok(0),
        }
        Ok(key.len())
    });
}
