use std::collections::BTreeMap;

use arrayvec::ArrayString;
use toml::Table;

use super::{
    Appointments, OtaEvents, OtaKind, Problem, ProductConfig, RsrpUnit, SinrUnit,
    settings::differing, validate::Check,
};
use crate::package::CheckCodeKind;

/// Products that may have settings of their own.
pub const MOST_PRODUCTS: usize = 1_000;

/// What to change about the settings of a product. What is `None` stays as it is; where a setting may be as for all products,
/// `Some(None)` makes it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProductChange {
    /// [`ProductConfig::check_code`].
    pub check_code: Option<CheckCodeKind>,
    /// [`ProductConfig::pad_last_segment`].
    pub pad_last_segment: Option<bool>,
    /// [`ProductConfig::rsrp_unit`].
    pub rsrp_unit: Option<RsrpUnit>,
    /// [`ProductConfig::sinr_unit`].
    pub sinr_unit: Option<SinrUnit>,
    /// [`ProductConfig::awake_window_s`].
    pub awake_window_s: Option<Option<u64>>,
    /// [`ProductConfig::ack_timeout_ms`].
    pub ack_timeout_ms: Option<Option<u64>>,
    /// [`ProductConfig::max_retransmit`].
    pub max_retransmit: Option<Option<u32>>,
    /// [`ProductConfig::pmin_zero`].
    pub pmin_zero: Option<bool>,
    /// [`ProductConfig::appointments`].
    pub appointments: Option<Appointments>,
    /// [`ProductConfig::adaptive`].
    pub adaptive: Option<Option<bool>>,
    /// [`ProductConfig::ota`].
    pub ota: Option<OtaKind>,
    /// [`ProductConfig::ota_events`].
    pub ota_events: Option<OtaEvents>,
    /// [`ProductConfig::iotda_large_downloads`].
    pub iotda_large_downloads: Option<bool>,
    /// [`ProductConfig::fixed_children`].
    pub fixed_children: Option<bool>,
    /// [`ProductConfig::module`].
    pub module: Option<Option<ArrayString<64>>>,
}

impl ProductChange {
    /// The settings as they are then.
    pub fn apply(&self, to: &ProductConfig) -> ProductConfig {
        ProductConfig {
            check_code: self.check_code.unwrap_or(to.check_code),
            pad_last_segment: self.pad_last_segment.unwrap_or(to.pad_last_segment),
            rsrp_unit: self.rsrp_unit.unwrap_or(to.rsrp_unit),
            sinr_unit: self.sinr_unit.unwrap_or(to.sinr_unit),
            awake_window_s: self.awake_window_s.unwrap_or(to.awake_window_s),
            ack_timeout_ms: self.ack_timeout_ms.unwrap_or(to.ack_timeout_ms),
            max_retransmit: self.max_retransmit.unwrap_or(to.max_retransmit),
            pmin_zero: self.pmin_zero.unwrap_or(to.pmin_zero),
            appointments: self.appointments.unwrap_or(to.appointments),
            adaptive: self.adaptive.unwrap_or(to.adaptive),
            ota: self.ota.unwrap_or(to.ota),
            ota_events: self.ota_events.unwrap_or(to.ota_events),
            iotda_large_downloads: self
                .iotda_large_downloads
                .unwrap_or(to.iotda_large_downloads),
            fixed_children: self.fixed_children.unwrap_or(to.fixed_children),
            module: self.module.unwrap_or(to.module),
        }
    }
}

impl ProductConfig {
    /// What of them cannot be worked with: [`Problem::setting`] is the field. The same wherever they come from.
    pub fn problems(&self) -> Vec<Problem> {
        let mut check = Check::default();
        check.product(self, "");
        check.problems
    }
}

/// What settings say of products and does not count, because the database says something else: a sentence for each product.
///
/// A product of which neither says anything peculiar is as all others are.
pub fn not_obeyed(
    settings: &BTreeMap<String, ProductConfig>,
    stored: &BTreeMap<String, ProductConfig>,
) -> Vec<String> {
    let usual = ProductConfig::default();
    let mut told = Vec::new();
    for (name, product) in settings {
        let counts = stored.get(name);
        let differ = differing(&table(product), &table(counts.unwrap_or(&usual)), "");
        if differ.is_empty() {
            continue;
        }
        let (differ, set) = (
            differ.join(", "),
            if counts.is_some() { "set" } else { "add" },
        );
        told.push(format!(
            "products.{name} in the settings is not obeyed: the database says otherwise of {differ}; change that with `cellwise \
             product {set} {name}`, or take products.{name} out of the settings"
        ));
    }
    told
}

fn table(product: &ProductConfig) -> Table {
    Table::try_from(product).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(awake_window_s: u64) -> ProductConfig {
        ProductConfig {
            awake_window_s: Some(awake_window_s),
            pmin_zero: true,
            ..ProductConfig::default()
        }
    }

    #[test]
    fn what_is_left_out_of_a_change_stays() {
        let before = listening(7);
        assert_eq!(ProductChange::default().apply(&before), before);
        let change = ProductChange {
            awake_window_s: Some(None),
            max_retransmit: Some(Some(4)),
            appointments: Some(Appointments::Lifetime),
            adaptive: Some(Some(false)),
            ..ProductChange::default()
        };
        let expected = ProductConfig {
            pmin_zero: true,
            max_retransmit: Some(4),
            appointments: Appointments::Lifetime,
            adaptive: Some(false),
            ..ProductConfig::default()
        };
        assert_eq!(change.apply(&before), expected);
        let all = ProductChange {
            check_code: Some(CheckCodeKind::Zero),
            pad_last_segment: Some(true),
            rsrp_unit: Some(RsrpUnit::Index),
            sinr_unit: Some(SinrUnit::Tenths),
            ack_timeout_ms: Some(Some(5_000)),
            pmin_zero: Some(false),
            ota: Some(OtaKind::Software),
            ota_events: Some(OtaEvents::V2),
            iotda_large_downloads: Some(true),
            fixed_children: Some(true),
            module: Some(ArrayString::from("mcu").ok()),
            ..ProductChange::default()
        };
        let expected = ProductConfig {
            ota: OtaKind::Software,
            ota_events: OtaEvents::V2,
            iotda_large_downloads: true,
            fixed_children: true,
            module: ArrayString::from("mcu").ok(),
            check_code: CheckCodeKind::Zero,
            pad_last_segment: true,
            rsrp_unit: RsrpUnit::Index,
            sinr_unit: SinrUnit::Tenths,
            awake_window_s: Some(7),
            ack_timeout_ms: Some(5_000),
            ..ProductConfig::default()
        };
        assert_eq!(all.apply(&before), expected);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_field() {
        assert_eq!(listening(86_400).problems(), []);
        let wrong = ProductConfig {
            ack_timeout_ms: Some(9),
            max_retransmit: Some(11),
            module: ArrayString::from("m\n").ok(),
            ..listening(0)
        };
        let problems = wrong.problems();
        let fields: Vec<&str> = problems.iter().map(|it| it.setting.as_str()).collect();
        assert_eq!(
            fields,
            [
                "awake_window_s",
                "ack_timeout_ms",
                "max_retransmit",
                "module"
            ]
        );
    }

    #[test]
    fn settings_that_do_not_count_are_told_once_for_each_product() {
        let products = |list: &[(&str, ProductConfig)]| -> BTreeMap<String, ProductConfig> {
            (list.iter())
                .map(|(name, product)| ((*name).to_owned(), *product))
                .collect()
        };
        let usual = ProductConfig::default();
        let stored = products(&[
            ("same", listening(1)),
            ("other", listening(1)),
            ("new", usual),
        ]);
        let settings = products(&[
            ("same", listening(1)),
            ("other", listening(2)),
            ("removed", listening(1)),
            // this one was never created, and nothing is said of it
            ("usual", usual),
        ]);
        let told = not_obeyed(&settings, &stored);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("products.other "), "{told:?}");
        assert!(told[0].contains("otherwise of awake_window_s;"), "{told:?}");
        assert!(told[0].contains("product set other"), "{told:?}");
        assert!(
            told[1].contains(
                "of awake_window_s, pmin_zero; change that with `cellwise product add removed`"
            ),
            "{told:?}"
        );
    }
}
