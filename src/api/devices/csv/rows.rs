//! Cuts bytes, as they come, into the rows of a list of comma-separated values (RFC 4180).
//!
//! Memory is bounded whatever comes: a row that is too long, or has too many fields, is passed over to its end and told.

use csv_core::{ReadRecordResult, Reader};

/// Bytes of a row's fields together.
pub(super) const MAX_ROW_BYTES: usize = 64 * 1024;
/// Fields of a row.
pub(super) const MAX_FIELDS: usize = 256;
/// Some programs begin a text with it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A row. Its fields are read from [`Rows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// The line on which it begins, from 1.
    pub(super) line: u64,
    fields: usize,
    /// It is longer than it may be; what it has is not told.
    pub(super) too_long: bool,
}

/// The rows of a stream of bytes.
pub(super) struct Rows {
    reader: Reader,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Bytes and ends of the row so far.
    filled: (usize, usize),
    too_long: bool,
    /// The line that the next byte belongs to.
    line: u64,
    /// The line on which the row began, once it has.
    began: Option<u64>,
    /// Bytes of the mark that may still come first.
    mark: &'static [u8],
}

impl Rows {
    pub(super) fn new() -> Self {
        Self {
            reader: Reader::new(),
            // the library takes a buffer that is exactly full for one that is too small
            bytes: vec![0; MAX_ROW_BYTES + 1],
            ends: vec![0; MAX_FIELDS],
            filled: (0, 0),
            too_long: false,
            line: 1,
            began: None,
            mark: BYTE_ORDER_MARK,
        }
    }

    /// Takes bytes from the front of `input` up to the end of a row; `None` when the row is not complete yet.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<Row> {
        while let ([expected, rest @ ..], [first, ..]) = (self.mark, &**input) {
            if expected != first {
                self.mark = &[]; // a text may begin as the mark does, and is none of ours then
                break;
            }
            *input = &input[1..];
            self.mark = rest;
        }
        if self.began.is_none() {
            while let [end @ (b'\r' | b'\n'), rest @ ..] = *input {
                self.line += u64::from(*end == b'\n');
                *input = rest;
            }
            if !input.is_empty() {
                self.began = Some(self.line);
            }
        }
        while !input.is_empty() {
            let row = self.read(input);
            if row.is_some() {
                return row;
            }
        }
        None
    }

    /// Nothing follows. Gives the last row, if it did not end with its line.
    pub(super) fn finish(&mut self) -> Option<Row> {
        self.began?;
        // the library may need to be told several times
        for _ in 0..3 {
            let row = self.read(&mut &[][..]);
            if row.is_some() {
                return row;
            }
        }
        None
    }

    /// Reads some of the input.
    fn read(&mut self, input: &mut &[u8]) -> Option<Row> {
        let (used, ends) = self.filled;
        let (result, read, written, ended) =
            (self.reader).read_record(input, &mut self.bytes[used..], &mut self.ends[ends..]);
        let (taken, rest) = input.split_at(read);
        let lines = taken.iter().map(|byte| u64::from(*byte == b'\n'));
        self.line += lines.sum::<u64>();
        *input = rest;
        self.filled = (used + written, ends + ended);
        match result {
            ReadRecordResult::InputEmpty | ReadRecordResult::End => None,
            ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                self.too_long = true;
                self.filled = (0, 0);
                None
            }
            ReadRecordResult::Record => {
                let (_, fields) = std::mem::take(&mut self.filled);
                Some(Row {
                    line: self.began.take().unwrap_or(self.line),
                    fields,
                    too_long: std::mem::take(&mut self.too_long),
                })
            }
        }
    }

    /// The fields of the row that was taken last.
    pub(super) fn fields(&self, row: Row) -> impl ExactSizeIterator<Item = &[u8]> {
        let fields = if row.too_long { 0 } else { row.fields };
        (0..fields).map(|field| {
            let from = field.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[from..self.ends[field]]
        })
    }
}

#[cfg(test)]
mod tests;
