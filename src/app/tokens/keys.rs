//! The keys of the issuer of tokens: from a file that is read anew when it changes, or from a URL, bounded in size, time and pace.
//!
//! Those of before stay until there are new ones, and nobody waits for an issuer that does not answer while there are some.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use reqwest::{Certificate, redirect::Policy};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout},
};

use super::jws::KeySet;
use crate::clock::UtcMillis;

/// What is published is fetched anew after this.
const KEPT: Duration = Duration::from_hours(1);
/// And not before this, where a token names another key.
const RENEWED_EVERY: Duration = Duration::from_mins(1);
/// So often it is looked whether a file has changed.
const FILE_EVERY: Duration = Duration::from_secs(5);
/// An issuer that could not be asked is asked again after this.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// For a request, from the look-up of the name to the end of the answer.
const WITHIN: Duration = Duration::from_secs(10);
/// So long a request waits for new keys where there are old ones, by which it is answered then.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest set, bytes.
const MAX_BYTES: usize = 512 * 1024;

/// Where keys come from.
#[derive(Debug)]
enum Place {
    File(PathBuf),
    Url { url: String, http: reqwest::Client },
}

/// What is known of them.
#[derive(Debug, Default, Clone)]
struct Known {
    keys: Arc<KeySet>,
    /// When they were read last.
    at: Option<UtcMillis>,
    /// When the last attempt was over that failed, and why.
    failed: Option<(UtcMillis, String)>,
    /// Of the file that they were read from.
    changed_at: Option<SystemTime>,
}

/// The keys of the issuer.
#[derive(Debug)]
pub(super) struct Keys {
    place: Place,
    known: RwLock<Known>,
    /// One reads at a time.
    reading: Arc<Mutex<()>>,
}

impl Keys {
    /// Those of a file, which has to hold some.
    pub(super) fn of_file(path: &Path) -> Result<Self, String> {
        let (keys, changed_at) = read(path)?;
        Ok(Self {
            place: Place::File(path.to_owned()),
            known: RwLock::new(Known {
                keys: Arc::new(keys),
                changed_at,
                ..Known::default()
            }),
            reading: Arc::default(),
        })
    }

    /// Those that are published at a URL, which is asked when the first token comes. `authorities` in PEM; `None`: those that the system
    /// trusts.
    pub(super) fn of_url(url: &str, authorities: Option<&[u8]>) -> Result<Self, String> {
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("cellwise/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .timeout(WITHIN);
        if let Some(pem) = authorities {
            let bundle = Certificate::from_pem_bundle(pem).map_err(|error| error.to_string())?;
            if bundle.is_empty() {
                return Err("there is no certificate in app.ca_file".to_owned());
            }
            client = client.tls_certs_only(bundle);
        }
        Ok(Self {
            place: Place::Url {
                url: url.to_owned(),
                http: client.build().map_err(|error| error.to_string())?,
            },
            known: RwLock::default(),
            reading: Arc::default(),
        })
    }

    /// The keys, which are read anew where those that are known are old: in a task of its own, for which nobody waits for long.
    ///
    /// # Errors
    /// There are none, and why.
    pub(super) async fn get(self: &Arc<Self>, now: UtcMillis) -> Result<Arc<KeySet>, String> {
        let kept = match self.place {
            Place::File(_) => FILE_EVERY,
            Place::Url { .. } => KEPT,
        };
        if let Some(known) = self.known(now, kept) {
            return known;
        }
        let Ok(old) = self.old() else {
            let reading = self.reading.clone().lock_owned().await;
            return self.renewed(reading, now, kept).await;
        };
        let Ok(reading) = self.reading.clone().try_lock_owned() else {
            return Ok(old);
        };
        let keys = self.clone();
        let renewing = tokio::spawn(async move { keys.renewed(reading, now, kept).await });
        match timeout(PATIENCE, renewing).await {
            Ok(Ok(renewed)) => renewed,
            Ok(Err(_)) | Err(_) => Ok(old),
        }
    }

    /// The keys, read anew where a token names one that is not among them: within bounds, so that made-up names cost nothing. Whoever
    /// sends such a token waits for that, since the old keys are of no use to it.
    pub(super) async fn renew(&self, now: UtcMillis) -> Result<Arc<KeySet>, String> {
        let every = match self.place {
            Place::File(_) => FILE_EVERY,
            Place::Url { .. } => RENEWED_EVERY,
        };
        if let Some(known) = self.known(now, every) {
            return known;
        }
        let reading = self.reading.clone().lock_owned().await;
        self.renewed(reading, now, every).await
    }

    /// The keys, read anew unless somebody else has done so meanwhile.
    async fn renewed(
        &self,
        _reading: OwnedMutexGuard<()>,
        now: UtcMillis,
        within: Duration,
    ) -> Result<Arc<KeySet>, String> {
        if let Some(known) = self.known(now, within) {
            return known;
        }
        let began = Instant::now();
        let read = self.read().await;
        let over = now + began.elapsed();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(Some((keys, changed_at))) => {
                *known = Known {
                    keys: Arc::new(keys),
                    at: Some(now),
                    failed: None,
                    changed_at,
                };
            }
            Ok(None) => known.at = Some(now),
            Err(error) => {
                tracing::warn!(
                    error,
                    "the keys of the issuer of applications' tokens are not there"
                );
                known.failed = Some((over, error));
            }
        }
        outcome(&known)
    }

    /// When they could not be read.
    #[cfg(test)]
    pub(super) fn failed_at(&self) -> Option<UtcMillis> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.failed.as_ref().map(|(at, _)| *at)
    }

    /// The keys that are known, however old.
    fn old(&self) -> Result<Arc<KeySet>, String> {
        outcome(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known, if it is new enough, or the next attempt would come too soon.
    fn known(&self, now: UtcMillis, within: Duration) -> Option<Result<Arc<KeySet>, String>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = known.at.is_some_and(|at| now.since(at) < within);
        let failed = known.failed.as_ref();
        let soon = failed.is_some_and(|(at, _)| now.since(*at) < AFTER_FAILURE);
        (fresh || soon).then(|| outcome(&known))
    }

    /// The keys of now; `None`: the file is as it was.
    async fn read(&self) -> Result<Option<(KeySet, Option<SystemTime>)>, String> {
        match &self.place {
            Place::Url { url, http } => Ok(Some((fetch(http, url).await?, None))),
            Place::File(path) => {
                let path = path.clone();
                let before = {
                    let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
                    known.changed_at
                };
                let looked = tokio::task::spawn_blocking(move || {
                    if before.is_some() && changed_at(&path) == before {
                        return Ok(None);
                    }
                    read(&path).map(Some)
                });
                looked.await.map_err(|error| error.to_string())?
            }
        }
    }
}

fn outcome(known: &Known) -> Result<Arc<KeySet>, String> {
    if *known.keys != KeySet::default() {
        return Ok(known.keys.clone()); // those of before are better than none
    }
    let why = known.failed.as_ref().map(|(_, why)| why.clone());
    Err(why.unwrap_or_else(|| "they were not read yet".to_owned()))
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

fn read(path: &Path) -> Result<(KeySet, Option<SystemTime>), String> {
    let told = |problem: String| format!("app.jwks_file {}: {problem}", path.display());
    let changed_at = changed_at(path);
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| told(error.to_string()))?;
    let mut file = file.take(MAX_BYTES as u64 + 1);
    file.read_to_end(&mut bytes)
        .map_err(|error| told(error.to_string()))?;
    if bytes.len() > MAX_BYTES {
        return Err(told(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok((KeySet::parse(&bytes).map_err(told)?, changed_at))
}

async fn fetch(http: &reqwest::Client, url: &str) -> Result<KeySet, String> {
    let told = |problem: &dyn std::fmt::Display| format!("app.jwks_url {url}: {problem}");
    let asked = http.get(url).send().await;
    let mut response = asked.map_err(|error| told(&error.without_url()))?;
    if !response.status().is_success() {
        return Err(told(&format_args!("it answers {}", response.status())));
    }
    let mut body = Vec::new();
    while let Some(part) = (response.chunk().await).map_err(|error| told(&error.without_url()))? {
        if body.len() + part.len() > MAX_BYTES {
            return Err(told(&format_args!(
                "its answer has more than {MAX_BYTES} bytes"
            )));
        }
        body.extend_from_slice(&part);
    }
    KeySet::parse(&body).map_err(|problem| told(&problem))
}
