//! What exports share: places, of which a caller has a part only, and patience with clients that take their time.

use std::{
    collections::HashMap,
    io,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::{sync::mpsc, time::timeout};

use super::problem::Problem;
use crate::{access::Caller, tenant::TenantId};

/// So many exports of the audit log are sent at once.
const MAX_AUDIT: usize = 16;
/// Of these to one caller.
const MAX_AUDIT_EACH: usize = 4;

/// Places for what takes long, or holds something of which there is little.
#[derive(Debug)]
pub(super) struct Places {
    /// How many there are.
    all: usize,
    /// Of these for one caller.
    each: usize,
    /// How many each caller has; those without any are not there.
    taken: Mutex<HashMap<Holder, usize>>,
}

/// Whose places: a caller, and the tenant on which it is granted whatever it is granted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Holder {
    tenant: Option<TenantId>,
    who: String,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    holder: Holder,
}

impl Places {
    pub(super) fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            all,
            each,
            taken: Mutex::default(),
        })
    }

    /// A place for this caller. `share` is how many the callers of a tenant may have; `what` tells what is done in such places.
    ///
    /// # Errors
    /// All are taken, or this caller, or its tenant, has as many as it may.
    pub(super) fn take(
        self: &Arc<Self>,
        caller: &Caller,
        share: usize,
        what: &str,
    ) -> Result<Place, Problem> {
        let holder = Holder {
            tenant: caller.tenant().cloned(),
            who: caller.who(),
        };
        let mut taken = self.taken();
        if taken.get(&holder).is_some_and(|count| *count >= self.each) {
            let who = holder.who;
            let each = self.each;
            return Err(full(format!(
                "{who} has {each} {what} under way already, which is as many as a caller may; ask again when one is done"
            )));
        }
        if let Some(tenant) = &holder.tenant {
            let theirs = taken
                .iter()
                .filter(|(it, _)| it.tenant.as_ref() == Some(tenant));
            if theirs.map(|(_, count)| count).sum::<usize>() >= share {
                return Err(full(format!(
                    "callers of tenant {tenant} have {share} {what} under way already, which is their share (tenants.max_exports); ask again \
                     when one is done"
                )));
            }
        }
        if taken.values().sum::<usize>() >= self.all {
            let all = self.all;
            return Err(full(format!(
                "{all} {what} are under way already; ask again when one is done"
            )));
        }
        *taken.entry(holder.clone()).or_default() += 1;
        Ok(Place {
            places: self.clone(),
            holder,
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Holder, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

fn full(detail: String) -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too-many-exports",
        "Too many exports",
        detail,
    )
}

/// Exports of the audit log that are being sent.
#[derive(Debug)]
pub struct AuditExports(Arc<Places>);

impl Default for AuditExports {
    fn default() -> Self {
        Self(Places::new(MAX_AUDIT, MAX_AUDIT_EACH))
    }
}

impl AuditExports {
    pub(super) fn place(&self, caller: &Caller) -> Result<Place, Problem> {
        self.0.take(caller, MAX_AUDIT, "exports of the audit log")
    }
}

/// How long a client is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until it takes the next piece.
    pub(super) piece: Duration,
    /// Until it has all of it.
    pub(super) all: Duration,
}

/// A minute for a piece, an hour for all.
pub(super) const PATIENCE: Patience = Patience {
    piece: Duration::from_mins(1),
    all: Duration::from_hours(1),
};

/// What goes to the client; the last one tells that it has all.
enum Piece<E> {
    Part(Result<Bytes, E>),
    End,
}

/// Sends parts as the client takes them, one ahead of it at most, and holds `place` meanwhile. Where a part fails, or the client takes
/// too long, the body ends with an error, so that nobody takes it for whole.
pub(super) fn paced<E>(
    parts: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    place: Place,
    patience: Patience,
) -> Body
where
    E: std::error::Error + Send + Sync + 'static,
{
    let (pieces, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        // where the client is gone, or too slow, the body lacks its end
        let _ = timeout(patience.all, send(parts, pieces, patience.piece)).await;
        drop(place);
    });
    Body::from_stream(stream::unfold(Some(taken), next))
}

/// Until it is through, or the client is gone or too slow.
async fn send<E>(
    parts: impl Stream<Item = Result<Bytes, E>>,
    pieces: mpsc::Sender<Piece<E>>,
    within: Duration,
) {
    let mut parts = pin!(parts);
    while let Ok(Ok(room)) = timeout(within, pieces.reserve()).await {
        let Some(part) = parts.next().await else {
            return room.send(Piece::End);
        };
        let failed = part.is_err();
        room.send(Piece::Part(part));
        if failed {
            return;
        }
    }
}

type Taken<E> = Option<mpsc::Receiver<Piece<E>>>;

async fn next<E>(taken: Taken<E>) -> Option<(Result<Bytes, io::Error>, Taken<E>)>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut taken = taken?;
    match taken.recv().await {
        Some(Piece::Part(Ok(bytes))) => Some((Ok(bytes), Some(taken))),
        Some(Piece::Part(Err(error))) => Some((Err(io::Error::other(error)), None)),
        Some(Piece::End) => None,
        None => Some((Err(io::ErrorKind::TimedOut.into()), None)),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;
    use crate::access::{Grant, Role, Tenants};

    fn named(name: &str) -> Caller {
        Caller::user(1, name.to_owned(), Vec::new())
    }

    #[test]
    fn callers_of_a_tenant_leave_places_to_others() {
        let places = Places::new(9, 2);
        let of = |tenant: &str, name: &str| {
            let grant = Grant {
                tenant: Tenants::One(tenant.parse().unwrap()),
                ..Grant::of(Role::Viewer)
            };
            Caller::user(1, name.to_owned(), vec![grant])
        };
        let take = |caller: Caller| places.take(&caller, 3, "exports");
        let theirs: Vec<_> = ["anna", "anna", "bert", "bert"]
            .map(|name| take(of("acme", name)).ok())
            .into();
        assert_eq!(theirs.iter().flatten().count(), 3);
        let full = take(of("acme", "carl")).unwrap_err();
        assert!(format!("{full:?}").contains("tenant acme"), "{full:?}");
        let others = [take(of("beta", "anna")), take(named("dora"))];
        assert!(others.iter().all(Result::is_ok));
        drop(theirs);
        assert!(take(of("acme", "carl")).is_ok());
    }

    #[test]
    fn a_caller_leaves_places_to_others() {
        let places = Places::new(5, 2);
        let take = |who| places.take(&named(who), 9, "exports");
        let anna: Vec<_> = std::iter::from_fn(|| take("anna").ok()).collect();
        assert_eq!(anna.len(), 2);
        let berta: Vec<_> = std::iter::from_fn(|| take("berta").ok()).collect();
        assert_eq!(berta.len(), 2);
        let last = take("carla").unwrap();
        assert!(take("carla").is_err(), "there are no more");
        drop(anna);
        assert!(take("anna").is_ok());
        drop((berta, last));
        assert!(places.taken().is_empty());
    }

    fn parts(count: u8) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
        stream::iter((0..count).map(|number| Ok(Bytes::from(vec![number]))))
    }

    async fn is_free(places: &Arc<Places>) {
        let free = async {
            while !places.taken().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_mins(1), free).await.unwrap();
    }

    #[tokio::test]
    async fn all_of_it_is_sent_and_the_place_is_free() {
        let places = Places::new(1, 1);
        let place = places.take(&named("anna"), 9, "exports").unwrap();
        let body = paced(parts(9), place, PATIENCE);
        assert_eq!(
            to_bytes(body, 100).await.unwrap()[..],
            [0, 1, 2, 3, 4, 5, 6, 7, 8]
        );
        is_free(&places).await;
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_loses_its_place_and_is_told() {
        let places = Places::new(1, 1);
        let place = places.take(&named("anna"), 9, "exports").unwrap();
        let patience = Patience {
            piece: Duration::from_millis(50),
            ..PATIENCE
        };
        let mut body = paced(parts(9), place, patience).into_data_stream();
        assert!(body.next().await.unwrap().is_ok());
        is_free(&places).await;
        let rest: Vec<_> = body.collect().await;
        assert!(rest.last().unwrap().is_err());
        assert!(rest.len() < 8);
    }

    #[tokio::test]
    async fn what_fails_does_not_look_whole() {
        let places = Places::new(1, 1);
        let place = places.take(&named("anna"), 9, "exports").unwrap();
        let broken = parts(2).chain(stream::iter([Err(io::ErrorKind::NotFound.into())]));
        let body = paced(broken, place, PATIENCE);
        let all: Vec<_> = body.into_data_stream().collect().await;
        assert_eq!(all.len(), 3);
        assert!(all[2].is_err());
        is_free(&places).await;
    }
}
