//! What an operator's machine does to the server: signals, modes, proxies, slow and many clients, a disk that is full.

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::support::{Api, Server, cellwise, clean, noise, tool, wait_for};

const SOON: Duration = Duration::from_secs(30);

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn signal(server: &Server, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    kill(pid, signal).unwrap();
}

/// Waits until the log has a line with all of these words.
fn wait_for_line(server: &Server, words: &[&str]) {
    wait_for(SOON, &format!("a line with {words:?}"), || {
        let said = server.said();
        let found = said
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)));
        found.then_some(())
    });
}

/// The whole answer to one request.
fn answer(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.admin()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let head = format!(
        "{request}\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        server.api.token()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.to_lowercase()
}

#[test]
fn a_hangup_reloads_what_can_be_reloaded_and_names_the_rest() {
    let mut server = Server::start();
    let file = server.data_dir().with_file_name("cellwise.toml");
    let settings = "shards = 7\n[admission]\nlimit_weak = 3\n[admin]\nrequests_per_second = 2\n[log]\nfilter = 'warn,cellwise::server=info'\n";
    fs::write(&file, settings).unwrap();
    signal(&server, Signal::SIGHUP);
    wait_for_line(
        &server,
        &[
            "settings were read anew",
            "changed=\"admin.requests_per_second, admission.limit_weak, log.filter\"",
            "needs_restart=\"shards\"",
        ],
    );
    let answers = || {
        (0..10)
            .map(|_| answer(&server, "GET /v1/tasks HTTP/1.1"))
            .collect::<Vec<_>>()
    };
    let refused = answers()
        .into_iter()
        .find(|answer| answer.starts_with("http/1.1 429"))
        .unwrap();
    assert!(refused.contains("\r\nretry-after: "), "{refused}");
    assert!(
        !server
            .said()
            .contains("SIGHUP: reading the settings anew\n\n")
    );

    fs::write(&file, "[admission]\nlimit_weak = 0\n").unwrap();
    signal(&server, Signal::SIGHUP);
    // its filter lets warnings and errors of all parts through
    wait_for_line(
        &server,
        &[
            "the settings stay as they were",
            "admission.limit_weak: 0 is out of range",
        ],
    );
    server.assert_running();
    assert!(server.terminate(Duration::from_secs(10)).success());
}

#[test]
fn certificates_are_renewed_by_a_hangup() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let make = |serial: &str| {
        let made = Command::new(tool("openssl"))
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "30",
            ])
            .args([
                "-subj",
                &format!("/CN=server-{serial}"),
                "-keyout",
                &path("key.pem"),
                "-out",
                &path("cert.pem"),
            ])
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        fs::copy(path("cert.pem"), path("ca.pem")).unwrap();
    };
    make("1");
    let server = Server::secured(&[
        ("CELLWISE_DTLS__CERTIFICATE_FILE", &path("cert.pem")),
        ("CELLWISE_DTLS__PRIVATE_KEY_FILE", &path("key.pem")),
        ("CELLWISE_DTLS__CLIENT_CA_FILE", &path("ca.pem")),
    ]);
    let subject = || {
        let mut client = Command::new(tool("openssl"));
        client
            .args([
                "s_client",
                "-dtls1_2",
                "-connect",
                &server.coaps().to_string(),
            ])
            .args(["-cert", &path("cert.pem"), "-key", &path("key.pem")]);
        crate::support::run(&mut client, b"Q\n", SOON).stdout
    };
    assert!(subject().contains("server-1"), "{}", subject());
    make("2");
    signal(&server, Signal::SIGHUP);
    wait_for_line(&server, &["settings were read anew", "the certificates"]);
    wait_for(SOON, "the new certificate", || {
        subject().contains("server-2").then_some(())
    });

    fs::write(path("key.pem"), "no key").unwrap();
    signal(&server, Signal::SIGHUP);
    wait_for_line(&server, &["the certificates stay as they were"]);
}

#[test]
fn nobody_else_may_look_into_the_data_directory() {
    let mut server = Server::start();
    server.api.upload("default", "V2.0", &noise(3, 4_000));
    let data = server.data_dir();
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("packages")), 0o700);
    let files = || {
        let packages = fs::read_dir(data.join("packages")).unwrap();
        let own = fs::read_dir(&data).unwrap();
        packages
            .chain(own)
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect::<Vec<_>>()
    };
    assert!(files().len() > 3);
    for path in files() {
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
    // what was restored from a backup with other modes
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    let package = fs::read_dir(data.join("packages"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::set_permissions(&package, Permissions::from_mode(0o644)).unwrap();
    server.kill_and_restart();
    assert_eq!((mode(&data), mode(&package)), (0o700, 0o600));
    assert!(server.said().contains("was open to others (mode 0755)"));
}

#[test]
fn changes_and_wrong_tokens_leave_lines_for_the_audit() {
    let server = Server::start();
    server.api.upload("default", "V2.0", &noise(3, 4_000));
    server.api.add_device("urn:imei:1", "default");
    let wrong = format!(
        "GET /v1/tasks HTTP/1.1\r\nAuthorization: Bearer {}",
        "w".repeat(64)
    );
    assert!(answer(&server, &wrong).starts_with("http/1.1 401"));
    wait_for_line(
        &server,
        &[
            "cellwise::audit",
            "POST /v1/packages",
            "status=201",
            "source=127.0.0.1",
        ],
    );
    wait_for_line(&server, &["cellwise::audit", "POST /v1/devices"]);
    wait_for_line(
        &server,
        &[
            "cellwise::audit",
            "a wrong token was rejected: GET /v1/tasks",
        ],
    );
    let hook = json!({"url": "https://hooks.example.com/x"});
    server.api.post("/v1/webhooks", &hook);
    wait_for_line(&server, &["cellwise::audit", "POST /v1/webhooks"]);
}

#[test]
fn one_source_cannot_keep_all_others_out() {
    let server = Server::start();
    let heads: Vec<TcpStream> = (0..1_030)
        .map(|_| {
            let mut stream = TcpStream::connect(server.admin()).unwrap();
            // some are closed already
            let _ = stream.write_all(b"GET /v1/tasks HTTP/1.1\r\nX: ");
            stream
        })
        .collect();
    // Linux takes all of 127.0.0.0/8 for its own
    let address = std::net::SocketAddrV4::new([127, 0, 0, 2].into(), 0);
    let socket = socket_from(address.into(), server.admin());
    let mut other = socket;
    other
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    other
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    drop(heads);
}

/// A connection from an address of our choice.
fn socket_from(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(from).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream
}

#[test]
fn a_slow_body_is_cut() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.admin()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(40)))
        .unwrap();
    let head = format!(
        "POST /v1/packages?product=default&version=V2 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: 30000\r\n\r\nsome bytes, and then no more",
        server.api.token()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 4_096];
    let read = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(
        answer.contains("more slowly than 1024 bytes a second"),
        "{answer}"
    );
}

/// Debian's nginx with what it does by itself, before the admin API, at a socket in its directory.
struct Nginx {
    process: Child,
    directory: tempfile::TempDir,
}

impl Nginx {
    fn before(admin: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};\n", at(kind)))
            .concat();
        let settings = format!(
            "daemon off;\nerror_log {};\npid {};\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}server {{\nlisten unix:{};\n\
             location / {{ proxy_pass http://{admin}; proxy_set_header X-Forwarded-For $http_x_test_client; }}\n}}\n}}\n",
            at("error.log"),
            at("pid"),
            at("socket"),
        );
        fs::write(at("nginx.conf"), settings).unwrap();
        let process = Command::new(tool("nginx"))
            .args([
                "-p",
                &at(""),
                "-c",
                &at("nginx.conf"),
                "-e",
                &at("error.log"),
            ])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, directory }
    }

    fn connect(&self) -> UnixStream {
        let path = self.directory.path().join("socket");
        let stream = wait_for(SOON, "nginx", || UnixStream::connect(&path).ok());
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

#[test]
fn behind_nginx_events_come_at_once_and_clients_are_told_apart() {
    let server = Server::with(&[
        ("CELLWISE_ADMIN__REQUESTS_PER_SECOND", "2"),
        ("CELLWISE_ADMIN__TRUSTED_PROXIES", "[\"127.0.0.1/32\"]"),
    ]);
    let nginx = Nginx::before(server.admin());
    let token = server.api.token();
    let ask = |path: &str, client: &str| {
        let mut stream = nginx.connect();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nX-Test-Client: {client}\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let status = |client: &str| {
        let mut answer = String::new();
        ask("/v1/tasks", client)
            .read_to_string(&mut answer)
            .unwrap();
        answer[9..12].to_owned()
    };
    let mut events = ask("/v1/events", "198.51.100.9");
    let mut seen = String::new();
    while !seen.contains("events follow") {
        let mut part = [0; 1_024];
        let read = events
            .read(&mut part)
            .expect("what is sent comes through at once");
        assert_ne!(read, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    let first: Vec<String> = (0..8).map(|_| status("198.51.100.1")).collect();
    assert!(first.contains(&"429".to_owned()), "{first:?}");
    assert_eq!(
        status("198.51.100.2"),
        "200",
        "another client has an allowance of its own"
    );
}

/// A server whose data lies on a disk of 24 MiB.
struct SmallDisk {
    process: Child,
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let mut command = clean(Command::new(tool("unshare")));
        // Root needs no users of its own to mount, and in a changed root it may not have them.
        if nix::unistd::geteuid().is_root() {
            command.args(["-m", "--propagation", "unchanged"]);
        } else {
            command.arg("-Urm");
        }
        let mounts = "mount --make-rprivate / 2>/dev/null; mount -t tmpfs -o size=24m small \"$1\" && exec \"$2\" serve";
        command
            .args(["sh", "-c", mounts, "sh"])
            .arg(&data)
            .arg(cellwise().get_program())
            .current_dir(directory.path())
            .env("CELLWISE_DATA_DIR", &data)
            .env("CELLWISE_COAP__LISTEN", "127.0.0.1:0")
            .env("CELLWISE_ADMIN__LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null());
        let process = command.spawn().unwrap();
        Self { process, directory }
    }

    /// The disk as the server sees it.
    fn path(&self, name: &str) -> std::path::PathBuf {
        let data = self.directory.path().join("data").join(name);
        let root = format!("/proc/{}/root", self.process.id());
        Path::new(&root).join(data.strip_prefix("/").unwrap())
    }

    fn api(&self) -> Api {
        let listening = wait_for(SOON, "the server's readiness", || {
            let text = fs::read(self.path("listening.json")).ok()?;
            let listening: serde_json::Value = serde_json::from_slice(&text).ok()?;
            listening["admin"].as_str()?.parse::<SocketAddr>().ok()
        });
        let token = fs::read_to_string(self.path("admin.token")).unwrap();
        Api::new(listening, token.trim())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_small_disk_that_was_full_is_of_use_again_without_a_restart() {
    let mut disk = SmallDisk::start();
    let api = disk.api();
    let add = |from: usize, count: usize| {
        let devices: Vec<_> = (from..from + count)
            .map(|n| json!({"endpoint": format!("urn:imei:{n}")}))
            .collect();
        api.post("/v1/devices", &json!({"devices": devices})).0
    };
    assert_eq!(add(0, 2_000), 200);
    // what was committed goes into the file within seconds, although it is little
    wait_for(SOON, "the devices in the database's file", || {
        let bytes = fs::metadata(disk.path("cellwise.db")).unwrap().len();
        (bytes > 200_000).then_some(())
    });

    let mut filler = fs::File::create(disk.path("filler")).unwrap();
    let block = vec![0; 64 * 1_024];
    while filler.write_all(&block).is_ok() {}
    let mut next = 10_000;
    wait_for(SOON, "a refusal", || {
        next += 2_000;
        (add(next, 2_000) == 503).then_some(())
    });
    fs::remove_file(disk.path("filler")).unwrap();
    drop(filler);
    wait_for(SOON, "room to be of use", || {
        (add(100_000, 2_000) == 200).then_some(())
    });
    assert_eq!(
        disk.process.try_wait().unwrap(),
        None,
        "it is the same process"
    );
}

#[test]
fn a_damaged_database_is_called_that() {
    let mut server = Server::start();
    assert!(server.terminate(Duration::from_secs(10)).success());
    fs::write(server.data_dir().join("cellwise.db"), noise(5, 100_000)).unwrap();
    let mut serve = cellwise();
    serve
        .arg("serve")
        .env("CELLWISE_DATA_DIR", server.data_dir())
        .env("CELLWISE_COAP__LISTEN", "127.0.0.1:0");
    let ended = crate::support::run(&mut serve, b"", SOON);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("is damaged: restore a backup"),
        "{ended:?}"
    );
}
