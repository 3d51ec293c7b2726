//! Finds PCP frames in what a modem's log says: hexadecimal, alone or in a line with a command, a time, quotes.
//!
//! ```text
//! +NNMI:8,FFFE01134C9A0000                      AT+QLWULDATAEX=9,FFFE0116850E000100,0x0100
//! FF FE 01 13 4C 9A 00 00                       +QLWDATARECV: 19,1,0,8,fffe01134c9a0000
//! 0xFF, 0xFE, 0x01, 0x13, …                     [12:30:45] AT+NMGS=8,"FFFE01134C9A0000",7
//! ```
//!
//! A frame begins with FFFE at the beginning of a word. What stands before it in the line is the log's own; what comes
//! after it in another field is a parameter of the command. Where nothing but hexadecimal stands before it, all of the
//! text is one dump, whatever separates its digits.

use pcp::{HEADER_LEN, START};

/// Commands and reports of modems that tell the length of their data before it, in bytes (Quectel's AT command manuals
/// of BC95, BC95-G/BC68 and BC26; `AT+CIPSEND` of other makers).
const TELL_A_LENGTH: [&str; 11] = [
    "NNMI",
    "NMGS",
    "NMGR",
    "QLWULDATA",
    "QLWULDATAEX",
    "QLWDLDATA",
    "QLWDATASEND",
    "QLWDATARECV",
    "MLWULDATA",
    "MLWDLDATA",
    "CIPSEND",
];

/// What stands together in a text: one frame, or several one after another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dump {
    /// The bytes, or why the digits make none.
    pub(super) bytes: Result<Vec<u8>, String>,
    /// What the command before them says of their number, if that is not so.
    pub(super) contradiction: Option<String>,
}

/// The dumps of a text, in their order.
///
/// # Errors
/// There is none: nothing in the text begins as a frame does, and it is not hexadecimal as a whole.
pub(super) fn dumps(text: &str) -> Result<Vec<Dump>, String> {
    let mut dumps = Vec::new();
    let mut rest = text;
    while let Some(start) = find_start(rest) {
        let before = rest[..start.at].rsplit(['\n', '\r']).next().unwrap_or("");
        let style = Style::of(before, &rest[start.at..start.end]);
        let (digits, end) = style.read(&rest[start.at..]);
        let bytes = digits.and_then(|digits| bytes(&digits));
        let contradiction = (bytes.as_ref().ok())
            .and_then(|bytes| contradiction(before.trim_end_matches(LEADING), bytes.len()));
        dumps.push(Dump {
            bytes,
            contradiction,
        });
        rest = &rest[start.at + end..];
    }
    if dumps.is_empty() {
        dumps.push(Dump {
            bytes: whole(text)?,
            contradiction: None,
        });
    }
    Ok(dumps)
}

/// The frames of a dump: each as long as its header declares, if another one follows there.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some(end) = end_of_frame(bytes)
        && bytes.get(end..).is_some_and(::pcp::is_pcp)
    {
        let (frame, rest) = bytes.split_at(end);
        frames.push(frame);
        bytes = rest;
    }
    frames.push(bytes);
    frames
}

/// Where a frame ends by what its header declares.
fn end_of_frame(bytes: &[u8]) -> Option<usize> {
    match bytes.get(..HEADER_LEN)? {
        [.., high, low] if ::pcp::is_pcp(bytes) => {
            Some(HEADER_LEN + usize::from(u16::from_be_bytes([*high, *low])))
        }
        _ => None,
    }
}

/// Separates digits in a dump.
const SEPARATORS: [char; 8] = [' ', '\t', '\r', '\n', ':', '-', ',', '\u{A0}'];
/// Stands between a command's last comma and its data.
const LEADING: [char; 4] = [' ', '\t', '"', '\''];

fn separates(c: char) -> bool {
    SEPARATORS.contains(&c) || LEADING.contains(&c)
}

/// Where a frame begins in a text, and where its first two bytes end.
#[derive(Debug, Clone, Copy)]
struct Start {
    at: usize,
    end: usize,
}

fn find_start(text: &str) -> Option<Start> {
    let mut previous = None;
    for (at, c) in text.char_indices() {
        let begins_a_word = previous.is_none_or(|previous: char| !previous.is_alphanumeric());
        previous = Some(c);
        if begins_a_word && let Some(len) = start_len(&text[at..]) {
            let end = at + len;
            return Some(Start { at, end });
        }
    }
    None
}

/// How long the first two bytes of a frame are, if the text begins with them.
fn start_len(text: &str) -> Option<usize> {
    let [first, second] = START.to_be_bytes().map(|byte| format!("{byte:02x}"));
    let byte = |text: &str, byte: &str| {
        let prefix = if is_prefixed(text) { 2 } else { 0 };
        let end = prefix + byte.len();
        let found = text.get(prefix..end)?.eq_ignore_ascii_case(byte);
        found.then_some(end)
    };
    let first = byte(text, &first)?;
    let separated = text[first..].trim_start_matches(SEPARATORS);
    let begin = text.len() - separated.len();
    // within a word there is no second prefix
    if begin == first && is_prefixed(separated) {
        return None;
    }
    Some(begin + byte(separated, &second)?)
}

fn is_prefixed(text: &str) -> bool {
    text.starts_with("0x") || text.starts_with("0X")
}

/// How the digits of a dump stand.
#[derive(Debug, Clone, Copy)]
struct Style {
    /// Nothing stands before them: what comes is theirs, over several lines.
    alone: bool,
    /// Commas separate bytes, not fields.
    commas: bool,
    /// Blanks separate bytes, not words.
    blanks: bool,
}

impl Style {
    /// By what stands before a frame in its line, and how its first two bytes are written.
    fn of(before: &str, start: &str) -> Self {
        let alone = before.chars().all(separates);
        Self {
            alone,
            commas: alone || start.contains(','),
            blanks: alone || start.contains(SEPARATORS),
        }
    }

    /// The digits of a text that begins with a dump, and where that ends.
    fn read(self, text: &str) -> (Result<String, String>, usize) {
        let mut digits = Digits::default();
        let mut at = 0;
        loop {
            if is_prefixed(&text[at..]) {
                at += 2;
            }
            let word = word(&text[at..]);
            let strange = word.trim_start_matches(|c: char| c.is_ascii_hexdigit());
            let own = &word[..word.len() - strange.len()];
            match strange.chars().next() {
                // Something else than the dump.
                Some(_) if digits.are_whole() && start_len(word).is_none() => {
                    return (Ok(digits.text), at);
                }
                Some(c) if c.is_alphanumeric() => {
                    return (Err(format!("not hexadecimal: {c:?}")), at + word.len());
                }
                // What closes it.
                Some(_) => {
                    digits.text.push_str(own);
                    return (Ok(digits.text), at + own.len());
                }
                None => digits.text.push_str(own),
            }
            at += word.len();
            let next = text[at..].trim_start_matches(SEPARATORS);
            let separator = &text[at..text.len() - next.len()];
            if next.is_empty()
                || self.ends_at(separator)
                || !self.blanks && digits.are_whole() && start_len(next).is_none()
            {
                return (Ok(digits.text), at);
            }
            at += separator.len();
        }
    }

    fn ends_at(self, separator: &str) -> bool {
        separator.contains(',') && !self.commas || separator.contains(['\n', '\r']) && !self.alone
    }
}

/// The text up to the next separator.
fn word(text: &str) -> &str {
    let end = text.find(SEPARATORS).unwrap_or(text.len());
    &text[..end]
}

/// Digits that were read.
#[derive(Debug, Default)]
struct Digits {
    text: String,
    /// Where the last frame among them begins.
    last: usize,
}

impl Digits {
    /// Whether the last frame among them is as long as its header declares.
    fn are_whole(&mut self) -> bool {
        loop {
            let frame = &self.text[self.last..];
            let Some(declared) = frame.get(2 * HEADER_LEN - 4..2 * HEADER_LEN) else {
                return false;
            };
            let data = usize::from_str_radix(declared, 16).unwrap_or(0); // they are digits
            let end = 2 * (HEADER_LEN + data);
            match frame.get(end..) {
                Some(rest) if start_len(rest).is_some() => self.last += end,
                rest => return rest == Some(""),
            }
        }
    }
}

/// A text that has no frame in it, as a dump of something else.
fn whole(text: &str) -> Result<Result<Vec<u8>, String>, String> {
    let mut digits = String::with_capacity(text.len());
    for word in text.split(separates) {
        let word = if is_prefixed(word) { &word[2..] } else { word };
        if !word.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(format!(
                "no frame there: none of the hexadecimal in it begins with {START:04X}"
            ));
        }
        digits.push_str(word);
    }
    if digits.is_empty() {
        return Err(format!(
            "no hexadecimal digits there; a frame begins with {START:04X}"
        ));
    }
    Ok(bytes(&digits))
}

fn bytes(digits: &str) -> Result<Vec<u8>, String> {
    hex::decode(digits)
        .map_err(|_| format!("{} hexadecimal digits make no whole bytes", digits.len()))
}

/// What a command's line tells of its data's length, if that is `len` bytes, and it tells something else.
fn contradiction(before: &str, len: usize) -> Option<String> {
    let fields = before.strip_suffix(',')?;
    let (rest, declared) = match fields.rfind([',', '=', ':']) {
        Some(at) => (&fields[..=at], &fields[at + 1..]),
        None => ("", fields),
    };
    let declared: usize = declared.trim().parse().ok().filter(|told| *told != len)?;
    let command = match rest.rfind('+') {
        Some(plus) => {
            let name = &rest[plus + 1..];
            let name = &name[..name.find([' ', '=', ':'])?];
            TELL_A_LENGTH
                .iter()
                .find(|known| known.eq_ignore_ascii_case(name))?
        }
        // What AT+NMGR answers: the length, the data.
        None if rest.is_empty() => "the line",
        None => return None,
    };
    Some(format!("{command} declares {declared} bytes, has {len}"))
}
