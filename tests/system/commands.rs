//! An operator's commands, as programs: they find the server by its own settings, and read lists from standard input.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

use crate::support::{Finished, Server, cellwise, noise, run};

const LIMIT: Duration = Duration::from_secs(30);

/// A command in `directory`, with nothing that says where the server is.
fn command(directory: &Path, line: &str, input: &str) -> Finished {
    let mut command = cellwise();
    command.current_dir(directory).args(line.split(' '));
    run(&mut command, input.as_bytes(), LIMIT)
}

fn told(finished: Finished) -> String {
    assert!(finished.status.success(), "{finished:?}");
    finished.stdout
}

/// The server's settings file in a directory.
fn settings(server: &Server, directory: &Path) {
    let listen = server.api.url("");
    let listen = listen.trim_start_matches("http://");
    let data_dir = server.data_dir();
    let text = format!(
        "data_dir = {:?}\n[admin]\nlisten = {listen:?}\n",
        data_dir.display().to_string()
    );
    fs::write(directory.join("cellwise.toml"), text).unwrap();
}

#[test]
fn commands_beside_the_settings_need_no_address_and_no_token() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let nowhere = command(here, "device list", "");
    assert!(!nowhere.status.success(), "{nowhere:?}");
    assert!(
        nowhere
            .stderr
            .contains("or the server's settings by --config"),
        "{nowhere:?}"
    );
    settings(&server, here);
    let list = "\u{feff}endpoint,product\r\na,meter\r\nb,meter\r\nc,meter\r\n";
    let added = told(command(here, "device add --file -", list));
    assert_eq!(added, "3 added, 0 there already, 0 refused\n");
    fs::write(here.join("fw.bin"), noise(1, 2_000)).unwrap();
    told(command(
        here,
        "package upload fw.bin --product meter --version V2",
        "",
    ));
    let create = "task create --version V2 --devices-file -";
    let created = told(command(here, create, "# some\na\nc\n"));
    assert_eq!(created, "task 1 created, running: 2 devices to V2\n");
    let typed = command(here, "device add d --product metre", "");
    assert_eq!(
        typed.stderr,
        "no package is for product metre; did you mean meter?\n"
    );
    let typed = command(here, "device list --product mete", "");
    assert_eq!(
        typed.stderr,
        "no package is for product mete; did you mean meter?\n"
    );
    let json = told(command(here, "upgrade list --device c --format json", ""));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["items"][0]["task_id"], 1);
    // from elsewhere, by the file's name
    let elsewhere = tempfile::tempdir().unwrap();
    let line = format!(
        "task stop 1 --config {}",
        here.join("cellwise.toml").display()
    );
    let stopped = told(command(elsewhere.path(), &line, ""));
    assert!(
        stopped.contains("2 cancelled") || stopped.contains("stopping"),
        "{stopped}"
    );
}

#[test]
fn a_package_that_is_too_large_is_refused_with_the_setting_that_says_so() {
    let server = Server::with(&[("CELLWISE_ADMIN__MAX_PACKAGE_BYTES", "1000")]);
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    settings(&server, here);
    fs::write(here.join("fw.bin"), vec![7; 30_000_000]).unwrap();
    for _ in 0..5 {
        let refused = command(here, "package upload fw.bin --version V2", "");
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert_eq!(
            refused.stderr,
            "The body is too large: the package has more than 1000 bytes, which is the most this server takes \
             (admin.max_package_bytes) (HTTP 413)\n"
        );
    }
}
