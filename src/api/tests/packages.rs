use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{Api, TOKEN, state};
use crate::{config::ProductConfig, ledger::PackageId, package::CheckCodeKind};

fn file_names(api: &Api) -> Vec<String> {
    std::fs::read_dir(api.dir.path().join("packages"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn an_uploaded_package_is_described_and_listed() {
    let api = Api::new().await;
    let answer = api.upload("product=meter&version=V2.1", &[7; 1_200]).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let location = answer.header(header::LOCATION).to_owned();
    assert_eq!(location, format!("/v1/packages/{}", answer.id()));
    assert_eq!(answer.body["product"], "meter");
    assert_eq!(answer.body["version"], "V2.1");
    assert_eq!(answer.body["size_bytes"], 1_200);
    assert_eq!(answer.body["segment_size"], 500);
    assert_eq!(answer.body["segment_count"], 3);
    assert_eq!(answer.body["check_code"], pcp::checksum(&[7; 1_200]));
    assert_eq!(answer.body["superseded_at"], Value::Null);
    let mut shown = answer.body.clone();
    shown.as_object_mut().unwrap().remove("supersedes");
    assert_eq!(api.get(&location).await.body, shown);
    let list = api.get("/v1/packages").await.body;
    assert_eq!(list, json!({"items": [shown], "next_cursor": null}));
    assert_eq!(file_names(&api), [answer.body["sha256"].as_str().unwrap()]);
}

#[tokio::test]
async fn the_same_upload_again_changes_nothing() {
    let api = Api::new().await;
    let first = api.upload("version=V2", b"content").await;
    let again = api.upload("version=V2", b"content").await;
    assert_eq!(first.status, StatusCode::CREATED);
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(first.body, again.body);
    assert_eq!(first.body["product"], "default");
}

#[tokio::test]
async fn other_content_supersedes() {
    let api = Api::new().await;
    let first = api.upload("version=V2", b"content").await;
    let second = api.upload("version=V2", b"other").await;
    assert_eq!(second.status, StatusCode::CREATED);
    let first = api.get(&format!("/v1/packages/{}", first.id())).await;
    assert!(first.body["superseded_at"].is_string());
    let body = json!({"name": "x", "package_id": first.id(), "all": true});
    let refused = api.post("/v1/tasks", &body).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.problem(), "package-superseded");
}

#[tokio::test]
async fn other_content_is_refused_while_a_task_uses_the_older() {
    let api = Api::new().await;
    let task = api.task(1).await;
    let refused = api.upload("product=p&version=V2", &[8; 1_200]).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.problem(), "package-in-use");
    let name = format!("task {} (\"night\", running)", task.id());
    assert!(refused.detail().contains(&name), "{refused:?}");
    assert_eq!(file_names(&api).len(), 1, "what was refused is not kept");
    let same = api.upload("product=p&version=V2", &[7; 1_200]).await;
    assert_eq!(same.status, StatusCode::OK);
    let other = api.upload("product=p&version=V3", &[8; 1_200]).await;
    assert_eq!(other.status, StatusCode::CREATED);
}

#[tokio::test]
async fn parameters_of_an_upload_are_checked() {
    let api = Api::new().await;
    let long = format!("version=V2&product={}", "p".repeat(65));
    for (query, status, problem) in [
        ("", 400, "bad-parameter"),
        ("version=V2&segmentsize=100", 400, "bad-parameter"),
        ("version=V2&version=V3", 400, "bad-parameter"),
        ("version=V2&segment_size=x", 400, "bad-parameter"),
        ("version=V2&segment_size=-1", 400, "bad-parameter"),
        ("version=", 422, "version"),
        ("version=12345678901234567", 422, "version"),
        ("version=%C3%A4", 422, "version"),
        ("version=a%00b", 422, "version"),
        ("version=a%0A", 422, "version"),
        ("version=%20a", 422, "version"),
        ("version=V2&product=", 422, "product"),
        ("version=V2&product=a%2Fb", 422, "product"),
        ("version=V2&product=..%2F..", 422, "product"),
        (&*long, 422, "product"),
        ("version=V2&segment_size=31", 422, "segment_size"),
        ("version=V2&segment_size=501", 422, "segment_size"),
        ("version=V2&segment_size=253", 422, "segment_size"),
        ("version=V2&segment_size=4294967295", 422, "segment_size"),
    ] {
        let answer = api.upload(query, b"content").await;
        assert_eq!(answer.status, status, "{query}: {answer:?}");
        if status == 422 {
            assert_eq!(answer.fields(), [problem], "{query}");
        } else {
            assert_eq!(answer.problem(), problem, "{query}");
        }
    }
    let both = api.upload("version=&segment_size=1", b"content").await;
    assert_eq!(both.fields(), ["version", "segment_size"]);
    assert_eq!(file_names(&api), [""; 0]);
    assert_eq!(
        api.upload("version=1234567890123456", b"x").await.status,
        201
    );
    assert_eq!(
        api.upload("version=~&segment_size=32", b"x").await.status,
        201
    );
}

#[tokio::test]
async fn what_pcp_cannot_carry_is_served_over_http_alone() {
    let api = Api::with(|config| {
        config.download.http = true;
        config.admin.max_package_bytes = 40_000_000;
    })
    .await;
    let both = api.upload("version=V1", b"hello").await;
    assert_eq!(both.body["served_by"], json!(["pcp", "coap", "http"]));
    assert_eq!(both.body["md5"], "5d41402abc4b2a76b9719d911017c592");
    let long = api
        .upload("version=2026.11.30-rc.1+build.77", b"content")
        .await;
    let large = vec![7; 65_535 * 500 + 1];
    let large = api.upload("version=V2", &large).await;
    for answer in [&long, &large] {
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        assert_eq!(answer.body["served_by"], json!(["coap", "http"]));
        for field in ["segment_size", "segment_count", "check_code"] {
            assert_eq!(answer.body[field], Value::Null);
        }
    }
    let shown = api.get(&format!("/v1/packages/{}", large.id())).await;
    assert_eq!(shown.body["size_bytes"], 32_767_501);
    // its content is looked at without being cut
    let package = PackageId(large.id());
    let record = api.state.store.package(package).await.unwrap().unwrap();
    assert_eq!(
        api.state.files.frames(&record).await.unwrap().map(drop),
        None
    );
    let md5 = api.state.files.md5_of(&record).await.unwrap();
    assert_eq!(large.body["md5"], *md5);
    // whoever names a segment's size wants PCP
    let query = "version=2026.11.30-rc.1+build.78&segment_size=500";
    assert_eq!(api.upload(query, b"x").await.status, 422);
}

#[tokio::test]
async fn a_package_for_a_component_has_no_segments_and_a_version_of_its_own() {
    let api = Api::new().await;
    let whole = api.upload("product=p&version=V2", b"whole").await;
    assert_eq!(whole.body["component"], Value::Null);
    let modem = "product=p&version=V2&component=modem%20%C3%A4";
    let first = api.upload(modem, b"modem").await;
    assert_eq!(first.status, StatusCode::CREATED, "{first:?}");
    assert_eq!(first.body["component"], "modem \u{e4}");
    assert_eq!(first.body["served_by"], json!(["coap", "http"]));
    assert_eq!(first.body["segment_count"], Value::Null);
    assert_eq!(api.upload(modem, b"modem").await.status, StatusCode::OK);
    let second = api.upload(modem, b"better").await;
    assert_eq!(second.status, StatusCode::CREATED, "{second:?}");
    let superseded = async |answer: &super::Answer| {
        let path = format!("/v1/packages/{}", answer.id());
        api.get(&path).await.body["superseded_at"].is_string()
    };
    assert!(superseded(&first).await);
    assert!(!superseded(&whole).await && !superseded(&second).await);
    // also where no package is served over HTTP
    let long = "version=2026.11.30-rc.1+build.77&component=c";
    assert_eq!(api.upload(long, b"x").await.status, StatusCode::CREATED);
    for (query, field) in [
        ("version=V2&component=", "component"),
        ("version=V2&component=a%0A", "component"),
        ("version=V2&component=%20a", "component"),
        ("version=V2&component=a&segment_size=500", "segment_size"),
    ] {
        let refused = api.upload(query, b"x").await;
        assert_eq!(refused.status.as_u16(), 422, "{query}: {refused:?}");
        assert_eq!(refused.fields(), [field], "{query}");
    }
    let empty = api.upload("version=V2&component=a", b"").await;
    assert_eq!(empty.problem(), "empty-package");
}

#[tokio::test]
async fn a_product_that_is_not_upgraded_by_pcp_has_packages_that_pcp_cannot_carry() {
    let api = Api::new().await;
    let long = "product=p&version=2026.11.30-rc.1+build.77";
    assert_eq!(api.upload(long, b"x").await.fields(), ["version"]);
    let product = json!({"product": "p", "settings": {"update_by": "firmware"}});
    api.post("/v1/products", &product).await;
    let uploaded = api.upload(long, b"x").await;
    assert_eq!(uploaded.status, StatusCode::CREATED, "{uploaded:?}");
    assert_eq!(uploaded.body["served_by"], json!(["coap", "http"]));
    let short = api.upload("product=p&version=V2", b"x").await;
    assert_eq!(short.body["served_by"], json!(["pcp", "coap", "http"]));
    let sized = format!("{long}&segment_size=500");
    assert_eq!(api.upload(&sized, b"y").await.fields(), ["version"]);
}

#[tokio::test]
async fn files_that_cannot_be_packages_are_refused() {
    let api = Api::with(|config| config.admin.max_package_bytes = 2_200_000).await;
    let empty = api.upload("version=V2", b"").await;
    assert_eq!(
        (empty.status.as_u16(), empty.problem()),
        (422, "empty-package")
    );
    let many = vec![0; 65_535 * 32 + 1];
    let many = api.upload("version=V2&segment_size=32", &many).await;
    assert_eq!(
        (many.status.as_u16(), many.problem()),
        (422, "too-many-segments")
    );
    assert!(many.detail().contains("65536 segments"), "{many:?}");
    let large = api.upload("version=V2", &vec![0; 2_200_001]).await;
    assert_eq!((large.status.as_u16(), large.problem()), (413, "too-large"));
    let wrong = Body::from("content");
    let wrong = api
        .send(
            Method::POST,
            "/v1/packages?version=V2",
            Some("text/plain"),
            wrong,
        )
        .await;
    assert_eq!(wrong.problem(), "wrong-content-type");
    // without a length in advance
    let chunks = (0..3).map(|_| Ok::<_, std::io::Error>(vec![0_u8; 1_000_000]));
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let octets = Some("application/octet-stream");
    let stream = api
        .send(Method::POST, "/v1/packages?version=V2", octets, body)
        .await;
    assert_eq!(stream.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(file_names(&api), [""; 0], "nothing is left behind");
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let api = Api::new().await;
    let chunks = [Ok(vec![1_u8; 100]), Err(std::io::Error::other("gone"))];
    let request = Request::post("/v1/packages?version=V2")
        .header(header::AUTHORIZATION, format!("bearer {TOKEN}"))
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(Body::from_stream(futures_util::stream::iter(chunks)))
        .unwrap();
    let answer = api.call(request).await;
    assert_eq!(
        (answer.status.as_u16(), answer.problem()),
        (400, "unreadable-body")
    );
    assert_eq!(file_names(&api), [""; 0]);
}

#[tokio::test]
async fn a_product_decides_check_code_and_padding() {
    let product = ProductConfig {
        check_code: CheckCodeKind::Zero,
        pad_last_segment: true,
        ..ProductConfig::default()
    };
    let api = Api::with(|config| {
        config.products.insert("odd".to_owned(), product);
    })
    .await;
    let odd = api.upload("version=V2&product=odd", &[1; 753]).await;
    assert_eq!(odd.body["check_code"], 0);
    assert_eq!(odd.body["segment_size"], 500);
    let plain = api.upload("version=V2", &[1; 753]).await;
    assert_eq!(plain.body["segment_size"], 499);
    assert_ne!(plain.body["check_code"], 0);
}

#[tokio::test]
async fn what_devices_could_not_tell_from_an_earlier_package_is_refused() {
    let mut api = Api::with(|config| {
        let zero = ProductConfig {
            check_code: CheckCodeKind::Zero,
            pad_last_segment: false,
            ..ProductConfig::default()
        };
        config.products.insert("odd".to_owned(), zero);
    })
    .await;
    let first = api.upload("version=V2&product=odd", &[1; 1_200]).await;
    let refused = async |api: &Api, query: &str, content: &[u8], what: &str| {
        let refused = api.upload(query, content).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
        assert_eq!(refused.problem(), "package-indistinct");
        assert!(refused.detail().contains(what), "{refused:?}");
    };
    let same_code = "and other content: a device that holds parts of that package would go on with parts of this \
        one; upload it under another version";
    refused(&api, "version=V2&product=odd", &[2; 1_200], same_code).await;
    let size = "version=V2&product=odd&segment_size=100";
    refused(&api, size, &[1; 1_200], "another segment size (500 bytes)").await;
    let path = format!("/v1/packages/{}", first.id());
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    refused(&api, "version=V2&product=odd", &[2; 1_200], "other content").await;
    assert_eq!(file_names(&api), [""; 0], "what was refused is not kept");
    let padded = ProductConfig {
        check_code: CheckCodeKind::Zero,
        pad_last_segment: true,
        ..ProductConfig::default()
    };
    api.change_settings(|config| {
        config.products.insert("odd".to_owned(), padded);
    });
    let padding = "other padding (the last segment not filled up)";
    refused(&api, "version=V2&product=odd", &[1; 1_200], padding).await;
    // where every segment is full there is nothing to fill up
    let whole = api.upload("version=V4&product=odd", &[1; 1_000]).await;
    assert_eq!(whole.status, StatusCode::CREATED);
    api.change_settings(|config| config.products.clear());
    // with a check code of its own it is another package
    let crc = api.upload("version=V2&product=odd", &[1; 1_200]).await;
    assert_eq!(crc.status, StatusCode::CREATED);
}

#[tokio::test]
async fn settings_that_change_leave_what_was_uploaded_as_it_is() {
    let mut api = Api::with(|config| {
        let padded = ProductConfig {
            check_code: CheckCodeKind::Zero,
            pad_last_segment: true,
            ..ProductConfig::default()
        };
        config.products.insert("odd".to_owned(), padded);
    })
    .await;
    let query = "version=V2&product=odd&segment_size=400";
    let uploaded = api.upload(query, &[1; 1_300]).await;
    let package = PackageId(uploaded.id());
    let offered = async |api: &Api| {
        let record = api.state.store.package(package).await.unwrap().unwrap();
        let frames = api.state.files.frames(&record).await.unwrap();
        (record.package.pcp.unwrap(), frames.unwrap().get(3).unwrap())
    };
    let before = offered(&api).await;
    assert_eq!((before.0.check_code, before.1.len()), (0, 8 + 3 + 400));
    api.change_settings(|config| config.products.clear());
    assert_eq!(offered(&api).await, before);
    // also after a restart
    let again = state(api.dir.path(), |_| ()).await;
    api.state = again;
    assert_eq!(offered(&api).await, before);
}

#[tokio::test]
async fn a_deleted_package_is_gone_with_its_file() {
    let api = Api::new().await;
    let first = api.upload("version=V2", b"content").await.id();
    let second = api.upload("version=V3", b"content").await.id();
    assert_eq!(file_names(&api).len(), 1);
    let path = format!("/v1/packages/{first}");
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(api.delete(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        file_names(&api).len(),
        1,
        "another package has that content"
    );
    api.delete(&format!("/v1/packages/{second}")).await;
    assert_eq!(file_names(&api), [""; 0]);
}

#[tokio::test]
async fn a_package_in_use_is_not_deleted() {
    let api = Api::new().await;
    let task = api.task(1).await;
    let path = format!("/v1/packages/{}", task.body["package_id"]);
    let refused = api.delete(&path).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.problem(), "package-in-use");
    api.post(&format!("/v1/tasks/{}/stop", task.id()), &json!({}))
        .await;
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_upload_tells_the_package_before_it() {
    let api = Api::new().await;
    let upload = async |query: &str, byte: u8| api.upload(query, &[byte; 1_200]).await;
    let first = upload("product=p&version=V1", 1).await;
    assert_eq!(first.body["supersedes"], Value::Null);
    upload("product=q&version=V7", 2).await;
    let second = upload("product=p&version=V2", 3).await;
    let earlier = json!({"id": 1, "version": "V1", "created_at": first.body["created_at"]});
    assert_eq!(second.body["supersedes"], earlier);
    let again = upload("product=p&version=V2", 3).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.body["supersedes"], earlier);
    api.delete("/v1/packages/1").await;
    let third = upload("product=p&version=V3", 4).await;
    assert_eq!(third.body["supersedes"]["version"], "V2");
    // only the answer to an upload has it
    let shown = api.get("/v1/packages/3").await.body;
    assert_eq!(shown.get("supersedes"), None);
}
