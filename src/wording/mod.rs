//! What codes and their arguments mean, in sentences: made where people read, and nowhere before.

mod ending;
mod limit;
mod line;
mod misread;
mod object;
mod task;
#[cfg(test)]
mod tests;

pub use ending::{ending, outcome};
pub use limit::limit_changed;
pub use line::line;
pub use task::{after_take_back, hold, never_fits, not_yet, put_off, share, stand, stopped_for};

use crate::ledger::Told;

/// How an attempt ended, as the store tells it.
pub fn told(reason: &str, told: &Told) -> String {
    match told {
        Told::Facts(facts) => ending(reason, facts),
        Told::Sentence(sentence) => sentence.clone(),
    }
}
