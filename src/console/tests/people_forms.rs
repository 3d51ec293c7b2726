//! Who is let in: users, tokens, tenants, and one's own account.

use axum::http::{Method, StatusCode, header};
use serde_json::json;
use totp_rs::{Builder, Secret};

use super::{Browser, PASSWORD, Pages, Shown, admin::ALL};

async fn done(browser: &Browser<'_>, shown: &Shown, to: &str) -> Shown {
    assert_eq!(shown.status, StatusCode::SEE_OTHER, "{shown:?}");
    let path = shown.location().strip_prefix("/console").unwrap();
    assert!(path.starts_with(to), "{path}");
    let next = browser.get(path).await;
    assert!(next.says("<p class=\"notice\">"), "{path}: {next:?}");
    next
}

/// How bert's log-in is answered.
async fn log_in(pages: &Pages, password: &str) -> StatusCode {
    let fields = [("name", "bert"), ("password", password)];
    let shown = pages.browser().post_bare("/login", &fields).await;
    shown.status
}

#[tokio::test]
async fn a_user_is_added() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let mut fields = vec![
        ("name", "bert"),
        ("password", "short"),
        ("role", "operator"),
        ("on", ""),
        ("filter", "site==north*"),
        ("role", ""),
        ("on", ""),
        ("filter", ""),
        ("role", "auditor"),
        ("on", "*"),
        ("filter", ""),
    ];
    let shown = anna.post("/people/new", &fields).await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
    assert!(shown.says("value=\"bert\"") && shown.says("site==north*") && !shown.says("short\""));
    assert!(shown.says("value=\"auditor\" selected"));
    fields[1].1 = " blanks around it ";
    let shown = anna.post("/people/new", &fields).await;
    let shown = done(&anna, &shown, "/people/users/bert").await;
    assert!(
        shown.says("operator for the devices site==north*"),
        "{shown:?}"
    );
    assert_eq!(
        log_in(&pages, " blanks around it ").await,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn a_user_is_changed_kept_out_and_removed() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    pages.user("bert", &["viewer"]).await;
    let fields = [
        ("role", "viewer"),
        ("on", ""),
        ("filter", "site=="),
        ("required", "1"),
    ];
    let shown = anna.post("/people/users/bert", &fields).await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
    assert!(shown.says("value=\"site==\"") && shown.says("name=\"required\" value=\"1\" checked"));
    let fields = [("role", "viewer"), ("on", ""), ("filter", "")];
    let shown = anna.post("/people/users/bert", &fields).await;
    done(&anna, &shown, "/people/users/bert").await;
    let bert = pages.api(Method::GET, "/v1/users/bert", None).await;
    assert_eq!(bert["grants"], json!([{"role": "viewer", "filter": null}]));
    let fields = [("password", "another battery of horses")];
    let shown = anna.post("/people/users/bert/password", &fields).await;
    done(&anna, &shown, "/people/users/bert").await;
    assert_eq!(
        log_in(&pages, "another battery of horses").await,
        StatusCode::SEE_OTHER
    );
    let shown = anna.post("/people/users/bert/disable", &[]).await;
    let shown = done(&anna, &shown, "/people/users/bert").await;
    assert!(shown.says("disabled") && shown.says("/people/users/bert/enable"));
    assert_eq!(
        log_in(&pages, "another battery of horses").await,
        StatusCode::FORBIDDEN
    );
    let shown = anna.post("/people/users/bert/enable", &[]).await;
    done(&anna, &shown, "/people/users/bert").await;
    let shown = anna.post("/people/users/bert/remove-factor", &[]).await;
    assert_eq!(shown.status, StatusCode::NOT_FOUND, "{shown:?}");
    let shown = anna.post("/people/users/bert/login-link", &[]).await;
    let (_, link) = shown.text.split_once("/console/login?link=").unwrap();
    let link = link.split('<').next().unwrap();
    let browser = pages.browser();
    let shown = browser.post_bare("/login", &[("link", link)]).await;
    assert_eq!(shown.status, StatusCode::SEE_OTHER, "{shown:?}");
    let shown = anna.post("/people/users/bert/remove", &[]).await;
    let shown = done(&anna, &shown, "/people").await;
    assert!(!shown.says("bert"));
}

#[tokio::test]
async fn a_token_is_shown_once_and_revoked() {
    let pages = Pages::new().await;
    let anna = pages
        .user("anna", &ALL)
        .await
        .with("cellwise-zone=Asia/Shanghai");
    let fields = [
        ("name", "a b"),
        ("role", "viewer"),
        ("expires_at", "2099-01-01T08:00"),
    ];
    let shown = anna.post("/people/tokens/new", &fields).await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
    assert!(shown.says("value=\"a b\"") && shown.says("2099-01-01T08:00"));
    let mut fields = fields;
    fields[0].1 = "import";
    let mut fields = fields.to_vec();
    fields.push(("once", "the-same-form"));
    let shown = anna.post("/people/tokens/new", &fields).await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    // sent again it is told that this was done, not that it may be tried again
    let again = anna.post("/people/tokens/new", &fields).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{again:?}");
    assert!(again.says("its secret is not shown again"), "{again:?}");
    assert!(!again.says("<pre"), "{again:?}");
    let (_, rest) = shown.text.split_once("<pre id=\"token\"").unwrap();
    let (_, rest) = rest.split_once('>').unwrap();
    let token = rest.split_once('<').unwrap().0.to_owned();
    assert!(token.len() > 20, "{shown:?}");
    let list = anna.get("/people/tokens").await;
    assert!(list.says("import") && list.says("2099-01-01 08:00:00") && !list.says(&token));
    let shown = anna.post("/people/tokens/1/revoke", &[]).await;
    assert!(!done(&anna, &shown, "/people/tokens").await.says(">import<"));
}

#[tokio::test]
async fn a_tenant_is_added_renamed_and_deleted() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let shown = anna
        .post("/people/tenants/+new", &[("id", "A B"), ("name", "Acme")])
        .await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
    assert!(shown.says("value=\"A B\"") && shown.says("value=\"Acme\""));
    let shown = anna.post("/people/tenants/+new", &[("id", "new")]).await;
    done(&anna, &shown, "/people/tenants").await;
    let etag = anna
        .get("/people/tenants/new")
        .await
        .value_of("etag")
        .replace("&#34;", "\"");
    let fields = [("etag", &*etag), ("name", "Acme")];
    let shown = anna.post("/people/tenants/new", &fields).await;
    assert!(
        done(&anna, &shown, "/people/tenants/new")
            .await
            .says("Acme")
    );
    // somebody has changed it since
    let fields = [("etag", &*etag), ("name", "Other")];
    let shown = anna.post("/people/tenants/new", &fields).await;
    assert_eq!(shown.status, StatusCode::PRECONDITION_FAILED, "{shown:?}");
    assert!(shown.says("value=\"Other\""));
    let question = anna.get("/people/tenants/new/delete").await;
    let etag = question.value_of("etag").replace("&#34;", "\"");
    let shown = anna
        .post("/people/tenants/new/delete", &[("etag", &etag)])
        .await;
    assert!(!done(&anna, &shown, "/people/tenants").await.says("Acme"));
}

#[tokio::test]
async fn how_pages_are_shown_is_kept_in_cookies() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &["viewer"]).await;
    let fields = [
        ("language", "zh-Hans"),
        ("zone", "asia/shanghai"),
        ("theme", "dark"),
    ];
    let shown = anna.post("/account/shown", &fields).await;
    assert_eq!(shown.status, StatusCode::SEE_OTHER, "{shown:?}");
    let cookies = shown.headers.get_all(header::SET_COOKIE).iter();
    let cookies: Vec<_> = cookies
        .map(|it| it.to_str().unwrap().split(';').next().unwrap())
        .collect();
    assert_eq!(
        cookies,
        [
            "cellwise-language=zh-Hans",
            "cellwise-zone=Asia/Shanghai",
            "cellwise-theme=dark"
        ]
    );
    let shown = anna.with(&cookies.join("; ")).get("/account").await;
    assert!(
        shown.says("data-theme=\"dark\"")
            && shown.says("lang=\"zh-Hans\"")
            && shown.says("我的账号")
    );
    assert!(shown.says("value=\"dark\" selected"));
    for zone in [
        "",
        "Nowhere/City",
        "UTC; Path=/v1",
        "UTC\r\nSet-Cookie: a=b",
    ] {
        let shown = anna.post("/account/shown", &[("zone", zone)]).await;
        assert_eq!(
            shown.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{zone}: {shown:?}"
        );
        assert!(shown.headers.get(header::SET_COOKIE).is_none());
    }
}

#[tokio::test]
async fn whoever_has_to_sets_up_a_second_factor_before_anything_else() {
    let pages = Pages::with(|config| {
        config.admin.totp_required_roles = vec!["administrator".to_owned()];
    })
    .await;
    let anna = pages.user("anna", &["administrator"]).await;
    let shown = anna.get("/people").await;
    assert_eq!(
        (shown.status, shown.location()),
        (StatusCode::SEE_OTHER, "/console/account")
    );
    let shown = anna.get("/account").await;
    assert!(
        shown.says("You have to set up a second factor."),
        "{shown:?}"
    );
    let shown = anna
        .post(
            "/account/second-factor",
            &[("password", "wrong horse battery")],
        )
        .await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
    assert!(!shown.says("wrong horse"));
    let begun = anna
        .post("/account/second-factor", &[("password", PASSWORD)])
        .await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    let (secret, key) = (begun.value_of("secret"), begun.value_of("key"));
    assert!(
        begun.says(&format!(">{secret}</pre>")) && key.starts_with("otpauth://"),
        "{begun:?}"
    );
    let key = key.replace("&#38;", "&");
    let hidden = [("secret", &*secret), ("key", &*key)];
    let wrong = [&hidden[..], &[("code", "000000")]].concat();
    let shown = anna.post("/account/second-factor/confirm", &wrong).await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
    assert!(shown.says(&format!(">{secret}</pre>")));
    let device = Builder::new()
        .with_secret(Secret::try_from_base32(&secret).unwrap())
        .with_account_name("anna")
        .build()
        .unwrap();
    let seconds = u64::try_from(pages.state.clock.now().utc.0 / 1_000).unwrap();
    let code = device.generate(seconds).to_string();
    let code = format!("{} {}", &code[..3], &code[3..]);
    let right = [&hidden[..], &[("code", &*code)]].concat();
    let shown = anna.post("/account/second-factor/confirm", &right).await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    let (_, rest) = shown.text.split_once("<pre id=\"recovery-codes\"").unwrap();
    let (codes, _) = rest.split_once("</pre>").unwrap();
    let codes: Vec<_> = codes.split_once('>').unwrap().1.lines().collect();
    assert_eq!(codes.len(), 10, "{shown:?}");
    assert_eq!(anna.get("/people").await.status, StatusCode::OK);
    let fields = [("password", PASSWORD), ("code", codes[0])];
    let shown = anna.post("/account/second-factor/remove", &fields).await;
    assert!(
        shown.location().starts_with("/console/account?done="),
        "{shown:?}"
    );
}

#[tokio::test]
async fn whoever_changes_the_own_password_logs_in_again() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &["viewer"]).await;
    let wrong = [
        ("old_password", "wrong horse battery"),
        ("password", "a staple of batteries"),
    ];
    let shown = anna.post("/account/password", &wrong).await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
    assert!(!shown.says("wrong horse") && !shown.says("a staple of"));
    let right = [
        ("old_password", PASSWORD),
        ("password", "a staple of batteries"),
    ];
    let shown = anna.post("/account/password", &right).await;
    assert_eq!(
        shown.location(),
        "/console/login?next=/account",
        "{shown:?}"
    );
    assert_eq!(anna.get("/account").await.status, StatusCode::SEE_OTHER);
}
