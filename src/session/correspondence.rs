//! What an attempt can say for itself when it fails: what was sent last, what came back, which limit ran out.

use crate::{
    clock::UtcMillis,
    ledger::{Fate, Line, Misread, Outbound, Repeated, Said, Sent, Stage},
};

/// Facts of one attempt. They are not stored: what a restart forgets, a failure after it does not tell.
#[derive(Debug, Default)]
pub struct Correspondence {
    /// What was sent last.
    pub sent: Option<Sent>,
    /// What the device said last.
    pub said: Option<Said>,
    /// The attempt goes on since a restart at that time.
    pub resumed_at: Option<UtcMillis>,
    /// Questions of the stage that runs, this one included. `None` after a restart in its midst, which forgets them.
    pub tries: Option<usize>,
    /// What was wrong with an answer to the question for its coverage or its cell that could not be read.
    pub not_understood: Option<Misread>,
    /// What was queued, and is told when it leaves.
    announced: Vec<(Outbound, Line)>,
    /// What happened in the stage, and how often: the first time is told at once, the others at its end.
    pub repeated: Vec<(Repeated, u32)>,
    /// The stage that was told last.
    pub told_in: Option<Stage>,
}

impl Correspondence {
    /// Of an attempt that begins.
    pub fn begun() -> Self {
        Self {
            tries: Some(0),
            ..Self::default()
        }
    }

    /// Of an attempt that goes on after a restart at that time.
    pub fn resumed(at: UtcMillis) -> Self {
        Self {
            resumed_at: Some(at),
            tries: None,
            ..Self::default()
        }
    }

    /// A message was queued, which is told when it leaves.
    pub fn announce(&mut self, message: Outbound, line: Line) {
        self.announced.retain(|(other, _)| *other != message);
        self.announced.push((message, line)); // one of each kind that the upgrade sends
    }

    /// A message has left. Returns what is to be told of it.
    pub fn left(&mut self, message: Outbound, at: UtcMillis) -> Option<Line> {
        let told = (self.announced.iter()).position(|(queued, _)| queued.is_like(&message));
        let told = told.map(|index| self.announced.swap_remove(index).1);
        let before = self.sent.take();
        if let Some(before) = before {
            if message.is_aside() && !before.message.is_aside() {
                self.sent = Some(before);
                return told;
            }
            if before.message == message {
                self.sent = Some(Sent {
                    times: before.times.saturating_add(1),
                    at,
                    ..before
                });
                return told;
            }
        }
        self.sent = Some(Sent {
            message,
            times: 1,
            at,
            fate: Fate::Open,
        });
        told
    }

    /// Something became of a message.
    pub fn fared(&mut self, message: &Outbound, fate: Fate) {
        if let Some(sent) = &mut self.sent
            && sent.message.is_like(message)
        {
            sent.fate = fate;
        }
    }

    /// Counts what happened. Returns whether it is the first time in the stage.
    pub fn count(&mut self, what: Repeated) -> bool {
        if let Some((_, count)) = self.repeated.iter_mut().find(|(known, _)| *known == what) {
            *count = count.saturating_add(1);
            return false;
        }
        self.repeated.push((what, 1));
        true
    }
}
