//! The pages of who administers: each of them, for whoever may and may not, in both languages, with hostile names.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::json;

use super::{Browser, Pages, Shown};

pub(super) const ALL: [&str; 4] = ["administrator", "operator", "approver", "auditor"];
/// What a page may not hand on as it is.
const HOSTILE: &str = "<script>alert('x')</script>\"&𝔘";
const CHINESE: &str = "cellwise-language=zh-Hans";

impl Browser<'_> {
    /// Sends a form with a file.
    pub(super) async fn send_file(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        (name, content): (&str, &[u8]),
    ) -> Shown {
        let mut body = Vec::new();
        for (field, value) in fields {
            let part = format!(
                "--edge\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n"
            );
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!(
            "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n--edge--\r\n");
        let request = Request::post(format!("/console{path}"))
            .header(header::COOKIE, &self.cookies)
            .header(header::CONTENT_TYPE, "multipart/form-data; boundary=edge")
            .body(Body::from(body));
        self.pages.send(request.unwrap()).await
    }
}

impl Pages {
    /// One of everything that these pages show, with names as nobody wants them. Returns the pages.
    async fn fill(&self) -> Vec<String> {
        let tenant = json!({"id": "acme", "name": HOSTILE});
        self.api(Method::POST, "/v1/tenants", Some(&tenant)).await;
        let package = self.upload("meter", "%22%3Cb%3EV2%27").await;
        let papers =
            json!({"release_notes": format!("{HOSTILE}\nmore"), "cves_mended": ["CVE-2026-12345"]});
        let path = format!("/v1/packages/{package}");
        self.api(Method::PATCH, &path, Some(&papers)).await;
        let product = json!({"product": "meter", "settings": {"module": HOSTILE}});
        self.api(Method::POST, "/v1/products", Some(&product)).await;
        let device = json!({"endpoint": "d'1", "product": "meter"});
        self.api(Method::POST, "/v1/devices", Some(&device)).await;
        let home = json!({
            "name": HOSTILE, "zone": "Asia/Shanghai", "quiet": {"from": "22:00", "to": "06:30"},
            "people": [{"user": "<i>anna", "role": "owner"}],
            "things": [{"endpoint": "d'1", "name": HOSTILE}],
        });
        self.api(Method::PUT, "/v1/homes/h1", Some(&home)).await;
        let offer = json!({
            "task": {"name": HOSTILE, "package_id": package},
            "terms": {
                "channel": 6, "kind": 0, "percent": 20,
                "stages": [{"from": "2099-01-01T00:00:00Z", "percent": 50}],
                "conditions": {"from": ["<b>V1"], "rsrp_dbm": -115},
                "texts": {"description": {"en": HOSTILE, "pt-br": HOSTILE}, "channel": {"zh": HOSTILE}},
            },
        });
        let offer = self.api(Method::POST, "/v1/offers", Some(&offer)).await;
        let offer = format!("/offers/{}", offer["id"]);
        let mut pages = plain();
        pages.extend(self.fill_people().await);
        pages.extend([
            format!("/packages/{package}"),
            format!("/packages/{package}/papers"),
            format!("/packages/{package}/sbom"),
            format!("/packages/{package}/delete"),
            "/products/meter".to_owned(),
            "/products/meter/change".to_owned(),
            "/products/meter/remove".to_owned(),
            "/homes/h1".to_owned(),
            "/homes/h1/change".to_owned(),
            "/homes/h1/delete".to_owned(),
            "/homes/h1/members/%3Ci%3Eanna/remove".to_owned(),
            "/homes/h1/devices/d%271/remove".to_owned(),
            format!("{offer}/change"),
            format!("{offer}/withdraw"),
            offer,
            "/people/users/bert".to_owned(),
            "/people/users/bert/disable".to_owned(),
            "/people/users/bert/enable".to_owned(),
            "/people/users/bert/remove".to_owned(),
            "/people/users/bert/remove-factor".to_owned(),
            "/people/tenants/acme".to_owned(),
            "/people/tenants/acme/delete".to_owned(),
            "/evidence?cve=CVE-2026-12345".to_owned(),
            "/evidence?cve=CVE-2026-12345&standing=unknown".to_owned(),
            "/audit?result=done&operation=add_user&since=2026-01-01T00:00".to_owned(),
            "/audit/head".to_owned(),
        ]);
        pages
    }

    /// Webhooks, tokens and users. Returns their pages.
    async fn fill_people(&self) -> Vec<String> {
        let webhook = json!({"url": "https://1.1.1.1/%3Cb%3E?<b>\"'&x=y"});
        let webhook = self.api(Method::POST, "/v1/webhooks", Some(&webhook)).await;
        let grants = json!([
            {"role": "operator", "filter": "tag.k=='<script>\"'"},
            {"role": "viewer", "tenant": "acme"},
        ]);
        let token = json!({"name": "import", "grants": grants});
        let token = self.api(Method::POST, "/v1/tokens", Some(&token)).await;
        let user = json!({"name": "bert", "password": "a battery of staples", "grants": grants});
        self.api(Method::POST, "/v1/users", Some(&user)).await;
        let webhook = format!("/webhooks/{}", webhook["id"]);
        vec![
            format!("{webhook}/ping"),
            format!("{webhook}/replay"),
            format!("{webhook}/remove"),
            format!("{webhook}?state=failed"),
            format!("/people/tokens/{}/revoke", token["id"]),
            webhook,
        ]
    }
}

/// The pages that are there whatever the store has.
fn plain() -> Vec<String> {
    let pages = [
        "/packages",
        "/packages/new",
        "/products",
        "/products/+new",
        "/homes",
        "/homes/+new",
        "/offers",
        "/offers/new",
        "/webhooks",
        "/webhooks/new",
        "/people",
        "/people/new",
        "/people/tokens",
        "/people/tokens/new",
        "/people/tenants",
        "/people/tenants/+new",
        "/audit",
        "/evidence",
        "/settings",
        "/account",
    ];
    pages.map(str::to_owned).to_vec()
}

/// What stands between tags, a piece each.
fn pieces(page: &str) -> impl Iterator<Item = &str> {
    page.split('>')
        .filter_map(|it| it.split_once('<'))
        .map(|it| it.0.trim())
}

/// Looks at a page as a whole.
fn check(path: &str, shown: &Shown) {
    assert_eq!(shown.status, StatusCode::OK, "{path}: {shown:?}");
    let text = &shown.text;
    assert_eq!(text.matches("<h1").count(), 1, "{path}");
    for raw in ["<script>", "<b>", "<i>", "style=\""] {
        assert!(!text.contains(raw), "{path} has {raw}: {text}");
    }
    // a text without words is shown by its name
    for piece in pieces(text) {
        let name =
            piece.contains('-') && piece.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        assert!(!name || piece == "admin-token", "{path} says {piece:?}");
    }
    // each label is of an input, and each description is there
    for attribute in [" for=\"", " aria-describedby=\""] {
        for rest in text.split(attribute).skip(1) {
            let (named, _) = rest.split_once('"').unwrap();
            assert!(
                text.contains(&format!(" id=\"{named}\"")),
                "{path}: {named}"
            );
        }
    }
}

#[tokio::test]
async fn every_page_is_there_in_both_languages_with_nothing_in_it() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    for browser in [anna.with("a=b"), anna.with(CHINESE)] {
        for path in plain() {
            check(&path, &browser.get(&path).await);
        }
    }
}

#[tokio::test]
async fn every_page_is_there_in_both_languages_with_hostile_names_in_it() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let filled = pages.fill().await;
    for browser in [anna.with("a=b"), anna.with(CHINESE)] {
        for path in &filled {
            check(path, &browser.get(path).await);
        }
    }
    let shown = anna.get("/homes/h1").await;
    assert!(
        shown.says("&#60;script&#62;") && shown.says("𝔘"),
        "{shown:?}"
    );
    // a form for what somebody has several tenants for asks for one
    assert!(anna.get("/packages/new").await.says("name=\"tenant\""));
}

#[tokio::test]
async fn whoever_may_only_read_sees_no_way_to_change_anything() {
    let pages = Pages::new().await;
    let filled = pages.fill().await;
    let vera = pages.user("vera", &["viewer"]).await;
    for path in [
        "/packages",
        "/packages/1",
        "/products",
        "/products/meter",
        "/homes",
        "/offers",
        "/offers/1",
        "/evidence?cve=CVE-2026-12345",
        "/account",
    ] {
        let shown = vera.get(path).await;
        check(path, &shown);
        assert!(
            !shown.says("danger") && !shown.says("button primary"),
            "{path}: {shown:?}"
        );
        for page in ["/people", "/webhooks", "/audit", "/settings"] {
            assert!(!shown.says(&format!("\"/console{page}\"")), "{path}");
        }
    }
    for path in filled {
        let status = vera.get(&path).await.status;
        assert!(!status.is_server_error(), "{path}: {status}");
    }
    for path in [
        "/people",
        "/people/users/bert",
        "/webhooks",
        "/audit",
        "/settings",
        "/people/tokens",
    ] {
        assert_eq!(vera.get(path).await.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn no_form_is_carried_out_that_no_page_of_the_session_has_sent() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    pages.fill().await;
    let posts = [
        "/packages/1/delete",
        "/packages/1/papers",
        "/products/+new",
        "/products/meter/change",
        "/products/meter/remove",
        "/products/meter/keys",
        "/homes/+new",
        "/homes/h1/change",
        "/homes/h1/delete",
        "/homes/h1/members",
        "/homes/h1/devices",
        "/offers/1/change",
        "/offers/1/withdraw",
        "/webhooks/new",
        "/webhooks/1/remove",
        "/people/new",
        "/people/users/bert",
        "/people/users/bert/password",
        "/people/users/bert/remove",
        "/people/tokens/new",
        "/people/tokens/1/revoke",
        "/people/tenants/+new",
        "/people/tenants/acme",
        "/people/tenants/acme/delete",
        "/account/password",
        "/account/shown",
        "/account/second-factor",
        "/account/second-factor/confirm",
        "/account/second-factor/remove",
    ];
    // what is in a home is named in the path
    let fields = [
        ("user", "b"),
        ("endpoint", "d2"),
        ("home", "h2"),
        ("zone", "UTC"),
    ];
    for path in posts {
        let shown = anna.post_bare(path, &fields).await;
        let refused = [StatusCode::FORBIDDEN, StatusCode::UNPROCESSABLE_ENTITY];
        assert!(refused.contains(&shown.status), "{path}: {shown:?}");
        assert!(shown.headers.get(header::SET_COOKIE).is_none(), "{path}");
    }
    let shown = anna
        .send_file("/packages/new", &[("version", "V9")], ("a", b"abc"))
        .await;
    assert_eq!(shown.status, StatusCode::FORBIDDEN, "{shown:?}");
    let left = pages.api(Method::GET, "/v1/packages", None).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_address_that_is_none_is_not_found_and_breaks_nothing() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    for path in [
        "/packages/99",
        "/packages/99/delete",
        "/products/meter/keys/abc/remove",
        "/homes/none",
        "/homes/h1/things/x/remove",
        "/offers/99",
        "/webhooks/99",
        "/webhooks/1/explode",
        "/people/users/nobody",
        "/people/users/anna/explode",
        "/people/tokens/99/revoke",
        "/people/tenants/none",
        "/products/meter?tenant=none",
    ] {
        let shown = anna.get(path).await;
        assert_eq!(shown.status, StatusCode::NOT_FOUND, "{path}: {shown:?}");
    }
    for path in [
        "/packages/x",
        "/offers/9999999999999999999999",
        "/products/..%2F..%2Fv1",
    ] {
        let shown = anna.get(path).await;
        assert!(shown.status.is_client_error(), "{path}: {shown:?}");
    }
    for path in [
        "/evidence?cve=x",
        "/evidence?cve=CVE-2026-99999",
        "/audit?result=x",
    ] {
        let shown = anna.get(path).await;
        assert!(
            shown.status.is_client_error() && shown.says("id=\"problem\""),
            "{path}: {shown:?}"
        );
    }
}

#[tokio::test]
async fn the_log_is_exported_and_the_settings_show_no_secret() {
    let pages = Pages::with(|config| {
        config.dtls.credential_key = crate::config::SecretText("5e".repeat(32));
    })
    .await;
    let anna = pages.user("anna", &ALL).await;
    let shown = anna.get("/audit/export").await;
    assert!(shown.says("\"operation\":\"add_user\""), "{shown:?}");
    let name = shown.headers[header::CONTENT_DISPOSITION].to_str().unwrap();
    assert!(name.starts_with("attachment"), "{name}");
    let shown = anna.get("/audit?operation=add_user").await;
    assert!(
        shown.says("users/anna") && !shown.says("<code>log_in</code>"),
        "{shown:?}"
    );
    let shown = anna
        .get("/audit?operation=add_user&until=2001-01-01T00:00")
        .await;
    assert!(!shown.says("users/anna"));
    let shown = anna.get("/settings").await;
    assert!(shown.says("admin.requests_per_second") && shown.says("1000000"));
    assert!(!shown.says("5e5e5e"), "{shown:?}");
}
