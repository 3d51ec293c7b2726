//! Passwords of users, and how often somebody may try one.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use axum::http::StatusCode;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{problem::Problem, source::bucket};
use crate::clock::Instant;

/// Characters of a password.
pub(super) const LENGTH: std::ops::RangeInclusive<usize> = 12..=128;

/// Passwords that are looked at, at once: each takes 19 MiB and a core for some tens of milliseconds.
const AT_ONCE: usize = 2;
/// How long a password waits to be looked at.
const WAIT: Duration = Duration::from_secs(10);
/// Attempts per minute for one user, from wherever.
const PER_USER: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Attempts per minute from one address, for whomever.
const PER_ADDRESS: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// Passwords per minute that a user who is logged in may try to change the own one.
const PER_OWN: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Wrong codes of one user that are looked at in a row, from wherever, each after the right password.
const CODES_IN_A_ROW: u32 = 10;
/// After which another code is. Of a million codes three are good at a time: a year of guessing finds one with a chance of one in ten.
const CODE_EVERY: Duration = Duration::from_mins(15);
/// Users and addresses that are told apart at once.
const MAX_KEYS: usize = 10_000;
/// Buckets that others share meanwhile: whoever tries many does not take the allowance of all.
const BUCKETS: u64 = 4_096;

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// Looks at passwords.
#[derive(Debug)]
pub struct Passwords {
    places: Arc<Semaphore>,
    users: Limiter<Key<String>>,
    addresses: Limiter<Key<IpAddr>>,
    /// By the number of a user who is logged in: strangers that try the name take nothing of it.
    own: Limiter<i64>,
    /// By the number of a user whose password was right.
    codes: Codes,
    /// Who shares a bucket is not to be found out.
    hasher: RandomState,
}

/// Whose allowance it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key<K> {
    One(K),
    Bucket(u64),
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            users: RateLimiter::hashmap(Quota::per_minute(PER_USER)),
            addresses: RateLimiter::hashmap(Quota::per_minute(PER_ADDRESS)),
            own: RateLimiter::hashmap(Quota::per_minute(PER_OWN)),
            codes: Codes::default(),
            hasher: RandomState::new(),
        }
    }
}

impl Passwords {
    /// Whether another password may be tried for a user, from an address; otherwise the seconds to wait.
    pub(super) fn ration(&self, user: &str, source: IpAddr) -> Result<(), u64> {
        self.take(&self.addresses, bucket(source))?;
        self.take(&self.users, user.to_owned())
    }

    /// Whether somebody may be sent to the identity provider, or come back from it, from an address; otherwise the seconds to wait.
    pub(super) fn ration_address(&self, source: IpAddr) -> Result<(), u64> {
        self.take(&self.addresses, bucket(source))
    }

    /// Whether a user who is logged in may try another password for the own one; otherwise the seconds to wait.
    pub(super) fn ration_own(&self, user: i64) -> Result<(), u64> {
        if self.own.len() >= MAX_KEYS {
            self.own.retain_recent(); // there are fewer users
        }
        check_key(&self.own, &user)
    }

    /// Whether another code of a user may be looked at, whose password was right; otherwise the seconds to wait. It counts as wrong until it
    /// is told that it was right.
    pub(super) fn ration_code(&self, user: i64, now: Instant) -> Result<(), u64> {
        self.codes.take(user, now)
    }

    /// The code that was looked at was right: it takes nothing of the ration of its user.
    pub(super) fn code_was_right(&self, user: i64, now: Instant) {
        self.codes.give_back(user, now);
    }

    /// Takes one of the allowance of `key`, or of that of a bucket where too many are told apart.
    fn take<K: Clone + Eq + Hash>(&self, limiter: &Limiter<Key<K>>, key: K) -> Result<(), u64> {
        if limiter.len() >= MAX_KEYS {
            limiter.retain_recent();
            if limiter.len() >= MAX_KEYS {
                let bucket = self.hasher.hash_one(&key) % BUCKETS;
                return check_key(limiter, &Key::Bucket(bucket));
            }
        }
        check_key(limiter, &Key::One(key))
    }

    /// The hash of a new password, a PHC string: argon2id, 19 MiB, two passes (OWASP, Password Storage Cheat Sheet).
    pub(super) async fn hash(&self, password: String) -> Result<String, Problem> {
        let place = self.place().await?;
        let hash = tokio::task::spawn_blocking(move || {
            let _place = place; // the work goes on when nobody waits for it any more
            hash(&password)
        });
        let hash = hash.await;
        let hash = hash.map_err(|error| Problem::internal(&error))?;
        hash.map_err(|error| Problem::internal(&std::io::Error::other(error.to_string())))
    }

    /// Whether a password has this hash. Without a hash it has not, and that takes as long.
    pub(super) async fn is(&self, password: String, hash: Option<String>) -> Result<bool, Problem> {
        let place = self.place().await?;
        let checked = tokio::task::spawn_blocking(move || {
            let _place = place; // as above
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODYS.clone());
            let fits = PasswordHash::new(&hash).is_ok_and(|hash| {
                let argon = Argon2::default();
                argon.verify_password(password.as_bytes(), &hash).is_ok()
            });
            fits && known
        });
        checked.await.map_err(|error| Problem::internal(&error))
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = timeout(WAIT, self.places.clone().acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or_else(|| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-log-ins",
                "Too many people log in at once",
                "try again in a moment",
            )
        })
    }
}

/// How many codes of users were wrong of late: of each when all are forgotten. That moves on by [`CODE_EVERY`] with each.
#[derive(Debug, Default)]
struct Codes(Mutex<HashMap<i64, Instant>>);

impl Codes {
    /// Counts one as wrong, or tells the seconds after which another one is looked at.
    fn take(&self, user: i64, now: Instant) -> Result<(), u64> {
        let mut forgotten = self.forgotten();
        if forgotten.len() >= MAX_KEYS {
            forgotten.retain(|_, at| *at > now); // there are fewer users
        }
        let at = forgotten.get(&user).copied().unwrap_or(now).max(now) + CODE_EVERY;
        let most = CODE_EVERY * CODES_IN_A_ROW;
        let too_many = at.since(now).saturating_sub(most);
        if !too_many.is_zero() {
            return Err(too_many.as_secs() + 1);
        }
        forgotten.insert(user, at);
        Ok(())
    }

    fn give_back(&self, user: i64, now: Instant) {
        let mut forgotten = self.forgotten();
        if let Some(at) = forgotten.get(&user) {
            match at.before(CODE_EVERY) {
                at if at > now => forgotten.insert(user, at),
                _ => forgotten.remove(&user),
            };
        }
    }

    fn forgotten(&self) -> MutexGuard<'_, HashMap<i64, Instant>> {
        // no change to it can stop half-way
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hash of a password that nobody has.
static NOBODYS: LazyLock<String> = LazyLock::new(|| hash("").unwrap_or_default());

fn hash(password: &str) -> Result<String, argon2::password_hash::Error> {
    let hash: PasswordHash = Argon2::default().hash_password(password.as_bytes())?;
    Ok(hash.to_string())
}

/// Takes one of the allowance of `key`; otherwise the seconds to wait.
fn check_key<K: Clone + Eq + Hash>(limiter: &Limiter<K>, key: &K) -> Result<(), u64> {
    limiter.check_key(key).map_err(|not_until| {
        let wait = not_until.wait_time_from(limiter.clock().now());
        wait.as_secs() + 1
    })
}

/// What is wrong with a new password.
pub(super) fn check(password: &str, name: &str) -> Result<(), String> {
    if !LENGTH.contains(&password.chars().count()) {
        return Err(format!(
            "a password has {} to {} characters",
            LENGTH.start(),
            LENGTH.end()
        ));
    }
    if password.to_lowercase().contains(&name.to_lowercase()) {
        return Err("the name is in it".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_has_its_hash_and_no_other_has() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        let again = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert_ne!(hash, again);
        let is = async |password: &str, hash: Option<String>| {
            passwords.is(password.to_owned(), hash).await.unwrap()
        };
        assert!(is("correct horse", Some(hash.clone())).await);
        assert!(!is("correct horse ", Some(hash)).await);
        assert!(!is("", None).await);
        assert!(!is("x", Some("not a hash".to_owned())).await);
    }

    #[test]
    fn attempts_are_rationed_by_user_and_by_address() {
        let passwords = Passwords::default();
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        for attempt in 0..10 {
            assert!(passwords.ration("anna", address(attempt)).is_ok());
        }
        // from wherever
        let wait = passwords.ration("anna", address(99)).unwrap_err();
        assert!((1..=60).contains(&wait));
        assert!(passwords.ration("berta", address(99)).is_ok());
        for user in 0..28 {
            assert!(passwords.ration(&user.to_string(), address(99)).is_ok());
        }
        assert!(passwords.ration("clara", address(99)).is_err());
        assert!(passwords.ration("clara", address(98)).is_ok());
    }

    #[test]
    fn wrong_codes_are_rationed_by_user_and_right_ones_are_not() {
        let codes = Codes::default();
        let begin = Instant::from_millis(1_000);
        let after = |minutes: u64| begin + Duration::from_mins(minutes);
        for _ in 0..30 {
            assert!(codes.take(5, begin).is_ok());
            codes.give_back(5, begin);
        }
        for _ in 0..10 {
            assert!(codes.take(5, begin).is_ok());
        }
        assert_eq!(codes.take(5, begin), Err(901));
        assert_eq!(codes.take(5, after(5)), Err(601));
        assert!(codes.take(6, begin).is_ok());
        // then one every 15 minutes, and another one for each that was right
        assert!(codes.take(5, after(15)).is_ok());
        assert!(codes.take(5, after(29)).is_err());
        codes.give_back(5, after(29));
        assert!(codes.take(5, after(29)).is_ok());
        assert!(codes.take(5, after(29)).is_err());
        // and all of them after a time without any
        for _ in 0..10 {
            assert!(codes.take(5, after(500)).is_ok());
        }
        assert!(codes.take(5, after(500)).is_err());
    }

    #[test]
    fn whoever_tries_many_names_does_not_lock_all_out() {
        let passwords = Passwords::default();
        let address = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
        for n in 0..=MAX_KEYS + 1_000 {
            // from addresses of their own, so that those do not stop it
            let _ = passwords.ration(&format!("stranger{n}"), address(n));
        }
        let let_in = (0..100).filter(|n| {
            passwords
                .ration(&format!("user{n}"), address(20_000 + n))
                .is_ok()
        });
        assert!(let_in.count() > 90);
        // those that are known to be logged in are asked apart
        for _ in 0..10 {
            assert!(passwords.ration_own(5).is_ok());
        }
        assert!((1..=60).contains(&passwords.ration_own(5).unwrap_err()));
        assert!(passwords.ration_own(6).is_ok());
    }

    #[test]
    fn new_passwords_are_long_and_not_the_name() {
        assert!(check("a long password", "anna").is_ok());
        assert!(check("short", "anna").is_err());
        assert!(check(&"x".repeat(129), "anna").is_err());
        assert!(check("Annas password", "anna").is_err());
    }
}
