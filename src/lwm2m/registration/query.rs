use super::RegisterError;

/// LwM2M defines fewer than ten.
const MAX_PARAMETERS: usize = 32;

/// The parameters that matter, as they came. Others are left alone, as CoAP asks of a server that
/// gets more than it knows.
#[derive(Debug, Default)]
pub(super) struct Parameters<'a> {
    pub(super) endpoint: Option<&'a [u8]>,
    pub(super) lifetime_s: Option<&'a [u8]>,
    pub(super) version: Option<&'a [u8]>,
    pub(super) binding: Option<&'a [u8]>,
    queue: Option<&'a [u8]>,
}

impl<'a> Parameters<'a> {
    pub(super) fn read(queries: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, RegisterError> {
        let mut read = Self::default();
        for (index, query) in queries.into_iter().enumerate() {
            if index == MAX_PARAMETERS {
                return Err(RegisterError::TooManyParameters);
            }
            let (name, value) = split(query);
            let (slot, name) = match name {
                b"ep" => (&mut read.endpoint, "ep"),
                b"lt" => (&mut read.lifetime_s, "lt"),
                b"lwm2m" => (&mut read.version, "lwm2m"),
                b"b" => (&mut read.binding, "b"),
                b"Q" => (&mut read.queue, "Q"),
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(RegisterError::Repeated(name));
            }
        }
        Ok(read)
    }

    /// LwM2M 1.0 writes queue mode into the binding (`UQ`), 1.1 has a parameter without value.
    pub(super) fn queue_mode(&self) -> Option<bool> {
        if self.queue.is_some() {
            return Some(true);
        }
        self.binding.map(|binding| binding.contains(&b'Q'))
    }
}

fn split(query: &[u8]) -> (&[u8], &[u8]) {
    match query.iter().position(|byte| *byte == b'=') {
        Some(at) => (&query[..at], &query[at + 1..]),
        None => (query, &[]),
    }
}
