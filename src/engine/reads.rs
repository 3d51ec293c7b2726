//! Reads of Connectivity Monitoring (LwM2M object 4).
//!
//! The object is read as a whole first: one exchange. A device that refuses that is asked for its
//! signal resources one by one; the cell alone is left to the negotiation's next stage.

use super::{Change, CoverageReading, CoverageSource, Engine, asked::Read, key::DeviceKey};
use crate::{
    coap::{Block, Message},
    ledger::{Coverage, Happened, Inbound, Misread},
    lwm2m::{ConnectivityReading, ContentError, ResourcePath, decode},
    upgrade::{Input, Negotiation},
};

/// Longest body that is put together from the blocks of a device's answer, bytes.
const MAX_BODY_LEN: usize = 4096;

impl Engine {
    pub(super) fn begin_read(&mut self, key: DeviceKey, read: Read) {
        let path = read.path;
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.exchange.read = Some(read);
            self.send_read(key, path, None);
        }
    }

    /// The device answered a read, in whole or with one block of it.
    pub(super) fn read_answered(&mut self, key: DeviceKey, message: &Message) {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let Some(mut read) = session.exchange.read.take() else {
            return;
        };
        let (path, code) = (read.path, message.code());
        let answer = Inbound::ReadAnswer {
            path: path.to_string(),
            answer: code.to_string(),
        };
        self.said(key, answer);
        if !code.is_success() {
            if self.reads_without_format(key, &path, code) {
                return self.begin_read(
                    key,
                    Read {
                        body: Vec::new(),
                        ..read
                    },
                );
            }
            let refused = Happened::ReadRefused {
                path: path.to_string(),
                answer: code.to_string(),
            };
            self.note(key, refused.into());
            return self.read_ended(key, &read, None);
        }
        match read.take_part(message) {
            Ok(None) => {}
            Ok(Some(next)) => {
                if let Some(session) = self.device_mut(key).session.as_mut() {
                    session.exchange.read = Some(read);
                }
                return self.send_read(key, path, Some(next.encode()));
            }
            Err(problem) => {
                let path = path.to_string();
                self.not_understood(key, Misread::Unreadable { path, problem });
                return self.read_ended(key, &read, None);
            }
        }
        let format = message.content_format().map(|format| format.0);
        self.read_is_whole(key, &read, format);
    }

    /// The answer to a read is there, in that content format.
    fn read_is_whole(&mut self, key: DeviceKey, read: &Read, format: Option<u16>) {
        let path = &read.path;
        match decode(format, path, &read.body) {
            Ok(values) => {
                if let Some(value) = ConnectivityReading::unreadable_cell(&values) {
                    let misread = Misread::Cell {
                        path: path.to_string(),
                        told: value.shown(),
                    };
                    self.not_understood(key, misread);
                }
                let reading = ConnectivityReading::from_values(&values);
                self.read_ended(key, read, Some(reading));
            }
            Err(error) => {
                let path = path.to_string();
                let misread = match error {
                    ContentError::Format(format) => Misread::Format { path, format },
                    error => Misread::Unreadable {
                        path,
                        problem: error.to_string(),
                    },
                };
                self.not_understood(key, misread);
                self.read_ended(key, read, None);
            }
        }
    }

    /// What the device answered cannot be read: told now, and at the end if its cell stays unknown.
    fn not_understood(&mut self, key: DeviceKey, misread: Misread) {
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.correspondence.not_understood = Some(misread.clone());
        }
        self.note(key, Happened::NotUnderstood(misread).into());
    }

    /// The device rejected a read with a Reset.
    pub(super) fn read_refused(&mut self, key: DeviceKey) {
        let session = self.device_mut(key).session.as_mut();
        if let Some(read) = session.and_then(|session| session.exchange.read.take()) {
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
            self.fire(key, Input::CellAnswered(reading.cell_id));
        } else if path == ResourcePath::CONNECTIVITY && found.is_none() {
            self.begin_read(key, next(ResourcePath::RSRP));
        } else if path == ResourcePath::RSRP && reading.rsrp.is_some() {
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
            let event = Input::CoverageAnswered(told.then(|| self.coverage_of(key, reading)));
            self.fire(key, event);
        }
    }

    /// Remembers what the device told. The cell alone completes the reading before it, if that was of
    /// the same question.
    pub(super) fn learn_coverage(
        &mut self,
        key: DeviceKey,
        reading: ConnectivityReading,
        source: CoverageSource,
    ) {
        let now = self.now;
        let mut learnt = self.coverage_of(key, reading);
        let device = self.device_mut(key);
        if source == CoverageSource::Cell
            && let Some(session) = &device.session
            && let Negotiation::QueryingCell { coverage, .. } = session.negotiation()
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

    /// What the reading means, told in the units of the device's product.
    pub(super) fn coverage_of(&self, key: DeviceKey, reading: ConnectivityReading) -> Coverage {
        let ConnectivityReading {
            cell_id,
            rsrp,
            sinr,
        } = reading;
        Coverage::told(cell_id, rsrp, sinr, self.profile(key).units)
    }
}

impl Read {
    /// Takes up an answer, or a block of one. Returns the block to ask for next; the error says what is wrong with the
    /// one that came.
    fn take_part(&mut self, message: &Message) -> Result<Option<Block>, String> {
        let Some(option) = message.block2() else {
            self.body = message.payload().to_vec();
            return Ok(None);
        };
        let block = Block::decode(option).map_err(|error| error.to_string())?;
        let expected = self.body.len() / block.size();
        if expected * block.size() != self.body.len() || block.number as usize != expected {
            return Err("its blocks do not fit together".to_owned());
        }
        if self.body.len() + message.payload().len() > MAX_BODY_LEN {
            return Err(format!("more than {MAX_BODY_LEN} bytes"));
        }
        self.body.extend_from_slice(message.payload());
        Ok(block.more.then_some(Block {
            number: block.number + 1,
            more: false,
            szx: block.szx,
        }))
    }
}
