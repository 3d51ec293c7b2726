//! The head of a response, in the form that devices read.
//!
//! Some compare the letters of `Content-Length`, want the whole head in their first read of 4,095 bytes, and take the file's name
//! without quotation marks. A head is written at once and has less than 1,500 bytes.

use std::{fmt::Write as _, ops::Range};

use crate::clock::UtcMillis;

/// What a response says.
#[derive(Debug, Clone)]
pub(super) struct Content<'a> {
    /// The bytes that follow.
    pub bytes: Range<u64>,
    /// All bytes that the package has.
    pub size_bytes: u64,
    /// Whether a part was asked for (206).
    pub part: bool,
    /// The validator, with its quotation marks.
    pub etag: &'a str,
    /// When the content was stored, as HTTP writes it.
    pub last_modified: &'a str,
    /// What the file is called; of safe characters.
    pub file_name: &'a str,
    /// The check code of the bytes that follow.
    pub crc: Option<u16>,
    /// Whether caches on the way may answer for this server.
    pub cached: bool,
}

/// Whether another request may follow, and what has to be said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Another may follow.
    KeepAlive,
    /// The same, to a client of HTTP/1.0.
    KeepAliveSaid,
    /// The connection is closed.
    Close,
}

impl After {
    const fn line(self) -> &'static str {
        match self {
            Self::KeepAlive => "",
            Self::KeepAliveSaid => "Connection: keep-alive\r\n",
            Self::Close => "Connection: close\r\n",
        }
    }
}

/// The head of 200 or 206.
pub(super) fn head(content: &Content<'_>, after: After, now: UtcMillis) -> String {
    let Content { bytes, .. } = content;
    let mut head = String::with_capacity(512);
    let status = if content.part {
        "206 Partial Content"
    } else {
        "200 OK"
    };
    // writing into a text does not fail, here and below
    let _ = write!(
        head,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: application/octet-stream\r\n",
        bytes.end - bytes.start
    );
    if content.part {
        let (first, last) = (bytes.start, bytes.end.saturating_sub(1));
        let _ = write!(
            head,
            "Content-Range: bytes {first}-{last}/{}\r\n",
            content.size_bytes
        );
    }
    let caching = if content.cached {
        "public, max-age=86400, no-transform"
    } else {
        "private, no-transform"
    };
    let _ = write!(
        head,
        "Content-Disposition: attachment; filename={}\r\nAccept-Ranges: bytes\r\nETag: {}\r\nLast-Modified: {}\r\n\
         Cache-Control: {caching}\r\nDate: {}\r\n",
        content.file_name,
        content.etag,
        content.last_modified,
        http_date(now)
    );
    if let Some(crc) = content.crc {
        let _ = write!(head, "X-CRC16: {crc:04x}\r\n");
    }
    head.push_str(after.line());
    head.push_str("\r\n");
    head
}

/// Why nothing is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The request is none.
    BadRequest,
    /// There is no token, or none that is in force, where the token stands in a header.
    Unauthorized,
    /// The right is over, or one for something else.
    Forbidden(&'static str),
    /// There is nothing at that address, or no token that is in force in it.
    NotFound,
    /// Neither GET nor HEAD.
    Method,
    /// The head does not come.
    Timeout,
    /// No byte that was asked for is there.
    Range {
        /// Bytes that the package has.
        size_bytes: u64,
    },
    /// Too many attempts with tokens that are none, or connections of one address.
    TooMany,
    /// The head is too long.
    HeadTooLarge,
    /// The file is not there.
    NoFile,
}

impl Refused {
    /// The status code.
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden(_) => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::Timeout => 408,
            Self::Range { .. } => 416,
            Self::TooMany => 429,
            Self::HeadTooLarge => 431,
            Self::NoFile => 500,
        }
    }

    /// Whether the connection is of use afterwards.
    pub(super) const fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::BadRequest | Self::Method | Self::Timeout | Self::TooMany | Self::HeadTooLarge
        )
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden(_) => "Forbidden",
            Self::NotFound => "Not Found",
            Self::Method => "Method Not Allowed",
            Self::Timeout => "Request Timeout",
            Self::Range { .. } => "Range Not Satisfiable",
            Self::TooMany => "Too Many Requests",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::NoFile => "Internal Server Error",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::BadRequest => "this is not a request of HTTP/1.1 for a package\n",
            Self::Unauthorized => {
                "a token is needed that is in force: Authorization: Bearer TOKEN\n"
            }
            Self::Forbidden(why) => why,
            Self::NotFound => "there is nothing here\n",
            Self::Method => "packages are read with GET or HEAD\n",
            Self::Timeout => "the request did not come in time\n",
            Self::Range { .. } => "the package has no such bytes\n",
            Self::TooMany => "too many attempts or connections; try again later\n",
            Self::HeadTooLarge => "the request's head is too large\n",
            Self::NoFile => "the package cannot be read\n",
        }
    }

    /// The whole response; the head alone where the method is HEAD.
    pub(super) fn response(self, after: After, now: UtcMillis, head_only: bool) -> String {
        let text = self.text();
        let mut response = format!(
            "HTTP/1.1 {} {}\r\nContent-Length: {}\r\nContent-Type: text/plain; charset=utf-8\r\nDate: {}\r\n",
            self.status(),
            self.reason(),
            text.len(),
            http_date(now)
        );
        match self {
            // RFC 9110 §11.6.1, RFC 6750 §3
            Self::Unauthorized => {
                response.push_str("WWW-Authenticate: Bearer realm=\"packages\"\r\n");
            }
            Self::Method => response.push_str("Allow: GET, HEAD\r\n"),
            Self::TooMany => response.push_str("Retry-After: 60\r\n"),
            Self::Range { size_bytes } => {
                let _ = write!(response, "Content-Range: bytes */{size_bytes}\r\n");
            }
            _ => {}
        }
        response.push_str(after.line());
        response.push_str("\r\n");
        if !head_only {
            response.push_str(text);
        }
        response
    }
}

/// A time as HTTP writes it (IMF-fixdate, RFC 9110 §5.6.7).
pub(super) fn http_date(at: UtcMillis) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UtcMillis = UtcMillis(784_111_777_000);

    fn content(file_name: &str) -> Content<'_> {
        Content {
            bytes: 0..2_147_483_648,
            size_bytes: 2_147_483_648,
            part: false,
            etag: "\"abc\"",
            last_modified: "Sun, 06 Nov 1994 08:49:37 GMT",
            file_name,
            crc: None,
            cached: false,
        }
    }

    #[test]
    fn heads_have_the_form_that_devices_read() {
        assert_eq!(
            head(&content("a.bin"), After::KeepAlive, NOW),
            "HTTP/1.1 200 OK\r\nContent-Length: 2147483648\r\nContent-Type: application/octet-stream\r\n\
             Content-Disposition: attachment; filename=a.bin\r\nAccept-Ranges: bytes\r\nETag: \"abc\"\r\n\
             Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nCache-Control: private, no-transform\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        );
        let part = Content {
            bytes: 10..20,
            part: true,
            crc: Some(0xAB),
            ..content("a.bin")
        };
        let head = head(&part, After::Close, NOW);
        assert!(head.starts_with("HTTP/1.1 206 Partial Content\r\nContent-Length: 10\r\n"));
        assert!(head.contains("\r\nContent-Range: bytes 10-19/2147483648\r\n"));
        assert!(head.contains("\r\nX-CRC16: 00ab\r\n"));
        assert!(head.ends_with("\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn the_longest_head_fits_the_smallest_buffer() {
        let (name, etag) = ("n".repeat(100), format!("\"{}\"", "e".repeat(64)));
        let content = Content {
            bytes: u64::MAX - 1..u64::MAX,
            size_bytes: u64::MAX,
            part: true,
            etag: &etag,
            crc: Some(0),
            cached: true,
            ..content(&name)
        };
        assert!(head(&content, After::KeepAliveSaid, NOW).len() < 1_500);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let range = Refused::Range { size_bytes: 5 };
        let said = range.response(After::KeepAlive, NOW, false);
        assert!(said.starts_with("HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 30\r\n"));
        assert!(said.contains("\r\nContent-Range: bytes */5\r\n"));
        assert!(said.ends_with("\r\n\r\nthe package has no such bytes\n"));
        let said = Refused::Unauthorized.response(After::Close, NOW, true);
        assert!(said.contains("\r\nWWW-Authenticate: Bearer realm=\"packages\"\r\n"));
        assert!(said.ends_with("\r\nConnection: close\r\n\r\n"));
    }
}
