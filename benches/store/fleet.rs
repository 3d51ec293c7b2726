//! Devices, tasks and changes as a fleet of that size brings them about.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use cellwise::{
    clock::UtcMillis,
    ledger::{
        AttributesChange, Binding, Change, Happened, PackageId, QueueMode, Registration,
        RetryPolicy, Stage, StageChange, UpgradeId,
    },
    package::{PcpOffer, Segmentation, Version},
    store::{
        BatchId, Catalog as _, Events as _, Exclude, NewDevice, NewPackage, NewTask, NewWebhook,
        Origin, Papers, Selection, SqliteStore, WebhookId,
    },
    task::{PackageRules, TaskRules},
};

pub(crate) const T0: UtcMillis = UtcMillis(1_800_000_000_000);
pub(crate) const PRODUCT: &str = "meter";
/// Upgrades whose changes come in turn.
const INTERLEAVED: usize = 20_000;

pub(crate) fn t(seconds: u64) -> UtcMillis {
    T0 + Duration::from_secs(seconds)
}

/// A number that no commit had.
pub(crate) fn next_batch() -> BatchId {
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    BatchId::first_of(WRITERS.fetch_add(1, Relaxed))
}

pub(crate) struct Fleet {
    pub(crate) devices: u32,
}

impl Fleet {
    pub(crate) const fn new(devices: u32) -> Self {
        Self { devices }
    }

    pub(crate) fn new_devices(&self) -> Vec<NewDevice> {
        (0..self.devices)
            .map(|number| NewDevice {
                attributes: AttributesChange::default(),
                endpoint: endpoint(number),
                product: PRODUCT.to_owned(),
                psk: None,
                mqtt: None,
                via: None,
            })
            .collect()
    }

    /// Every device once, in no order.
    pub(crate) fn shuffled(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.devices).collect();
        numbers.sort_by_key(|number| number.wrapping_mul(2_246_822_519).rotate_left(13));
        numbers
    }

    pub(crate) fn selections(&self) -> [(&'static str, Selection); 3] {
        let list = (0..self.devices).map(endpoint);
        [
            ("list", Selection::Devices(list.collect())),
            ("product", Selection::Product(PRODUCT.to_owned())),
            // a second task for all: none of its upgrades may begin while the first has one for the device
            ("all", Selection::All),
        ]
    }
}

pub(crate) fn stage_change(upgrade: UpgradeId, stage: Stage) -> Change {
    let number = u32::try_from(upgrade.0 % 5_000).unwrap();
    let cell = (stage >= Stage::WaitingForSlot).then_some(number);
    let line = cell.map_or(Happened::Registered, |cell| Happened::Queued {
        cell,
        limit: 50,
    });
    Change::Stage {
        upgrade,
        attempt: 1,
        change: StageChange {
            stage,
            entered_at: T0,
            deadline_at: t(180),
            queued_at: cell.map(|_| T0),
            slot_deadline_at: cell.map(|_| t(86_400)),
            cell,
            cell_limit: cell.map(|_| 50),
            confirmed: false,
            download_errors: 0,
        },
        line: Some(Box::new(line.into())),
        at: T0,
    }
}

/// One that is told everything.
pub(crate) async fn webhook(store: &SqliteStore) -> WebhookId {
    let new = NewWebhook {
        tenant: None,
        task: None,
        url: "https://hooks.example.com/".to_owned(),
        secret: vec![1; 32],
        vault: None,
        created_at: T0,
    };
    store.add_webhook(&new).await.unwrap().id
}

/// The order of the names is not that in which they were added.
pub(crate) fn endpoint(number: u32) -> String {
    let mixed = u64::from(number) * 2_654_435_761 % (1 << 32);
    format!("urn:imei:86{mixed:010}{:03}", number % 1_000)
}

pub(crate) fn registered(number: u32) -> Change {
    let [_, b, c, d] = number.to_be_bytes();
    Change::Registered {
        endpoint: endpoint(number),
        registration: Registration {
            location: format!("{number:08x}"),
            peer: SocketAddr::from(([10, b, c, d], 5683)).into(),
            lifetime_s: 86_400,
            expires_at: t(86_400),
            registered_at: T0,
            message_id: None,
            queue_mode: QueueMode::On,
            lwm2m_version: None,
            binding: Binding::default(),
            announced: None,
        },
        wake_ups: None,
        at: T0,
    }
}

pub(crate) async fn package(store: &SqliteStore) -> PackageId {
    let package = NewPackage {
        product: PRODUCT.to_owned(),
        version: Version::new("V2").unwrap(),
        component: None,
        sha256: "00".repeat(32),
        crc: 1,
        size_bytes: 20_480,
        md5: None,
        pcp: Some(PcpOffer {
            version: pcp::Version::new("V2").unwrap(),
            check_code: 1,
            segmentation: Segmentation::choose(20_480, None, false).unwrap(),
        }),
        created_at: T0,
        papers: Papers::default(),
    };
    store.insert_package(&package).await.unwrap().record.id
}

pub(crate) fn task(package: PackageId, selection: Selection) -> NewTask {
    NewTask {
        name: "night".to_owned(),
        package,
        packages: PackageRules::default(),
        selection,
        exclude: Exclude::default(),
        start_at: None,
        retry: RetryPolicy {
            attempts: 3,
            interval_s: 3_600,
            ..RetryPolicy::default()
        },
        rules: TaskRules::default(),
        webhook: None,
        created_at: T0,
        origin: Origin::default(),
    }
}

/// The changes of these upgrades up to their download, thousands of them in turn.
pub(crate) fn stages(upgrades: &[UpgradeId]) -> Vec<Change> {
    let mut changes = Vec::new();
    for window in upgrades.chunks(INTERLEAVED) {
        for stage in [
            Stage::WaitingForDevice,
            Stage::QueryingVersion,
            Stage::QueryingCoverage,
            Stage::WaitingForSlot,
            Stage::Downloading,
        ] {
            changes.extend(window.iter().map(|id| stage_change(*id, stage)));
        }
    }
    changes
}
