use super::*;

const DEVICE: DeviceId = DeviceId::from_bytes([1; 8]);
/// `printf secret | openssl dgst -sha256 -hmac 2026113005`
const PASSWORD: &str = "8fea6db87a1c1359f895ba048dfa334b98e90ce1b7dbe72b45e5cf68d1e46b7a";
/// 2026-11-30T05:59:59.999Z
const NOW: UtcMillis = UtcMillis(1_796_018_399_999);

fn identity(style: Style, credential: Credential) -> Identity {
    Identity {
        device: DEVICE,
        name: "meter-1".into(),
        style,
        credential,
    }
}

fn secret() -> Identity {
    identity(
        Style::Iotda,
        Credential::Secret(b"secret".as_slice().into()),
    )
}

fn claim(client_id: &str, user: Option<&str>, password: Option<&str>) -> Claim {
    Claim {
        client_id: client_id.into(),
        user: user.map(Box::from),
        password: password.map(|it| it.as_bytes().into()),
        certified: Box::default(),
    }
}

fn with_secret(client_id: &str, password: &str, now: UtcMillis) -> Result<(), Refusal> {
    secret().verify(&claim(client_id, Some("meter-1"), Some(password)), now)
}

#[test]
fn one_with_quecthing_sends_its_secret_and_is_named_by_its_client_id() {
    let it = identity(
        Style::QuecThing,
        Credential::Secret(b"secret".as_slice().into()),
    );
    let verify = |client_id: &str, user: Option<&str>, password: Option<&str>| {
        it.verify(&claim(client_id, user, password), NOW)
    };
    for user in [None, Some(""), Some("meter-1"), Some("anything")] {
        assert_eq!(verify("meter-1", user, Some("secret")), Ok(()));
    }
    let wrong = Err(Refusal::WrongCredential);
    assert_eq!(verify("meter-1", Some("meter-1"), Some("secre")), wrong);
    assert_eq!(verify("meter-1", Some("meter-1"), Some("")), wrong);
    assert_eq!(verify("meter-1", None, None), wrong);
    let other = verify("meter-2", Some("meter-1"), Some("secret"));
    assert_eq!(other, Err(Refusal::ClientId));
}

/// Do not change: devices make their passwords like this.
#[test]
fn the_password_is_the_hmac_of_the_secret_under_the_stamp() {
    assert_eq!(with_secret("meter-1_0_1_2026113005", PASSWORD, NOW), Ok(()));
    assert_eq!(with_secret("meter-1_0_0_2026113005", PASSWORD, NOW), Ok(()));
    let upper = PASSWORD.to_uppercase();
    assert_eq!(with_secret("meter-1_0_0_2026113005", &upper, NOW), Ok(()));
    for wrong in [
        "",
        "secret",
        &PASSWORD[2..],
        &PASSWORD[..62],
        &"0".repeat(64),
    ] {
        let refused = with_secret("meter-1_0_1_2026113005", wrong, NOW);
        assert_eq!(refused, Err(Refusal::WrongCredential), "{wrong}");
    }
    // the stamp is the key
    let refused = with_secret("meter-1_0_1_2026113006", PASSWORD, NOW);
    assert_eq!(refused, Err(Refusal::WrongCredential));
}

#[test]
fn a_stamp_is_within_an_hour_where_its_flag_says_so() {
    let later = |hours: u64| NOW + std::time::Duration::from_hours(hours);
    assert_eq!(
        with_secret("meter-1_0_1_2026113005", PASSWORD, later(1)),
        Ok(())
    );
    let earlier = NOW.before(std::time::Duration::from_hours(1));
    assert_eq!(
        with_secret("meter-1_0_1_2026113005", PASSWORD, earlier),
        Ok(())
    );
    let stale = with_secret("meter-1_0_1_2026113005", PASSWORD, later(2));
    assert_eq!(stale, Err(Refusal::StaleStamp));
    let years = later(24 * 3650);
    assert_eq!(
        with_secret("meter-1_0_0_2026113005", PASSWORD, years),
        Ok(())
    );
    // who does not know the secret is not told of the clock
    let guessed = with_secret("meter-1_0_1_2026113005", "00", later(2));
    assert_eq!(guessed, Err(Refusal::WrongCredential));
}

#[test]
fn a_client_id_of_another_form_is_told() {
    for client_id in [
        "",
        "meter-1",
        "meter-1_0_1",
        "meter-1_0_2_2026113005",
        "meter-1_1_0_2026113005",
        "meter-2_0_1_2026113005",
        "meter-1_0_1_2026113099",
        "meter-1_0_1_2026133005",
        "meter-1_0_1_2026023005",
        "meter-1_0_1_+026113005",
        "meter-1_0_1_202611300５",
        "meter-1_0_1_20261130050",
    ] {
        let refused = with_secret(client_id, PASSWORD, NOW);
        assert_eq!(refused, Err(Refusal::ClientId), "{client_id}");
    }
}

#[test]
fn a_token_is_the_user_name_and_a_password_counts_where_there_is_one() {
    let token = |password: Option<&str>| Credential::Token {
        token: "token".into(),
        password: password.map(Box::from),
    };
    let open = identity(Style::ThingsPanel, token(None));
    assert_eq!(open.verify(&claim("any", Some("token"), None), NOW), Ok(()));
    assert_eq!(
        open.verify(&claim("", Some("token"), Some("x")), NOW),
        Ok(())
    );
    let basic = identity(Style::ThingsPanel, token(Some("word")));
    assert_eq!(
        basic.verify(&claim("", Some("token"), Some("word")), NOW),
        Ok(())
    );
    let wrong = [
        claim("", Some("token"), None),
        claim("", Some("token"), Some("")),
        claim("", Some("token"), Some("wor")),
        claim("", Some("other"), Some("word")),
        claim("token", None, Some("word")),
    ];
    for claim in wrong {
        assert_eq!(basic.verify(&claim, NOW), Err(Refusal::WrongCredential));
    }
    let nobody = claim("token", None, None);
    assert_eq!(open.verify(&nobody, NOW), Err(Refusal::WrongCredential));
}

#[test]
fn a_certificate_names_its_device() {
    let by_certificate = identity(Style::Iotda, Credential::Certificate);
    let mut shown = claim("", None, None);
    assert_eq!(
        by_certificate.verify(&shown, NOW),
        Err(Refusal::WrongCredential)
    );
    shown.certified = ["someone".into(), "meter-1".into()].into();
    assert_eq!(by_certificate.verify(&shown, NOW), Ok(()));
    // nor does a certificate stand for a secret
    assert_eq!(secret().verify(&shown, NOW), Err(Refusal::ClientId));
}

#[test]
fn nothing_secret_is_shown() {
    let shown = format!(
        "{:?} {:?} {:?}",
        secret(),
        secret().credential,
        claim("id", Some("topsecret"), Some("topsecret"))
    );
    assert!(
        !shown.contains("topsecret") && !shown.contains("[115"),
        "{shown}"
    );
}
