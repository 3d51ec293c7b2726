//! How a home stands, as somebody in it sees it: its devices, what is offered to them, and how far they are.

use axum::http::{HeaderMap, header};

use super::{
    bodies::{AppAwaiting, AppDevice, AppEntry, AppStatus},
    problem::Problem,
    state::AppState,
};
use crate::{
    clock::UtcMillis,
    home::{
        Conditions, DeviceNow, Entry, ErrorCode, HomeKey, MAX_STARTED, OfferId, Refusal, Status,
        Texts, Told,
    },
    runtime::Live,
    store::{HomeDevice, HomeUpgrade, OfferRecord, StoreError, UpgradeState},
};

/// What is looked at together.
pub(super) struct View {
    home: HomeKey,
    devices: Vec<(HomeDevice, Live)>,
    offers: Vec<OfferRecord>,
    language: Option<String>,
    now: UtcMillis,
    /// How long a device of each product listens after its last message, milliseconds.
    awake_ms: Vec<u64>,
}

impl View {
    /// A home, or one device in it, for whoever accepts the languages of these headers.
    pub(super) async fn of(
        state: &AppState,
        home: &HomeKey,
        device: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Self, StoreError> {
        let now = state.now();
        let devices = state.store.home_devices(home, device, now).await?;
        let mut products: Vec<String> = (devices.iter())
            .map(|it| it.device.device.product.clone())
            .collect();
        products.sort();
        products.dedup();
        let offers = match products.as_slice() {
            [] => Vec::new(),
            products => state.store.offers_for(&home.tenant, products).await?,
        };
        let names: Vec<&str> = (devices.iter())
            .map(|it| it.here.endpoint.as_str())
            .collect();
        let mut live = match names.as_slice() {
            [] => Vec::new(),
            names => state.heard.live(names).await,
        };
        live.resize_with(devices.len(), Live::default);
        let config = state.config.get();
        let awake = |it: &HomeDevice| {
            let product = config.products.get(&it.device.device.product);
            let seconds = product.and_then(|product| product.awake_window_s);
            seconds.unwrap_or(config.lwm2m.awake_window_s) * 1_000
        };
        let language = headers.get(header::ACCEPT_LANGUAGE);
        Ok(Self {
            home: home.clone(),
            awake_ms: devices.iter().map(awake).collect(),
            devices: devices.into_iter().zip(live).collect(),
            offers,
            language: language.and_then(|it| it.to_str().ok()).map(str::to_owned),
            now,
        })
    }

    /// One device, which has to be in the home.
    pub(super) async fn of_device(
        state: &AppState,
        home: &HomeKey,
        device: &str,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let view = Self::of(state, home, Some(device), headers).await?;
        if view.devices.is_empty() {
            return Err(no_such_device());
        }
        Ok(view)
    }

    /// The devices that there are, each with what there is for it.
    pub(super) fn devices(&self) -> Vec<AppDevice> {
        let places = 0..self.devices.len();
        places.filter_map(|at| self.device(at)).collect()
    }

    /// Where each device stands.
    pub(super) fn statuses(&self) -> Vec<AppStatus> {
        let devices = self.devices();
        devices.into_iter().map(|it| it.status).collect()
    }

    /// The devices as the store has them.
    pub(super) fn records(&self) -> impl Iterator<Item = &HomeDevice> {
        self.devices.iter().map(|(device, _)| device)
    }

    fn device(&self, at: usize) -> Option<AppDevice> {
        let (device, live) = self.devices.get(at)?;
        let asleep = self.is_asleep(device, live, *self.awake_ms.get(at)?);
        let entries = self.entries(device, asleep);
        Some(AppDevice {
            device: device.here.endpoint.clone(),
            name: device.here.name.clone(),
            icon: device.here.icon.clone(),
            automatic: device.here.automatic,
            status: self.status(device, asleep, &entries),
            entries,
        })
    }

    /// Whether a device sleeps just now: it listens for a while after its last message only.
    fn is_asleep(&self, device: &HomeDevice, live: &Live, awake_ms: u64) -> bool {
        if live.connected.is_some() || !device.sleeps() {
            return false;
        }
        let stored = device.device.device.last_heard_at;
        let heard = live.heard_at.max(stored);
        heard.is_none_or(|heard| self.now.since(heard).as_millis() > u128::from(awake_ms))
    }

    /// What a device can be upgraded to: for each channel the newest that fits, and what leads on from there.
    fn entries(&self, device: &HomeDevice, asleep: bool) -> Vec<AppEntry> {
        let mut entries: Vec<AppEntry> = Vec::new();
        let visible = |offer: &&OfferRecord| {
            offer.product == device.device.device.product
                && offer.terms.is_visible_to(&self.home, offer.id, self.now)
        };
        let offers: Vec<&OfferRecord> = self.offers.iter().filter(visible).collect();
        let mut channels: Vec<u8> = offers.iter().map(|it| it.terms.channel.number()).collect();
        channels.dedup();
        for channel in channels {
            let of_channel = |it: &&&OfferRecord| it.terms.channel.number() == channel;
            let mut left: Vec<&OfferRecord> = offers.iter().filter(of_channel).copied().collect();
            let mut runs = device.device.device.version;
            for step in 1..=MAX_STARTED {
                let now = DeviceNow {
                    version: runs.as_ref(),
                    ..device.now()
                };
                let fits = left.iter().position(|offer| {
                    let leads_on = step == 1 || !offer.terms.conditions.from.is_empty();
                    leads_on && !matches!(offer.entry(&now, self.now), Entry::NotFor(_))
                });
                let Some(at) = fits else {
                    break;
                };
                let offer = left.remove(at);
                entries.push(self.entry(device, offer, &now, step, asleep));
                runs = Some(offer.version);
            }
        }
        entries
    }

    fn entry(
        &self,
        device: &HomeDevice,
        offer: &OfferRecord,
        now: &DeviceNow<'_>,
        step: usize,
        asleep: bool,
    ) -> AppEntry {
        let terms = &offer.terms;
        let refusal = match offer.entry(now, self.now) {
            Entry::Ready => None,
            Entry::Refused(refusal) | Entry::NotFor(refusal) => Some(refusal),
        };
        let open = (device.open.iter()).find(|it| it.offer == Some(offer.id));
        let status = open.map_or(Status::Available, |open| open.told(asleep).status);
        let (language, description) = self.pick(&terms.texts.description).unwrap_or_default();
        let remind = refusal.as_ref().map(|refusal| {
            let own = self.text(&terms.texts.remind);
            own.unwrap_or_else(|| refusal.to_string())
        });
        AppEntry {
            offer: offer.id.0,
            step: u8::try_from(step).unwrap_or(u8::MAX),
            channel: terms.channel.number(),
            channel_text: self.text(&terms.texts.channel),
            description: description.to_owned(),
            language: language.to_owned(),
            status: status.number(),
            current_version: now.version.map(ToString::to_string),
            target_version: offer.version.to_string(),
            device_type: u8::from(device.sleeps()),
            kind: terms.kind.number(),
            url: None,
            size_bytes: offer.size_bytes,
            md5: offer.md5.clone(),
            sha256: offer.sha256.clone(),
            controllable: terms.controllable,
            waiting_text: self.text(&terms.texts.waiting),
            upgrading_text: self.text(&terms.texts.upgrading),
            can_upgrade: can_upgrade(&terms.conditions, refusal.as_ref()),
            remind,
            error: refusal.map(|refusal| refusal.code().number()),
            mode: terms.mode.number(),
        }
    }

    /// Since when the home sees what it has seen last of what can be started; `None`: nothing can.
    fn newest(&self, entries: &[AppEntry]) -> Option<UtcMillis> {
        let offers = entries.iter().map(|entry| OfferId(entry.offer));
        let offers = offers.filter_map(|id| self.offer(id));
        let since = offers.filter_map(|offer| {
            let terms = &offer.terms;
            terms.visible_since(&self.home, offer.id, offer.published_at)
        });
        since.max()
    }

    /// Where a device stands: with what runs, or else with what ended last, until there is something newer to start.
    fn status(&self, device: &HomeDevice, asleep: bool, entries: &[AppEntry]) -> AppStatus {
        let newest = self.newest(entries);
        let is_news = |last: &&HomeUpgrade| {
            let ended_at = last.upgrade.upgrade.ended_at;
            newest.is_none_or(|seen_since| ended_at.is_some_and(|at| at >= seen_since))
        };
        let running =
            |it: &&HomeUpgrade| matches!(it.upgrade.upgrade.state, UpgradeState::Active(_));
        let open = device.open.iter();
        let shown = (open.clone().find(running))
            .or_else(|| open.clone().next())
            .or_else(|| device.last.as_ref().filter(is_news));
        let stands = shown.map_or_else(|| Told::idle(newest.is_some()), |it| it.told(asleep));
        let offer = shown.and_then(|it| it.offer);
        let offer = offer.and_then(|id| self.offer(id));
        let texts = offer.map(|offer| &offer.terms.texts);
        let text = texts.and_then(|texts| match stands.status {
            Status::WaitingForWakeUp => self.text(&texts.waiting),
            Status::Upgrading | Status::Downloaded | Status::Preparing => {
                self.text(&texts.upgrading)
            }
            _ => None,
        });
        let ended = shown.and_then(|it| it.upgrade.upgrade.outcome.as_ref());
        let upgrade = shown.map(|it| &it.upgrade.upgrade);
        AppStatus {
            device: device.here.endpoint.clone(),
            status: stands.status.number(),
            status_name: stands.status.name(),
            text,
            title: texts.and_then(|texts| self.text(&texts.channel)),
            progress: stands.progress,
            channel: offer.map(|offer| offer.terms.channel.number()),
            mode: offer.map(|offer| offer.terms.mode.number()),
            error: stands.error.map(ErrorCode::number),
            reason: stands.error.and_then(|_| ended.map(|it| it.reason.clone())),
            upgrade: upgrade.map(|it| it.id.0),
            target_version: shown.map(|it| it.upgrade.version.to_string()),
            current_version: device
                .device
                .device
                .version
                .as_ref()
                .map(ToString::to_string),
            awaiting: awaiting(device),
            continue_until: device.waits.as_ref().map(|it| it.until.to_string()),
        }
    }

    fn offer(&self, id: OfferId) -> Option<&OfferRecord> {
        self.offers.iter().find(|offer| offer.id == id)
    }

    fn pick<'t>(&self, texts: &'t Texts) -> Option<(&'t str, &'t str)> {
        texts.pick(self.language.as_deref())
    }

    fn text(&self, texts: &Texts) -> Option<String> {
        self.pick(texts).map(|(_, text)| text.to_owned())
    }
}

/// The one answer about a device that is not in the home.
pub(super) fn no_such_device() -> Problem {
    Problem::not_found("there is no such device in this home")
}

/// What waits for the word of somebody at home.
fn awaiting(device: &HomeDevice) -> Option<AppAwaiting> {
    let waits = |it: &&HomeUpgrade| {
        let upgrade = &it.upgrade.upgrade;
        upgrade.unconfirmed && upgrade.state == UpgradeState::Pending
    };
    let waiting = device.open.iter().filter(waits);
    let oldest = waiting.min_by_key(|it| it.upgrade.upgrade.id.0)?;
    Some(AppAwaiting {
        upgrade: oldest.upgrade.upgrade.id.0,
        target_version: oldest.upgrade.version.to_string(),
    })
}

/// Whether it can be started: nothing where the offer asks for nothing.
const fn can_upgrade(conditions: &Conditions, refusal: Option<&Refusal>) -> Option<u8> {
    match (conditions.asks_more(), refusal) {
        (false, _) => None,
        (true, None) => Some(1),
        (true, Some(_)) => Some(0),
    }
}
