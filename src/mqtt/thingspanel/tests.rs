use proptest::prelude::*;

use super::*;

fn inform(payload: &str) -> Inform {
    Inform::read(payload.as_bytes()).unwrap()
}

fn progress(payload: &str) -> Progress {
    Progress::read(payload.as_bytes()).unwrap()
}

/// Frozen: do not change. These are the bytes that deployed devices parse.
#[test]
fn a_push_has_these_bytes() {
    let push = Push {
        id: 12_345,
        version: "v1.0.1",
        size_bytes: 5_000,
        url: "http://updates.example.com:80/t/abc/m.bin",
        sha256: "00ff",
        module: "default",
    };
    let text = |release| String::from_utf8(push.to_bytes(release)).unwrap();
    assert_eq!(
        text(Release::V1),
        r#"{"id":"000012345","code":"200","params":{"version":"v1.0.1","size":"5000","url":"http://updates.example.com:80/t/abc/m.bin","signMethod":"SHA256","sign":"00ff","module":"default","extData":{}}}"#
    );
    assert_eq!(
        text(Release::V05),
        r#"{"id":"000012345","code":200,"params":{"version":"v1.0.1","size":5000,"url":"http://updates.example.com:80/t/abc/m.bin","signMethod":"SHA256","sign":"00ff","module":"default","extData":{}}}"#
    );
}

#[test]
fn versions_are_read_with_and_without_a_module() {
    let told = inform(r#"{"id":"1","params":{"version":"v1.0.1","module":"MCU"}}"#);
    assert_eq!((&*told.module, told.version.as_str()), ("MCU", "v1.0.1"));
    let told = inform(r#"{"id":1,"version":"v1.0.1"}"#);
    assert_eq!((&*told.module, told.version.as_str()), (WHOLE, "v1.0.1"));
    for none in ["{}", r#"{"params":{"version":""}}"#, "7", ""] {
        assert!(Inform::read(none.as_bytes()).is_err(), "{none}");
    }
}

#[test]
fn steps_are_numbers_or_texts_from_minus_4_to_100() {
    for (step, expected) in [
        (r#""1""#, Step::Percent(1)),
        ("0", Step::Percent(0)),
        ("99", Step::Percent(99)),
        (r#""100""#, Step::Through),
        ("100", Step::Through),
        ("100.0", Step::Through),
        (r#""-1""#, Step::Failed(-1)),
        ("-4", Step::Failed(-4)),
    ] {
        let flat = progress(&format!(r#"{{"step":{step},"desc":"","module":""}}"#));
        assert_eq!((flat.step, &*flat.module), (expected, WHOLE), "{step}");
        let nested = progress(&format!(
            r#"{{"params":{{"step":{step},"desc":"no space"}}}}"#
        ));
        assert_eq!(nested.step, expected);
        assert_eq!(nested.description.as_deref(), Some("no space"));
    }
    for step in ["101", r#""x""#, "null", "1.5", "-99999999999"] {
        let payload = format!(r#"{{"step":{step}}}"#);
        assert!(Progress::read(payload.as_bytes()).is_err(), "{step}");
    }
}

#[test]
fn long_reports_are_not_read() {
    let long = format!(r#"{{"step":1,"desc":"{}"}}"#, "x".repeat(MAX_REPORT));
    let read = Progress::read(long.as_bytes());
    assert!(matches!(read, Err(Unreadable::TooLong)));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Inform::read(&payload), Progress::read(&payload));
    }
}
