//! The clock at the start. Limits of upgrades are stored as times of day: with a clock that is wrong they end at once, or
//! never.

use std::time::Duration;

use super::StartError;
use crate::{
    clock::{SystemClock, UtcMillis},
    store::Store,
};

/// Clocks are set back by as much now and then.
const TOLERANCE_MS: i64 = 60_000;
/// Machines without a battery learn the time from the network, soon after they have started.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A server that was off for longer than this is a rare one.
const FAR_AHEAD_MS: i64 = 400 * 86_400_000;

/// What is wrong with a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// It is before what was stored, by so many ms.
    Behind(i64),
    /// It is long after it, by so many ms.
    Ahead(i64),
}

fn judge(now: UtcMillis, newest: UtcMillis) -> Option<Wrong> {
    match now.0 - newest.0 {
        ahead if ahead > FAR_AHEAD_MS => Some(Wrong::Ahead(ahead)),
        behind if behind < -TOLERANCE_MS => Some(Wrong::Behind(-behind)),
        _ => None,
    }
}

/// What is wrong with a clock that shows `now`, where `newest` was stored last.
pub(super) fn problem(now: UtcMillis, newest: UtcMillis) -> Option<String> {
    Some(match judge(now, newest)? {
        Wrong::Behind(ms) => format!(
            "it is {} s before what was stored last ({newest})",
            ms / 1_000
        ),
        Wrong::Ahead(ms) => format!(
            "it is {} days after what was stored last ({newest})",
            ms / 86_400_000
        ),
    })
}

/// Compares the clock with what was stored last, and waits a while for one that is behind.
pub(super) async fn await_clock(store: &dyn Store) -> Result<(), StartError> {
    let Some(newest) = store.newest_time().await? else {
        return Ok(());
    };
    let mut waited = Duration::ZERO;
    loop {
        let now = SystemClock::start().now().utc;
        match judge(now, newest) {
            None => return Ok(()),
            Some(Wrong::Ahead(ms)) => {
                tracing::warn!(%now, %newest, "the clock is {} days after what was stored last; if it is wrong, stop the \
                    server and set it: limits of upgrades that run out end them", ms / 86_400_000);
                return Ok(());
            }
            Some(Wrong::Behind(ms)) if waited >= PATIENCE => {
                tracing::error!(%now, %newest, "the clock is {} s before what was stored last; the server starts all the \
                    same: limits of upgrades under way last so much longer", ms / 1_000);
                return Ok(());
            }
            Some(Wrong::Behind(ms)) if waited.is_zero() => {
                tracing::error!(%now, %newest, "the clock is {} s before what was stored last; waiting {} s for it to be \
                    set", ms / 1_000, PATIENCE.as_secs());
            }
            Some(Wrong::Behind(_)) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_what_was_stored_last() {
        let newest = UtcMillis(1_800_000_000_000);
        let at = |ms: i64| judge(UtcMillis(newest.0 + ms), newest);
        for fine in [0, -60_000, 1, 400 * 86_400_000] {
            assert_eq!(at(fine), None, "{fine}");
        }
        assert_eq!(at(-60_001), Some(Wrong::Behind(60_001)));
        assert_eq!(
            at(400 * 86_400_000 + 1),
            Some(Wrong::Ahead(400 * 86_400_000 + 1))
        );
    }
}
