//! What systemd is told (`sd_notify(3)`): ready, reloading, stopping, and that the server is alive. Where nobody listens at
//! `NOTIFY_SOCKET`, nothing is told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

use crate::server::Pulse;

/// Longest pause after a question that was not answered.
const AFTER_SILENCE: Duration = Duration::from_secs(1);

/// Tells the watchdog until it is dropped.
pub(super) struct Watchdog(Option<JoinHandle<()>>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// The server listens. From now on the watchdog is told, where there is one, as long as each shard answers.
pub(super) fn ready(pulse: Pulse) -> Watchdog {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let limit = sd_notify::watchdog_enabled();
    Watchdog(limit.map(|limit| tokio::spawn(keep_telling(pulse, limit))))
}

/// The settings are read anew.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd is not told that the settings are read anew"),
    }
}

/// They are in effect, or stay as they were.
pub(super) fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// The server ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Asks and tells three times in the time after which systemd ends a service that is silent.
async fn keep_telling(pulse: Pulse, limit: Duration) {
    let every = limit / 3;
    loop {
        let beats = pulse.beats(every).await;
        if beats {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(
                "a shard does not answer; the watchdog of systemd is not told that the server is alive"
            );
        }
        tokio::time::sleep(pause(every, beats)).await;
    }
}

/// How long to wait before the next question: a shard that was late by a little is asked again while there is time.
fn pause(every: Duration, beats: bool) -> Duration {
    if beats {
        every
    } else {
        every.min(AFTER_SILENCE)
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told how the server is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_is_late_is_asked_again_before_the_time_is_over() {
        let every = Duration::from_secs(10);
        assert_eq!(pause(every, true), every);
        assert_eq!(pause(every, false), Duration::from_secs(1));
        let short = Duration::from_millis(300);
        assert_eq!(pause(short, false), short);
    }
}
