use crate::config::AdmissionConfig;

/// A device's radio coverage, as it reported it (LwM2M object 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coverage {
    /// Cell ID, /4/0/8.
    pub cell: Option<u32>,
    /// Radio signal strength, dBm, /4/0/2.
    pub rsrp_dbm: Option<i32>,
    /// Signal to noise, dB, /4/0/11.
    pub sinr_db: Option<i32>,
}

/// What an NB-IoT modem can measure.
const PLAUSIBLE_RSRP_DBM: std::ops::RangeInclusive<i32> = -156..=-44;
const PLAUSIBLE_SINR_DB: std::ops::RangeInclusive<i32> = -20..=40;

impl Coverage {
    /// RSRP and SINR, when both are there and plausible.
    ///
    /// Some firmware has no SINR resource at all, or answers a constant such as 80.
    pub fn measured(&self) -> Option<(i32, i32)> {
        let rsrp = self.rsrp_dbm.filter(|v| PLAUSIBLE_RSRP_DBM.contains(v))?;
        let sinr = self.sinr_db.filter(|v| PLAUSIBLE_SINR_DB.contains(v))?;
        Some((rsrp, sinr))
    }

    /// How many devices of a cell may upgrade at once for this device to be one of them.
    ///
    /// The table is Huawei IoTDA's (Upgrade Guide, "LwM2M/CoAP software upgrade"); the bounds of its
    /// ranges and the limits are settings.
    pub fn limit(&self, config: &AdmissionConfig) -> u32 {
        let Some((rsrp, sinr)) = self.measured() else {
            return config.limit_unmeasured;
        };
        let rsrp_range = range(rsrp, config.rsrp_range0_dbm, config.rsrp_range1_dbm);
        let sinr_range = range(sinr, config.sinr_range0_db, config.sinr_range1_db);
        match (rsrp_range, sinr_range) {
            (0, 0) => config.limit_good,
            (0, 1) => config.limit_fair,
            (1, 2) => config.limit_weak,
            _ => config.limit_other,
        }
    }
}

const fn range(value: i32, range0_from: i32, range1_from: i32) -> u8 {
    if value >= range0_from {
        0
    } else if value >= range1_from {
        1
    } else {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(rsrp_dbm: Option<i32>, sinr_db: Option<i32>) -> u32 {
        Coverage {
            cell: Some(1),
            rsrp_dbm,
            sinr_db,
        }
        .limit(&AdmissionConfig::default())
    }

    #[test]
    fn the_limit_follows_the_table() {
        for (rsrp, sinr, expected) in [
            (-105, 7, 50),
            (-44, 40, 50),
            (-105, 6, 10),
            (-105, -3, 10),
            (-105, -4, 1),
            (-106, 7, 1),
            (-115, -3, 1),
            (-115, -4, 1),
            (-116, 20, 1),
            (-156, -20, 1),
        ] {
            assert_eq!(limit(Some(rsrp), Some(sinr)), expected, "{rsrp} {sinr}");
        }
    }

    #[test]
    fn an_implausible_or_missing_value_is_not_measurable() {
        for (rsrp, sinr) in [
            (Some(80), Some(10)),
            (Some(-157), Some(10)),
            (Some(-43), Some(10)),
            (Some(-90), Some(41)),
            (Some(-90), Some(-21)),
            (Some(-90), None),
            (None, Some(10)),
            (None, None),
        ] {
            assert_eq!(limit(rsrp, sinr), 10, "{rsrp:?} {sinr:?}");
        }
    }
}
