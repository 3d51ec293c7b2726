use std::collections::BTreeSet;

use super::*;
use crate::{
    clock::UtcMillis,
    ledger::{Outcome, Stage},
    package::Version,
};

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn texts(texts: &[(&str, &str)]) -> Texts {
    Texts::new(texts.iter().copied()).unwrap()
}

fn terms() -> OfferTerms {
    OfferTerms {
        channel: Channel::NB_IOT,
        kind: UpgradeKind::Reminder,
        mode: OfferMode::PerChannel,
        controllable: false,
        percent: 100,
        stages: Vec::new(),
        conditions: Conditions::default(),
        texts: OfferTexts {
            description: texts(&[("en", "Less power.")]),
            ..OfferTexts::default()
        },
    }
}

fn key(home: &str) -> HomeKey {
    HomeKey {
        tenant: "acme".parse().unwrap(),
        id: home.parse().unwrap(),
    }
}

#[test]
fn names_of_homes_and_users_are_checked() {
    for name in ["a", "Home_7", "urn:home:1", "x@y.example", &"h".repeat(64)] {
        assert_eq!(name.parse::<HomeId>().unwrap().as_str(), name);
    }
    for none in ["", "a b", "a/b", "ä", ".", "..", "a%", &"h".repeat(65)] {
        assert_eq!(none.parse::<HomeId>(), Err(NoHomeId), "{none}");
    }
    for name in ["auth0|5f", "a/b", &"u".repeat(128)] {
        assert_eq!(name.parse::<UserId>().unwrap().as_str(), name);
    }
    for none in ["", "a b", "ä", "a\n", "..", &"u".repeat(129)] {
        assert_eq!(none.parse::<UserId>(), Err(NoUserId), "{none}");
    }
}

#[test]
fn members_look_and_no_more() {
    for role in Role::ALL {
        assert_eq!(Role::from_code(role.code().into()), Some(role));
        assert_eq!(Role::from_name(role.name()), Some(role));
        for action in Action::ALL {
            let may = role != Role::Member || action == Action::Read;
            assert_eq!(role.may(action), may, "{role:?} {action:?}");
        }
    }
    assert_eq!(Role::ALL.map(Role::code), [0, 1, 2]);
    assert_eq!(Role::from_code(3), None);
}

#[test]
fn each_reason_of_an_outcome_is_one_code_that_is_sent() {
    let mut told = BTreeSet::new();
    for reason in Outcome::REASONS {
        let codes = ErrorCode::ALL.into_iter();
        let codes: Vec<ErrorCode> = codes
            .filter(|code| code.reasons().any(|word| word == reason))
            .collect();
        assert_eq!(codes, [ErrorCode::of_reason(reason)], "{reason}");
        assert!(codes[0].is_sent(), "{reason}");
        told.insert(codes[0]);
    }
    let all: usize = ErrorCode::ALL
        .map(|code| code.reasons().count())
        .iter()
        .sum();
    assert_eq!(all, Outcome::REASONS.len(), "a word that is no reason");
    for refusal in refusals() {
        assert!(refusal.code().is_sent(), "{refusal:?}");
        told.insert(refusal.code());
    }
    // each that may be sent is
    let sent = ErrorCode::ALL.into_iter().filter(|code| code.is_sent());
    assert_eq!(
        told.into_iter().collect::<Vec<_>>(),
        sent.collect::<Vec<_>>()
    );
    assert_eq!(
        NEVER_SENT.map(ErrorCode::number),
        [5003, 5006, 5007, 5009, 5010, 5014]
    );
}

/// One of each.
fn refusals() -> Vec<Refusal> {
    use Refusal::{
        Battery, Excluded, ListUnavailable, NamedTwice, NotOffered, NotRunning, NothingWaits,
        Offline, SignalUnknown, SignalWeak, Stale, TooLate, TransferBegan, UpToDate,
    };
    let weak = SignalWeak {
        rsrp_dbm: -120,
        least_dbm: -110,
        until: UtcMillis(0),
    };
    let all = vec![
        UpToDate,
        NotOffered,
        NamedTwice,
        SignalUnknown,
        weak,
        Offline,
        Battery { least: 30 },
        Excluded,
        Stale,
        NotRunning,
        ListUnavailable,
        TransferBegan,
        NothingWaits,
        TooLate,
    ];
    let names: BTreeSet<&str> = all.iter().map(Refusal::name).collect();
    assert_eq!(names.len(), all.len());
    all
}

#[test]
fn a_status_follows_from_where_the_upgrade_stands() {
    use Stand::{Active, Cancelled, Failed, Succeeded, Waiting};

    let seen = |stand, percent, confirmed, asleep| {
        let told = Told::of(&Seen {
            stand,
            percent,
            confirmed,
            asleep,
        });
        let error = told.error.map(ErrorCode::number);
        (told.status.number(), told.progress, error)
    };
    for (stand, percent, confirmed, asleep, expected) in [
        (Waiting, None, false, false, (100, -1, None)),
        (Waiting, None, false, true, (5, -1, None)),
        (
            Active(Stage::WaitingForDevice),
            None,
            false,
            false,
            (5, -1, None),
        ),
        (
            Active(Stage::QueryingVersion),
            None,
            false,
            false,
            (100, -1, None),
        ),
        (
            Active(Stage::WaitingForSlot),
            None,
            false,
            true,
            (5, -1, None),
        ),
        (Active(Stage::Downloading), None, false, true, (2, -1, None)),
        (
            Active(Stage::Downloading),
            Some(0),
            true,
            false,
            (2, 0, None),
        ),
        (
            Active(Stage::Downloading),
            Some(41),
            true,
            false,
            (2, 41, None),
        ),
        (
            Active(Stage::Downloading),
            Some(100),
            true,
            false,
            (6, 100, None),
        ),
        (
            Active(Stage::Executing),
            Some(100),
            false,
            false,
            (6, 100, None),
        ),
        (
            Active(Stage::Executing),
            Some(100),
            true,
            false,
            (2, -1, None),
        ),
        (Succeeded("upgraded"), Some(100), true, true, (3, 100, None)),
        (
            Failed("wrong_version"),
            Some(100),
            true,
            false,
            (4, -1, Some(5018)),
        ),
        (
            Failed("download_timed_out"),
            Some(7),
            true,
            false,
            (7, -1, Some(5016)),
        ),
        (
            Failed("device_not_heard"),
            None,
            false,
            true,
            (4, -1, Some(5012)),
        ),
        (
            Cancelled("cancelled"),
            None,
            false,
            true,
            (4, -1, Some(5099)),
        ),
        (
            Failed("of another program"),
            None,
            false,
            true,
            (4, -1, Some(5099)),
        ),
    ] {
        assert_eq!(
            seen(stand, percent, confirmed, asleep),
            expected,
            "{stand:?}"
        );
    }
    assert_eq!(Told::idle(true).status.number(), 1);
    assert_eq!(Told::idle(false).status.number(), 0);
    assert_eq!(
        Status::ALL.map(Status::number),
        [0, 1, 2, 3, 4, 5, 6, 7, 100]
    );
}

#[test]
fn a_text_is_told_in_the_language_that_is_wanted_most() {
    let all = texts(&[
        ("en", "e"),
        ("de", "d"),
        ("PT-br", "p"),
        ("zh-hant-TW", "z"),
    ]);
    let tags: Vec<&str> = all.all().map(|(tag, _)| tag).collect();
    assert_eq!(tags, ["de", "en", "pt-BR", "zh-Hant-TW"]);
    for (wanted, tag) in [
        (None, "en"),
        (Some("de"), "de"),
        (Some("de-AT"), "de"),
        (Some("DE-at, en;q=0.9"), "de"),
        (Some("fr, de;q=0.3, en;q=0.4"), "en"),
        (Some("pt"), "pt-BR"),
        (Some("pt-PT"), "pt-BR"),
        (Some("zh-Hant-TW-x-private"), "zh-Hant-TW"),
        (Some("fr;q=1, *;q=0.1"), "en"),
        (Some("de;q=0, pt;q=0.1"), "pt-BR"),
        (Some(";;,=q,é, de;q=2, de;q=nan"), "en"),
        (Some(&",".repeat(9_999)), "en"),
        (Some(&"é".repeat(999)), "en"),
    ] {
        assert_eq!(all.pick(wanted).unwrap().0, tag, "{wanted:?}");
    }
    assert_eq!(
        texts(&[("fr", "f"), ("it", "i")]).pick(Some("de")),
        Some(("fr", "f"))
    );
    assert_eq!(Texts::default().pick(Some("de")), None);
}

#[test]
fn texts_have_bounds() {
    let wrong = |tag: &str, text: &str| Texts::new([(tag, text)]).unwrap_err();
    for tag in [
        "",
        "e",
        "e n",
        "12",
        "en-",
        "en_US",
        "en-abcdefghi",
        &"en-a".repeat(20),
    ] {
        assert!(matches!(wrong(tag, "x"), TextsError::NoTag(_)), "{tag}");
    }
    for text in ["", " ", "a\u{7}b", &"x".repeat(MAX_TEXT + 1)] {
        assert!(matches!(wrong("en", text), TextsError::Text(_)), "{text}");
    }
    let twice = Texts::new([("pt-br", "a"), ("PT-BR", "b")]);
    assert_eq!(twice, Err(TextsError::Twice("pt-BR".to_owned())));
    let letters = "abcdefghijklmnopqrstu".chars().map(|c| format!("a{c}"));
    let letters: Vec<String> = letters.collect();
    let many = Texts::new(letters.iter().map(|tag| (tag.as_str(), "x")));
    assert_eq!(many, Err(TextsError::TooMany(MAX_LANGUAGES + 1)));
}

#[test]
fn quiet_hours_go_over_midnight_and_keep_to_the_zone() {
    let quiet = QuietHours::parse("22:00", "06:30").unwrap();
    assert_eq!(quiet.times(), ("22:00".to_owned(), "06:30".to_owned()));
    let berlin = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    let at = |text: &str| {
        let at: jiff::Timestamp = text.parse().unwrap();
        UtcMillis(at.as_millisecond())
    };
    for (now, is_quiet, over) in [
        ("2027-01-15T20:59:59Z", false, "2027-01-15T20:59:59Z"),
        ("2027-01-15T21:00:00Z", true, "2027-01-16T05:30:00Z"),
        ("2027-01-16T05:29:59.999Z", true, "2027-01-16T05:30:00Z"),
        ("2027-01-16T05:30:00Z", false, "2027-01-16T05:30:00Z"),
        // clocks go ahead in this night
        ("2027-03-27T21:00:00Z", true, "2027-03-28T04:30:00Z"),
    ] {
        assert_eq!(quiet.is_quiet(&berlin, at(now)), is_quiet, "{now}");
        assert_eq!(quiet.over(&berlin, at(now)), at(over), "{now}");
    }
    let noon = QuietHours::parse("12:00", "13:00").unwrap();
    assert!(noon.is_quiet(&berlin, at("2027-01-15T11:30:00Z")));
    assert!(!noon.is_quiet(&berlin, at("2027-01-15T12:00:00Z")));
    for (from, to) in [
        ("22:00", "22:00"),
        ("24:00", "06:00"),
        ("2:00", "06:00"),
        ("", "é:00"),
    ] {
        assert_eq!(QuietHours::parse(from, to), None, "{from} {to}");
    }
}

#[test]
fn a_larger_share_of_homes_has_those_of_a_smaller_one() {
    let homes: Vec<HomeKey> = (0..1_000).map(|n| key(&format!("h{n}"))).collect();
    let seen_by = |percent, offer| {
        let terms = OfferTerms { percent, ..terms() };
        let seen = homes
            .iter()
            .filter(|home| terms.is_visible_to(home, OfferId(offer), UtcMillis(0)));
        seen.collect::<Vec<_>>()
    };
    let (ten, thirty) = (seen_by(10, 1), seen_by(30, 1));
    assert!(ten.iter().all(|home| thirty.contains(home)));
    assert!((50..200).contains(&ten.len()), "{}", ten.len());
    assert!((220..380).contains(&thirty.len()), "{}", thirty.len());
    assert_eq!(seen_by(100, 1).len(), 1_000);
    assert_ne!(ten, seen_by(10, 2), "other homes see another offer first");
}

#[test]
fn a_stage_adds_homes_and_takes_none_away() {
    let at = |day: i64| UtcMillis(day * 86_400_000);
    let staged = OfferTerms {
        percent: 10,
        stages: vec![
            OfferStage {
                from: at(2),
                percent: 40,
            },
            OfferStage {
                from: at(5),
                percent: 100,
            },
        ],
        ..terms()
    };
    assert_eq!(staged.check(), []);
    let offer = OfferId(7);
    let homes: Vec<HomeKey> = (0..1_000).map(|n| key(&format!("h{n}"))).collect();
    let seen_at = |now| {
        let seen = homes
            .iter()
            .filter(|home| staged.is_visible_to(home, offer, now));
        seen.collect::<Vec<_>>()
    };
    let before = |at: UtcMillis| UtcMillis(at.0 - 1);
    for (now, percent, next) in [
        (at(0), 10, Some(at(2))),
        (before(at(2)), 10, Some(at(2))),
        (at(2), 40, Some(at(5))),
        (at(5), 100, None),
        (at(900), 100, None),
    ] {
        assert_eq!(staged.percent_at(now), percent);
        assert_eq!(staged.sees_more_at(percent, now), next);
        assert_eq!(staged.sees_more_at(percent - 1, now), Some(now));
        let places = homes.iter().map(|home| (place(home, offer), home));
        for (place, home) in places {
            let sees = staged.is_visible_to(home, offer, now);
            assert_eq!(sees, place < u64::from(percent));
        }
    }
    let days = [at(0), before(at(2)), at(2), before(at(5)), at(5), at(900)].map(seen_at);
    for pair in days.windows(2) {
        assert!(pair[0].iter().all(|home| pair[1].contains(home)));
    }
    assert_eq!(days[0], days[1]);
    assert!((50..200).contains(&days[0].len()), "{}", days[0].len());
    assert_eq!(days[2], days[3]);
    assert!((320..480).contains(&days[2].len()), "{}", days[2].len());
    assert_eq!(days[4].len(), 1_000);
    // as long as a home does not see it, it is told from when on it will
    for home in &homes {
        let since = staged.visible_since(home, offer, at(1)).unwrap();
        assert!(staged.is_visible_to(home, offer, since));
        assert!(since == at(1) || !staged.is_visible_to(home, offer, before(since)));
    }
    let late = staged.visible_since(days[2][0], offer, at(9));
    assert_eq!(late, Some(at(9)), "no home saw it before it was there");
    let some = OfferTerms {
        percent: 10,
        ..terms()
    };
    let never = homes
        .iter()
        .filter(|home| some.visible_since(home, offer, at(0)).is_none());
    assert_eq!(never.count(), 1_000 - days[0].len());
}

#[test]
fn stages_follow_each_other() {
    let with = |percent, stages: &[(i64, u8)]| OfferTerms {
        percent,
        stages: (stages.iter())
            .map(|(from, percent)| OfferStage {
                from: UtcMillis(*from),
                percent: *percent,
            })
            .collect(),
        ..terms()
    };
    assert_eq!(with(1, &[(5, 2), (6, 100)]).check(), []);
    let many: Vec<(i64, u8)> = (2..=12).map(|n| (n.into(), n)).collect();
    let most = many.get(..MAX_STAGES).unwrap();
    assert_eq!(with(1, most).check(), []);
    for (percent, stages) in [
        (10, &[(5, 10)][..]),
        (10, &[(5, 20), (5, 30)]),
        (10, &[(5, 20), (6, 20)]),
        (10, &[(6, 20), (5, 30)]),
        (10, &[(5, 101)]),
        (100, &[(5, 100)]),
        (1, &many),
    ] {
        assert_eq!(
            with(percent, stages).check(),
            [OfferError::Stages],
            "{stages:?}"
        );
    }
    let written = serde_json::to_value(with(1, &[(5, 2)])).unwrap();
    let stage = serde_json::json!([{"from": "1970-01-01T00:00:00.005Z", "percent": 2}]);
    assert_eq!(written["stages"], stage);
    let read: OfferTerms = serde_json::from_value(written).unwrap();
    assert_eq!(read, with(1, &[(5, 2)]));
    // what was written before there were stages
    let old = serde_json::to_value(terms()).unwrap();
    assert_eq!(old.get("stages"), None);
    assert_eq!(serde_json::from_value::<OfferTerms>(old).unwrap(), terms());
}

#[test]
fn an_offer_is_for_a_device_that_its_conditions_let_through() {
    let until = UtcMillis(600_000);
    let mut terms = terms();
    terms.conditions.from = vec![version("V1"), version("V1.5")];
    terms.conditions.battery_percent = Some(30);
    terms.conditions.rsrp_dbm = Some(-110);
    let (v1, v2, v3, v0) = (version("V1"), version("V2"), version("V3"), version("V0"));
    let good = DeviceNow {
        version: Some(&v1),
        battery_percent: Some(30),
        rsrp_dbm: Some(-110),
    };
    let told = |device: &DeviceNow<'_>| entry(&terms, &v2, false, device, until);
    let weak = Refusal::SignalWeak {
        rsrp_dbm: -111,
        least_dbm: -110,
        until,
    };
    let battery = || Entry::Refused(Refusal::Battery { least: 30 });
    for (device, expected) in [
        (good, Entry::Ready),
        (
            DeviceNow {
                version: Some(&v2),
                ..good
            },
            Entry::NotFor(Refusal::UpToDate),
        ),
        (
            DeviceNow {
                version: Some(&v3),
                ..good
            },
            Entry::NotFor(Refusal::UpToDate),
        ),
        (
            DeviceNow {
                version: Some(&v0),
                ..good
            },
            Entry::NotFor(Refusal::NotOffered),
        ),
        (
            DeviceNow {
                version: None,
                ..good
            },
            Entry::NotFor(Refusal::NotOffered),
        ),
        (
            DeviceNow {
                battery_percent: Some(29),
                ..good
            },
            battery(),
        ),
        (
            DeviceNow {
                battery_percent: None,
                ..good
            },
            battery(),
        ),
        (
            DeviceNow {
                rsrp_dbm: Some(-111),
                ..good
            },
            Entry::Refused(weak),
        ),
        (
            DeviceNow {
                rsrp_dbm: None,
                ..good
            },
            Entry::Refused(Refusal::SignalUnknown),
        ),
    ] {
        assert_eq!(told(&device), expected, "{device:?}");
    }
    // where a task may go below, it does
    let any = self::terms();
    let newer = DeviceNow {
        version: Some(&v3),
        ..DeviceNow::default()
    };
    assert_eq!(entry(&any, &v2, true, &newer, until), Entry::Ready);
    assert_eq!(
        entry(&any, &v2, false, &DeviceNow::default(), until),
        Entry::Ready
    );
}

#[test]
fn terms_are_checked_and_kept_as_they_are_written() {
    assert_eq!(terms().check(), []);
    let mut wrong = terms();
    wrong.percent = 0;
    wrong.conditions.battery_percent = Some(101);
    wrong.conditions.rsrp_dbm = Some(0);
    wrong.conditions.from = vec![version("V1"); MAX_FROM + 1];
    wrong.texts.description = Texts::default();
    let fields: Vec<&str> = wrong.check().into_iter().map(OfferError::field).collect();
    assert_eq!(
        fields,
        [
            "texts.description",
            "percent",
            "conditions.from",
            "conditions.battery_percent",
            "conditions.rsrp_dbm",
        ]
    );
    let json = serde_json::to_string(&terms()).unwrap();
    let read: OfferTerms = serde_json::from_str(&json).unwrap();
    assert_eq!(read, terms());
    let numbers = (0..=255).filter_map(Channel::new).map(Channel::number);
    let all = [0, 1, 2, 3, 5, 6, 9].into_iter().chain(10..=19);
    assert_eq!(numbers.collect::<Vec<_>>(), all.collect::<Vec<_>>());
    assert!(serde_json::from_str::<Channel>("4").is_err());
}

/// Offers of these numbers, channels, kinds and versions.
fn offers(all: &[(i64, u8, UpgradeKind, &str)]) -> Vec<(OfferId, OfferTerms, Version)> {
    let offers = all.iter().map(|(id, channel, kind, target)| {
        let terms = OfferTerms {
            channel: Channel::new(*channel).unwrap(),
            kind: *kind,
            ..terms()
        };
        (OfferId(*id), terms, version(target))
    });
    offers.collect()
}

fn begin(
    offers: &[(OfferId, OfferTerms, Version)],
    device: &DeviceNow<'_>,
    now: UtcMillis,
) -> Vec<i64> {
    let offers = offers.iter().map(|(id, terms, target)| Offered {
        id: *id,
        terms,
        target,
    });
    let begin = by_itself(offers, &key("h"), device, now);
    begin.into_iter().map(|id| id.0).collect()
}

#[test]
fn of_each_channel_the_newest_that_fits_begins_by_itself_or_none() {
    use UpgradeKind::{Forced, OnRequest, Reminder};
    let now = UtcMillis(5);
    let (v1, v3) = (version("V1"), version("V3"));
    let runs = |version| DeviceNow {
        version: Some(version),
        battery_percent: Some(20),
        rsrp_dbm: Some(-120),
    };
    let mut all = offers(&[
        (9, 6, OnRequest, "V9"),
        (5, 6, Reminder, "V3"),
        (4, 6, Forced, "V2"),
        (3, 9, Forced, "V2"),
    ]);
    assert_eq!(begin(&all, &runs(&v1), now), [5, 3]);
    let unknown = DeviceNow {
        version: None,
        ..runs(&v1)
    };
    assert_eq!(begin(&all, &unknown, now), [5, 3]);
    // nothing leads back, or to what it runs
    assert_eq!(begin(&all, &runs(&v3), now), [0_i64; 0]);
    // the newest is not for versions such as this one: the one before is
    all[1].1.conditions.from = vec![version("V2")];
    assert_eq!(begin(&all, &runs(&v1), now), [4, 3]);
    all[1].1.conditions.from.clear();
    // its conditions are not met: none begins in its stead
    all[1].1.conditions.battery_percent = Some(21);
    assert_eq!(begin(&all, &runs(&v1), now), [3]);
    all[1].1.conditions.battery_percent = None;
    all[1].1.conditions.rsrp_dbm = Some(-119);
    assert_eq!(begin(&all, &runs(&v1), now), [3], "nobody is asked");
}

#[test]
fn what_a_home_does_not_see_yet_does_not_begin_by_itself() {
    let mut all = offers(&[(5, 6, UpgradeKind::Reminder, "V2")]);
    let from = UtcMillis(86_400_000);
    let seen = |terms: &OfferTerms, now| terms.is_visible_to(&key("h"), OfferId(5), now);
    // some share does not reach it at first
    let hidden = (1..100).find(|percent| {
        all[0].1.percent = *percent;
        !seen(&all[0].1, UtcMillis(0))
    });
    assert_eq!(hidden, Some(1), "the home is not the first of all");
    all[0].1.stages = vec![OfferStage { from, percent: 100 }];
    let v1 = version("V1");
    let device = DeviceNow {
        version: Some(&v1),
        battery_percent: None,
        rsrp_dbm: None,
    };
    assert_eq!(begin(&all, &device, UtcMillis(from.0 - 1)), [0_i64; 0]);
    assert_eq!(begin(&all, &device, from), [5]);
}

#[test]
fn a_home_is_quiet_in_its_own_zone_and_where_that_is_not_known() {
    let at = |text: &str| {
        let at: jiff::Timestamp = text.parse().unwrap();
        UtcMillis(at.as_millisecond())
    };
    let night = QuietHours::parse("22:00", "06:00");
    let evening = at("2027-01-15T21:30:00Z");
    assert!(is_quiet_at_home(night, "Europe/Berlin", evening));
    assert!(!is_quiet_at_home(night, "Europe/London", evening));
    assert!(is_quiet_at_home(
        night,
        "Mars/Olympus",
        at("2027-01-15T12:00:00Z")
    ));
    assert!(!is_quiet_at_home(None, "Mars/Olympus", evening));
}
