//! What all styles have in common: download, check, install.

use super::{Device, DownloadFailure, Ending, Fetched, Line, Output, Request, Timer};
use crate::mqtt::{
    fault::Fault,
    spec::Secret,
    style::{Client, Style},
};

/// How often a device reconnects in a storm.
const STORM: u32 = 20;
/// A device that resumes does so at most this often in one upgrade.
const RESUMPTIONS: u32 = 20;

/// How a package is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Not at all.
    None,
    Md5,
    /// The digits have to be in lower case.
    Sha256Exactly,
    Sha256,
}

/// The package, as it was offered.
#[derive(Debug, Clone)]
pub(super) struct Package {
    pub(super) url: String,
    pub(super) version: String,
    /// Bytes, 0 if it was not told.
    pub(super) size: u64,
    /// The check code, empty if it was not told.
    pub(super) sign: String,
    pub(super) check: Check,
    pub(super) bearer: Option<Secret>,
    /// The part of the device, for `ThingsPanel`.
    pub(super) module: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Reconnects so many times more.
    Storm(u32),
    Downloading,
    /// Resumes when it is connected, or when the time comes.
    Paused,
    Installing,
}

/// An upgrade under way.
#[derive(Debug, Clone)]
pub(super) struct Upgrade {
    pub(super) package: Package,
    stage: Stage,
    received: u64,
    resumptions: u32,
    /// Whether the fault of the download has struck.
    struck: bool,
    /// The newest tenth that was reported.
    tenth: u8,
}

/// What is wrong with a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Download,
    Check,
}

impl Device {
    /// Asks for the package again, or goes on with a storm, once it is connected.
    pub(super) fn go_on(&mut self, now_ms: u64) {
        let Some(upgrade) = &mut self.upgrade else {
            return;
        };
        match upgrade.stage {
            Stage::Storm(0) | Stage::Paused => self.download(),
            Stage::Storm(left) => {
                upgrade.stage = Stage::Storm(left - 1);
                self.leave(now_ms, self.spec.timing.storm_gap_ms, false);
            }
            Stage::Downloading | Stage::Installing => {}
        }
    }

    pub(super) fn is_downloading(&self) -> bool {
        let stage = self.upgrade.as_ref().map(|upgrade| upgrade.stage);
        stage == Some(Stage::Downloading)
    }

    /// Takes an offer, unless there is one already.
    pub(super) fn begin(&mut self, now_ms: u64, package: Package) {
        self.counters.offers += 1;
        if self.upgrade.is_some() || self.owes_report || self.twin.is_some() {
            self.counters.offers_ignored += 1;
            return;
        }
        self.ending = None;
        let stage = match self.spec.fault {
            Some(Fault::Refuses(code)) => {
                self.report_refusal(now_ms, code, &package);
                return self.end(Ending::Failed);
            }
            Some(Fault::LostChild) => return self.is_lost_now(),
            Some(Fault::ReconnectStorm) if self.counters.downloads == 0 => Stage::Storm(STORM),
            Some(Fault::ClaimsWithoutDownload | Fault::SuccessAtOnce) => Stage::Installing,
            _ => Stage::Paused,
        };
        self.upgrade = Some(Upgrade {
            package,
            stage,
            received: 0,
            resumptions: 0,
            struck: false,
            tenth: 0,
        });
        if self.has(Fault::SuccessAtOnce) {
            self.installed(now_ms);
            return self.restart(now_ms);
        }
        if stage == Stage::Installing {
            return self.set(Timer::Install, now_ms, self.spec.timing.install_ms);
        }
        self.go_on(now_ms);
    }

    /// Its gateway does not serve it any more.
    fn is_lost_now(&mut self) {
        self.line = Line::Down;
        self.timers = [None; 4];
        self.end(Ending::Silent);
    }

    pub(super) fn download(&mut self) {
        let by_hand = self.spec.style.is_iotda() && self.spec.client == Client::C;
        let Some(upgrade) = &mut self.upgrade else {
            return;
        };
        if upgrade.stage == Stage::Downloading {
            return;
        }
        upgrade.stage = Stage::Downloading;
        let breaks = matches!(
            self.spec.fault,
            Some(Fault::CutDownload | Fault::BrokenDownload)
        );
        let half = (upgrade.package.size / 2).max(1);
        let request = Request {
            url: upgrade.package.url.clone(),
            bearer: upgrade.package.bearer.clone(),
            from: upgrade.received,
            stop_after: (breaks && !upgrade.struck).then_some(half),
            by_hand,
        };
        self.timers[Timer::Resume as usize] = None;
        self.counters.downloads += 1;
        self.outputs.push_back(Output::Download(request));
    }

    /// So many bytes are there, those of before included, of so many.
    pub fn downloading(&mut self, now_ms: u64, received: u64, size: u64) {
        if self.is_gateway() {
            return self.behind_downloading(now_ms, received, size);
        }
        let drops = self.has(Fault::DropsInDownload);
        let quiet = self.has(Fault::ProgressBurst);
        let Some(upgrade) = &mut self.upgrade else {
            return;
        };
        if upgrade.stage != Stage::Downloading || size == 0 {
            return;
        }
        upgrade.received = received;
        let tenth = u8::try_from((received.min(size) * 10) / size).unwrap_or(10);
        let news = tenth > upgrade.tenth;
        upgrade.tenth = upgrade.tenth.max(tenth);
        if drops && !upgrade.struck && received >= size / 2 {
            upgrade.struck = true;
            upgrade.stage = Stage::Paused;
            self.outputs.push_back(Output::StopDownload);
            return self.leave(now_ms, self.spec.timing.outage_ms, false);
        }
        if news && !quiet {
            self.report_progress(now_ms, tenth * 9);
        }
    }

    /// The package is there.
    pub fn downloaded(&mut self, now_ms: u64, fetched: &Fetched) {
        if self.is_gateway() {
            return self.behind_downloaded(now_ms, Ok(fetched));
        }
        let corrupt = self.has(Fault::CorruptDownload);
        let Some(upgrade) = &mut self.upgrade else {
            return;
        };
        if upgrade.stage != Stage::Downloading {
            return;
        }
        self.counters.whole += 1;
        let Package { size, sign, .. } = &upgrade.package;
        let right = match upgrade.package.check {
            Check::None => true,
            _ if corrupt => false,
            _ if sign.is_empty() => true,
            Check::Md5 => sign.eq_ignore_ascii_case(&fetched.md5),
            Check::Sha256 => sign.eq_ignore_ascii_case(&fetched.sha256),
            Check::Sha256Exactly => *sign == fetched.sha256,
        };
        if !right {
            return self.fail(now_ms, Wrong::Check);
        }
        if *size != 0 && *size != fetched.bytes {
            return self.fail(now_ms, Wrong::Download);
        }
        upgrade.stage = Stage::Installing;
        if self.has(Fault::ProgressBurst) {
            for tenth in 1..10 {
                self.report_progress(now_ms, tenth * 10);
            }
        }
        self.report_download(now_ms);
        self.set(Timer::Install, now_ms, self.spec.timing.install_ms);
    }

    /// The package did not come.
    pub fn download_failed(&mut self, now_ms: u64, failure: &DownloadFailure) {
        if self.is_gateway() {
            return self.behind_downloaded(now_ms, Err(failure));
        }
        let resumes = !self.spec.style.is_iotda();
        let fault = self.spec.fault;
        let Some(upgrade) = &mut self.upgrade else {
            return;
        };
        if upgrade.stage != Stage::Downloading {
            return;
        }
        let ordered = fault == Some(Fault::CutDownload) && !upgrade.struck;
        let drops = fault == Some(Fault::DropsInDownload);
        let passing = match failure {
            DownloadFailure::Cut { received } => {
                upgrade.received = *received;
                true
            }
            DownloadFailure::Unreachable(_) => true,
            DownloadFailure::Status(_) => false,
        };
        upgrade.struck = true;
        let again = ordered || drops || (resumes && fault != Some(Fault::BrokenDownload));
        if passing && again && upgrade.resumptions < RESUMPTIONS {
            upgrade.resumptions += 1;
            upgrade.stage = Stage::Paused;
            return self.set(Timer::Resume, now_ms, self.spec.timing.resume_ms);
        }
        self.fail(now_ms, Wrong::Download);
    }

    /// What is there of the package is lost; it is downloaded when there is a connection again.
    pub(super) fn begin_download_anew(&mut self) {
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.stage = Stage::Paused;
            upgrade.received = 0;
        }
    }

    /// It is not behind its gateway any more, which had the download.
    pub(super) fn loses_gateway(&mut self, now_ms: u64) {
        let installs = |upgrade: &Upgrade| upgrade.stage == Stage::Installing;
        if !self.upgrade.as_ref().is_some_and(installs) && !self.owes_report {
            self.upgrade = None;
            self.timers[Timer::Resume as usize] = None;
        }
        self.disconnected(now_ms);
        self.outputs.clear();
    }

    fn fail(&mut self, now_ms: u64, wrong: Wrong) {
        let silent = self.spec.style.is_iotda() && self.spec.client == Client::Python;
        if silent {
            return self.end(Ending::Silent);
        }
        self.report_failure(now_ms, wrong);
        self.end(Ending::Failed);
    }

    pub(super) fn end(&mut self, ending: Ending) {
        self.upgrade = None;
        self.ending = Some(ending);
    }

    /// The installation is over: the device runs what it has downloaded, or says so.
    pub(super) fn installed(&mut self, now_ms: u64) {
        let Some(upgrade) = &self.upgrade else {
            return;
        };
        let truly = !self.has(Fault::ClaimsWithoutDownload);
        if truly && !self.has(Fault::OldVersionAfterSuccess) {
            self.version.clone_from(&upgrade.package.version);
        }
        if self.has(Fault::LosesReport) {
            self.end(Ending::Upgraded);
            return self.leave(now_ms, self.spec.timing.outage_ms, false);
        }
        if self.spec.restarts && self.restarts_first() && !self.has(Fault::SuccessAtOnce) {
            self.owes_report = true;
            return self.restart(now_ms);
        }
        if self.line != Line::Up {
            // said when it is connected again: it has not gone down itself
            self.owes_report = self.keeps_reports();
            if self.owes_report {
                return;
            }
        }
        self.report_success(now_ms);
    }

    /// Whether it restarts before it reports. The Java kit tells a new version once it runs.
    fn restarts_first(&self) -> bool {
        self.spec.style.is_iotda() && self.spec.client == Client::Java
    }

    /// Whether a report waits for the connection. IoTDA's Python kit loses it.
    fn keeps_reports(&self) -> bool {
        !(self.spec.style.is_iotda() && self.spec.client == Client::Python)
    }

    /// Reports the end, and restarts if the device does that.
    pub(super) fn report_success(&mut self, now_ms: u64) {
        let Some(upgrade) = self.upgrade.take() else {
            return;
        };
        let truly = self.version == upgrade.package.version;
        self.ending = Some(if truly {
            Ending::Upgraded
        } else {
            Ending::Claimed
        });
        let at_once = self.has(Fault::SuccessAtOnce); // it restarts by itself
        let restarts = self.spec.restarts && !self.restarts_first() && !at_once;
        self.report_end(now_ms, &upgrade.package, restarts);
        if restarts {
            self.restart(now_ms);
        }
    }

    fn restart(&mut self, now_ms: u64) {
        self.counters.restarts += 1;
        self.leave(now_ms, self.spec.timing.restart_ms, true);
    }

    fn report_progress(&mut self, now_ms: u64, percent: u8) {
        if self.spec.style.is_iotda() {
            self.iotda_progress(now_ms, percent);
        } else if self.spec.style == Style::QuecThing {
            self.quecthing_progress();
        } else {
            self.thingspanel_progress(percent);
        }
    }

    fn report_download(&mut self, now_ms: u64) {
        if self.spec.style.is_iotda() {
            self.iotda_download_done(now_ms);
        } else if self.spec.style == Style::QuecThing {
            self.quecthing_download_done();
        }
    }

    fn report_refusal(&mut self, now_ms: u64, code: u8, package: &Package) {
        if self.spec.style.is_iotda() {
            self.iotda_failure(now_ms, code, &package.version);
        } else {
            let step = i8::try_from(code).map_or(-1, |code| -code);
            self.thingspanel_step(step, "refused", &package.module);
        }
    }

    fn report_failure(&mut self, now_ms: u64, wrong: Wrong) {
        let Some(Upgrade { package, .. }) = self.upgrade.take() else {
            return;
        };
        if self.spec.style.is_iotda() {
            let code = match (self.spec.client, wrong) {
                (Client::C, _) => 1,
                (_, Wrong::Download) => 6,
                (_, Wrong::Check) => 7,
            };
            self.iotda_failure(now_ms, code, &package.version);
        } else if self.spec.style == Style::QuecThing {
            self.quecthing_failure(wrong);
        } else {
            let (step, words) = match wrong {
                Wrong::Download => (-2, "download failed"),
                Wrong::Check => (-3, "the check code is another"),
            };
            self.thingspanel_step(step, words, &package.module);
        }
    }

    fn report_end(&mut self, now_ms: u64, package: &Package, restarts: bool) {
        if self.spec.style.is_iotda() {
            self.iotda_success(now_ms, &package.version);
        } else if self.spec.style == Style::QuecThing {
            self.quecthing_success(&package.version);
        } else {
            self.thingspanel_step(100, "upgraded", &package.module);
            if !restarts {
                self.thingspanel_version();
            }
        }
    }
}
