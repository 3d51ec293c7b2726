use thiserror::Error;

/// Bytes in the longest endpoint name.
pub const MAX_ENDPOINT_LEN: usize = 128;

/// Why a name cannot be a device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// No character, or too many.
    #[error("an endpoint name has 1 to {MAX_ENDPOINT_LEN} characters, this one has {0}")]
    Length(usize),
    /// A character that is not allowed.
    #[error(
        "{0:?} is not possible in an endpoint name; A-Z a-z 0-9 - . _ ~ : @ ! $ ' ( ) * + , ; = are"
    )]
    Character(char),
    /// `.` or `..`.
    #[error(
        "\".\" and \"..\" cannot be endpoint names: they would stand for a directory in the path of a URL"
    )]
    Dots,
}

/// Checks the name of a device, the same where it registers and where an operator adds it: 1 to [`MAX_ENDPOINT_LEN`] of
/// the characters that stand in a path, in a query and in a log line as they are.
///
/// # Errors
/// What is wrong with the name.
pub fn check_endpoint(name: &[u8]) -> Result<&str, EndpointError> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:@!$'()*+,;=".contains(byte);
    if !(1..=MAX_ENDPOINT_LEN).contains(&name.len()) {
        return Err(EndpointError::Length(name.len()));
    }
    // clients take these out of paths (RFC 3986 §6.2.2.3)
    if matches!(name, b"." | b"..") {
        return Err(EndpointError::Dots);
    }
    let text = String::from_utf8_lossy(name);
    let wrong = |c: &char| !u8::try_from(*c).is_ok_and(|byte| allowed(&byte));
    match (text.chars().find(wrong), std::str::from_utf8(name)) {
        (None, Ok(name)) => Ok(name),
        (wrong, _) => Err(EndpointError::Character(
            wrong.unwrap_or(char::REPLACEMENT_CHARACTER),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_paths_and_queries_as_they_are() {
        let longest = "x".repeat(MAX_ENDPOINT_LEN);
        for name in [
            "a",
            "urn:imei:860000000000001",
            "a=b",
            "...",
            ".a",
            "it's(*);",
            &longest,
        ] {
            assert_eq!(check_endpoint(name.as_bytes()), Ok(name));
        }
        for byte in (0..=255_u8).filter(|byte| !byte.is_ascii_alphanumeric()) {
            let fine = b"-_~:@!$'()*+,;=".contains(&byte);
            if byte != b'.' {
                assert_eq!(check_endpoint(&[byte]).is_ok(), fine, "{byte}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_told() {
        let longer = "x".repeat(MAX_ENDPOINT_LEN + 1);
        for (name, error) in [
            ("", EndpointError::Length(0)),
            (&*longer, EndpointError::Length(129)),
            (".", EndpointError::Dots),
            ("..", EndpointError::Dots),
            ("a/b", EndpointError::Character('/')),
            ("a&b", EndpointError::Character('&')),
            ("aéb", EndpointError::Character('é')),
        ] {
            assert_eq!(check_endpoint(name.as_bytes()), Err(error), "{name}");
        }
        let foreign = check_endpoint(b"a\xff").unwrap_err();
        assert_eq!(foreign, EndpointError::Character('\u{fffd}'));
    }
}
