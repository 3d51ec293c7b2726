//! The certificate of a listener for TCP: read from files, checked, renewed while the server runs.
//!
//! TLS 1.2 and 1.3 as Mozilla's "intermediate" profile has them (`SslAcceptor::mozilla_intermediate_v5`). A connection
//! keeps the certificate with which it began.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};

use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    error::ErrorStack,
    pkey::PKey,
    ssl::{
        AlpnError, Ssl, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslVerifyMode,
        select_next_proto,
    },
    x509::X509,
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

use crate::{
    clock::UtcMillis,
    config::{AdminConfig, AppConfig, DownloadConfig, MqttConfig},
};

/// A chain and its key take some kilobytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// What is spoken inside (RFC 7301 §3.1; the names are IANA's).
const HTTP: &[u8] = b"\x08http/1.1";
const MQTT: &[u8] = b"\x04mqtt";

/// Why a certificate and its key cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{setting} {path}: {source}; the user that the server runs as has to be able to read it", path = .path.display())]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Everybody on this machine may read the key.
    #[error("{setting} {} may be read or written by everybody (mode {mode:04o}): run chmod o= {}", .path.display(), .path.display())]
    Exposed {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file holds something else.
    #[error("{setting} {path}: {problem}", path = .path.display())]
    Unusable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// It is over.
    #[error("{setting} {path}: the certificate has ended at {at}", path = .path.display())]
    Ended {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// When.
        at: UtcMillis,
    },
}

/// Where a listener's certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those up to its root, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// The setting that names the certificate.
    pub certificate_setting: &'static str,
    /// The setting that names the key.
    pub key_setting: &'static str,
    /// The authorities of the clients' certificates, in PEM, and the setting that names them; `None` where no client is asked for
    /// one. A client that is asked may show none.
    pub client_authorities: Option<(PathBuf, &'static str)>,
    /// What is spoken inside, as it stands in a `ClientHello`.
    protocols: &'static [u8],
}

impl TlsFiles {
    /// Those of the listener for downloads; `None` where it does not speak TLS.
    pub fn of_downloads(config: &DownloadConfig) -> Option<Self> {
        config.https.then(|| Self {
            certificate: config.tls_certificate.clone(),
            key: config.tls_key.clone(),
            certificate_setting: "download.tls_certificate",
            key_setting: "download.tls_key",
            client_authorities: None,
            protocols: HTTP,
        })
    }

    /// Those of the admin listener; `None` where the settings name none.
    pub fn of_admin(config: &AdminConfig) -> Option<Self> {
        config.has_tls().then(|| Self {
            certificate: config.tls_certificate.clone(),
            key: config.tls_key.clone(),
            certificate_setting: "admin.tls_certificate",
            key_setting: "admin.tls_key",
            client_authorities: None,
            protocols: HTTP,
        })
    }

    /// Those of the listener for applications; `None` where it does not speak TLS.
    pub fn of_app(config: &AppConfig) -> Option<Self> {
        config.has_tls().then(|| Self {
            certificate: config.tls_certificate.clone(),
            key: config.tls_key.clone(),
            certificate_setting: "app.tls_certificate",
            key_setting: "app.tls_key",
            client_authorities: None,
            protocols: HTTP,
        })
    }

    /// Those of the MQTT port; `None` where it does not speak TLS.
    pub fn of_mqtt(config: &MqttConfig) -> Option<Self> {
        let authorities = &config.client_ca_file;
        config.tls.then(|| Self {
            certificate: config.tls_certificate.clone(),
            key: config.tls_key.clone(),
            certificate_setting: "mqtt.tls_certificate",
            key_setting: "mqtt.tls_key",
            client_authorities: (!authorities.as_os_str().is_empty())
                .then(|| (authorities.clone(), "mqtt.client_ca_file")),
            protocols: MQTT,
        })
    }
}

/// What the files hold.
#[derive(PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "each says its format")]
struct Contents {
    chain_pem: Vec<u8>,
    key_pem: Vec<u8>,
    authorities_pem: Option<Vec<u8>>,
}

struct Held {
    contents: Contents,
    context: SslContext,
    ends_at: UtcMillis,
}

/// The certificate with which connections begin. Clones are one.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<Held>>);

impl Tls {
    /// The certificate in these files; `None` where there are none.
    ///
    /// # Errors
    /// The files cannot be read, everybody may read the key, the two are not a certificate and its key, or the clients' authorities
    /// are none.
    pub fn of(files: Option<&TlsFiles>) -> Result<Option<Self>, TlsError> {
        let Some(files) = files else {
            return Ok(None);
        };
        let held = hold(read(files)?, files)?;
        Ok(Some(Self(Arc::new(RwLock::new(held)))))
    }

    /// Reads the files anew. Connections that begin from now on have what they hold. Tells whether that is something else.
    ///
    /// # Errors
    /// As [`Tls::of`], or the certificate has ended by `now`. The one from before stays.
    pub fn renew(&self, files: &TlsFiles, now: UtcMillis) -> Result<bool, TlsError> {
        let contents = read(files)?;
        if contents == self.held().contents {
            return Ok(false);
        }
        let held = hold(contents, files)?;
        if held.ends_at <= now {
            return Err(TlsError::Ended {
                setting: files.certificate_setting,
                path: files.certificate.clone(),
                at: held.ends_at,
            });
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(true)
    }

    /// When the certificate ends, or one above it in its chain, whichever is first.
    pub fn ends_at(&self) -> UtcMillis {
        self.held().ends_at
    }

    /// A connection that is to begin, for a driver of its own.
    ///
    /// # Errors
    /// OpenSSL has no memory for it.
    pub fn begin(&self) -> Result<Ssl, ErrorStack> {
        Ssl::new(&self.held().context)
    }

    /// Makes a connection secure. Wait for it only for a bounded time: a client may say nothing.
    pub async fn accept<S>(&self, stream: S) -> Result<SslStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let ssl = self.begin().map_err(|error| error.to_string())?;
        let mut stream = SslStream::new(ssl, stream).map_err(|error| error.to_string())?;
        let accepted = Pin::new(&mut stream).accept().await;
        accepted.map_err(|error| error.to_string())?;
        Ok(stream)
    }

    fn held(&self) -> std::sync::RwLockReadGuard<'_, Held> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the first of the certificates in a PEM file ends.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn certificate_end(path: &Path) -> Result<UtcMillis, String> {
    let pem = read_file(path).map_err(|error| error.to_string())?;
    let chain = X509::stack_from_pem(&pem).map_err(|error| told(&error))?;
    end(&chain).ok_or_else(|| "there is no certificate in it".to_owned())
}

fn read(files: &TlsFiles) -> Result<Contents, TlsError> {
    let failed = |setting, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read {
            setting,
            path,
            source,
        }
    };
    let (key, key_setting) = (&files.key, files.key_setting);
    let metadata = fs::metadata(key).map_err(failed(key_setting, key))?;
    let mode = metadata.permissions().mode() & 0o777;
    // a group of those who may read keys is common
    if mode & 0o007 != 0 {
        return Err(TlsError::Exposed {
            setting: key_setting,
            path: key.clone(),
            mode,
        });
    }
    let certificate = &files.certificate;
    let authorities_pem = match &files.client_authorities {
        Some((path, setting)) => Some(read_file(path).map_err(failed(setting, path))?),
        None => None,
    };
    Ok(Contents {
        chain_pem: read_file(certificate)
            .map_err(failed(files.certificate_setting, certificate))?,
        key_pem: read_file(key).map_err(failed(key_setting, key))?,
        authorities_pem,
    })
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = fs::File::open(path)?.take(MAX_FILE_BYTES + 1);
    file.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!(
            "it has more than {MAX_FILE_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

fn hold(contents: Contents, files: &TlsFiles) -> Result<Held, TlsError> {
    let unusable = |setting, path: &Path, problem: String| TlsError::Unusable {
        setting,
        path: path.to_owned(),
        problem,
    };
    let in_chain = |problem| unusable(files.certificate_setting, &files.certificate, problem);
    let in_key = |problem| unusable(files.key_setting, &files.key, problem);
    let chain =
        X509::stack_from_pem(&contents.chain_pem).map_err(|error| in_chain(told(&error)))?;
    let ends_at = end(&chain).ok_or_else(|| {
        in_chain(
            "there is no certificate in it; expected the server's, and those above it, in PEM"
                .to_owned(),
        )
    })?;
    let key = PKey::private_key_from_pem(&contents.key_pem).map_err(|error| {
        in_key(format!(
            "there is no private key in it, in PEM and without a password ({})",
            told(&error)
        ))
    })?;
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())
        .map_err(|error| in_chain(told(&error)))?;
    let mut chain = chain.into_iter();
    if let Some(own) = chain.next() {
        builder
            .set_certificate(&own)
            .map_err(|error| in_chain(told(&error)))?;
    }
    for above in chain {
        builder
            .add_extra_chain_cert(above)
            .map_err(|error| in_chain(told(&error)))?;
    }
    builder
        .set_private_key(&key)
        .and_then(|()| builder.check_private_key())
        .map_err(|error| {
            in_key(format!(
                "it is not the key of the certificate in {} ({})",
                files.certificate.display(),
                told(&error)
            ))
        })?;
    if let Some(pem) = &contents.authorities_pem
        && let Some((path, setting)) = &files.client_authorities
    {
        ask_clients(&mut builder, pem).map_err(|problem| unusable(setting, path, problem))?;
    }
    let protocols = files.protocols;
    builder.set_alpn_select_callback(move |_, offered| {
        select_next_proto(protocols, offered).ok_or(AlpnError::NOACK)
    });
    Ok(Held {
        contents,
        context: builder.build().into_context(),
        ends_at,
    })
}

/// Has clients asked for a certificate of these authorities.
fn ask_clients(builder: &mut SslAcceptorBuilder, pem: &[u8]) -> Result<(), String> {
    let authorities = X509::stack_from_pem(pem).map_err(|error| told(&error))?;
    if authorities.is_empty() {
        return Err(
            "there is no certificate in it; expected the authorities of the devices' certificates, in PEM"
                .to_owned(),
        );
    }
    let failed = |error: ErrorStack| told(&error);
    for authority in authorities {
        builder.add_client_ca(&authority).map_err(failed)?;
        (builder.cert_store_mut())
            .add_cert(authority)
            .map_err(failed)?;
    }
    builder.set_verify(SslVerifyMode::PEER);
    // sessions are resumed with what was verified at their beginning
    builder.set_session_id_context(b"cellwise").map_err(failed)
}

/// When the first of them ends.
fn end(chain: &[X509]) -> Option<UtcMillis> {
    let ends = chain.iter().map(|certificate| utc(certificate.not_after()));
    ends.min()
}

/// What cannot be told counts as over.
fn utc(at: &Asn1TimeRef) -> UtcMillis {
    let since = Asn1Time::from_unix(0).and_then(|origin| origin.diff(at));
    let seconds = since.map_or(0, |it| i64::from(it.days) * 86_400 + i64::from(it.secs));
    UtcMillis(seconds.saturating_mul(1_000))
}

/// The reason alone, without the places in the library.
fn told(error: &ErrorStack) -> String {
    let mut reasons = error
        .errors()
        .iter()
        .filter_map(openssl::error::Error::reason);
    reasons
        .next_back()
        .unwrap_or("it is not understood")
        .to_owned()
}

#[cfg(test)]
pub(crate) mod tests;
