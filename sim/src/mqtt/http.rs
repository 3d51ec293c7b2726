//! HTTP as IoTDA's C kit writes and reads it: by hand. The head of the answer has to come in one piece, the letters of
//! `Content-Length` have to be these, and buffers are as small as they are there.
//!
//! Source: `iota_datatrans.c` of <https://github.com/huaweicloud/huaweicloud-iot-device-sdk-c>.

use hyper::Uri;

use super::device::Request;

/// The kit reads so many bytes at a time.
pub const PIECE: usize = 4_095;
/// The characters of a file's name, and the digits of its size, that the kit has room for.
const NAME_ROOM: usize = 19;
const SIZE_ROOM: usize = 9;

/// The request: lines end with a bare line feed, `Host` has no port, `Authorization` no blank, and only the empty line
/// at the end has carriage returns.
pub fn request(request: &Request, uri: &Uri) -> Vec<u8> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.host().unwrap_or_default();
    let range = match request.from {
        0 => String::new(),
        // not the kit's: what a vendor adds to resume
        from => format!("Range: bytes={from}-\n"),
    };
    let token = request.bearer.as_ref().map_or("", |token| &token.0);
    format!(
        "GET {path} HTTP/1.1\nHost: {host}\nContent-Type: application/json\n{range}Authorization:Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

/// What the kit takes from the head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Bytes of the body.
    pub length: u64,
    /// Where the body begins in the piece.
    pub body_at: usize,
}

/// Reads the head in the first piece of an answer. The error says what the kit would stumble over.
pub fn head(piece: &[u8]) -> Result<Head, String> {
    let end = find(piece, b"\r\n\r\n").ok_or("the head does not end in the first piece")?;
    let text = String::from_utf8_lossy(&piece[..end]);
    let status = text
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or("the status line does not begin with 'HTTP/1.1 ' and three digits")?;
    let length = field(&text, "Content-Length: ").ok_or("there is no 'Content-Length: '")?;
    if length.len() > SIZE_ROOM {
        return Err(format!("the length {length} has more than nine digits"));
    }
    let length = length
        .parse()
        .map_err(|_| format!("the length '{length}' is no number"))?;
    let name = field(&text, "filename=");
    if status == 200 && name.is_none_or(|name| name.is_empty() || name.len() > NAME_ROOM) {
        return Err(format!(
            "the file has no name of 1 to 19 bytes, but {name:?}"
        ));
    }
    Ok(Head {
        status,
        length,
        body_at: end + 4,
    })
}

/// What stands between `name` and the end of the line, or a semicolon.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(name)?;
    rest.split(['\r', '\n', ';']).next()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::Secret;

    #[test]
    fn the_request_is_the_kits() {
        let uri: Uri = "https://h.example:8943/d/1?x=2".parse().unwrap();
        let mut wanted = Request {
            url: uri.to_string(),
            bearer: Some(Secret("t0".into())),
            from: 0,
            stop_after: None,
            by_hand: true,
        };
        assert_eq!(
            String::from_utf8(request(&wanted, &uri)).unwrap(),
            "GET /d/1?x=2 HTTP/1.1\nHost: h.example\nContent-Type: application/json\nAuthorization:Bearer t0\r\n\r\n"
        );
        wanted.from = 7;
        let text = String::from_utf8(request(&wanted, &uri)).unwrap();
        assert!(text.contains("\nRange: bytes=7-\n"), "{text}");
    }

    #[test]
    fn the_head_has_to_be_as_the_kit_takes_it() {
        let answer = |length: &str, name: &str| {
            format!(
                "HTTP/1.1 200 OK\r\n{length}\r\nContent-Disposition: attachment; filename={name}\r\n\r\nbody"
            )
        };
        let good = answer("Content-Length: 4", "app.bin");
        let read = head(good.as_bytes()).unwrap();
        assert_eq!((read.status, read.length), (200, 4));
        assert_eq!(&good.as_bytes()[read.body_at..], b"body");
        for (length, name, error) in [
            ("content-length: 4", "a", "there is no 'Content-Length: '"),
            ("Content-Length: 1000000000", "a", "more than nine digits"),
            (
                "Content-Length: 4",
                "twenty-characters.bin",
                "no name of 1 to 19 bytes",
            ),
        ] {
            let told = head(answer(length, name).as_bytes()).unwrap_err();
            assert!(told.contains(error), "{told}");
        }
        let open = head(&good.as_bytes()[..40]).unwrap_err();
        assert!(open.contains("first piece"), "{open}");
        let other = head(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n").unwrap_err();
        assert!(other.contains("status line"), "{other}");
    }
}
