use bytes::Bytes;

use super::*;
use crate::{
    clock::UtcMillis,
    ledger::PackageId,
    package::{PcpOffer, Segmentation, Version},
    store::{Catalog as _, NewPackage, Papers, SqliteStore},
};

async fn sealed(files: &PackageFiles, chunks: &[&[u8]]) -> SealedUpload {
    let mut upload = files.upload(1_000).await.unwrap();
    for chunk in chunks {
        upload.write(chunk).await.unwrap();
    }
    upload.seal().await.unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir.join(PACKAGES_DIRECTORY))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn record(content: &Content) -> PackageRecord {
    PackageRecord {
        id: PackageId(1),
        package: NewPackage {
            product: "p".to_owned(),
            version: Version::new("V1").unwrap(),
            component: None,
            sha256: content.sha256.clone(),
            crc: content.crc,
            size_bytes: content.size_bytes,
            md5: None,
            pcp: Some(PcpOffer {
                version: pcp::Version::new("V1").unwrap(),
                check_code: content.crc,
                segmentation: Segmentation::choose(content.size_bytes, None, false).unwrap(),
            }),
            created_at: UtcMillis(0),
            papers: Papers::default(),
        },
        superseded_at: None,
        deleted_at: None,
        revision: 1,
    }
}

#[tokio::test]
async fn what_was_uploaded_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let files = PackageFiles::open(dir.path()).await.unwrap();
    let sealed = sealed(&files, &[b"abc", b"", b"def"]).await;
    let content = sealed.publish(&files).await.unwrap();
    assert_eq!(content.size_bytes, 6);
    assert_eq!(content.crc, pcp::checksum(b"abcdef"));
    assert_eq!(content.sha256, hex::encode(Sha256::digest(b"abcdef")));
    assert_eq!(names(dir.path()), [&*content.sha256]);
    let package = record(&content);
    assert_eq!(files.read(&package).await.unwrap(), b"abcdef");
    files.remove(&content.sha256).await.unwrap();
    files.remove(&content.sha256).await.unwrap();
    assert!(matches!(
        files.read(&package).await,
        Err(ReadError::File(_))
    ));
}

#[tokio::test]
async fn a_changed_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let files = PackageFiles::open(dir.path()).await.unwrap();
    let content = sealed(&files, &[b"abcdef"])
        .await
        .publish(&files)
        .await
        .unwrap();
    let path = dir.path().join(PACKAGES_DIRECTORY).join(&content.sha256);
    for other in ["abcde", "abcdeF", ""] {
        std::fs::write(&path, other).unwrap();
        let read = files.read(&record(&content)).await;
        assert!(matches!(read, Err(ReadError::Damaged { .. })), "{other:?}");
    }
}

#[tokio::test]
async fn a_file_without_a_package_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let files = PackageFiles::open(dir.path()).await.unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    let used = sealed(&files, &[b"used"])
        .await
        .publish(&files)
        .await
        .unwrap();
    sealed(&files, &[b"orphan"])
        .await
        .publish(&files)
        .await
        .unwrap();
    std::fs::write(dir.path().join(PACKAGES_DIRECTORY).join("notes"), "x").unwrap();
    store.insert_package(&record(&used).package).await.unwrap();
    assert_eq!(files.remove_unused(&store).await.unwrap(), 1);
    let mut left = names(dir.path());
    left.sort();
    assert_eq!(left, [used.sha256, "notes".to_owned()]);
}

#[tokio::test]
async fn an_upload_that_does_not_end_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = PackageFiles::open(dir.path()).await.unwrap();
    let mut upload = files.upload(5).await.unwrap();
    upload.write(b"abc").await.unwrap();
    assert_eq!(names(dir.path()).len(), 1);
    assert!(matches!(
        upload.write(b"def").await,
        Err(UploadError::TooLarge { max_bytes: 5 })
    ));
    drop(upload);
    drop(sealed(&files, &[b"never published"]).await);
    assert_eq!(names(dir.path()), [""; 0]);
    // a crash leaves the file; the next start removes it
    let packages = dir.path().join(PACKAGES_DIRECTORY);
    std::fs::write(packages.join("tmp-1"), "x").unwrap();
    std::fs::write(packages.join("cafe"), "x").unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    assert_eq!(files.remove_unused(&store).await.unwrap(), 1);
    assert_eq!(names(dir.path()), ["cafe"]);
}

#[tokio::test]
async fn frames_are_those_of_the_content_and_leave_no_name_behind() {
    let dir = tempfile::tempdir().unwrap();
    let files = PackageFiles::open(dir.path()).await.unwrap();
    let content: Vec<u8> = (0..900u32).map(|i| (i % 251) as u8).collect();
    let sealed = sealed(&files, &[&content]).await;
    let package = record(&sealed.publish(&files).await.unwrap());
    let frames = files.frames(&package).await.unwrap().unwrap();
    let segmentation = package.package.pcp.as_ref().unwrap().segmentation;
    let built = SegmentFrames::build(&content, segmentation).unwrap();
    assert_eq!(frames.as_bytes(), built.as_bytes());
    assert_eq!(frames.get(1), built.get(1));
    assert_eq!(names(dir.path()), [&*package.package.sha256]);
    std::fs::write(
        dir.path()
            .join(PACKAGES_DIRECTORY)
            .join(&package.package.sha256),
        b"?",
    )
    .unwrap();
    let damaged = files.frames(&package).await;
    assert!(matches!(damaged, Err(ReadError::Damaged { .. })));
}

#[tokio::test]
async fn content_in_blocks_is_the_file_itself_and_outlives_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let files = PackageFiles::open(dir.path()).await.unwrap();
    let sealed = sealed(&files, &[b"some ", b"bytes"]).await;
    let mut package = record(&sealed.publish(&files).await.unwrap());
    let content = files.content(&package).await.unwrap().unwrap();
    assert_eq!(hex::encode(content.etag()), package.package.sha256[..12]);
    files.remove(&package.package.sha256).await.unwrap();
    assert_eq!(content.bytes(), &Bytes::from_static(b"some bytes"));
    let gone = files.content(&package).await;
    assert!(matches!(gone, Err(ReadError::File(_))));
    // numbers of blocks end before such a package does
    let path = (dir.path().join(PACKAGES_DIRECTORY)).join(&package.package.sha256);
    let file = File::create(path).unwrap();
    package.package.size_bytes = crate::package::Content::MAX_BYTES + 1;
    file.set_len(package.package.size_bytes).unwrap();
    assert_eq!(files.content(&package).await.unwrap(), None);
    file.set_len(1).unwrap();
    let damaged = files.content(&package).await;
    assert!(matches!(damaged, Err(ReadError::Damaged { .. })));
}

#[test]
fn without_room_for_a_copy_there_is_an_error_and_no_panic() {
    assert!(mapped::copy(Path::new("/nowhere"), b"x").is_err());
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(mapped::copy(dir.path(), b"").unwrap(), Bytes::new());
}
