use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use cellwise::config::Config;

use crate::support::{Finished, cellwise, run};

fn check_config(file: Option<&str>, env: &[(&str, &str)]) -> Finished {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("settings.toml");
    let mut command = cellwise();
    command.arg("check-config").current_dir(directory.path());
    command.envs(env.iter().copied());
    if let Some(text) = file {
        fs::write(&path, text).unwrap();
        command.arg("--config").arg(&path);
    }
    run(&mut command, b"", Duration::from_secs(20))
}

fn shown(finished: &Finished) -> Config {
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(finished.stderr, "");
    toml::from_str(&finished.stdout).unwrap()
}

#[test]
fn shows_the_settings_in_effect() {
    assert_eq!(shown(&check_config(None, &[])), Config::default());
    let file = "[coap]\nlisten = '127.0.0.1:5000'\nqueue_len = 12";
    let env = [("CELLWISE_COAP__QUEUE_LEN", "13")];
    let config = shown(&check_config(Some(file), &env));
    assert_eq!(config.coap.listen.port(), 5_000);
    assert_eq!(config.coap.queue_len, 13);
}

#[test]
fn lists_every_problem_at_once() {
    let file = "[coap]\nack_random_factor = 0.5\n[admission]\nlimit_good = 0";
    let env = [
        ("CELLWISE_COAP__QEUE_LEN", "3"),
        ("CELLWISE_ADMIN__LISTEN", "here"),
    ];
    let finished = check_config(Some(file), &env);
    assert_eq!(finished.status.code(), Some(1));
    assert_eq!(finished.stdout, "");
    let lines: Vec<&str> = finished.stderr.lines().collect();
    for (line, beginning) in lines.iter().zip([
        "CELLWISE_ADMIN__LISTEN: ",
        "CELLWISE_COAP__QEUE_LEN: no such setting; did you mean CELLWISE_COAP__QUEUE_LEN?",
        "coap.ack_random_factor: 0.5 is out of range",
        "admission.limit_good: 0 is out of range",
    ]) {
        assert!(line.starts_with(beginning), "{line}");
    }
    assert_eq!(lines.len(), 4, "{lines:?}");
}

#[test]
fn names_the_file_that_cannot_be_read() {
    let finished = run(
        cellwise().args(["check-config", "--config", "/nowhere/settings.toml"]),
        b"",
        Duration::from_secs(20),
    );
    assert_eq!(finished.status.code(), Some(1));
    assert!(
        finished.stderr.contains("/nowhere/settings.toml"),
        "{finished:?}"
    );
    let finished = check_config(Some("[coap\n"), &[]);
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.contains("settings.toml"), "{finished:?}");
}

#[test]
fn refuses_what_the_server_would_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("credential.key");
    fs::write(&key, "ab".repeat(32)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let key = key.display();
    let kept = directory.path().join("evidence.pem");
    fs::write(&kept, "no key").unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    let signing = |path: &str| format!("enabled = false\n[evidence]\nsigning_key = '{path}'");
    let cases = [
        ("enabled = true".to_owned(), "dtls.credential_key is the demo's"),
        (format!("credential_key_file = '{key}'"), "chmod 600"),
        ("credential_key_file = '/nowhere/key'".to_owned(), "/nowhere/key"),
        (
            "certificate_file = '/nowhere/c'\nprivate_key_file = '/nowhere/k'\nclient_ca_file = '/nowhere/a'"
                .to_owned(),
            "/nowhere/c",
        ),
        (signing("/nowhere/e"), "/nowhere/e"),
        (signing(&key.to_string()), "chmod 600"),
        (signing(kept.to_str().unwrap()), "evidence.signing_key"),
    ];
    for (dtls, told) in &cases {
        let file = format!("[dtls]\n{dtls}\n[admission]\nlimit_good = 0\n");
        let checked = check_config(Some(&file), &[]);
        assert_eq!(checked.status.code(), Some(1));
        assert!(checked.stderr.contains(told), "{checked:?}");
        assert!(
            checked.stderr.contains("admission.limit_good"),
            "all is told: {checked:?}"
        );

        let config = directory.path().join("cellwise.toml");
        fs::write(&config, format!("[dtls]\n{dtls}\n")).unwrap();
        let mut serve = cellwise();
        serve
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .current_dir(directory.path());
        serve.envs([
            ("CELLWISE_COAP__LISTEN", "127.0.0.1:0"),
            ("CELLWISE_ADMIN__LISTEN", "127.0.0.1:0"),
        ]);
        if dtls.contains("certificate") {
            serve
                .env("CELLWISE_DTLS__ENABLED", "true")
                .env("CELLWISE_DTLS__CREDENTIAL_KEY", "cd".repeat(32));
        }
        let served = run(&mut serve, b"", Duration::from_secs(20));
        assert_eq!(served.status.code(), Some(1));
        assert!(served.stderr.contains(told), "{served:?}");
    }
}
