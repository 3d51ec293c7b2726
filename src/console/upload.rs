//! A file of a form goes on to the API while it comes: it is kept nowhere.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::{FromRequest, Multipart, Request, multipart::Field},
    http::{HeaderValue, Method, header},
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;

use super::{
    MAX_FORM,
    calls::{self, Answer, Calls},
    fields::Fields,
    viewer::Viewer,
};
use crate::api::Problem;

/// Parts of a file that are under way.
const UNDER_WAY: usize = 4;
/// Bytes of a part before the file.
const BEFORE_FILE: usize = 4 << 10;
/// So much of a file that is refused is still read, bytes: until it was sent, browsers do not look at the answer.
const READ_FOR_NOTHING: usize = 64 << 20;

/// Where a file goes.
pub(super) struct Target {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) kind: &'static str,
}

/// A form with a file. What comes before the file has a length, also what is around the fields.
pub(super) struct Upload {
    form: Result<Multipart, Problem>,
    /// The file has come.
    at_file: Arc<AtomicBool>,
}

impl<S: Send + Sync> FromRequest<S> for Upload {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let at_file = Arc::new(AtomicBool::new(false));
        let (parts, body) = request.into_parts();
        let body = Paced {
            body: body.into_data_stream(),
            rest: Bytes::new(),
            at_file: at_file.clone(),
            length: 0,
            yields: false,
        };
        let request = Request::from_parts(parts, Body::from_stream(body));
        let form = Multipart::from_request(request, state).await;
        Ok(Self {
            form: form.map_err(|error| no_form(&error)),
            at_file,
        })
    }
}

/// The body of a form. Who takes forms apart reads as long as there is something to read, and again for every field, however much it has
/// already. It is given one part at a time, and small ones before the file, so that what is counted is about what it needs.
struct Paced {
    body: BodyDataStream,
    /// What is left of a part.
    rest: Bytes,
    at_file: Arc<AtomicBool>,
    /// Bytes before the file.
    length: usize,
    yields: bool,
}

impl Stream for Paced {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.yields) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let at_file = self.at_file.load(Ordering::Relaxed);
        if !at_file && self.length > MAX_FORM {
            let why = "what comes before its file is too long";
            return Poll::Ready(Some(Err(io::Error::other(why))));
        }
        if self.rest.is_empty() {
            match ready!(self.body.poll_next_unpin(context)) {
                Some(Ok(part)) => self.rest = part,
                Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                None => return Poll::Ready(None),
            }
        }
        self.yields = true;
        let most = if at_file { usize::MAX } else { BEFORE_FILE };
        let length = self.rest.len().min(most);
        let part = self.rest.split_to(length);
        self.length += if at_file { 0 } else { length };
        Poll::Ready(Some(Ok(part)))
    }
}

/// Takes a form apart: its fields, and the file behind them, which goes where `target` says. Returns the fields, and what was answered.
pub(super) async fn pass_on(
    viewer: &Viewer,
    upload: Upload,
    target: impl FnOnce(&Fields) -> Target,
) -> (Fields, Result<Answer, Problem>) {
    let mut fields = Fields::default();
    let mut form = match upload.form {
        Ok(form) => form,
        Err(problem) => return (fields, Err(problem)),
    };
    loop {
        let field = match form.next_field().await {
            Ok(Some(field)) => field,
            Ok(None) => return (fields, Err(no_file())),
            Err(error) => return (fields, Err(no_form(&error))),
        };
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            upload.at_file.store(true, Ordering::Relaxed);
            if field.file_name().unwrap_or_default().is_empty() {
                return (fields, Err(no_file()));
            }
            let target = target(&fields);
            let answer = send(viewer, field, &fields, target).await;
            return (fields, answer);
        }
        match field.bytes().await {
            Ok(value) => fields
                .0
                .push((name, String::from_utf8_lossy(&value).into_owned())),
            Err(error) => return (fields, Err(no_form(&error))),
        }
    }
}

fn no_file() -> Problem {
    Problem::field("file", "choose a file")
}

fn no_form(error: &dyn std::fmt::Display) -> Problem {
    Problem::field("file", format!("the form cannot be read: {error}"))
}

async fn send(
    viewer: &Viewer,
    mut file: Field<'_>,
    fields: &Fields,
    target: Target,
) -> Result<Answer, Problem> {
    let mut request = Calls::request(target.method, &target.path, None)?;
    let kind = HeaderValue::from_static(target.kind);
    request.headers_mut().insert(header::CONTENT_TYPE, kind);
    fields.leave().put(request.headers_mut());
    let (to_api, parts) = mpsc::channel::<Result<Bytes, io::Error>>(UNDER_WAY);
    let parts = stream::unfold(parts, |mut parts| async move {
        parts.recv().await.map(|part| (part, parts))
    });
    *request.body_mut() = Body::from_stream(parts);
    let reading = async move {
        let mut left = READ_FOR_NOTHING;
        loop {
            let part = match file.chunk().await {
                Ok(Some(part)) => Ok(part),
                Ok(None) => break,
                Err(error) => Err(io::Error::other(error)),
            };
            let broken = part.is_err();
            let length = part.as_ref().map_or(0, Bytes::len);
            if to_api.send(part).await.is_err() {
                // it was refused meanwhile
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
            if broken {
                break;
            }
        }
    };
    let sending = viewer.console.calls.send(&viewer.behalf, request);
    let ((), response) = tokio::join!(reading, sending);
    calls::answer(response?).await
}
