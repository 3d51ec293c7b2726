//! What a server is told by nobody and runs into: a disk that fills, and a backup that is old. Both are figures, looked at once a
//! minute.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::spawn_blocking};

use super::backup::LastBackup;
use crate::{
    store::{disk_bytes, free_bytes},
    telemetry::{Metrics, Share},
};

/// Between two looks.
const EVERY: Duration = Duration::from_mins(1);

/// Looks at the disk and at the note of the newest backup.
#[derive(Clone)]
pub(super) struct Upkeep {
    data_dir: Arc<PathBuf>,
    metrics: Arc<Metrics>,
    share: Arc<Mutex<Share>>,
}

impl Upkeep {
    pub(super) fn new(data_dir: PathBuf, metrics: Arc<Metrics>) -> Self {
        Self {
            data_dir: Arc::new(data_dir),
            metrics,
            share: Arc::default(),
        }
    }

    /// Until the server stops, from now on.
    pub(super) async fn keep_looking(self, mut stop: watch::Receiver<bool>) {
        loop {
            // a disk that hangs keeps this one thread
            let look = self.clone();
            let _ = spawn_blocking(move || look.look()).await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn look(&self) {
        let (free, size) = (free_bytes(&self.data_dir), disk_bytes(&self.data_dir));
        let last = LastBackup::of(&self.data_dir);
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        let mut figures = self.metrics.of(&mut share);
        let told = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        if let (Some(free), Some(size)) = (free, size) {
            let help = "Bytes that are free for the server on the disk of its data directory.";
            figures.gauge("disk_free_bytes", help, told(free));
            let help = "Bytes of the disk of the data directory.";
            figures.gauge("disk_size_bytes", help, told(size));
        }
        let at = last.map_or(0, |last| usize::try_from(last.at.0 / 1_000).unwrap_or(0));
        figures.gauge(
            "backup_last_success_timestamp_seconds",
            "When the newest whole backup was made, in seconds since 1970; 0: none that is known.",
            at,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UtcMillis;

    #[test]
    fn the_disk_and_the_newest_backup_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let upkeep = Upkeep::new(dir.path().to_owned(), metrics.clone());
        let figure = |name: &str| -> f64 {
            upkeep.look();
            let text = metrics.handle().render();
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name}: {text}"))
                .trim()
                .parse()
                .unwrap()
        };
        let backup = "cellwise_backup_last_success_timestamp_seconds ";
        assert!(figure(backup).abs() < 0.5, "there is none");
        let last = LastBackup {
            at: UtcMillis(1_800_000_000_999),
            path: dir.path().join("backup"),
        };
        last.note(dir.path()).unwrap();
        assert!((figure(backup) - 1_800_000_000.0).abs() < 0.5);
        let (free, size) = (
            figure("cellwise_disk_free_bytes "),
            figure("cellwise_disk_size_bytes "),
        );
        assert!(0.0 < free && free <= size, "{free} of {size}");
    }
}
