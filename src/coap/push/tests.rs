use proptest::prelude::*;

use super::*;
use crate::coap::{Kind, Message};

fn content(len: usize) -> Bytes {
    (0..=250u8).cycle().take(len).collect()
}

fn block(push: &Push) -> (Block, Vec<u8>) {
    let path = [&b"5"[..], b"0", b"0"];
    let datagram = push.datagram(7, Token::new(&[1, 2, 3, 4]), path.into_iter());
    let bytes = datagram.to_bytes().into_owned();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(
        (message.kind(), message.code()),
        (Kind::Confirmable, Code::PUT)
    );
    assert_eq!(message.path(), path);
    assert_eq!(message.content_format().map(|it| it.0), Some(42));
    assert_eq!(message.message_id(), 7);
    assert_eq!(message.unknown_critical_option(), None);
    let block = Block::decode(message.block1().unwrap()).unwrap();
    (block, message.payload().to_vec())
}

fn answer(push: &mut Push, code: Code, szx: u8) -> Pushed {
    let block = Block {
        szx,
        ..push.block()
    };
    push.answered(code, Some(block.encode()))
}

#[test]
fn writes_block_after_block() {
    let mut push = Push::new(content(100), 64);
    let (first, payload) = block(&push);
    assert_eq!((first.number, first.more, first.szx), (0, true, 2));
    assert_eq!(payload, content(100)[..64]);
    assert_eq!(answer(&mut push, Code::CONTINUE, 2), Pushed::Next);
    let (last, payload) = block(&push);
    assert_eq!((last.number, last.more), (1, false));
    assert_eq!(payload, content(100)[64..]);
    assert_eq!(answer(&mut push, Code::CHANGED, 2), Pushed::Done);
}

#[test]
fn goes_on_in_smaller_blocks_where_it_is() {
    let mut push = Push::new(content(1_000), 512);
    // RFC 7959 §3.3, early negotiation: what it has it keeps
    assert_eq!(answer(&mut push, Code::CONTINUE, 1), Pushed::Next);
    let (next, payload) = block(&push);
    assert_eq!((next.number, next.szx), (16, 1));
    assert_eq!(payload, content(1_000)[512..544]);
    // nor does it grow again
    assert_eq!(answer(&mut push, Code::CONTINUE, 6), Pushed::Next);
    assert_eq!(block(&push).0.szx, 1);
}

#[test]
fn begins_again_where_the_beginning_is_lost_but_not_for_ever() {
    let mut push = Push::new(content(200), 64);
    for _ in 0..MAX_RESTARTS {
        answer(&mut push, Code::CONTINUE, 2);
        let again = push.answered(Code::REQUEST_ENTITY_INCOMPLETE, None);
        assert_eq!(again, Pushed::Next);
        assert_eq!(block(&push).0.number, 0);
    }
    let refused = push.answered(Code::REQUEST_ENTITY_INCOMPLETE, None);
    assert_eq!(refused, Pushed::Refused(Code::REQUEST_ENTITY_INCOMPLETE));
}

#[test]
fn too_large_a_block_is_cut_and_too_large_a_body_refused() {
    let mut push = Push::new(content(2_000), 1_024);
    let cut = answer(&mut push, Code::REQUEST_ENTITY_TOO_LARGE, 4);
    assert_eq!((cut, push.block().szx), (Pushed::Next, 4));
    let refused = answer(&mut push, Code::REQUEST_ENTITY_TOO_LARGE, 4);
    assert_eq!(refused, Pushed::Refused(Code::REQUEST_ENTITY_TOO_LARGE));
    let later = push.answered(Code::SERVICE_UNAVAILABLE, None);
    assert_eq!(later, Pushed::Later);
}

#[test]
fn a_body_of_one_block_has_no_more() {
    let mut push = Push::new(content(10), 1_024);
    let (only, payload) = block(&push);
    assert_eq!((only.number, only.more), (0, false));
    assert_eq!(payload, content(10));
    assert_eq!(push.answered(Code::CHANGED, None), Pushed::Done);
}

proptest! {
    /// Whatever the other side lowers, loses or repeats: what it has put together is the body.
    #[test]
    fn what_was_put_together_is_the_body(
        len in 1..5_000_usize,
        size in 16..=1_024_u16,
        answers in prop::collection::vec((0..20_u8, 0..7_u8), 0..400),
    ) {
        let body = content(len);
        let mut push = Push::new(body.clone(), size);
        let mut has: Vec<u8> = Vec::new();
        let mut answers = answers.into_iter().chain(std::iter::repeat((9, 6)));
        loop {
            let (block, payload) = block(&push);
            let at = block.number as usize * block.size();
            let (kind, szx) = answers.next().unwrap();
            if kind == 0 {
                has.clear(); // it has restarted
            }
            let code = if at > has.len() {
                Code::REQUEST_ENTITY_INCOMPLETE
            } else {
                has.truncate(at);
                has.extend_from_slice(&payload);
                if block.more { Code::CONTINUE } else { Code::CHANGED }
            };
            match answer(&mut push, code, szx) {
                Pushed::Next => {}
                Pushed::Done => {
                    prop_assert_eq!(&has, &body);
                    break;
                }
                Pushed::Refused(code) => {
                    prop_assert_eq!(code, Code::REQUEST_ENTITY_INCOMPLETE);
                    break;
                }
                Pushed::Later => unreachable!(),
            }
        }
    }
}
