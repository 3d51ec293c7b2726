//! Which devices of a new task can be served none of its packages.

use crate::{
    api::ApiState,
    config::UpdateBy,
    ledger::{PackageId, Protocol, Ways},
    package::Content,
    store::{StoreError, TaskRecord},
};

/// How many devices of a task speak what none of its packages can be served to.
pub(super) async fn count_not_served(
    state: &ApiState,
    task: &TaskRecord,
) -> Result<u64, StoreError> {
    let config = state.config.get();
    let over_http = config.download.http || config.download.https;
    let product = config.products.get(&task.product);
    let takes_large = product.is_some_and(|product| product.iotda_large_downloads);
    let by_pcp_alone = product.is_some_and(|product| product.update_by == UpdateBy::Pcp);
    let mut not_served = Protocol::ALL.to_vec();
    if !config.mqtt.is_on() {
        not_served.retain(|protocol| !protocol.is_mqtt()); // none can connect
    }
    let others = task.packages.packages.iter().map(|rule| rule.package_id);
    let packages: Vec<PackageId> = std::iter::once(task.package).chain(others).collect();
    for id in packages {
        let Some(package) = state.store.package(id).await? else {
            continue;
        };
        let ways = Ways {
            pcp: package.package.pcp.is_some(),
            // which object they have is known when they are heard
            blocks: !by_pcp_alone && package.package.size_bytes <= Content::MAX_BYTES,
            http: over_http,
            size_bytes: package.package.size_bytes,
        };
        not_served.retain(|protocol| !ways.serve(*protocol, takes_large));
    }
    if not_served.is_empty() {
        return Ok(0);
    }
    state.store.count_speaking(task.id, &not_served).await
}
