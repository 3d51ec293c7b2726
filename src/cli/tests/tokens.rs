use super::Shell;

#[tokio::test]
async fn tokens_are_added_used_and_revoked() {
    let shell = Shell::new().await;
    assert!(
        shell
            .text("whoami")
            .await
            .starts_with("admin-token: viewer operator")
    );
    let added = shell
        .text("token add import --grant viewer --grant operator:site==north*")
        .await;
    let (said, token) = added.trim_end().rsplit_once(": ").unwrap();
    assert_eq!(
        said,
        "token 1 added: viewer operator:site==north*\nit is not shown again"
    );
    let as_import = ["--token", token];
    let me = shell.run_with("whoami", &as_import).await.unwrap();
    assert_eq!(me.text, "token:1:import: viewer operator:site==north*\n");
    let refused = shell.run_with("token list", &as_import).await;
    let refused = refused.err().unwrap().to_string();
    assert!(
        refused.contains("the role administrator") && refused.contains("403"),
        "{refused}"
    );
    let list = shell.text("token list").await;
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["1", "import", "-"]);
    let json = shell
        .run("token add short --grant auditor --expires-at 2999-01-01T00:00:00Z --format json")
        .await
        .unwrap();
    assert_eq!(json.json()["expires_at"], "2999-01-01T00:00:00.000Z");
    let wrong = shell.error("token add other --grant boss").await;
    assert!(wrong.contains("grants[0].role"), "{wrong}");
    assert_eq!(shell.text("token revoke 1").await, "token 1 revoked\n");
    let revoked = shell.run_with("whoami", &as_import).await;
    assert!(revoked.err().unwrap().to_string().contains("401"));
}

#[tokio::test]
async fn users_are_added_granted_and_removed() {
    let shell = Shell::new().await;
    let file = shell.file("password", b"correct horse battery\n");
    let added = shell
        .text(&format!(
            "user add anna --grant viewer --password-file {file}"
        ))
        .await;
    assert_eq!(added, "user 1 (anna) added: viewer\n");
    let granted = shell
        .text("user grant anna --grant approver --grant operator:site==north")
        .await;
    assert_eq!(granted, "anna is granted approver operator:site==north\n");
    let list = shell.text("user list").await;
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        row,
        ["1", "anna", "-", "-", "approver", "operator:site==north"]
    );
    let passwd = shell
        .text(&format!("user passwd anna --password-file {file}"))
        .await;
    assert_eq!(passwd, "anna has another password\n");
    let short = shell.file("short", b"short");
    let short = shell
        .error(&format!("user passwd anna --password-file {short}"))
        .await;
    assert!(short.contains("12 to 128 characters"), "{short}");
    assert_eq!(shell.text("user remove anna").await, "user anna removed\n");
    assert!(shell.error("user remove anna").await.contains("no user"));
}

#[tokio::test]
async fn a_link_for_a_log_in_is_a_whole_address() {
    let shell = Shell::new().await;
    let file = shell.file("password", b"correct horse battery\n");
    shell
        .text(&format!(
            "user add anna --grant viewer --password-file {file}"
        ))
        .await;
    let text = shell.text("user link anna").await;
    let [address, until] = text.lines().collect::<Vec<_>>()[..] else {
        panic!("two lines: {text}");
    };
    let begin = format!("{}/console/login?link=", shell.url);
    let link = address.strip_prefix(&begin).unwrap();
    assert_eq!(link.len(), 64, "{text}");
    let until = until.strip_prefix("good once, until ").unwrap();
    let now = shell.state.clock.now().utc;
    assert!(now.to_string().as_str() < until, "{text}");
    let json = shell.run("user link anna --format json").await.unwrap();
    let json = json.json();
    let token = json["token"].as_str().unwrap();
    assert_eq!(json["url"], format!("{begin}{token}"));
    assert_eq!(json["path"], format!("/console/login?link={token}"));
    assert!(json["expires_at"].as_str().unwrap() >= until);
    assert!(token != link);
    let nobody = shell.error("user link nobody").await;
    assert!(nobody.contains("no user"), "{nobody}");
}

#[tokio::test]
async fn a_second_factor_is_set_up_and_taken_away() {
    let shell = Shell::new().await;
    let file = shell.file("password", b"correct horse battery\n");
    let with_password = format!("--password-file {file}");
    shell
        .text(&format!("user add anna --grant viewer {with_password}"))
        .await;
    let needs = shell.text("user totp require anna").await;
    assert_eq!(needs, "anna needs a second factor\n");
    let enrolled = shell
        .text(&format!("user totp enrol anna {with_password}"))
        .await;
    let secret = enrolled.lines().next().unwrap();
    let secret = secret.strip_prefix("secret: ").unwrap();
    assert!(enrolled.contains("otpauth://totp/Cellwise:anna?"));
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    let totp = totp_rs::Builder::new()
        .with_secret(secret)
        .with_account_name("anna")
        .build()
        .unwrap();
    let now = shell.state.clock.now().utc.0 / 1_000;
    let code = totp.generate(now.cast_unsigned());
    let confirmed = shell
        .text(&format!("user totp confirm anna {code} {with_password}"))
        .await;
    assert_eq!(confirmed.lines().count(), 11, "{confirmed}");
    let list = shell.text("user list").await;
    assert!(list.lines().nth(1).unwrap().contains("totp"), "{list}");
    let without = shell
        .error(&format!("user totp enrol anna {with_password}"))
        .await;
    assert!(without.contains("second factor"), "{without}");
    let removed = shell.text("user totp remove anna").await;
    assert_eq!(removed, "anna has no second factor any more\n");
    let optional = shell.text("user totp require anna --off").await;
    assert_eq!(optional, "anna does not need a second factor\n");
    assert_eq!(
        shell.text("user disable anna").await,
        "user anna disabled\n"
    );
    let out = shell
        .error(&format!("user totp enrol anna {with_password}"))
        .await;
    assert!(out.contains("disabled"), "{out}");
    assert_eq!(shell.text("user enable anna").await, "user anna enabled\n");
}
