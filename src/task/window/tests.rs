use jiff::civil::{Weekday, date};
use proptest::prelude::*;

use super::*;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

fn zoned(name: &str) -> TimeZone {
    time_zone(name).unwrap()
}

fn utc(text: &str) -> UtcMillis {
    let at: Timestamp = text.parse().unwrap_or_else(|_| panic!("{text}"));
    UtcMillis(at.as_millisecond())
}

fn minute(text: &str) -> UtcMillis {
    utc(&format!("{text}:00Z"))
}

fn in_zone(zone: &str, windows: &[(&str, &str, &str)], holidays: &[Date]) -> Windows {
    let windows = windows.iter().map(|(days, from, to)| {
        let days: Vec<&str> = days.split_whitespace().collect();
        Window::parse(&days, from, to).unwrap()
    });
    Windows::new(
        windows.collect(),
        WindowZone::Named(zoned(zone)),
        holidays.iter().copied().collect(),
        AtEnd::default(),
    )
    .unwrap()
}

fn state(windows: &Windows, now: UtcMillis) -> WindowState {
    windows.open(now, windows.zone_for(None))
}

/// The window is closed before the first and opens then, and is open until the second.
#[track_caller]
fn assert_span(windows: &Windows, from: &str, to: &str) {
    let (from, to) = (minute(from), minute(to));
    let before = state(windows, UtcMillis(from.0 - 1));
    let opens_at = Some(from);
    assert_eq!(before, WindowState::Closed { opens_at }, "before {from}");
    let open = WindowState::Open { until: to };
    assert_eq!(state(windows, from), open, "at {from}");
    assert_eq!(state(windows, UtcMillis(to.0 - 1)), open, "before {to}");
    assert!(!state(windows, to).is_open(), "at {to}");
}

#[test]
fn a_window_spans_the_change_of_the_clocks() {
    // zone, from, to; then when it begins and ends
    #[rustfmt::skip]
    let table = [
        // Berlin: one hour shorter on 2027-03-28, one longer on 2027-10-31
        ("Europe/Berlin", "22:00", "05:00", "2027-03-26T21:00", "2027-03-27T04:00"),
        ("Europe/Berlin", "22:00", "05:00", "2027-03-27T21:00", "2027-03-28T03:00"),
        ("Europe/Berlin", "22:00", "05:00", "2027-03-28T20:00", "2027-03-29T03:00"),
        ("Europe/Berlin", "22:00", "05:00", "2027-10-30T20:00", "2027-10-31T04:00"),
        // it begins, or ends, within the gap from 02:00 to 03:00
        ("Europe/Berlin", "02:30", "04:00", "2027-03-28T01:00", "2027-03-28T02:00"),
        ("Europe/Berlin", "01:00", "02:30", "2027-03-28T00:00", "2027-03-28T01:00"),
        // all of it does
        ("Europe/Berlin", "02:10", "02:50", "2027-03-28T01:00", "2027-03-28T01:40"),
        ("Europe/Berlin", "02:00", "03:00", "2027-03-28T01:00", "2027-03-28T02:00"),
        // within the fold from 02:00 to 03:00, the first of the two counts
        ("Europe/Berlin", "02:30", "04:00", "2027-10-31T00:30", "2027-10-31T03:00"),
        ("Europe/Berlin", "01:00", "02:30", "2027-10-30T23:00", "2027-10-31T00:30"),
        ("Europe/Berlin", "02:10", "02:50", "2027-10-31T00:10", "2027-10-31T00:50"),
        ("Europe/Berlin", "02:30", "02:15", "2027-10-31T00:30", "2027-11-01T01:15"),
        // Santiago: clocks go from 24:00 to 01:00 on 2027-09-05, and back from 24:00 to 23:00 on 2027-04-03
        ("America/Santiago", "22:00", "05:00", "2027-09-05T02:00", "2027-09-05T08:00"),
        ("America/Santiago", "00:00", "00:30", "2027-09-05T04:00", "2027-09-05T04:30"),
        ("America/Santiago", "22:00", "05:00", "2027-04-04T01:00", "2027-04-04T09:00"),
        ("America/Santiago", "23:30", "00:30", "2027-04-04T02:30", "2027-04-04T04:30"),
        ("America/Santiago", "00:00", "01:00", "2027-04-04T04:00", "2027-04-04T05:00"),
        // Lord Howe: by half an hour, from 02:00 to 02:30 on 2027-10-03, and back from 02:00 to 01:30 on 2027-04-04
        ("Australia/Lord_Howe", "01:00", "04:00", "2027-10-02T14:30", "2027-10-02T17:00"),
        ("Australia/Lord_Howe", "02:10", "04:00", "2027-10-02T15:30", "2027-10-02T17:00"),
        ("Australia/Lord_Howe", "01:00", "04:00", "2027-04-03T14:00", "2027-04-03T17:30"),
        ("Australia/Lord_Howe", "01:45", "04:00", "2027-04-03T14:45", "2027-04-03T17:30"),
        // offsets that are no whole hours
        ("Asia/Kolkata", "22:00", "05:00", "2027-06-01T16:30", "2027-06-01T23:30"),
        ("Asia/Kathmandu", "00:00", "04:00", "2027-06-01T18:15", "2027-06-01T22:15"),
        ("UTC", "09:00", "17:00", "2027-06-01T09:00", "2027-06-01T17:00"),
    ];
    for (zone, from, to, begins, ends) in table {
        assert_span(&in_zone(zone, &[("", from, to)], &[]), begins, ends);
    }
}

#[test]
fn a_window_of_a_day_that_was_skipped_begins_with_the_next_one() {
    // Apia went from 2011-12-29 to the 31st
    let friday = in_zone("Pacific/Apia", &[("fri", "22:00", "04:00")], &[]);
    assert_span(&friday, "2011-12-30T10:00", "2011-12-30T14:00");
    let friday = in_zone("Pacific/Apia", &[("fri", "08:00", "09:00")], &[]);
    assert_span(&friday, "2011-12-30T10:00", "2011-12-30T11:00");
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    let sunday = in_zone("Europe/Berlin", &[("sun", "22:00", "05:00")], &[]);
    assert_span(&sunday, "2027-06-06T20:00", "2027-06-07T03:00"); // to Monday
    let later = state(&sunday, minute("2027-06-07T20:30"));
    let opens_at = Some(minute("2027-06-13T20:00"));
    assert_eq!(later, WindowState::Closed { opens_at });
    // the early morning of a Sunday is Saturday's
    assert!(!state(&sunday, minute("2027-06-06T02:00")).is_open());
    let to_midnight = in_zone("Europe/Berlin", &[("sun", "22:00", "00:00")], &[]);
    assert_span(&to_midnight, "2027-06-06T20:00", "2027-06-06T22:00");
    let from_midnight = in_zone("Europe/Berlin", &[("mon", "00:00", "01:00")], &[]);
    assert_span(&from_midnight, "2027-06-06T22:00", "2027-06-06T23:00");
}

#[test]
fn equal_times_are_a_whole_day() {
    let monday = in_zone("Europe/Berlin", &[("mon", "06:00", "06:00")], &[]);
    assert_span(&monday, "2027-06-07T04:00", "2027-06-08T04:00");
    // days of 23 and of 25 hours
    let sunday = in_zone("Europe/Berlin", &[("sun", "00:00", "00:00")], &[]);
    assert_span(&sunday, "2027-03-27T23:00", "2027-03-28T22:00");
    assert_span(&sunday, "2027-10-30T22:00", "2027-10-31T23:00");
    let in_the_fold = in_zone("Europe/Berlin", &[("sun", "02:30", "02:30")], &[]);
    assert_span(&in_the_fold, "2027-10-31T00:30", "2027-11-01T01:30");
}

#[test]
fn windows_that_meet_or_overlap_count_as_one() {
    let windows = [
        ("mon", "20:00", "00:00"),
        ("tue", "00:00", "04:00"),
        ("tue", "03:00", "06:00"),
        ("tue", "03:30", "03:40"),
        ("tue", "06:01", "07:00"),
    ];
    let windows = in_zone("UTC", &windows, &[]);
    assert_span(&windows, "2027-06-07T20:00", "2027-06-08T06:00");
    assert_span(&windows, "2027-06-08T06:01", "2027-06-08T07:00");
}

#[test]
fn the_end_is_far_where_windows_are_always_open() {
    let always = in_zone("Europe/Berlin", &[("", "08:00", "08:00")], &[]);
    let now = minute("2027-03-27T20:00");
    let far = WindowState::Open {
        until: WindowState::FAR,
    };
    assert_eq!(state(&always, now), far);
    assert_eq!(state(&always, now).changes_at(), None);
    assert_eq!(WindowState::FAR, utc("9999-12-30T00:00:00Z"));
    // a holiday ends them when it is less than eight days away
    let holiday = [date(2027, 4, 3)];
    let always = in_zone("UTC", &[("", "00:00", "00:00")], &holiday);
    let until = minute("2027-04-03T00:00");
    assert_eq!(state(&always, now), WindowState::Open { until });
    assert_eq!(state(&always, minute("2027-03-25T23:59")), far);
}

#[test]
fn no_window_begins_on_a_holiday() {
    let christmas = [date(2027, 12, 24), date(2027, 12, 25)];
    let nightly = in_zone("Europe/Berlin", &[("", "22:00", "05:00")], &christmas);
    // the night that began on the 23rd goes on
    assert_span(&nightly, "2027-12-23T21:00", "2027-12-24T04:00");
    let opens_at = Some(minute("2027-12-26T21:00"));
    let closed = state(&nightly, minute("2027-12-24T04:00"));
    assert_eq!(closed, WindowState::Closed { opens_at });
    // the date is the local one
    let auckland = in_zone("Pacific/Auckland", &[("", "08:00", "09:00")], &christmas);
    assert_span(&auckland, "2027-12-22T19:00", "2027-12-22T20:00");
    assert!(!state(&auckland, minute("2027-12-23T19:30")).is_open());
    assert!(state(&auckland, minute("2027-12-25T19:30")).is_open());
}

#[test]
fn the_next_window_is_looked_for_within_a_year() {
    let first = date(2027, 1, 1);
    let year: Vec<Date> = (0..365)
        .map(|day| first.checked_add(day.days()).unwrap())
        .collect();
    let nightly = in_zone("UTC", &[("", "22:00", "05:00")], &year);
    let opens_at = Some(minute("2028-01-01T22:00"));
    let new_year = state(&nightly, minute("2027-01-01T05:00"));
    assert_eq!(new_year, WindowState::Closed { opens_at });
    assert_eq!(
        state(&nightly, minute("2026-12-27T22:00")).changes_at(),
        Some(minute("2026-12-28T05:00"))
    );
    let longer: Vec<Date> = (0..400)
        .map(|day| first.checked_add(day.days()).unwrap())
        .collect();
    let nightly = in_zone("UTC", &[("", "22:00", "05:00")], &longer);
    let never = WindowState::Closed { opens_at: None };
    assert_eq!(state(&nightly, minute("2027-01-01T05:00")), never);
    let in_370_days = minute("2028-02-05T22:00");
    let just = UtcMillis(in_370_days.0 - 370 * DAY_MS);
    assert_eq!(state(&nightly, just).changes_at(), Some(in_370_days));
    assert_eq!(state(&nightly, UtcMillis(just.0 - 1)), never);
}

#[test]
fn a_device_that_moves_to_another_zone_has_other_hours() {
    let json = r#"{"windows":[{"from":"22:00","to":"05:00"}],"zone":"device","fallback_zone":"Asia/Kolkata"}"#;
    let windows: Windows = serde_json::from_str(json).unwrap();
    let (berlin, lisbon) = (zoned("Europe/Berlin"), zoned("Europe/Lisbon"));
    let now = minute("2027-06-01T20:30");
    let open = |device| windows.open(now, windows.zone_for(device)).is_open();
    assert!(open(Some(&berlin)), "22:30");
    assert!(!open(Some(&lisbon)), "21:30");
    assert!(open(None), "02:00");
    let now = minute("2027-06-01T23:45");
    let kolkata = windows.open(now, windows.zone_for(None));
    let opens_at = Some(minute("2027-06-02T16:30"));
    assert_eq!(kolkata, WindowState::Closed { opens_at });
}

#[test]
fn a_country_that_changes_its_zone_is_followed() {
    // Casablanca: the clocks go back for Ramadan, from +01 to +00
    let nightly = in_zone("Africa/Casablanca", &[("", "22:00", "05:00")], &[]);
    assert_span(&nightly, "2025-01-15T21:00", "2025-01-16T04:00");
    assert_span(&nightly, "2025-03-10T22:00", "2025-03-11T05:00");
    // North Korea went from +09 to +08:30 and back
    let nightly = in_zone("Asia/Pyongyang", &[("", "22:00", "05:00")], &[]);
    assert_span(&nightly, "2015-08-13T13:00", "2015-08-13T20:00");
    assert_span(&nightly, "2015-08-14T13:00", "2015-08-14T20:30");
    assert_span(&nightly, "2018-05-04T13:30", "2018-05-04T20:00");
}

#[test]
fn no_time_makes_it_panic() {
    let windows = in_zone("America/Santiago", &[("", "08:00", "08:00")], &[]);
    let edges = [
        i64::MIN,
        i64::MIN + 1,
        -62_135_596_800_000,
        -377_705_023_201_000,
        0,
        WindowState::FAR.0,
        253_402_207_200_999,
        253_402_300_799_999,
        i64::MAX,
    ];
    for at in edges.into_iter().flat_map(|at| {
        let near = [-DAY_MS * 400, -DAY_MS, -1, 0, 1, DAY_MS];
        near.map(|ms| at.saturating_add(ms))
    }) {
        state(&windows, UtcMillis(at));
    }
    let closed = WindowState::Closed { opens_at: None };
    assert_eq!(state(&windows, UtcMillis(i64::MAX)), closed);
}

#[test]
fn what_is_written_is_read_again() {
    let json = r#"{"windows":[{"days":["mon","tue"],"from":"22:00","to":"05:00"}],"zone":"Europe/Berlin","holidays":["2027-12-25"],"at_end":"take_back"}"#;
    let windows: Windows = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&windows).unwrap(), json);
    assert_eq!(windows.at_end(), AtEnd::TakeBack);
    assert_eq!(
        windows.windows()[0].days,
        Days::of([Weekday::Tuesday, Weekday::Monday])
    );
    // what may be left out
    let json = r#"{"windows":[{"from":"00:00","to":"23:59"}],"zone":"device"}"#;
    let windows: Windows = serde_json::from_str(json).unwrap();
    let whole = r#"{"windows":[{"from":"00:00","to":"23:59"}],"zone":"device","fallback_zone":"UTC","at_end":"finish"}"#;
    assert_eq!(serde_json::to_string(&windows).unwrap(), whole);
    assert_eq!(serde_json::from_str::<Windows>(whole).unwrap(), windows);
    // every zone that is known is called what it is called
    for name in ["europe/berlin", "Asia/Calcutta", "Etc/GMT+5", "utc"] {
        let zone = zoned(name);
        let called = zone.iana_name().unwrap();
        assert!(called.eq_ignore_ascii_case(name), "{called}");
        assert_eq!(zoned(called), zone);
    }
}

#[test]
fn says_what_is_wrong_and_where() {
    let window = r#"{"days":["mon"],"from":"22:00","to":"05:00"}"#;
    let with = |window: &str, rest: &str| format!(r#"{{"windows":[{window}],{rest}}}"#);
    let many = vec![r#"{"from":"22:00","to":"05:00"}"#; 51].join(",");
    let first = date(2027, 1, 1);
    let days: Vec<_> = (0..401)
        .map(|day| format!("\"{}\"", first.checked_add(day.days()).unwrap()))
        .collect();
    let zone = r#""zone":"UTC""#;
    let table = [
        (with("", zone), "windows: there is no window"),
        (
            with(&many, zone),
            "windows: there are 51; at most 50 are allowed",
        ),
        (
            with(
                window,
                &format!(r#"{zone},"holidays":[{}]"#, days.join(",")),
            ),
            "holidays: there are 401; at most 400",
        ),
        (
            with(
                &format!(r#"{window},{{"from":"24:00","to":"05:00"}}"#),
                zone,
            ),
            "windows[1].from: \"24:00\" is no time of day",
        ),
        (
            with(r#"{"from":"22:00","to":"5:00"}"#, zone),
            "windows[0].to: \"5:00\" is no time",
        ),
        (
            with(r#"{"from":"22:00","to":"05:60"}"#, zone),
            "windows[0].to: \"05:60\" is no time",
        ),
        (
            with(r#"{"from":"22:00:00","to":"05:00"}"#, zone),
            "windows[0].from: \"22:00:00\" is",
        ),
        (
            with(r#"{"from":"+2:00","to":"05:00"}"#, zone),
            "windows[0].from: \"+2:00\" is no time",
        ),
        (
            with(
                r#"{"days":["mon","monday"],"from":"22:00","to":"05:00"}"#,
                zone,
            ),
            "windows[0].days[1]: \"monday\" is no day",
        ),
        (
            with(
                r#"{"days":["mon","mon"],"from":"22:00","to":"05:00"}"#,
                zone,
            ),
            "windows[0].days[1]: \"mon\" is there already",
        ),
        (
            with(window, r#""zone":"Europe/Berln""#),
            "zone: \"Europe/Berln\" is no time zone",
        ),
        (
            with(window, r#""zone":"+02:00""#),
            "zone: \"+02:00\" is no time zone",
        ),
        (
            with(window, r#""zone":"Etc/Unknown""#),
            "zone: \"Etc/Unknown\" is no time zone",
        ),
        (
            with(window, r#""zone":"../../etc/passwd""#),
            "is no time zone",
        ),
        (
            with(window, r#""zone":"device","fallback_zone":"x""#),
            "fallback_zone: \"x\" is no time",
        ),
        (
            with(window, r#""zone":"UTC","fallback_zone":"UTC""#),
            "fallback_zone: it has a meaning with",
        ),
        (
            with(
                window,
                r#""zone":"UTC","holidays":["2027-12-25","2027-02-29"]"#,
            ),
            "holidays[1]: \"2027-02-29\" is no date",
        ),
        (
            with(window, r#""zone":"UTC","holidays":["20271225"]"#),
            "holidays[0]: \"20271225\" is no date",
        ),
        (
            with(window, r#""zone":"UTC","at_end":"stop""#),
            "unknown variant `stop`",
        ),
        (
            with(window, r#""zone":"UTC","holiday":[]"#),
            "unknown field `holiday`",
        ),
        (
            with(r#"{"from":"22:00","to":"05:00","zone":"UTC"}"#, zone),
            "unknown field `zone`",
        ),
        (with(r#"{"from":"22:00"}"#, zone), "missing field `to`"),
    ];
    for (json, message) in table {
        let error = serde_json::from_str::<Windows>(&json)
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{error}\n{message}");
    }
    let long = "x".repeat(100_000);
    let error = time_zone(&long).unwrap_err().to_string();
    assert!(error.len() < 200, "{error}");
}

/// What the clock on the wall shows in each minute from three days before to `days` days after a time.
struct Walk {
    from: i64,
    shown: Vec<DateTime>,
}

impl Walk {
    fn new(now: UtcMillis, days: i64, zone: &TimeZone) -> Self {
        let from = now.0 - now.0.rem_euclid(MINUTE_MS) - 3 * DAY_MS;
        let minutes = 0..(3 + days) * 24 * 60;
        let shown = minutes.map(|minute| {
            let at = Timestamp::from_millisecond(from + minute * MINUTE_MS).unwrap();
            zone.to_datetime(at)
        });
        Self {
            from,
            shown: shown.collect(),
        }
    }

    /// The first minute at which it shows that time, or a later one.
    fn first(&self, local: DateTime) -> Option<usize> {
        // no zone is further than 26 hours from UTC
        let utc = TimeZone::UTC.to_timestamp(local).unwrap().as_millisecond();
        let near = (utc - self.from) / MINUTE_MS - 26 * 60;
        let near = usize::try_from(near).unwrap_or(0).min(self.shown.len());
        let found = self.shown[near..].iter().position(|shown| *shown >= local);
        found.map(|at| near + at)
    }

    /// Whether windows are open in each minute.
    fn open(&self, windows: &Windows) -> Vec<bool> {
        let mut open = vec![false; self.shown.len()];
        let mut date = self.shown[0].date();
        while date <= self.shown[self.shown.len() - 1].date() {
            let begins = (windows.windows().iter()).filter(|it| {
                it.days.contains(date.weekday()) && !windows.holidays().contains(&date)
            });
            for window in begins {
                let last = if window.to > window.from {
                    date
                } else {
                    date.tomorrow().unwrap()
                };
                let (from, to) = (date.to_datetime(window.from), last.to_datetime(window.to));
                let Some(first) = self.first(from) else {
                    continue;
                };
                let mut end = self.first(to).unwrap_or(open.len());
                if end <= first {
                    let minutes = from.duration_until(to).as_mins();
                    end = first + usize::try_from(minutes).unwrap();
                }
                let end = end.min(open.len());
                open[first..end].fill(true);
            }
            date = date.tomorrow().unwrap();
        }
        open
    }
}

fn any_zone() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "Europe/Dublin",
        "America/Santiago",
        "America/St_Johns",
        "America/Sao_Paulo",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Asia/Tehran",
        "Africa/Casablanca",
        "Africa/Cairo",
        "Antarctica/Troll",
        "Pacific/Apia",
        "Pacific/Chatham",
        "Etc/GMT+12",
    ])
}

fn any_window() -> impl Strategy<Value = Window> {
    let time = || {
        // hours near which clocks change, and any minute
        prop_oneof![
            3 => (0..4_i8, prop::sample::select(vec![0, 15, 30, 45])),
            1 => (0..24_i8, 0..60_i8),
        ]
        .prop_map(|(hour, minute)| Time::new(hour, minute, 0, 0).unwrap())
    };
    (prop::collection::vec(0..7_i8, 0..3), time(), time()).prop_map(|(days, from, to)| Window {
        days: Days::of(
            (days.into_iter()).map(|day| Weekday::from_monday_zero_offset(day).unwrap()),
        ),
        from,
        to,
    })
}

/// Any time from 1990 to 2045, half of them shortly before or after a change of the clocks.
fn any_time(zone: &'static str) -> impl Strategy<Value = UtcMillis> {
    let whenever = 631_152_000_000..2_366_841_600_000_i64;
    (whenever, any::<bool>(), -30 * HOUR_MS..6 * HOUR_MS).prop_map(move |(at, near, offset)| {
        let zone = zoned(zone);
        let after = Timestamp::from_millisecond(at).unwrap();
        let change = zone.following(after).next().filter(|_| near);
        let change = change.map(|change| change.timestamp().as_millisecond() + offset);
        UtcMillis(change.filter(|at| *at < 2_400_000_000_000).unwrap_or(at))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn open_is_what_the_clock_on_the_wall_says_minute_by_minute(
        (zone, now) in any_zone().prop_flat_map(|zone| (Just(zone), any_time(zone))),
        windows in prop::collection::vec(any_window(), 1..4),
        free in prop::collection::vec(0..9_i32, 0..4),
    ) {
        const DAYS: i64 = 10;
        let named = zoned(zone);
        let today = local_date(now, &named).unwrap();
        let holidays = free.into_iter().map(|day| today.checked_add((day - 1).days()).unwrap());
        let windows = Windows::new(
            windows, WindowZone::Named(named.clone()), holidays.collect(), AtEnd::Finish,
        ).unwrap();
        let walk = Walk::new(now, DAYS, &named);
        let open = walk.open(&windows);
        let index = usize::try_from((now.0 - walk.from) / MINUTE_MS).unwrap();
        let changes = (index..open.len()).find(|at| open[*at] != open[index]);
        let changes = changes.map(|at| UtcMillis(walk.from + i64::try_from(at).unwrap() * MINUTE_MS));
        let state = windows.open(now, &named);
        prop_assert_eq!(state.is_open(), open[index], "{:?} {} {:?}", windows, now.0, state);
        match (state, changes) {
            (WindowState::Open { until }, Some(at)) if at.0 - now.0 <= 8 * DAY_MS => prop_assert_eq!(until, at),
            (WindowState::Open { until }, _) => prop_assert_eq!(until, WindowState::FAR),
            (WindowState::Closed { opens_at }, Some(at)) => prop_assert_eq!(opens_at, Some(at)),
            (WindowState::Closed { opens_at }, None) => {
                prop_assert!(opens_at.is_none_or(|at| at.0 - now.0 >= (DAYS - 1) * DAY_MS));
            }
        }
    }
}
