//! Over real sockets, on ports that the system chooses.

mod hostile;
mod tls;

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Shutdown},
    process::Command,
    sync::mpsc,
};

use tempfile::TempDir;

use super::*;
use crate::{
    clock::UtcMillis,
    config::Config,
    grants::{Grant, Links, Served, Token, Way, Witness},
    ledger::{DeviceId, PackageId, TaskId, UpgradeId},
};

const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz";
/// The end of time, nearly.
const LATE: UtcMillis = UtcMillis(i64::MAX);

struct Told(mpsc::Sender<(u64, bool)>, Arc<AtomicU64>);

impl Witness for Told {
    fn served(&self, served: Served) {
        self.1.fetch_add(served.more_bytes, Ordering::Relaxed);
        let _ = self.0.send((served.contiguous_bytes, served.whole));
    }
}

/// A listener with one package.
struct World {
    address: SocketAddr,
    content: Vec<u8>,
    grant: Grant,
    grants: Arc<Grants>,
    told: mpsc::Receiver<(u64, bool)>,
    /// What it has cost the device, as far as that was told.
    cost_bytes: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<()>,
    _downloads: Downloads,
    dir: TempDir,
}

impl World {
    async fn new(size: usize) -> Self {
        Self::with(size, None, |_| {}).await
    }

    async fn with(size: usize, tls: Option<Tls>, change: impl FnOnce(&mut Config)) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), size, tls, change).await
    }

    async fn at(
        host: IpAddr,
        size: usize,
        tls: Option<Tls>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = PackageFiles::open(dir.path()).await.unwrap();
        let content: Vec<u8> = (0..size)
            .map(|at| u8::try_from(at * 31 / 7 % 256).unwrap())
            .collect();
        let mut upload = files.upload(u64::MAX).await.unwrap();
        upload.write(&content).await.unwrap();
        let sealed = upload.seal().await.unwrap();
        let stored = sealed.publish(&files).await.unwrap();
        let listener = std::net::TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let grants = Arc::new(Grants::default());
        let (tell, told) = mpsc::channel();
        let cost_bytes = Arc::new(AtomicU64::new(0));
        grants.watch(Arc::new(Told(tell, cost_bytes.clone())));
        grants.set_links(Links::new(&format!("http://{address}/ota"), true).unwrap());
        let grant = Grant {
            token: Token::new(TOKEN).unwrap(),
            way: Way::Bearer,
            device: DeviceId::from_bytes([7; 8]),
            upgrade: UpgradeId(1),
            task: TaskId(1),
            package: PackageId(3),
            sha256: stored.sha256,
            size_bytes: stored.size_bytes,
            file_name: "meter-1.2.bin".to_owned(),
            expires_at: LATE,
            already_contiguous: 0,
            begun: true,
        };
        grants.grant(grant.clone());
        let mut config = Config::default();
        change(&mut config);
        let metrics = Arc::new(Metrics::new().unwrap());
        let (stop, stopping) = watch::channel(false);
        let (downloads, run) = Downloads::start(DownloadsSetup {
            listeners: vec![(listener, tls)],
            grants: grants.clone(),
            files,
            settings: Settings::new(Arc::new(config)),
            clock: SystemClock::start(),
            metrics: metrics.clone(),
            stop: stopping,
        })
        .unwrap();
        Self {
            address,
            content,
            grant,
            grants,
            told,
            cost_bytes,
            metrics,
            stop,
            ended: tokio::spawn(run),
            _downloads: downloads,
            dir,
        }
    }

    /// The grant is as that of a device of which nothing is stored yet.
    fn not_begun(&self) {
        self.grants.revoke(&self.grant.token);
        self.grants.grant(Grant {
            begun: false,
            ..self.grant.clone()
        });
    }

    fn connect(&self) -> std::net::TcpStream {
        std::net::TcpStream::connect(self.address).unwrap()
    }

    /// A connection of a client whose buffers are so small that most of a package stays at the server.
    fn connect_narrowly(&self) -> std::net::TcpStream {
        let stream =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        stream.set_recv_buffer_size(1).unwrap(); // the system takes its least
        stream.connect(&self.address.into()).unwrap();
        stream.into()
    }

    fn look(&self) -> Served {
        self.grants.look(&self.grant.token).unwrap()
    }

    /// Waits until the figures say so.
    fn await_figure(&self, figure: &str) {
        let line = format!("\ncellwise_{figure}\n");
        while !self.metrics.handle().render().contains(&line) {
            let _ = self.told.recv_timeout(Duration::from_millis(100)); // or nothing is told
        }
    }

    /// Waits until nothing is on its way any more.
    fn await_landing(&self) -> Served {
        loop {
            let served = self.look();
            if !served.in_flight {
                return served;
            }
            let _ = self.told.recv_timeout(Duration::from_millis(100)); // or nothing is told
        }
    }

    /// The answer to a request, on a connection of its own.
    fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(&mut stream, request.starts_with("HEAD"))
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n"))
    }

    fn right(&self, headers: &str) -> Answer {
        let headers = format!("Authorization: Bearer {TOKEN}\r\n{headers}");
        self.get("/packages/3/x", &headers)
    }

    /// What the witness is told last, once that is so.
    fn await_told(&self, wanted: (u64, bool)) {
        while self.told.recv_timeout(Duration::from_mins(1)).unwrap() != wanted {}
    }

    async fn stop(self) -> String {
        self.stop.send(true).unwrap();
        self.ended.await.unwrap();
        self.metrics.handle().render()
    }
}

#[derive(Debug)]
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(stream: &mut impl std::io::Read, head_only: bool) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.split("\r\nContent-Length: ").nth(1).unwrap();
        let length: usize = length.split('\r').next().unwrap().parse().unwrap();
        let mut body = vec![0; if head_only { 0 } else { length }];
        stream.read_exact(&mut body).unwrap();
        Self { head, body }
    }

    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n");
        lines
            .filter_map(|line| line.split_once(": "))
            .find(|(is, _)| *is == name)
            .map(|it| it.1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_c_client_is_served() {
    let world = World::new(3_000_000).await;
    let mut stream = world.connect();
    let request = format!(
        "\r\nGET /packages/3/meter-1.2.bin HTTP/1.1\nHost:127.0.0.1\nAuthorization:Bearer {TOKEN}\nConnection:close\n\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    // the whole head comes with the first read, and its letters are as they are
    let mut first = [0; 4_095];
    let len = stream.read(&mut first).unwrap();
    let text = String::from_utf8_lossy(&first[..len]).into_owned();
    let head_len = text.find("\r\n\r\n").unwrap() + 4;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n"),
        "{text}"
    );
    assert!(text.contains("\r\nContent-Disposition: attachment; filename=meter-1.2.bin\r\n"));
    assert!(!text[..head_len].contains("chunked"));
    let mut body = first[head_len..len].to_vec();
    stream.read_to_end(&mut body).unwrap();
    assert!(body == world.content);
    world.await_told((3_000_000, true));
    let figures = world.stop().await;
    assert!(
        figures.contains("\ncellwise_download_bytes_total 3000000\n"),
        "{figures}"
    );
    assert!(
        figures.contains("\ncellwise_downloads_ended_total 1\n"),
        "{figures}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_leaves_before_it_is_written_down_that_it_is_fetched() {
    let world = World::new(3_000).await;
    world.not_begun();
    let mut stream = world.connect();
    let request =
        format!("GET /packages/3/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    // that is told, so that it can be written down
    world.await_told((0, false));
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let early = stream.read(&mut [0; 1]);
    assert!(early.is_err(), "{early:?}");
    world.grants.grant(world.grant.clone());
    stream
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    let mut body = vec![0; 3_000];
    stream.read_exact(&mut body).unwrap();
    assert!(body == world.content);
    world.await_told((3_000, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_served_and_counted_once() {
    let world = World::new(100_000).await;
    let whole = world.right("Range: bytes=0-9,20-29\r\n");
    assert_eq!((whole.status(), whole.body.len()), (200, 100_000));
    world.await_told((100_000, true));
    world.grants.revoke(&world.grant.token);
    world.grants.grant(world.grant.clone());
    let part = world.right("Range: bytes=50000-\r\n");
    assert_eq!(part.status(), 206);
    assert_eq!(
        part.header("Content-Range"),
        Some("bytes 50000-99999/100000")
    );
    assert!(part.body == world.content[50_000..]);
    let part = world.right("Range: bytes=40000-60000\r\nCrc16-Method: MODBUS\r\n");
    assert!(part.body == world.content[40_000..=60_000]);
    let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&part.body);
    assert_eq!(part.header("X-CRC16"), Some(&*format!("{crc:04x}")));
    let look = || world.grants.look(&world.grant.token).unwrap();
    assert_eq!(look().contiguous_bytes, 0);
    let part = world.right("Range: bytes=0-39999\r\nCrc16-Method: CRC-32\r\n");
    assert_eq!((part.status(), part.header("X-CRC16")), (206, None));
    world.await_told((100_000, true));
    let none = world.right("Range: bytes=100000-\r\n");
    assert_eq!(none.status(), 416);
    assert_eq!(none.header("Content-Range"), Some("bytes */100000"));
    let last = world.right("Range: bytes=-5\r\n");
    assert!(last.body == world.content[99_995..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_other_content_is_answered_with_all_of_it() {
    let world = World::new(1_000).await;
    let part = world.right("Range: bytes=0-9\r\n");
    let etag = part.header("ETag").unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", world.grant.sha256));
    let modified = part.header("Last-Modified").unwrap().to_owned();
    for (validator, status) in [
        (etag.as_str(), 206),
        (modified.as_str(), 206),
        ("\"other\"", 200),
        ("W/\"other\"", 200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
    ] {
        let answer = world.right(&format!("Range: bytes=0-9\r\nIf-Range: {validator}\r\n"));
        assert_eq!(answer.status(), status, "{validator}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_one_request_after_the_other() {
    let world = World::new(1_000).await;
    let mut stream = world.connect();
    let get = |range: &str| {
        format!("GET /ota/t/{TOKEN}/x HTTP/1.1\r\nHost: a\r\nRange: bytes={range}\r\n\r\n")
    };
    // two at once, and a third
    let two = get("0-99") + &get("100-199");
    stream.write_all(two.as_bytes()).unwrap();
    for from in [0, 100] {
        let answer = Answer::read(&mut stream, false);
        assert!(answer.body == world.content[from..from + 100]);
        assert_eq!(answer.header("Connection"), None);
    }
    let head = format!("HEAD /t/{TOKEN}/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let answer = Answer::read(&mut stream, true);
    assert_eq!(answer.header("Content-Length"), Some("1000"));
    assert_eq!(answer.header("Connection"), Some("keep-alive"));
    // HTTP/1.0 ends with the connection otherwise
    stream
        .write_all(format!("GET /t/{TOKEN}/x HTTP/1.0\r\n\r\n").as_bytes())
        .unwrap();
    assert_eq!(Answer::read(&mut stream, false).body.len(), 1_000);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    // a range means something to GET alone (RFC 9110 §14.2)
    let answer = world.ask(&format!(
        "HEAD /t/{TOKEN}/x HTTP/1.1\r\nConnection: close\r\nRange: bytes=2000-\r\n\r\n"
    ));
    assert_eq!(
        (answer.status(), answer.header("Content-Range")),
        (200, None)
    );
    assert_eq!(answer.header("Content-Length"), Some("1000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_right_gets_nothing() {
    let world = World::with(1_000, None, |config| {
        config.download.failed_attempts_per_minute = 9;
    })
    .await;
    let other = "Authorization: Bearer zzzzzzzzzzzzzzzzzzzzzzzzzzzz\r\n";
    let none = world.get("/packages/3/x", "");
    assert_eq!(none.status(), 401);
    assert_eq!(
        none.header("WWW-Authenticate"),
        Some("Bearer realm=\"packages\"")
    );
    assert_eq!(world.get("/packages/3/x", other).status(), 401);
    assert_eq!(world.get("/t/zzzzzzzzzzzzzzzzzzzzzzzz/x", "").status(), 404);
    assert_eq!(world.get("/", "").status(), 404);
    assert_eq!(world.get("/../../etc/passwd", "").status(), 404);
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(world.get("/packages/4/x", &right).status(), 403);
    let expired = Grant {
        token: Token::new("expiredexpiredexpiredexpired").unwrap(),
        expires_at: UtcMillis(1),
        ..world.grant.clone()
    };
    world.grants.grant(expired);
    assert_eq!(
        world.get("/t/expiredexpiredexpiredexpired/x", "").status(),
        403
    );
    let header = "Authorization: Bearer expiredexpiredexpiredexpired\r\n";
    assert_eq!(world.get("/packages/3/x", header).status(), 401);
    let post = world.ask(&format!(
        "POST /t/{TOKEN}/x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    ));
    assert_eq!(
        (post.status(), post.header("Allow")),
        (405, Some("GET, HEAD"))
    );
    assert_eq!(world.ask("nonsense\r\n\r\n").status(), 400);
    let body = "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(world.ask(body).status(), 400);
    let long = format!("GET / HTTP/1.1\r\na: {}\r\n", "a".repeat(9_000));
    assert_eq!(world.ask(&long).status(), 431);
    // eight attempts so far
    assert_eq!(world.get("/packages/3/x", other).status(), 401);
    assert_eq!(world.get("/packages/3/x", other).status(), 429);
    assert_eq!(world.right("").status(), 200);
    let figures = world.stop().await;
    assert!(
        figures.contains("\ncellwise_download_requests_refused_total 10\n"),
        "{figures}"
    );
    assert!(
        figures.contains("\ncellwise_download_requests_rationed_total 1\n"),
        "{figures}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_a_token_has_few_connections() {
    let world = World::with(1_000, None, |config| {
        config.download.max_connections_per_address = 2;
    })
    .await;
    let mut held = [world.connect(), world.connect()];
    // they are accepted in order: this one finds no place
    assert_eq!(world.connect().read(&mut [0]).unwrap_or(0), 0);
    // once one of them has shown its token there is a place again
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n");
    held[0].write_all(request.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut held[0], false).status(), 200);
    assert_eq!(world.right("").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_slow_or_silent_is_disconnected() {
    let world = World::with(50_000_000, None, |config| {
        config.download.head_timeout_s = 1;
        config.download.idle_timeout_s = 1;
    })
    .await;
    let mut silent = world.connect();
    let mut halfway = world.connect();
    halfway.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut stuck = world.connect();
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n");
    stuck.write_all(request.as_bytes()).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert_eq!(Answer::read(&mut halfway, false).status(), 408);
    // the one that reads nothing is given up, once it has had its time
    world.await_figure("downloads_too_slow_total 1");
    assert!(!world.await_landing().whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_never_took_does_not_count_as_served() {
    const SIZE: usize = 4_096;
    let world = World::new(SIZE).await;
    let mut stream = world.connect_narrowly();
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    // the kernel has taken all of it, and the device nothing
    world.await_figure("downloads_ended_total 1");
    let served = world.look();
    assert!(served.in_flight && !served.whole, "{served:?}");
    drop(stream); // with bytes unread: a reset
    let served = world.await_landing();
    assert!(served.contiguous_bytes < SIZE as u64, "{served:?}");
    assert!(world.told.try_iter().all(|(_, whole)| !whole));
    // it goes on from there
    let bytes = usize::try_from(served.contiguous_bytes).unwrap();
    let rest = world.right(&format!("Range: bytes={bytes}-\r\n"));
    assert!(rest.body == world.content[bytes..]);
    world.await_told((SIZE as u64, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_arrived_counts_however_the_connection_ends_and_is_never_taken_back() {
    let world = World::new(20_000).await;
    let mut stream = world.connect_narrowly();
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    assert!(Answer::read(&mut stream, false).body == world.content);
    world.await_told((20_000, true));
    // the same again, of which it takes nothing
    stream.write_all(request.as_bytes()).unwrap();
    world.await_figure("downloads_ended_total 2");
    drop(stream);
    assert!(world.await_landing().whole);
    assert!(world.told.try_iter().all(|told| told == (20_000, true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_what_had_arrived_of_downloads_under_way() {
    let world = World::new(50_000_000).await;
    let mut stream = world.connect();
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut vec![0; 300_000]).unwrap();
    let (grants, token) = (world.grants.clone(), world.grant.token.clone());
    world.stop.send(true).unwrap();
    world.ended.await.unwrap();
    let served = grants.look(&token).unwrap();
    assert!(
        !served.in_flight && served.contiguous_bytes > 299_000,
        "{served:?}"
    );
    let last = world.told.try_iter().last();
    assert_eq!(last, Some((served.contiguous_bytes, false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_leaves_dead_connections_behind_is_served_on_a_new_one() {
    let world = World::with(4_000_000, None, |config| {
        config.download.max_connections_per_token = 2;
    })
    .await;
    let begin = || {
        let mut stream = world.connect_narrowly();
        let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        stream
    };
    world.await_figure("download_connections 0");
    // nobody reads from them any more, and nobody says so
    let dead: Vec<_> = (0..3).map(|_| begin()).collect();
    world.await_figure("download_connections_replaced_total 1");
    let answer = world.right("");
    assert_eq!((answer.status(), answer.body == world.content), (200, true));
    world.await_figure("download_connections_replaced_total 2");
    drop(dead);
    world.await_figure("download_connections 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_token_of_an_address_is_shown_on_few_connections() {
    let world = World::with(1_000, None, |config| {
        config.download.max_downloads_per_address = 3;
    })
    .await;
    let other = "another-device-has-another-token";
    world.grants.grant(Grant {
        token: Token::new(other).unwrap(),
        ..world.grant.clone()
    });
    let get = |stream: &mut std::net::TcpStream, token: &str| {
        let request = format!("GET /t/{token}/x HTTP/1.1\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream, false).status()
    };
    let mut held = [world.connect(), world.connect()];
    for _ in 0..2 {
        // a connection that goes on does not stand in its own way
        assert!(held.iter_mut().all(|stream| get(stream, TOKEN) == 200));
    }
    let mut third = world.connect();
    assert_eq!(get(&mut third, other), 200);
    // although none of them downloads just now
    assert_eq!(get(&mut world.connect(), other), 429);
    // each that ends makes room
    drop(held);
    while get(&mut world.connect(), other) != 200 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_goes_away_puts_nobody_off() {
    const ATTEMPTS: u64 = 100;
    let world = World::with(100_000, None, |config| {
        config.download.bytes_per_second = 1_024;
        config.download.max_connections_per_token = 1_000;
    })
    .await;
    for _ in 0..ATTEMPTS {
        let mut stream = world.connect();
        let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        // closing it resets it
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
    world.await_figure(&format!("downloads_broken_total {ATTEMPTS}"));
    // each had asked for a chunk, which lasts a second
    let clock = SystemClock::start();
    let began = clock.now().instant;
    assert_eq!(world.right("Range: bytes=0-99\r\n").status(), 206);
    let took = clock.now().instant.since(began);
    assert!(took < Duration::from_secs(ATTEMPTS / 2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_trusted_has_no_bounds_of_an_address_over_ipv6_either() {
    let proxied = |networks: &'static [&'static str]| {
        World::at(
            std::net::Ipv6Addr::LOCALHOST.into(),
            1_000,
            None,
            move |config| {
                config.download.failed_attempts_per_minute = 1;
                config.download.max_downloads_per_address = 1;
                let networks = networks.iter().map(|it| it.parse().unwrap());
                config.download.trusted_proxies = networks.collect();
            },
        )
    };
    let world = proxied(&["::1/128"]).await;
    let mut held = [world.connect(), world.connect()];
    for stream in &mut held {
        let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(Answer::read(stream, false).status(), 200);
    }
    for _ in 0..3 {
        assert_eq!(world.get("/t/zzzzzzzzzzzzzzzzzzzzzzzz/x", "").status(), 404);
    }
    let world = proxied(&[]).await;
    assert_eq!(world.get("/t/zzzzzzzzzzzzzzzzzzzzzzzz/x", "").status(), 404);
    assert_eq!(world.get("/t/zzzzzzzzzzzzzzzzzzzzzzzz/x", "").status(), 429);
}

#[expect(clippy::disallowed_methods, reason = "what is measured is the clock's")]
#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_its_rate_is_missed_when_it_is_gone() {
    let world = World::with(40_000, None, |config| {
        config.download.bytes_per_second = 20; // fifty seconds for a chunk
    })
    .await;
    let mut stream = world.connect();
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 1_024]).unwrap();
    let began = std::time::Instant::now();
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream); // a reset
    world.await_figure("downloads_broken_total 1");
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}

#[expect(clippy::disallowed_methods, reason = "what is measured is the clock's")]
#[tokio::test(flavor = "multi_thread")]
async fn check_codes_of_ever_other_parts_come_at_a_bounded_pace() {
    const MIB: usize = 1024 * 1024;
    let world = World::new(5 * MIB).await;
    let code_of = |from: usize| {
        let range = format!("Range: bytes={from}-{}\r\n", from + 3 * MIB - 1);
        let began = std::time::Instant::now();
        let part = world.right(&format!("{range}Crc16-Method: CCITT\r\n"));
        let crc = crc::Crc::<u16>::new(&crc::CRC_16_KERMIT).checksum(&part.body);
        assert_eq!(part.header("X-CRC16"), Some(&*format!("{crc:04x}")));
        began.elapsed()
    };
    code_of(0);
    // 3 MiB at 4 MiB a second, a quarter of a second in advance
    assert!(code_of(1) >= Duration::from_millis(400));
    // those that are known cost nothing, so that there are as many as one likes
    let known = (0..4).map(|_| code_of(0) + code_of(1));
    assert!(known.sum::<Duration>() < Duration::from_secs(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_back_ends_the_download() {
    let world = World::new(50_000_000).await;
    let mut stream = world.connect();
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut some = vec![0; 1_000_000];
    stream.read_exact(&mut some).unwrap();
    world.grants.revoke(&world.grant.token);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest); // it may be a reset
    assert!(rest.len() < 48_000_000);
    assert_eq!(world.right("").status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_has_arrived_is_told_also_of_a_right_that_was_taken_back() {
    let world = World::new(50_000_000).await;
    let mut stream = world.connect();
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut some = vec![0; 3_500_000];
    stream.read_exact(&mut some).unwrap();
    world.grants.revoke(&world.grant.token);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest); // it may be a reset
    // but for the head
    let read = (some.len() + rest.len()) as u64;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while world.cost_bytes.load(Ordering::Relaxed) + 2_000 < read {
        let cost = world.cost_bytes.load(Ordering::Relaxed);
        assert!(
            tokio::time::Instant::now() < deadline,
            "{cost} told of {read}"
        );
        let _ = world.told.recv_timeout(Duration::from_millis(100)); // or nothing is told
    }
    assert!(read < 48_000_000, "{read}");
}

/// What is left would take its client ten seconds, of which it takes a little more all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_right_was_taken_back_ends_in_time_however_steadily_a_little_arrives() {
    const LEFT_BYTES: u64 = 12_000;
    let world = World::with(50_000_000, None, |config| {
        config.download.idle_timeout_s = 2;
        config.download.least_bytes_per_second = 1;
    })
    .await;
    let figure = |name: &str| {
        let text = world.metrics.handle().render();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(&format!("cellwise_{name} ")));
        value.unwrap().parse::<u64>().unwrap()
    };
    let mut stream = world.connect_narrowly();
    let wait = Some(Duration::from_secs(5));
    stream.set_read_timeout(wait).unwrap();
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut read = stream.read(&mut [0; 1_000]).unwrap() as u64;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while figure("download_bytes_total") < 2 * LEFT_BYTES {
        assert!(tokio::time::Instant::now() < deadline, "nothing leaves");
        let _ = world.told.recv_timeout(Duration::from_millis(5)); // or nothing is told
    }
    world.grants.revoke(&world.grant.token);
    // nothing more leaves once the server has seen that
    while figure("download_bytes_total").saturating_sub(read) > LEFT_BYTES {
        read += stream.read(&mut [0; 1_000]).unwrap() as u64;
    }
    let _ = world.told.try_iter().count();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(6);
    // it is told of once it is over, at the pace at which the client reads
    while world.told.recv_timeout(Duration::from_millis(40)).is_err() {
        assert!(tokio::time::Instant::now() < deadline, "it lasts");
        assert!(stream.read(&mut [0; 50]).unwrap() > 0);
    }
    assert!(world.cost_bytes.load(Ordering::Relaxed) < figure("download_bytes_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_sent_all_it_has_is_still_answered() {
    let world = World::new(500_000).await;
    let mut stream = world.connect();
    stream
        .write_all(format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n").as_bytes())
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(Answer::read(&mut stream, false).body == world.content);
}

#[expect(clippy::disallowed_methods, reason = "what is measured is the clock's")]
#[tokio::test(flavor = "multi_thread")]
async fn rates_hold_for_a_device_and_for_all() {
    let rate = |device, all| {
        World::with(40_000, None, move |config| {
            config.download.bytes_per_second_per_device = device;
            config.download.bytes_per_second = all;
        })
    };
    for world in [rate(40_000, 0).await, rate(0, 40_000).await] {
        // a burst of a quarter of a second, and the first chunk, come at once
        let began = std::time::Instant::now();
        assert!(world.right("").body == world.content);
        assert!(
            began.elapsed() >= Duration::from_millis(500),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_downloads_in_parts_and_goes_on_where_it_was() {
    let world = World::new(2_000_000).await;
    let url = |way| {
        let grant = Grant {
            way,
            ..world.grant.clone()
        };
        world.grants.links().unwrap().url(&grant)
    };
    let file = world.dir.path().join("got");
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let header = format!("Authorization: Bearer {TOKEN}");
    let bearer = url(Way::Bearer);
    let part = curl(&["--range", "1000-1999", "--header", &header, &bearer]);
    assert!(part == world.content[1_000..2_000]);
    std::fs::write(&file, &world.content[..1_234_567]).unwrap();
    let name = file.to_str().unwrap();
    curl(&["--continue-at", "-", "--output", name, &url(Way::Path)]);
    assert!(std::fs::read(&file).unwrap() == world.content);
    let named = curl(&["--head", &url(Way::Path)]);
    assert!(
        String::from_utf8(named)
            .unwrap()
            .contains("Content-Length: 2000000\r\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_what_is_idle_at_once_and_lets_the_rest_end() {
    let world = World::new(1_000).await;
    let mut idle = world.connect();
    idle.write_all(format!("GET /t/{TOKEN}/x HTTP/1.1\r\n\r\n").as_bytes())
        .unwrap();
    Answer::read(&mut idle, false);
    let address = world.address;
    world.stop().await;
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
    assert!(std::net::TcpStream::connect(address).is_err());
}
