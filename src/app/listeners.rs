//! Who listens to a home: how many, and how they hear at once of what was done there over this face.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::figures;
use crate::{config::Settings, home::HomeKey, telemetry::Metrics};

/// The streams that are open.
pub struct Listeners {
    settings: Settings,
    metrics: Arc<Metrics>,
    homes: Mutex<Homes>,
}

#[derive(Debug, Default)]
struct Homes {
    open: usize,
    of: HashMap<HomeKey, Listened>,
}

/// A home that is listened to.
#[derive(Debug)]
struct Listened {
    open: usize,
    hints: watch::Sender<()>,
}

/// Why there is no place for another stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// So many are open of all homes.
    All(usize),
    /// So many are open of the home.
    Home(usize),
}

impl Listeners {
    /// None yet.
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self {
            settings,
            metrics,
            homes: Mutex::default(),
        }
    }

    /// Takes a place for another stream of a home.
    pub(super) fn take(self: &Arc<Self>, home: &HomeKey) -> Result<Place, Full> {
        let config = self.settings.get();
        let count = |setting: u32| usize::try_from(setting).unwrap_or(usize::MAX);
        let (all, each) = (
            count(config.app.max_listeners),
            count(config.app.per_home_listeners),
        );
        let mut homes = self.homes();
        if homes.open >= all {
            return Err(Full::All(all));
        }
        let listened = homes.of.entry(home.clone()).or_insert_with(|| Listened {
            open: 0,
            hints: watch::Sender::new(()),
        });
        // whoever has none open takes the first place, of which there is one at least
        if listened.open >= each.max(1) {
            return Err(Full::Home(each));
        }
        listened.open += 1;
        let hints = listened.hints.subscribe();
        homes.open += 1;
        figures::listeners(&self.metrics, homes.open);
        Ok(Place {
            listeners: self.clone(),
            home: home.clone(),
            hints,
        })
    }

    /// Something was done in a home: whoever listens to it looks at once.
    pub(super) fn hint(&self, home: &HomeKey) {
        if let Some(listened) = self.homes().of.get(home) {
            listened.hints.send_replace(());
        }
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.homes().open
    }

    fn homes(&self) -> MutexGuard<'_, Homes> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a stream that is open; when it is dropped, it is free again.
pub(super) struct Place {
    listeners: Arc<Listeners>,
    home: HomeKey,
    pub(super) hints: watch::Receiver<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut homes = self.listeners.homes();
        homes.open = homes.open.saturating_sub(1);
        figures::listeners(&self.listeners.metrics, homes.open);
        if let Some(listened) = homes.of.get_mut(&self.home) {
            listened.open = listened.open.saturating_sub(1);
            if listened.open == 0 {
                homes.of.remove(&self.home);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn home(name: &str) -> HomeKey {
        HomeKey {
            tenant: crate::tenant::TenantId::default(),
            id: name.parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn places_are_bounded_for_all_and_for_each_home_and_come_back() {
        let mut config = Config::default();
        (config.app.max_listeners, config.app.per_home_listeners) = (3, 2);
        let metrics = Arc::new(Metrics::new().unwrap());
        let settings = Settings::new(Arc::new(config));
        let listeners = Arc::new(Listeners::new(settings, metrics.clone()));
        let told = |open: usize| {
            let line = format!("\ncellwise_app_listeners {open}\n");
            assert!(metrics.handle().render().contains(&line), "{open}");
        };
        let first = listeners.take(&home("a")).ok().unwrap();
        let _second = listeners.take(&home("a")).ok().unwrap();
        told(2);
        assert_eq!(listeners.take(&home("a")).err(), Some(Full::Home(2)));
        let _third = listeners.take(&home("b")).ok().unwrap();
        assert_eq!(listeners.take(&home("c")).err(), Some(Full::All(3)));
        drop(first);
        told(2);
        let mut again = listeners.take(&home("a")).ok().unwrap();
        assert_eq!(listeners.open(), 3);
        listeners.hint(&home("b"));
        assert!(!again.hints.has_changed().unwrap());
        listeners.hint(&home("a"));
        again.hints.changed().await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_kept_of_homes_to_which_nobody_listens() {
        let settings = Settings::new(Arc::new(Config::default()));
        let metrics = Arc::new(Metrics::new().unwrap());
        let listeners = Arc::new(Listeners::new(settings, metrics));
        drop(listeners.take(&home("a")).ok());
        listeners.hint(&home("a"));
        assert_eq!(listeners.open(), 0);
        assert!(listeners.homes().of.is_empty());
    }
}
