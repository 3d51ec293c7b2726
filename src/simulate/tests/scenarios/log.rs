use std::{cell::RefCell, collections::HashMap, rc::Rc};

use sim::coap::{Code, Message, MessageType};

use crate::{
    engine::Seq,
    ledger::{Change, Outcome},
    shard::Outgoing,
    simulate::{hooks::Hooks, trace::Way},
    wording,
};

/// A datagram that went on the air.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) at_ms: u64,
    pub(super) device: u32,
    way: Way,
    id: u16,
    code: Code,
    kind: MessageType,
    pub(super) token: Vec<u8>,
    /// The PCP frame in it, if there is one.
    pub(super) frame: Vec<u8>,
    /// What else is in it.
    pub(super) payload: Vec<u8>,
}

impl Line {
    fn pcp(&self) -> Option<u8> {
        self.frame.get(3).copied()
    }

    /// The result with which a frame begins that has one.
    pub(super) fn result(&self) -> Option<u8> {
        self.frame.get(8).copied()
    }

    /// The segment that a device asks for, or that is sent.
    pub(super) fn segment(&self) -> Option<u16> {
        let at = match self.way {
            Way::Up => 24,
            Way::Down => 9,
        };
        let bytes = self.frame.get(at..at + 2)?;
        (self.pcp() == Some(21)).then(|| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}

/// Everything that went on the air, and what was recorded.
#[derive(Debug, Default)]
pub(super) struct Log {
    lines: Vec<Line>,
    pub(super) notes: Vec<String>,
    pub(super) versions: Vec<String>,
    pub(super) outcomes: Vec<Outcome>,
    /// What the operator is told of them.
    pub(super) details: Vec<String>,
}

impl Log {
    #[track_caller]
    pub(super) fn noted(&self, text: &str) {
        let found = self.notes.iter().any(|note| note.contains(text));
        assert!(found, "{text:?} is not among {:#?}", self.notes);
    }

    fn lines(&self, device: u32, way: Way) -> impl Iterator<Item = &Line> {
        (self.lines.iter()).filter(move |line| line.device == device && line.way == way)
    }

    /// The first of each message ID: what is left of it is repeats.
    fn first_ones<'a>(lines: impl Iterator<Item = &'a Line>) -> Vec<&'a Line> {
        let mut first: Vec<&Line> = Vec::new();
        for line in lines {
            if first.last().is_none_or(|last| last.id != line.id) {
                first.push(line);
            }
        }
        first
    }

    /// PCP messages to a device, without CoAP's repeats.
    pub(super) fn down(&self, device: u32, code: u8) -> Vec<&Line> {
        Self::first_ones(
            self.lines(device, Way::Down)
                .filter(|line| line.pcp() == Some(code)),
        )
    }

    /// PCP messages from a device, without CoAP's repeats.
    pub(super) fn up(&self, device: u32, code: u8) -> Vec<&Line> {
        Self::first_ones(self.up_repeats_included(device, code).into_iter())
    }

    pub(super) fn up_repeats_included(&self, device: u32, code: u8) -> Vec<&Line> {
        (self.lines(device, Way::Up))
            .filter(|line| line.pcp() == Some(code))
            .collect()
    }

    #[track_caller]
    pub(super) fn last_up_before(&self, device: u32, code: u8, at_ms: u64) -> &Line {
        (self.up(device, code).into_iter())
            .rfind(|line| line.at_ms < at_ms)
            .expect("nothing was said before")
    }

    #[track_caller]
    pub(super) fn first_up_after(&self, device: u32, code: u8, at_ms: u64) -> &Line {
        (self.up(device, code).into_iter())
            .find(|line| line.at_ms >= at_ms)
            .expect("nothing was said after")
    }

    /// The numbers of the segments that were sent to a device, without CoAP's repeats.
    pub(super) fn segments_sent(&self, device: u32) -> Vec<u16> {
        (self.down(device, 21).into_iter())
            .filter(|line| line.result() == Some(0))
            .filter_map(Line::segment)
            .collect()
    }

    /// POST /rd, with the endpoint's name.
    pub(super) fn registrations(&self, device: u32) -> Vec<&Line> {
        let posts = self
            .lines(device, Way::Up)
            .filter(|line| line.code == Code::POST);
        Self::first_ones(posts.filter(|line| !line.payload.is_empty()))
    }

    /// GETs with the token of the observation: it is the same for every registration.
    pub(super) fn observations(&self, device: u32) -> Vec<&Line> {
        let gets = self
            .lines(device, Way::Down)
            .filter(|line| line.code == Code::GET);
        Self::first_ones(gets.filter(|line| line.token.len() == 8))
    }

    /// A device's own data.
    pub(super) fn service_data(&self, device: u32) -> Vec<&Line> {
        let said = self.lines(device, Way::Up).filter(|line| {
            line.code == Code::CONTENT
                && matches!(
                    line.kind,
                    MessageType::Confirmable | MessageType::NonConfirmable
                )
                && line.frame.is_empty()
                && line.token.len() == 8
                && !line.payload.is_empty()
        });
        Self::first_ones(said)
    }
}

/// Writes the log, and loses what it is told to lose.
pub(super) struct Watch {
    log: Rc<RefCell<Log>>,
    loses: fn(u8, usize) -> bool,
    sent: HashMap<(std::net::IpAddr, u8), usize>,
}

impl Watch {
    pub(super) fn new(log: Rc<RefCell<Log>>, loses: fn(u8, usize) -> bool) -> Self {
        Self {
            log,
            loses,
            sent: HashMap::new(),
        }
    }
}

fn frame(bytes: &[u8]) -> &[u8] {
    let at = bytes.windows(3).position(|w| w == [0xFF, 0xFE, 0x01]);
    at.map_or(&[], |at| &bytes[at..])
}

impl Hooks for Watch {
    fn commits(&mut self, change: &mut Change) -> bool {
        let mut log = self.log.borrow_mut();
        match change {
            Change::Stage {
                line: Some(line), ..
            }
            | Change::Note { line, .. } => log.notes.push(wording::line(line)),
            Change::VersionReported { version, .. } => log.versions.push(version.to_string()),
            Change::Ended { outcome, facts, .. } => {
                log.outcomes.push(outcome.clone());
                log.details.push(wording::ending(outcome.reason(), facts));
            }
            _ => {}
        }
        true
    }

    fn sends(&mut self, outgoing: &mut Outgoing, _after: &mut Seq) {
        let Some(code) = frame(&outgoing.datagram.to_bytes()).get(3).copied() else {
            return;
        };
        let sent = self
            .sent
            .entry((outgoing.peer.address.ip(), code))
            .or_default();
        if (self.loses)(code, *sent) {
            outgoing.datagram = Vec::new().into();
        }
        *sent += 1;
    }

    fn passes(&mut self, now_ms: u64, device: u32, way: Way, datagram: &[u8]) {
        let Ok(message) = Message::parse(datagram) else {
            return; // lost on purpose
        };
        let frame = frame(message.payload).to_vec();
        self.log.borrow_mut().lines.push(Line {
            at_ms: now_ms,
            device,
            way,
            id: message.id,
            code: message.code,
            kind: message.message_type,
            token: message.token.as_slice().to_vec(),
            payload: if frame.is_empty() {
                message.payload.to_vec()
            } else {
                Vec::new()
            },
            frame,
        });
    }
}
