use super::*;

fn change(values: &[(Attribute, Option<&str>)], tags: &[(&str, Option<&str>)]) -> AttributesChange {
    let mut change = AttributesChange::default();
    for (attribute, value) in values {
        change.set(*attribute, value.map(str::to_owned)).unwrap();
    }
    for (key, value) in tags {
        change.set_tag(key, value.map(str::to_owned)).unwrap();
    }
    change
}

fn refusal(attribute: Attribute, value: &str) -> String {
    let mut change = AttributesChange::default();
    let refused = change.set(attribute, Some(value.to_owned())).unwrap_err();
    assert!(change.is_empty());
    refused.to_string()
}

#[test]
fn texts_have_bounds_in_characters() {
    for (attribute, max) in [
        (Attribute::Model, 64),
        (Attribute::Hardware, 64),
        (Attribute::Site, 128),
    ] {
        let longest = "ü".repeat(max);
        let taken = change(&[(attribute, Some(&longest))], &[]);
        assert!(!taken.is_empty());
        let name = attribute.name();
        let expected = format!("{name} has 1 to {max} characters and no control characters");
        for wrong in [
            "",
            "a\nb",
            "\u{85}",
            &"ü".repeat(max + 1),
            &"a".repeat(9_999),
        ] {
            assert_eq!(refusal(attribute, wrong), expected);
        }
    }
}

#[test]
fn time_zones_are_those_of_the_iana() {
    for (given, expected) in [
        ("Europe/Berlin", "Europe/Berlin"),
        (
            "america/argentina/buenos_aires",
            "America/Argentina/Buenos_Aires",
        ),
        ("Asia/Shanghai", "Asia/Shanghai"),
        ("UTC", "UTC"),
    ] {
        let mut attributes = Attributes::default();
        let set = change(&[(Attribute::TimeZone, Some(given))], &[]);
        attributes.apply(&set).unwrap();
        assert_eq!(attributes.time_zone.as_deref(), Some(expected));
    }
    for wrong in [
        "Europe/Bonn",
        "+02:00",
        "CET+1",
        "Etc/Unknown",
        "../etc/passwd",
        "Europe/Berlin ",
    ] {
        assert_eq!(
            refusal(Attribute::TimeZone, wrong),
            format!("{wrong:?} is no IANA name of a time zone; Europe/Berlin is one")
        );
    }
    let long = refusal(Attribute::TimeZone, &"a".repeat(65));
    assert!(long.starts_with("time_zone has 1 to 64"), "{long}");
}

#[test]
fn every_name_of_a_time_zone_is_taken() {
    let mut count = 0;
    for name in time_zones() {
        let taken = change(&[(Attribute::TimeZone, Some(&name))], &[]);
        assert_eq!(taken.attributes[3], Some(Some(name)));
        count += 1;
    }
    assert!(count > 400, "{count} zones came with the program");
}

#[test]
fn tags_have_keys_of_few_characters_and_short_values() {
    let mut given = AttributesChange::default();
    for wrong in ["", "a b", "a/b", "ä", "a:b", &"k".repeat(65)] {
        let refused = given.set_tag(wrong, None);
        assert_eq!(refused, Err(AttributeError::TagKey), "{wrong:?}");
    }
    for wrong in ["a\tb", &"ü".repeat(257)] {
        let refused = given.set_tag("k", Some(wrong.to_owned())).unwrap_err();
        assert_eq!(refused, AttributeError::TagValue("k".to_owned()));
    }
    assert!(given.is_empty());
    for right in ["", "a b, \"c\"", &"ü".repeat(256)] {
        given.set_tag("A.z_0-9", Some(right.to_owned())).unwrap();
    }
    assert_eq!(given.tags().len(), 1);
}

#[test]
fn a_device_has_so_many_tags_at_most() {
    let keys: Vec<String> = (0..=MAX_TAGS).map(|i| format!("k{i}")).collect();
    let mut full = AttributesChange::default();
    for key in &keys[1..] {
        full.set_tag(key, Some(String::new())).unwrap();
    }
    let too_many = Err(AttributeError::TooManyTags(33));
    assert_eq!(full.set_tag(&keys[0], Some(String::new())), too_many);
    let mut attributes = Attributes::default();
    attributes.apply(&full).unwrap();
    let before = attributes.clone();
    let one_more = change(&[(Attribute::Model, Some("m"))], &[("k0", Some(""))]);
    assert_eq!(
        attributes.apply(&one_more),
        Err(AttributeError::TooManyTags(33))
    );
    assert_eq!(attributes, before, "what is refused changes nothing");
    // one for another is possible
    let exchange = change(&[], &[("k0", Some("")), ("k1", None)]);
    assert!(attributes.apply(&exchange).unwrap().tags);
    assert_eq!(attributes.tags.len(), MAX_TAGS);
}

#[test]
fn what_is_not_given_stays() {
    let mut attributes = Attributes::default();
    let first = change(
        &[(Attribute::Model, Some("m")), (Attribute::Site, Some("s"))],
        &[("a", Some("1")), ("b", Some("2"))],
    );
    assert!(attributes.apply(&first).unwrap().any());
    assert!(!attributes.apply(&first).unwrap().any(), "it is the same");
    let second = change(&[(Attribute::Site, None)], &[("a", None), ("c", None)]);
    let changed = attributes.apply(&second).unwrap();
    assert!(changed.attributes && changed.tags);
    let expected = Attributes {
        model: Some("m".to_owned()),
        tags: [("b".to_owned(), "2".to_owned())].into(),
        ..Attributes::default()
    };
    assert_eq!(attributes, expected);
    let third = change(&[], &[("b", Some("3"))]);
    let changed = attributes.apply(&third).unwrap();
    assert!(changed.tags && !changed.attributes);
}

#[test]
fn columns_are_found_by_their_names() {
    for (name, expected) in [
        (
            "model",
            Ok(Some(AttributeColumn::Attribute(Attribute::Model))),
        ),
        (
            "Time_Zone",
            Ok(Some(AttributeColumn::Attribute(Attribute::TimeZone))),
        ),
        (
            "TAG.Owner",
            Ok(Some(AttributeColumn::Tag("Owner".to_owned()))),
        ),
        ("tag.", Err(AttributeError::TagKey)),
        ("tag.a b", Err(AttributeError::TagKey)),
        ("tags", Ok(None)),
        ("täg.x", Ok(None)),
        ("note", Ok(None)),
        ("", Ok(None)),
    ] {
        assert_eq!(AttributeColumn::named(name), expected, "{name:?}");
    }
}
