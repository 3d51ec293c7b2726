//! What the server asks of the objects: reads, writes, executions.

use super::{Ended, Phase, received::Received, uri::UriError};
use crate::{
    coap::{Code, Message, option},
    device::object::uri::Uri,
    device::{
        Device, Outcome,
        resources::{Path, Reply, TEXT_PLAIN, TLV},
    },
    fault::{Fault, ObjectFault},
    object::{Character, UpdatesBy},
};

/// What a resource that can be written or executed is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Package,
    Uri,
    /// Update, or Install.
    Carry,
    Cancel,
    Uninstall,
    Activate,
    Deactivate,
}

impl Slot {
    const fn of(by: UpdatesBy, resource: u16) -> Option<Self> {
        Some(match (by, resource) {
            (UpdatesBy::Software, 2) => Self::Package,
            (UpdatesBy::Software, 3) => Self::Uri,
            (UpdatesBy::Software, 4) => Self::Carry,
            (UpdatesBy::Software, 6) => Self::Uninstall,
            (UpdatesBy::Software, 10) => Self::Activate,
            (UpdatesBy::Software, 11) => Self::Deactivate,
            (UpdatesBy::Software, _) => return None,
            (_, 0) => Self::Package,
            (_, 1) => Self::Uri,
            (_, 2) => Self::Carry,
            (_, 10) => Self::Cancel,
            _ => return None,
        })
    }
}

impl Device {
    /// What a request to object 3 or to one for upgrades is answered; nothing by a device that has fallen silent.
    pub(in crate::device) fn answer_object(
        &mut self,
        now_ms: u64,
        request: &Message<'_>,
        path: Path,
    ) -> Option<Reply> {
        let objects = self.object.as_deref()?;
        let code = |code| Some(Reply::code(code));
        if path[0] != Some(3) && path[0] != Some(objects.number) {
            return code(Code::NOT_FOUND);
        }
        if objects.silent {
            return None;
        }
        let by = objects.by;
        if request.code == Code::GET {
            return Some(match path[1] {
                Some(_) => self.read_or_observe(now_ms, request, path),
                None => Reply::code(Code::METHOD_NOT_ALLOWED),
            });
        }
        if request.code == Code::PUT
            && request.payload.is_empty()
            && let Some(attributes) = attributes(request)
        {
            return Some(self.take_attributes(now_ms, attributes));
        }
        let [_, Some(instance), Some(resource)] = path else {
            return code(Code::METHOD_NOT_ALLOWED);
        };
        let index = usize::from(instance);
        if path[0] == Some(3) || index >= objects.instances.len() {
            return code(Code::NOT_FOUND);
        }
        match (request.code, Slot::of(by, resource)) {
            (Code::PUT, Some(Slot::Package)) => self.take_package(now_ms, request, index),
            (Code::PUT, Some(Slot::Uri)) => Some(self.take_uri(now_ms, request, index)),
            (Code::POST, Some(Slot::Carry)) => code(self.carry_out(now_ms, index)),
            (Code::POST, Some(Slot::Cancel)) => code(self.cancel(by, index)),
            (Code::POST, Some(Slot::Uninstall)) => code(self.uninstall(request.payload, index)),
            (Code::POST, Some(Slot::Activate)) => code(self.activate(index, true)),
            (Code::POST, Some(Slot::Deactivate)) => code(self.activate(index, false)),
            _ => code(Code::METHOD_NOT_ALLOWED),
        }
    }

    fn take_attributes(&mut self, now_ms: u64, attributes: Attributes) -> Reply {
        if !self.spec.object.character.takes_attributes() {
            return Reply::code(Code::METHOD_NOT_ALLOWED);
        }
        if let Some(seconds) = attributes.pmax_s {
            self.tell_every(now_ms, (seconds > 0).then_some(seconds));
        }
        Reply::code(Code::CHANGED)
    }

    fn take_uri(&mut self, now_ms: u64, request: &Message<'_>, index: usize) -> Reply {
        let text = match request.uint(option::CONTENT_FORMAT) {
            None | Some(TEXT_PLAIN) => Some(request.payload),
            Some(TLV) => tlv_value(request.payload),
            Some(_) => return Reply::code(Code::UNSUPPORTED_CONTENT_FORMAT),
        };
        let Some(text) = text.and_then(|text| std::str::from_utf8(text).ok()) else {
            return Reply::code(Code::BAD_REQUEST);
        };
        let character = self.spec.object.character;
        if character == Character::Stub {
            self.falls_silent();
            return Reply::code(Code::CHANGED);
        }
        if text.is_empty() {
            return Reply::code(self.reset(index));
        }
        if character == Character::PushOnly || self.object_fault() == Some(ObjectFault::RefusesUri)
        {
            self.upgrade.outcome = Some(Outcome::Result(0));
            return Reply::code(Code::BAD_REQUEST);
        }
        if text.len() > character.longest_uri() {
            return Reply::code(Code::INTERNAL_SERVER_ERROR);
        }
        if !self.begins(index, character.restarts_with_uri(), None) {
            return Reply::code(Code::BAD_REQUEST);
        }
        if let Some(objects) = self.object.as_deref_mut() {
            text.clone_into(&mut objects.instances[index].uri);
        }
        if self.claims_success_with_nothing(index) {
            return Reply::code(Code::CHANGED);
        }
        let result = match (self.object_fault(), Uri::parse(text)) {
            (Some(ObjectFault::ReportsResult(result @ (7 | 9))), _) => Some(result),
            (_, Err(UriError::Invalid)) => Some(7),
            (_, Err(UriError::Protocol)) => Some(9),
            (_, Ok(uri)) if uri.to.secure && self.spec.psk.is_none() => Some(9),
            (_, Ok(uri)) => {
                self.begin_pull(now_ms, index, uri);
                None
            }
        };
        if let Some(result) = result {
            self.object_ends(index, Phase::Idle, Ended::With(result));
        }
        Reply::code(Code::CHANGED)
    }

    /// A package is told of, or pushed. Returns whether the instance takes it; then it is downloading.
    pub(super) fn begins(&mut self, index: usize, anew: bool, total: Option<u64>) -> bool {
        let stale = self.object_fault() == Some(ObjectFault::StaleSuccess);
        let Some(objects) = self.object.as_deref_mut() else {
            return false;
        };
        if objects.is_busy_beside(index) {
            return false;
        }
        let instance = &mut objects.instances[index];
        let again = anew && matches!(instance.phase, Phase::Downloading | Phase::Downloaded);
        if instance.installing || !(instance.is_free() || again) {
            return false;
        }
        instance.discard();
        instance.phase = Phase::Downloading;
        if !stale {
            instance.ended = Ended::Nothing;
        }
        instance.received = Some(Received::new(total));
        objects.pull = None;
        objects.due = None;
        objects.untold = false;
        self.upgrade.outcome = None;
        self.counters.notifications += 1;
        true
    }

    pub(super) fn claims_success_with_nothing(&mut self, index: usize) -> bool {
        if self.object_fault() != Some(ObjectFault::ClaimsSuccessWithNothing) {
            return false;
        }
        let software = self.spec.updates_by == UpdatesBy::Software;
        let phase = if software {
            Phase::Installed
        } else {
            Phase::Idle
        };
        self.object_ends(index, phase, Ended::Success);
        true
    }

    /// An empty URI, or a package of one byte that is 0 (OMA LwM2M Core 1.1 §E.6, resources 0 and 1).
    pub(super) fn reset(&mut self, index: usize) -> Code {
        let stale = self.object_fault() == Some(ObjectFault::StaleSuccess);
        let Some(objects) = self.object.as_deref_mut() else {
            return Code::NOT_FOUND;
        };
        let instance = &mut objects.instances[index];
        if instance.installing {
            return Code::BAD_REQUEST;
        }
        instance.uri.clear();
        if instance.phase == Phase::Installed {
            return Code::CHANGED;
        }
        instance.phase = Phase::Idle;
        if !stale {
            instance.ended = Ended::Nothing;
        }
        instance.discard();
        self.forget_pull(index);
        Code::CHANGED
    }

    /// Resource 10 of object 5.1.1 and of object 33629.
    fn cancel(&mut self, by: UpdatesBy, index: usize) -> Code {
        let has_it = by == UpdatesBy::Components || self.spec.object.character.has_cancel();
        let Some(objects) = self.object.as_deref() else {
            return Code::NOT_FOUND;
        };
        let instance = &objects.instances[index];
        let under_way = matches!(instance.phase, Phase::Downloading | Phase::Downloaded);
        if !has_it || !under_way || instance.installing {
            return Code::METHOD_NOT_ALLOWED;
        }
        self.forget_pull(index);
        self.object_ends(index, Phase::Idle, Ended::With(10));
        Code::CHANGED
    }

    /// Nothing more comes of what the device is told.
    pub(super) fn falls_silent(&mut self) {
        self.upgrade.outcome = Some(Outcome::WentSilent);
    }

    /// In how many blocks the fault strikes that strikes in mid-download, given the size of a block.
    pub(super) fn strikes_after(&self, total: Option<u64>, size: u16) -> Option<u64> {
        let images = &self.spec.object.images;
        let expected = (images.first()).and_then(|image| Some(image.content?.0));
        let total = total.or(expected).unwrap_or(2 * u64::from(size));
        let count = u16::try_from(total.div_ceil(u64::from(size))).unwrap_or(u16::MAX);
        match self.spec.fault? {
            Fault::Object(ObjectFault::ReportsResult(2 | 3 | 4 | 10)) => Some(u64::from(count / 2)),
            fault => fault.strikes_before(count).map(u64::from),
        }
    }
}

/// Attributes of notifications (OMA LwM2M Core 1.0 §5.1.2) that these devices act on.
#[derive(Debug, Clone, Copy)]
struct Attributes {
    pmax_s: Option<u32>,
}

/// None where the request writes none.
fn attributes(request: &Message<'_>) -> Option<Attributes> {
    let mut queries = request.values(option::URI_QUERY).peekable();
    queries.peek()?;
    let mut pmax_s = None;
    for query in queries {
        if let Some(value) = query.strip_prefix(b"pmax=") {
            pmax_s = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
        }
    }
    Some(Attributes { pmax_s })
}

/// The value of the one resource in a TLV (OMA LwM2M Core 1.0 §6.4.3).
fn tlv_value(bytes: &[u8]) -> Option<&[u8]> {
    let (&kind, rest) = bytes.split_first()?;
    if kind >> 6 != 3 {
        return None;
    }
    let rest = rest.get(1 + usize::from(kind >> 5 & 1)..)?;
    let (len, value) = match (kind >> 3 & 3, rest) {
        (0, value) => (usize::from(kind & 7), value),
        (1, [len, value @ ..]) => (usize::from(*len), value),
        (2, [high, low, value @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), value),
        _ => return None,
    };
    (value.len() == len).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_may_come_as_tlv() {
        assert_eq!(tlv_value(&[0xC3, 1, b'a', b'b', b'c']), Some(&b"abc"[..]));
        assert_eq!(tlv_value(&[0xC0, 1]), Some(&b""[..]));
        let long = [&[0xC8, 1, 9][..], b"123456789"].concat();
        assert_eq!(tlv_value(&long), Some(&b"123456789"[..]));
        for wrong in [
            &b""[..],
            &[0xC3, 1, b'a'],
            &[0x83, 1, 1, 2, 3],
            &[0xD8, 1, 0],
        ] {
            assert_eq!(tlv_value(wrong), None, "{wrong:?}");
        }
    }
}
