//! Keys of products, signed packages, and what is kept beside them.

use std::path::Path;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose};
use serde_json::{Value, json};

use super::{Answer, Api, TOKEN};
use crate::signing::{
    Algorithm,
    tests::{make_key, sign},
};

impl Api {
    /// A key of product `p` that the command has made: its id.
    async fn add_key(&self, dir: &Path, name: &str, algorithm: Algorithm) -> String {
        let pem = make_key(dir, name, algorithm).to_pem();
        let body = json!({"pem": pem, "name": name});
        let answer = self.post("/v1/products/p/keys", &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        assert_eq!(answer.body["algorithm"], algorithm.name());
        answer.body["id"].as_str().unwrap().to_owned()
    }

    async fn upload_signed(&self, version: &str, content: &[u8], signature: &[u8]) -> Answer {
        let signature = general_purpose::URL_SAFE_NO_PAD.encode(signature);
        let query = format!("product=p&version={version}&signature={signature}");
        self.upload(&query, content).await
    }

    async fn require_signatures(&self) {
        let body = json!({"signatures": "required"}).to_string();
        let answer = self.json(Method::PATCH, "/v1/products/p", &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }

    pub(super) async fn seen(&self, method: Method, path: &str, tag: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::IF_MATCH, tag);
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = self.call(request).await;
        self.check_described(&method, path, &answer);
        answer
    }

    async fn put_sbom(&self, package: i64, kind: &str, document: &[u8]) -> Answer {
        let path = format!("/v1/packages/{package}/sbom");
        let body = Body::from(document.to_owned());
        self.send(Method::PUT, &path, Some(kind), body).await
    }

    fn package_files(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("packages"))
            .unwrap()
            .count()
    }
}

#[tokio::test]
async fn a_signature_of_each_algorithm_is_verified_over_the_file() {
    let api = Api::new().await;
    let dir = tempfile::tempdir().unwrap();
    let content = [7; 1_200];
    for (i, algorithm) in Algorithm::ALL.into_iter().enumerate() {
        let name = format!("key{i}");
        let id = api.add_key(dir.path(), &name, algorithm).await;
        let signature = sign(dir.path(), &name, algorithm, &content);
        let version = format!("V{i}");
        // over another file, cut off, and changed
        for (content, signature) in [
            (&[8; 1_200][..], &signature[..]),
            (&content[..1_199], &signature[..]),
            (&content[..], &signature[..signature.len() - 1]),
            (&content[..], &[1; 64][..]),
        ] {
            let refused = api.upload_signed(&version, content, signature).await;
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert_eq!(refused.problem(), "bad-signature");
            assert_eq!(refused.body["errors"][0]["field"], "signature");
        }
        let kept = api.package_files();
        let uploaded = api.upload_signed(&version, &content, &signature).await;
        assert_eq!(uploaded.status, StatusCode::CREATED, "{uploaded:?}");
        assert_eq!(uploaded.body["signature"]["key"], id);
        assert_eq!(uploaded.body["signature"]["algorithm"], algorithm.name());
        assert!(uploaded.body["signature"]["verified_at"].is_string());
        assert_eq!(uploaded.body["signature"]["key_removed_at"], Value::Null);
        let shown = api.get(&format!("/v1/packages/{}", uploaded.id())).await;
        assert_eq!(shown.body["signature"], uploaded.body["signature"]);
        // what was refused left no file
        assert_eq!(kept, usize::from(i > 0));
    }
    let keys = api.get("/v1/products/p/keys").await.body;
    assert_eq!(keys["items"].as_array().unwrap().len(), 3);
    // a key of another product does not count
    let signature = sign(dir.path(), "key0", Algorithm::Ed25519, &content);
    let signature = general_purpose::URL_SAFE.encode(signature);
    let query = format!("product=q&version=V1&signature={signature}");
    let refused = api.upload(&query, &content).await;
    assert_eq!(refused.fields(), ["signature"]);
}

#[tokio::test]
async fn where_signatures_are_required_nothing_else_is_taken_or_used() {
    let api = Api::new().await;
    let dir = tempfile::tempdir().unwrap();
    let package = api.package().await;
    let device = json!({"endpoint": "d0", "product": "p"});
    api.post("/v1/devices", &device).await;
    let task = json!({"name": "night", "package_id": package, "all": true});
    api.require_signatures().await;
    let unsigned = api.upload("product=p&version=V3", b"content").await;
    assert_eq!(unsigned.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(unsigned.problem(), "signature-required");
    let refused = api.post("/v1/tasks", &task).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.problem(), "package-unsigned");
    let forecast = api.post("/v1/forecasts", &task).await;
    let told = (forecast.status, forecast.problem());
    assert_eq!(told, (StatusCode::CONFLICT, "package-unsigned"));
    let key = api.add_key(dir.path(), "one", Algorithm::Ed25519).await;
    let signature = sign(dir.path(), "one", Algorithm::Ed25519, &[7; 1_200]);
    let again = api.upload_signed("V2", &[7; 1_200], &signature).await;
    assert_eq!((again.status, again.id()), (StatusCode::OK, package));
    let created = api.post("/v1/tasks", &task).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    // without its key nobody vouches for it
    let path = format!("/v1/products/p/keys/{key}");
    let removed = api.delete(&path).await;
    assert_eq!(removed.body, json!({"packages": 1}));
    assert_eq!(api.delete(&path).await.problem(), "not-found");
    let refused = api.post("/v1/tasks", &task).await;
    assert_eq!(refused.problem(), "package-key-removed");
    assert!(refused.detail().contains(&key), "{refused:?}");
    let forecast = api.post("/v1/forecasts", &task).await;
    assert_eq!(forecast.problem(), "package-key-removed");
    let copied = format!("/v1/tasks/{}/copy", created.id());
    let refused = api.post(&copied, &json!({"name": "again"})).await;
    assert_eq!(refused.problem(), "package-key-removed");
    // a task that has finished serves it to nobody again
    api.fail(1, created.id()).await;
    for path in [
        format!("/v1/tasks/{}/retry", created.id()),
        "/v1/upgrades/1/retry".to_owned(),
    ] {
        let refused = api.post(&path, &json!({})).await;
        let told = (refused.status, refused.problem());
        assert_eq!(told, (StatusCode::CONFLICT, "package-key-removed"));
    }
    let shown = api.get(&format!("/v1/packages/{package}")).await;
    assert!(shown.body["signature"]["key_removed_at"].is_string());
}

#[tokio::test]
async fn rules_of_products_are_changed_by_whoever_has_seen_them() {
    let api = Api::new().await;
    let rules = api.get("/v1/products/p").await;
    let keys = ["product", "created", "signatures", "keys", "revision"];
    let shown = json!(keys.map(|key| &rules.body[key]));
    assert_eq!(shown, json!(["p", false, "optional", 0, 1]));
    let tag = rules.header(header::ETAG).to_owned();
    let body = json!({"signatures": "required"});
    let changed = api.seen(Method::PATCH, "/v1/products/p", &tag, &body).await;
    assert_eq!(changed.header(header::ETAG), "\"2\"");
    let late = api.seen(Method::PATCH, "/v1/products/p", &tag, &body).await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(late.problem(), "changed-meanwhile");
    for (body, field) in [
        (json!({"signatures": "maybe"}), "signatures"),
        (json!({}), "settings"),
        (json!({"signatures": "required", "x": 1}), "x"),
    ] {
        let refused = api
            .json(Method::PATCH, "/v1/products/p", &body.to_string())
            .await;
        assert_eq!(refused.fields(), [field]);
    }
    let refused = api.get("/v1/products/a%20b").await;
    assert_eq!(refused.fields(), ["product"]);
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let api = Api::new().await;
    let dir = tempfile::tempdir().unwrap();
    make_key(dir.path(), "one", Algorithm::Ed25519);
    let private = std::fs::read_to_string(dir.path().join("one.pem")).unwrap();
    for pem in ["", "x", &private, &"a".repeat(10_000)] {
        let body = json!({"pem": pem});
        let refused = api.post("/v1/products/p/keys", &body).await;
        assert_eq!(refused.fields(), ["pem"], "{pem:.20}");
        assert!(!refused.detail().contains("MC4CAQ"), "a secret is told");
    }
    let public = std::fs::read_to_string(dir.path().join("one.pub.pem")).unwrap();
    let body = json!({"pem": public, "name": "a\nb"});
    let refused = api.post("/v1/products/p/keys", &body).await;
    assert_eq!(refused.fields(), ["name"]);
    for status in [StatusCode::CREATED, StatusCode::OK] {
        let body = json!({"pem": public});
        let added = api.post("/v1/products/p/keys", &body).await;
        assert_eq!(added.status, status);
    }
    for signature in ["", "!", "a", &"A".repeat(1_369)] {
        let query = format!("product=p&version=V1&signature={signature}");
        let refused = api.upload(&query, b"content").await;
        assert_eq!(refused.fields(), ["signature"], "{signature:.20}");
    }
}

const CYCLONEDX: &[u8] =
    br#"{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"mbedtls"}]}"#;

#[tokio::test]
async fn a_bill_of_materials_is_checked_kept_and_offered() {
    let api = Api::new().await;
    let package = api.package().await;
    let path = format!("/v1/packages/{package}/sbom");
    assert_eq!(api.get(&path).await.problem(), "not-found");
    assert_eq!(api.delete(&path).await.problem(), "not-found");
    let set = api.put_sbom(package, "application/json", CYCLONEDX).await;
    assert_eq!(set.status, StatusCode::OK, "{set:?}");
    let sbom = &set.body["sbom"];
    assert_eq!(
        (&sbom["format"], &sbom["spec_version"]),
        (&json!("cyclonedx"), &json!("1.6"))
    );
    assert_eq!(
        (&sbom["components"], &sbom["size_bytes"]),
        (&json!(1), &json!(CYCLONEDX.len()))
    );
    let offered = api.get(&path).await;
    assert_eq!(
        offered.body,
        serde_json::from_slice::<Value>(CYCLONEDX).unwrap()
    );
    assert_eq!(api.package_files(), 2);
    // another one takes its place, and its file goes
    let spdx = br#"{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","dataLicense":"CC0-1.0","documentNamespace":"https://example.com/1"}"#;
    let set = api.put_sbom(package, "application/spdx+json", spdx).await;
    assert_eq!(set.body["sbom"]["format"], "spdx");
    assert_eq!(api.package_files(), 2);
    for (kind, document, status, problem) in [
        ("text/plain", CYCLONEDX, 415, "wrong-content-type"),
        ("application/json", &b"{}"[..], 422, "invalid-field"),
        ("application/json", b"<bom/>", 422, "invalid-field"),
        ("application/json", b"", 422, "invalid-field"),
        (
            "application/json",
            &vec![b' '; 16 * 1024 * 1024 + 1],
            413,
            "too-large",
        ),
    ] {
        let refused = api.put_sbom(package, kind, document).await;
        assert_eq!(refused.status.as_u16(), status, "{refused:?}");
        assert_eq!(refused.problem(), problem);
    }
    let gone = api.put_sbom(99, "application/json", CYCLONEDX).await;
    assert_eq!(gone.problem(), "not-found");
    assert_eq!(api.package_files(), 2);
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.package_files(), 1);
    // it goes with its package
    api.put_sbom(package, "application/json", CYCLONEDX).await;
    api.delete(&format!("/v1/packages/{package}")).await;
    assert_eq!(api.package_files(), 0);
}

#[tokio::test]
async fn a_bill_of_materials_is_changed_by_whoever_has_seen_it() {
    let api = Api::new().await;
    let package = api.package().await;
    let path = format!("/v1/packages/{package}/sbom");
    let document: Value = serde_json::from_slice(CYCLONEDX).unwrap();
    let put = async |tag: &str| api.seen(Method::PUT, &path, tag, &document).await;
    let delete = async |tag: &str| api.seen(Method::DELETE, &path, tag, &Value::Null).await;
    // there is none yet
    assert_eq!(put("*").await.problem(), "changed-meanwhile");
    let shown = api.get(&format!("/v1/packages/{package}")).await;
    let of_package = shown.header(header::ETAG).to_owned();
    let set = put(&of_package).await;
    assert_eq!(set.status, StatusCode::OK, "{set:?}");
    let of_document = api.get(&path).await.header(header::ETAG).to_owned();
    let other = format!("\"{}\"", "0".repeat(64));
    for late in [&of_package, &other] {
        let refused = put(late).await;
        assert_eq!(
            refused.status,
            StatusCode::PRECONDITION_FAILED,
            "{refused:?}"
        );
        assert_eq!(delete(late).await.problem(), "changed-meanwhile");
    }
    for wrong in ["\"x\"", "", "\"1\", \"2\""] {
        assert_eq!(put(wrong).await.fields(), ["If-Match"], "{wrong}");
    }
    for seen in [&*of_document, "*", set.header(header::ETAG)] {
        assert_eq!(put(seen).await.status, StatusCode::OK, "{seen}");
    }
    let other = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []});
    let changed = api.seen(Method::PUT, &path, &of_document, &other).await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    for late in [&*of_document, set.header(header::ETAG)] {
        assert_eq!(put(late).await.problem(), "changed-meanwhile", "{late}");
        assert_eq!(delete(late).await.problem(), "changed-meanwhile");
    }
    let seen = changed.header(header::ETAG);
    assert_eq!(delete(seen).await.status, StatusCode::NO_CONTENT);
    // nothing of what was refused is left
    assert_eq!(api.package_files(), 1);
}

#[tokio::test]
async fn what_is_said_of_a_package_is_given_and_changed() {
    let api = Api::new().await;
    let query = "product=p&version=V2&cves_mended=CVE-2026-2000,CVE-2026-1000,CVE-2026-2000&support_ends=2031-12-31";
    let uploaded = api.upload(query, b"content").await;
    assert_eq!(uploaded.status, StatusCode::CREATED, "{uploaded:?}");
    let cves = json!(["CVE-2026-1000", "CVE-2026-2000"]);
    assert_eq!(uploaded.body["cves_mended"], cves);
    assert_eq!(uploaded.body["support_ends"], "2031-12-31");
    let path = format!("/v1/packages/{}", uploaded.id());
    let tag = uploaded.header(header::ETAG).to_owned();
    assert_eq!(api.get(&path).await.header(header::ETAG), tag);
    let body = json!({"release_notes": "Mends the clock.\n\tAnd more.", "support_ends": null});
    let changed = api.seen(Method::PATCH, &path, &tag, &body).await;
    assert_eq!(changed.body["release_notes"], body["release_notes"]);
    assert_eq!(changed.body["support_ends"], Value::Null);
    assert_eq!(changed.body["cves_mended"], cves);
    let late = api.seen(Method::PATCH, &path, &tag, &body).await;
    assert_eq!(late.problem(), "changed-meanwhile");
    let emptied = json!({"cves_mended": null}).to_string();
    let emptied = api.json(Method::PATCH, &path, &emptied).await;
    assert_eq!(emptied.body["cves_mended"], json!([]));
    let many: Vec<String> = (0..201)
        .map(|i| format!("CVE-2026-{:04}", 1_000 + i))
        .collect();
    for (body, field) in [
        (json!({"cves_mended": ["CVE-1"]}), "cves_mended"),
        (json!({"cves_mended": many}), "cves_mended"),
        (json!({"support_ends": "2031-13-01"}), "support_ends"),
        (
            json!({"support_ends": "2031-12-31T00:00:00"}),
            "support_ends",
        ),
        (json!({"release_notes": "a\u{0}"}), "release_notes"),
        (json!({"release_notes": "a".repeat(8_001)}), "release_notes"),
    ] {
        let refused = api.json(Method::PATCH, &path, &body.to_string()).await;
        assert_eq!(refused.fields(), [field], "{body:.60}");
    }
    let refused = api.json(Method::PATCH, "/v1/packages/99", "{}").await;
    assert_eq!(refused.problem(), "not-found");
    for query in ["cves_mended=x", "cves_mended=", "support_ends=soon"] {
        let query = format!("product=p&version=V3&{query}");
        let refused = api.upload(&query, b"content").await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}
