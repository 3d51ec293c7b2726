use super::*;

#[test]
fn a_browser_is_sent_to_this_host_alone() {
    for path in ["/", "/docs/", "/tasks/7?tab=devices&page=2", "/a%2Fb"] {
        assert!(stays_here(path), "{path}");
    }
    let long = format!("/{}", "a".repeat(MAX_RETURN));
    for path in [
        "",
        "docs",
        "//evil.example",
        r"/\evil.example",
        "/%2F/evil.example\n",
        "/\t/evil.example",
        "https://evil.example",
        "/a\"><script>",
        "/a b",
        "/ä",
        "/a#b",
        "/%09/evil.example",
        &long,
    ] {
        assert!(!stays_here(path), "{path}");
    }
}

#[test]
fn names_are_made_of_what_is_suggested() {
    for (suggested, expected) in [
        ("anna", "anna"),
        ("Anna.Köhler@example.com", "Anna.K-hler-example.com"),
        ("..", "user"),
        ("", "user"),
        ("王", "user"),
    ] {
        assert_eq!(name(suggested), expected);
    }
    assert_eq!(name(&"x".repeat(300)).len(), MAX_NAME);
}

#[test]
fn a_page_names_where_it_leads_to_as_text() {
    let (_, page) = page("/tasks?a=b&c=d");
    assert!(page.contains("url=/tasks?a=b&amp;c=d\""), "{page}");
}
