pub(crate) mod random;

use proptest::prelude::*;

use super::*;
use random::{Device, T0, device, filter};

/// What a text is displayed as once it is understood.
fn canonical(text: &str) -> String {
    match Filter::parse(text) {
        Ok(filter) => filter.to_string(),
        Err(error) => panic!("{text}: {error}"),
    }
}

fn matches(text: &str, device: &Device) -> bool {
    Filter::parse(text).unwrap().matches(device, T0)
}

#[test]
fn what_is_the_same_has_one_canonical_text() {
    for (text, expected) in [
        ("product==meter", "product==meter"),
        (" product == 'meter' ", "product==meter"),
        ("product==a;site==b,cell==7", "product==a;site==b,cell==7"),
        (
            "product==a AND (site==b or cell==7)",
            "product==a;(site==b,cell==7)",
        ),
        (
            "((product==a;(site==b)));cell==007",
            "product==a;site==b;cell==7",
        ),
        (
            "product==a and(site==b)or(cell==7)",
            "product==a;site==b,cell==7",
        ),
        (
            "version=ge=V1.2;version=lt=V2;rsrp=le=-110;sinr=gt=-3",
            "version>=V1.2;version<V2;rsrp<=-110;sinr>-3",
        ),
        (
            "tag.a-b_c.d=in=(x, \"y z\" ,'')",
            r"tag.a-b_c.d=in=(x,y\ z,'')",
        ),
        ("site=out=('it\\'s')", r"site=out=(it\'s)"),
        ("site=='a b c d'", "site=='a b c d'"),
        (r"site==\*a**b*", r"site==\*a*b*"),
        (r"site=='*'", "site==*"),
        ("site!=**", "site!=*"),
        (
            "registered==TRUE;secure!=false",
            "registered==true;secure!=false",
        ),
        ("last_heard<-7d;created>-90m", "last_heard<-7d;created>-90m"),
        (
            "created>2027-03-01T02:00:00+08:00",
            "created>2027-02-28T18:00:00Z",
        ),
        (
            "created=='2027-03-01 02:00:00.5Z'",
            "created==2027-03-01T02:00:00.5Z",
        ),
        (
            "created=in=(2027-03-01T02:00:00Z,-1w)",
            "created=in=(2027-03-01T02:00:00Z,-1w)",
        ),
        ("product==band", "product==band"),
        ("product==or or product==and", "product==or,product==and"),
    ] {
        assert_eq!(canonical(text), expected, "{text}");
        assert_eq!(canonical(expected), expected);
    }
}

#[test]
fn errors_say_where_and_what_is_expected() {
    for (text, position, reason) in [
        ("", 1, "a comparison is expected, such as"),
        ("  ", 3, "a comparison is expected, such as"),
        ("product", 8, "a comparison is expected: =="),
        ("product=meter", 8, "a comparison is expected: =="),
        ("product=like=meter", 8, "a comparison is expected: =="),
        ("product==", 10, "a value is expected"),
        ("product==;site==a", 10, "a value is expected"),
        (
            "product==a=b",
            11,
            "; (and), , (or), or the end is expected",
        ),
        (
            "product==a b",
            12,
            "; (and), , (or), or the end is expected",
        ),
        (
            "product==a android==b",
            12,
            "; (and), , (or), or the end is expected",
        ),
        ("product==a and", 15, "a comparison is expected"),
        ("(product==a", 12, "; (and), , (or) or ) is expected"),
        ("product==a)", 11, "; (and), , (or), or the end is expected"),
        ("ä==1", 1, "a comparison is expected, such as"),
        (
            "'ä'=='ä' or colour==red",
            1,
            "a comparison is expected, such as",
        ),
        (
            "site=='ä' or colour==red",
            14,
            "one of endpoint, product, model",
        ),
        ("Product==a", 1, "one of endpoint, product, model"),
        ("tag.==a", 5, "the key of a tag has 1 to 64 characters"),
        (
            "cell==abc",
            7,
            "a whole number is expected for cell, 0 to 4294967295",
        ),
        ("cell==-1", 7, "a whole number is expected"),
        ("cell==+1", 7, "a whole number is expected"),
        ("cell==4294967296", 7, "a whole number is expected"),
        ("cell==1*", 7, "a whole number is expected"),
        ("rsrp=in=(-1,x)", 13, "a whole number is expected for rsrp"),
        (
            "registered==yes",
            13,
            "true or false is expected for registered",
        ),
        ("registered<true", 11, "registered is compared by == or !="),
        (
            "registered=in=(true)",
            11,
            "registered is compared by == or !=",
        ),
        ("created>yesterday", 9, "a time is expected for created"),
        ("created>2027-03-01", 9, "a time is expected"),
        ("created>2027-03-01T02:00:00", 9, "a time is expected"),
        ("created>-7y", 9, "a time is expected"),
        ("created>-+7d", 9, "a time is expected"),
        ("created>-d", 9, "a time is expected"),
        ("created>-", 9, "a time is expected"),
        ("created>-99999999999d", 9, "a time is expected"),
        ("site=in=a", 9, "a list is expected, such as (a,b)"),
        ("site=in=()", 10, "a value is expected"),
        ("site=in=(a,)", 12, "a value is expected"),
        ("site=in=(a", 11, ", or ) is expected"),
        ("site=in=(a*)", 10, "* is possible with == and != only"),
        ("version<V1*", 9, "* is possible with == and != only"),
        ("site=='a", 9, "' is expected"),
        ("site==a\\", 9, "a character is expected behind \\"),
        (
            "site=='a\u{7}'",
            9,
            "a character is expected that texts may have",
        ),
        (
            "site=='a\\\n'",
            10,
            "a character is expected that texts may have",
        ),
    ] {
        let error = Filter::parse(text).unwrap_err();
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.reason.contains(reason), "{text}: {error}");
    }
    let error = Filter::parse("cell==x").unwrap_err().to_string();
    assert!(
        error.starts_with("at character 7: a whole number"),
        "{error}"
    );
}

#[test]
fn what_is_larger_than_a_filter_may_be_is_refused() {
    type OfSize = fn(usize) -> String;
    let bounds: [(OfSize, usize, &str); 5] = [
        (
            |n| format!("site=={}", "x".repeat(n - 6)),
            MAX_CHARACTERS,
            "4096 characters",
        ),
        (
            |n| vec!["cell==1"; n].join(";"),
            MAX_COMPARISONS,
            "100 comparisons",
        ),
        (
            |n| format!("cell=in=({})", vec!["1"; n].join(",")),
            MAX_VALUES,
            "200 values",
        ),
        (
            |n| format!("{}cell==1{}", "(".repeat(n), ")".repeat(n)),
            MAX_DEPTH,
            "32 parentheses",
        ),
        (
            |n| format!("tag.{}==1", "k".repeat(n)),
            MAX_TAG_KEY,
            "64 characters",
        ),
    ];
    for (text, most, reason) in bounds {
        assert_eq!(Filter::parse(&text(most)).err(), None, "{reason}");
        let error = Filter::parse(&text(most + 1)).unwrap_err();
        assert!(error.reason.contains(reason), "{error}");
    }
    let deep = "(".repeat(1_000_000);
    assert!(Filter::parse(&deep).is_err());
}

#[test]
fn and_binds_stronger_than_or() {
    let device = Device {
        product: "meter".to_owned(),
        cell: Some(7),
        ..Device::default()
    };
    assert!(matches("product==meter,cell==1;cell==2", &device));
    assert!(!matches("(product==meter,cell==1);cell==2", &device));
    assert!(matches("cell==1;cell==2,product==meter", &device));
    assert!(!matches("cell==1;(cell==2,product==meter)", &device));
}

#[test]
fn what_a_device_does_not_have_is_not_equal_to_anything() {
    let bare = Device::default();
    for field in [
        "site",
        "model",
        "tag.k",
        "version",
        "lwm2m_version",
        "binding",
    ] {
        for (operator, holds) in [
            ("==x", false),
            ("==*", false),
            ("==''", false),
            ("=in=(x)", false),
            ("<x", false),
            (">=''", false),
            ("!=x", true),
            ("!=*", true),
            ("=out=(x)", true),
        ] {
            assert_eq!(
                matches(&format!("{field}{operator}"), &bare),
                holds,
                "{field}{operator}"
            );
        }
    }
    for (text, holds) in [
        ("cell==1", false),
        ("cell!=1", true),
        ("cell>=0", false),
        ("rsrp=out=(1)", true),
        ("queue_mode==true", false),
        ("queue_mode==false", false),
        ("queue_mode!=true", true),
        ("registered==false", true),
        ("last_heard<-1s", false),
        ("last_heard!=-1s", true),
    ] {
        assert_eq!(matches(text, &bare), holds, "{text}");
    }
}

#[test]
fn texts_are_compared_with_wildcards_and_versions_by_their_numbers() {
    let device = Device {
        endpoint: "urn:imei:86".to_owned(),
        site: Some("a*b".to_owned()),
        version: Some("V1.10".to_owned()),
        ..Device::default()
    };
    for (text, holds) in [
        ("endpoint==urn:imei:86", true),
        ("endpoint==urn:*", true),
        ("endpoint==URN:*", false),
        ("endpoint==*imei*", true),
        ("endpoint==*:*:*", true),
        ("endpoint==*:*:*:*", false),
        ("endpoint==urn:imei:86*86", false),
        ("endpoint==urn:imei", false),
        (r"site==a\*b", true),
        (r"site==\*", false),
        (r"site==a\*\*b", false),
        ("site==a*b", true),
        (r"site=in=(a\*b)", true),
        ("version>V1.9", true),
        ("version<V1.9", false),
        ("version<=V1.10", true),
        ("version>V1.010", true),
        ("version==V1.*", true),
        ("version!=V1.*", false),
        ("version=in=(V1.9,V1.10)", true),
    ] {
        assert_eq!(matches(text, &device), holds, "{text}");
    }
}

#[test]
fn relative_times_are_before_the_time_of_asking() {
    let heard = Device {
        last_heard: Some(UtcMillis(T0.0 - 3_600_000)),
        ..Device::default()
    };
    for (text, holds) in [
        ("last_heard<-30m", true),
        ("last_heard<-2h", false),
        ("last_heard>=-1h", true),
        ("last_heard>-3601s", true),
        ("last_heard>-1d", true),
        ("last_heard>-1w;last_heard>-4294967295w", true),
        ("last_heard==-60m", true),
    ] {
        assert_eq!(matches(text, &heard), holds, "{text}");
    }
}

#[test]
fn two_filters_together_let_through_what_both_do() {
    let of = |text: &str| Filter::parse(text).unwrap();
    let both = of("cell==1,cell==2").and(of("site==a;site!=b"));
    assert_eq!(both.to_string(), "(cell==1,cell==2);site==a;site!=b");
    assert_eq!(both.conditions().len(), 3);
    assert_eq!(of("cell==1,cell==2").conditions().len(), 1);
}

/// What a filter consists of, in any order.
fn soup() -> impl Strategy<Value = String> {
    let parts = proptest::sample::select(vec![
        "product",
        "tag.k",
        "cell",
        "created",
        "registered",
        "==",
        "!=",
        "=in=",
        "=lt=",
        "<",
        "(",
        ")",
        ",",
        ";",
        " and ",
        " or ",
        "'",
        "\"",
        "\\",
        "*",
        "7",
        "-7d",
        "true",
        "a",
        "ä",
        "\u{0}",
        " ",
    ]);
    proptest::collection::vec(parts, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn the_canonical_text_is_the_same_filter(filter in filter()) {
        let text = filter.to_string();
        prop_assert_eq!(Filter::parse(&text), Ok(filter), "{}", text);
    }

    #[test]
    fn any_text_is_a_filter_or_has_an_error_within_it(text in any::<String>(), soup in soup(), device in device()) {
        for text in [text, soup] {
            let length = text.chars().count();
            match Filter::parse(&text) {
                Ok(filter) => {
                    filter.matches(&device, T0);
                    let canonical = filter.to_string();
                    prop_assert!(canonical.chars().count() <= length, "{} {}", text, canonical);
                    prop_assert_eq!(Filter::parse(&canonical), Ok(filter));
                }
                Err(error) => prop_assert!((1..=length + 1).contains(&error.position), "{}", error),
            }
        }
    }
}
