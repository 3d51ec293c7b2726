//! A gateway: a device with others behind it, which have no connection of their own.
//!
//! Each of these is a [`Device`] itself. What it would connect for is there as long as the gateway is connected; what it
//! publishes leaves on the gateway's topic; what it downloads the gateway fetches, for one after the other.

use std::collections::VecDeque;

use super::{Device, DownloadFailure, Fetched, Line, Output, Request};
use crate::mqtt::{fault::Fault, iotda, spec::Spec};

/// The devices behind a gateway.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    devices: Vec<Device>,
    /// Downloads that wait for their turn.
    waiting: VecDeque<(usize, Request)>,
    /// Whose download is under way.
    current: Option<usize>,
    /// Of whose package a part may be there.
    partial_of: Option<usize>,
    /// The gateway's own fault has struck.
    struck: bool,
}

impl Behind {
    /// Those of a gateway; `None` for any other device.
    pub(super) fn of(spec: &Spec) -> Option<Box<Self>> {
        (!spec.behind.is_empty()).then(|| {
            Box::new(Self {
                devices: spec.behind.iter().cloned().map(Device::new).collect(),
                waiting: VecDeque::new(),
                current: None,
                partial_of: None,
                struck: false,
            })
        })
    }
}

impl Device {
    /// The device, or if it is a gateway those behind it: what there is to upgrade.
    pub fn upgradable(&self) -> impl Iterator<Item = &Self> {
        let own = self.behind.is_none().then_some(self);
        let behind = self.behind.iter().flat_map(|behind| &behind.devices);
        own.into_iter().chain(behind)
    }

    pub(super) const fn is_gateway(&self) -> bool {
        self.behind.is_some()
    }

    /// When one of those behind it has something to do.
    pub(super) fn behind_due(&self) -> Option<u64> {
        let behind = self.behind.iter().flat_map(|behind| &behind.devices);
        behind.filter_map(Self::poll_timeout).min()
    }

    /// Something happens to each of those behind it.
    pub(super) fn each_behind(&mut self, now_ms: u64, mut what: impl FnMut(&mut Self)) {
        let Some(behind) = &mut self.behind else {
            return;
        };
        behind.devices.iter_mut().for_each(&mut what);
        self.serve_behind(now_ms);
    }

    /// The gateway is connected: it asks which devices it has, and says which are there.
    pub(super) fn gateway_connected(&mut self, now_ms: u64) {
        if !self.is_gateway() {
            return;
        }
        let time = self.event_time(now_ms);
        let asks = iotda::sync_request(&self.spec.device, &time);
        self.event(asks);
        let behind = self.behind.iter().flat_map(|behind| &behind.devices);
        let there = behind.filter(|it| it.line == Line::Connecting);
        let there: Vec<(String, bool)> = there.map(|it| (it.spec.device.clone(), true)).collect();
        self.tell_status(now_ms, &there);
        self.each_behind(now_ms, |it| {
            if it.line == Line::Connecting {
                it.connected(now_ms);
            }
        });
    }

    /// The gateway has lost its connection, or has ended it.
    pub(super) fn gateway_lost(&mut self, now_ms: u64) {
        self.each_behind(now_ms, |it| {
            if it.line == Line::Up {
                it.disconnected(now_ms);
            }
        });
    }

    fn tell_status(&mut self, now_ms: u64, told: &[(String, bool)]) {
        if !told.is_empty() {
            let time = self.event_time(now_ms);
            let status = iotda::status(&self.spec.device, &time, told);
            self.event(status);
        }
    }

    /// Whether the message is for one behind it, which has it then.
    pub(super) fn behind_message(&mut self, now_ms: u64, topic: &str, payload: &[u8]) -> bool {
        if topic != iotda::topic_down(&self.spec.device) {
            return false;
        }
        let Some(about) = iotda::object(payload) else {
            return false;
        };
        let Some(behind) = &mut self.behind else {
            return false;
        };
        let mut devices = behind.devices.iter_mut();
        let Some(device) = devices.find(|it| it.spec.device == about) else {
            return false;
        };
        device.message(now_ms, &iotda::topic_down(&about), payload);
        self.serve_behind(now_ms);
        true
    }

    /// So much of the package of one behind it is there.
    pub(super) fn behind_downloading(&mut self, now_ms: u64, received: u64, size: u64) {
        let strikes = self.spec.fault == Some(Fault::DropsInDownload);
        let Some(behind) = &mut self.behind else {
            return;
        };
        let Some(device) = behind.current.and_then(|it| behind.devices.get_mut(it)) else {
            return;
        };
        if strikes && !behind.struck && received >= size / 2 {
            // it restarts, and begins the download anew when it is back
            behind.struck = true;
            device.begin_download_anew();
            (behind.current, behind.partial_of) = (None, None);
            self.outputs.push_back(Output::StopDownload);
            return self.leave(now_ms, self.spec.timing.restart_ms, false);
        }
        device.downloading(now_ms, received, size);
        self.serve_behind(now_ms);
    }

    /// The download for one behind it has ended.
    pub(super) fn behind_downloaded(
        &mut self,
        now_ms: u64,
        result: Result<&Fetched, &DownloadFailure>,
    ) {
        let Some(behind) = &mut self.behind else {
            return;
        };
        let current = behind.current.take();
        if let Some(device) = current.and_then(|it| behind.devices.get_mut(it)) {
            match result {
                Ok(fetched) => device.downloaded(now_ms, fetched),
                Err(failure) => device.download_failed(now_ms, failure),
            }
        }
        self.serve_behind(now_ms);
    }

    /// Does for those behind it what they want done.
    fn serve_behind(&mut self, now_ms: u64) {
        let Some(mut behind) = self.behind.take() else {
            return;
        };
        for (index, device) in behind.devices.iter_mut().enumerate() {
            while let Some(output) = device.poll_output() {
                match output {
                    Output::Connect(_) if self.line == Line::Up => {
                        let there = [(device.spec.device.clone(), true)];
                        self.tell_status(now_ms, &there);
                        device.connected(now_ms);
                    }
                    // when the gateway is connected, or never
                    Output::Connect(_) | Output::Subscribe { .. } => {}
                    Output::Disconnect { .. } => {
                        let gone = [(device.spec.device.clone(), false)];
                        if self.line == Line::Up {
                            self.tell_status(now_ms, &gone);
                        }
                    }
                    Output::Publish { payload, .. } => self.event(payload),
                    Output::Download(request) => behind.waiting.push_back((index, request)),
                    Output::StopDownload => {
                        behind.waiting.retain(|(of, _)| *of != index);
                        if behind.current == Some(index) {
                            behind.current = None;
                            self.outputs.push_back(Output::StopDownload);
                        }
                    }
                }
            }
        }
        if behind.current.is_none()
            && let Some((index, mut request)) = behind.waiting.pop_front()
        {
            if behind.partial_of.replace(index) != Some(index) {
                request.from = 0;
            }
            behind.current = Some(index);
            self.outputs.push_back(Output::Download(request));
        }
        self.behind = Some(behind);
    }
}
