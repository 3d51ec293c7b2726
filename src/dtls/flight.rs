use super::{
    cid::Ids,
    keys::Keys,
    protect,
    record::{self, DTLS_1_2},
};

/// One record of a flight, as it is before it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    sealed: bool,
    kind: u8,
    content: Vec<u8>,
}

/// What was said at once in a handshake and may have to be said again: records are numbered and sealed anew for each
/// transmission (RFC 6347 §4.2.4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Flight(Vec<Part>);

/// The numbers of the next records that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Numbers {
    /// In the clear. The first is the library's, which follows from the `ClientHello`'s (RFC 6347 §4.2.1).
    clear: Option<u64>,
    pub(super) sealed: u64,
}

impl Numbers {
    /// Records of the epoch under a key end before this (RFC 6347 §4.1).
    pub(super) const END: u64 = 1 << 48;

    /// The number of the next record under the key.
    pub(super) fn take_sealed(&mut self) -> Option<u64> {
        let number = self.sealed;
        (number < Self::END).then(|| {
            self.sealed += 1;
            number
        })
    }
}

impl Flight {
    /// Adds what OpenSSL has written. It has sealed its records under `keys`, with numbers and nonces that are not used.
    pub(super) fn gather(
        &mut self,
        datagrams: &[Vec<u8>],
        keys: Option<&Keys>,
        numbers: &mut Numbers,
    ) {
        for record in datagrams.iter().flat_map(|bytes| record::records(bytes)) {
            if record.epoch == 0 {
                numbers.clear.get_or_insert(record.number());
                self.add(false, record.kind, record.content.to_vec());
            } else if let Some(keys) = keys
                && let Some(opened) = protect::open(keys.suite, &keys.server, &record)
            {
                self.add(true, opened.kind, opened.content);
            }
        }
    }

    fn add(&mut self, sealed: bool, kind: u8, content: Vec<u8>) {
        self.0.push(Part {
            sealed,
            kind,
            content,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The datagrams of another transmission, each as long as it may be.
    pub(super) fn transmit(
        &self,
        keys: Option<&Keys>,
        ids: Option<&Ids>,
        numbers: &mut Numbers,
        max_len: usize,
    ) -> Vec<Vec<u8>> {
        let mut datagrams: Vec<Vec<u8>> = Vec::new();
        for part in &self.0 {
            let record = if part.sealed {
                let id = ids.map_or(&[][..], |ids| &ids.peer);
                let sealed = keys.zip(numbers.take_sealed()).and_then(|(keys, number)| {
                    protect::seal(
                        keys.suite,
                        &keys.server,
                        number,
                        part.kind,
                        &part.content,
                        id,
                    )
                });
                let Some(sealed) = sealed else { continue };
                sealed
            } else {
                clear(part.kind, &part.content, &mut numbers.clear)
            };
            match datagrams.last_mut() {
                Some(last) if last.len() + record.len() <= max_len => last.extend(record),
                _ => datagrams.push(record),
            }
        }
        datagrams
    }
}

fn clear(kind: u8, content: &[u8], next: &mut Option<u64>) -> Vec<u8> {
    let number = next.get_or_insert(0);
    let mut record = Vec::with_capacity(record::RECORD_HEADER_LEN + content.len());
    record.push(kind);
    record.extend(DTLS_1_2);
    record.extend(number.to_be_bytes());
    // it came out of a record
    record.extend(u16::try_from(content.len()).unwrap_or(0).to_be_bytes());
    record.extend(content);
    *number += 1;
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtls::keys::Suite;

    #[test]
    fn each_transmission_has_new_numbers_and_short_datagrams() {
        let keys = Keys::derive(Suite::Gcm, &[1; 48], &[2; 32], &[3; 32]);
        let ids = Ids {
            own: [0; 8],
            peer: vec![9; 32].into(),
        };
        let mut numbers = Numbers {
            clear: Some(7),
            sealed: 0,
        };
        let mut flight = Flight::default();
        flight.add(false, 22, vec![1; 100]);
        flight.add(false, 20, vec![1]);
        flight.add(true, 22, vec![2; 24]);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 {
            let datagrams = flight.transmit(Some(&keys), Some(&ids), &mut numbers, 150);
            assert_eq!(datagrams.len(), 2);
            assert!(datagrams.iter().all(|bytes| bytes.len() <= 150));
            assert_eq!(datagrams[1][0], record::TLS12_CID);
            // the client's ID is longer than ours
            assert!(seen.insert(datagrams[1][3..11].to_vec()));
            for record in record::records(&datagrams[0]) {
                assert!(seen.insert(record.number().to_be_bytes().to_vec()));
            }
        }
        assert_eq!((numbers.clear, numbers.sealed), (Some(13), 3));
    }

    #[test]
    fn numbers_end() {
        let mut numbers = Numbers {
            clear: None,
            sealed: Numbers::END - 1,
        };
        assert_eq!(numbers.take_sealed(), Some(Numbers::END - 1));
        assert_eq!(numbers.take_sealed(), None);
    }
}
