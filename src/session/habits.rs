//! What the devices of a product do, learnt from what they did.

use std::time::Duration;

use crate::ledger::{Mean, ProductHabits};

/// How long the devices of a product listen after a message, and how long they take to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// How long they listen.
    pub listening: Listening,
    install: Mean,
}

impl Habits {
    /// Before anything was measured: from the command to the result.
    const UNMEASURED_INSTALL: Duration = Duration::from_mins(2);

    /// Devices of which nothing is known but what the operator has `assumed`: how long they listen.
    pub fn assumed(listens: Duration) -> Self {
        Self {
            listening: Listening::assumed(listens),
            install: Mean::default(),
        }
    }

    /// How long an installation takes, from the command to the device's report.
    pub fn install(&self) -> Duration {
        (self.install.value()).map_or(Self::UNMEASURED_INSTALL, Duration::from_millis)
    }

    /// An installation that succeeded took so long.
    pub fn installed(&mut self, took: Duration) {
        self.install.add(millis(took));
    }

    /// What is written down of it.
    pub fn learnt(&self) -> ProductHabits {
        let listening = &self.listening;
        ProductHabits {
            answered_ms: millis(listening.answered),
            silent_ms: listening.silent.map(millis),
            tries_after: listening.tries_after,
            install_ms: self.install,
        }
    }

    /// Goes on with what was written down.
    pub fn restore(&mut self, learnt: &ProductHabits) {
        self.install = learnt.install_ms;
        self.listening.restore(learnt);
    }
}

/// Whether what is learnt has moved noticeably since that was written down: a time by an eighth and a second.
pub fn has_moved(now: &ProductHabits, written: &ProductHabits) -> bool {
    let differs = |now: u64, then: u64| now.abs_diff(then) > 1_000.max(then / 8);
    let silent = match (now.silent_ms, written.silent_ms) {
        (Some(now), Some(then)) => differs(now, then),
        (now, then) => now != then,
    };
    silent
        || differs(now.answered_ms, written.answered_ms)
        || now.install_ms.has_moved_from(written.install_ms)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// How long the devices of a product listen after a message was exchanged with them.
///
/// What the operator set is an assumption. A question that is answered shows that the device listened until then. One that is
/// not answered, with all its repeats, shows little by itself, as the radio loses messages too; several show that devices had
/// fallen asleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    assumed: Duration,
    /// The longest silence after which a device has answered.
    answered: Duration,
    /// The shortest after which devices have not.
    silent: Option<Duration>,
    /// Silences in a row that speak for a shorter time, and the shortest of them.
    doubts: u8,
    doubted: Duration,
    /// Answers in a row after about as long as devices are taken to listen, and after how many a longer time is tried.
    sure: u32,
    tries_after: u32,
}

impl Listening {
    /// So many questions in a row are not answered by chance.
    const CONVINCING: u8 = 3;
    /// A longer time is tried after so many answers at the most.
    const LONGEST_TRIAL: u32 = 1 << 20;
    /// No device listens for less: it would hear no answer.
    const SHORTEST: Duration = Duration::from_secs(3);
    /// The first silences that are tried.
    const CAUTIOUS: Duration = Duration::from_secs(15);
    /// Of so many devices one tries longer times, once some have been too long.
    const ONE_IN: u64 = 16;
    /// The first longer time is tried after so many answers.
    const FIRST_TRIAL: u32 = 64;
    /// What is written down of a longer silence is not believed.
    const LONGEST: Duration = Duration::from_hours(24);

    const fn assumed(listens: Duration) -> Self {
        Self {
            assumed: listens,
            answered: Duration::ZERO,
            silent: None,
            doubts: 0,
            doubted: Duration::MAX,
            sure: 0,
            tries_after: Self::FIRST_TRIAL,
        }
    }

    /// The operator assumes something else. What was measured stays.
    pub const fn assume(&mut self, listens: Duration) {
        self.assumed = listens;
    }

    /// How long a device listens.
    pub fn window(&self) -> Duration {
        match self.silent {
            Some(silent) => self.answered.max(silent * 2 / 3).max(Self::SHORTEST),
            None => self.assumed.max(self.answered),
        }
    }

    /// How long a device listens at the most, by all that is known.
    pub fn at_most(&self) -> Duration {
        self.assumed.max(self.answered)
    }

    /// The silence after which a device that is to stay awake is sent something: short enough for a repeat of it. Some devices
    /// try longer ones, by a number of their own: that one was too long shows minutes later, and those who had it are asleep
    /// for hours.
    pub fn ping_after(&self, number: u64) -> Duration {
        // Nothing longer is tried than what is half sure.
        let most = match self.silent {
            Some(_) => self.window() * 2 / 3,
            None => self.window() / 2,
        };
        let longer = (self.answered * 5 / 4).max(Self::CAUTIOUS).min(most);
        if self.silent.is_none() || number.is_multiple_of(Self::ONE_IN) {
            longer
        } else {
            longer.min((self.answered * 3 / 4).max(Self::CAUTIOUS))
        }
    }

    /// Goes on with what was written down, as far as it can be.
    fn restore(&mut self, learnt: &ProductHabits) {
        let answered = Duration::from_millis(learnt.answered_ms).min(Self::LONGEST);
        let silent = learnt.silent_ms.map(Duration::from_millis);
        self.answered = answered;
        self.silent = silent.filter(|silent| (answered..=Self::LONGEST).contains(silent));
        self.tries_after = (learnt.tries_after).clamp(Self::FIRST_TRIAL, Self::LONGEST_TRIAL);
    }

    /// A device has answered what it was asked after a silence of that length.
    pub fn answered_after(&mut self, silence: Duration) {
        self.answered = self.answered.max(silence);
        if silence >= self.doubted {
            (self.doubts, self.doubted) = (0, Duration::MAX);
        }
        self.silent = self.silent.filter(|silent| *silent > self.answered);
        if silence >= self.window() / 2 {
            self.sure += 1; // it begins anew before it is too large
        }
        // What was taken for sleep may have been a bad hour.
        if self.sure >= self.tries_after {
            self.sure = 0;
            self.silent = self.silent.map(|silent| silent * 9 / 8);
        }
    }

    /// A device has not answered what it was asked after a silence of that length, however often it was repeated.
    pub fn silent_after(&mut self, silence: Duration) {
        if silence < Self::SHORTEST {
            return; // it has not slept, it was not reached
        }
        self.doubts = self.doubts.saturating_add(1);
        self.doubted = self.doubted.min(silence);
        self.sure = 0;
        if self.doubts < Self::CONVINCING {
            return;
        }
        let silent = self.doubted;
        // They may listen for a shorter time than they did: with another software, for one.
        if self.answered >= silent {
            self.answered = silent * 2 / 3;
        }
        self.tries_after = (self.tries_after * 2).min(Self::LONGEST_TRIAL);
        self.silent = Some(self.silent.map_or(silent, |known| known.min(silent)));
        (self.doubts, self.doubted) = (0, Duration::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Devices that listen for `window`, asked again and again as it is found out.
    fn learn(listening: &mut Listening, window: Duration, times: u32) {
        for _ in 0..times {
            let silence = listening.ping_after(0);
            if silence < window {
                listening.answered_after(silence);
            } else {
                listening.silent_after(silence);
            }
        }
    }

    #[test]
    fn what_was_assumed_holds_until_devices_show_otherwise() {
        let mut listening = Listening::assumed(s(93));
        assert_eq!(listening.window(), s(93));
        assert_eq!(listening.ping_after(0), s(15));
        listening.silent_after(s(80));
        listening.silent_after(s(70));
        assert_eq!(listening.window(), s(93));
        listening.silent_after(s(75));
        assert!(listening.window() < s(60), "{listening:?}");
    }

    #[test]
    fn the_window_is_found_from_either_side() {
        for (assumed, real) in [(93, 60), (93, 5), (93, 20), (20, 60), (93, 600)] {
            let mut listening = Listening::assumed(s(assumed));
            learn(&mut listening, s(real), 60);
            assert!(listening.ping_after(0) < s(real), "{listening:?}");
            assert!(
                listening.window() <= s(real.max(assumed))
                    && listening.ping_after(0) * 4 > s(real.min(assumed)),
                "{assumed} {real} {listening:?}"
            );
        }
    }

    #[test]
    fn few_devices_try_how_long_they_may_be_silent() {
        let mut listening = Listening::assumed(s(93));
        listening.answered_after(s(40));
        assert_eq!(listening.ping_after(0), listening.ping_after(1));
        for _ in 0..Listening::CONVINCING {
            listening.silent_after(s(120));
        }
        let after = (0..32).map(|number| listening.ping_after(number));
        let (trying, others): (Vec<_>, Vec<_>) = after.partition(|after| *after > s(40));
        assert_eq!((trying, others), (vec![s(50); 2], vec![s(30); 30]));
    }

    #[test]
    fn devices_that_listen_shorter_than_they_did_are_noticed() {
        let mut listening = Listening::assumed(s(93));
        learn(&mut listening, s(60), 60);
        learn(&mut listening, s(10), 30);
        assert!(listening.ping_after(0) < s(10), "{listening:?}");
    }

    #[test]
    fn what_was_written_down_is_gone_on_with() {
        let mut habits = Habits::assumed(s(93));
        learn(&mut habits.listening, s(20), 60);
        habits.installed(s(45));
        let written = habits.learnt();
        let mut restored = Habits::assumed(s(93));
        assert!(has_moved(&written, &restored.learnt()));
        restored.restore(&written);
        assert_eq!(restored.learnt(), written);
        assert_eq!(restored.install(), s(45));
        assert_eq!(restored.listening.window(), habits.listening.window());
        assert!(!has_moved(&restored.learnt(), &written));
        restored.listening.answered_after(s(600));
        assert!(has_moved(&restored.learnt(), &written));
    }

    #[test]
    fn what_cannot_have_been_learnt_is_not_believed() {
        let mut habits = Habits::assumed(s(93));
        habits.restore(&ProductHabits {
            answered_ms: u64::MAX,
            silent_ms: Some(3),
            tries_after: 0,
            install_ms: Mean::default(),
        });
        habits.listening.answered_after(s(1));
        habits.listening.silent_after(s(10));
        assert_eq!(habits.listening.silent, None);
        assert!(habits.listening.window() <= Duration::from_hours(24));
    }

    #[test]
    fn a_lost_message_is_no_habit() {
        let mut listening = Listening::assumed(s(93));
        for _ in 0..100 {
            listening.silent_after(s(30));
            listening.silent_after(s(30));
            listening.answered_after(s(40));
        }
        assert_eq!(listening.window(), s(93));
    }
}
