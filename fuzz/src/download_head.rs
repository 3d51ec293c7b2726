//! The head of a request for a package, and which part of the package it asks for.

use cellwise::download::{
    head::{self, HeadError, MAX_HEAD_BYTES, Target},
    range::Part,
};

/// Reads `input` as the listener does: the first request, and what follows it.
pub fn run(input: &[u8]) {
    let mut rest = input;
    // each request takes bytes, so that this ends
    while let Some(len) = one(rest) {
        rest = &rest[len..];
    }
}

fn one(input: &[u8]) -> Option<usize> {
    let (request, len) = match head::parse(input, "/ota") {
        Ok(Some(read)) => read,
        Ok(None) => {
            assert!(
                input.len() < MAX_HEAD_BYTES,
                "more is waited for than is kept"
            );
            return None;
        }
        Err(HeadError::Malformed | HeadError::TooLarge | HeadError::Body) => return None,
    };
    assert!((1..=MAX_HEAD_BYTES.min(input.len())).contains(&len));
    // what follows a head says nothing about it, and it is not read before its end is there
    let alone = head::parse(&input[..len], "/ota");
    assert_eq!(alone, Ok(Some((request.clone(), len))));
    assert_eq!(head::parse(&input[..len - 1], "/ota"), Ok(None));
    match &request.target {
        Target::Package(package, _) => assert!(package.0 >= 0),
        Target::Token(token) => assert!(!token.is_empty() && !token.contains('/')),
        Target::Nothing => {}
    }
    for size in [0, 1, 1_000, u64::MAX] {
        if let Part::Bytes(bytes) = request.wanted.of(size) {
            assert!(bytes.start < bytes.end && bytes.end <= size);
        }
    }
    Some(len)
}
