//! Packages that devices fetch in CoAP blocks (RFC 7959): `GET /p/TOKEN`.
//!
//! The engine that has a device opens a pull for it ([`Engine::open_pull`]) and closes it. The device may fetch from any socket,
//! and so at any engine, which may know nothing of the device: it asks for a lease, as a device is sought ([`Seek`]), and serves
//! from it by itself. What was served is told to the engine that has the device now and then ([`Fetched`]), which counts it for the
//! upgrade. A pull goes along with its device; leases are recalled when it is closed.
//!
//! A request is answered anew each time it comes, with the token that it has: no repeat is remembered.

mod lease;
mod table;
mod tally;

pub use lease::Lease;
pub use tally::Fetched;

pub(super) use table::Leases;
use table::Served;

use bytes::Bytes;
use rand_chacha::rand_core::Rng;

use super::{Effect, Engine, Incoming, Seek, Sought, key::DeviceKey, moves::By};
use crate::{
    clock::Now,
    coap::{Code, ContentRequest, Message, short_response},
    ledger::{PackageId, PullToken, Stage, TaskId, UpgradeId},
    package::{Content, Spans},
    upgrade::{Input, transfer::object::ObjectInput},
};

/// The first segment of the path under which packages are fetched.
pub const PULLS: &str = "p";

/// On what terms a device may fetch its package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullTerms {
    /// What it fetches.
    pub content: Content,
    /// For which upgrade.
    pub upgrade: UpgradeId,
    /// Of which task.
    pub task: TaskId,
    /// In which of its attempts.
    pub attempt: u32,
    /// The package.
    pub package: PackageId,
    /// Bytes of a block, where the device does not say.
    pub block_bytes: u16,
    /// It fetches over DTLS, and nowhere else; or else in the clear, and nowhere else.
    pub secured: bool,
    /// No more than this is served in a second, on the average; what is asked for sooner is answered later, and no later than a
    /// device repeats. 0 for no bound.
    pub bytes_per_second: u64,
    /// So much of it was served before, from its beginning.
    pub done_bytes: u64,
}

/// A pull that is open.
#[derive(Debug)]
pub(super) struct Pull {
    lease: Lease,
    /// What was served, in this attempt.
    served: Spans,
    /// Bytes from the beginning without a gap, at most.
    furthest: u64,
    /// Somebody serves from a lease of it.
    lent: bool,
    /// The server has restarted, or the device is offered it anew: how much of it the device has is not known, until it asks for more.
    resumes: bool,
    /// How much was known to be served when the end was, and all leases were recalled for what they had not told.
    recalled_at: Option<u64>,
}

impl Pull {
    /// Takes in what was served. Returns whether that is further than before.
    fn take_in(&mut self, fetched: &Fetched) -> bool {
        // A device asks for what it lacks: it has what comes before that.
        if std::mem::take(&mut self.resumes) {
            self.served.add(0..fetched.served.first());
        }
        self.served.join(&fetched.served);
        let contiguous = self.served.contiguous();
        let further = contiguous > self.furthest;
        self.furthest = self.furthest.max(contiguous);
        further
    }
}

impl Engine {
    /// Lets the device fetch its package. A pull that is open already is closed. Where it has the same token, the device is offered
    /// anew what it has lost: what it was served before counts no more, unless it asks for what follows.
    pub(super) fn open_pull(&mut self, key: DeviceKey, terms: &PullTerms) -> PullToken {
        let device = self.device(key);
        let token = (self.ids).pull_token(device.id, terms.upgrade, terms.attempt, terms.package);
        let gateway = device.gateway().map(Into::into);
        let lease = Lease::new(token, device.endpoint.clone(), gateway, terms);
        let before = self.take_pull(key);
        let served = Spans::up_to(terms.done_bytes.min(lease.len()));
        let furthest = served.contiguous();
        let session = self.device(key).session.as_ref();
        let position = session.and_then(|session| session.position(session.negotiation()));
        let again = before.is_some_and(|before| before.lease.token == token)
            || position.is_some_and(|bytes| bytes > 0);
        if position.is_some_and(|bytes| bytes != furthest) {
            self.store_progress(key, furthest, false);
        }
        let known = self.device_mut(key).known.get_or_insert_default();
        known.pull = Some(Box::new(Pull {
            lease,
            served,
            furthest,
            lent: false,
            resumes: again,
            recalled_at: None,
        }));
        token
    }

    /// The pull was open before a restart of the server: the device goes on with what it has.
    pub(super) fn resume_pull(&mut self, key: DeviceKey) {
        let known = self.device_mut(key).known.as_mut();
        if let Some(pull) = known.and_then(|known| known.pull.as_mut()) {
            pull.resumes = true;
        }
    }

    /// The same for the device of that name; `None` where there is none.
    pub fn open_pull_of(&mut self, endpoint: &str, terms: &PullTerms) -> Option<PullToken> {
        let key = self.find(endpoint)?;
        Some(self.open_pull(key, terms))
    }

    /// The device fetches no more: it is told that there is nothing, whatever it asks for.
    pub(super) fn close_pull(&mut self, key: DeviceKey) {
        drop(self.take_pull(key));
    }

    /// The same for the device of that name.
    pub fn close_pull_of(&mut self, endpoint: &str) {
        if let Some(key) = self.find(endpoint) {
            self.close_pull(key);
        }
    }

    /// The device's pull, of which nobody has a lease any more.
    fn take_pull(&mut self, key: DeviceKey) -> Option<Box<Pull>> {
        let known = self.device_mut(key).known.as_mut();
        let mut pull = known?.pull.take()?;
        if pull.lent {
            let token = pull.lease.token;
            // what was served last counts; nothing else follows from it any more
            if let Some(fetched) = self.leases.remove(token) {
                self.count_fetched(key, &fetched);
                pull.take_in(&fetched);
            }
            self.effects.push_back(Effect::Recall(token));
            // how far it came is known from now on, whenever that was written last; not where the next step of several has begun
            if self.stage(key) != Some(Stage::QueryingVersion) {
                self.store_progress(key, pull.furthest, false);
            }
        }
        Some(pull)
    }

    /// A lease of this pull is void.
    pub fn recall(&mut self, now: Now, token: PullToken) {
        self.now = now;
        self.recall_here(token);
    }

    fn recall_here(&mut self, token: PullToken) {
        let Some(fetched) = self.leases.remove(token) else {
            return;
        };
        if self.devices.by_id(token.device()).is_some() {
            self.take_fetched(&fetched);
        } else {
            self.effects.push_back(Effect::Fetched(Box::new(fetched)));
        }
    }

    /// Takes a request for a block of a package. Returns whether it was one.
    pub(super) fn pulled(&mut self, incoming: &Incoming<'_>) -> bool {
        let Some(request) = ContentRequest::below(PULLS.as_bytes(), incoming.message) else {
            return false;
        };
        match PullToken::parse(request.name) {
            Some(token) => self.pull(token, &request, incoming),
            None => self.refuse_block(incoming, Code::NOT_FOUND),
        }
        true
    }

    fn pull(&mut self, token: PullToken, request: &ContentRequest<'_>, incoming: &Incoming<'_>) {
        let now = self.now.instant;
        let served = self.leases.serve(now, token, request, incoming, || {
            (self.random.next_u32() >> 16) as u16 // 16 bits are left
        });
        match served {
            Some(Ok(served)) => self.leave_block(token, served),
            Some(Err(code)) => self.refuse_block(incoming, code),
            None => self.borrow(token, incoming),
        }
    }

    /// There is no lease of it here: it is asked for where the device is.
    fn borrow(&mut self, token: PullToken, incoming: &Incoming<'_>) {
        let here = self.devices.by_id(token.device());
        match incoming.sought {
            _ if here.is_some() => match self.lend(token) {
                Some(lease) => self.begin_lease(lease, incoming),
                None => self.refuse_block(incoming, Code::NOT_FOUND),
            },
            Sought::NotYet => self.seek(token.device(), By::Pull(token), None, incoming),
            Sought::Lent(lease) => self.begin_lease(Lease::clone(lease), incoming),
            // it may be of a device that is not read yet
            _ if self.restoring.is_some() => self.counters.requests_deferred += 1,
            _ => self.refuse_block(incoming, Code::NOT_FOUND),
        }
    }

    /// Serves from a lease that has come, unless there are too many of them: a device repeats what goes unanswered.
    fn begin_lease(&mut self, lease: Lease, incoming: &Incoming<'_>) {
        if self.leases.begin(self.now.instant, lease) {
            self.pulled(incoming);
        } else {
            self.counters.requests_deferred += 1;
        }
    }

    /// A lease of the pull with that token, where it is open and its device here.
    pub(super) fn lend(&mut self, token: PullToken) -> Option<Lease> {
        let key = self.devices.by_id(token.device())?;
        let pull = self.device_mut(key).known.as_mut()?.pull.as_mut()?;
        if pull.lease.token != token {
            return None;
        }
        pull.lent = true;
        Some(pull.lease.clone())
    }

    /// Takes a request again whose lease was asked for.
    pub(super) fn handle_lent(&mut self, seek: &Seek, sought: &Sought) {
        if let Ok(message) = Message::parse(seek.bytes()) {
            self.pulled(&Incoming {
                speaker: seek.speaker(),
                bytes: seek.bytes(),
                message: &message,
                sought,
            });
        }
    }

    /// Answers with an error: it is short, as whoever asks may have a false address.
    fn refuse_block(&mut self, incoming: &Incoming<'_>, code: Code) {
        self.counters.blocks_refused += 1;
        let id = (self.random.next_u32() >> 16) as u16; // 16 bits are left
        let response = short_response(incoming.message, code, id, Bytes::new());
        self.transmit(incoming.peer(), response, 0);
    }

    /// Does what is due with leases.
    pub(super) fn leases_timeout(&mut self) {
        let now = self.now.instant;
        while let Some((token, due)) = self.leases.pop_due(now) {
            self.leave_block(token, due);
        }
    }

    fn leave_block(&mut self, token: PullToken, served: Served) {
        if let Some((peer, datagram)) = served.leaves {
            self.counters.blocks_served += 1;
            self.transmit(peer, datagram, 0);
        }
        if served.tells {
            self.tell_lease(token);
        }
    }

    /// Tells whoever has the device what was served from the lease since that was told last.
    fn tell_lease(&mut self, token: PullToken) {
        let now = self.now.instant;
        let Some(fetched) = self.leases.take_fetched(now, token) else {
            return;
        };
        if self.devices.by_id(token.device()).is_some() {
            // without a copy: this is the way of most blocks
            self.take_fetched(&fetched);
            self.leases.keep(token, fetched.served);
        } else {
            self.leases.keep(token, fetched.served.clone());
            self.effects.push_back(Effect::Fetched(Box::new(fetched)));
        }
    }

    /// So much was served to a device that is here, by whoever it was.
    pub fn fetched(&mut self, now: Now, fetched: &Fetched) {
        self.now = now;
        self.take_fetched(fetched);
    }

    fn take_fetched(&mut self, fetched: &Fetched) {
        let Some(key) = self.devices.by_id(fetched.token.device()) else {
            return;
        };
        self.heard_at = fetched.last_at;
        self.count_fetched(key, fetched);
        let Some(pull) = self.pull_mut(key, fetched.token) else {
            return; // it was closed meanwhile
        };
        let further = pull.take_in(fetched);
        let contiguous = pull.served.contiguous();
        let whole = contiguous == pull.lease.len();
        // a device that fetched from another address before may have been served what is missing by another engine
        let lacks = fetched.ended && !whole && pull.recalled_at != Some(pull.furthest);
        if lacks {
            pull.recalled_at = Some(pull.furthest);
        }
        if further {
            self.store_progress(key, contiguous, !whole);
        }
        let session = self.device(key).session.as_ref();
        if let Some(version) = session.map(|session| session.package.version) {
            self.takes(key, version);
        }
        self.heard(key);
        self.fire(key, Input::Object(ObjectInput::Fetched { further }));
        if whole && (fetched.ended || further) {
            self.fire(key, Input::Object(ObjectInput::FetchedAll));
        }
        self.settle(key);
        if lacks {
            self.recall_here(fetched.token);
            self.effects.push_back(Effect::Recall(fetched.token));
        }
    }

    fn pull_mut(&mut self, key: DeviceKey, token: PullToken) -> Option<&mut Pull> {
        let pull = self.device_mut(key).known.as_mut()?.pull.as_deref_mut()?;
        (pull.lease.token == token).then_some(pull)
    }
}
