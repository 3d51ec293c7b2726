//! Where packets begin and end: the fixed header (MQTT 5 §2.1). The codec could tell, too, but reserves the memory that a
//! header announces before the bytes are there.

/// A packet's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes of the fixed header.
    pub(super) header: usize,
    /// Bytes of the whole packet.
    pub(super) len: usize,
    /// Whether the length is written in as few bytes as can be, as MQTT 5 §1.5.5 wants it.
    pub(super) minimal: bool,
}

/// The length goes on in a fifth byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// The packet that `bytes` begin with; `None` where even its header is not complete.
pub(super) fn frame(bytes: &[u8]) -> Result<Option<Frame>, TooLong> {
    let Some(lengths) = bytes.get(1..) else {
        return Ok(None);
    };
    Ok(variable(lengths)?.map(|(value, used)| Frame {
        header: 1 + used,
        len: 1 + used + value,
        minimal: used == 1 || lengths.get(used - 1) != Some(&0),
    }))
}

/// A variable byte integer (MQTT 5 §1.5.5), and how many bytes it has.
pub(super) fn variable(bytes: &[u8]) -> Result<Option<(usize, usize)>, TooLong> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        Err(TooLong)
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_length_are_read() {
        let of = |bytes: &[u8]| frame(bytes).map(|it| it.map(|it| (it.header, it.len, it.minimal)));
        assert_eq!(of(b""), Ok(None));
        assert_eq!(of(b"\xc0"), Ok(None));
        assert_eq!(of(b"\xc0\x00"), Ok(Some((2, 2, true))));
        assert_eq!(of(b"\x30\x7f"), Ok(Some((2, 129, true))));
        assert_eq!(of(b"\x30\x80"), Ok(None));
        assert_eq!(of(b"\x30\x80\x01"), Ok(Some((3, 131, true))));
        assert_eq!(
            of(b"\x30\xff\xff\xff\x7f"),
            Ok(Some((5, 268_435_460, true)))
        );
        assert_eq!(of(b"\x30\xff\xff\xff\x80"), Err(TooLong));
        assert_eq!(of(b"\x30\x80\x80\x80"), Ok(None));
        // longer than it has to be
        assert_eq!(of(b"\xc0\x80\x00"), Ok(Some((3, 3, false))));
        assert_eq!(of(b"\xc0\x81\x80\x80\x00"), Ok(Some((5, 6, false))));
    }
}
