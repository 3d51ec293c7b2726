//! Holds the house in shape: which room of the crate imports which, what the pure rooms keep out, that no
//! file lies about unused, that migrations are numbered without gaps. ARCHITECTURE.md says why.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says so by ending

mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use source::Source;

/// Every room, from the bottom up, and what it may import of the crate: rooms, or single items of one.
const ROOMS: [(&str, &[&str]); 38] = [
    ("clock", &[]),
    // the settings of a product name the kind of its check code
    ("config", &["clock", "package::CheckCodeKind"]),
    ("telemetry", &["clock", "config"]),
    ("vault", &[]),
    ("signing", &[]),
    ("health", &["clock", "config"]),
    ("strangers", &["clock"]),
    ("signal", &[]),
    ("tls", &["clock", "config"]),
    ("package", &["clock"]),
    ("tenant", &[]),
    ("filter", &["clock", "package::natural_cmp", "tenant"]),
    ("audit", &["clock", "tenant"]),
    // whom a grant is for
    ("access", &["filter", "tenant"]),
    ("coap", &["clock", "config"]),
    ("lwm2m", &["clock", "config"]),
    (
        "ledger",
        &[
            "clock",
            "config", // where a registration was made from
            "coap::Peer",
            "lwm2m",
            "package",
        ],
    ),
    // who may download what, and what was served
    ("grants", &["clock", "ledger", "package::Spans"]),
    // sentences are made where people read, above all that happens
    ("task", &["clock", "filter", "ledger", "package"]),
    ("wording", &["clock", "ledger", "package", "task"]),
    // homes of end users, and how upgrades are told there
    (
        "home",
        &["clock", "ledger", "package", "task::time_zone", "tenant"],
    ),
    // tasks share slots
    (
        "upgrade",
        &[
            "clock",
            "config",
            "package",
            "ledger",
            "task::Share",
            "task::MAX_PRIORITY",
        ],
    ),
    (
        "session",
        &["clock", "config", "package", "task", "upgrade", "ledger"],
    ),
    (
        "forecast",
        &[
            "clock", "config", "package", "task", "upgrade", "session", "ledger",
        ],
    ),
    (
        "engine",
        &[
            "clock", "config", "package", "coap", "lwm2m", "upgrade", "session", "ledger",
            // what devices may download over HTTP, too
            "grants",
        ],
    ),
    (
        "mqtt",
        &[
            "clock", "config", "package", "upgrade", "session", "ledger", "grants",
            // a gateway's devices are of its tenant
            "tenant", // commands, and what both engines tell
            "engine",
        ],
    ),
    (
        "store",
        &[
            "clock",
            "config",
            "telemetry",
            "health",
            "package",
            // which devices are listed, and upgraded by a task
            "filter",
            // what tokens are granted, and who has made a task
            "access",
            // to whom things belong
            "tenant",
            // who has changed what
            "audit",
            // where a registration was made from
            "coap::Peer",
            // who vouches for a package
            "signing",
            // webhooks' secrets are sealed for their numbers
            "vault",
            "task",
            // end users' homes, and what is offered to them
            "home",
            "ledger",
        ],
    ),
    ("dtls", &["clock"]),
    (
        "shard",
        &[
            "clock", "config", "package", "coap", "task", "upgrade", "session", "engine", "mqtt",
            "grants", "store", "ledger",
        ],
    ),
    (
        "runtime",
        &[
            "signal",
            "audit",
            "clock",
            "config",
            "telemetry",
            "vault",
            "health",
            "strangers",
            "package",
            // whom a task that is forecast leaves out
            "filter",
            "coap",
            "lwm2m",
            // whose forecasts are under way
            "tenant",
            "task",
            "upgrade",
            "session",
            "engine",
            "forecast",
            "store",
            "mqtt",
            "grants",
            "dtls",
            "shard",
            "ledger",
            "wording",
        ],
    ),
    (
        "simulate",
        &[
            "clock",
            "config",
            "package",
            // where a device stands in a draw
            "filter",
            // the simulated radio leads to addresses
            "coap::Peer",
            "tenant",
            "task",
            "upgrade",
            "session",
            "grants",
            "mqtt",
            "engine",
            "forecast",
            "store",
            "shard",
            "ledger",
        ],
    ),
    (
        "notify",
        &[
            "signal", "clock", "config", "vault", "tenant", "task",
            // how an application at home sees it
            "home", "store", "runtime", "ledger", "wording",
        ],
    ),
    // serves packages to devices
    (
        "download",
        &[
            "clock",
            "config",
            "telemetry",
            "tls",
            "store",
            "grants",
            "ledger",
        ],
    ),
    // writes intent into the store, and never calls the engine
    (
        "api",
        &[
            "signal",
            "audit",
            "clock",
            "config",
            "telemetry",
            "tls",
            "vault",
            "health",
            "strangers",
            "signing",
            "package",
            "filter",
            "access",
            "tenant",
            // what devices may be called
            "lwm2m::check_endpoint",
            "forecast",
            "task",
            "home",
            "store",
            "runtime",
            "notify",
            "ledger",
            "wording",
        ],
    ),
    // the same operations for end users; the admin API's way to serve is shared
    (
        "app",
        &[
            "signal",
            "audit",
            "clock",
            "config",
            "telemetry",
            "package",
            "tenant",
            "home",
            "store",
            "runtime",
            "api",
            "ledger",
        ],
    ),
    // pages call the operations of the API, and reach nothing past it
    (
        "console",
        &[
            "access",
            "api",
            "clock",
            "config",
            // what failures are called
            "ledger::Outcome",
            "signal",
            // as long as a filter may be that is completed
            "filter::MAX_CHARACTERS",
        ],
    ),
    (
        "server",
        &[
            "signal",
            "audit",
            "clock",
            "config",
            "telemetry",
            "tls",
            "vault",
            "health",
            "strangers",
            "signing",
            "package",
            "task",
            "session",
            "engine",
            "store",
            "mqtt",
            "dtls",
            "runtime",
            "notify",
            "download",
            "grants",
            "api",
            "app",
            "console",
            "ledger",
        ],
    ),
    (
        "cli",
        &[
            "clock",
            "audit",
            "config",
            "telemetry",
            "health",
            "signing",
            "package",
            "store",
            "runtime",
            "simulate",
            "notify",
            "api",
            "server",
            "ledger",
            // where an upgrade stands at home
            "home::Status",
            // tasks that a simulation runs share slots
            "task::Share",
            "task::MAX_PRIORITY",
            "task::MAX_WEIGHT",
        ],
    ),
];

/// Here time and datagrams are handed in, and nothing else comes from outside.
const PURE: [&str; 18] = [
    "package", "tenant", "filter", "access", "audit", "coap", "lwm2m", "ledger", "wording", "task",
    "upgrade", "session", "engine", "mqtt", "forecast", "shard", "grants", "home",
];

/// What pure rooms keep out: the clock, the network, files, threads, the environment, randomness.
const IMPURE: [&str; 21] = [
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    "crate::clock::SystemClock",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "tokio",
    "sqlx",
    "axum",
    "ureq",
    "getrandom",
    "tempfile",
    "tracing",
    "metrics",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a directory of the project, with the given extension.
fn files(directory: &str, extension: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.insert(path);
            }
        }
    }
    found
}

/// Every file of the crate that is part of the program, with its room: what stands for tests alone is
/// left out.
fn rooms() -> Vec<(String, PathBuf, Source)> {
    let src = root().join("src");
    let tree = source::tree(&src.join("lib.rs"));
    tree.into_iter()
        .filter(|(_, source)| !source.test_only)
        .filter_map(|(path, source)| {
            let inside = path.strip_prefix(&src).unwrap();
            let first = inside.components().next().unwrap();
            let room = Path::new(first.as_os_str()).file_stem().unwrap();
            let room = room.to_string_lossy().into_owned();
            (room != "lib").then_some((room, path, source))
        })
        .collect()
}

fn begins_with(path: &str, beginning: &str) -> bool {
    path.strip_prefix(beginning)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn assert_none(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn a_room_imports_only_what_lies_below_it() {
    let names = ROOMS.map(|(name, _)| name);
    let mut offences = Vec::new();
    for (room, path, source) in rooms() {
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            offences.push(format!(
                "{}: this room has no floor in tests/tidy",
                path.display()
            ));
            continue;
        };
        for import in source.imports_of_crate(&names) {
            let fine = begins_with(import, &room)
                || allowed
                    .iter()
                    .any(|beginning| begins_with(import, beginning));
            if !fine {
                offences.push(format!("{}: {room} imports {import}", path.display()));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn pure_rooms_keep_the_world_out() {
    let mut offences = Vec::new();
    for (room, path, source) in rooms() {
        for used in source.paths() {
            let impure = IMPURE.iter().any(|beginning| begins_with(used, beginning));
            // a trait, by which bytes in memory are unpacked: what it could read from is forbidden
            let impure = impure && used != "std::io::Read";
            if impure && PURE.contains(&room.as_str()) {
                offences.push(format!("{}: {room} uses {used}", path.display()));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn the_bytes_of_a_version_are_a_matter_of_pcp() {
    // what is written down, decided and shown knows versions as text
    const TEXT: [&str; 9] = [
        "ledger", "wording", "task", "upgrade", "session", "shard", "runtime", "notify", "server",
    ];
    let mut offences = Vec::new();
    for (room, path, source) in rooms() {
        if TEXT.contains(&room.as_str()) && source.paths().any(|it| begins_with(it, "pcp::Version"))
        {
            offences.push(format!("{}: {room} uses pcp::Version", path.display()));
        }
    }
    assert_none(&offences);
}

#[test]
fn simulated_devices_are_met_at_the_top_alone() {
    let mut offences = Vec::new();
    for (room, path, source) in rooms() {
        if !["cli", "simulate"].contains(&room.as_str())
            && source.paths().any(|used| begins_with(used, "sim"))
        {
            offences.push(format!("{}: {room} uses sim", path.display()));
        }
    }
    assert_none(&offences);
}

#[test]
fn the_crates_below_know_nothing_of_those_above() {
    for (member, forbidden) in [("pcp", &["cellwise", "sim"][..]), ("sim", &["cellwise"])] {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = toml::from_str(&manifest).unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = manifest.get(section).and_then(toml::Value::as_table);
            for name in names.into_iter().flat_map(toml::Table::keys) {
                assert!(
                    !forbidden.contains(&name.as_str()),
                    "{member} depends on {name}"
                );
            }
        }
    }
}

#[test]
fn every_file_is_part_of_a_program() {
    for (directory, roots) in [
        ("src", &["src/lib.rs", "src/main.rs"][..]),
        ("pcp/src", &["pcp/src/lib.rs"]),
        ("sim/src", &["sim/src/lib.rs", "sim/src/main.rs"]),
        ("fuzz/src", &["fuzz/src/lib.rs"]),
        ("tests/console", &["tests/console/main.rs"]),
        ("tests/corpora", &["tests/corpora/main.rs"]),
        ("tests/system", &["tests/system/main.rs"]),
        ("tests/tidy", &["tests/tidy/main.rs"]),
        (
            "benches",
            &[
                "benches/app/main.rs",
                "benches/console/main.rs",
                "benches/data_plane/main.rs",
                "benches/download/main.rs",
                "benches/dtls/main.rs",
                "benches/fleet/main.rs",
                "benches/flood/main.rs",
                "benches/forecast.rs",
                "benches/mqtt.rs",
                "benches/simulate.rs",
                "benches/store/main.rs",
                // those in directories name its path
                "benches/support/mod.rs",
            ],
        ),
    ] {
        let mut unused = files(directory, "rs");
        for start in roots {
            for (path, _) in source::tree(&root().join(start)) {
                unused.remove(&path);
            }
        }
        assert_eq!(
            unused,
            BTreeSet::new(),
            "no mod declaration leads to these files"
        );
    }
}

#[test]
fn no_two_schemas_of_the_api_have_one_name() {
    // the description of the API has one entry for a name: of two types it would tell one
    let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut offences = Vec::new();
    for (room, path, _) in rooms() {
        if !["api", "app"].contains(&room.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut is_schema = false;
        for line in text.lines().map(str::trim) {
            is_schema |= line.starts_with("#[derive(") && line.contains("ToSchema");
            let mut words = line.split_whitespace();
            let Some(name) = words
                .find(|word| ["struct", "enum"].contains(word))
                .and_then(|_| words.next())
            else {
                continue;
            };
            if std::mem::take(&mut is_schema) && !line.starts_with('/') {
                let name = name.trim_end_matches(|c: char| !c.is_alphanumeric());
                let name = format!("{room}: {name}");
                if let Some(other) = seen.insert(name.clone(), path.clone()) {
                    offences.push(format!(
                        "{name}: {} and {}",
                        other.display(),
                        path.display()
                    ));
                }
            }
        }
    }
    assert!(seen.len() > 100, "{} schemas are found", seen.len());
    assert_none(&offences);
}

#[test]
fn migrations_are_numbered_without_gaps() {
    let names = |database: &str| -> Vec<String> {
        files(&format!("migrations/{database}"), "sql")
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect()
    };
    let sqlite = names("sqlite");
    assert!(!sqlite.is_empty(), "there are migrations");
    for (index, name) in sqlite.iter().enumerate() {
        let number = name
            .split_once('_')
            .and_then(|(number, _)| number.parse().ok());
        assert_eq!(number, Some(index + 1), "{name}");
    }
    let postgres = names("postgres");
    assert!(
        postgres.is_empty() || postgres == sqlite,
        "the databases differ in their migrations"
    );
}
