//! How an export leaves: piece by piece, by a task that gives up on a client that does not take them. Its file is closed then, and
//! its place is another one's.

use std::{io, time::Duration};

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::{fs::File, io::AsyncReadExt as _, sync::mpsc, time::timeout};

use crate::api::exports::{Patience, Place};

/// Sent at once, bytes.
const CHUNK: usize = 64 * 1024;

/// An archive with the evidence in a file.
pub(super) struct Archive {
    /// What stands before the evidence.
    pub(super) head: Vec<u8>,
    /// The evidence.
    pub(super) file: File,
    /// Its size.
    pub(super) size_bytes: u64,
    /// What stands behind it.
    pub(super) tail: Vec<u8>,
}

impl Archive {
    /// Of all of it, bytes.
    pub(super) const fn length(&self) -> u64 {
        self.head.len() as u64 + self.size_bytes + self.tail.len() as u64
    }

    /// Sends it, and holds `place` meanwhile. Where the client takes too long, the body ends with an error.
    pub(super) fn into_body(self, place: Place, patience: Patience) -> Body {
        let length = self.length();
        let (pieces, taken) = mpsc::channel(1);
        tokio::spawn(async move {
            // who has given up has nobody to tell: the body is found to be too short
            let _ = timeout(patience.all, self.send(&pieces, patience.piece)).await;
            drop(place);
        });
        Body::from_stream(stream::unfold((taken, length), next))
    }

    /// Until it is through, the client is gone or too slow, or the file cannot be read.
    async fn send(mut self, pieces: &mpsc::Sender<Bytes>, within: Duration) -> Option<()> {
        put(pieces, self.head, within).await?;
        let mut left = self.size_bytes;
        while left > 0 {
            let most = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let mut chunk = vec![0; most];
            let read = match self.file.read(&mut chunk).await {
                Ok(0) => return None,
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(%error, "an export cannot be read back");
                    return None;
                }
            };
            chunk.truncate(read);
            left -= read as u64;
            put(pieces, chunk, within).await?;
        }
        put(pieces, self.tail, within).await
    }
}

async fn put(pieces: &mpsc::Sender<Bytes>, piece: Vec<u8>, within: Duration) -> Option<()> {
    let sent = timeout(within, pieces.send(piece.into())).await;
    sent.ok()?.ok()
}

/// The next piece; an error where none comes although some are left.
async fn next(
    (mut taken, left): (mpsc::Receiver<Bytes>, u64),
) -> Option<(io::Result<Bytes>, (mpsc::Receiver<Bytes>, u64))> {
    if left == 0 {
        return None;
    }
    match taken.recv().await {
        Some(piece) => {
            let left = left.saturating_sub(piece.len() as u64);
            Some((Ok(piece), (taken, left)))
        }
        None => Some((Err(io::ErrorKind::TimedOut.into()), (taken, 0))),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::Arc};

    use super::*;
    use crate::{
        access::Caller,
        api::exports::{PATIENCE, Places},
    };
    use axum::body::to_bytes;
    use futures_util::StreamExt as _;

    /// An archive of so many bytes between `head` and `tail`.
    fn archive(size_bytes: usize) -> (tempfile::TempDir, Archive) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evidence");
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&vec![7; size_bytes]).unwrap();
        let archive = Archive {
            head: b"head".to_vec(),
            file: File::from_std(std::fs::File::open(&path).unwrap()),
            size_bytes: size_bytes as u64,
            tail: b"tail".to_vec(),
        };
        (dir, archive)
    }

    fn named(name: &str) -> Caller {
        Caller::user(1, name.to_owned(), Vec::new())
    }

    fn place(places: &Arc<Places>) -> Place {
        places.take(&named("anna"), 9, "exports").unwrap()
    }

    /// When the only place is there again.
    async fn is_free(places: &Arc<Places>) {
        let free = async {
            while places.take(&named("berta"), 9, "exports").is_err() {
                tokio::task::yield_now().await;
            }
        };
        (timeout(LONG / 2, free).await).expect("the place is not free");
    }

    #[tokio::test]
    async fn all_of_it_is_sent_and_its_place_is_free() {
        let places = Places::new(1, 1);
        for size in [0, 1, CHUNK, 3 * CHUNK + 5] {
            let (_dir, archive) = archive(size);
            let length = archive.length();
            let body = archive.into_body(place(&places), PATIENCE);
            let bytes = to_bytes(body, usize::MAX).await.unwrap();
            assert_eq!(bytes.len() as u64, length);
            assert!(bytes.starts_with(b"head") && bytes.ends_with(b"tail"));
            assert_eq!(bytes[4..bytes.len() - 4], vec![7; size]);
            // the task ends by itself
            is_free(&places).await;
        }
    }

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_client_that_takes_nothing_loses_its_place() {
        let places = Places::new(1, 1);
        let (_dir, archive) = archive(10 * CHUNK);
        let patience = Patience {
            piece: Duration::from_millis(50),
            all: LONG,
        };
        let mut body = (archive.into_body(place(&places), patience)).into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap(), b"head"[..]);
        is_free(&places).await;
        // and is told that it has not all
        let rest: Vec<_> = body.collect().await;
        assert!(rest.last().unwrap().is_err());
        assert!(rest.len() < 10, "{}", rest.len());
    }

    #[tokio::test]
    async fn a_client_that_takes_very_little_loses_its_place_too() {
        let places = Places::new(1, 1);
        let (_dir, archive) = archive(200 * CHUNK);
        let patience = Patience {
            piece: LONG,
            all: Duration::from_millis(100),
        };
        let mut body = (archive.into_body(place(&places), patience)).into_data_stream();
        let mut taken = 0;
        while let Some(Ok(_)) = body.next().await {
            taken += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(taken < 200, "{taken}");
        is_free(&places).await;
    }

    #[tokio::test]
    async fn a_client_that_is_gone_holds_no_place() {
        let places = Places::new(1, 1);
        let (_dir, archive) = archive(10 * CHUNK);
        drop(archive.into_body(place(&places), PATIENCE));
        is_free(&places).await;
    }
}
