//! From CONNECT to CONNACK.

use std::net::SocketAddr;

use bytes::BytesMut;
use rmqtt_codec::{v3::ConnectAckReason as V3, v5::ConnectAckReason as V5};

use super::{
    Endpoint,
    connection::{Open, State, assigned},
    event::{ConnId, Ending, Event, Output, Verdict, Version},
    frame::Frame,
    identity::{Claim, Refusal},
    packet::{Fault, Greeting, Ungreeted, greeting},
    ration::Source,
    reply::{self, Welcome},
};
use crate::clock::Now;

impl Endpoint {
    /// The first packet of a connection.
    pub(super) fn greet(&mut self, now: Now, conn: ConnId, packet: &[u8], frame: Frame) {
        let Some(connection) = self.table.get_mut(conn) else {
            return;
        };
        let greeting = match greeting(packet, frame) {
            Ok(greeting) => greeting,
            Err(ungreeted) => return self.ungreeted(conn, ungreeted),
        };
        let peer = connection.peer;
        let claim = Box::new(Claim {
            client_id: (&*greeting.client_id).into(),
            user: (greeting.user.as_deref()).map(Into::into),
            password: greeting.password.as_deref().map(Into::into),
            certified: connection.certified.clone(),
        });
        let version = greeting.version;
        connection.state = State::Judged(Box::new(greeting));
        let source = Source::of(peer);
        // Who else fails from its address says nothing of a device: many share one behind a carrier's or an office's router.
        let paced = (self.failures_of_name).has(now.instant, &(source, claim.name()))
            && self.connects.take(now.instant, &source)
            && self.connects_in_all.take(now.instant, &());
        if !paced {
            return self.refuse(conn, version, Refusal::Pace);
        }
        self.outbox.push(Output::Authenticate { conn, peer, claim });
    }

    fn ungreeted(&mut self, conn: ConnId, ungreeted: Ungreeted) {
        let answer = match ungreeted {
            Ungreeted::Malformed => None,
            Ungreeted::Unspoken(version) => Some((
                version,
                V3::UnacceptableProtocolVersion,
                V5::UnsupportedProtocolVersion,
            )),
            Ungreeted::ClientId => Some((
                Version::V311,
                V3::IdentifierRejected,
                V5::ClientIdentifierNotValid,
            )),
            Ungreeted::Retained => Some((Version::V5, V3::NotAuthorized, V5::RetainNotSupported)),
            Ungreeted::Method => {
                Some((Version::V5, V3::NotAuthorized, V5::BadAuthenticationMethod))
            }
        };
        if let Some((version, v3, v5)) = answer {
            self.answer(conn, version, Welcome::Refused(v3, v5));
        }
        self.counts.refused(Refusal::Malformed);
        self.drop_connection(conn, None, true);
    }

    fn answer(&mut self, conn: ConnId, version: Version, welcome: Welcome) {
        let limits = &self.limits;
        // the codec writes every CONNACK that there is here
        let _ = (self.outbox).packet(conn, |out| reply::connack(out, version, limits, welcome));
    }

    fn refuse(&mut self, conn: ConnId, version: Version, refusal: Refusal) {
        let (v3, v5) = match refusal {
            // which of these it is would tell a stranger which devices there are
            Refusal::UnknownDevice
            | Refusal::WrongCredential
            | Refusal::StaleStamp
            | Refusal::ClientId => (V3::BadUserNameOrPassword, V5::BadUserNameOrPassword),
            Refusal::TakeOverPace | Refusal::Pace => {
                (V3::ServiceUnavailable, V5::ConnectionRateExceeded)
            }
            Refusal::Full | Refusal::Slow => (V3::ServiceUnavailable, V5::ServerBusy),
            Refusal::Malformed => (V3::NotAuthorized, V5::ProtocolError),
        };
        self.answer(conn, version, Welcome::Refused(v3, v5));
        self.counts.refused(refusal);
        self.drop_connection(conn, None, true);
    }

    /// It was looked up who it is.
    pub fn authenticated(&mut self, now: Now, conn: ConnId, verdict: Verdict) {
        let Some(connection) = self.table.get_mut(conn) else {
            return;
        };
        let peer = connection.peer;
        let State::Judged(greeting) = std::mem::replace(&mut connection.state, State::Unknown)
        else {
            return;
        };
        match verdict {
            Verdict::Refused(refusal) => {
                let refusal = self.failed(now, peer, &greeting, refusal);
                self.refuse(conn, greeting.version, refusal);
            }
            Verdict::Device(identity) => {
                let device = identity.device;
                let (open, welcome) = self.welcome(now, &greeting, identity);
                if !self.takes(&open, &welcome) {
                    self.counts.refused(Refusal::Malformed);
                    return self.drop_connection(conn, None, true);
                }
                let other = self.table.of_device(device);
                if let Some(other) = other {
                    let since = (self.table.get(other))
                        .and_then(|it| it.open())
                        .map_or(now.instant, |it| it.since);
                    if now.instant.since(since) < self.limits.take_over_after {
                        return self.refuse(conn, greeting.version, Refusal::TakeOverPace);
                    }
                    self.counts.mqtt_take_overs += 1;
                    let taken_over = Some(Fault::SessionTakenOver);
                    self.end(other, Ending::TakenOver, taken_over);
                }
                let (style, version) = (open.identity.style, open.version);
                let token = open.identity.token();
                let client_id = if token.is_some_and(|it| greeting.client_id.contains(it)) {
                    SAME_AS_USER.into()
                } else {
                    cut(&greeting.client_id).into()
                };
                if let Some(connection) = self.table.get_mut(conn) {
                    connection.state = State::Open(open);
                    connection.heard_at = now.instant;
                }
                self.table.known(conn, device);
                self.answer(conn, version, welcome);
                self.counts.mqtt_connects_accepted += 1;
                self.outbox.event(Event::Connected {
                    device,
                    conn,
                    style,
                    version,
                    peer,
                    client_id,
                    took_over: other.is_some(),
                });
                self.go_on(now, conn);
            }
        }
    }

    /// Somebody has not shown who it is. What fails too often from an address is answered like any other haste, and told to
    /// nobody.
    fn failed(
        &mut self,
        now: Now,
        peer: SocketAddr,
        greeting: &Greeting,
        refusal: Refusal,
    ) -> Refusal {
        if !refusal.is_of_credentials() {
            return refusal;
        }
        let name = greeting.user.as_ref().unwrap_or(&greeting.client_id);
        let source = Source::of(peer);
        self.failures_of_name.take(now.instant, &(source, &**name));
        if !self.failures.take(now.instant, &source) {
            return Refusal::Pace;
        }
        self.outbox.event(Event::Refused {
            peer,
            name: shown(greeting, refusal).into(),
            refusal,
        });
        refusal
    }

    /// Whether the client takes a CONNACK as long as that one will be (§3.1.2.11.4).
    fn takes(&self, open: &Open, welcome: &Welcome) -> bool {
        if open.packet_bytes == u32::MAX {
            return true; // it names no bound
        }
        let mut out = BytesMut::new();
        let written = reply::connack(&mut out, open.version, &self.limits, welcome.clone());
        let most = usize::try_from(open.packet_bytes).unwrap_or(usize::MAX);
        written.is_ok() && out.len() <= most
    }

    fn welcome(
        &self,
        now: Now,
        greeting: &Greeting,
        identity: std::sync::Arc<super::Identity>,
    ) -> (Open, Welcome) {
        let most = u16::try_from(self.limits.keep_alive.as_secs()).unwrap_or(u16::MAX);
        // a client of 3.1.1 cannot be told another one, and keeps its own
        let keep_alive_s = match (greeting.keep_alive_s, greeting.version) {
            (0, _) => most,
            (wanted, Version::V311) => wanted,
            (wanted, Version::V5) => wanted.min(most),
        };
        let welcome = Welcome::Accepted {
            keep_alive_s: (keep_alive_s != greeting.keep_alive_s).then_some(keep_alive_s),
            keeps_session: greeting.keeps_session,
            client_id: assigned(greeting, &identity),
        };
        let open = Open {
            identity,
            version: greeting.version,
            since: now.instant,
            // §3.1.2.10: one and a half times
            silence: std::time::Duration::from_millis(u64::from(keep_alive_s) * 1_500),
            held_until: None,
            packet_bytes: greeting.packet_bytes,
            receive_maximum: greeting.receive_maximum,
            last_packet_id: 0,
            subscribed: 0,
            with_qos_1: 0,
            whole_at: 0,
            deaf: false,
            under_way: None,
        };
        (open, welcome)
    }
}

/// Shown in place of a client ID that holds the user name, which may be a token with a fault in it.
pub(super) const SAME_AS_USER: &str = "(its client ID holds its user name)";

/// As much of a client ID as is told of a connection.
fn cut(client_id: &str) -> &str {
    const MOST: usize = 128;
    let end = client_id.char_indices().nth(MOST);
    end.map_or(client_id, |(end, _)| {
        client_id.get(..end).unwrap_or_default()
    })
}

/// Who somebody claims to be, for a log: never what may be a token.
fn shown(greeting: &Greeting, refusal: Refusal) -> &str {
    let client_id = &*greeting.client_id;
    let Some(user) = greeting.user.as_deref().filter(|user| !user.is_empty()) else {
        return client_id;
    };
    let as_iotda = client_id
        .strip_prefix(user)
        .is_some_and(|rest| rest.starts_with("_0_"));
    // a client ID and a stamp are looked at only where a device with a secret has that name
    let has_secret = matches!(refusal, Refusal::ClientId | Refusal::StaleStamp);
    if as_iotda || has_secret {
        user
    } else if client_id.contains(user) {
        SAME_AS_USER
    } else {
        client_id
    }
}
