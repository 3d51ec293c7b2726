//! Packages that are pushed.

use sim::{
    Character, UpdatesBy,
    coap::{Block, Code, option},
    device::Outcome,
};

use super::field::{Field, URI, package, spec, version};

fn field(character: Character) -> Field {
    Field::new(spec(UpdatesBy::Firmware, character))
}

const PUSHED: [Character; 5] = [
    Character::Leshan,
    Character::Anjay,
    Character::Zephyr,
    Character::Nrf,
    Character::PushOnly,
];

#[test]
fn every_client_takes_a_package_in_blocks_of_any_size() {
    for character in PUSHED {
        for size in [16, 64, 256, 512, 1024] {
            let mut field = field(character);
            let code = field.push("5/0/0", size, &package());
            assert_eq!(code, Some(Code::CHANGED), "{character:?} {size}");
            assert_eq!(
                (field.number("5/0/3"), field.number("5/0/5")),
                (Some(2), Some(0))
            );
            assert_eq!(field.device.image(), Some(&*package()));
            assert_eq!(field.execute("5/0/2", ""), Some(Code::CHANGED));
            field.pass(120_000);
            assert_eq!(field.device.version(), version("V2"));
            assert_eq!(
                (field.number("5/0/3"), field.number("5/0/5")),
                (Some(0), Some(1))
            );
            assert_eq!(field.device.outcome(), Some(Outcome::Upgraded));
        }
    }
}

#[test]
fn a_device_to_which_packages_are_pushed_says_so_and_wants_small_blocks() {
    let mut field = field(Character::PushOnly);
    assert_eq!(field.number("5/0/9"), Some(1));
    assert_eq!(field.read("5/0/8"), None);
    assert_eq!(
        field.write("5/0/1", URI.as_bytes()),
        Some(Code::BAD_REQUEST)
    );
    let sent = field.push_block("5/0/0", 0, 1024, &package()).unwrap();
    assert_eq!(sent.code(), Code::CONTINUE);
    let block = sent.block(option::BLOCK1).unwrap();
    assert_eq!((block.number, block.size()), (0, 128));
    let sent = field.push_block("5/0/0", 1024, 128, &package()).unwrap();
    let block = sent.block(option::BLOCK1).unwrap();
    assert_eq!((block.number, block.size()), (8, 128));
}

#[test]
fn a_lost_block_is_missed_and_a_push_can_begin_anew() {
    let mut field = field(Character::PushOnly);
    let code = |field: &mut Field, offset| {
        let sent = field.push_block("5/0/0", offset, 128, &package()).unwrap();
        sent.code()
    };
    assert_eq!(code(&mut field, 0), Code::CONTINUE);
    assert_eq!(code(&mut field, 256), Code::REQUEST_ENTITY_INCOMPLETE);
    assert_eq!(code(&mut field, 0), Code::CONTINUE);
    assert_eq!(code(&mut field, 0), Code::CONTINUE, "and once more");
    assert_eq!(code(&mut field, 128), Code::CONTINUE);
    assert_eq!(field.push("5/0/0", 128, &package()), Some(Code::CHANGED));
    assert_eq!(field.device.image(), Some(&*package()));
}

#[test]
fn a_push_that_was_not_begun_is_missed() {
    let mut field = field(Character::Leshan);
    let sent = field.push_block("5/0/0", 512, 512, &package()).unwrap();
    assert_eq!(sent.code(), Code::REQUEST_ENTITY_INCOMPLETE);
    assert_eq!(field.number("5/0/3"), Some(0));
}

#[test]
fn a_small_package_comes_at_once() {
    let mut spec = spec(UpdatesBy::Firmware, Character::Anjay);
    spec.object.images = [sim::Image::new(version("V2"), b"tiny")].into();
    let mut field = Field::new(spec);
    assert_eq!(field.write("5/0/0", b"tiny"), Some(Code::CHANGED));
    assert_eq!(field.number("5/0/3"), Some(2));
    assert_eq!(field.write("5/0/0", b"\0"), Some(Code::CHANGED));
    assert_eq!(field.number("5/0/3"), Some(0));
}

#[test]
fn a_restart_ends_a_push() {
    for character in PUSHED {
        let mut field = field(character);
        field.push_block("5/0/0", 0, 128, &package()).unwrap();
        assert_eq!(field.number("5/0/3"), Some(1));
        field.device.lose_power(field.now_ms, 10_000);
        field.pass(60_000);
        assert_eq!(
            (field.number("5/0/3"), field.number("5/0/5")),
            (Some(0), Some(0))
        );
        let sent = field.push_block("5/0/0", 128, 128, &package()).unwrap();
        assert_eq!(sent.code(), Code::REQUEST_ENTITY_INCOMPLETE);
        assert_eq!(field.push("5/0/0", 128, &package()), Some(Code::CHANGED));
    }
}

#[test]
fn a_pushed_package_that_is_another_is_not_installed() {
    let mut field = field(Character::PushOnly);
    let other = vec![1; 700];
    assert_eq!(field.push("5/0/0", 64, &other), Some(Code::CHANGED));
    assert_eq!(
        (field.number("5/0/3"), field.number("5/0/5")),
        (Some(0), Some(5))
    );
}

#[test]
fn blocks_that_cannot_be_meant_are_refused() {
    let mut field = field(Character::Leshan);
    let mut put = |value: u32, payload: &[u8]| {
        let sent = field.ask(Code::PUT, "5/0/0", |writer| {
            writer.uint(option::BLOCK1, value).payload(payload)
        });
        sent.unwrap().code()
    };
    assert_eq!(put(0x0F, b"x"), Code::BAD_OPTION, "a reserved size");
    let first = Block::at(0, 64, true).unwrap().value();
    assert_eq!(put(first, b"too short"), Code::BAD_REQUEST);
}
