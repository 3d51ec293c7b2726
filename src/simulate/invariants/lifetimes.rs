//! The lifetimes that devices are given for their appointments.

use sim::coap::{Message, option};

use super::{Invariants, Rule};

/// The path of the lifetime of a registration.
const LIFETIME: [&[u8]; 3] = [b"1", b"0", b"1"];

impl Invariants {
    /// A write leaves for a device. Of that of its lifetime the store knows what is written, and what was there.
    pub(super) fn lifetime_leaves(&mut self, now_ms: u64, device: usize, message: &Message<'_>) {
        if !message.values(option::URI_PATH).eq(LIFETIME) {
            return;
        }
        let stored = (self.subjects.get(device)).and_then(|subject| subject.appointment.as_deref());
        let written = stored.map(|stored| stored.written_s);
        let told = value(message.payload);
        // Of one that was sent again the device may have said meanwhile that it has its own.
        if told.is_none() || written.is_some_and(|written| Some(written) != told) {
            self.violated(now_ms, Rule::Lifetime, || {
                format!(
                    "device {device} is written the lifetime {told:?}, and {written:?} is committed"
                )
            });
        }
    }

    /// At the end: a device that `has` another lifetime than its `own` is known to, and has it no more when it was heard some
    /// time after its upgrade's end.
    pub(in super::super) fn lifetime_at_end(
        &mut self,
        now_ms: u64,
        device: usize,
        (has, own): (u32, u32),
        speaks_within_ms: u64,
    ) {
        let Some(subject) = self.subjects.get(device).filter(|_| has != own) else {
            return;
        };
        let upgrade = subject.upgrade.0;
        let stored = subject.appointment.as_deref();
        if stored.is_none_or(|stored| stored.usual_s != own) {
            let stored = stored.copied();
            self.violated(now_ms, Rule::Lifetime, || {
                format!("{upgrade}: has the lifetime {has} instead of {own}, and the store knows {stored:?}")
            });
        }
        let Some(ended_ms) = self.subjects[device].over_ms else {
            return;
        };
        let since_ms = now_ms.saturating_sub(ended_ms);
        if since_ms > speaks_within_ms {
            self.violated(now_ms, Rule::Lifetime, || {
                format!(
                    "{upgrade}: has the lifetime {has} instead of {own}, {} min after its end",
                    since_ms / 60_000
                )
            });
        }
    }
}

/// Plain text, or the value of an entry of TLV.
fn value(payload: &[u8]) -> Option<u32> {
    if let [0xC4, 1, value @ ..] = payload {
        return value.try_into().ok().map(u32::from_be_bytes);
    }
    std::str::from_utf8(payload).ok()?.parse().ok()
}
