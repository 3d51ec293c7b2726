use std::fmt;

/// The transports over which a device says that it can be reached (`b=`, LwM2M 1.0 §5.3.1.1, 1.2 §6.2.1.2). UDP where it
/// names none that is known. Queue mode, which 1.0 writes into the same parameter, is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding(u8);

/// UDP, MQTT, HTTP, TCP, SMS, Non-IP: a bit each, in the standard's order.
const TRANSPORTS: [u8; 6] = *b"UMHTSN";

impl Binding {
    /// Reads the parameter's value; letters that mean nothing are passed over.
    pub fn parse(value: &[u8]) -> Self {
        let bits = (0..)
            .zip(TRANSPORTS)
            .filter(|(_, letter)| value.contains(letter));
        Some(bits.fold(0, |all, (bit, _)| all | 1 << bit))
            .filter(|bits| *bits != 0)
            .map_or_else(Self::default, Self)
    }
}

impl Default for Binding {
    fn default() -> Self {
        Self(1)
    }
}

/// As registrations write it: `U`, `US`.
impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = (0..)
            .zip(TRANSPORTS)
            .filter(|(bit, _)| self.0 >> bit & 1 == 1);
        named
            .into_iter()
            .try_for_each(|(_, letter)| write!(f, "{}", char::from(letter)))
    }
}
