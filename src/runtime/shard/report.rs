//! What a shard tells the operator: lines of the log, and figures.

use std::time::Duration;

use super::{Around, DatagramSocket, Shard};
use crate::{
    engine::Report,
    ledger::DeviceId,
    mqtt::endpoint::{Downlink, PublishError},
    strangers::Refusal,
    wording,
};

/// How old the figures may be that are published.
const PUBLISH_WITHIN: Duration = Duration::from_secs(1);

impl Around {
    /// A message to a device over MQTT could not be sent.
    pub(super) fn log_unsent(&self, device: DeviceId, downlink: Downlink, error: PublishError) {
        if error == PublishError::TooLarge && self.audit_lines.check().is_ok() {
            tracing::warn!(
                %device, ?downlink,
                "a message was not sent: it is larger than the device's Maximum Packet Size; raise that in the device, or shorten the package's name and the server's address"
            );
        } else {
            tracing::debug!(%device, ?downlink, %error, "a message was not sent");
        }
    }

    #[expect(clippy::too_many_lines, reason = "one line for each report")]
    pub(super) fn log(&self, report: &Report) {
        match report {
            Report::Registered { endpoint, peer } => {
                tracing::debug!(endpoint, %peer, "registered");
            }
            Report::UnknownEndpoint {
                endpoint,
                peer,
                reached,
            } => {
                let refusal = Refusal::UnknownEndpoint;
                (self.strangers).refused(endpoint.as_bytes(), refusal, peer.address);
                if self.stranger_lines.check().is_err() {
                    // counted
                } else if let Some(reached) = reached {
                    tracing::warn!(
                        endpoint, %peer,
                        "refused: lwm2m.max_open_devices ({reached}) reached; raise it, or remove devices"
                    );
                } else {
                    tracing::warn!(
                        endpoint, %peer,
                        "an unknown endpoint was refused; add the device, or let anybody register with lwm2m.registration = \"open\", up to lwm2m.max_open_devices"
                    );
                }
            }
            Report::TooManyCome { endpoint, peer } => {
                if self.stranger_lines.check().is_ok() {
                    tracing::warn!(
                        endpoint, %peer,
                        "put off: as many devices have come by themselves as may in an hour; add those that are yours, or raise lwm2m.newcomers_per_hour or lwm2m.newcomers_per_network_per_hour"
                    );
                }
            }
            Report::Impostor {
                endpoint,
                peer,
                identities,
            } => {
                let refusal = if peer.secured {
                    Refusal::Impostor
                } else {
                    Refusal::NotEncrypted
                };
                (self.strangers).refused(endpoint.as_bytes(), refusal, peer.address);
                if self.audit_lines.check().is_ok() {
                    let told = if peer.secured {
                        "somebody acted as another device than it has shown to be, and was refused"
                    } else {
                        "a device that has to encrypt was heard on the plain port, and refused"
                    };
                    tracing::warn!(target: "cellwise::audit", endpoint, %peer, ?identities, "{told}");
                }
            }
            Report::ChildRefused {
                gateway,
                child,
                address,
            } => {
                let refusal = Refusal::OthersChild;
                (self.strangers).refused(child.as_bytes(), refusal, *address);
                if self.stranger_lines.check().is_ok() {
                    tracing::warn!(
                        gateway, child, %address,
                        "a gateway spoke for a device that is not reached through it; set the device's via, or mend the gateway"
                    );
                }
            }
            Report::UpgradeEnded {
                endpoint,
                upgrade,
                attempt,
                outcome,
                retried,
            } => {
                tracing::info!(
                    endpoint,
                    upgrade = upgrade.0,
                    attempt,
                    state = outcome.state(),
                    reason = outcome.reason(),
                    retried,
                    "upgrade ended: {}",
                    wording::outcome(outcome)
                );
            }
        }
    }
}

impl Shard {
    /// Publishes the figures when it is time to. While nothing has `happened` they stay as they are.
    pub(super) fn publish_in_time(&mut self, happened: bool) {
        if happened {
            let at = self.published_at + PUBLISH_WITHIN;
            self.publish_at.get_or_insert(at);
        }
        let now = self.around.now().instant;
        if self.publish_at.is_some_and(|at| at <= now) {
            self.publish_at = None;
            self.published_at = now;
            self.publish();
        }
    }

    pub(super) fn publish(&mut self) {
        let mut figures = self.around.metrics.of(&mut self.share);
        for (name, help, value) in self.core.counters().each() {
            figures.counter(name, help, value);
        }
        figures.counter(
            "datagrams_unsent",
            "Datagrams that the system did not take, or that waited too long for the store",
            self.core.figures().unsent
                + self.around.unsent
                + self.around.plain.as_ref().map_or(0, DatagramSocket::unsent),
        );
        figures.counter(
            "datagrams_unsought",
            "Datagrams left alone because too many devices were sought at other shards",
            self.core.figures().unsought,
        );
        if let Some(dropped) = self.around.plain.as_mut().and_then(DatagramSocket::dropped) {
            figures.counter(
                "datagrams_dropped",
                "Datagrams that the system dropped because they came faster than they were taken",
                dropped,
            );
        }
        if let Some(secured) = &mut self.around.secured {
            secured.publish(&mut figures);
        }
        let (devices, upgrading) = self.core.population();
        let gauges = [
            ("devices", "Devices that may register", devices),
            ("upgrades_active", "Upgrades under way", upgrading),
            (
                "datagrams_held",
                "Datagrams that wait for a commit",
                self.core.held(),
            ),
            (
                "changes_uncommitted",
                "Changes that wait for a commit",
                self.core.uncommitted(),
            ),
        ];
        for (name, help, value) in gauges {
            figures.gauge(name, help, value);
        }
        let shard = self.id.0;
        figures.shard_counter(
            "busy_seconds",
            "Seconds that the shard has spent on what came, and not on waiting.",
            shard,
            self.busy.as_secs(),
        );
        figures.shard_counter(
            "datagrams_received",
            "Datagrams received from devices by the shard.",
            shard,
            self.core.counters().datagrams_received,
        );
    }
}
