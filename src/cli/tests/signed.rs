//! Signed packages, what they carry, and evidence.

use std::{fs, sync::Arc};

use super::*;
use crate::{
    api::Evidence,
    signing::{
        Algorithm, SigningKey,
        tests::{make_key, sign},
    },
};

impl Shell {
    /// A key pair in the shell's directory: the path of the public key.
    fn key(&self, name: &str, algorithm: Algorithm) -> String {
        make_key(self.dir.path(), name, algorithm);
        let path = self.dir.path().join(format!("{name}.pub.pem"));
        path.to_str().unwrap().to_owned()
    }
}

/// Runs a command that asks no server.
fn offline(line: &str) -> Result<String, String> {
    let line = Line::try_parse_from(["cellwise"].into_iter().chain(line.split(' '))).unwrap();
    let mut out = Vec::new();
    (line.command.run(&mut out)).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn a_key_is_added_and_vouches_until_it_is_removed() {
    let shell = Shell::new().await;
    let public = shell.key("release", Algorithm::RsaPss);
    let rules = shell.text("product set meter --signatures required").await;
    assert_eq!(rules, "product meter: signatures required, 0 keys\n");
    let added = shell.text(&format!("product key add meter {public}")).await;
    let id = added.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(added, format!("key {id} (rsa-pss) vouches for meter\n"));
    let private = shell.dir.path().join("release.pem");
    let line = format!("product key add meter {}", private.display());
    let refused = shell.error(&line).await;
    assert!(refused.contains("private key"), "{refused}");
    let listed = shell.text("product key list meter").await;
    assert!(listed.contains(&id), "{listed}");
    let shown = shell.text("product show meter").await;
    let expected = "product meter: signatures required, 1 key\n0 devices, 0 packages\n";
    assert_eq!(shown, expected);
    let file = shell.file("meter.bin", b"content");
    let upload = format!("package upload {file} --product meter --version V2");
    let refused = shell.error(&upload).await;
    assert!(refused.contains("signed packages only"), "{refused}");
    let signature = sign(shell.dir.path(), "release", Algorithm::RsaPss, b"content");
    let binary = shell.file("meter.sig", &signature);
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &signature);
    let text = shell.file("meter.sig.txt", format!("{text}\n").as_bytes());
    for signature in [binary, text] {
        shell
            .text(&format!("{upload} --signature {signature}"))
            .await;
    }
    let wrong = shell.file("wrong.sig", &[7; 256]);
    let refused = shell.error(&format!("{upload} --signature {wrong}")).await;
    assert!(refused.contains("none of the 1 keys"), "{refused}");
    let shown = shell.text("package show 1").await;
    let line = format!("signature     by key {id} (rsa-pss), verified ");
    assert!(shown.contains(&line), "{shown}");
    let removed = shell.text(&format!("product key remove meter {id}")).await;
    assert!(
        removed.contains("no new task takes the 1 package"),
        "{removed}"
    );
    let shown = shell.text("package show 1").await;
    assert!(shown.contains("the key was removed"), "{shown}");
}

#[tokio::test]
async fn what_a_package_carries_is_given_shown_and_changed() {
    let shell = Shell::new().await;
    let file = shell.file("meter.bin", b"content");
    let bill = r#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"name": "a"}, {"name": "b"}]}"#;
    let sbom = shell.file("meter.cdx.json", bill.as_bytes());
    let notes = shell.file("notes.txt", b"Mends the clock.\r\nAnd more.\r\n");
    let line = format!(
        "package upload {file} --product meter --version V2 --sbom {sbom} --cve CVE-2026-2000,CVE-2026-1000 \
         --support-ends 2031-12-31 --release-notes {notes} --format json"
    );
    let uploaded = shell.run(&line).await.unwrap().json();
    assert_eq!(uploaded["release_notes"], "Mends the clock.\nAnd more.\n");
    assert_eq!(uploaded["sbom"]["components"], 2);
    assert_eq!(uploaded["revision"], 3);
    assert_eq!(shell.text("package sbom 1").await, bill);
    let shown = shell.text("package show 1").await;
    for line in [
        "signature     none",
        "SBOM          cyclonedx 1.6, 2 components",
        "mends         CVE-2026-1000, CVE-2026-2000",
        "support ends  2031-12-31",
        "Mends the clock.",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let set = "package set 1 --cve CVE-2026-3000 --clear sbom,support-ends";
    let shown = shell.text(set).await;
    for line in [
        "SBOM          -",
        "mends         CVE-2026-3000",
        "support ends  -",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let refused = shell.error("package set 1").await;
    assert!(refused.starts_with("nothing is to be changed"), "{refused}");
    let refused = shell.error("package sbom 1").await;
    assert!(refused.contains("no bill of materials"), "{refused}");
    // the package stays where what follows it is refused
    let wrong = shell.file("wrong.json", b"{}");
    let line = format!("package upload {file} --product meter --version V3 --sbom {wrong}");
    let refused = shell.error(&line).await;
    assert!(refused.contains("neither CycloneDX"), "{refused}");
    assert!(shell.text("package list").await.contains("V3"));
}

#[tokio::test]
async fn evidence_is_listed_counted_saved_and_verified() {
    let shell = Shell::with(|state, dir| {
        make_key(dir, "carrier", Algorithm::Ed25519);
        let key = SigningKey::from_pem(&fs::read(dir.join("carrier.pem")).unwrap());
        state.evidence = Arc::new(Evidence::new(Some(key.unwrap()), dir));
    })
    .await;
    let file = shell.file("meter.bin", b"content");
    let upload = format!("package upload {file} --product meter --version V2 --cve CVE-2026-1000");
    shell.text(&upload).await;
    for device in ["urn:imei:1", "urn:imei:2"] {
        shell
            .text(&format!("device add {device} --product meter"))
            .await;
    }
    shell
        .text("task create --name night --package 1 --devices urn:imei:1")
        .await;
    let counted = shell.text("evidence count --cve CVE-2026-1000").await;
    assert_eq!(
        counted,
        "CVE-2026-1000 of 2 devices: 0 mended, 0 affected, 2 unknown\n  never_heard: 1\n  queued: 1\n"
    );
    let listed = shell.text("evidence list --cve CVE-2026-1000").await;
    let lines: Vec<Vec<&str>> = (listed.lines())
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[1][..5],
        ["urn:imei:1", "meter", "-", "unknown", "queued"]
    );
    assert_eq!(lines[2][4], "never_heard");
    let none = shell
        .text("evidence list --cve CVE-2026-1000 --standing mended")
        .await;
    assert_eq!(none.lines().count(), 1);
    let at = |name: &str| shell.dir.path().join(name).to_str().unwrap().to_owned();
    let export = format!(
        "evidence export --cve CVE-2026-1000 --format json --out {}",
        at("e.tar")
    );
    shell.text(&export).await;
    let again = shell.error(&export).await;
    assert!(again.contains("exists"), "{again}");
    let verify = |file: &str, key: &str| {
        let line = format!("evidence verify {} --key {}", at(file), at(key));
        offline(&line)
    };
    let verified = verify("e.tar", "carrier.pub.pem").unwrap();
    assert!(
        verified.contains("verified: evidence.json of CVE-2026-1000"),
        "{verified}"
    );
    assert!(
        verified.contains("2 devices: 0 mended, 0 affected, 2 unknown"),
        "{verified}"
    );
    shell.key("other", Algorithm::Ed25519);
    let refused = verify("e.tar", "other.pub.pem").unwrap_err();
    assert!(refused.contains("not verified"), "{refused}");
    let mut bytes = fs::read(at("e.tar")).unwrap();
    let last = bytes.windows(6).rposition(|it| it == b"queued").unwrap();
    bytes[last] = b'Q';
    fs::write(at("forged.tar"), bytes).unwrap();
    let refused = verify("forged.tar", "carrier.pub.pem").unwrap_err();
    assert!(refused.contains("is not what was signed"), "{refused}");
    // what is refused leaves no file
    let line = format!(
        "evidence export --cve CVE-2026-9999 --out {}",
        at("none.tar")
    );
    let refused = shell.error(&line).await;
    assert!(refused.contains("no package says"), "{refused}");
    assert!(!shell.dir.path().join("none.tar").exists());
}
