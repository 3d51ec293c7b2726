use thiserror::Error;

/// A text that is no name of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a component's name has 1 to 64 characters, no control characters, and no space at its beginning or end"
)]
pub struct ComponentError;

/// Checks the name of a component of a device, or of a software in it.
///
/// # Errors
/// It is none.
pub fn check_component(name: &str) -> Result<(), ComponentError> {
    let fits = (1..=64).contains(&name.chars().count())
        && !name.chars().any(char::is_control)
        && name.trim() == name;
    if fits { Ok(()) } else { Err(ComponentError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_has_a_name_that_can_be_shown() {
        let longest = "\u{e4}".repeat(64);
        for name in ["modem", "a b", "/33629/0", &longest] {
            assert_eq!(check_component(name), Ok(()), "{name}");
        }
        let longer = longest.clone() + "a";
        for name in ["", " ", " a", "a ", "a\n", "a\u{0}b", "\u{85}", &longer] {
            assert_eq!(check_component(name), Err(ComponentError), "{name:?}");
        }
    }
}
