//! Content formats: which one a device is asked for, which one it is written to in, what it has refused of that, and
//! what it wraps its frames in.
//!
//! Everything that devices write is read, whatever was asked for. Object 19 is asked for as it is, in
//! application/octet-stream, which clients have to support (LwM2M 1.1 Core §7.4); Huawei's own stack (`agent_tiny`)
//! answers so in any case. Accept is critical (RFC 7252 §5.10.4), so whoever answers that he cannot is asked again
//! without, and so is from then on. That is also what becomes of a resource with instances, which nothing can write in
//! that format. A device that refuses to be written to in it is written to as it writes itself.

use bytes::Bytes;

use super::{Engine, asked::Tag, device_formats::Formats, key::DeviceKey, link::below};
use crate::{
    coap::{Code, ContentFormat, Datagram, Kind, Message, MessageBuilder, Token, put_downlink},
    ledger::{Fate, Form, Happened, Inbound, Repeated},
    lwm2m::{Container, ResourcePath, Wrapping, accept_for, format, opaque_of},
    upgrade::Input,
};

/// Whether an answer may mean that the content format is the trouble. 4.02, 4.06 and 4.15 say so. Stacks in the field
/// answer 5.00 (Wakaama) or 5.01 where a resource has no form in the format, and 4.00 where they do not expect the
/// option.
const fn is_about_format(code: Code) -> bool {
    matches!(
        code,
        Code::BAD_REQUEST
            | Code::BAD_OPTION
            | Code::NOT_ACCEPTABLE
            | Code::UNSUPPORTED_CONTENT_FORMAT
            | Code::INTERNAL_SERVER_ERROR
            | Code::NOT_IMPLEMENTED
    )
}

/// The frame that a request writes, and what it is wrapped in.
fn written(request: &Datagram) -> Option<(Option<Wrapping>, Bytes)> {
    // a bare one stands alone in the second part of its datagram
    if pcp::is_pcp(request.body()) {
        return Some((None, request.body().clone()));
    }
    let bytes = request.to_bytes();
    let message = Message::parse(&bytes).ok()?;
    let format = message
        .content_format()
        .filter(|_| message.code() == Code::PUT)?;
    let opaque = opaque_of(Some(format.0), &ResourcePath::DOWNLINK, message.payload()).ok()?;
    let frame = opaque.values.first()?;
    Some((opaque.wrapping, Bytes::copy_from_slice(frame)))
}

/// The form of a write, for the timeline.
fn form(wrapping: Option<Wrapping>) -> Form {
    Form {
        format: wrapping.map_or(format::OPAQUE, |it| it.container.format()),
        instance: wrapping.is_some_and(|it| it.multiple),
    }
}

impl Engine {
    /// In which format the device is asked for its uplink.
    pub(super) fn accept_of_observation(&self, key: DeviceKey) -> Option<ContentFormat> {
        let device = self.device(key);
        // Whoever names no version of LwM2M is no such stack, and may know no more options than it needs.
        let asked = device.lwm2m_version().is_some() && !device.formats.has(Formats::OBSERVES_ANY);
        asked.then_some(ContentFormat::OCTET_STREAM)
    }

    /// In which format the device is asked for a resource of object 4, or for all of it.
    pub(super) fn accept_of_read(
        &self,
        key: DeviceKey,
        path: &ResourcePath,
    ) -> Option<ContentFormat> {
        if self.device(key).formats.has(Formats::READS_ANY) {
            return None;
        }
        accept_for(self.device(key).lwm2m_version(), path).map(ContentFormat)
    }

    /// The observation was refused: with that code, or without a word. Whether it is made again, without asking for a
    /// format.
    pub(super) fn observes_without_format(&mut self, key: DeviceKey, code: Option<Code>) -> bool {
        let Some(format) = self.accept_of_observation(key) else {
            return false;
        };
        if code.is_some_and(|code| !is_about_format(code)) {
            return false;
        }
        (self.device_mut(key).formats).set(Formats::OBSERVES_ANY, true);
        let refused = Happened::ObservationFormatRefused {
            format: format.0,
            answer: code.map(|code| code.to_string()),
        };
        self.note(key, refused.into());
        true
    }

    /// Nothing came back to the observation: the next one asks for no format, in case that the device ignores what
    /// it does not understand.
    pub(super) fn observation_unanswered(&mut self, key: DeviceKey) {
        (self.device_mut(key).formats).set(Formats::OBSERVES_ANY, true);
    }

    /// A read was refused with that code. Whether it is to be put again, without asking for a format.
    pub(super) fn reads_without_format(
        &mut self,
        key: DeviceKey,
        path: &ResourcePath,
        code: Code,
    ) -> bool {
        let Some(format) = self
            .accept_of_read(key, path)
            .filter(|_| is_about_format(code))
        else {
            return false;
        };
        self.device_mut(key).formats.set(Formats::READS_ANY, true);
        let refused = Happened::ReadFormatRefused {
            path: path.to_string(),
            format: format.0,
            answer: code.to_string(),
        };
        self.note(key, refused.into());
        true
    }

    /// The message that carries a frame to the device.
    pub(super) fn write(
        &self,
        key: DeviceKey,
        message_id: u16,
        token: Token,
        frame: Bytes,
    ) -> Datagram {
        let device = self.device(key);
        let wrapped = device.formats.has(Formats::TAKES_WRAPPED);
        if !wrapped && device.root().next().is_none() {
            return put_downlink(message_id, token, frame);
        }
        let path = ResourcePath::DOWNLINK;
        let put = MessageBuilder::new(Kind::Confirmable, Code::PUT, message_id, token);
        let put = below(device, put, path);
        if !wrapped {
            let put = put.content_format(ContentFormat::OCTET_STREAM);
            return put.build_around(frame);
        }
        let wrapping = device.formats.wrapping(device.lwm2m_version());
        put.content_format(ContentFormat(wrapping.container.format()))
            .payload(wrapping.wrap(&path, &frame))
            .build()
            .into()
    }

    /// The device refused a write with that code. Whether it is written to again at once, in another format: its own
    /// one, then as an instance of its resource.
    pub(super) fn writes_in_own_format(
        &mut self,
        key: DeviceKey,
        tag: Tag,
        code: Code,
        request: &Datagram,
    ) -> bool {
        let before = self.device(key).formats;
        // where it says less clearly what it means, what it writes itself is worth trying
        let about_format = code == Code::UNSUPPORTED_CONTENT_FORMAT
            || before.own.is_some() && (is_about_format(code) || code == Code::METHOD_NOT_ALLOWED);
        let Some((refused, frame)) = written(request).filter(|_| about_format) else {
            return false;
        };
        let next = match refused {
            None => Some(before.wrapping(self.device(key).lwm2m_version())),
            Some(wrapping) => wrapping.of_instance(),
        };
        let formats = &mut self.device_mut(key).formats;
        formats.set(Formats::TAKES_WRAPPED, next.is_some());
        let instances = next.is_some_and(|next| next.multiple);
        formats.set(Formats::TAKES_INSTANCES, instances);
        if next.is_none() {
            return false; // in none of them: the next write begins anew
        }
        if *formats != before {
            self.note_once(key, Repeated::Write, || Happened::WriteFormRefused {
                answer: code.to_string(),
                refused: form(refused),
                next: form(next),
            });
        }
        let answer = code.to_string();
        self.fared(key, tag, Fate::Refused { answer });
        self.send_frame_first(key, tag, frame);
        true
    }

    /// The label of what carries no bytes: it may be all that is known when the first write is refused.
    pub(super) fn label_seen(&mut self, key: DeviceKey, content_format: Option<u16>) {
        let formats = &mut self.device_mut(key).formats;
        if formats.own.is_none() {
            formats.own = content_format.and_then(Container::of);
        }
    }

    /// What the device has put into the resource that is observed, in that content format.
    pub(super) fn content_received(
        &mut self,
        key: DeviceKey,
        content_format: Option<u16>,
        payload: &[u8],
    ) {
        if payload.is_empty() {
            self.label_seen(key, content_format);
            return self.fire(key, Input::Heard);
        }
        // In none of the formats a payload begins so.
        if pcp::is_pcp(payload) {
            return self.bytes_received(key, payload);
        }
        let Ok(opaque) = opaque_of(content_format, &ResourcePath::UPLINK, payload) else {
            return self.service_data(key);
        };
        // what names no format may look like one by accident
        let is_meant = content_format.is_some() || opaque.values.iter().any(|v| pcp::is_pcp(v));
        if let Some(wrapping) = opaque.wrapping.filter(|_| is_meant) {
            self.device_mut(key).formats.learn(wrapping);
        }
        if opaque.values.is_empty() {
            return self.service_data(key); // of other resources, or no content of LwM2M at all
        }
        for value in &opaque.values {
            self.bytes_received(key, value);
        }
    }

    /// A frame, several, the device's own data, or nothing.
    pub(super) fn bytes_received(&mut self, key: DeviceKey, bytes: &[u8]) {
        if bytes.is_empty() {
            return self.fire(key, Input::Heard);
        }
        if !pcp::is_pcp(bytes) {
            return self.service_data(key);
        }
        // PCP speaks for itself: the repeat of an earlier report does not show that a device is back from its reboot.
        for frame in pcp::frames(bytes) {
            self.uplink(key, frame);
        }
    }

    fn service_data(&mut self, key: DeviceKey) {
        self.counters.service_data += 1;
        self.said(key, Inbound::ServiceData);
        self.fire(key, Input::Heard);
    }
}
