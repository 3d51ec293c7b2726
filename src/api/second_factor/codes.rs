//! Codes that change with the time, and recovery codes.

use sha2::{Digest, Sha256};
use totp_rs::{Algorithm, Builder, Secret, Totp, TotpError};

use crate::{
    api::{ApiState, problem::Problem, random::random},
    store::{Proof, UserId, UserRecord},
};

/// Bytes of a secret (RFC 4226 §4 recommends 160 bits).
pub(super) const SECRET_BYTES: usize = 20;
/// Digits of a code (RFC 4226 §5.3 asks for 6 at least).
const DIGITS: u8 = 6;
/// Seconds in which a code is the current one (RFC 6238 §5.2).
const STEP_S: u64 = 30;
/// Steps before and after the current one whose codes are good too (RFC 6238 §5.2).
const SKEW: u16 = 1;
/// Who the secret is shared with, as the device that makes codes shows it.
const ISSUER: &str = "Cellwise";
/// Recovery codes that are given out.
pub(super) const RECOVERY_CODES: usize = 10;
/// Random bytes of a recovery code: 80 bits, so that its hash gives nothing away.
const RECOVERY_BYTES: usize = 10;
/// Characters of a recovery code, in the base32 alphabet of RFC 4648 §6.
const RECOVERY_CHARACTERS: usize = 16;
/// Longest text that may be a code.
const MAX_CODE: usize = 32;

/// For what a secret is sealed.
pub(super) fn purpose(user: UserId) -> String {
    format!("totp of user {}", user.0)
}

pub(super) fn totp(secret: &[u8], name: &str) -> Result<Totp, TotpError> {
    Builder::new()
        // devices that make codes know no other, or take another for it
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_skew(SKEW)
        .with_step_duration(STEP_S)
        .with_secret(secret.to_vec())
        .with_account_name(name)
        .with_issuer(Some(ISSUER))
        .build()
}

/// The step whose code it is, if it is one of about now.
pub(super) fn step(
    sealed: &[u8],
    user: &UserRecord,
    code: &str,
    state: &ApiState,
) -> Result<Option<u64>, Problem> {
    let vault = state.vault.as_ref().ok_or_else(no_vault)?;
    let secret = vault.open(&purpose(user.id), sealed).ok_or_else(no_vault)?;
    let totp = totp(&secret, &user.name).map_err(|error| Problem::internal(&error))?;
    let seconds = u64::try_from(state.now().0.div_euclid(1_000)).unwrap_or(0);
    Ok(totp.check(code, seconds))
}

pub(super) fn is_time_code(code: &str) -> bool {
    code.len() == usize::from(DIGITS) && code.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a code of a user proves; `None`: nothing. Whether it was used before is seen when it is used.
pub(in crate::api) fn proof(
    state: &ApiState,
    user: &UserRecord,
    code: &str,
) -> Result<Option<Proof>, Problem> {
    let Some(sealed) = user.totp.as_ref().filter(|_| code.len() <= MAX_CODE) else {
        return Ok(None);
    };
    if let Some(hash) = recovery_hash(user.id, code) {
        return Ok(Some(Proof::Recovery(hash)));
    }
    let code = code.trim();
    if !is_time_code(code) {
        return Ok(None);
    }
    let step = step(sealed, user, code, state)?;
    Ok(step.map(|step| Proof::Code {
        sealed: sealed.clone(),
        step,
    }))
}

/// The hash of a recovery code, however it is written; `None`: it is none.
pub(super) fn recovery_hash(user: UserId, code: &str) -> Option<[u8; 32]> {
    let plain: String = (code.chars())
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let base32 = |byte: u8| matches!(byte, b'A'..=b'Z' | b'2'..=b'7');
    let fits = plain.len() == RECOVERY_CHARACTERS && plain.bytes().all(base32);
    fits.then(|| {
        let digest = Sha256::new().chain_update(format!("recovery {} ", user.0));
        digest.chain_update(plain).finalize().into()
    })
}

/// `abcd-efgh-ijkl-mnop`.
pub(super) fn new_recovery_code() -> Result<String, Problem> {
    let plain = Secret::new(Box::new(random::<RECOVERY_BYTES>()?)).to_base32();
    let plain = plain.to_ascii_lowercase();
    let groups: Vec<&str> = (plain.as_bytes().chunks(4))
        .filter_map(|group| std::str::from_utf8(group).ok()) // base32 is ASCII
        .collect();
    Ok(groups.join("-"))
}

pub(super) fn no_vault() -> Problem {
    Problem::conflict(
        "no-credential-key",
        "The server has no key to store secrets with",
        "the secret of a second factor is stored under a credential key: set dtls.credential_key to one of your own, or to that with \
         which it was stored",
    )
}

/// Whether a code takes from the ration of codes: recovery codes are too long to be guessed.
pub(in crate::api) fn is_guessable(code: &str) -> bool {
    is_time_code(code.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238 appendix B, of SHA-1, in 6 digits.
    #[test]
    fn codes_are_those_of_the_specification() {
        let totp = totp(b"12345678901234567890", "anna").unwrap();
        for (at, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(totp.check(code, at), Some(at / STEP_S), "{at}");
            // in the steps before and after, and no further
            assert_eq!(totp.check(code, at + STEP_S), Some(at / STEP_S));
            assert_eq!(totp.check(code, at - STEP_S), Some(at / STEP_S));
            assert_eq!(totp.check(code, at + 2 * STEP_S), None);
            let before = at.checked_sub(2 * STEP_S);
            assert_eq!(before.and_then(|before| totp.check(code, before)), None);
        }
        let uri = totp.to_url().unwrap();
        assert!(uri.starts_with("otpauth://totp/Cellwise:anna?"), "{uri}");
        assert!(uri.contains("secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"));
    }

    #[test]
    fn a_recovery_code_is_known_however_it_is_written() {
        let code = new_recovery_code().unwrap();
        assert_eq!(code.len(), 19);
        let user = UserId(1);
        let hash = recovery_hash(user, &code).unwrap();
        for same in [
            code.to_uppercase(),
            code.replace('-', ""),
            code.replace('-', " "),
        ] {
            assert_eq!(recovery_hash(user, &same), Some(hash));
        }
        assert_ne!(recovery_hash(UserId(2), &code), Some(hash));
        assert_ne!(code, new_recovery_code().unwrap());
        for none in ["", "123456", &code[1..], "abcd-efgh-ijkl-mno1"] {
            assert_eq!(recovery_hash(user, none), None, "{none}");
        }
    }
}
