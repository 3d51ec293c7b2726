//! What is changed by the pages of who administers: packages, products, homes, offers, webhooks.

use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Browser, Pages, Shown, admin::ALL};
use crate::signing::{Algorithm, tests::make_key};

/// Where a change has led to, and that it says so.
async fn done(browser: &Browser<'_>, shown: &Shown, to: &str) -> Shown {
    assert_eq!(shown.status, StatusCode::SEE_OTHER, "{shown:?}");
    let path = shown.location().strip_prefix("/console").unwrap();
    assert!(path.starts_with(to), "{path}");
    let next = browser.get(path).await;
    assert_eq!(next.status, StatusCode::OK, "{next:?}");
    assert!(next.says("<p class=\"notice\">"), "{path}: {next:?}");
    next
}

/// Whether a form was refused, and shows what was entered.
fn refused(shown: &Shown, kept: &[&str]) {
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
    assert!(shown.says("id=\"problem\""), "{shown:?}");
    for kept in kept {
        assert!(shown.says(kept), "{kept} is lost: {shown:?}");
    }
}

/// The `ETag` that a page has in a form.
async fn etag(browser: &Browser<'_>, path: &str) -> String {
    let shown = browser.get(path).await;
    shown.value_of("etag").replace("&#34;", "\"")
}

impl Pages {
    async fn read(&self, path: &str) -> Value {
        self.api(Method::GET, path, None).await
    }
}

#[tokio::test]
async fn a_package_is_uploaded_and_deleted() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let csrf = anna.csrf().await;
    let mut fields = vec![
        ("csrf", &*csrf),
        ("once", "0123456789abcdef"),
        ("product", "meter"),
        ("version", "V\u{e9}"),
        ("cves_mended", "CVE-2026-12345, CVE-2026-12346"),
        ("segment_size", ""),
        ("component", "modem\u{7f}"),
    ];
    let content = b"firmware ".repeat(300_000);
    let shown = anna
        .send_file("/packages/new", &fields, ("a.bin", &content))
        .await;
    refused(
        &shown,
        &[
            "V\u{e9}",
            "CVE-2026-12345, CVE-2026-12346",
            "value=\"meter\"",
            "value=\"modem\u{7f}\"",
        ],
    );
    // a form that was refused has a name of its own
    fields[1].1 = "0123456789abcdee";
    fields[3].1 = "V2";
    fields[6].1 = "modem";
    let shown = anna.send_file("/packages/new", &fields, ("", b"")).await;
    refused(&shown, &["choose a file"]);
    let shown = anna
        .send_file("/packages/new", &fields, ("a.bin", &content))
        .await;
    let shown = done(&anna, &shown, "/packages/1").await;
    assert!(
        shown.says("2,700,000") && shown.says("CVE-2026-12346"),
        "{shown:?}"
    );
    let stored = pages.read("/v1/packages/1").await;
    assert_eq!(stored["size_bytes"], content.len());
    assert_eq!(stored["component"], "modem");
    assert!(anna.get("/packages").await.says("modem"));
    assert!(anna.get("/tasks/new").await.says("meter V2 (modem)"));

    assert!(
        anna.get("/packages/1/delete")
            .await
            .says("Delete meter V2?")
    );
    let shown = anna.post("/packages/1/delete", &[]).await;
    assert!(
        done(&anna, &shown, "/packages")
            .await
            .says("There are no packages yet.")
    );
}

#[tokio::test]
async fn what_is_said_of_a_package_is_changed_by_who_has_seen_it() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    pages.upload("meter", "V2").await;
    let form = anna.get("/packages/1/papers").await;
    let etag = form.value_of("etag").replace("&#34;", "\"");
    let fields = [
        ("etag", &*etag),
        ("cves_mended", "CVE-2026-1\nCVE-2026-12345"),
        ("release_notes", "Saves\r\npower."),
        ("support_ends", "2030-01-31"),
    ];
    refused(
        &anna.post("/packages/1/papers", &fields).await,
        &["Saves", "2030-01-31"],
    );
    let mut fields = fields;
    fields[1].1 = "CVE-2026-12345";
    let shown = anna.post("/packages/1/papers", &fields).await;
    done(&anna, &shown, "/packages/1").await;
    let stored = pages.read("/v1/packages/1").await;
    assert_eq!(stored["release_notes"], "Saves\npower.");
    // somebody else has changed it since
    fields[2].1 = "Saves more.";
    let shown = anna.post("/packages/1/papers", &fields).await;
    assert_eq!(shown.status, StatusCode::PRECONDITION_FAILED, "{shown:?}");
    assert!(shown.says("Saves more."));
}

#[tokio::test]
async fn a_bill_of_materials_is_set_read_and_removed() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    pages.upload("meter", "V2").await;
    let csrf = anna.csrf().await;
    let etag = etag(&anna, "/packages/1/sbom").await;
    let fields = [("csrf", &*csrf), ("etag", &*etag)];
    let sbom =
        br#"{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"mbedtls"}]}"#;
    let shown = anna
        .send_file("/packages/1/sbom", &fields, ("a.json", b"{}"))
        .await;
    refused(&shown, &[]);
    let shown = anna
        .send_file("/packages/1/sbom", &fields, ("a.json", sbom))
        .await;
    done(&anna, &shown, "/packages/1").await;
    let shown = anna.get("/packages/1/sbom/file").await;
    assert_eq!(shown.text.as_bytes(), sbom);
    let shown = anna.post("/packages/1/sbom/remove", &[]).await;
    done(&anna, &shown, "/packages/1").await;
}

#[tokio::test]
async fn a_product_is_created_and_set() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let shown = anna
        .post(
            "/products/+new",
            &[("product", "a b"), ("signatures", "required")],
        )
        .await;
    refused(&shown, &["value=\"a b\"", "value=\"required\" selected"]);
    let shown = anna
        .post(
            "/products/+new",
            &[("product", "new"), ("signatures", "optional")],
        )
        .await;
    let form = done(&anna, &shown, "/products/new/change").await;
    // each setting of the API has an input
    let settings = pages.read("/v1/products/new").await["settings"].clone();
    let settings = settings.as_object().unwrap();
    assert_eq!(settings.len(), 21);
    for name in settings.keys() {
        assert!(form.says(&format!(" name=\"{name}\"")), "{name}: {form:?}");
    }
    let etag = form.value_of("etag").replace("&#34;", "\"");
    let mut fields = vec![
        ("etag", &*etag),
        ("signatures", "required"),
        ("ota", "software"),
        ("check_code", "zero"),
        ("pad_last_segment", "yes"),
        ("pmin_zero", "no"),
        ("rsrp_unit", "index"),
        ("sinr_unit", "tenths"),
        ("ack_timeout_ms", "many"),
        ("max_retransmit", "7"),
        ("awake_window_s", ""),
        ("appointments", "lifetime"),
        ("adaptive", ""),
        ("ota_events", "v2"),
        ("iotda_large_downloads", "yes"),
        ("module", "mcu"),
        ("fixed_children", "yes"),
        ("per_gateway", "3"),
        ("update_by", "components"),
        ("delivery", "push"),
        ("push_max_bytes", "9000"),
        ("uri_scheme", "coaps"),
        ("version_resource", "/3/0/3"),
    ];
    let shown = anna.post("/products/new/change", &fields).await;
    assert!(shown.status.is_client_error(), "{shown:?}");
    assert!(
        shown.says("id=\"problem\"") && shown.says("value=\"many\"") && shown.says("value=\"mcu\"")
    );
    fields[8].1 = "8000";
    let shown = anna.post("/products/new/change", &fields).await;
    let shown = done(&anna, &shown, "/products/new").await;
    assert!(shown.says("8000") && shown.says("Packages have to be signed"));
    let product = pages.read("/v1/products/new").await;
    let wanted = json!({
        "ota": "software", "check_code": "zero", "pad_last_segment": true, "pmin_zero": false, "rsrp_unit": "index",
        "sinr_unit": "tenths", "ack_timeout_ms": 8_000, "max_retransmit": 7, "awake_window_s": null,
        "appointments": "lifetime", "adaptive": null, "ota_events": "v2", "iotda_large_downloads": true,
        "module": "mcu", "fixed_children": true, "per_gateway": 3,
        "update_by": "components", "delivery": "push", "push_max_bytes": 9_000, "uri_scheme": "coaps",
        "version_resource": "/3/0/3",
    });
    assert_eq!(product["settings"], wanted);
    // the form as it is shown is the product as it is
    let form = anna.get("/products/new/change").await;
    assert!(form.says("value=\"index\" selected") && form.says("value=\"8000\""));
}

#[tokio::test]
async fn a_product_has_keys_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let product = json!({"product": "new"});
    pages
        .api(Method::POST, "/v1/products", Some(&product))
        .await;
    let pem = make_key(dir.path(), "one", Algorithm::Ed25519).to_pem();
    let shown = anna
        .post("/products/new/keys", &[("name", "first"), ("pem", "none")])
        .await;
    refused(&shown, &["value=\"first\"", "none</textarea>"]);
    let pem = pem.replace('\n', "\r\n");
    let shown = anna
        .post("/products/new/keys", &[("name", "first"), ("pem", &pem)])
        .await;
    done(&anna, &shown, "/products/new").await;
    let keys = pages.read("/v1/products/new/keys").await;
    let key = format!(
        "/products/new/keys/{}/remove",
        keys["items"][0]["id"].as_str().unwrap()
    );
    assert!(anna.get(&key).await.says("first"));
    let shown = anna.post(&key, &[]).await;
    done(&anna, &shown, "/products/new").await;
    let etag = anna
        .get("/products/new/remove")
        .await
        .value_of("etag")
        .replace("&#34;", "\"");
    let shown = anna.post("/products/new/remove", &[("etag", &etag)]).await;
    done(&anna, &shown, "/products").await;
}

#[tokio::test]
async fn a_product_of_another_tenant_is_reached_by_its_tenant() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let acme = json!({"id": "acme"});
    pages.api(Method::POST, "/v1/tenants", Some(&acme)).await;
    let fields = [
        ("product", "meter"),
        ("signatures", "required"),
        ("tenant", "acme"),
    ];
    let shown = anna.post("/products/+new", &fields).await;
    done(&anna, &shown, "/products/meter/change?tenant=acme").await;
    assert!(
        anna.get("/products")
            .await
            .says("/console/products/meter?tenant=acme")
    );
    let own = anna.get("/products/meter").await;
    assert!(own.says("Packages need no signature"), "{own:?}");
    let other = anna.get("/products/meter?tenant=acme").await;
    assert!(other.says("Packages have to be signed") && other.says("/meter/change?tenant=acme"));
}

#[tokio::test]
async fn a_home_is_added_and_none_is_overwritten() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let fields = [
        ("etag", "\"0\""),
        ("home", "h1"),
        ("name", "Baker Street"),
        ("zone", "Europe/Nowhere"),
        ("quiet_from", "22:00"),
        ("quiet_to", "06:30"),
    ];
    refused(
        &anna.post("/homes/+new", &fields).await,
        &["Baker Street", "Europe/Nowhere", "22:00"],
    );
    let mut fields = fields;
    fields[3].1 = "Europe/London";
    let shown = anna.post("/homes/+new", &fields).await;
    let shown = done(&anna, &shown, "/homes/h1").await;
    assert!(shown.says("22:00 to 06:30"));
    // another one of the name is not overwritten
    fields[2].1 = "Elsewhere";
    let shown = anna.post("/homes/+new", &fields).await;
    assert_eq!(shown.status, StatusCode::PRECONDITION_FAILED, "{shown:?}");
}

#[tokio::test]
async fn a_home_is_filled_changed_and_deleted() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let device = json!({"endpoint": "urn:imei:1", "product": "lock"});
    pages.api(Method::POST, "/v1/devices", Some(&device)).await;
    let home = json!({"name": "Baker Street", "quiet": {"from": "22:00", "to": "06:30"}});
    pages.api(Method::PUT, "/v1/homes/h1", Some(&home)).await;
    let shown = anna
        .post(
            "/homes/h1/members",
            &[("user", "anna b"), ("role", "owner")],
        )
        .await;
    refused(&shown, &["value=\"anna b\""]);
    let shown = anna
        .post("/homes/h1/members", &[("user", "anna"), ("role", "owner")])
        .await;
    done(&anna, &shown, "/homes/h1").await;
    let fields = [("endpoint", "urn:imei:1"), ("name", "door")];
    let shown = anna.post("/homes/h1/devices", &fields).await;
    let shown = done(&anna, &shown, "/homes/h1").await;
    assert!(shown.says("urn:imei:1") && shown.says("door") && shown.says("owner"));
    // what is said of the home is changed, and who and what is in it stays
    let form = anna.get("/homes/h1/change").await;
    let etag = form.value_of("etag").replace("&#34;", "\"");
    let fields = [
        ("etag", &*etag),
        ("name", "221B"),
        ("zone", "Europe/London"),
    ];
    let shown = anna.post("/homes/h1/change", &fields).await;
    done(&anna, &shown, "/homes/h1").await;
    let home = pages.read("/v1/homes/h1").await;
    assert_eq!(
        (&home["quiet"], &home["members"], &home["devices"]),
        (&json!(null), &json!(1), &json!(1))
    );
    let shown = anna.post("/homes/h1/members/anna/remove", &[]).await;
    done(&anna, &shown, "/homes/h1").await;
    let shown = anna
        .post("/homes/h1/devices/urn%3Aimei%3A1/remove", &[])
        .await;
    done(&anna, &shown, "/homes/h1").await;
    let question = anna.get("/homes/h1/delete").await;
    assert!(
        question.says("It has 0 members and 0 devices."),
        "{question:?}"
    );
    let etag = question.value_of("etag").replace("&#34;", "\"");
    let shown = anna.post("/homes/h1/delete", &[("etag", &etag)]).await;
    done(&anna, &shown, "/homes").await;
}

#[tokio::test]
async fn an_offer_is_published() {
    let pages = Pages::new().await;
    let anna = pages
        .user("anna", &ALL)
        .await
        .with("cellwise-zone=Asia/Shanghai");
    let package = pages.upload("lock", "V2").await.to_string();
    let mut fields = vec![
        ("package_id", &*package),
        ("name", "Locks"),
        ("channel", "6"),
        ("kind", "0"),
        ("mode", "0"),
        ("percent", "20"),
        ("from", "V1\r\nV1.1"),
        ("rsrp_dbm", "-115"),
        ("description.zh", "更省电"),
        ("stage_from", "2099-01-01T08:00"),
        ("stage_percent", "10"),
        ("stage_from", ""),
        ("stage_percent", ""),
    ];
    let shown = anna.post("/offers/new", &fields).await;
    refused(
        &shown,
        &["更省电", "2099-01-01T08:00", "V1.1", "value=\"Locks\""],
    );
    fields[10].1 = "50";
    let shown = anna.post("/offers/new", &fields).await;
    let shown = done(&anna, &shown, "/offers/1").await;
    assert!(
        shown.says("2099-01-01 08:00:00") && shown.says("50 %"),
        "{shown:?}"
    );
    let offer = pages.read("/v1/offers/1").await;
    let wanted = json!([{"from": "2099-01-01T00:00:00Z", "percent": 50}]);
    assert_eq!(offer["terms"]["stages"][0]["percent"], wanted[0]["percent"]);
    assert!(
        offer["terms"]["stages"][0]["from"]
            .as_str()
            .unwrap()
            .starts_with("2099-01-01T00:00:00")
    );
    assert_eq!(offer["terms"]["conditions"]["from"], json!(["V1", "V1.1"]));
}

#[tokio::test]
async fn an_offer_is_changed_and_withdrawn() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let package_id = pages.upload("lock", "V2").await;
    let texts = json!({"description": {"en": "Saves power.", "pt-BR": "Poupa energia."}});
    let terms = json!({"channel": 6, "kind": 0, "texts": texts});
    let offer = json!({"task": {"name": "Locks", "package_id": package_id}, "terms": terms});
    pages.api(Method::POST, "/v1/offers", Some(&offer)).await;
    // a text in a language that the form does not have stays
    let form = anna.get("/offers/1/change").await;
    let etag = form.value_of("etag").replace("&#34;", "\"");
    let further = form.value_of("further").replace("&#34;", "\"");
    assert!(form.says("Saves power."), "{form:?}");
    let fields = [
        ("etag", &*etag),
        ("further", &*further),
        ("channel", "6"),
        ("kind", "2"),
        ("controllable", "1"),
        ("description.zh", "更省电"),
    ];
    let shown = anna.post("/offers/1/change", &fields).await;
    done(&anna, &shown, "/offers/1").await;
    let offer = pages.read("/v1/offers/1").await;
    assert_eq!(
        offer["terms"]["texts"]["description"],
        json!({"pt-BR": "Poupa energia.", "zh": "更省电"})
    );
    assert_eq!(offer["terms"]["controllable"], true);
    let shown = anna.post("/offers/1/withdraw", &[]).await;
    let shown = done(&anna, &shown, "/offers/1").await;
    assert!(shown.says("withdrawn") && !shown.says("/offers/1/change"));
}

#[tokio::test]
async fn a_webhook_is_added_and_shows_its_secret_once() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let fields = [("url", "ftp://1.1.1.1/"), ("secret", "whsec_mine")];
    let shown = anna.post("/webhooks/new", &fields).await;
    refused(&shown, &["ftp://1.1.1.1/"]);
    assert!(!shown.says("whsec_mine"));
    let fields = [("url", "https://1.1.1.1/hook"), ("task_id", "x")];
    refused(
        &anna.post("/webhooks/new", &fields).await,
        &["https://1.1.1.1/hook"],
    );
    let shown = anna
        .post("/webhooks/new", &[("url", "https://1.1.1.1/hook")])
        .await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    assert_eq!(shown.headers[header::CACHE_CONTROL], "no-store");
    assert!(shown.says("whsec_"), "{shown:?}");
    let shown = anna.get("/webhooks/1").await;
    assert!(shown.says("https://1.1.1.1/hook") && !shown.says("whsec_"));
    let question = anna.get("/webhooks/1/replay").await;
    assert!(
        question.says("0 deliveries are tried again"),
        "{question:?}"
    );
    let shown = anna.post("/webhooks/1/replay", &[]).await;
    done(&anna, &shown, "/webhooks/1").await;
    let shown = anna.post("/webhooks/1/deliveries/7/replay", &[]).await;
    assert_eq!(shown.status, StatusCode::NOT_FOUND, "{shown:?}");
    let shown = anna.post("/webhooks/1/remove", &[]).await;
    done(&anna, &shown, "/webhooks").await;
}
