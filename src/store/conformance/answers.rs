//! Requests that carry a key.

use super::{Store, T0, t};
use crate::store::{ANSWERS_KEPT_MS, Answer, Claim};

fn answer(status: u16) -> Answer {
    Answer {
        status,
        headers: vec![("location".to_owned(), "/v1/tasks/1".to_owned())],
        body: b"{}".to_vec(),
    }
}

pub(crate) async fn a_key_is_taken_once_and_answered_as_at_first(store: &impl Store) {
    let claim = async |key, request| store.claim_key(("", key), [request; 32], T0).await.unwrap();
    assert_eq!(claim("a", 1).await, Claim::New);
    assert_eq!(claim("a", 1).await, Claim::Unanswered);
    assert_eq!(claim("a", 2).await, Claim::OtherRequest);
    assert_eq!(claim("b", 1).await, Claim::New);
    store.keep_answer("a", &answer(201)).await.unwrap();
    store.keep_answer("a", &answer(200)).await.unwrap();
    assert_eq!(claim("a", 1).await, Claim::Answered(answer(201)));
    assert_eq!(claim("a", 2).await, Claim::OtherRequest);
    assert_eq!(claim("b", 1).await, Claim::Unanswered);
}

pub(crate) async fn a_key_that_is_given_back_is_new(store: &impl Store) {
    let claim = async |key, request| store.claim_key(("", key), [request; 32], T0).await.unwrap();
    assert_eq!(claim("a", 1).await, Claim::New);
    store.give_key_back("a").await.unwrap();
    store.give_key_back("other").await.unwrap();
    assert_eq!(claim("a", 2).await, Claim::New);
    store.keep_answer("a", &answer(200)).await.unwrap();
    store.give_key_back("a").await.unwrap();
    assert_eq!(claim("a", 2).await, Claim::Answered(answer(200)));
}

pub(crate) async fn a_key_is_forgotten_after_a_day(store: &impl Store) {
    let day = ANSWERS_KEPT_MS / 1_000;
    for key in 0..25 {
        assert_eq!(claim(store, &format!("old {key}"), 0).await, Claim::New);
    }
    store.keep_answer("old 24", &answer(200)).await.unwrap();
    assert_eq!(
        claim(store, "old 24", day).await,
        Claim::Answered(answer(200))
    );
    assert_eq!(claim(store, "old 3", day).await, Claim::Unanswered);
    // also where it has not been cleared away yet
    assert_eq!(claim(store, "old 24", day + 1).await, Claim::New);
}

async fn claim(store: &impl Store, key: &str, at: u64) -> Claim {
    store.claim_key(("", key), [1; 32], t(at)).await.unwrap()
}

pub(crate) async fn a_key_is_its_caller_s(store: &impl Store) {
    let claim = async |key, request| {
        let claimed = store.claim_key(("", key), [request; 32], T0);
        claimed.await.unwrap()
    };
    assert_eq!(claim("token:1:a k", 1).await, Claim::New);
    assert_eq!(claim("token:2:a k", 2).await, Claim::New);
    assert_eq!(claim("k", 3).await, Claim::New);
    assert_eq!(claim("token:1:a k", 1).await, Claim::Unanswered);
    assert_eq!(claim("token:1:a k", 4).await, Claim::OtherRequest);
    // what was taken before keys had a caller
    assert_eq!(claim("old", 5).await, Claim::New);
    store.keep_answer("old", &answer(201)).await.unwrap();
    let found = claim("token:1:a old", 5).await;
    assert_eq!(found, Claim::Answered(answer(201)));
    assert_eq!(claim("token:2:a old", 6).await, Claim::New);
}
