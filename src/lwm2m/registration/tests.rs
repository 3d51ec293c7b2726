use proptest::prelude::*;

use super::*;
use crate::lwm2m::{MAX_PAYLOAD, ResourcePath};

fn register(query: &str, payload: &str) -> Result<RegisterRequest, RegisterError> {
    RegisterRequest::parse(query.split('&').map(str::as_bytes), payload.as_bytes())
}

fn update(query: &[&str], payload: &str) -> Result<UpdateRequest, RegisterError> {
    UpdateRequest::parse(query.iter().map(|q| q.as_bytes()), payload.as_bytes())
}

fn announced(payload: &str) -> Vec<String> {
    let request = register("ep=a", payload).unwrap();
    request.objects.paths().map(|p| p.to_string()).collect()
}

#[test]
fn a_name_alone_registers() {
    let request = register("ep=860000000000001", "").unwrap();
    assert_eq!(request.endpoint, "860000000000001");
    assert_eq!(request.lifetime_s, 86_400);
    assert!(!request.queue_mode);
    assert_eq!(request.lwm2m_version, None);
    assert_eq!(request.objects.has_object(4), None);
}

#[test]
fn reads_a_registration_with_everything() {
    let request = register(
        "lwm2m=1.0&ep=meter-1&b=UQ&lt=300&sms=123&d=x&whatever",
        "</>;rt=\"oma.lwm2m\",</1/0>,</2>,</3/0>,</4/0>,</19/0>,</19/1>",
    )
    .unwrap();
    assert_eq!(request.endpoint, "meter-1");
    assert_eq!(request.lifetime_s, 300);
    assert!(request.queue_mode);
    assert_eq!(request.lwm2m_version, Some(Lwm2mVersion::V1_0));
    assert_eq!(request.binding.to_string(), "U");
    assert_eq!(request.objects.root(), None);
    assert_eq!(request.objects.has_object(19), Some(true));
    assert_eq!(request.objects.has_object(2), Some(true));
    assert_eq!(request.objects.has_object(5), Some(false));
}

#[test]
fn queue_mode_is_a_binding_or_a_parameter() {
    for (query, expected) in [
        ("ep=a", false),
        ("ep=a&b=U", false),
        ("ep=a&b=UQ", true),
        ("ep=a&b=UQS", true),
        ("ep=a&b=U&Q", true),
        ("ep=a&Q", true),
        ("ep=a&Q=", true),
        ("ep=a&q", false),
    ] {
        assert_eq!(register(query, "").unwrap().queue_mode, expected, "{query}");
    }
}

#[test]
fn a_version_that_is_not_understood_is_left_out() {
    for (query, expected) in [
        ("ep=a&lwm2m=1.2", Some("1.2")),
        ("ep=a&lwm2m=\"1.1\"", Some("1.1")),
        ("ep=a&lwm2m=1.0", Some("1.0")),
        ("ep=a&lwm2m=one", None),
        ("ep=a&lwm2m=1", None),
        ("ep=a&lwm2m=", None),
        ("ep=a&lwm2m", None),
        ("ep=a&lwm2m=1.", None),
        ("ep=a&lwm2m=1.0.2", None),
    ] {
        let version = register(query, "").unwrap().lwm2m_version;
        assert_eq!(
            version.map(|v| v.to_string()).as_deref(),
            expected,
            "{query}"
        );
    }
}

#[test]
fn a_version_that_is_not_spoken_is_refused() {
    for version in ["0.9", "1.3", "2.0", "999.0", "01.0", "\"1.10\""] {
        let refused = register(&format!("ep=a&lwm2m={version}"), "");
        assert_eq!(refused, Err(RegisterError::Version), "{version}");
    }
}

#[test]
fn a_binding_tells_the_transports() {
    for (query, expected) in [
        ("ep=a", "U"),
        ("ep=a&b=", "U"),
        ("ep=a&b=Q", "U"),
        ("ep=a&b=UQ", "U"),
        ("ep=a&b=UQS", "US"),
        ("ep=a&b=SU", "US"),
        ("ep=a&b=N&Q", "N"),
        ("ep=a&b=uxyz", "U"),
        ("ep=a&b=NSTHMU", "UMHTSN"),
    ] {
        let binding = register(query, "").unwrap().binding;
        assert_eq!(binding.to_string(), expected, "{query}");
        assert_eq!(Binding::parse(expected.as_bytes()), binding);
    }
    assert_eq!(update(&[], "").unwrap().binding, None);
    let changed = update(&["b=SQ"], "").unwrap();
    assert_eq!(changed.binding.map(|b| b.to_string()).as_deref(), Some("S"));
    assert_eq!(changed.queue_mode, Some(true));
}

#[test]
fn the_lifetime_is_kept_within_a_year() {
    for (query, expected) in [
        ("ep=a&lt=1", 1),
        ("ep=a&lt=300", 300),
        ("ep=a&lt=0300", 300),
        ("ep=a&lt=0", MAX_LIFETIME_S),
        ("ep=a&lt=31536001", MAX_LIFETIME_S),
        ("ep=a&lt=4294967295", MAX_LIFETIME_S),
        ("ep=a&lt=99999999999999999999999", MAX_LIFETIME_S),
    ] {
        assert_eq!(register(query, "").unwrap().lifetime_s, expected, "{query}");
    }
}

#[test]
fn says_which_parameter_is_wrong() {
    for (query, expected) in [
        ("", "ep is missing"),
        ("lt=300", "ep is missing"),
        ("EP=a", "ep is missing"),
        (
            "ep",
            "ep: an endpoint name has 1 to 128 characters, this one has 0",
        ),
        (
            "ep=",
            "ep: an endpoint name has 1 to 128 characters, this one has 0",
        ),
        ("ep=a&lt=", "lt must be a whole number of seconds"),
        ("ep=a&lt=-1", "lt must be a whole number of seconds"),
        ("ep=a&lt=+1", "lt must be a whole number of seconds"),
        ("ep=a&lt=1.5", "lt must be a whole number of seconds"),
        ("ep=a&lt=soon", "lt must be a whole number of seconds"),
        ("ep=a&ep=b", "ep is given twice"),
        ("ep=a&lt=1&lt=1", "lt is given twice"),
    ] {
        assert_eq!(
            register(query, "").unwrap_err().to_string(),
            expected,
            "{query}"
        );
    }
}

#[test]
fn a_name_is_bounded_and_printable() {
    let longest = "x".repeat(128);
    assert!(register(&format!("ep={longest}"), "").is_ok());
    assert_eq!(
        register(&format!("ep={longest}x"), ""),
        Err(RegisterError::Endpoint(EndpointError::Length(129)))
    );
    assert!(register("ep=urn:imei:860000000000001", "").is_ok());
    assert!(register("ep=a=b", "").is_ok());
    for bad in [
        "a b", "a/b", "a?b", "a#b", "a\nb", "a\0", "a\x7f", "é", "a%b", "\"a\"", ".", "..",
    ] {
        assert!(
            matches!(
                register(&format!("ep={bad}"), ""),
                Err(RegisterError::Endpoint(_))
            ),
            "{bad:?}"
        );
    }
    for bad in [&b"ep=\xff\xfe"[..], b"ep=a&b"] {
        assert!(matches!(
            RegisterRequest::parse([bad], b""),
            Err(RegisterError::Endpoint(EndpointError::Character(_)))
        ));
    }
}

#[test]
fn more_parameters_than_sensible_are_refused() {
    let many = vec![&b"x=1"[..]; 33];
    assert_eq!(
        RegisterRequest::parse(many, b""),
        Err(RegisterError::TooManyParameters)
    );
}

#[test]
fn an_empty_update_changes_nothing() {
    let nothing = UpdateRequest {
        lifetime_s: None,
        queue_mode: None,
        binding: None,
        objects: None,
    };
    assert_eq!(update(&[], ""), Ok(nothing.clone()));
    assert_eq!(update(&["ep=other"], "what?"), Ok(nothing));
}

#[test]
fn an_update_changes_what_it_names() {
    let changed = update(&["lt=60", "b=U"], "</4/0>").unwrap();
    assert_eq!(changed.lifetime_s, Some(60));
    assert_eq!(changed.queue_mode, Some(false));
    assert_eq!(changed.objects.unwrap().has_object(4), Some(true));
    assert_eq!(update(&["lt=x"], ""), Err(RegisterError::Lifetime));
}

#[test]
fn reads_links_as_different_clients_write_them() {
    assert_eq!(
        announced("</>;rt=\"oma.lwm2m\";ct=110,</1>;ver=1.1,</1/0>,</4>;ver=\"1.3\",</4/0>"),
        ["/1", "/1/0", "/4", "/4/0"]
    );
    assert_eq!(announced(" </1/0> , </4/0> "), ["/1/0", "/4/0"]);
    assert_eq!(
        announced("</3/0>;title=\"a,</9/0>\",</4/0>"),
        ["/3/0", "/4/0"]
    );
    assert_eq!(announced("</4/0>,</4/0>,</4/0>"), ["/4/0"]);
}

#[test]
fn a_list_that_is_not_understood_does_not_refuse_the_registration() {
    for payload in ["hello", "</4/0", "4/0>", "<>", "</a/b>", "{}", "</65536/0>"] {
        assert_eq!(announced(payload), [""; 0], "{payload}");
    }
    let request = RegisterRequest::parse([&b"ep=a"[..]], &[0xff; 10]).unwrap();
    assert!(request.objects.is_empty());
}

#[test]
fn the_list_is_bounded() {
    let many: Vec<String> = (0..1_000).map(|i| format!("</{i}/0>")).collect();
    assert_eq!(announced(&many.join(",")).len(), MAX_LINKS);
    let huge = "</4/0>,".repeat(MAX_PAYLOAD / 7 + 1);
    assert!(announced(&huge).is_empty());
}

#[test]
fn an_alternate_root_is_told_by_its_type() {
    for (payload, root, links) in [
        (
            "</lwm2m>;rt=\"oma.lwm2m\",</lwm2m/3/0>,</lwm2m/19/0>",
            Some("/lwm2m"),
            "</3/0>,</19/0>",
        ),
        (
            "</lwm2m/>;ct=110;rt=oma.lwm2m,</lwm2m/3/0>",
            Some("/lwm2m"),
            "</3/0>",
        ),
        (
            "</3/0>,</a/b>; rt = \"core.s oma.lwm2m\" ,</a/b/4>;ver=\"1.3\"",
            Some("/a/b"),
            "</3/0>,</4>;ver=1.3",
        ),
        ("</lwm2m>;rt=\"oma.lwm2m\"", Some("/lwm2m"), ""),
        ("</>;rt=\"oma.lwm2m\",</3/0>", None, "</3/0>"),
        ("</lwm2m>;rt=\"other\",</3/0>", None, "</3/0>"),
        (
            "</lwm2m>;title=\"rt=oma.lwm2m;rt=oma.lwm2m\",</3/0>",
            None,
            "</3/0>",
        ),
        // what would have to be unescaped, or is too long
        ("</a%20b>;rt=\"oma.lwm2m\",</3/0>", None, "</3/0>"),
        ("</a//b>;rt=\"oma.lwm2m\",</3/0>", None, "</3/0>"),
        ("</1/2/3/4/5>;rt=\"oma.lwm2m\",</3/0>", None, "</3/0>"),
        ("<lwm2m>;rt=\"oma.lwm2m\",</3/0>", None, "</3/0>"),
    ] {
        let objects = Objects::parse(payload.as_bytes());
        assert_eq!(objects.root(), root, "{payload}");
        assert_eq!(objects.links(), links, "{payload}");
        assert!(!objects.is_empty());
    }
    let long = format!(
        "<{}>;rt=\"oma.lwm2m\"",
        "/x".repeat(2).replace('x', &"x".repeat(40))
    );
    assert!(Objects::parse(long.as_bytes()).is_empty());
    // who announces only where its objects are may have any
    let alone = Objects::parse(b"</lwm2m>;rt=\"oma.lwm2m\"");
    assert_eq!(alone.has_object(19), None);
}

#[test]
fn links_are_told_in_order_with_the_versions_of_their_objects_and_bounded() {
    let objects =
        Objects::parse(b"</19/0>,</4/0>,</4>;ver=1.3;ct=110,</3>;ver=\"1.x\",</5>;ver=123456789");
    assert_eq!(objects.links(), "</3>,</4>;ver=1.3,</4/0>,</5>,</19/0>");
    assert_eq!(
        Objects::parse(objects.links().as_bytes()).links(),
        objects.links()
    );
    let many: Vec<String> = (0..MAX_LINKS).map(|i| format!("</{i}/60000>")).collect();
    let links = Objects::parse(many.join(",").as_bytes()).links();
    assert!((MAX_LINKS_LEN - 20..=MAX_LINKS_LEN).contains(&links.len()));
    assert!(links.starts_with("</0/60000>,") && links.ends_with('>'));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        queries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = RegisterRequest::parse(queries.iter().map(Vec::as_slice), &payload);
        let _ = UpdateRequest::parse(queries.iter().map(Vec::as_slice), &payload);
    }

    #[test]
    fn arbitrary_links_never_panic(payload in "[</>;,\"a0-9é]{0,200}") {
        let objects = Objects::parse(payload.as_bytes());
        let links = objects.links();
        prop_assert!(links.len() <= MAX_LINKS_LEN);
        prop_assert!(Objects::parse(links.as_bytes()).paths().eq(objects.paths()));
    }

    #[test]
    fn announced_instances_are_found(ids in prop::collection::btree_set((any::<u16>(), any::<u16>()), 1..50)) {
        let payload: Vec<String> = ids.iter().map(|(o, i)| format!("</{o}/{i}>")).collect();
        let objects = Objects::parse(payload.join(",").as_bytes());
        let expected = ids.iter().map(|(o, i)| ResourcePath::of_instance(*o, *i));
        prop_assert!(objects.paths().eq(expected));
    }
}
