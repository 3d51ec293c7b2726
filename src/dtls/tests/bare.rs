//! A client as small devices have it, written out: a `ClientHello` without any extension, CBC first.

use openssl::{
    hash::MessageDigest,
    pkey::PKey,
    sha::sha256,
    sign::Signer,
    symm::{Cipher, Crypter, Mode},
};

use super::*;

const RANDOM: [u8; 32] = [0x5a; 32];

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    signer.sign_oneshot_to_vec(data).unwrap()
}

/// The pseudorandom function of TLS 1.2 (RFC 5246 §5).
pub(super) fn prf(secret: &[u8], label: &[u8], seed: &[u8], len: usize) -> Vec<u8> {
    let seed = [label, seed].concat();
    let mut a = seed.clone();
    let mut output = Vec::new();
    while output.len() < len {
        a = hmac(secret, &a);
        output.extend(hmac(secret, &[&a[..], &seed].concat()));
    }
    output.truncate(len);
    output
}

pub(super) fn message(kind: u8, number: u8, body: &[u8]) -> Vec<u8> {
    let len = u8::try_from(body.len()).unwrap();
    let mut bytes = vec![kind, 0, 0, len, 0, number, 0, 0, 0, 0, 0, len];
    bytes.extend(body);
    bytes
}

pub(super) fn record(kind: u8, epoch: u8, number: u8, content: &[u8]) -> Vec<u8> {
    // DTLS 1.0 until the version is negotiated, as many stacks have it
    let minor = if number < 2 && epoch == 0 { 0xff } else { 0xfd };
    let mut bytes = vec![kind, 0xfe, minor, 0, epoch, 0, 0, 0, 0, 0, number];
    bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    bytes.extend(content);
    bytes
}

fn hello(number: u8, cookie: &[u8], suites: &[u16]) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend(RANDOM);
    body.push(0);
    body.push(u8::try_from(cookie.len()).unwrap());
    body.extend(cookie);
    body.extend(u16::try_from(suites.len() * 2).unwrap().to_be_bytes());
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);
    message(1, number, &body)
}

/// The messages in the clear of a flight, each whole.
pub(super) fn messages(flight: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for datagram in flight {
        let mut rest = &datagram[..];
        while rest.len() > record::RECORD_HEADER_LEN {
            let len = usize::from(u16::from_be_bytes([rest[11], rest[12]]));
            messages.push(rest[13..13 + len].to_vec());
            rest = &rest[13 + len..];
        }
    }
    messages
}

const CBC_SUITE: u16 = 0x00ae;
const CCM_SUITE: u16 = 0xc0a8;

#[test]
fn a_hello_without_extensions_serves() {
    let mut world = World::new();
    let suites = [CBC_SUITE];
    let first = record(22, 0, 0, &hello(0, &[], &suites));
    let verify = world.deliver(peer(1), &first).remove(0);
    let cookie = verify[13 + 12 + 3..].to_vec();
    let second = hello(1, &cookie, &suites);
    let flight = messages(&world.deliver(peer(1), &record(22, 0, 1, &second)));
    assert_eq!(flight.len(), 2, "ServerHello, ServerHelloDone");
    let server_hello = &flight[0];
    assert_eq!(server_hello[0], 2);
    let server_random = &server_hello[14..46];
    let session_id_len = usize::from(server_hello[46]);
    let rest = &server_hello[47 + session_id_len..];
    assert_eq!(
        rest,
        [0x00, 0xae, 0],
        "the suite, no compression, no extension"
    );

    let identity = b"device-1";
    let mut body = u16::try_from(identity.len())
        .unwrap()
        .to_be_bytes()
        .to_vec();
    body.extend(identity);
    let exchange = message(16, 2, &body);

    // RFC 4279 §2
    let key = key_of("device-1");
    let len = u16::try_from(key.len()).unwrap().to_be_bytes();
    let premaster = [&len[..], &vec![0; key.len()], &len, &key].concat();
    let randoms = [&RANDOM[..], server_random].concat();
    let master = prf(&premaster, b"master secret", &randoms, 48);
    let randoms = [server_random, &RANDOM[..]].concat();
    let block = prf(&master, b"key expansion", &randoms, 32 * 2 + 16 * 2);
    let (mac_key, cipher_key) = (&block[..32], &block[64..80]);

    let mut transcript = second;
    transcript.extend(flight.concat());
    transcript.extend(&exchange);
    let verify_data = prf(&master, b"client finished", &sha256(&transcript), 12);
    let finished = message(20, 3, &verify_data);
    // RFC 5246 §6.2.3.2, with epoch and number for the sequence number
    let len = u8::try_from(finished.len()).unwrap();
    let header = [0, 1, 0, 0, 0, 0, 0, 0, 22, 0xfe, 0xfd, 0, len];
    let mut content = finished.clone();
    content.extend(hmac(mac_key, &[&header[..], &finished].concat()));
    let padding = 15 - content.len() % 16;
    content.extend(vec![u8::try_from(padding).unwrap(); padding + 1]);
    let iv = [0x3c; 16];
    let cipher = Cipher::aes_128_cbc();
    let mut crypter = Crypter::new(cipher, Mode::Encrypt, cipher_key, Some(&iv)).unwrap();
    crypter.pad(false);
    let mut sealed = vec![0; content.len() + 16];
    let len = crypter.update(&content, &mut sealed).unwrap();
    sealed.truncate(len);

    let mut last = record(22, 0, 2, &exchange);
    last.extend(record(20, 0, 3, &[1]));
    last.extend(record(22, 1, 0, &[&iv[..], &sealed].concat()));
    let answer = world.deliver(peer(1), &last);
    assert!(!answer.is_empty());
    assert_eq!(
        world.events,
        [Output::Established {
            peer: peer(1),
            identity: Arc::new(psk_identity("device-1")),
            resumed: false
        }]
    );
}

#[test]
fn cbc_first_and_ccm_behind_serve_too() {
    let mut world = World::new();
    let suites = [CBC_SUITE, CCM_SUITE];
    let first = record(22, 0, 0, &hello(0, &[], &suites));
    let verify = world.deliver(peer(1), &first).remove(0);
    let second = hello(1, &verify[13 + 12 + 3..], &suites);
    let flight = messages(&world.deliver(peer(1), &record(22, 0, 1, &second)));
    let server_hello = &flight[0];
    let rest = &server_hello[47 + usize::from(server_hello[46])..];
    // of what the client has, the one with the shortest records
    assert_eq!(rest, [0xc0, 0xa8, 0]);
}
