//! What serving packages costs: `cargo bench --bench download [-- --format json]`.
//!
//! The CPU time of a GiB over TLS, against Debian's nginx with one worker and the same certificate and file, fetched by the same
//! client (curl) in turns; and the memory of a connection whose device takes nothing. Both servers are processes of their own, and
//! their time is what the kernel counts for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // it measures or ends

mod nginx;
mod ours;
mod process;
mod slow;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Parser, ValueEnum};
use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    x509::{X509, X509NameBuilder},
};
use serde_json::json;

use process::cpu_seconds;

const GIB: f64 = 1_073_741_824.0;

/// What is measured.
#[derive(Debug, Parser)]
struct Arguments {
    /// Size of the package, MiB
    #[arg(long, default_value_t = 256)]
    package_mib: u64,
    /// Downloads in each round
    #[arg(long, default_value_t = 8)]
    downloads: u32,
    /// Of these, so many at the same time
    #[arg(long, default_value_t = 4)]
    at_once: u32,
    /// Rounds; each server has its turn in each of them
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Connections that take nothing
    #[arg(long, default_value_t = 2_000)]
    slow: u32,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Serve packages from this directory; how the measurement starts itself again
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
    /// cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(dir) = &arguments.serve {
        return ours::serve(dir, arguments.slow + 1);
    }
    let dir = tempfile::tempdir().unwrap();
    make_certificate(dir.path());
    let content: Vec<u8> = (0..arguments.package_mib * 1024 * 1024)
        .map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect();
    std::fs::write(dir.path().join("package.bin"), &content).unwrap();
    drop(content);

    let ours = ours::Ours::start(dir.path(), arguments.slow);
    let nginx = nginx::Nginx::start(dir.path());
    let mut best = [f64::INFINITY; 2];
    for _ in 0..arguments.rounds {
        let own = cpu_per_gib(ours.pid(), &|device| ours.https_url(device), &arguments);
        let theirs = cpu_per_gib(nginx.worker(), &|_| nginx.url(), &arguments);
        for (best, now) in best.iter_mut().zip([own, theirs]) {
            *best = best.min(now);
        }
    }
    let plain_cpu = cpu_per_gib(ours.pid(), &|device| ours.http_url(device), &arguments);
    let ratio = best[0] / best[1];
    let plain = slow::bytes_per_connection(&ours, arguments.slow, false);
    let tls = slow::bytes_per_connection(&ours, arguments.slow, true);
    let rounded = |value: f64| (value * 1_000.0).round() / 1_000.0;
    if arguments.format == Format::Json {
        let result = json!({
            "download_vs_nginx": rounded(ratio),
            "cpu_seconds_per_gib_tls": rounded(best[0]),
            "cpu_seconds_per_gib_tls_nginx": rounded(best[1]),
            "cpu_seconds_per_gib_plain": rounded(plain_cpu),
            "bytes_per_slow_connection": plain,
            "bytes_per_slow_connection_tls": tls,
        });
        println!("{result}");
    } else {
        println!(
            "over TLS {:.3} CPU s a GiB, nginx {:.3}: {ratio:.2} times; without TLS {plain_cpu:.3}",
            best[0], best[1]
        );
        println!("a connection that takes nothing: {plain} bytes, over TLS {tls}");
    }
}

/// The server's CPU time for a GiB, over all downloads of a round, each of a device of its own.
fn cpu_per_gib(pid: u32, url: &dyn Fn(u32) -> String, arguments: &Arguments) -> f64 {
    let before = cpu_seconds(pid);
    let mut left = arguments.downloads;
    while left > 0 {
        let now = left.min(arguments.at_once);
        let running: Vec<_> = (0..now)
            .map(|device| curl(&url(left - device)).spawn().unwrap())
            .collect();
        for mut curl in running {
            assert!(curl.wait().unwrap().success(), "curl could not download");
        }
        left -= now;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let bytes = (arguments.package_mib * 1024 * 1024 * u64::from(arguments.downloads)) as f64;
    (cpu_seconds(pid) - before) / (bytes / GIB)
}

fn curl(url: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--insecure"]);
    curl.args(["--tlsv1.3", "--tls13-ciphers", "TLS_AES_128_GCM_SHA256"]);
    curl.args(["--output", "/dev/null", url]);
    curl
}

/// `server.pem` and `server.key`, on P-256.
fn make_certificate(dir: &Path) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(7).unwrap())
        .unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = builder.build().to_pem().unwrap();
    std::fs::write(dir.join("server.pem"), certificate).unwrap();
    let path = dir.join("server.key");
    std::fs::write(&path, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    process::close_to_others(&path);
}
