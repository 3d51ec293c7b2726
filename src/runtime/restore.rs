//! Brings back the state of before a restart: first what upgrades, so that downloads go on at once, and then, while
//! the server works already, all other devices.

use std::time::Duration;

use super::{Exchange, PackageCache};
use crate::{
    clock::SystemClock,
    engine::{Command, ShardId},
    health::{Health, Part},
    ledger::Failure,
    shard::{Machine, take_backs},
    store::{RestoredDevices, Store, StoreError},
};

/// Rows that are read at once.
const PAGE: u32 = 10_000;
/// Before a page that could not be read is tried again.
const AFTER_ERROR: Duration = Duration::from_secs(2);

/// Brings back the upgrades that had begun, with their devices, each in the engine of the shard that will hear it. The
/// others are to follow when the rollout runs.
///
/// # Errors
/// The database cannot be read.
pub async fn restore_busy(
    engines: &mut [Machine],
    exchange: &Exchange,
    clock: SystemClock,
    store: &dyn Store,
    packages: &mut PackageCache,
) -> Result<(), StoreError> {
    for engine in &mut *engines {
        engine.expect_devices();
    }
    let mut after: Option<String> = None;
    loop {
        let devices = store.restore_busy_devices(after.as_deref(), PAGE).await?;
        let Some(last) = devices.last() else { break };
        after = Some(last.endpoint.clone());
        for device in devices {
            if let Some(shard) = exchange.directory().settle(&device) {
                engines[shard.index()].restore_device(clock.now(), &device);
            }
        }
    }
    let mut after = None;
    loop {
        let upgrades = store.restore_upgrades(after, PAGE).await?;
        let Some(last) = upgrades.last() else { break };
        after = Some(last.order.upgrade);
        for upgrade in upgrades {
            // Where nobody has the device, its upgrade is told to have failed.
            let device = exchange.ids().of(&upgrade.order.endpoint);
            let shard = exchange.directory().find(device);
            let engine = &mut engines[shard.unwrap_or(ShardId(0)).index()];
            let offers = packages.offers(upgrade.order.task).await?;
            if let Some(offers) = offers {
                engine.restore_upgrade(clock.now(), upgrade, offers);
            } else {
                let (order, failure) = (upgrade.order, Failure::PackageUnavailable);
                engine.handle_command(clock.now(), Command::Fail { order, failure });
            }
        }
    }
    restore_ends(store, exchange, clock, engines).await?;
    let population = engines.iter().map(Machine::population);
    let (devices, upgrades) = population.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    if devices > 0 {
        tracing::info!(devices, upgrades, "upgrades restored");
    }
    Ok(())
}

/// Tells upgrades that were brought back when they are taken back, as the windows of their tasks stand now.
async fn restore_ends(
    store: &dyn Store,
    exchange: &Exchange,
    clock: SystemClock,
    engines: &mut [Machine],
) -> Result<(), StoreError> {
    for (task, rules) in store.taking_back().await? {
        let mut after = None;
        loop {
            let running = store.running_upgrades(task, after, PAGE).await?;
            let Some(last) = running.last() else { break };
            after = Some(last.upgrade);
            for command in take_backs(&rules, running, clock.now().utc) {
                let device = command
                    .endpoint()
                    .map(|endpoint| exchange.ids().of(endpoint));
                let shard = device.and_then(|device| exchange.directory().find(device));
                if let Some(shard) = shard {
                    engines[shard.index()].handle_command(clock.now(), command);
                }
            }
        }
    }
    Ok(())
}

/// Gives the shards every device that they do not know yet. Until it returns, strangers are not told that they are.
pub(super) async fn restore_idle(store: &dyn Store, exchange: &Exchange, health: &Health) {
    health.failed(Part::Rollout, "reading devices from before the restart");
    let mut page = read(store, health, 0).await;
    loop {
        let RestoredDevices { devices, next } = page;
        let take = exchange.restore(devices);
        let Some(after) = next else {
            let _ = take.await; // it has stopped
            break;
        };
        // The next page is read while this one is taken.
        let (taken, read) = tokio::join!(take, read(store, health, after));
        if taken.is_err() {
            return; // it has stopped
        }
        page = read;
    }
    let _ = exchange.restored().await; // it has stopped
}

/// Up to a page of devices, tried for as long as it takes.
async fn read(store: &dyn Store, health: &Health, after: i64) -> RestoredDevices {
    loop {
        match store.restore_devices(after, PAGE).await {
            Ok(page) => return page,
            Err(error) => {
                tracing::error!(%error, "devices cannot be read; trying again");
                health.failed(Part::Rollout, error.to_string());
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}
