//! Notices when a part of the server has died. None of them can be missed, and none ends by itself before it is told to:
//! the server ends then, to be started again, and goes on where it was.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    sync::mpsc,
    task::{self, AbortHandle, JoinHandle},
};

use crate::health::{Health, Part};

/// Runs the parts of a server, and tells of those that have died.
#[derive(Debug, Clone)]
pub struct Supervisor {
    health: Arc<Health>,
    deaths: mpsc::UnboundedSender<Part>,
    stopping: Arc<AtomicBool>,
    parts: Arc<Mutex<Vec<(Part, AbortHandle)>>>,
}

impl Supervisor {
    /// The receiver is told which part has died.
    pub fn new(health: Arc<Health>) -> (Self, mpsc::UnboundedReceiver<Part>) {
        let (deaths, told) = mpsc::unbounded_channel();
        let supervisor = Self {
            health,
            deaths,
            stopping: Arc::default(),
            parts: Arc::default(),
        };
        (supervisor, told)
    }

    /// Runs a part. The handle is of its watch: it ends when the part has.
    pub fn run(
        &self,
        part: Part,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        // The rollout works when it has looked for the first time.
        if part != Part::Rollout {
            self.health.works(part);
        }
        let work = task::spawn(work);
        self.parts().push((part, work.abort_handle()));
        let supervisor = self.clone();
        task::spawn(async move {
            let ended = work.await;
            if supervisor.stopping.load(Ordering::Acquire) {
                return;
            }
            let why = ended.map_or_else(|error| error.to_string(), |()| "it has ended".to_owned());
            tracing::error!("the {part} has failed: {why}");
            supervisor.health.failed(part, why);
            let _ = supervisor.deaths.send(part); // nobody listens: the server is going down
        })
    }

    /// From now on parts may end.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Ends a part that never ends by itself.
    pub fn end(&self, part: Part) {
        for (_, work) in self.parts().iter().filter(|(known, _)| *known == part) {
            work.abort();
        }
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Vec<(Part, AbortHandle)>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_or_ends_is_told_of_and_one_that_is_stopped_is_not() {
        let health = Arc::new(Health::starting());
        let (supervisor, mut deaths) = Supervisor::new(health.clone());
        drop(supervisor.run(Part::Gate, async { panic!("on purpose") }));
        assert_eq!(deaths.recv().await, Some(Part::Gate));
        assert!(!health.is_ok(Part::Gate));
        drop(supervisor.run(Part::Webhooks, async {}));
        assert_eq!(deaths.recv().await, Some(Part::Webhooks));

        let api = supervisor.run(Part::Api, std::future::pending());
        assert!(health.is_ok(Part::Api));
        supervisor.stopping();
        supervisor.end(Part::Api);
        api.await.unwrap();
        assert!(deaths.try_recv().is_err());
    }
}
