use serde::{Deserialize, Serialize};

/// What a plan asks of a device before it is upgraded. Whoever has the device in hand judges it: the device, or its gateway, which
/// refuses where it does not hold ([`Refusal`](super::Refusal)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conditions {
    /// Its battery is charged to so many percent at least, 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery_percent: Option<u8>,
    /// It has so much space left at least, KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space_kib: Option<u32>,
    /// Its signal is so strong at least, dBm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_dbm: Option<i16>,
}

impl Conditions {
    /// Nothing is asked.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// As JSON; empty where nothing is asked.
    pub fn to_json(self) -> String {
        if self.are_none() {
            return String::new();
        }
        // numbers have a form in JSON
        serde_json::to_string(&self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_is_not_told() {
        assert_eq!(Conditions::default().to_json(), "");
        let asked = Conditions {
            battery_percent: Some(30),
            space_kib: None,
            signal_dbm: Some(-110),
        };
        assert_eq!(
            asked.to_json(),
            r#"{"battery_percent":30,"signal_dbm":-110}"#
        );
        assert_eq!(
            serde_json::from_str::<Conditions>("{}").unwrap(),
            Conditions::default()
        );
    }
}
