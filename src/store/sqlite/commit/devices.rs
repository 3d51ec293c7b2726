use std::collections::BTreeMap;

use sqlx::SqliteConnection;

use crate::{
    clock::UtcMillis,
    ledger::{
        Announced, Appointment, CoverageReading, CoverageSource, Evidence, QueueMode, Registration,
        WakeUps,
    },
    package::Version,
    store::sqlite::{
        bulk::{Bound, RowStatement},
        evidence, rhythm,
    },
};

/// Where the location stays, which is most often, so do the indexes that tell who is registered. What is written here
/// is left alone by [`REGISTER`]. What is not announced anew stays.
const RENEW: RowStatement = RowStatement {
    head: "WITH v (endpoint, at, location, peer, lifetime_s, expires_at, registered_at, queue_mode, secured, \
               lwm2m_version, binding, objects, root_path, message_id, wake_ups) AS (VALUES ",
    row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    tail: ") UPDATE devices SET last_heard_at = v.at, reg_peer = v.peer, reg_lifetime_s = v.lifetime_s, \
               reg_expires_at = v.expires_at, reg_registered_at = v.registered_at, reg_queue_mode = v.queue_mode, \
               reg_secured = v.secured, reg_lwm2m_version = v.lwm2m_version, reg_binding = v.binding, \
               wake_ups = v.wake_ups, reg_objects = COALESCE(v.objects, devices.reg_objects), \
               reg_root_path = IIF(v.objects IS NULL, devices.reg_root_path, v.root_path) \
           FROM v WHERE devices.endpoint = v.endpoint AND removed = 0 AND reg_location = v.location",
};

/// A device that the operator removed stays removed until its session has ended.
const REGISTER: RowStatement = RowStatement {
    head: "INSERT INTO devices (endpoint, product, created_at, last_heard_at, reg_location, reg_peer, reg_lifetime_s, \
               reg_expires_at, reg_registered_at, reg_queue_mode, reg_secured, reg_lwm2m_version, reg_binding, \
               reg_objects, reg_root_path, reg_message_id, wake_ups) VALUES ",
    row: "(?, 'default', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    tail: " ON CONFLICT (endpoint) DO UPDATE SET last_heard_at = excluded.last_heard_at, \
               reg_location = excluded.reg_location, reg_peer = excluded.reg_peer, \
               reg_lifetime_s = excluded.reg_lifetime_s, reg_expires_at = excluded.reg_expires_at, \
               reg_registered_at = excluded.reg_registered_at, reg_queue_mode = excluded.reg_queue_mode, \
               reg_secured = excluded.reg_secured, reg_lwm2m_version = excluded.reg_lwm2m_version, \
               reg_binding = excluded.reg_binding, reg_objects = excluded.reg_objects, \
               reg_root_path = excluded.reg_root_path, reg_message_id = excluded.reg_message_id, \
               wake_ups = excluded.wake_ups \
           WHERE devices.removed = 0 AND devices.reg_location IS NOT excluded.reg_location",
};

const REPORT: RowStatement = RowStatement {
    head: "WITH v (endpoint, at, version, coverage_at, cell, rsrp_dbm, sinr_db, source) AS (VALUES ",
    row: "(?, ?, ?, ?, ?, ?, ?, ?)",
    tail: ") UPDATE devices SET last_heard_at = MAX(COALESCE(last_heard_at, v.at), v.at), \
               version = COALESCE(v.version, devices.version), \
               coverage_cell = IIF(v.coverage_at IS NULL, coverage_cell, v.cell), \
               coverage_rsrp_dbm = IIF(v.coverage_at IS NULL, coverage_rsrp_dbm, v.rsrp_dbm), \
               coverage_sinr_db = IIF(v.coverage_at IS NULL, coverage_sinr_db, v.sinr_db), \
               coverage_source = IIF(v.coverage_at IS NULL, coverage_source, v.source), \
               coverage_at = COALESCE(v.coverage_at, devices.coverage_at) \
           FROM v WHERE devices.endpoint = v.endpoint",
};

const EVIDENCE: RowStatement = RowStatement {
    head: "WITH v (endpoint, evidence) AS (VALUES ",
    row: "(?, ?)",
    tail: ") UPDATE devices SET evidence = v.evidence FROM v WHERE devices.endpoint = v.endpoint",
};

const APPOINT: RowStatement = RowStatement {
    head: "WITH v (endpoint, appointment) AS (VALUES ",
    row: "(?, ?)",
    tail: ") UPDATE devices SET appointment = v.appointment FROM v WHERE devices.endpoint = v.endpoint",
};

/// Only where it was reached so. A gateway that was removed meanwhile has no children, and a device that has a connection of its own
/// meanwhile no gateway.
const VIA: RowStatement = RowStatement {
    head: "WITH v (endpoint, before, via) AS (VALUES ",
    row: "(?, ?, ?)",
    tail: ") UPDATE devices SET via = v.via FROM v \
           WHERE devices.endpoint = v.endpoint AND devices.removed = 0 AND devices.via IS v.before \
               AND (v.via IS NULL OR EXISTS (SELECT 1 FROM devices g WHERE g.endpoint = v.via AND g.removed = 0 \
                   AND g.via IS NULL AND g.tenant = devices.tenant AND g.protocol = devices.protocol \
                   AND devices.mqtt_credential IS 'gateway'))",
};

const DEREGISTER: RowStatement = RowStatement {
    head: "WITH v (endpoint, at) AS (VALUES ",
    row: "(?, ?)",
    tail: ") UPDATE devices SET reg_location = NULL, reg_peer = NULL, reg_lifetime_s = NULL, reg_expires_at = NULL, \
               reg_registered_at = NULL, reg_queue_mode = NULL, reg_lwm2m_version = NULL, reg_binding = NULL, \
               reg_objects = NULL, reg_root_path = NULL, reg_message_id = NULL, reg_ended_at = v.at \
           FROM v WHERE devices.endpoint = v.endpoint",
};

/// Changes of devices, in as few rounds as their order allows.
#[derive(Default)]
pub(super) struct DeviceChanges<'c>(Vec<Round<'c>>);

/// At most one registration, then one report, then one end of the registration of each device: written statement by
/// statement, they come in this order.
#[derive(Default)]
struct Round<'c>(BTreeMap<&'c str, Written<'c>>);

#[derive(Default)]
struct Written<'c> {
    registered: Option<Registered<'c>>,
    reported: Option<Reported>,
    evidence: Option<&'c [Evidence]>,
    appointed: Option<Appointed>,
    /// What was before, and what is.
    via: Option<(Option<&'c str>, Option<&'c str>)>,
    deregistered: Option<UtcMillis>,
}

/// What a device was given for an appointment, or that it has its own lifetime.
struct Appointed(Option<Appointment>);

struct Registered<'c> {
    registration: &'c Registration,
    wake_ups: Option<WakeUps>,
    /// What the device has announced last, as far as this registration is told of it.
    announced: Option<&'c Announced>,
    /// The first of them adds the device.
    first_at: UtcMillis,
    at: UtcMillis,
}

impl Registered<'_> {
    /// The values that both statements end with.
    fn bind(&self, query: Bound) -> Bound {
        let registration = self.registration;
        query
            .bind(self.at.0)
            .bind(registration.location.clone())
            .bind(registration.peer.address.to_string())
            .bind(registration.lifetime_s)
            .bind(registration.expires_at.0)
            .bind(registration.registered_at.0)
            .bind(registration.queue_mode == QueueMode::On)
            .bind(registration.peer.secured)
            .bind(
                registration
                    .lwm2m_version
                    .map(|version| version.to_string()),
            )
            .bind(registration.binding.to_string())
            .bind(self.announced.map(|announced| announced.objects.clone()))
            .bind(
                self.announced
                    .and_then(|announced| announced.root_path.clone()),
            )
            .bind(registration.message_id)
            .bind(rhythm::write(self.wake_ups))
    }
}

struct Reported {
    at: UtcMillis,
    version: Option<Version>,
    coverage: Option<(CoverageReading, CoverageSource)>,
}

impl<'c> DeviceChanges<'c> {
    pub(super) fn registered(
        &mut self,
        endpoint: &'c str,
        registration: &'c Registration,
        wake_ups: Option<WakeUps>,
        at: UtcMillis,
    ) {
        let device = self.device(endpoint, |device| {
            device.reported.is_none() && device.deregistered.is_none()
        });
        let before = device.registered.as_ref();
        let first_at = before.map_or(at, |it| it.first_at);
        let same = before.filter(|it| it.registration.location == registration.location);
        let announced = (registration.announced.as_deref()).or_else(|| same?.announced);
        device.registered = Some(Registered {
            registration,
            wake_ups,
            announced,
            first_at,
            at,
        });
    }

    pub(super) fn version(&mut self, endpoint: &'c str, version: Version, at: UtcMillis) {
        self.report(endpoint, at).version = Some(version);
    }

    pub(super) fn coverage(
        &mut self,
        endpoint: &'c str,
        reading: CoverageReading,
        source: CoverageSource,
    ) {
        self.report(endpoint, reading.at).coverage = Some((reading, source));
    }

    pub(super) fn evidence(&mut self, endpoint: &'c str, evidence: &'c [Evidence], at: UtcMillis) {
        self.report(endpoint, at);
        self.device(endpoint, |_| true).evidence = Some(evidence);
    }

    pub(super) fn appointed(&mut self, endpoint: &'c str, appointment: Option<Appointment>) {
        self.device(endpoint, |_| true).appointed = Some(Appointed(appointment));
    }

    /// A second one depends on what the first one does.
    pub(super) fn via(&mut self, endpoint: &'c str, before: Option<&'c str>, via: Option<&'c str>) {
        let device = self.device(endpoint, |device| device.via.is_none());
        device.via = Some((before, via));
    }

    pub(super) fn deregistered(&mut self, endpoint: &'c str, at: UtcMillis) {
        self.device(endpoint, |_| true).deregistered = Some(at);
    }

    fn report(&mut self, endpoint: &'c str, at: UtcMillis) -> &mut Reported {
        let device = self.device(endpoint, |device| device.deregistered.is_none());
        let reported = device.reported.get_or_insert(Reported {
            at,
            version: None,
            coverage: None,
        });
        reported.at = reported.at.max(at);
        reported
    }

    /// What is written of a device in the last round, or in a new one if it does not fit in there any more.
    fn device(
        &mut self,
        endpoint: &'c str,
        fits: impl Fn(&Written<'c>) -> bool,
    ) -> &mut Written<'c> {
        let last = self.0.last().and_then(|round| round.0.get(endpoint));
        if self.0.is_empty() || last.is_some_and(|device| !fits(device)) {
            self.0.push(Round::default());
        }
        let last = self.0.len() - 1;
        self.0[last].0.entry(endpoint).or_default()
    }

    pub(super) async fn write(self, conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        for round in self.0 {
            round.write(conn).await?;
        }
        Ok(())
    }
}

impl Round<'_> {
    #[expect(
        clippy::too_many_lines,
        reason = "one statement for each kind of change, in their order"
    )]
    async fn write(self, conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let mut registered = Vec::new();
        let mut reported = Vec::new();
        let mut evidence = Vec::new();
        let mut appointed = Vec::new();
        let mut vias = Vec::new();
        let mut deregistered = Vec::new();
        for (endpoint, device) in self.0 {
            evidence.extend(device.evidence.map(|it| (endpoint, it)));
            appointed.extend(device.appointed.map(|it| (endpoint, it)));
            vias.extend(device.via.map(|(before, via)| (endpoint, before, via)));
            registered.extend(device.registered.map(|it| (endpoint, it)));
            reported.extend(device.reported.map(|it| (endpoint, it)));
            deregistered.extend(device.deregistered.map(|at| (endpoint, at)));
        }
        RENEW
            .execute(conn, &registered, |query, (endpoint, it)| {
                it.bind(query.bind((*endpoint).to_owned()))
            })
            .await?;
        REGISTER
            .execute(conn, &registered, |query, (endpoint, it)| {
                it.bind(query.bind((*endpoint).to_owned()).bind(it.first_at.0))
            })
            .await?;
        REPORT
            .execute(conn, &reported, |query, (endpoint, it)| {
                let coverage = it.coverage.map(|(reading, _)| reading.coverage);
                query
                    .bind((*endpoint).to_owned())
                    .bind(it.at.0)
                    .bind(it.version.map(|version| version.as_str().to_owned()))
                    .bind(it.coverage.map(|(reading, _)| reading.at.0))
                    .bind(coverage.and_then(|coverage| coverage.cell))
                    .bind(coverage.and_then(|coverage| coverage.rsrp_dbm))
                    .bind(coverage.and_then(|coverage| coverage.sinr_db))
                    .bind(it.coverage.map(|(_, source)| source.name()))
            })
            .await?;
        EVIDENCE
            .execute(conn, &evidence, |query, (endpoint, it)| {
                let evidence = evidence::write(it);
                query.bind((*endpoint).to_owned()).bind(evidence)
            })
            .await?;
        APPOINT
            .execute(conn, &appointed, |query, (endpoint, it)| {
                query.bind((*endpoint).to_owned()).bind(rhythm::write(it.0))
            })
            .await?;
        VIA.execute(conn, &vias, |query, (endpoint, before, via)| {
            query
                .bind((*endpoint).to_owned())
                .bind(before.map(str::to_owned))
                .bind(via.map(str::to_owned))
        })
        .await?;
        DEREGISTER
            .execute(conn, &deregistered, |query, (endpoint, at)| {
                query.bind((*endpoint).to_owned()).bind(at.0)
            })
            .await?;
        Ok(())
    }
}
