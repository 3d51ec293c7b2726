use super::*;

const NOW: UtcMillis = UtcMillis(1_800_000_000_000);

fn after(minutes: i64) -> UtcMillis {
    UtcMillis(NOW.0 + minutes * 60_000)
}

fn close(until: Option<UtcMillis>, reason: Option<&str>) -> RulesUpdate {
    RulesUpdate {
        closing: ClosingUpdate::Close {
            until,
            reason: reason.map(str::to_owned),
        },
        ..RulesUpdate::default()
    }
}

fn closing(closing: ClosingUpdate) -> RulesUpdate {
    RulesUpdate {
        closing,
        ..RulesUpdate::default()
    }
}

fn busy(json: &str) -> BusyHours {
    serde_json::from_str(json).unwrap()
}

fn limit(most: Option<u32>, by: LimitedBy, changes_at: Option<UtcMillis>) -> LimitNow {
    LimitNow {
        most,
        by,
        changes_at,
    }
}

#[test]
fn a_closed_cell_opens_at_its_time() {
    let mut rules = CellRules {
        limit: Some(7),
        ..CellRules::default()
    };
    rules
        .update(close(Some(after(60)), Some("works")), NOW)
        .unwrap();
    let closed = limit(Some(0), LimitedBy::Closing, Some(after(60)));
    assert_eq!(rules.limit_at(NOW), closed);
    assert_eq!(rules.limit_at(UtcMillis(after(60).0 - 1)), closed);
    let open = limit(Some(7), LimitedBy::OwnLimit, None);
    assert_eq!(rules.limit_at(after(60)), open);
    assert_eq!(rules.limit_at(UtcMillis(NOW.0 - 1)), open);
    // until further notice
    rules.update(close(None, None), after(10)).unwrap();
    let kept = rules.closing.as_ref().unwrap();
    assert_eq!((kept.from, &*kept.reason), (NOW, "works"));
    let without_end = limit(Some(0), LimitedBy::Closing, None);
    assert_eq!(rules.limit_at(after(1_000_000)), without_end);
    rules
        .update(closing(ClosingUpdate::Open), after(20))
        .unwrap();
    assert_eq!(rules.limit_at(after(20)), open);
    // what was closed is still known
    assert_eq!(rules.closing.as_ref().unwrap().until, Some(after(20)));
}

#[test]
fn whoever_closes_a_cell_says_why() {
    let mut rules = CellRules::default();
    let error = rules.update(close(None, None), NOW).unwrap_err();
    assert_eq!((error, rules.is_empty()), (RulesError::NoReason, true));
    let reason = |text: &str| closing(ClosingUpdate::Reason(text.into()));
    assert_eq!(rules.update(reason("a"), NOW), Err(RulesError::NotClosed));
    rules.update(close(Some(after(5)), Some("a")), NOW).unwrap();
    rules.update(reason("b"), after(1)).unwrap();
    assert_eq!(rules.closed(after(1)).unwrap().0.reason, "b");
    // the reason of a closing that is over is not that of the next
    assert_eq!(
        rules.update(close(None, None), after(5)),
        Err(RulesError::NoReason)
    );
    assert_eq!(
        rules.update(reason("c"), after(5)),
        Err(RulesError::NotClosed)
    );
}

#[test]
fn the_end_of_an_outage_opens_no_cell_that_the_operator_has_closed() {
    let outage = || {
        closing(ClosingUpdate::Outage {
            until: Some(after(30)),
            reason: "mast".into(),
        })
    };
    let mut rules = CellRules::default();
    rules
        .update(close(Some(after(60)), Some("works")), NOW)
        .unwrap();
    rules.update(outage(), after(1)).unwrap();
    // what holds longer is told
    let closed = limit(Some(0), LimitedBy::Closing, Some(after(60)));
    assert_eq!(rules.limit_at(after(2)), closed);
    rules
        .update(closing(ClosingUpdate::OutageOver), after(3))
        .unwrap();
    assert_eq!(rules.limit_at(after(3)), closed);
    // the operator has the last word
    rules.update(outage(), after(4)).unwrap();
    rules
        .update(closing(ClosingUpdate::Open), after(5))
        .unwrap();
    assert_eq!(
        rules.limit_at(after(5)),
        limit(None, LimitedBy::Coverage, None)
    );
    rules.update(outage(), after(6)).unwrap();
    let out = limit(Some(0), LimitedBy::Outage, Some(after(30)));
    assert_eq!(rules.limit_at(after(6)), out);
}

#[test]
fn busy_hours_lower_the_limit_and_never_raise_it() {
    // NOW is Friday, 2027-01-15 08:00 UTC
    let mut rules = CellRules {
        limit: Some(10),
        busy_hours: vec![
            busy(r#"{"from":"09:30","to":"10:00","zone":"Europe/Berlin","limit":4}"#),
            busy(r#"{"days":["fri"],"from":"08:40","to":"09:00","zone":"UTC","limit":2}"#),
            busy(r#"{"from":"08:00","to":"20:00","zone":"UTC","limit":50}"#),
        ],
        ..CellRules::default()
    };
    let own = |changes| limit(Some(10), LimitedBy::OwnLimit, Some(after(changes)));
    let busy = |most, changes| limit(Some(most), LimitedBy::BusyHours, Some(after(changes)));
    assert_eq!(rules.limit_at(NOW), own(30));
    assert_eq!(rules.limit_at(after(30)), busy(4, 40));
    assert_eq!(rules.limit_at(after(40)), busy(2, 60));
    assert_eq!(rules.limit_at(after(60)), own(12 * 60));
    rules.limit = None;
    assert_eq!(rules.limit_at(NOW), busy(50, 30));
    // on Saturday the second has no part
    assert_eq!(rules.limit_at(after(24 * 60 + 50)), busy(4, 24 * 60 + 60));
}

#[test]
fn busy_hours_are_read_as_they_are_written() {
    let json = r#"{"days":["fri"],"from":"08:40","to":"09:00","zone":"Europe/Berlin","limit":2}"#;
    assert_eq!(serde_json::to_string(&busy(json)).unwrap(), json);
    for (json, message) in [
        (
            r#"{"from":"8","to":"09:00","zone":"UTC","limit":2}"#,
            "from: \"8\" is no time",
        ),
        (
            r#"{"days":["x"],"from":"08:00","to":"09:00","zone":"UTC","limit":2}"#,
            "days[0]: \"x\"",
        ),
        (
            r#"{"from":"08:00","to":"09:00","zone":"device","limit":2}"#,
            "zone: \"device\" is no",
        ),
        (
            r#"{"from":"08:00","to":"09:00","zone":"UTC","limit":0}"#,
            "limit: 0 is out of range",
        ),
        (
            r#"{"from":"08:00","to":"09:00","zone":"UTC","limit":1001}"#,
            "limit: 1001 is out",
        ),
        (
            r#"{"from":"08:00","to":"09:00","limit":1}"#,
            "missing field `zone`",
        ),
        (
            r#"{"from":"08:00","to":"09:00","zone":"UTC","limit":1,"x":1}"#,
            "unknown field",
        ),
    ] {
        let error = serde_json::from_str::<BusyHours>(json)
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{error}");
    }
}
