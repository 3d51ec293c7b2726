//! Which connections a token is served on: a few, and a new one takes the place of the oldest.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// A connection, as far as it has to know when another one has taken its place.
#[derive(Debug, Default)]
pub struct Holder {
    replaced: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Holder {
    /// Ready once another connection has taken the place of this one, which has to end then.
    pub fn poll_replaced(&self, context: &Context<'_>) -> Poll<()> {
        // looked at under the lock, so that it is not missed
        let mut waker = held(&self.waker);
        if self.replaced.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        match &mut *waker {
            Some(known) => known.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn replace(&self) {
        let mut waker = held(&self.waker);
        self.replaced.store(true, Ordering::Relaxed);
        if let Some(waker) = waker.take() {
            waker.wake();
        }
    }
}

/// The connections of a grant: the one that has asked least lately comes first.
#[derive(Debug, Default)]
pub(super) struct Holders(Mutex<VecDeque<Arc<Holder>>>);

impl Holders {
    /// One more request of this connection. Those before it are told to end as far as there would be more than `most`.
    pub(super) fn add(&self, new: &Arc<Holder>, most: u32) {
        let mut holders = held(&self.0);
        let is_new = |it: &Arc<Holder>| Arc::ptr_eq(it, new);
        let mut others = holders.iter().filter(|it| !is_new(it)).count();
        while others > 0 && others >= most as usize {
            let first = holders.iter().position(|it| !is_new(it));
            if let Some(old) = first.and_then(|at| holders.remove(at)) {
                old.replace();
            }
            others -= 1;
        }
        holders.push_back(new.clone());
    }

    /// A request's hold is over, the first one of this connection; nothing where it was told to end.
    pub(super) fn remove(&self, holder: &Arc<Holder>) {
        let mut holders = held(&self.0);
        if let Some(at) = holders.iter().position(|it| Arc::ptr_eq(it, holder)) {
            holders.remove(at);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        held(&self.0).is_empty()
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
