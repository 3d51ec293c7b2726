//! What an operator may have meant by a product that nobody knows.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::client::{Client, CommandError};

/// Names that are less alike are no typing errors of each other.
const ALIKE: f64 = 0.8;
/// Names that are told.
const TOLD: usize = 3;

#[derive(Debug, Deserialize)]
struct ProductView {
    product: String,
}

/// Names out of `known` that are written much like `wanted`, the likest first.
pub(super) fn similar<'k>(wanted: &str, known: impl IntoIterator<Item = &'k str>) -> Vec<&'k str> {
    let wanted = wanted.to_lowercase();
    let mut alike: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    alike.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    alike.into_iter().map(|(_, name)| name).take(TOLD).collect()
}

/// The products that packages are for.
pub(super) fn products(client: &Client) -> Result<BTreeSet<String>, CommandError> {
    let (packages, _) = client.list("/v1/packages", &[], usize::MAX)?;
    packages
        .iter()
        .map(|package| client.view(package).map(|view: ProductView| view.product))
        .collect()
}

/// That no package is for `product`, and which out of `known` it may have been meant to be.
pub(super) fn unknown<'k>(product: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let alike = similar(product, known);
    if alike.is_empty() {
        format!("no package is for product {product}")
    } else {
        format!(
            "no package is for product {product}; did you mean {}?",
            alike.join(" or ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_much_alike_is_told_likest_first() {
        let known = ["meter", "meters", "valve", "Meter-2"];
        assert_eq!(similar("metre", known), ["meter", "meters", "Meter-2"]);
        assert_eq!(similar("METER", known)[0], "meter");
        assert_eq!(similar("lamp", known), [""; 0]);
    }
}
