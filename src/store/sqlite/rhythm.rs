//! The form in which it is stored when a device comes by: a JSON object.

use serde::{Serialize, de::DeserializeOwned};

use super::rows;
use crate::store::StoreError;

/// `None` where there is nothing.
pub(super) fn write(it: Option<impl Serialize>) -> Option<String> {
    it.map(|it| rows::json(&it))
}

pub(super) fn read<T: DeserializeOwned>(
    column: &'static str,
    stored: Option<&str>,
) -> Result<Option<T>, StoreError> {
    let read = |stored| {
        serde_json::from_str(stored)
            .map_err(|error| rows::unreadable(column, format!("{stored}: {error}")))
    };
    stored.map(read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::UtcMillis,
        ledger::{Appointment, UpdateTimer, WakeUps},
    };

    /// What was written by an earlier version is in databases: do not change.
    #[test]
    fn the_form_stays() {
        let wake_ups = WakeUps {
            last_at: UtcMillis(5),
            period_s: 21_600,
            spread_s: 7,
            seen: 3,
        };
        let form = r#"{"last_at":5,"period_s":21600,"spread_s":7,"seen":3}"#;
        assert_eq!(write(Some(wake_ups)).as_deref(), Some(form));
        assert_eq!(read("x", Some(form)).unwrap(), Some(wake_ups));
        let appointment = Appointment {
            usual_s: 86_400,
            written_s: 3_693,
            at: Some(UtcMillis(9)),
            timer: UpdateTimer::BeforeEnd,
        };
        let form = r#"{"usual_s":86400,"written_s":3693,"at":9,"timer":"before_end"}"#;
        assert_eq!(write(Some(appointment)).as_deref(), Some(form));
        assert_eq!(read("x", Some(form)).unwrap(), Some(appointment));
        assert!(read::<Appointment>("devices.appointment", Some("{}")).is_err());
    }
}
