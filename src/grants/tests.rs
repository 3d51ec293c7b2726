use super::*;

#[derive(Default)]
struct Told(Mutex<Vec<(u64, bool)>>);

impl Witness for Told {
    fn served(&self, served: Served) {
        assert_eq!(served.upgrade, UpgradeId(7));
        held(&self.0).push((served.contiguous_bytes, served.whole));
    }
}

const TOKEN: &str = "abcdefghijklmnopqrstuv";
const SIZE: u64 = 5 * TOLD_EVERY_BYTES;

fn grant(token: &str) -> Grant {
    Grant {
        token: Token::new(token).unwrap(),
        way: Way::Bearer,
        device: DeviceId::from_bytes([1; 8]),
        upgrade: UpgradeId(7),
        package: PackageId(3),
        sha256: "ab".repeat(32),
        size_bytes: SIZE,
        file_name: "meter 1.2/3.bin".to_owned(),
        expires_at: UtcMillis(1_000),
        already_contiguous: 0,
    }
}

fn granted() -> (Grants, Arc<Told>) {
    let (grants, told) = (Grants::default(), Arc::new(Told::default()));
    grants.watch(told.clone());
    grants.grant(grant(TOKEN));
    (grants, told)
}

const BEFORE: UtcMillis = UtcMillis(999);

#[test]
fn a_token_opens_its_package_until_it_ends() {
    let (grants, _) = granted();
    let refused = |token: &str, package, now| grants.open(token, package, now).unwrap_err();
    assert_eq!(refused("x", None, BEFORE), Refusal::Unknown);
    assert_eq!(
        refused(TOKEN, Some(PackageId(4)), BEFORE),
        Refusal::OtherPackage
    );
    assert_eq!(
        refused(TOKEN, Some(PackageId(3)), UtcMillis(1_000)),
        Refusal::Expired
    );
    let opened = grants.open(TOKEN, Some(PackageId(3)), BEFORE).unwrap();
    assert_eq!(opened.grant().file_name, "meter_1.2_3.bin");
    // granted again, it ends later
    grants.grant(Grant {
        expires_at: UtcMillis(2_000),
        ..grant(TOKEN)
    });
    assert!(grants.open(TOKEN, None, UtcMillis(1_000)).is_ok());
}

#[test]
fn revoking_ends_what_is_under_way() {
    let (grants, told) = granted();
    let opened = grants.open(TOKEN, None, BEFORE).unwrap();
    assert!(!opened.is_revoked());
    grants.revoke(&Token::new(TOKEN).unwrap());
    assert!(opened.is_revoked());
    grants.served(&opened, 0..SIZE, true);
    assert!(held(&told.0).is_empty());
    assert_eq!(
        grants.open(TOKEN, None, BEFORE).unwrap_err(),
        Refusal::Unknown
    );
}

#[test]
fn a_token_is_served_on_a_few_connections_only() {
    let (grants, _) = granted();
    let mut open: Vec<Opened> = (0..MAX_CONNECTIONS_PER_TOKEN)
        .map(|_| grants.open(TOKEN, None, BEFORE).unwrap())
        .collect();
    assert_eq!(grants.open(TOKEN, None, BEFORE).unwrap_err(), Refusal::Busy);
    open.pop();
    assert!(grants.open(TOKEN, None, BEFORE).is_ok());
}

#[test]
fn the_witness_is_told_at_the_beginning_now_and_then_and_at_the_end() {
    let (grants, told) = granted();
    let live = grants.open(TOKEN, None, BEFORE).unwrap();
    let said = || std::mem::take(&mut *held(&told.0));
    grants.served(&live, 0..0, false);
    assert_eq!(said(), [(0, false)]);
    let mib = TOLD_EVERY_BYTES;
    for at in 0..40 {
        grants.served(&live, at * mib / 10..(at + 1) * mib / 10, false);
    }
    let told_of: Vec<u64> = said().iter().map(|(bytes, _)| bytes / mib).collect();
    assert_eq!(told_of, [1, 2, 3, 4].map(|n| n.min(told_of.len() as u64)));
    // the end before what is between: two connections
    grants.served(&live, 4 * mib + 10..SIZE, true);
    assert_eq!(said(), []);
    grants.served(&live, 4 * mib - 1..4 * mib + 10, true);
    assert_eq!(said(), [(SIZE, true)]);
    // and the same again tells nothing new
    grants.served(&live, 0..SIZE, true);
    assert_eq!(said(), []);
}

#[test]
fn what_a_broken_connection_has_not_delivered_is_taken_off_again() {
    let (grants, told) = granted();
    let live = grants.open(TOKEN, None, BEFORE).unwrap();
    grants.served(&live, 0..SIZE, true);
    assert_eq!(*held(&told.0), [(SIZE, true)]);
    grants.lost(&live, &(SIZE - 300_000..SIZE));
    assert_eq!(held(&told.0).last(), Some(&(SIZE - 300_000, false)));
    // the device goes on from there, on another connection, and that one breaks after all has arrived
    grants.served(&live, SIZE - 300_000..SIZE, true);
    grants.arrived(&live, SIZE - 300_000..SIZE);
    grants.lost(&live, &(SIZE - 10..SIZE));
    assert_eq!(held(&told.0).last(), Some(&(SIZE, true)));
}

#[test]
fn after_a_restart_counting_goes_on_where_it_was() {
    let (grants, told) = (Grants::default(), Arc::new(Told::default()));
    grants.watch(told.clone());
    grants.grant(Grant {
        already_contiguous: 1_000,
        ..grant(TOKEN)
    });
    let live = grants.open(TOKEN, None, BEFORE).unwrap();
    grants.served(&live, 1_000..SIZE, true);
    assert_eq!(*held(&told.0), [(SIZE, true)]);
}

#[test]
fn another_package_under_a_token_begins_anew() {
    let (grants, _) = granted();
    let live = grants.open(TOKEN, None, BEFORE).unwrap();
    grants.served(&live, 0..SIZE, true);
    let token = Token::new(TOKEN).unwrap();
    assert!(grants.look(&token).unwrap().whole);
    grants.grant(Grant {
        package: PackageId(9),
        ..grant(TOKEN)
    });
    assert!(live.is_revoked());
    assert_eq!(grants.look(&token).unwrap().contiguous_bytes, 0);
}

#[test]
fn expired_grants_are_removed_unless_they_are_being_served() {
    let (grants, _) = granted();
    let live = grants.open(TOKEN, None, BEFORE).unwrap();
    assert_eq!(grants.remove_expired(UtcMillis(1_000)), 0);
    drop(live);
    assert_eq!(grants.remove_expired(BEFORE), 0);
    assert_eq!(grants.remove_expired(UtcMillis(1_000)), 1);
    assert_eq!(grants.count(), 0);
}

#[test]
fn links_always_name_their_port() {
    let url = |base: &str, way| {
        let links = Links::new(base, true).unwrap();
        links.url(&Grant {
            way,
            ..grant(TOKEN)
        })
    };
    assert_eq!(
        url("https://updates.example.com", Way::Bearer),
        "https://updates.example.com:443/packages/3/meter_1.2_3.bin"
    );
    assert_eq!(
        url("http://10.0.0.1/ota/", Way::Path),
        format!("http://10.0.0.1:80/ota/t/{TOKEN}/meter_1.2_3.bin")
    );
    let path = |base: &str| Links::new(base, true).unwrap().path().to_owned();
    assert_eq!(path("http://10.0.0.1/ota/"), "/ota");
    assert_eq!(path("http://10.0.0.1/"), "");
    assert_eq!(
        url("http://[2001:db8::1]:8090", Way::Bearer),
        "http://[2001:db8::1]:8090/packages/3/meter_1.2_3.bin"
    );
}

#[test]
fn a_base_that_devices_could_not_use_is_refused() {
    for (base, error) in [
        ("ftp://a", LinksError::Scheme),
        ("updates.example.com", LinksError::Scheme),
        ("https://", LinksError::Host),
        ("https://user@host", LinksError::Host),
        ("https://[::1", LinksError::Host),
        ("https://[nonsense]:1", LinksError::Host),
        ("https://[::1]x", LinksError::Port),
        ("https://a:0", LinksError::Port),
        ("https://a:65536", LinksError::Port),
        ("https://a:+1", LinksError::Port),
        ("https://a/b?c", LinksError::Path),
        ("https://a/b\r\n", LinksError::Path),
    ] {
        assert_eq!(Links::new(base, true), Err(error), "{base}");
    }
}

#[test]
fn names_of_files_have_safe_characters_only() {
    for (name, safe) in [
        ("a.bin", "a.bin"),
        ("", "package"),
        ("..", "_."),
        ("a\"b\r\n;c/é", "a_b___c__"),
    ] {
        assert_eq!(safe_file_name(name), safe);
    }
    assert_eq!(safe_file_name(&"x".repeat(500)).len(), 19);
    assert_eq!(safe_file_name("nineteen-letters.bi"), "nineteen-letters.bi");
    assert_eq!(
        safe_file_name("V1.2.3-20261130-a.bin"),
        "V1.2.3-202130-a.bin"
    );
}

#[test]
fn a_token_is_never_shown() {
    assert!(!format!("{:?}", grant(TOKEN)).contains(TOKEN));
    for bad in ["short", "abcdefghijklmnopqrstu/", &"a".repeat(129)] {
        assert_eq!(Token::new(bad), Err(TokenError));
    }
}
