//! Downloads: a device asks, the listener opens what was granted and hands piece after piece to the system, and they arrive.

use std::{
    ops::Range,
    sync::Arc,
    task::{Context, Waker},
};

use sim::mqtt::{DownloadFailure, Fetched, Request};

use super::{
    super::{Occurrence, World},
    BASE_URL, Within,
};
use crate::{
    grants::{Holder, Opened, Refusal},
    ledger::PackageId,
    simulate::hooks::Hooks,
};

/// A package is fetched in about so many pieces.
const PIECES: u64 = 20;
/// Pieces that the system takes before the first of them has arrived.
const IN_ADVANCE: u64 = 2;
/// A peer that says nothing any more is missed after this time at the latest, ms.
const MISSED_AFTER_MS: u64 = 120_000;
/// Who waits for a package gives up after that, ms.
const SILENCE_MS: u64 = 60_000;
/// Whoever waits for a change to be stored looks so often whether it is, at first and later, ms.
const LOOK_AT_RECORD_MS: (u64, u64) = (2, 100);

/// A download of a device.
#[derive(Debug)]
pub(in super::super) struct Download {
    number: u32,
    request: Request,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The request is on its way.
    Asks,
    /// The listener has waited since then for it to be written down that the device fetches the package.
    Waits { since_ms: u64 },
    /// These bytes are.
    Receives(Range<u64>),
    /// It hears that it has failed.
    Fails(DownloadFailure),
}

/// A download, as the listener sees it.
#[derive(Debug)]
pub(super) struct Serving {
    opened: Opened,
    /// What it is told by that another connection has taken its place.
    holder: Arc<Holder>,
    /// Bytes of the package that the system has taken, and that the device has acknowledged.
    taken: u64,
    arrived: u64,
}

/// The token and the package that a request shows.
fn shown(request: &Request) -> Option<(String, Option<PackageId>)> {
    let path = request.url.strip_prefix(BASE_URL)?.split_once('/')?.1;
    let mut parts = path.split('/');
    match (parts.next()?, parts.next()?, &request.bearer) {
        ("packages", package, Some(token)) => {
            let package = PackageId(package.parse().ok()?);
            Some((token.0.clone(), Some(package)))
        }
        ("t", token, _) => Some((token.to_owned(), None)),
        _ => None,
    }
}

const fn status(refusal: Refusal) -> u16 {
    match refusal {
        Refusal::NoToken => 401,
        Refusal::Expired | Refusal::OtherPackage => 403,
        Refusal::Unknown => 404,
    }
}

impl<H: Hooks> World<H> {
    /// A device asks for its package.
    pub(super) fn downloads(&mut self, station: u32, request: Request) {
        self.stops_download(station);
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let number = field.next_number();
        let Some(found) = field.stations.get_mut(station as usize) else {
            return;
        };
        if request.from == 0 {
            found.received = 0;
        }
        let at = self.now_ms + found.latency_ms;
        let stage = Stage::Asks;
        found.download = Some(Download {
            number,
            request,
            stage,
        });
        self.queue.push(at, Occurrence::Download(station, number));
    }

    /// A device wants no more of its download.
    pub(super) fn stops_download(&mut self, station: u32) {
        let download = self.station(station).and_then(|it| it.download.take());
        if let Some(download) = download {
            self.connection_breaks(download.number);
        }
    }

    /// The connection of a download is over. The listener sees that at once, or when it misses its peer.
    fn connection_breaks(&mut self, number: u32) {
        let Some(field) = &mut self.mqtt else {
            return;
        };
        if field.happens(field.lines.unnoticed_percent, 100) {
            let at = self.now_ms + 1_000 + field.up_to(MISSED_AFTER_MS);
            let missed = Occurrence::Within(self.epoch, Within::Missed(number));
            return self.queue.push(at, missed);
        }
        self.misses(number);
    }

    /// The listener sees that a connection is over: what has not arrived counts no more.
    pub(super) fn misses(&mut self, number: u32) {
        if let Some(side) = self.side()
            && let Some(serving) = side.serving.remove(&number)
        {
            let lost = serving.taken - serving.arrived;
            side.grants.lost(&serving.opened, lost);
            self.tell_served();
        }
    }

    /// Connections end whose place others of the same token have taken.
    fn end_replaced(&mut self) {
        let context = Context::from_waker(Waker::noop());
        let replaced = |serving: &Serving| serving.holder.poll_replaced(&context).is_ready();
        let serving = self.side().map(|side| &side.serving);
        let over = (serving.into_iter().flatten())
            .filter(|(_, serving)| replaced(serving))
            .map(|(number, _)| *number)
            .collect::<Vec<_>>();
        for number in over {
            self.misses(number);
        }
    }

    /// The server is gone. Who downloads finds out.
    pub(super) fn downloads_break(&mut self) {
        let now_ms = self.now_ms;
        let Some(field) = &mut self.mqtt else {
            return;
        };
        for number in 0..u32::try_from(field.stations.len()).unwrap_or(u32::MAX) {
            let after_ms = field.up_to(SILENCE_MS);
            let station = &mut field.stations[number as usize];
            let received = station.received;
            if let Some(download) = &mut station.download {
                // what was on its way is lost
                let again = field.opened + 1;
                field.opened = again;
                download.number = again;
                download.stage = Stage::Fails(DownloadFailure::Cut { received });
                let event = Occurrence::Download(number, again);
                self.queue.push(now_ms + after_ms, event);
            }
        }
    }

    /// The next thing happens in a download.
    pub(in super::super) fn download_goes_on(&mut self, station: u32, number: u32) {
        let Some(found) = self.station(station) else {
            return;
        };
        let Some(download) = &mut found.download else {
            return;
        };
        if download.number != number {
            return; // that one was broken off
        }
        match std::mem::replace(&mut download.stage, Stage::Asks) {
            Stage::Asks => self.is_asked(station, number),
            Stage::Waits { since_ms } => self.awaits_record(station, number, since_ms),
            Stage::Receives(bytes) => self.piece_arrives(station, number, bytes),
            Stage::Fails(failure) => {
                let now_ms = self.now_ms;
                if let Some(found) = self.station(station) {
                    found.download = None;
                    found.device.download_failed(now_ms, &failure);
                }
                self.connection_breaks(number);
                self.settle_station(station);
            }
        }
    }

    /// A device will hear that its download has failed.
    fn fails(&mut self, station: u32, number: u32, failure: DownloadFailure) {
        let now_ms = self.now_ms;
        if let Some(found) = self.station(station)
            && let Some(download) = &mut found.download
        {
            download.stage = Stage::Fails(failure);
            let at = now_ms + found.latency_ms;
            self.queue.push(at, Occurrence::Download(station, number));
        }
    }

    /// The listener has a request.
    fn is_asked(&mut self, station: u32, number: u32) {
        let utc = self.now().utc;
        let most = self.config.download.max_connections_per_token;
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let unreachable = field.happens(field.lines.unreachable_per_mille, 1_000);
        let Some(found) = field.stations.get(station as usize) else {
            return;
        };
        let Some(download) = &found.download else {
            return;
        };
        let (token, received) = (shown(&download.request), found.received);
        let from = if download.request.from == 0 {
            0
        } else {
            received
        };
        let Some(side) = self.side().filter(|_| !unreachable) else {
            let why = DownloadFailure::Unreachable("nobody answers".to_owned());
            return self.fails(station, number, why);
        };
        let holder = Arc::new(Holder::default());
        let opened = match token {
            Some((token, package)) => side.grants.open(&token, package, most, &holder, utc),
            None => Err(Refusal::NoToken),
        };
        let opened = match opened {
            Ok(opened) if from == 0 || from < opened.grant().size_bytes => opened,
            Ok(_) => return self.fails(station, number, DownloadFailure::Status(416)),
            Err(refusal) => {
                let status = DownloadFailure::Status(status(refusal));
                return self.fails(station, number, status);
            }
        };
        side.grants.begins(&opened);
        let grant = opened.grant().clone();
        let serving = Serving {
            opened,
            holder,
            taken: from,
            arrived: from,
        };
        side.serving.insert(number, serving);
        self.end_replaced();
        if let Some(device) = self.number_of_device(grant.device) {
            (self.checker).begins_download(self.now_ms, device, &grant, from);
        }
        self.tell_served();
        self.awaits_record(station, number, self.now_ms);
    }

    /// No byte leaves before it is written down that the device fetches the package. That takes a moment, or as long as nothing can
    /// be stored; then the listener gives up.
    fn awaits_record(&mut self, station: u32, number: u32, since_ms: u64) {
        let waited_ms = self.now_ms - since_ms;
        let patience_ms = self.config.download.idle_timeout_s * 1_000;
        let serving = self.side().and_then(|side| side.serving.get(&number));
        let goes_on = serving.filter(|it| !it.opened.is_revoked());
        match goes_on.map(|serving| serving.opened.has_begun()) {
            Some(true) => self.next_piece(station, number),
            Some(false) if waited_ms < patience_ms => {
                let (first, later) = LOOK_AT_RECORD_MS;
                let at = self.now_ms + waited_ms.clamp(first, later);
                if let Some(download) = self.station(station).and_then(|it| it.download.as_mut()) {
                    download.stage = Stage::Waits { since_ms };
                    self.queue.push(at, Occurrence::Download(station, number));
                }
            }
            Some(false) | None => {
                let received = self.station(station).map_or(0, |it| it.received);
                self.fails(station, number, DownloadFailure::Cut { received });
            }
        }
    }

    /// The system takes what it has room for, and the next piece is on its way.
    fn next_piece(&mut self, station: u32, number: u32) {
        let now_ms = self.now_ms;
        let Some(found) = self
            .mqtt
            .as_ref()
            .and_then(|it| it.stations.get(station as usize))
        else {
            return;
        };
        let stop_after = found.download.as_ref().and_then(|it| it.request.stop_after);
        let (latency_ms, bytes_per_s) = (found.latency_ms, found.bytes_per_s);
        let Some(side) = self.side() else {
            return;
        };
        let Some(serving) = side.serving.get_mut(&number) else {
            return;
        };
        let whole = serving.opened.grant().size_bytes;
        let piece = (whole / PIECES).max(1);
        let from = serving.arrived;
        let mut until = (from + piece).min(whole);
        if let Some(stop) = stop_after.filter(|stop| (from..until).contains(stop)) {
            until = stop.max(from + 1);
        }
        let taken = (from + IN_ADVANCE * piece).min(whole).max(serving.taken);
        let grant = serving.opened.grant();
        let leaves = (taken > serving.taken).then(|| (grant.device, grant.token.clone()));
        if leaves.is_some() {
            let bytes = taken - serving.taken;
            serving.taken = taken;
            side.grants.sent(&serving.opened, bytes, taken == whole);
        }
        let takes_ms = (until - from) * 1_000 / bytes_per_s.max(1);
        if let Some(download) = self.station(station).and_then(|it| it.download.as_mut()) {
            download.stage = Stage::Receives(from..until);
        }
        let at = now_ms + latency_ms + takes_ms;
        self.queue.push(at, Occurrence::Download(station, number));
        if let Some((device, token)) = leaves
            && let Some(device) = self.number_of_device(device)
        {
            (self.checker).bytes_leave(now_ms, device, &token);
        }
        self.tell_served();
    }

    /// Bytes of a package are with a device.
    fn piece_arrives(&mut self, station: u32, number: u32, bytes: Range<u64>) {
        let now_ms = self.now_ms;
        let revoked = DownloadFailure::Cut {
            received: bytes.start,
        };
        let Some(side) = self.side() else {
            return self.fails(station, number, revoked);
        };
        let Some(serving) = side.serving.get_mut(&number) else {
            return self.fails(station, number, revoked);
        };
        if serving.opened.is_revoked() {
            return self.fails(station, number, revoked);
        }
        serving.arrived = bytes.end;
        let due = serving.arrived == serving.taken;
        side.grants.arrived(&serving.opened, bytes.clone(), due);
        let grant = serving.opened.grant().clone();
        self.tell_served();
        self.figures.downloaded_bytes += bytes.end - bytes.start;
        let device = self.number_of_device(grant.device);
        let Some(field) = &mut self.mqtt else {
            return;
        };
        let cut = field.happens(field.lines.cut_per_mille, 1_000);
        let Some(found) = field.stations.get_mut(station as usize) else {
            return;
        };
        found.received = bytes.end;
        let stop_after = found.download.as_ref().and_then(|it| it.request.stop_after);
        (found.device).downloading(now_ms, bytes.end, grant.size_bytes);
        if let Some(device) = device {
            (self.checker).piece_arrives(now_ms, device, &grant, &bytes);
        }
        self.settle_station(station);
        let goes_on = (self.station(station).and_then(|it| it.download.as_ref()))
            .is_some_and(|download| download.number == number);
        if !goes_on {
            return; // it has broken it off
        }
        let received = bytes.end;
        if received >= grant.size_bytes {
            self.is_downloaded(station, number, &grant.sha256, received);
        } else if stop_after.is_some_and(|stop| received >= stop) || cut {
            self.fails(station, number, DownloadFailure::Cut { received });
        } else {
            self.next_piece(station, number);
        }
    }

    fn is_downloaded(&mut self, station: u32, number: u32, sha256: &str, bytes: u64) {
        let now_ms = self.now_ms;
        if let Some(side) = self.side() {
            side.serving.remove(&number);
        }
        if let Some(found) = self.station(station) {
            found.download = None;
            let fetched = Fetched {
                bytes,
                sha256: sha256.to_owned(),
                // nobody is told an MD5
                md5: String::new(),
            };
            found.device.downloaded(now_ms, &fetched);
        }
        self.settle_station(station);
    }
}
