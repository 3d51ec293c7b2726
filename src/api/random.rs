//! What nobody guesses.

use super::problem::Problem;

/// Bytes that nobody guesses.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut random = [0; N];
    getrandom::fill(&mut random)
        .map_err(|error| Problem::internal(&std::io::Error::other(error)))?;
    Ok(random)
}
