//! What each tenant has and what becomes of its upgrades, in the metrics: looked at once a minute. So many tenants have figures of their own as
//! the settings say, the oldest first; the others are told as one, so that the metrics stay bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    config::Settings,
    store::{Store, StoreError, TenantCount},
    telemetry::Metrics,
};

/// Between two looks.
const EVERY: Duration = Duration::from_mins(1);
/// Whom the figures of all are that have none of their own.
const OTHER: &str = "other";
/// How upgrades end.
const OUTCOMES: [&str; 3] = ["succeeded", "failed", "cancelled"];

/// Looks at what tenants have.
pub(super) struct TenantFigures {
    store: Arc<dyn Store>,
    settings: Settings,
    metrics: Arc<Metrics>,
    /// The newest event that was counted; `None`: nothing was looked at yet, and what was before is not counted.
    counted: Option<i64>,
    /// Whose figures were told: they are told on when nothing is left of them.
    told: BTreeSet<String>,
}

impl TenantFigures {
    pub(super) fn new(store: Arc<dyn Store>, settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            settings,
            metrics,
            counted: None,
            told: BTreeSet::new(),
        }
    }

    /// Until the server stops, from now on.
    pub(super) async fn keep_telling(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            if let Err(error) = self.tell().await {
                tracing::debug!(%error, "the figures of tenants are those of before");
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn tell(&mut self) -> Result<(), StoreError> {
        let (_, newest) = self.store.event_range().await?;
        let after = self.counted.unwrap_or(newest);
        let counts = self.store.count_tenants(after, newest).await?;
        self.counted = Some(newest);
        let named = self.settings.get().tenants.in_metrics;
        let mut figures: BTreeMap<String, Figures> = BTreeMap::new();
        for tenant in &self.told {
            figures.insert(tenant.clone(), Figures::default());
        }
        for (at, count) in counts.into_iter().enumerate() {
            let name = if at < named {
                count.tenant.as_str()
            } else {
                OTHER
            };
            figures.entry(name.to_owned()).or_default().add(&count);
        }
        for (tenant, figures) in figures {
            figures.tell(&self.metrics, &tenant);
            self.told.insert(tenant);
        }
        Ok(())
    }
}

/// The figures of a tenant, or of several.
#[derive(Debug, Default)]
struct Figures {
    devices: u64,
    tasks_running: u64,
    ended: BTreeMap<String, u64>,
}

impl Figures {
    fn add(&mut self, count: &TenantCount) {
        self.devices += count.devices;
        self.tasks_running += count.tasks_running;
        for (outcome, count) in &count.ended {
            *self.ended.entry(outcome.clone()).or_default() += count;
        }
    }

    fn tell(&self, metrics: &Metrics, tenant: &str) {
        let labels = [("tenant", tenant)];
        let help = "Devices that belong to a tenant.";
        metrics.labelled_gauge("tenant_devices", help, &labels, self.devices);
        let help = "Tasks of a tenant that run.";
        metrics.labelled_gauge("tenant_tasks_running", help, &labels, self.tasks_running);
        let help = "Upgrades of a tenant that have ended, by how, to a minute.";
        for outcome in OUTCOMES {
            let labels = [("tenant", tenant), ("outcome", outcome)];
            let count = self.ended.get(outcome).copied().unwrap_or(0);
            metrics.labelled_counter("tenant_upgrades_ended", help, &labels, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::UtcMillis,
        config::Config,
        ledger::AttributesChange,
        store::{
            Agenda as _, Inventory as _, NewDevice, NewTenant, SqliteStore, Tenancy as _,
            conformance::task_for_three,
        },
    };

    #[tokio::test]
    async fn tenants_beyond_those_that_the_settings_name_are_told_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
        let task = task_for_three(&*store).await;
        for (at, id) in [(3, "acme"), (2, "zeta"), (4, "beta")] {
            let new = NewTenant {
                id: id.parse().unwrap(),
                name: id.to_owned(),
                created_at: UtcMillis(at),
            };
            store.add_tenant(&new).await.unwrap();
            let device = NewDevice {
                endpoint: format!("of-{id}"),
                product: format!("{id}/p"),
                psk: None,
                mqtt: None,
                attributes: AttributesChange::default(),
            };
            store.add_devices(&[device], UtcMillis(5)).await.unwrap();
        }
        let mut config = Config::default();
        config.tenants.in_metrics = 2;
        let metrics = Arc::new(Metrics::new().unwrap());
        let settings = Settings::new(Arc::new(config));
        let mut figures = TenantFigures::new(store.clone(), settings, metrics.clone());
        figures.tell().await.unwrap();
        let is_told = |line: &str| {
            let text = metrics.handle().render();
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        };
        // the oldest are named
        is_told("cellwise_tenant_devices{tenant=\"default\"} 3");
        is_told("cellwise_tenant_devices{tenant=\"zeta\"} 1");
        is_told("cellwise_tenant_devices{tenant=\"other\"} 2");
        is_told("cellwise_tenant_upgrades_ended_total{tenant=\"default\",outcome=\"cancelled\"} 0");
        store.stop_task(task, UtcMillis(9), false).await.unwrap();
        figures.tell().await.unwrap();
        figures.tell().await.unwrap();
        is_told("cellwise_tenant_upgrades_ended_total{tenant=\"default\",outcome=\"cancelled\"} 3");
        is_told("cellwise_tenant_upgrades_ended_total{tenant=\"other\",outcome=\"cancelled\"} 0");
        is_told("cellwise_tenant_tasks_running{tenant=\"default\"} 0");
        // nothing is left of one
        let device = "of-zeta";
        let removed = store.remove_device(device, None, None, UtcMillis(10)).await;
        assert!(removed.unwrap());
        assert!(store.forget_removed(device).await.unwrap());
        store
            .delete_tenant(&"zeta".parse().unwrap(), UtcMillis(11), None)
            .await
            .unwrap();
        figures.tell().await.unwrap();
        is_told("cellwise_tenant_devices{tenant=\"zeta\"} 0");
        is_told("cellwise_tenant_devices{tenant=\"acme\"} 1");
        is_told("cellwise_tenant_devices{tenant=\"other\"} 1");
    }
}
