//! The listeners from which devices download packages.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use tokio::sync::watch;

use super::{StartError, listen_error, local_addr};
use crate::{
    config::{Config, DownloadConfig},
    grants::{Grants, Links},
    ledger::PackageId,
    store::{PackageFiles, Store, StoreError},
    tls::{Tls, TlsFiles},
};

/// What was bound.
pub(super) struct Bound {
    pub listeners: Vec<(TcpListener, Option<Tls>)>,
    pub tls: Option<Tls>,
    /// How the URLs begin: with `base_url`, or by each scheme that is served, HTTPS first.
    pub links: Vec<Links>,
    /// For HTTP.
    pub http: Option<SocketAddr>,
    /// For HTTPS.
    pub https: Option<SocketAddr>,
}

/// Binds what the settings name, and lets `grants` know what devices are told.
pub(super) fn listen(config: &DownloadConfig, grants: &Arc<Grants>) -> Result<Bound, StartError> {
    let tls = Tls::of(TlsFiles::of_downloads(config).as_ref())?;
    let mut bound = Bound {
        listeners: Vec::new(),
        tls: tls.clone(),
        links: Vec::new(),
        http: None,
        https: None,
    };
    if config.https {
        let setting = "download.https_listen";
        let (listener, address) = bind(config.https_listen, setting)?;
        bound.https = Some(address);
        bound.listeners.push((listener, tls));
    }
    if config.http {
        let (listener, address) = bind(config.http_listen, "download.http_listen")?;
        bound.http = Some(address);
        bound.listeners.push((listener, None));
    }
    let own = [("https", bound.https), ("http", bound.http)];
    let own = (own.into_iter()).filter_map(|(scheme, at)| Some(format!("{scheme}://{}", at?)));
    let bases: Vec<String> = match config.base_url.as_str() {
        "" => own.collect(),
        base => own.take(1).map(|_| base.to_owned()).collect(),
    };
    for base in bases {
        let counted = !config.base_url_is_cached;
        let links = Links::new(&base, counted).map_err(|error| StartError::BaseUrl {
            url: base,
            problem: error.to_string(),
        })?;
        bound.links.push(links);
    }
    if let Some(links) = bound.links.first() {
        grants.set_links(links.clone());
    }
    Ok(bound)
}

fn bind(
    address: SocketAddr,
    setting: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener =
        TcpListener::bind(address).map_err(|source| listen_error(address, setting, source))?;
    let bound = local_addr(listener.local_addr(), address, setting)?;
    Ok((listener, bound))
}

/// Why packages could not be served with these settings.
pub(super) fn unfit(config: &Config) -> Vec<StartError> {
    let config = &config.download;
    let tls = Tls::of(TlsFiles::of_downloads(config).as_ref());
    let mut reasons: Vec<StartError> = tls.err().map(StartError::from).into_iter().collect();
    if let Err(error) = Links::new(&config.base_url, true)
        && !config.base_url.is_empty()
    {
        reasons.push(StartError::BaseUrl {
            url: config.base_url.clone(),
            problem: error.to_string(),
        });
    }
    reasons
}

/// Packages that are looked for at once.
const PART: u32 = 100;

/// Finds out the MD5 of packages that were uploaded before it was kept, one after the other. What cannot be read is left for the
/// next start.
pub(super) async fn digest_earlier(
    store: Arc<dyn Store>,
    files: PackageFiles,
    mut stop: watch::Receiver<bool>,
) {
    let work = async {
        let mut last = PackageId(0);
        loop {
            let packages = store.packages_without_md5(last, PART).await?;
            let Some(newest) = packages.last() else {
                return Ok::<(), StoreError>(());
            };
            last = newest.id;
            for package in &packages {
                match files.md5_of(package).await {
                    Ok(md5) => store.set_md5(package.id, &md5).await?,
                    Err(error) => {
                        tracing::warn!(package = package.id.0, %error, "a package has no MD5");
                    }
                }
            }
        }
    };
    tokio::select! {
        ended = work => {
            if let Err(error) = ended {
                tracing::warn!(%error, "packages from before have no MD5 until the next start");
            }
        }
        _ = stop.wait_for(|stop| *stop) => {}
    }
}
