use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::server::backup::LastBackup;
use crate::store::{FILE_NAME, PACKAGES_DIRECTORY, SqliteStore};

const QUICK: Thoroughness = Thoroughness { whole: false };

/// Settings of a server that does not run, with ports of the system's choosing.
fn config(dir: &Path) -> Config {
    if dir.exists() {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let mut config = Config {
        data_dir: dir.to_owned(),
        ..Config::default()
    };
    config.coap.listen.set_port(0);
    config.admin.listen.set_port(0);
    config
}

fn worst(findings: &[Finding], check: &str) -> Finding {
    let of_check = findings.iter().filter(|it| it.check == check);
    of_check
        .max_by_key(|it| it.level)
        .unwrap_or_else(|| panic!("{check}: {findings:?}"))
        .clone()
}

/// Every file with its content and times.
fn image(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>, std::time::SystemTime)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            (
                path.clone(),
                fs::read(&path).unwrap(),
                fs::metadata(&path).unwrap().modified().unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_is_well_is_told_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = look(&config(&dir.path().join("nowhere")), QUICK).await;
    assert_eq!(worst(&nothing, "database").level, Level::Ok);
    assert!(!dir.path().join("nowhere").exists());
    SqliteStore::open(dir.path()).await.unwrap().close().await;
    let before = image(dir.path());
    for whole in [false, true] {
        let found = look(&config(dir.path()), Thoroughness { whole }).await;
        for check in [
            "settings",
            "data directory",
            "permissions",
            "disk",
            "ports",
            "database",
            "packages",
        ] {
            assert_eq!(worst(&found, check).level, Level::Ok, "{found:?}");
        }
        for check in ["kernel", "receive buffer", "open files", "clock"] {
            assert!(worst(&found, check).level < Level::Error, "{found:?}");
        }
        for it in &found {
            assert_eq!(it.advice.is_some(), it.level != Level::Ok, "{it:?}");
        }
    }
    assert_eq!(image(dir.path()), before);
}

#[tokio::test]
async fn what_is_not_well_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    store.close().await;
    let database = dir.path().join(FILE_NAME);
    let mode = |mode| fs::set_permissions(&database, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let open = worst(&look(&config(dir.path()), QUICK).await, "permissions");
    assert_eq!(open.level, Level::Warning);
    assert!(open.advice.unwrap().starts_with("run chmod 600 "));
    mode(0o600);

    let whole = fs::read(&database).unwrap();
    let mut damaged = whole.clone();
    damaged[4_096..4_096 + 2_000].fill(0xAA);
    fs::write(&database, damaged).unwrap();
    let found = worst(&look(&config(dir.path()), QUICK).await, "database");
    assert_eq!(found.level, Level::Error, "{found:?}");
    assert!(found.advice.unwrap().contains("restore a backup"));
    fs::write(&database, whole).unwrap();

    fs::write(dir.path().join(data_dir::HALF_RESTORED), "").unwrap();
    let found = worst(&look(&config(dir.path()), QUICK).await, "data directory");
    assert!(found.level == Level::Error && found.told.contains("a restore broke off"));
    fs::remove_file(dir.path().join(data_dir::HALF_RESTORED)).unwrap();

    let found = worst(&look(&config(dir.path()), QUICK).await, "backup");
    assert!(found.level == Level::Warning && found.told == "no backup is known");
    let now = SystemClock::start().now().utc;
    for (age, level) in [(1, Level::Ok), (27, Level::Warning)] {
        let last = LastBackup {
            at: now.before(std::time::Duration::from_hours(age)),
            path: "/backup/cellwise-20270115T080000Z".into(),
        };
        last.note(dir.path()).unwrap();
        let found = worst(&look(&config(dir.path()), QUICK).await, "backup");
        assert!(
            found.level == level && found.told.ends_with("Z"),
            "{found:?}"
        );
    }

    let mut wrong = config(dir.path());
    wrong.admin.listen = "0.0.0.0:0".parse().unwrap();
    let found = worst(&look(&wrong, QUICK).await, "certificates");
    assert!(found.level == Level::Warning && found.told.contains("without TLS"));
    wrong.admin.tls_certificate = dir.path().join("nowhere.pem");
    wrong.admin.tls_key = wrong.admin.tls_certificate.clone();
    let found = look(&wrong, QUICK).await;
    for check in ["certificates", "settings"] {
        assert_eq!(worst(&found, check).level, Level::Error, "{found:?}");
    }
}

#[tokio::test]
async fn packages_that_are_not_what_was_uploaded_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    let package = crate::store::conformance::new_package("meter", "V1", 7);
    crate::store::Catalog::insert_package(&store, &package)
        .await
        .unwrap();
    let path = dir.path().join(PACKAGES_DIRECTORY).join(&package.sha256);
    let found = worst(&look(&config(dir.path()), QUICK).await, "packages");
    assert!(
        found.level == Level::Error && found.told.contains("No such file"),
        "{found:?}"
    );
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "something else").unwrap();
    let found = worst(&look(&config(dir.path()), QUICK).await, "packages");
    assert!(found.told.contains("is damaged"), "{found:?}");
    store.close().await;
}

#[tokio::test]
async fn a_server_that_runs_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let lock = data_dir::take(dir.path()).unwrap();
    let found = worst(&look(&config(dir.path()), QUICK).await, "data directory");
    let own = format!(
        "used by the server with process number {}",
        std::process::id()
    );
    assert!(found.told.contains(&own), "{found:?}");
    drop(lock);
    let found = worst(&look(&config(dir.path()), QUICK).await, "data directory");
    assert!(found.told.contains("used by no server"), "{found:?}");
}

#[tokio::test]
async fn products_of_the_settings_that_do_not_count_are_told() {
    use crate::{config::ProductConfig, store::Products as _};
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    let mut config = config(dir.path());
    let product = ProductConfig {
        pmin_zero: true,
        ..ProductConfig::default()
    };
    config.products.insert("meter".to_owned(), product);
    // the first start is still to come
    let found = look(&config, QUICK).await;
    assert!(found.iter().all(|it| it.check != "products"), "{found:?}");
    store.import_products(&config.products).await.unwrap();
    let found = look(&config, QUICK).await;
    assert_eq!(worst(&found, "products").level, Level::Ok);
    config.products.insert("valve".to_owned(), product);
    store.close().await;
    let found = worst(&look(&config, QUICK).await, "products");
    assert_eq!(found.level, Level::Warning);
    assert!(found.told.starts_with("products.valve "), "{found:?}");
}
