//! A patient server that reads what it wants to know, knows its way around devices, and tries again.

use sim::{
    Expected, UpdatesBy,
    coap::{Code, Writer},
};

use super::field::{Field, URI, package, version};

/// How the package gets to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Pull,
    Push,
}

/// Where things are in an object.
pub(crate) struct Places {
    pub(crate) package: String,
    pub(crate) uri: String,
    pub(crate) carry: String,
    pub(crate) state: String,
    pub(crate) result: String,
    pub(crate) version: String,
    software: Option<[String; 2]>,
    downloaded: u8,
}

pub(crate) fn places(by: UpdatesBy) -> Places {
    let (object, resources, version) = match by {
        UpdatesBy::Software => ("9/0", [2, 3, 4, 7, 9], "9/0/1"),
        UpdatesBy::Components => ("33629/1", [0, 1, 2, 3, 5], "33629/1/15"),
        UpdatesBy::Firmware | UpdatesBy::Pcp => ("5/0", [0, 1, 2, 3, 5], "3/0/3"),
    };
    let software = by == UpdatesBy::Software;
    let [package, uri, carry, state, result] = resources.map(|id| format!("{object}/{id}"));
    Places {
        package,
        uri,
        carry,
        state,
        result,
        version: version.to_owned(),
        software: software.then(|| ["9/0/6", "9/0/10"].map(String::from)),
        downloaded: if software { 3 } else { 2 },
    }
}

/// 11 says that the update is deferred; results of object 9 below 50 are none of failures.
const fn is_failure(by: UpdatesBy, result: u8) -> bool {
    match by {
        UpdatesBy::Software => result >= 50,
        _ => matches!(result, 2..=10),
    }
}

/// An upgrade to V2, in three attempts of an hour and a half at most.
pub(crate) fn upgrade(field: &mut Field, by: UpdatesBy, delivery: Delivery) -> Expected {
    let places = places(by);
    if field
        .ask(Code::GET, "4/0", Writer::finish)
        .map(|sent| sent.code())
        != Some(Code::CONTENT)
    {
        return Expected::Failed;
    }
    if field.text(&places.version).as_deref() == Some("V2") {
        return Expected::Succeeded;
    }
    for _ in 0..3 {
        if let Some(expected) = attempt(field, by, &places, delivery) {
            return expected;
        }
    }
    Expected::Failed
}

/// None where the device has forgotten all about it.
fn attempt(
    field: &mut Field,
    by: UpdatesBy,
    places: &Places,
    delivery: Delivery,
) -> Option<Expected> {
    let failed = Some(Expected::Failed);
    if let Some([uninstall, _]) = &places.software {
        field.execute(uninstall, "1");
        if field.number(&places.result) == Some(59) {
            return failed;
        }
    } else {
        field.write(&places.uri, b"");
    }
    if field.number(&places.state) != Some(0) {
        return failed;
    }
    let begun = match delivery {
        Delivery::Pull => field.write(&places.uri, URI.as_bytes()),
        Delivery::Push => field.push(&places.package, 1024, &package()),
    };
    match begun {
        Some(code) if code.class() == 2 => {}
        Some(_) => return failed,
        None => field.pass(60_000),
    }
    let deadline_ms = field.now_ms + 5_400_000;
    let mut executed = false;
    while field.now_ms < deadline_ms {
        field.pass(5_000);
        let runs = field.text(&places.version);
        let (state, result) = (field.number(&places.state), field.number(&places.result));
        let (Some(runs), Some(state), Some(result)) = (runs, state, result) else {
            continue; // it is off, or deaf
        };
        match &places.software {
            _ if is_failure(by, result) => return failed,
            Some([_, activate]) if state == 4 => {
                if runs != "V2" {
                    return failed;
                }
                assert_eq!(field.execute(activate, ""), Some(Code::CHANGED));
                return Some(Expected::Succeeded);
            }
            None if executed && runs == version("V2").to_string() => {
                return Some(Expected::Succeeded);
            }
            None if result == 1 && state == 0 => return failed,
            _ => {}
        }
        if state == places.downloaded && !executed {
            executed = true;
            assert_eq!(field.execute(&places.carry, ""), Some(Code::CHANGED));
        } else if state == 0 {
            return None;
        }
    }
    failed
}
