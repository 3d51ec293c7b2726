use std::{
    sync::atomic::AtomicU64,
    task::{Context, Waker},
};

use super::*;

#[derive(Default)]
struct Told(Mutex<Vec<(u64, bool)>>, AtomicU64, AtomicU64);

impl Witness for Told {
    fn served(&self, served: Served) {
        assert_eq!(served.upgrade, UpgradeId(7));
        assert_eq!(served.whole, served.contiguous_bytes == SIZE);
        held(&self.0).push((served.contiguous_bytes, served.in_flight));
        self.1.fetch_add(served.more_bytes, Ordering::Relaxed);
        self.2.fetch_add(u64::from(served.over), Ordering::Relaxed);
    }
}

impl Told {
    fn take(&self) -> Vec<(u64, bool)> {
        std::mem::take(&mut *held(&self.0))
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
        task: TaskId(5),
        package: PackageId(3),
        sha256: "ab".repeat(32),
        size_bytes: SIZE,
        file_name: "meter 1.2/3.bin".to_owned(),
        expires_at: UtcMillis(1_000),
        already_contiguous: 0,
        begun: true,
    }
}

fn granted() -> (Grants, Arc<Told>) {
    let (grants, told) = (Grants::default(), Arc::new(Told::default()));
    grants.watch(told.clone());
    grants.grant(grant(TOKEN));
    (grants, told)
}

const BEFORE: UtcMillis = UtcMillis(999);
const MOST: u32 = 4;

fn open(grants: &Grants) -> Result<Opened, Refusal> {
    grants.open(TOKEN, None, MOST, &Arc::default(), BEFORE)
}

/// Sends bytes that arrive.
fn serve(grants: &Grants, live: &Live, bytes: Range<u64>, due: bool) {
    grants.sent(live, bytes.end - bytes.start, false);
    grants.arrived(live, bytes, due);
}

#[test]
fn a_token_opens_its_package_until_it_ends() {
    let (grants, _) = granted();
    let refused = |token: &str, package, now| {
        let opened = grants.open(token, package, MOST, &Arc::default(), now);
        opened.unwrap_err()
    };
    assert_eq!(refused("x", None, BEFORE), Refusal::Unknown);
    assert_eq!(
        refused(TOKEN, Some(PackageId(4)), BEFORE),
        Refusal::OtherPackage
    );
    assert_eq!(
        refused(TOKEN, Some(PackageId(3)), UtcMillis(1_000)),
        Refusal::Expired
    );
    let opened = grants
        .open(TOKEN, Some(PackageId(3)), MOST, &Arc::default(), BEFORE)
        .unwrap();
    assert_eq!(opened.grant().file_name, "meter_1.2_3.bin");
    // granted again, it ends later
    grants.grant(Grant {
        expires_at: UtcMillis(2_000),
        ..grant(TOKEN)
    });
    let later = grants.open(TOKEN, None, MOST, &Arc::default(), UtcMillis(1_000));
    assert!(later.is_ok());
}

#[test]
fn revoking_ends_what_is_under_way() {
    let (grants, told) = granted();
    let opened = open(&grants).unwrap();
    assert!(!opened.is_revoked());
    grants.revoke(&Token::new(TOKEN).unwrap());
    assert!(opened.is_revoked());
    assert_eq!(open(&grants).unwrap_err(), Refusal::Unknown);
    // nothing more is told of it
    grants.begins(&opened);
    grants.sent(&opened, SIZE, true);
    grants.lost(&opened, SIZE);
    grants.ends(&opened);
    assert!(told.take().is_empty());
}

#[test]
fn what_arrives_of_a_right_that_was_taken_back_is_told_once_nothing_more_comes() {
    let (grants, told) = granted();
    let opened = open(&grants).unwrap();
    grants.begins(&opened);
    grants.sent(&opened, 1_000, false);
    grants.arrived(&opened, 0..100, false);
    told.take();
    grants.revoke(&Token::new(TOKEN).unwrap());
    grants.arrived(&opened, 100..600, false);
    assert!(told.take().is_empty());
    grants.lost(&opened, 400);
    assert_eq!(told.take(), [(600, false)]);
    assert_eq!(told.1.load(Ordering::Relaxed), 600);
    assert_eq!(told.2.load(Ordering::Relaxed), 1);
    grants.ends(&opened);
    assert!(told.take().is_empty());
}

#[test]
fn what_was_not_told_is_when_the_connection_is_over() {
    let (grants, told) = granted();
    let opened = open(&grants).unwrap();
    grants.begins(&opened);
    told.take();
    serve(&grants, &opened, 0..100, false);
    assert!(told.take().is_empty());
    grants.ends(&opened);
    grants.ends(&opened);
    assert_eq!(told.take(), [(100, false)]);
}

#[test]
fn a_token_is_served_on_a_few_connections_and_a_new_one_replaces_the_oldest() {
    let (grants, _) = granted();
    let holders: Vec<Arc<Holder>> = (0..=MOST).map(|_| Arc::default()).collect();
    let ask = |of: usize| {
        let opened = grants.open(TOKEN, None, MOST, &holders[of], BEFORE);
        opened.unwrap()
    };
    let replaced = || -> Vec<bool> {
        let context = Context::from_waker(Waker::noop());
        let each = holders.iter().map(|it| it.poll_replaced(&context));
        each.map(|it| it.is_ready()).collect()
    };
    let mut opened: Vec<Opened> = (0..4).map(ask).collect();
    // a connection that goes on with its token does not stand in its own way, and is the newest then
    let again = ask(0);
    opened[0] = again;
    assert_eq!(replaced(), [false; 5]);
    let _fifth = ask(4);
    assert_eq!(replaced(), [false, true, false, false, false]);
    // the one that was replaced has no place to give up
    opened.remove(1);
    let again = ask(4);
    drop(again);
    assert_eq!(replaced(), [false, true, false, false, false]);
    // one that ends makes room
    opened.pop();
    let _sixth = open(&grants).unwrap();
    assert_eq!(replaced(), [false, true, false, false, false]);
    let _seventh = open(&grants).unwrap();
    assert_eq!(replaced(), [false, true, true, false, false]);
}

#[test]
fn the_witness_is_told_at_the_beginning_now_and_then_and_at_the_end() {
    let (grants, told) = granted();
    let live = open(&grants).unwrap();
    grants.begins(&live);
    assert_eq!(told.take(), [(0, false)]);
    let mib = TOLD_EVERY_BYTES;
    for at in 0..40 {
        serve(&grants, &live, at * mib / 10..(at + 1) * mib / 10, false);
    }
    let told_of: Vec<u64> = told.take().iter().map(|(bytes, _)| bytes / mib).collect();
    assert_eq!(told_of, [1, 2, 3, 4].map(|n| n.min(told_of.len() as u64)));
    // the end before what is between: two connections
    serve(&grants, &live, 4 * mib + 10..SIZE, false);
    assert_eq!(told.take(), []);
    serve(&grants, &live, 4 * mib - 1..4 * mib + 10, false);
    assert_eq!(told.take(), [(SIZE, false)]);
    // the same again costs the device something, and tells nothing else
    serve(&grants, &live, 0..SIZE, true);
    assert_eq!(told.take(), [(SIZE, false)]);
    assert_eq!(told.1.load(Ordering::Relaxed), 2 * SIZE + 1);
}

#[test]
fn what_has_left_counts_once_it_is_acknowledged_and_is_never_taken_back() {
    let (grants, told) = granted();
    let live = open(&grants).unwrap();
    grants.begins(&live);
    grants.sent(&live, SIZE, true);
    assert_eq!(told.take(), [(0, false), (0, true)]);
    grants.arrived(&live, 0..SIZE - 300_000, false);
    assert_eq!(told.take(), [(SIZE - 300_000, true)]);
    // its connection breaks: the rest is not in flight any more
    grants.lost(&live, 300_000);
    assert_eq!(told.take(), [(SIZE - 300_000, false)]);
    // two connections: one breaks while the other's bytes are on their way
    grants.sent(&live, 300_000, true);
    grants.sent(&live, 10, true);
    grants.lost(&live, 10);
    assert_eq!(told.take(), [(SIZE - 300_000, true)]);
    grants.arrived(&live, SIZE - 300_000..SIZE, false);
    assert_eq!(told.take(), [(SIZE, false)]);
    grants.sent(&live, SIZE, true);
    grants.lost(&live, SIZE);
    assert_eq!(told.take(), [(SIZE, true), (SIZE, false)]);
}

#[test]
fn after_a_restart_counting_goes_on_where_it_was() {
    let (grants, told) = (Grants::default(), Arc::new(Told::default()));
    grants.watch(told.clone());
    grants.grant(Grant {
        already_contiguous: 1_000,
        begun: true,
        ..grant(TOKEN)
    });
    let live = open(&grants).unwrap();
    grants.begins(&live);
    serve(&grants, &live, 1_000..SIZE, true);
    assert_eq!(told.take(), [(1_000, false), (SIZE, false)]);
}

#[test]
fn another_package_under_a_token_begins_anew() {
    let (grants, _) = granted();
    let live = open(&grants).unwrap();
    serve(&grants, &live, 0..SIZE, true);
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
    let live = open(&grants).unwrap();
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
