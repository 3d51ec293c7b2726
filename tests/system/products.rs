//! Products of a settings file, of the database, and of devices that are there.

use std::{fs, time::Duration};

use serde_json::json;

use crate::support::{Server, Wire, cellwise, run, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

/// What devices announce. Of a registration without it so little comes that less may be sent than what is asked.
const LINKS: &[u8] = b"</1/0>,</3/0>,</4/0>,</5/0>,</19/0>,</19/1>";

/// Whether pmin is written before the observation.
fn pmin_is_written(wire: &Wire, id: u16) -> bool {
    wire.register(id, &["ep=one"], LINKS);
    let mut written = false;
    loop {
        let request = wire.receive_until(|message| message.kind == 0);
        let observes = !request.values(6).is_empty();
        written |= request.target().ends_with("?pmin=0");
        wire.answer(&request, if observes { 205 } else { 204 });
        if observes {
            return written;
        }
    }
}

#[test]
fn a_change_holds_at_once_for_devices_that_are_there_and_outlives_a_kill_and_a_reload() {
    let mut server = Server::with(&[("CELLWISE_PRODUCTS__METER__AWAKE_WINDOW_S", "10")]);
    server.api.add_device("one", "valve");
    let wire = Wire::to(&server);
    assert!(!pmin_is_written(&wire, 1));
    let (status, product) = server.api.get("/v1/products/meter");
    assert_eq!(
        (status, &product["settings"]["awake_window_s"]),
        (200, &json!(10))
    );
    let change = json!({"settings": {"pmin_zero": true}});
    assert_eq!(server.api.patch("/v1/products/valve", &change).0, 200);
    assert!(pmin_is_written(&wire, 2));
    // settings that are read anew do not undo it
    server.reload();
    wait_for(LIMIT, "the settings", || {
        server
            .said()
            .contains("settings were read anew")
            .then_some(())
    });
    assert!(pmin_is_written(&wire, 3));
    let change = json!({"settings": {"awake_window_s": 20}});
    assert_eq!(server.api.patch("/v1/products/meter", &change).0, 200);
    server.kill_and_restart();
    // the variable is there still, and is not obeyed
    let told = "products.meter in the settings is not obeyed";
    assert!(server.said().contains(told), "{}", server.said());
    let (_, product) = server.api.get("/v1/products/meter");
    assert_eq!(product["settings"]["awake_window_s"], 20);
    let wire = Wire::to(&server);
    assert!(pmin_is_written(&wire, 4));
    let change = json!({"settings": {"pmin_zero": false}});
    assert_eq!(server.api.patch("/v1/products/valve", &change).0, 200);
    assert!(!pmin_is_written(&wire, 5));
}

#[test]
fn check_config_and_doctor_tell_which_products_do_not_count() {
    let server = Server::with(&[("CELLWISE_PRODUCTS__METER__AWAKE_WINDOW_S", "10")]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("settings.toml");
    let asked = |command: &str, window: u32| {
        let file = format!(
            "data_dir = '{}'\n[products.meter]\nawake_window_s = {window}\n",
            server.data_dir().display()
        );
        fs::write(&path, file).unwrap();
        let mut line = cellwise();
        line.arg(command).arg("--config").arg(&path);
        run(&mut line, b"", Duration::from_mins(1))
    };
    let told = "products.meter in the settings is not obeyed";
    let same = asked("check-config", 10);
    assert!(same.status.success() && same.stderr.is_empty(), "{same:?}");
    let other = asked("check-config", 11);
    assert!(other.status.success(), "{other:?}");
    assert!(other.stderr.contains(told), "{other:?}");
    assert!(other.stdout.contains("awake_window_s = 10"), "{other:?}");
    assert!(!asked("doctor", 10).stdout.contains(told));
    let doctor = asked("doctor", 11);
    assert!(doctor.stdout.contains(told), "{doctor:?}");
}
