use crate::config::{AdmissionConfig, ClassRule, RadioUnits, RsrpUnit, SinrUnit};

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
    /// What a device has told: its cell, and RSRP and SINR in those units.
    pub fn told(
        cell: Option<u32>,
        rsrp: Option<i32>,
        sinr: Option<i32>,
        units: RadioUnits,
    ) -> Self {
        Self {
            cell,
            rsrp_dbm: rsrp.and_then(|told| rsrp_dbm(told, units.rsrp)),
            sinr_db: sinr.map(|told| match units.sinr {
                SinrUnit::Db => told,
                SinrUnit::Tenths => of_tenths(told),
            }),
        }
    }

    /// RSRP and SINR, when both are there and plausible.
    ///
    /// Some firmware has no SINR resource at all, or answers a constant such as 80.
    pub fn measured(&self) -> Option<(i32, i32)> {
        let rsrp = self.rsrp_dbm.filter(|v| PLAUSIBLE_RSRP_DBM.contains(v))?;
        let sinr = self.sinr_db.filter(|v| PLAUSIBLE_SINR_DB.contains(v))?;
        Some((rsrp, sinr))
    }

    /// A coarse measure for comparisons between devices that no setting changes: 0 where nothing was measured, else the third of
    /// Huawei IoTDA's table that RSRP and SINR are in, 1 (good and good) to 9.
    pub fn band(&self) -> u8 {
        self.measured().map_or(0, |(rsrp, sinr)| {
            1 + 3 * range(rsrp, -105, -115) + range(sinr, 7, -3)
        })
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
        match (config.class_rule, rsrp_range, sinr_range) {
            (_, 0, 0) => config.limit_good,
            (ClassRule::Table, 0, 1) | (ClassRule::Weaker, 0 | 1, 0 | 1) => config.limit_fair,
            (ClassRule::Table, 1, 2) | (ClassRule::Weaker, ..) => config.limit_weak,
            (ClassRule::Table, ..) => config.limit_other,
        }
    }
}

/// `None` for an index that says that nothing was measured, or that is none.
fn rsrp_dbm(told: i32, unit: RsrpUnit) -> Option<i32> {
    match unit {
        RsrpUnit::Dbm => Some(whole_of_byte(told)),
        RsrpUnit::Tenths => Some(of_tenths(told)),
        // 3GPP TS 36.133 table 9.1.4-1, by the lower bound of the step: 1 is from −140 to −139 dBm, 97 from −44 dBm
        // on. Where coverage is enhanced it goes on below: −1 is from −141 dBm on, −17 is below −156 dBm.
        RsrpUnit::Index => match told {
            0..=97 => Some(told - 141),
            -16..=-1 => Some(told - 140),
            -17 => Some(-156),
            _ => None,
        },
    }
}

/// Some firmware keeps it in 8 bits, so that −135 arrives as 121: 256 too much, where only that makes it plausible.
fn whole_of_byte(dbm: i32) -> i32 {
    let whole = dbm.saturating_sub(256);
    if (0..=255).contains(&dbm) && PLAUSIBLE_RSRP_DBM.contains(&whole) {
        whole
    } else {
        dbm
    }
}

/// Rounded to the nearest, and halves away from zero.
const fn of_tenths(told: i32) -> i32 {
    told.saturating_add(5 * told.signum()) / 10
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
    fn bands_are_thirds_of_the_table() {
        let band = |rsrp_dbm, sinr_db| {
            let (rsrp_dbm, sinr_db) = (Some(rsrp_dbm), Some(sinr_db));
            Coverage {
                cell: None,
                rsrp_dbm,
                sinr_db,
            }
            .band()
        };
        assert_eq!(Coverage::default().band(), 0);
        assert_eq!(
            [band(-90, 10), band(-110, 10), band(-90, 0), band(-120, -9)],
            [1, 4, 2, 9]
        );
    }

    #[test]
    fn by_the_weaker_of_the_two_every_pair_has_a_class() {
        let rules = AdmissionConfig {
            class_rule: ClassRule::Weaker,
            limit_good: 50,
            limit_fair: 10,
            limit_weak: 2,
            limit_other: 99,
            ..AdmissionConfig::default()
        };
        let limit = |rsrp_dbm, sinr_db| {
            let coverage = Coverage {
                cell: Some(1),
                rsrp_dbm,
                sinr_db,
            };
            coverage.limit(&rules)
        };
        for (rsrp, [clear, fair, noisy]) in [
            (-105, [50, 10, 2]),
            (-106, [10, 10, 2]),
            (-115, [10, 10, 2]),
            (-116, [2, 2, 2]),
        ] {
            assert_eq!(limit(Some(rsrp), Some(7)), clear, "{rsrp}");
            assert_eq!(limit(Some(rsrp), Some(6)), fair, "{rsrp}");
            assert_eq!(limit(Some(rsrp), Some(-3)), fair, "{rsrp}");
            assert_eq!(limit(Some(rsrp), Some(-4)), noisy, "{rsrp}");
        }
        assert_eq!(limit(Some(-90), None), 10);
    }

    fn told(rsrp: i32, sinr: i32, units: RadioUnits) -> (Option<i32>, Option<i32>) {
        let coverage = Coverage::told(Some(1), Some(rsrp), Some(sinr), units);
        (coverage.rsrp_dbm, coverage.sinr_db)
    }

    #[test]
    fn a_signal_strength_of_8_bits_is_mended_where_only_that_makes_it_plausible() {
        for (arrives, dbm) in [
            (121, -135),
            (100, -156),
            (161, -95),
            (212, -44),
            // as it is: plausible already, or implausible either way
            (-135, -135),
            (-44, -44),
            (99, 99),
            (80, 80),
            (0, 0),
            (213, 213),
            (255, 255),
            (256, 256),
            (-1, -1),
            (i32::MIN, i32::MIN),
        ] {
            assert_eq!(told(arrives, 7, RadioUnits::default()).0, Some(dbm));
        }
        // what would have had the limit of what cannot be measured
        let coverage = Coverage::told(Some(1), Some(121), Some(-8), RadioUnits::default());
        assert_eq!(coverage.limit(&AdmissionConfig::default()), 1);
    }

    #[test]
    fn values_are_converted_from_the_units_of_the_product() {
        let tenths = RadioUnits {
            rsrp: RsrpUnit::Tenths,
            sinr: SinrUnit::Tenths,
        };
        for (rsrp, sinr, expected) in [
            (-1_057, 73, (-106, 7)),
            (-1_054, 65, (-105, 7)),
            (-1_055, -35, (-106, -4)),
            (-950, -34, (-95, -3)),
            (0, 4, (0, 0)),
            (i32::MIN, i32::MAX, (i32::MIN / 10, i32::MAX / 10)),
        ] {
            let (dbm, db) = expected;
            assert_eq!(told(rsrp, sinr, tenths), (Some(dbm), Some(db)));
        }
        let index = RadioUnits {
            rsrp: RsrpUnit::Index,
            sinr: SinrUnit::Db,
        };
        for (index_told, dbm) in [
            (97, Some(-44)),
            (46, Some(-95)),
            (1, Some(-140)),
            (0, Some(-141)),
            (-1, Some(-141)),
            (-16, Some(-156)),
            (-17, Some(-156)),
            (-18, None),
            (98, None),
            (255, None), // not known
        ] {
            assert_eq!(told(index_told, 7, index), (dbm, Some(7)), "{index_told}");
        }
        assert_eq!(Coverage::told(None, None, None, index), Coverage::default());
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
