//! What a device with `QuecThing` publishes about upgrades. The low bit of the first byte says how frames are checked; the rest is the
//! payload as it is, and the fields of a frame that is right.

use cellwise::{
    config::QuecChecksum,
    mqtt::quecthing::{
        self,
        frame::{self, Frame},
        ttlv::{self, Field, Value},
    },
};

/// Reads it, and looks whether it comes back.
pub fn run(input: &[u8]) {
    let Some((first, payload)) = input.split_first() else {
        return;
    };
    let checksum = if first & 1 == 0 {
        QuecChecksum::Sum
    } else {
        QuecChecksum::Crc8
    };
    let _ = quecthing::read(payload, checksum);
    if let Ok(frames) = frame::read(payload, checksum) {
        assert!((1..=frame::MAX_FRAMES).contains(&frames.len()));
        for frame in frames {
            comes_back(frame, checksum);
        }
    }
    let short = &payload[..payload.len().min(4_096)];
    for command in [0x0114, 0x0115] {
        let frame = Frame {
            packet_id: 1,
            command,
            payload: short.to_vec(),
        };
        let read = quecthing::read(&frame.to_bytes(checksum), checksum);
        assert!(read.is_err() || ttlv::read(short).is_ok());
        comes_back(frame, checksum);
    }
    if let Ok(fields) = ttlv::read(payload) {
        assert!(count(&fields, 0) <= ttlv::MAX_FIELDS, "fields are bounded");
        assert_eq!(ttlv::read(&ttlv::write(&fields)), Ok(fields));
    }
}

fn comes_back(frame: Frame, checksum: QuecChecksum) {
    let bytes = frame.to_bytes(checksum);
    let doubled = bytes[2..].windows(2).any(|pair| pair == [0xAA, 0xAA]);
    assert!(!doubled, "a mark begins a frame and nothing else does");
    // longer than what is read, where each byte of it is escaped
    if bytes.len() <= frame::MAX_BYTES {
        assert_eq!(frame::read(&bytes, checksum), Ok(vec![frame]));
    }
}

fn count(fields: &[Field], depth: usize) -> usize {
    assert!(depth <= ttlv::MAX_DEPTH, "structs are bounded");
    let within = fields.iter().map(|field| match &field.value {
        Value::Struct(within) => count(within, depth + 1),
        Value::Bool(_) | Value::Number { .. } | Value::Bytes(_) => 0,
    });
    fields.len() + within.sum::<usize>()
}
