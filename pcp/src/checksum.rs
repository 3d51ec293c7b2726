/// The usual MSB-first table of the polynomial x^16 + x^12 + x^5 + 1, and what becomes of its values when
/// one to seven zero bytes follow: eight bytes can be taken in at once, because the update is linear.
static TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [table(); 8];
    let mut zeros = 1;
    while zeros < tables.len() {
        let mut index = 0;
        while index < 256 {
            let before = tables[zeros - 1][index];
            tables[zeros][index] = (before >> 8) ^ tables[0][(before & 0x00FF) as usize];
            index += 1;
        }
        zeros += 1;
    }
    tables
}

#[allow(clippy::cast_possible_truncation)] // the index stays below 256
const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut remainder = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = remainder & 0x8000 != 0;
            remainder <<= 1;
            if carry {
                remainder ^= 0x1021;
            }
            bit += 1;
        }
        table[index] = remainder;
        index += 1;
    }
    table
}

/// PCP's check code, computed piece by piece.
///
/// The protocol text calls it CRC16/CCITT. What devices compute is a hybrid that no catalogue lists:
/// the MSB-first table of polynomial 0x1021 driven by the LSB-first update, starting at 0. It is also
/// what the versionCheckCode of a package is made with, over the package's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checksum(u16);

impl Checksum {
    /// The check code of nothing.
    pub const fn new() -> Self {
        Self(0)
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        let crc = eights.iter().fold(self.0, |crc, eight| {
            let [low, high] = crc.to_le_bytes();
            let mut eight = *eight;
            eight[0] ^= low;
            eight[1] ^= high;
            (TABLES.iter().rev().zip(eight))
                .fold(0, |sum, (table, byte)| sum ^ table[usize::from(byte)])
        });
        self.0 = rest.iter().fold(crc, |crc, byte| {
            (crc >> 8) ^ TABLES[0][usize::from((crc ^ u16::from(*byte)) & 0x00FF)]
        });
    }

    /// The check code of all bytes so far.
    pub const fn finish(&self) -> u16 {
        self.0
    }
}

/// PCP's check code of `bytes`; see [`Checksum`].
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut checksum = Checksum::new();
    checksum.update(bytes);
    checksum.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_the_table_of_polynomial_1021() {
        assert_eq!(TABLES[0][0], 0);
        assert_eq!(TABLES[0][1], 0x1021);
        assert_eq!(TABLES[0][255], 0x1EF0);
    }

    #[test]
    fn pieces_add_up_to_the_whole() {
        let bytes: std::vec::Vec<u8> = (0..=255).collect();
        let mut pieces = Checksum::new();
        for piece in bytes.chunks(7) {
            pieces.update(piece);
        }
        assert_eq!(pieces.finish(), checksum(&bytes));
    }

    #[test]
    fn eight_bytes_at_once_are_the_same_as_one_by_one() {
        let bytes: std::vec::Vec<u8> = (0..509u32).map(|i| (i * 7 % 251) as u8).collect();
        for len in 0..bytes.len() {
            let mut single = Checksum::new();
            for byte in &bytes[..len] {
                single.update(&[*byte]);
            }
            assert_eq!(single.finish(), checksum(&bytes[..len]), "{len} bytes");
        }
    }

    /// The recurrence is not invertible (the table's high bytes repeat), so that an error is never
    /// lost on the way to the end of a frame must be seen, not assumed.
    #[test]
    fn a_single_bit_error_survives_the_longest_frame() {
        for bit in 0..8 {
            let mut difference = Checksum::new();
            difference.update(&[1 << bit]);
            for _ in 0..=usize::from(u16::MAX) + crate::HEADER_LEN {
                assert_ne!(difference.finish(), 0, "bit {bit}");
                difference.update(&[0]);
            }
        }
    }
}
