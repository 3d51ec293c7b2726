//! Reads of Connectivity Monitoring (LwM2M object 4).
//!
//! The object is read as a whole first: one exchange. A device that refuses that is asked for its
//! signal resources one by one; the cell alone is left to the negotiation's next stage.

use super::{
    Change, CoverageReading, CoverageSource, Engine, account::Said, asked::Read, key::DeviceKey,
};
use crate::{
    coap::{Block, Message},
    lwm2m::{ConnectivityReading, ResourcePath, decode},
    upgrade::{Coverage, Event, Sota},
};

/// Longest body that is put together from the blocks of a device's answer, bytes.
const MAX_BODY_LEN: usize = 4096;

impl Engine {
    pub(super) fn begin_read(&mut self, key: DeviceKey, read: Read) {
        let path = read.path;
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.read = Some(read);
            self.send_read(key, path, None);
        }
    }

    /// The device answered a read, in whole or with one block of it.
    pub(super) fn read_answered(&mut self, key: DeviceKey, message: &Message) {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let Some(mut read) = session.read.take() else {
            return;
        };
        let (path, code) = (read.path, message.code());
        self.said(key, Said::ReadAnswer(path, code));
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        if !message.code().is_success() {
            self.note(
                key,
                format!("the device answered the read of {path} with {code}"),
            );
            return self.read_ended(key, &read, None);
        }
        match message.block2().map(Block::decode) {
            None => read.body = message.payload().to_vec(),
            Some(Ok(block)) => {
                let expected = block.number as usize * block.size(); // 20 bits times 1024
                if expected != read.body.len()
                    || read.body.len() + message.payload().len() > MAX_BODY_LEN
                {
                    return self.read_ended(key, &read, None);
                }
                read.body.extend_from_slice(message.payload());
                if block.more {
                    let next = Block {
                        number: block.number + 1,
                        more: false,
                        szx: block.szx,
                    };
                    let path = read.path;
                    session.read = Some(read);
                    return self.send_read(key, path, Some(next.encode()));
                }
            }
            Some(Err(_)) => return self.read_ended(key, &read, None),
        }
        let format = message.content_format().map(|format| format.0);
        match decode(format, &read.path, &read.body) {
            Ok(values) => {
                let reading = ConnectivityReading::from_values(&values);
                self.read_ended(key, &read, Some(reading));
            }
            Err(error) => {
                let path = read.path;
                self.note(
                    key,
                    format!("the answer to the read of {path} is unreadable: {error}"),
                );
                self.read_ended(key, &read, None);
            }
        }
    }

    /// The device rejected a read with a Reset.
    pub(super) fn read_refused(&mut self, key: DeviceKey) {
        let session = self.device_mut(key).session.as_mut();
        if let Some(read) = session.and_then(|session| session.read.take()) {
            self.read_ended(key, &read, None);
        }
    }

    fn read_ended(&mut self, key: DeviceKey, read: &Read, found: Option<ConnectivityReading>) {
        let reading = read.so_far.or(found.unwrap_or_default());
        let next = |path| Read {
            so_far: reading,
            ..Read::resource(path)
        };
        let path = read.path;
        if path == ResourcePath::CELL_ID {
            self.learn_coverage(key, reading, CoverageSource::Cell);
            self.fire(key, Event::CellAnswered(reading.cell_id));
        } else if path == ResourcePath::CONNECTIVITY && found.is_none() {
            self.begin_read(key, next(ResourcePath::RSRP));
        } else if path == ResourcePath::RSRP && reading.rsrp_dbm.is_some() {
            // A signal strength without its quality is no measurement.
            self.begin_read(key, next(ResourcePath::SINR));
        } else {
            let source = if path == ResourcePath::CONNECTIVITY {
                CoverageSource::Object
            } else {
                CoverageSource::Resources
            };
            self.learn_coverage(key, reading, source);
            let told = reading != ConnectivityReading::default();
            let event = Event::CoverageAnswered(told.then(|| coverage(reading)));
            self.fire(key, event);
        }
    }

    /// Remembers what the device told. The cell alone completes the reading before it, if that was of
    /// the same question.
    fn learn_coverage(
        &mut self,
        key: DeviceKey,
        reading: ConnectivityReading,
        source: CoverageSource,
    ) {
        let now = self.now;
        let device = self.device_mut(key);
        let mut learnt = coverage(reading);
        if source == CoverageSource::Cell
            && let Some(session) = &device.session
            && let Sota::QueryingCell { coverage, .. } = &session.sota
        {
            learnt.rsrp_dbm = coverage.rsrp_dbm;
            learnt.sinr_db = coverage.sinr_db;
        }
        device.known.get_or_insert_default().coverage = Some((learnt, now.instant));
        let change = Change::CoverageReported {
            endpoint: device.endpoint.to_string(),
            reading: CoverageReading {
                coverage: learnt,
                at: now.utc,
            },
            source,
        };
        self.persist_lazily(change);
    }
}

fn coverage(reading: ConnectivityReading) -> Coverage {
    Coverage {
        cell: reading.cell_id,
        rsrp_dbm: reading.rsrp_dbm,
        sinr_db: reading.sinr_db,
    }
}
