//! The value of a Block option (RFC 7959 §2.2): which block, of which size, and whether more follow.

/// The largest exponent of a size: 1024 bytes. 7 is reserved.
const MAX_EXPONENT: u8 = 6;

/// One block of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Its number, below 2^20.
    pub number: u32,
    /// Whether more blocks follow.
    pub more: bool,
    exponent: u8,
}

impl Block {
    /// The block of `size` bytes (rounded down to a power of two, 16 to 1024) that begins at `offset`; `None` where its
    /// number does not fit, or none begins there.
    pub fn at(offset: u64, size: u16, more: bool) -> Option<Self> {
        let exponent = u8::try_from(size.max(16).ilog2() - 4).unwrap_or(0);
        let exponent = exponent.min(MAX_EXPONENT);
        let number = u32::try_from(offset >> (exponent + 4)).ok()?;
        let block = Self {
            number,
            more,
            exponent,
        };
        (number < 1 << 20 && block.offset() == offset).then_some(block)
    }

    /// Reads an option's value.
    pub fn from_value(value: u32) -> Option<Self> {
        let [exponent, ..] = (value & 7).to_le_bytes();
        (exponent <= MAX_EXPONENT && value < 1 << 24).then_some(Self {
            number: value >> 4,
            more: value & 8 != 0,
            exponent,
        })
    }

    /// The option's value.
    pub fn value(self) -> u32 {
        self.number << 4 | u32::from(self.more) << 3 | u32::from(self.exponent)
    }

    /// Bytes of each block but the last.
    pub const fn size(self) -> u16 {
        1 << (self.exponent + 4)
    }

    /// Where in the body it begins.
    pub fn offset(self) -> u64 {
        u64::from(self.number) << (self.exponent + 4)
    }

    /// The same with another size, as an answer that asks for smaller blocks has it (RFC 7959 §2.3).
    #[must_use]
    pub fn with_size(self, size: u16) -> Self {
        Self {
            exponent: Self::at(0, size, false).map_or(0, |block| block.exponent),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_back_as_they_are_written() {
        for (number, more, size) in [(0, true, 16), (3, false, 1024), (0xF_FFFF, true, 64)] {
            let offset = u64::from(number) * u64::from(size);
            let block = Block::at(offset, size, more).unwrap();
            assert_eq!((block.number, block.size()), (number, size));
            assert_eq!(Block::from_value(block.value()), Some(block));
            assert_eq!(block.offset(), offset);
        }
        assert_eq!(Block::from_value(7), None, "reserved");
        assert_eq!(Block::at(100, 64, false), None, "none begins there");
        assert_eq!(Block::at(1 << 30, 64, false), None, "too high a number");
        let smaller = Block::at(0, 1024, true).unwrap().with_size(128);
        assert_eq!((smaller.number, smaller.size()), (0, 128));
    }
}
