use std::cmp::Ordering;

/// The order of texts in which numbers within them count as numbers: `V1.9` comes before `V1.10`.
///
/// It is a total order. Only texts that are the same are equal: where nothing but leading zeros differs (`1.0` and `1.00`),
/// the bytes decide. Bytes that are no digits, and digits beside them, compare as bytes.
pub fn natural_cmp(a: &str, b: &str) -> Ordering {
    by_numbers(a.as_bytes(), b.as_bytes()).then_with(|| a.cmp(b))
}

fn by_numbers(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let (Some(first), Some(second)) = (a.first(), b.first()) else {
            return a.len().cmp(&b.len());
        };
        let order = if first.is_ascii_digit() && second.is_ascii_digit() {
            let (one, two);
            (one, a) = number(a);
            (two, b) = number(b);
            one.len().cmp(&two.len()).then_with(|| one.cmp(two))
        } else {
            let order = first.cmp(second);
            (a, b) = (&a[1..], &b[1..]);
            order
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// The digits at the beginning without leading zeros, and what follows them.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_within_a_text_compare_as_numbers() {
        let ordered = [
            "",
            "1",
            "1.0",
            "1.00",
            "1.2",
            "1.10",
            "2",
            "18446744073709551616",
            "18446744073709551617",
            "V1.9",
            "V1.9-rc1",
            "V1.9a",
            "V1.10",
            "V01.11",
            "V2",
            "v1",
            "é",
        ];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(natural_cmp(a, b), i.cmp(&j), "{a} {b}");
            }
        }
    }

    /// Few characters, so that texts are alike.
    fn text() -> impl Strategy<Value = String> {
        let few = proptest::collection::vec(
            proptest::sample::select(vec!['0', '1', '9', '.', 'a', 'é']),
            0..6,
        );
        few.prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn only_the_same_text_is_equal(a in text(), b in text()) {
            prop_assert_eq!(natural_cmp(&a, &b).is_eq(), a == b);
        }

        #[test]
        fn the_order_is_antisymmetric(a in text(), b in text()) {
            prop_assert_eq!(natural_cmp(&a, &b), natural_cmp(&b, &a).reverse());
        }

        #[test]
        fn the_order_is_transitive(a in text(), b in text(), c in text()) {
            let mut three = [a, b, c];
            three.sort_by(|a, b| natural_cmp(a, b));
            prop_assert!(natural_cmp(&three[0], &three[2]).is_le());
            prop_assert!(natural_cmp(&three[0], &three[1]).is_le());
            prop_assert!(natural_cmp(&three[1], &three[2]).is_le());
        }
    }
}
