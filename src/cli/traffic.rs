//! What upgrades have cost on the air, in a line.

use serde::Deserialize;

/// What is shown of it.
#[derive(Debug, Deserialize)]
pub(super) struct TrafficView {
    bytes_down: u64,
    bytes_up: u64,
    repeats_down: u64,
    repeats_up: u64,
    active_seconds: f64,
    airtime_estimated_seconds: f64,
}

impl TrafficView {
    /// The line; `None` where nothing was exchanged.
    pub(super) fn line(&self) -> Option<String> {
        if self.bytes_down + self.bytes_up == 0 {
            return None;
        }
        Some(format!(
            "traffic: {} bytes down, {} bytes up, {} and {} messages repeated, active for {:.0} s, {:.1} s of airtime (estimated)",
            self.bytes_down,
            self.bytes_up,
            self.repeats_down,
            self.repeats_up,
            self.active_seconds,
            self.airtime_estimated_seconds,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_was_exchanged_if_anything_was() {
        let view = |bytes_down| TrafficView {
            bytes_down,
            bytes_up: 0,
            repeats_down: 2,
            repeats_up: 1,
            active_seconds: 12.4,
            airtime_estimated_seconds: 3.25,
        };
        assert_eq!(view(0).line(), None);
        let line = view(9).line().unwrap();
        assert!(
            line.ends_with("active for 12 s, 3.2 s of airtime (estimated)"),
            "{line}"
        );
    }
}
