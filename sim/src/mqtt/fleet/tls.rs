use std::{fmt, io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Who signs the certificates that devices accept. Without any, they accept none.
#[derive(Clone)]
pub struct Authorities(Arc<ClientConfig>);

/// Why nobody's certificate can be told.
#[derive(Debug, Error)]
pub enum AuthoritiesError {
    /// The file cannot be read.
    #[error("reading the certificates: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// There is nothing in it.
    #[error("there is no certificate in it")]
    Empty,
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Authorities {
    /// Nobody.
    pub fn none() -> Result<Self, AuthoritiesError> {
        Self::of(RootCertStore::empty())
    }

    /// Whoever is in a file of PEM certificates.
    pub fn read(file: &Path) -> Result<Self, AuthoritiesError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file)? {
            roots.add(certificate?)?;
        }
        if roots.is_empty() {
            return Err(AuthoritiesError::Empty);
        }
        Self::of(roots)
    }

    fn of(roots: RootCertStore) -> Result<Self, AuthoritiesError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorities")
    }
}

/// A connection with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Opens a connection.
pub(super) async fn connect(
    host: &str,
    port: u16,
    tls: Option<&Authorities>,
) -> io::Result<Box<dyn Stream>> {
    // an IPv6 address stands in brackets in a URL
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let Some(Authorities(config)) = tls else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::clone(config));
    Ok(Box::new(connector.connect(name, stream).await?))
}
