//! How a device is given the package: where to fetch it, or its blocks.

use super::{gets::Get, steps::Deed};
use crate::{
    config::{Delivery, UriScheme},
    engine::{Engine, PullTerms, asked::Tag, device::HeardOver, key::DeviceKey},
    grants::{self, Grant, Token, safe_file_name},
    ledger::{UpdateObject, UpdateStep},
    upgrade::{
        Input, Sign,
        transfer::{Transfer, object::ObjectInput},
    },
};

/// Bytes of a package that is written to a device at most, where its product does not say.
const PUSH_MAX_BYTES: u64 = 1024 * 1024;

/// The state of objects 5, 9 and 33629 in which they take a package.
const DOWNLOADING: u8 = 1;

/// The way of a package to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Fetch(UriScheme),
    Write,
}

impl Engine {
    /// Gives the device the package, once it is known how it takes one.
    pub(in crate::engine) fn offer_by_object(&mut self, key: DeviceKey) {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let route = &mut session.exchange;
        route.push = None;
        route.offers_then = true;
        if !self.asks_abilities(key) {
            self.offers_now(key);
        }
    }

    /// The same, once that is known.
    pub(super) fn offers_now(&mut self, key: DeviceKey) {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        if !std::mem::take(&mut session.exchange.offers_then) && !session.exchange.writes_tlv {
            return;
        }
        let version = session.package.version;
        match self.way_of(key) {
            Some(Way::Fetch(scheme @ (UriScheme::Http | UriScheme::Https))) => {
                self.offer_over_http(key, scheme);
            }
            Some(Way::Fetch(scheme)) => self.offer_over_coap(key, scheme),
            Some(Way::Write) => self.begin_push(key),
            None => {
                let refused = ObjectInput::Refused(UpdateStep::Package, 0x8F);
                return self.fire(key, Input::Object(refused));
            }
        }
        self.note_sign(key, version, Sign::Offered);
    }

    /// How it is given the package: fetched unless it cannot be, or is to be written.
    fn way_of(&self, key: DeviceKey) -> Option<Way> {
        let device = self.device(key);
        let session = device.session.as_ref()?;
        let (package, abilities) = (&session.package, &session.exchange.abilities);
        let profile = self.profile(key);
        let most = profile.push_max_bytes.unwrap_or(PUSH_MAX_BYTES);
        let writes = package.content.is_some() && package.size_bytes <= most;
        let fetches = self.scheme_for(key).map(Way::Fetch);
        let written = writes.then_some(Way::Write);
        // resource 9: 0 it fetches, 1 it is written to, 2 both
        match (abilities.delivery, profile.delivery) {
            (Some(0), _) | (_, Delivery::Pull) if abilities.delivery != Some(1) => fetches,
            (Some(1), _) => written,
            (_, Delivery::Push) => written.or(fetches),
            _ => fetches.or(written),
        }
    }

    /// By what it fetches the package: what its product prefers, of what it can do and what is served here.
    fn scheme_for(&self, key: DeviceKey) -> Option<UriScheme> {
        use UriScheme::{Coap, Coaps, Http, Https};

        let device = self.device(key);
        let session = device.session.as_ref()?;
        let (package, abilities) = (&session.package, &session.exchange.abilities);
        let secured = device.peer().is_some_and(|peer| peer.secured);
        let preferred = self.profile(key).uri_scheme;
        let able = |scheme: &UriScheme| {
            let number = match scheme {
                Coap => 0,
                Coaps => 1,
                Http => 2,
                Https => 3,
            };
            // CoAP is what each has that says nothing (resource 8), or what its product knows of it
            let tells = !abilities.protocols.is_empty();
            if tells {
                abilities.protocols.contains(&number)
            } else {
                matches!(scheme, Coap | Coaps) || preferred == Some(*scheme)
            }
        };
        let served = |scheme: &UriScheme| match scheme {
            Coap => package.content.is_some() && self.reached.coap.is_some() && !secured,
            Coaps => package.content.is_some() && self.reached.coaps.is_some() && secured,
            Http | Https => package.http.is_some() && self.reached.links_by(*scheme).is_some(),
        };
        let usual = [Coaps, Coap, Https, Http];
        (preferred.into_iter().chain(usual)).find(|scheme| able(scheme) && served(scheme))
    }

    /// It is told where it fetches the package in blocks, which it may from now on.
    fn offer_over_coap(&mut self, key: DeviceKey, scheme: UriScheme) {
        let Some(terms) = self.pull_terms(key, scheme == UriScheme::Coaps, 0) else {
            return;
        };
        let token = self.open_pull(key, &terms);
        if let Some(uri) = self.reached.uri(scheme, token) {
            self.write_uri(key, &uri);
        }
    }

    /// On what terms it may fetch its package in blocks; `None` where that is not served so.
    fn pull_terms(&self, key: DeviceKey, secured: bool, done_bytes: u64) -> Option<PullTerms> {
        let session = self.device(key).session.as_ref()?;
        Some(PullTerms {
            content: session.package.content.clone()?,
            upgrade: session.order.upgrade,
            task: session.order.task,
            attempt: session.order.attempt,
            package: session.serves().package,
            block_bytes: self.block_bytes(key),
            secured,
            bytes_per_second: self.config.download.bytes_per_second_per_device,
            done_bytes,
        })
    }

    /// It is told where it fetches the package over HTTP, which it may from now on.
    fn offer_over_http(&mut self, key: DeviceKey, scheme: UriScheme) {
        let Some(grant) = self.grant_of(key, 0) else {
            return;
        };
        let links = self.reached.links_by(scheme);
        let url = links.map(|links| links.url(&grant));
        self.grant(grant);
        if let Some(url) = url {
            self.write_uri(key, &url);
        }
    }

    fn grant_of(&self, key: DeviceKey, already_contiguous: u64) -> Option<Grant> {
        let device = self.device(key);
        let session = device.session.as_ref()?;
        let order = &session.order;
        let package = session.serves().package;
        let token = (self.ids).pull_token(device.id, order.upgrade, order.attempt, package);
        let (_, until) = session.negotiation().until()?;
        Some(Grant {
            token: Token::new(&token.text()).ok()?,
            way: grants::Way::Path,
            device: device.id,
            upgrade: order.upgrade,
            task: order.task,
            package,
            sha256: session.package.http.as_ref()?.sha256.clone(),
            size_bytes: session.package.size_bytes,
            file_name: safe_file_name(&format!("{}.bin", session.package.version)),
            expires_at: self.now.utc_at(until),
            already_contiguous,
            // its state tells whether it has begun
            begun: true,
        })
    }

    /// The device goes on with what it was told before a restart of the server: it may fetch as before.
    pub(in crate::engine) fn reopen_pull(&mut self, key: DeviceKey, done_bytes: u64) {
        let device = self.device(key);
        // its association is over, and the device encrypts as before
        let encrypts = (device.registration.as_ref()).is_some_and(|it| it.peer.secured);
        let secured = encrypts || device.heard_over == HeardOver::Secured;
        let Some(terms) = self.pull_terms(key, secured, done_bytes) else {
            return;
        };
        self.open_pull(key, &terms);
        self.resume_pull(key);
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.exchange.resumes = true;
        }
        if let Some(grant) = self.grant_of(key, done_bytes) {
            self.grant(grant);
        }
    }

    /// After a restart of the server a device that says that it is downloading fetches what it lacks by itself. What was
    /// being written to it is begun anew: how far that was is not known.
    pub(super) fn resume_push(&mut self, key: DeviceKey) {
        let Some(session) = self.device(key).session.as_ref() else {
            return;
        };
        let transfer = session.negotiation().transfer();
        let downloads = transfer.and_then(Transfer::told_state) == Some(DOWNLOADING);
        if !session.exchange.resumes || !downloads || session.exchange.push.is_some() {
            return;
        }
        if self.asks_abilities(key) {
            return;
        }
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.exchange.resumes = false;
        }
        if self.way_of(key) == Some(Way::Write) {
            self.fire(key, Input::Object(ObjectInput::CutOff));
        }
    }

    /// Asks how the device takes packages, unless that is known, or its object does not tell it.
    fn asks_abilities(&mut self, key: DeviceKey) -> bool {
        let Some(session) = self.device(key).session.as_ref() else {
            return false;
        };
        let route = &session.exchange;
        let asks = !route.abilities.known && route.object != UpdateObject::Software;
        if asks {
            for get in [Get::Delivery, Get::Protocols] {
                self.send_get(key, get);
            }
        }
        asks
    }

    /// Writes to the device where the package is.
    pub(super) fn write_uri(&mut self, key: DeviceKey, uri: &str) {
        let Some(at) = self.updated_at(key) else {
            return;
        };
        let write = Deed::write(at.uri(), uri);
        self.send_deed(key, Tag::Step(UpdateStep::Package), write);
    }
}
