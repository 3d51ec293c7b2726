use std::collections::BTreeMap;

use arrayvec::ArrayString;
use toml::Table;

use super::{
    Appointments, Delivery, OtaEvents, OtaKind, Problem, ProductConfig, ResourceText, RsrpUnit,
    SinrUnit, UpdateBy, UriScheme, settings::differing, validate::Check,
};
use crate::package::CheckCodeKind;

/// Products that may have settings of their own.
pub const MOST_PRODUCTS: usize = 1_000;

/// Hands each setting of a product, as `name: type`, to the macro `with`. Whatever takes all settings from one form to another is made of this
/// list, and does not compile where one of the two has another one.
macro_rules! each_product_setting {
    ($with:ident) => {
        $with! {
            check_code: CheckCodeKind,
            pad_last_segment: bool,
            rsrp_unit: RsrpUnit,
            sinr_unit: SinrUnit,
            awake_window_s: Option<u64>,
            ack_timeout_ms: Option<u64>,
            max_retransmit: Option<u32>,
            pmin_zero: bool,
            appointments: Appointments,
            adaptive: Option<bool>,
            ota: OtaKind,
            ota_events: OtaEvents,
            iotda_large_downloads: bool,
            fixed_children: bool,
            per_gateway: Option<u32>,
            module: Option<ArrayString<64>>,
            update_by: UpdateBy,
            delivery: Delivery,
            push_max_bytes: Option<u64>,
            uri_scheme: Option<UriScheme>,
            version_resource: Option<ResourceText>,
        }
    };
}
pub(crate) use each_product_setting;

macro_rules! product_change {
    ($($name:ident: $kind:ty,)*) => {
        /// What to change about the settings of a product. What is `None` stays as it is; where a setting may be as for all products,
        /// `Some(None)` makes it so.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct ProductChange {
            $(
                #[doc = concat!("[`ProductConfig::", stringify!($name), "`].")]
                pub $name: Option<$kind>,
            )*
        }

        impl ProductChange {
            /// The settings as they are then.
            pub fn apply(&self, to: &ProductConfig) -> ProductConfig {
                ProductConfig {
                    $($name: self.$name.unwrap_or(to.$name),)*
                }
            }
        }
    };
}
each_product_setting!(product_change);

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
    use crate::config::PUSH_MAX_BYTES;

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
            update_by: Some(UpdateBy::Software),
            delivery: Some(Delivery::Push),
            push_max_bytes: Some(Some(9_000)),
            uri_scheme: Some(Some(UriScheme::Coaps)),
            version_resource: Some(ResourceText::from("/3/0/3").ok()),
            ..ProductChange::default()
        };
        let expected = ProductConfig {
            ota: OtaKind::Software,
            ota_events: OtaEvents::V2,
            iotda_large_downloads: true,
            fixed_children: true,
            module: ArrayString::from("mcu").ok(),
            update_by: UpdateBy::Software,
            delivery: Delivery::Push,
            push_max_bytes: Some(9_000),
            uri_scheme: Some(UriScheme::Coaps),
            version_resource: ResourceText::from("/3/0/3").ok(),
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
            push_max_bytes: Some(PUSH_MAX_BYTES + 1),
            version_resource: ResourceText::from("/3/0").ok(),
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
                "module",
                "push_max_bytes",
                "version_resource"
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
