//! End users' applications, from outside: the app in small of docs/examples with real devices, and what schemathesis makes of the
//! description.

use std::{fs, net::UdpSocket, path::Path, process::Command, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use cellwise::clock::SystemClock;
use openssl::{
    pkey::{PKey, Private},
    sign::Signer,
};
use serde_json::{Value, json};

use crate::support::{Device, Server, clean, coap, noise, run, tool, wait_for};

const MINUTE: Duration = Duration::from_mins(1);

/// An identity provider whose key is in a file.
struct Issuer {
    key: PKey<Private>,
    directory: tempfile::TempDir,
}

impl Issuer {
    fn new() -> Self {
        let key = PKey::generate_ed25519().unwrap();
        let x = BASE64_URL_SAFE_NO_PAD.encode(key.raw_public_key().unwrap());
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x}]});
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("keys.json"), set.to_string()).unwrap();
        Self { key, directory }
    }

    /// A server that takes its tokens, with more settings.
    fn server(&self, settings: &[(&str, &str)]) -> Server {
        let keys = self.directory.path().join("keys.json");
        let own = [
            ("CELLWISE_APP__ENABLED", "true"),
            ("CELLWISE_APP__LISTEN", "127.0.0.1:0"),
            ("CELLWISE_APP__ISSUER", "https://login.example.com"),
            ("CELLWISE_APP__AUDIENCE", "cellwise-app"),
            ("CELLWISE_APP__JWKS_FILE", keys.to_str().unwrap()),
        ];
        Server::with(&[&own, settings].concat())
    }

    fn token(&self, user: &str) -> String {
        let now = SystemClock::start().now().utc.0 / 1_000;
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = encode(&json!({"alg": "EdDSA", "kid": "1", "typ": "JWT"}));
        let claims = encode(&json!({
            "iss": "https://login.example.com", "aud": "cellwise-app", "sub": user, "iat": now, "exp": now + 3_000,
        }));
        let message = format!("{header}.{claims}");
        let mut signer = Signer::new_without_digest(&self.key).unwrap();
        let signature = signer.sign_oneshot_to_vec(message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn url(server: &Server) -> String {
    let address = server
        .listening("app")
        .expect("a listener for applications");
    format!("http://{address}")
}

/// Puts a home with an owner and these devices.
fn put_home(server: &Server, home: &str, devices: &[&str]) {
    let devices: Vec<Value> = (devices.iter())
        .map(|endpoint| json!({"endpoint": endpoint, "name": "Kitchen"}))
        .collect();
    let body = json!({
        "name": "Our home", "zone": "Europe/Berlin", "things": devices,
        "people": [{"user": "anna", "role": "owner"}, {"user": "bert", "role": "member"}],
    });
    let (status, put) = server.api.put(&format!("/v1/homes/{home}"), &body);
    assert!((200..300).contains(&status), "{status} {put}");
}

fn offer(server: &Server, package: &Value, conditions: &Value) {
    let body = json!({
        "terms": {
            "channel": 6, "kind": 0, "conditions": conditions,
            "texts": {"description": {"en": "Better."}, "waiting": {"en": "Press the button."}},
        },
        "task": {"name": "better", "package_id": package},
    });
    let (status, published) = server.api.post("/v1/offers", &body);
    assert_eq!(status, 201, "{published}");
}

/// Registers a device that sleeps from then on.
fn register_and_sleep(server: &Server, endpoint: &str) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let name = format!("ep={endpoint}");
    let options: [(usize, &[u8]); 6] = [
        (11, b"rd"),
        (12, b"\x28"),
        (15, name.as_bytes()),
        (15, b"lt=300"),
        (15, b"lwm2m=1.0"),
        (15, b"b=UQ"),
    ];
    let request = coap(0, 2, 1, &options, b"</4/0>,</19/0>,</19/1>");
    socket.send_to(&request, server.coap).unwrap();
    let mut answer = [0; 100];
    let (len, _) = socket.recv_from(&mut answer).unwrap();
    assert!(len > 4 && answer[1] == 0x41, "{:?}", &answer[..len]);
}

#[test]
fn an_app_starts_three_devices_goes_on_over_a_weak_signal_and_cancels_one_that_sleeps() {
    let issuer = Issuer::new();
    let server = issuer.server(&[("CELLWISE_LWM2M__AWAKE_WINDOW_S", "1")]);
    let devices = ["near", "weak", "sleepy"];
    for (endpoint, product) in devices.into_iter().zip(["meter", "valve", "meter"]) {
        server.api.add_device(endpoint, product);
    }
    // its signal is known since an upgrade of the operator's
    let earlier = server.api.upload("valve", "V1.5", &noise(1, 1_000));
    let task = server.api.create_task("earlier", &earlier, &["weak"]);
    let bad = ["--rsrp", "-120"];
    Device::start(&server, "weak", &bad).upgraded();
    server.api.finished(&task, MINUTE);

    put_home(&server, "home-17", &devices);
    for (product, conditions) in [("meter", json!({})), ("valve", json!({"rsrp_dbm": -110}))] {
        let package = server.api.upload(product, "V2.0", &noise(2, 3_000));
        offer(&server, &package, &conditions);
    }
    register_and_sleep(&server, "sleepy");
    let near = Device::start(&server, "near", &[]);
    let weak = Device::start(
        &server,
        "weak",
        &[&bad[..], &["--version", "V1.5"]].concat(),
    );
    wait_for(MINUTE, "the devices' registrations", || {
        let (_, listed) = server.api.get("/v1/devices?registered=true");
        (listed["items"].as_array()?.len() == 3).then_some(())
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/app_client.py");
    let mut app = clean(Command::new(tool("python")));
    app.arg("-B").arg(script).args([
        &url(&server),
        &issuer.token("anna"),
        "home-17",
        "--cancel",
        "sleepy",
        "--within",
        "50",
    ]);
    let ended = run(&mut app, b"", Duration::from_secs(100));
    assert!(ended.status.success(), "{}\n{}", ended.stdout, ended.stderr);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let expected = json!({"near": "succeeded", "weak": "succeeded", "sleepy": "cancelled"});
    assert_eq!(told["ended"], expected, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("The signal is weak"),
        "{}",
        ended.stderr
    );
    near.upgraded();
    weak.upgraded();
    // under a pseudonym
    let (_, rows) = server.api.get("/v1/audit?limit=100");
    let rows = rows["items"].to_string();
    assert!(
        rows.contains("app-user:") && !rows.contains("anna"),
        "{rows}"
    );
}

/// What a description has no form for: that no offer is named twice, and which versions there are.
const CHECKS: &str = r#"
[[operations]]
include-name = ["POST /app/v1/homes/{home}/devices/{device}/start", "POST /app/v1/homes/{home}/start"]
checks.positive_data_acceptance.enabled = false
"#;

#[test]
fn schemathesis_finds_nothing_in_the_face_for_applications() {
    let issuer = Issuer::new();
    let server = issuer.server(&[
        ("CELLWISE_APP__REQUESTS_PER_USER_PER_SECOND", "100000"),
        ("CELLWISE_APP__REQUESTS_PER_HOME_PER_SECOND", "100000"),
        ("CELLWISE_APP__REQUESTS_PER_ADDRESS_PER_SECOND", "100000"),
        ("CELLWISE_APP__FAILED_ATTEMPTS_PER_MINUTE", "1000000"),
        ("CELLWISE_LOG__FILTER", "error"),
    ]);
    // those of the description's examples
    let device = "urn:imei:490154203237518";
    server.api.add_device(device, "meter");
    let package = server.api.upload("meter", "V2.0", &noise(3, 1_000));
    put_home(&server, "home-17", &[device]);
    offer(&server, &package, &json!({}));
    for user in ["anna", "bert", "stranger"] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("schemathesis.toml"), CHECKS).unwrap();
        let mut command = clean(Command::new(tool("python").with_file_name("schemathesis")));
        command
            .current_dir(directory.path())
            .args(["run", &format!("{}/app/v1/openapi.json", url(&server))])
            // it has no end
            .args(["--exclude-path", "/app/v1/homes/{home}/events"])
            .args(["--workers", "1", "--seed", "1", "--max-examples", "20"])
            .args([
                "--header",
                &format!("Authorization: Bearer {}", issuer.token(user)),
            ]);
        let found = run(&mut command, b"", Duration::from_mins(8));
        assert!(found.status.success(), "{}\n{}", found.stdout, found.stderr);
    }
    assert!(server.said().is_empty(), "{}", server.said());
}
