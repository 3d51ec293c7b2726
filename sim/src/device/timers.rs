/// Everything that a device waits for, each at most once at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// A restart is over.
    Boot,
    /// The outstanding CoAP message is repeated or given up.
    Exchange,
    /// The registration is due, for the first time or again.
    Registration,
    /// The awake window ends.
    Sleep,
    /// The sleep ends.
    Wake,
    /// What the upgrade client put off is due.
    Later,
    /// The upgrade client's last message has gone unanswered for too long.
    Repeat,
    /// The network is back.
    Network,
    /// The next block is due to be asked for, or to be asked for again.
    Download,
    /// What is to happen next with an object is due.
    Object,
    /// What is observed has not changed for as long as may be.
    Unchanged,
}

const ALL: [Timer; 11] = [
    Timer::Boot,
    Timer::Exchange,
    Timer::Registration,
    Timer::Sleep,
    Timer::Wake,
    Timer::Later,
    Timer::Repeat,
    Timer::Network,
    Timer::Download,
    Timer::Object,
    Timer::Unchanged,
];

const UNSET: u64 = u64::MAX;

/// One deadline in milliseconds per [`Timer`].
#[derive(Debug, Clone)]
pub(super) struct Timers([u64; ALL.len()]);

impl Timers {
    pub(super) const fn new() -> Self {
        Self([UNSET; ALL.len()])
    }

    /// Sets the timer, or sets it anew. A deadline beyond the end of time is none.
    pub(super) const fn set(&mut self, timer: Timer, now_ms: u64, delay_ms: u64) {
        self.0[timer as usize] = now_ms.saturating_add(delay_ms);
    }

    pub(super) const fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = UNSET;
    }

    pub(super) const fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize] != UNSET
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<u64> {
        self.0.into_iter().min().filter(|at| *at != UNSET)
    }

    /// Stops and returns the earliest timer whose deadline has come.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<Timer> {
        let timer = ALL
            .into_iter()
            .filter(|timer| self.is_set(*timer) && self.0[*timer as usize] <= now_ms)
            .min_by_key(|timer| self.0[*timer as usize])?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_comes_first() {
        let mut timers = Timers::new();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Boot, 5, 15);
        timers.set(Timer::Repeat, 5, 5);
        timers.set(Timer::Wake, 5, 25);
        assert_eq!(timers.next(), Some(10));
        assert_eq!(timers.take_due(25), Some(Timer::Repeat));
        assert_eq!(timers.take_due(25), Some(Timer::Boot));
        assert_eq!(timers.take_due(25), None);
        timers.stop(Timer::Wake);
        assert_eq!(timers.next(), None);
    }
}
