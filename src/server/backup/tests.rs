use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, sync::Arc};

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::{
    ledger::PackageId,
    package::{PcpOffer, SbomKind, Segmentation, Version},
    server::data_dir,
    store::{
        Catalog as _, NewPackage, PackageFiles, Papers, PapersChange, SbomRecord, SqliteStore,
    },
};

const NOW: UtcMillis = UtcMillis(1_800_000_000_000);

/// A data directory in use.
struct Data {
    dir: TempDir,
    store: SqliteStore,
    files: PackageFiles,
}

impl Data {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path()).await.unwrap();
        let files = PackageFiles::open(dir.path()).await.unwrap();
        fs::write(dir.path().join(TOKEN_FILE), "secret").unwrap();
        Self { dir, store, files }
    }

    async fn upload(&self, version: &str, content: &[u8]) -> String {
        let mut upload = self.files.upload(1_000_000).await.unwrap();
        upload.write(content).await.unwrap();
        let content = upload
            .seal()
            .await
            .unwrap()
            .publish(&self.files)
            .await
            .unwrap();
        let package = NewPackage {
            product: "meter".to_owned(),
            version: Version::new(version).unwrap(),
            component: None,
            sha256: content.sha256.clone(),
            crc: content.crc,
            size_bytes: content.size_bytes,
            md5: None,
            pcp: Some(PcpOffer {
                version: pcp::Version::new(version).unwrap(),
                check_code: content.crc,
                segmentation: Segmentation::choose(content.size_bytes, None, false).unwrap(),
            }),
            created_at: NOW,
            papers: Papers::default(),
        };
        self.store.insert_package(&package).await.unwrap();
        content.sha256
    }

    fn file(&self, sha256: &str) -> PathBuf {
        self.dir.path().join(PACKAGES_DIRECTORY).join(sha256)
    }
}

/// Gives package 1 a bill of materials.
async fn describe(data: &Data) -> String {
    let document = br#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#;
    let mut upload = data.files.upload(1_000).await.unwrap();
    upload.write(document).await.unwrap();
    let sealed = upload.seal().await.unwrap();
    let content = sealed.publish(&data.files).await.unwrap();
    let sbom = SbomRecord {
        kind: SbomKind::of(document).unwrap(),
        sha256: content.sha256.clone(),
        size_bytes: content.size_bytes,
    };
    let change = PapersChange {
        sbom: Some(Some(sbom)),
        ..PapersChange::default()
    };
    let updated = data.store.update_package(PackageId(1), &change, None).await;
    updated.unwrap();
    content.sha256
}

#[tokio::test]
async fn a_bill_of_materials_is_in_the_backup_of_its_package() {
    let data = Data::new().await;
    let above = tempfile::tempdir().unwrap();
    let mut files = vec![data.upload("V1", b"one").await, describe(&data).await];
    files.sort();
    let made = made(&data, above.path()).await;
    assert_eq!(made.manifest.packages(), 2);
    let dir = above.path().join("data");
    restored(&made.path, &dir).await.unwrap();
    assert_eq!(names(&dir.join(PACKAGES_DIRECTORY)), files);
}

async fn made(data: &Data, to: &Path) -> Made {
    back_up(data.dir.path(), to, NOW, &mut |_| ())
        .await
        .unwrap()
}

async fn restored(from: &Path, to: &Path) -> Result<Restored, BackupError> {
    restore(from, to, &mut |_| ()).await
}

async fn refused(from: &Path) -> String {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("data");
    let error = restored(from, &dir).await.unwrap_err().to_string();
    assert!(!dir.exists(), "{error}");
    error
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = names
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_backup_of_a_store_in_use_is_restored() {
    let data = Data::new().await;
    let sha256 = data.upload("V1", b"one").await;
    fs::write(data.file(&"0".repeat(64)), "nobody's").unwrap();
    let to = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    let made = back_up(data.dir.path(), to.path(), NOW, &mut |step| told.push(step))
        .await
        .unwrap();
    assert_eq!(made.path, to.path().join("cellwise-20270115T080000Z"));
    assert_eq!(names(to.path()), ["cellwise-20270115T080000Z"]);
    assert_eq!((made.manifest.packages(), mode(&made.path)), (1, 0o700));
    assert!(told.contains(&Progress::Packages(1, 1)) && told.contains(&Progress::Checking));
    for file in &made.manifest.files {
        assert_eq!(mode(&made.path.join(&file.path)), 0o600, "{}", file.path);
    }
    // a second at the same second does not touch the first
    let again = back_up(data.dir.path(), to.path(), NOW, &mut |_| ()).await;
    assert!(again.unwrap_err().to_string().contains("File exists") || names(to.path()).len() == 1);
    data.upload("V2", b"two").await;

    let dir = to.path().join("data");
    let restored = restored(&made.path, &dir).await.unwrap();
    assert_eq!(restored.manifest, made.manifest);
    assert_eq!(fs::read(dir.join(TOKEN_FILE)).unwrap(), b"secret");
    assert_eq!(names(&dir.join(PACKAGES_DIRECTORY)), [&*sha256]);
    assert!(data_dir::was_restored(&dir), "the server is to be told");
    data_dir::restore_is_noted(&dir).unwrap();
    assert!(!data_dir::was_restored(&dir));
    assert_eq!(mode(&dir), 0o700);
    let store = SqliteStore::open(&dir).await.unwrap();
    let page = store.packages(None, None, 10).await.unwrap();
    let versions: Vec<&str> = page
        .items
        .iter()
        .map(|it| it.package.version.as_str())
        .collect();
    assert_eq!(versions, ["V1"]);
    let files = PackageFiles::open(&dir).await.unwrap();
    assert_eq!(files.read(&page.items[0]).await.unwrap(), b"one");
    drop(data_dir::take(&dir).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_that_come_and_go_meanwhile_are_in_the_backup_as_the_database_has_them() {
    let data = Arc::new(Data::new().await);
    let gone = data.upload("V1", b"one").await;
    let to = tempfile::tempdir().unwrap();
    let mut once = true;
    let mut change = |progress| {
        if progress != Progress::Packages(1, 1) || !once {
            return;
        }
        once = false;
        // between the files and the database
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let page = data.store.packages(None, None, 1).await.unwrap();
                data.store
                    .delete_package(page.items[0].id, NOW)
                    .await
                    .unwrap();
                fs::remove_file(data.file(&gone)).unwrap();
                data.upload("V2", b"two").await;
            });
        });
    };
    let made = back_up(data.dir.path(), to.path(), NOW, &mut change)
        .await
        .unwrap();
    let [two] = &names(&made.path.join(PACKAGES_DIRECTORY))[..] else {
        panic!("{made:?}");
    };
    assert!(
        *two != gone && made.manifest.left_out.is_empty(),
        "{made:?}"
    );
    restored(&made.path, &to.path().join("data")).await.unwrap();
}

#[tokio::test]
async fn a_package_whose_file_is_damaged_is_left_out_and_named() {
    let data = Data::new().await;
    let (damaged, missing) = (
        data.upload("V1", b"one").await,
        data.upload("V2", b"two").await,
    );
    data.upload("V3", b"three").await;
    fs::write(data.file(&damaged), "eno").unwrap();
    fs::remove_file(data.file(&missing)).unwrap();
    let to = tempfile::tempdir().unwrap();
    let made = made(&data, to.path()).await;
    let mut expected = [damaged, missing];
    expected.sort();
    assert_eq!(made.manifest.left_out, expected);
    assert_eq!(made.manifest.packages(), 1);
    restored(&made.path, &to.path().join("data")).await.unwrap();
}

#[tokio::test]
async fn what_is_not_a_whole_backup_is_refused_before_anything_is_written() {
    let data = Data::new().await;
    let sha256 = data.upload("V1", b"one").await;
    let to = tempfile::tempdir().unwrap();
    let backup = made(&data, to.path()).await.path;
    let error = refused(to.path()).await;
    assert!(
        error.contains("name one of them, the newest is") && error.contains("cellwise-2027"),
        "{error}"
    );
    assert!(
        refused(&to.path().join("nothing"))
            .await
            .contains("it has no manifest.json")
    );

    for path in [
        FILE_NAME.to_owned(),
        TOKEN_FILE.to_owned(),
        format!("{PACKAGES_DIRECTORY}/{sha256}"),
    ] {
        let path = backup.join(path);
        let before = fs::read(&path).unwrap();
        let mut changed = before.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(&path, changed).unwrap();
        let error = refused(&backup).await;
        assert!(
            error.contains("is damaged: it has") && error.contains("take another backup"),
            "{error}"
        );
        fs::remove_file(&path).unwrap();
        assert!(refused(&backup).await.contains("No such file"));
        fs::write(&path, before).unwrap();
    }

    let manifest = backup.join(MANIFEST);
    let before = fs::read_to_string(&manifest).unwrap();
    let change = |what: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&before).unwrap();
        what(&mut value);
        fs::write(&manifest, value.to_string()).unwrap();
    };
    change(&|value| value["files"][0]["path"] = "../cellwise.db".into());
    assert!(refused(&backup).await.contains("which no backup has"));
    change(&|value| value["files"][2]["path"] = "packages/../../x".into());
    assert!(refused(&backup).await.contains("which no backup has"));
    change(&|value| value["files"].as_array_mut().unwrap().truncate(2));
    assert!(refused(&backup).await.contains("is not in the backup"));
    change(&|value| value["files"] = Value::Array(vec![]));
    assert!(refused(&backup).await.contains("does not name cellwise.db"));
    change(&|value| {
        value["database_step"] = 9_999.into();
        value["version"] = "9.9.9".into();
    });
    let error = refused(&backup).await;
    assert!(
        error.contains("was made by Cellwise 9.9.9") && error.contains("9999"),
        "{error}"
    );
    change(&|value| value["format"] = 2.into());
    assert!(
        refused(&backup)
            .await
            .contains("restore it with that version or a newer one")
    );
    fs::write(&manifest, "{").unwrap();
    assert!(refused(&backup).await.contains("manifest.json: EOF"));
    fs::write(&manifest, &before).unwrap();
    let incomplete = to.path().join("cellwise-20270115T080000Z.incomplete");
    fs::rename(&backup, &incomplete).unwrap();
    assert!(
        refused(&incomplete)
            .await
            .contains("it did not come to its end")
    );
    assert!(backups(to.path()).unwrap().is_empty());
}

#[tokio::test]
async fn a_directory_in_use_or_half_restored_is_left_alone() {
    let data = Data::new().await;
    let to = tempfile::tempdir().unwrap();
    let backup = made(&data, to.path()).await.path;
    let error = restored(&backup, data.dir.path()).await.unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty(_)), "{error}");
    // a restore that cannot go on leaves its mark, and no server starts on it
    let half = to.path().join("half");
    fs::create_dir(&half).unwrap();
    fs::write(half.join(data_dir::HALF_RESTORED), "").unwrap();
    let error = data_dir::take(&half).unwrap_err();
    assert!(matches!(error, StartError::HalfRestored(_)), "{error}");
    // what a file system has from the beginning is no data
    let mount = to.path().join("mount");
    fs::create_dir_all(mount.join("lost+found")).unwrap();
    fs::set_permissions(&mount, Permissions::from_mode(0o700)).unwrap();
    restored(&backup, &mount).await.unwrap();
    assert!(!mount.join(data_dir::HALF_RESTORED).exists());
}

#[tokio::test]
async fn what_is_no_data_directory_or_holds_its_own_backup_is_refused() {
    let to = tempfile::tempdir().unwrap();
    let nothing = tempfile::tempdir().unwrap();
    let error = back_up(nothing.path(), to.path(), NOW, &mut |_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, BackupError::NoData(_)), "{error}");
    let data = Data::new().await;
    let inside = data.dir.path().join("backups");
    let error = back_up(data.dir.path(), &inside, NOW, &mut |_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, BackupError::Inside(_)), "{error}");
    data.store.close().await;
    let pages = fs::metadata(data.dir.path().join(FILE_NAME)).unwrap().len();
    assert!(pages > 4_096);
    fs::write(data.dir.path().join(FILE_NAME), vec![b'x'; 8_192]).unwrap();
    let error = back_up(data.dir.path(), to.path(), NOW, &mut |_| ())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(names(to.path()), [""; 0]);
}

#[tokio::test]
async fn only_the_newest_backups_are_kept() {
    let data = Data::new().await;
    let to = tempfile::tempdir().unwrap();
    let mut made = Vec::new();
    for hours in 0..4 {
        let now = UtcMillis(NOW.0 + hours * 3_600_000);
        let backup = back_up(data.dir.path(), to.path(), now, &mut |_| ()).await;
        made.push(backup.unwrap().path);
    }
    // names of others are no backups
    for other in [
        "cellwise-notes",
        "cellwise-20270115T080000Z.old",
        "cellwise-2027011XT080000Z",
    ] {
        fs::create_dir(to.path().join(other)).unwrap();
        fs::write(to.path().join(other).join(MANIFEST), "").unwrap();
    }
    assert_eq!(backups(to.path()).unwrap(), made);
    assert_eq!(prune(to.path(), &made[3], 2, NOW).unwrap(), 2);
    assert_eq!(backups(to.path()).unwrap(), made[2..]);
    assert_eq!(prune(to.path(), &made[3], 2, NOW).unwrap(), 0);
    assert_eq!(names(to.path()).len(), 5);
}

/// A directory that is taken for a whole backup.
fn pretend(to: &Path, name: &str) -> PathBuf {
    let path = to.join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("manifest.json"), "{}").unwrap();
    path
}

#[test]
fn the_backup_that_was_made_stays_though_the_clock_was_ahead_before() {
    let to = tempfile::tempdir().unwrap();
    let to = to.path();
    for day in [1, 2, 3] {
        pretend(to, &format!("cellwise-2027010{day}T000000Z"));
    }
    pretend(to, "cellwise-20990101T000000Z");
    let made = pretend(to, "cellwise-20270104T000000Z");
    assert_eq!(prune(to, &made, 3, NOW).unwrap(), 2);
    let expected = [
        "cellwise-20270103T000000Z",
        "cellwise-20270104T000000Z",
        "cellwise-20990101T000000Z",
    ];
    assert_eq!(names(to), expected);
    assert_eq!(prune(to, &made, 1, NOW).unwrap(), 2);
    assert_eq!(names(to), ["cellwise-20270104T000000Z"]);
}

#[test]
fn what_a_power_failure_has_left_is_removed_after_a_day() {
    let to = tempfile::tempdir().unwrap();
    let to = to.path();
    let made = pretend(to, "cellwise-20270104T000000Z");
    pretend(to, "cellwise-20270103T000000Z.incomplete");
    pretend(to, "mine.incomplete");
    let written = last_written(&made).unwrap();
    let hour = Duration::from_hours(1);
    assert_eq!(prune(to, &made, 1, written + hour * 23).unwrap(), 0);
    assert_eq!(names(to).len(), 3);
    assert_eq!(prune(to, &made, 1, written + hour * 25).unwrap(), 0);
    assert_eq!(names(to), ["cellwise-20270104T000000Z", "mine.incomplete"]);
}
