//! Keys and signatures are made by OpenSSL's command, as whoever signs packages makes them.

use std::{path::Path, process::Command};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// Runs `openssl` in a directory.
pub(crate) fn openssl(dir: &Path, line: &str) -> Vec<u8> {
    let done = Command::new("openssl")
        .args(line.split(' '))
        .current_dir(dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "openssl {line}: {said}");
    done.stdout
}

/// A key pair that the command has made: `name.pem` and `name.pub.pem`.
pub(crate) fn make_key(dir: &Path, name: &str, algorithm: Algorithm) -> PublicKey {
    let how = match algorithm {
        Algorithm::Ed25519 => "-algorithm ed25519",
        Algorithm::EcdsaP256 => "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        Algorithm::RsaPss => "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
    };
    openssl(dir, &format!("genpkey {how} -out {name}.pem"));
    openssl(
        dir,
        &format!("pkey -in {name}.pem -pubout -out {name}.pub.pem"),
    );
    let pem = std::fs::read_to_string(dir.join(format!("{name}.pub.pem"))).unwrap();
    PublicKey::from_pem(&pem).unwrap()
}

/// A signature of a message by the private key `name.pem`, as docs/evidence.md says.
pub(crate) fn sign(dir: &Path, name: &str, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
    std::fs::write(dir.join("message"), message).unwrap();
    let line = match algorithm {
        Algorithm::Ed25519 => {
            format!("pkeyutl -sign -inkey {name}.pem -rawin -in message -out message.sig")
        }
        Algorithm::EcdsaP256 => {
            format!("dgst -sha256 -sign {name}.pem -out message.sig message")
        }
        Algorithm::RsaPss => format!(
            "dgst -sha256 -sigopt rsa_padding_mode:pss -sign {name}.pem -out message.sig message"
        ),
    };
    openssl(dir, &line);
    std::fs::read(dir.join("message.sig")).unwrap()
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn what_the_command_signs_is_verified_and_nothing_else() {
    let dir = directory();
    let message = b"a package file\0with any bytes\xFF";
    for algorithm in Algorithm::ALL {
        let key = make_key(dir.path(), "one", algorithm);
        let other = make_key(dir.path(), "two", algorithm);
        assert_eq!(key.algorithm(), algorithm);
        let signature = sign(dir.path(), "one", algorithm, message);
        assert!(key.verifies(message, &signature), "{algorithm:?}");
        assert!(!other.verifies(message, &signature), "{algorithm:?}");
        assert!(!key.verifies(&message[1..], &signature), "{algorithm:?}");
        assert!(!key.verifies(b"", &signature), "{algorithm:?}");
        for cut in [0, 1, signature.len() - 1] {
            assert!(!key.verifies(message, &signature[..cut]), "{algorithm:?}");
        }
        let mut longer = signature.clone();
        longer.push(0);
        assert!(!key.verifies(message, &longer), "{algorithm:?}");
        for place in [0, signature.len() / 2, signature.len() - 1] {
            let mut wrong = signature.clone();
            wrong[place] ^= 1;
            assert!(!key.verifies(message, &wrong), "{algorithm:?} at {place}");
        }
    }
}

#[test]
fn a_salt_of_any_length_is_one() {
    let dir = directory();
    let key = make_key(dir.path(), "one", Algorithm::RsaPss);
    for salt in ["0", "20", "digest", "max"] {
        std::fs::write(dir.path().join("message"), b"m").unwrap();
        let line = format!(
            "dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:{salt} -sign one.pem -out message.sig message"
        );
        openssl(dir.path(), &line);
        let signature = std::fs::read(dir.path().join("message.sig")).unwrap();
        assert!(key.verifies(b"m", &signature), "{salt}");
    }
    // the older padding is another algorithm
    openssl(
        dir.path(),
        "dgst -sha256 -sign one.pem -out message.sig message",
    );
    let signature = std::fs::read(dir.path().join("message.sig")).unwrap();
    assert!(!key.verifies(b"m", &signature));
}

#[test]
fn a_key_for_pss_alone_is_an_rsa_key() {
    let dir = directory();
    openssl(
        dir.path(),
        "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out one.pem",
    );
    openssl(dir.path(), "pkey -in one.pem -pubout -out one.pub.pem");
    let pem = std::fs::read_to_string(dir.path().join("one.pub.pem")).unwrap();
    let key = PublicKey::from_pem(&pem).unwrap();
    let signature = sign(dir.path(), "one", Algorithm::RsaPss, b"m");
    assert!(key.verifies(b"m", &signature));
}

#[test]
fn a_key_is_known_by_the_digest_that_the_command_shows() {
    let dir = directory();
    let key = make_key(dir.path(), "one", Algorithm::EcdsaP256);
    let der = openssl(dir.path(), "pkey -pubin -in one.pub.pem -outform DER");
    let digest = hex::encode(Sha256::digest(&der));
    assert_eq!(key.id().as_str(), &digest[..32]);
    assert_eq!(KeyId::new(key.id().as_str()), Some(key.id()));
    assert_eq!(KeyId::new("x"), None);
    assert_eq!(KeyId::new(&digest[..32].to_uppercase()), None);
    let again = PublicKey::from_pem(&key.to_pem()).unwrap();
    assert_eq!(again.id(), key.id());
    assert_eq!(PublicKey::from_spki(key.spki()).unwrap().id(), key.id());
}

#[test]
fn what_is_no_key_is_refused_with_the_reason() {
    let dir = directory();
    make_key(dir.path(), "one", Algorithm::Ed25519);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let public = read("one.pub.pem");
    let refused = |text: &str| PublicKey::from_pem(text).unwrap_err();
    assert_eq!(refused(&read("one.pem")), KeyError::Private);
    assert_eq!(refused(""), KeyError::NotPublic);
    assert_eq!(refused("-----BEGIN PUBLIC KEY-----"), KeyError::NotPublic);
    assert_eq!(refused(&format!("{public}{public}")), KeyError::NotPublic);
    assert_eq!(refused(&public[..60]), KeyError::NotPublic);
    assert_eq!(refused(&"a".repeat(9_000)), KeyError::TooLong);
    for (how, error) in [
        ("EC -pkeyopt ec_paramgen_curve:P-384", KeyError::Unsupported),
        ("ed448", KeyError::Unsupported),
        ("x25519", KeyError::Unsupported),
        (
            "RSA -pkeyopt rsa_keygen_bits:1024",
            KeyError::RsaBits(1_024),
        ),
    ] {
        openssl(
            dir.path(),
            &format!("genpkey -algorithm {how} -out odd.pem"),
        );
        openssl(dir.path(), "pkey -in odd.pem -pubout -out odd.pub.pem");
        assert_eq!(refused(&read("odd.pub.pem")), error, "{how}");
    }
}

#[test]
fn the_command_verifies_what_the_carrier_signs() {
    let dir = directory();
    for (algorithm, verify) in [
        (
            Algorithm::Ed25519,
            "pkeyutl -verify -pubin -inkey one.pub.pem -rawin -in message -sigfile message.sig",
        ),
        (
            Algorithm::EcdsaP256,
            "dgst -sha256 -verify one.pub.pem -signature message.sig message",
        ),
    ] {
        let public = make_key(dir.path(), "one", algorithm);
        let pem = std::fs::read(dir.path().join("one.pem")).unwrap();
        let key = SigningKey::from_pem(&pem).unwrap();
        assert_eq!(key.public().id(), public.id());
        let signature = key.sign(b"manifest").unwrap();
        std::fs::write(dir.path().join("message"), b"manifest").unwrap();
        std::fs::write(dir.path().join("message.sig"), signature).unwrap();
        openssl(dir.path(), verify);
    }
}

#[test]
fn a_key_that_cannot_sign_is_refused() {
    let dir = directory();
    make_key(dir.path(), "one", Algorithm::RsaPss);
    make_key(dir.path(), "two", Algorithm::Ed25519);
    openssl(
        dir.path(),
        "pkey -in two.pem -aes256 -passout pass:secret -out locked.pem",
    );
    let refused = |name: &str| {
        let pem = std::fs::read(dir.path().join(name)).unwrap();
        SigningKey::from_pem(&pem).unwrap_err()
    };
    assert_eq!(refused("one.pem"), KeyError::UnsupportedForSigning);
    assert_eq!(refused("two.pub.pem"), KeyError::NotPrivate);
    assert_eq!(refused("locked.pem"), KeyError::NotPrivate);
}

proptest! {
    #[test]
    fn no_bytes_are_a_signature(signature in proptest::collection::vec(any::<u8>(), 0..100)) {
        // RFC 8410 §10.1
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let key = PublicKey::from_pem(pem).unwrap();
        prop_assert!(!key.verifies(b"m", &signature));
    }

    #[test]
    fn no_text_makes_the_parser_fall(text in ".{0,200}") {
        prop_assert!(PublicKey::from_pem(&text).is_err());
        prop_assert!(SigningKey::from_pem(text.as_bytes()).is_err());
    }
}
