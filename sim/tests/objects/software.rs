//! Object 9, and the components of object 33629.

use sim::{
    Character, UpdatesBy,
    coap::{Code, Writer},
    device::Outcome,
};

use super::field::{Field, URI, package, spec, version};

fn software() -> Field {
    let mut spec = spec(UpdatesBy::Software, Character::Zephyr);
    spec.object.component = Some("app".into());
    Field::new(spec)
}

#[test]
fn software_is_uninstalled_for_an_update_delivered_installed_and_activated() {
    for pushed in [false, true] {
        let mut field = software();
        assert_eq!(field.text("9/0/0").as_deref(), Some("app"));
        assert_eq!(field.text("9/0/1").as_deref(), Some("V1"));
        assert_eq!(
            (field.number("9/0/7"), field.number("9/0/12")),
            (Some(4), Some(1))
        );
        assert_eq!(
            field.write("9/0/3", URI.as_bytes()),
            Some(Code::BAD_REQUEST)
        );

        assert_eq!(field.execute("9/0/6", "1"), Some(Code::CHANGED));
        assert_eq!(
            (field.number("9/0/7"), field.number("9/0/12")),
            (Some(0), Some(0))
        );
        assert_eq!(
            field.text("9/0/1").as_deref(),
            Some("V1"),
            "it is still there"
        );
        if pushed {
            assert_eq!(field.push("9/0/2", 64, &package()), Some(Code::CHANGED));
        } else {
            assert_eq!(field.write("9/0/3", URI.as_bytes()), Some(Code::CHANGED));
            assert_eq!(
                (field.number("9/0/7"), field.number("9/0/9")),
                (Some(1), Some(1))
            );
            field.pass(600_000);
        }
        assert_eq!(
            (field.number("9/0/7"), field.number("9/0/9")),
            (Some(3), Some(3))
        );
        assert_eq!(field.device.image(), Some(&*package()));
        assert_eq!(field.execute("9/0/10", ""), Some(Code::METHOD_NOT_ALLOWED));
        assert_eq!(field.execute("9/0/4", ""), Some(Code::CHANGED));
        field.pass(120_000);
        assert_eq!(
            (field.number("9/0/7"), field.number("9/0/9")),
            (Some(4), Some(2))
        );
        assert_eq!(field.text("9/0/1").as_deref(), Some("V2"));
        assert_eq!(field.registrations, 1, "it does not restart for that");
        assert_eq!(field.device.outcome(), None);
        assert_eq!(field.execute("9/0/10", ""), Some(Code::CHANGED));
        assert_eq!(field.number("9/0/12"), Some(1));
        assert_eq!(field.device.outcome(), Some(Outcome::Upgraded));
        assert_eq!(field.device.version(), version("V2"));
        assert_eq!(
            field.text("3/0/3").as_deref(),
            Some("V1"),
            "the firmware is as before"
        );
        assert_eq!(field.execute("9/0/11", ""), Some(Code::CHANGED));
        assert_eq!(field.number("9/0/12"), Some(0));
    }
}

#[test]
fn software_comes_to_a_free_instance_and_can_be_removed() {
    let mut field = software();
    assert_eq!(
        (field.number("9/1/7"), field.text("9/1/0").as_deref()),
        (Some(0), Some(""))
    );
    field.write("9/1/3", URI.as_bytes());
    field.pass(600_000);
    field.execute("9/1/4", "");
    field.pass(120_000);
    field.execute("9/1/10", "");
    assert_eq!(field.text("9/1/1").as_deref(), Some("V2"));
    assert_eq!(field.text("9/0/1").as_deref(), Some("V1"));
    assert_eq!(field.execute("9/1/6", ""), Some(Code::CHANGED));
    assert_eq!(
        (field.number("9/1/7"), field.text("9/1/1").as_deref()),
        (Some(0), Some(""))
    );
}

#[test]
fn delivered_software_outlasts_a_restart_and_can_be_discarded() {
    let mut field = software();
    field.execute("9/0/6", "0='1'");
    field.push("9/0/2", 64, &package());
    field.device.lose_power(field.now_ms, 10_000);
    field.pass(60_000);
    assert_eq!(field.number("9/0/7"), Some(3));
    assert_eq!(field.execute("9/0/6", ""), Some(Code::CHANGED));
    assert_eq!(field.number("9/0/7"), Some(0));
    assert_eq!(field.execute("9/0/4", ""), Some(Code::METHOD_NOT_ALLOWED));
}

#[test]
fn a_component_is_upgraded_in_its_own_instance() {
    let mut spec = spec(UpdatesBy::Components, Character::Anjay);
    spec.object.component = Some("radio".into());
    let mut field = Field::new(spec);
    assert_eq!(field.text("33629/0/14").as_deref(), Some("main"));
    assert_eq!(field.text("33629/1/14").as_deref(), Some("radio"));
    assert_eq!(field.text("33629/1/15").as_deref(), Some("V1"));
    let linked = field.ask(Code::GET, "33629/1/16", Writer::finish).unwrap();
    assert_eq!(linked.message().payload, [0x80, 16], "with none");
    assert_eq!(
        field.write("33629/1/1", URI.as_bytes()),
        Some(Code::CHANGED)
    );
    // one at a time
    assert_eq!(
        field.write("33629/0/1", URI.as_bytes()),
        Some(Code::BAD_REQUEST)
    );
    field.pass(600_000);
    assert_eq!(field.text("33629/1/7").as_deref(), Some("V2"));
    assert_eq!(field.execute("33629/1/2", ""), Some(Code::CHANGED));
    field.pass(120_000);
    assert_eq!(field.registrations, 2);
    assert_eq!(
        (field.number("33629/1/3"), field.number("33629/1/5")),
        (Some(0), Some(1))
    );
    assert_eq!(field.text("33629/1/15").as_deref(), Some("V2"));
    assert_eq!(field.text("33629/0/15").as_deref(), Some("V1"));
    assert_eq!(field.device.version(), version("V2"));
}
