use std::io::Write;

use super::*;
use crate::{
    config::{LogFormat, RegistrationPolicy, UpdateBy},
    package::CheckCodeKind,
};

fn load_with(file: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut temporary = tempfile::NamedTempFile::new().unwrap();
    temporary.write_all(file.as_bytes()).unwrap();
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    load(Some(temporary.path()), env)
}

fn problems(file: &str, env: &[(&str, &str)]) -> Vec<String> {
    match load_with(file, env) {
        Err(ConfigError::Invalid(problems)) => problems.iter().map(Problem::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_file_everything_is_as_it_comes() {
    assert_eq!(load(None, [].into_iter()).unwrap(), Config::default());
    assert_eq!(load_with("", &[]).unwrap(), Config::default());
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let error = load(Some(Path::new("/nowhere/cellwise.toml")), [].into_iter()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/cellwise.toml: No such file"),
        "{error}"
    );
}

#[test]
fn variables_win_over_the_file() {
    let file = r#"
        data_dir = "/var/lib/cellwise"
        [coap]
        listen = "127.0.0.1:1"
        queue_len = 13
        [products.Meter]
        check_code = "zero"
    "#;
    let config = load_with(
        file,
        &[
            ("CELLWISE_COAP__LISTEN", "[::1]:5683"),
            ("CELLWISE_COAP__ACK_RANDOM_FACTOR", "2.5"),
            ("CELLWISE_LWM2M__REGISTRATION", "open"),
            ("CELLWISE_LOG__FORMAT", "\"json\""),
            ("CELLWISE_LOG__FILTER", "5"),
            ("CELLWISE_PRODUCTS__METER__PAD_LAST_SEGMENT", "true"),
            ("CELLWISE_PRODUCTS__VALVE__CHECK_CODE", "zero"),
            ("CELLWISE_PRODUCTS__VALVE__AWAKE_WINDOW_S", "1"),
            ("CELLWISE_PRODUCTS__VALVE__UPDATE_BY", "firmware"),
            ("CELLWISE_PRODUCTS__VALVE__URI_SCHEME", "coaps"),
            ("CELLWISE_PRODUCTS__VALVE__VERSION_RESOURCE", "/3/0/3"),
            ("CELLWISE_LWM2M__PUBLIC_HOST", "192.0.2.7"),
            ("CELLWISE_LWM2M__PUBLIC_PORT", "15683"),
            ("CELLWISE_PRODUCTS__VALVE__MAX_RETRANSMIT", "0"),
            ("CELLWISE_PRODUCTS__VALVE__PMIN_ZERO", "true"),
            ("CELLWISE_TOKEN", "secret"),
            ("CELLWISE_TOKEN_FILE", "x"),
            ("CELLWISE_API", "http://x"),
            ("CELLWISE_CA_FILE", "x"),
            ("CELLWISE_CONFIG", "x"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/cellwise"));
    assert_eq!(config.coap.listen.to_string(), "[::1]:5683");
    assert_eq!(config.coap.queue_len, 13);
    assert!((config.coap.ack_random_factor - 2.5).abs() < 1e-9);
    assert_eq!(config.lwm2m.registration, RegistrationPolicy::Open);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.filter, "5");
    let meter = config.products["Meter"];
    assert_eq!(meter.check_code, CheckCodeKind::Zero);
    assert!(meter.pad_last_segment);
    assert_eq!((meter.awake_window_s, meter.pmin_zero), (None, false));
    let valve = config.products["valve"];
    assert_eq!(valve.check_code, CheckCodeKind::Zero);
    assert_eq!(
        (
            valve.awake_window_s,
            valve.ack_timeout_ms,
            valve.max_retransmit
        ),
        (Some(1), None, Some(0))
    );
    assert!(valve.pmin_zero);
    assert_eq!(valve.update_by, UpdateBy::Firmware);
    assert_eq!(valve.uri_scheme, Some(UriScheme::Coaps));
    assert_eq!(valve.version_resource.as_deref(), Some("/3/0/3"));
    assert_eq!(config.products.len(), 2);
    assert_eq!(config.lwm2m.public_host, "192.0.2.7");
    assert_eq!(config.lwm2m.public_port, 15_683);
}

#[test]
fn an_unknown_variable_is_named_with_the_nearest_setting() {
    assert_eq!(
        problems(
            "",
            &[
                ("CELLWISE_COAP_LISTEN", "x"),
                ("CELLWISE_ADMISION__LIMIT_GOOD", "1"),
                ("CELLWISE_PRODUCTS__METER__CHECKCODE", "zero"),
                ("CELLWISE_COAP", "{}"),
            ]
        ),
        [
            "CELLWISE_ADMISION__LIMIT_GOOD: no such setting; did you mean CELLWISE_ADMISSION__LIMIT_GOOD?",
            "CELLWISE_COAP: no such setting; did you mean CELLWISE_COAP__LISTEN?",
            "CELLWISE_COAP_LISTEN: no such setting; did you mean CELLWISE_COAP__LISTEN?",
            "CELLWISE_PRODUCTS__METER__CHECKCODE: no such setting; did you mean CELLWISE_PRODUCTS__METER__CHECK_CODE?",
        ]
    );
}

#[test]
fn a_variable_of_the_wrong_type_is_named() {
    let found = problems(
        "",
        &[
            ("CELLWISE_COAP__QUEUE_LEN", "many"),
            ("CELLWISE_COAP__LISTEN", "localhost"),
            ("CELLWISE_ADMIN__MAX_PACKAGE_BYTES", "-1"),
            ("CELLWISE_LWM2M__REGISTRATION", "everyone"),
            ("CELLWISE_COAP__MAX_RETRANSMIT", "1\nmore = 2"),
        ],
    );
    for (problem, (name, word)) in found.iter().zip([
        ("CELLWISE_ADMIN__MAX_PACKAGE_BYTES: -1", "u64"),
        (
            "CELLWISE_COAP__LISTEN: \"localhost\"",
            "expected ADDRESS:PORT, such as 0.0.0.0:5683",
        ),
        ("CELLWISE_COAP__MAX_RETRANSMIT: ", "u32"),
        ("CELLWISE_COAP__QUEUE_LEN: \"many\"", "usize"),
        ("CELLWISE_LWM2M__REGISTRATION: \"everyone\"", "`open`"),
    ]) {
        assert!(
            problem.starts_with(name) && problem.contains(word),
            "{problem}"
        );
    }
    assert_eq!(found.len(), 5);
}

#[test]
fn a_mistake_in_the_file_is_shown_with_its_line() {
    for (file, word) in [
        ("[coap]\nlisten = 5", "line 2"),
        ("[coap]\nlissten = \"x\"", "lissten"),
        ("[coap", "line 1"),
        ("[products.meter]\ncheck_code = \"sum\"", "`zero`"),
    ] {
        let error = load_with(file, &[]).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    // beside what is wrong elsewhere too
    let found = problems("[coap]\nlisten = 5", &[("CELLWISE_SHARDS", "200")]);
    assert!(found[0].contains("line 2"), "{found:?}");
    assert!(found[1].contains("out of range"), "{found:?}");
}

#[test]
fn products_are_named_as_in_the_api() {
    let long = "m".repeat(65);
    for name in ["", "wasserzähler", "water meter", &long] {
        let error = load_with(&format!("[products.{name:?}]"), &[]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("1 to 64 characters"), "{error}");
    }
    load_with("[products.\"meter-2.0_b\"]", &[]).unwrap();
}

#[test]
fn downloads_need_an_address_that_devices_reach_and_a_certificate() {
    let found = problems("[download]\nhttps = true\nbytes_per_second = 99", &[]);
    assert!(found[0].starts_with("download.tls_certificate: HTTPS needs a certificate"));
    assert!(found[1].starts_with("download.base_url: devices have to be told"));
    assert!(found[2].starts_with("download.bytes_per_second: 99 is out of range"));
    assert_eq!(found.len(), 3, "{found:?}");
    let half = problems("[download]\ntls_key = 'a'", &[]);
    assert_eq!(
        half,
        ["download.tls_certificate: tls_certificate and tls_key go together"]
    );
    for good in [
        "[download]\nhttp = true\nbase_url = 'http://10.0.0.1'",
        "[download]\nhttp = true\nhttp_listen = '10.0.0.1:80'",
    ] {
        load_with(good, &[]).unwrap();
    }
}

#[test]
fn uris_have_a_host_that_devices_can_find() {
    for wrong in ["0.0.0.0", "coap://h", "h:5683", "[::1]", "a b"] {
        let found = problems(&format!("[lwm2m]\npublic_host = '{wrong}'"), &[]);
        assert!(
            found[0].starts_with("lwm2m.public_host: must be a name"),
            "{found:?}"
        );
    }
    for good in ["", "updates.example.com", "2001:db8::7"] {
        load_with(&format!("[lwm2m]\npublic_host = '{good}'"), &[]).unwrap();
    }
}

#[test]
fn values_out_of_range_are_all_listed() {
    let file = "
        data_dir = ''
        [coap]
        ack_timeout_ms = 0
        ack_random_factor = nan
        queue_len = 0
        [upgrade]
        download_s = 0
        [admission]
        rsrp_range1_dbm = -100
        sinr_range0_db = 41
        limit_weak = 0
        [admin]
        max_package_bytes = 2147483649
        [log]
        filter = 'cellwise=loud'
    ";
    let found = problems(file, &[("CELLWISE_ADMIN__REQUESTS_PER_SECOND", "0")]);
    assert_eq!(
        found[..10],
        [
            "data_dir: must not be empty",
            "coap.ack_timeout_ms: 0 is out of range, 10 to 600000 is allowed",
            "coap.ack_random_factor: NaN is out of range, 1 to 10 is allowed",
            "coap.queue_len: 0 is out of range, 11 to 1024 is allowed",
            "upgrade.download_s: 0 is out of range, 1 to 31536000 is allowed",
            "admission.sinr_range0_db: 41 is out of range, -20 to 40 is allowed",
            "admission.rsrp_range1_dbm: -100 is above rsrp_range0_dbm, which is -105",
            "admission.limit_weak: 0 is out of range, 1 to 100000 is allowed",
            "admin.max_package_bytes: 2147483649 is out of range, 1 to 2147483648 is allowed",
            "admin.requests_per_second: 0 is out of range, 1 to 1000000 is allowed",
        ]
    );
    assert!(found[10].starts_with("log.filter: \"cellwise=loud\" is no filter"));
    assert_eq!(found.len(), 11);
}

#[test]
fn a_factor_must_be_a_finite_number_from_1() {
    for factor in ["0.99", "inf", "-inf", "nan", "1e300"] {
        let env = [("CELLWISE_COAP__ACK_RANDOM_FACTOR", factor)];
        assert_eq!(problems("", &env).len(), 1, "{factor}");
    }
    for factor in ["1.0", "1", "1.5"] {
        let env = [("CELLWISE_COAP__ACK_RANDOM_FACTOR", factor)];
        assert!(load_with("", &env).is_ok(), "{factor}");
    }
}

#[test]
fn every_number_has_a_range() {
    let of_a_product = known_keys(&["products", "meter"]);
    for (path, value) in of_a_product {
        let name = PREFIX.to_owned() + &path.join("__").to_uppercase();
        if value.is_integer() || value.is_float() {
            let env = [(name.as_str(), "4000000000")];
            assert!(load_with("", &env).is_err(), "{name}");
        }
    }
}

#[test]
fn the_example_file_holds_every_setting_at_its_default() {
    let example = include_str!("../../../docs/cellwise.toml");
    let mut config = Config::default();
    assert_eq!(toml::from_str::<Config>(example).unwrap(), config);
    config.products.clear();
    let mut all = Table::try_from(&config).unwrap();
    all.remove("products");
    assert_eq!(toml::from_str::<Table>(example).unwrap(), all);
}

#[test]
fn what_is_shown_can_be_read_again() {
    let mut config = Config::default();
    config
        .products
        .insert("meter".into(), super::super::ProductConfig::default());
    let shown = toml::to_string_pretty(&config).unwrap();
    assert_eq!(load_with(&shown, &[]).unwrap(), config);
}

#[test]
fn all_that_is_wrong_in_a_file_is_listed_at_once() {
    let file = "
        shards = 'many'
        sharts = 2
        [coap]
        listen = 5
        queue_len = 12
        [products.meter]
        check_code = 'sum'
        pad_last_segment = true
        [admission]
        limit_weak = 0
        [log]
        filter = 'inffo'
    ";
    let found = problems(file, &[("CELLWISE_COAP__ENABLED", "perhaps")]).join("\n");
    for told in [
        "shards: invalid type",
        "sharts: unknown field",
        "coap.listen: invalid type",
        "products.meter.check_code: unknown variant",
        "CELLWISE_COAP__ENABLED: \"perhaps\"",
        "admission.limit_weak: 0 is out of range",
        "log.filter: \"inffo\" is no level",
    ] {
        assert!(found.contains(told), "{told} in {found}");
    }
    assert_eq!(found.lines().count(), 7, "{found}");
}

#[test]
fn a_filter_is_of_levels_and_targets() {
    for filter in [
        "info",
        "WARN",
        "off",
        "cellwise::engine=debug,warn",
        "info,cellwise::audit",
        "cellwise",
    ] {
        load_with(&format!("[log]\nfilter = '{filter}'"), &[]).unwrap();
    }
    for filter in ["inffo", "info,hyper", "debug, wran"] {
        let found = problems(&format!("[log]\nfilter = '{filter}'"), &[]);
        assert!(found[0].contains("is no level"), "{found:?}");
    }
}

#[test]
fn a_collector_is_an_address_without_secrets() {
    let with = |address: &str| format!("[telemetry]\notlp_endpoint = '{address}'");
    for address in ["", "http://127.0.0.1:4318", "https://otel.example.com/in/"] {
        load_with(&with(address), &[]).unwrap();
    }
    for (address, told) in [
        ("127.0.0.1:4318", "is no URL"),
        ("ftp://127.0.0.1", "has to begin with http"),
        ("unix:/run/otel", "has to begin with http"),
        ("http://anna:secret@127.0.0.1", "holds a name or a password"),
        ("http://127.0.0.1/?key=1", "has a query"),
    ] {
        let found = problems(&with(address), &[]);
        assert!(
            found.len() == 1
                && found[0].contains("telemetry.otlp_endpoint")
                && found[0].contains(told),
            "{address}: {found:?}"
        );
        assert!(!found[0].contains("secret"), "{found:?}");
    }
}
