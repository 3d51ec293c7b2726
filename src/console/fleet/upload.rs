//! A file of a form, passed on to the API while it arrives. Nothing of it is kept.

use axum::{
    body::{Body, Bytes},
    extract::{Multipart, multipart::Field},
    http::{HeaderValue, Method, header},
};
use futures_util::stream;
use tokio::sync::mpsc;

use crate::{
    api::Problem,
    console::{
        calls::{Answer, Calls, answer},
        fields::Fields,
        viewer::Viewer,
    },
};

/// Bytes of what stands beside the file, all together.
const MAX_FIELDS: usize = 64 * 1024;
/// Parts of a file that have arrived and are not passed on yet.
const PARTS: usize = 4;

/// What came before the file, and what the API says of the file.
pub(super) struct Sent {
    pub(super) fields: Fields,
    pub(super) answer: Result<Answer, Problem>,
}

/// Passes the field `file` of a form on, as `text/csv`. The other fields stand before it; the path may be made of them.
pub(super) async fn pass_on(
    viewer: &Viewer,
    mut form: Multipart,
    path: impl Fn(&Fields) -> String,
) -> Sent {
    let mut fields = Fields::default();
    let mut room = MAX_FIELDS;
    loop {
        let field = match form.next_field().await {
            Ok(Some(field)) => field,
            Ok(None) => break,
            Err(error) => return sent(fields, Err(unreadable(&error.to_string()))),
        };
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            let path = path(&fields);
            let answer = file(viewer, field, &path, &fields).await;
            return sent(fields, answer);
        }
        match text(field, &mut room).await {
            Ok(text) => fields.0.push((name, text)),
            Err(problem) => return sent(fields, Err(problem)),
        }
    }
    sent(fields, Err(Problem::field("file", "choose a file")))
}

fn sent(fields: Fields, answer: Result<Answer, Problem>) -> Sent {
    Sent { fields, answer }
}

fn unreadable(error: &str) -> Problem {
    Problem::field("file", format!("the form cannot be read: {error}"))
}

/// A field that is no file.
async fn text(mut field: Field<'_>, room: &mut usize) -> Result<String, Problem> {
    let mut text = Vec::new();
    while let Some(part) = next(&mut field).await? {
        let left = room.checked_sub(part.len());
        *room = left.ok_or_else(|| unreadable("its fields are too long"))?;
        text.extend_from_slice(&part);
    }
    String::from_utf8(text).map_err(|_| unreadable("a field is not UTF-8"))
}

async fn next(field: &mut Field<'_>) -> Result<Option<Bytes>, Problem> {
    field
        .chunk()
        .await
        .map_err(|error| unreadable(&error.to_string()))
}

async fn file(
    viewer: &Viewer,
    mut field: Field<'_>,
    path: &str,
    fields: &Fields,
) -> Result<Answer, Problem> {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(PARTS);
    let body = Body::from_stream(stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|part| (part, receiver))
    }));
    let mut request = Calls::request(Method::POST, path, None)?;
    *request.body_mut() = body;
    let csv = HeaderValue::from_static("text/csv");
    request.headers_mut().insert(header::CONTENT_TYPE, csv);
    fields.leave().put(request.headers_mut());
    let sending = viewer.console.calls.send(&viewer.behalf, request);
    let reading = async move {
        loop {
            let part = match next(&mut field).await {
                Ok(Some(part)) => Ok(part),
                Ok(None) => break,
                // the API does not take what ends early for the whole
                Err(problem) => Err(std::io::Error::other(problem.detail.to_string())),
            };
            let broken = part.is_err();
            // nobody receives any more where the API has refused it
            if sender.send(part).await.is_err() || broken {
                break;
            }
        }
    };
    let (response, ()) = tokio::join!(sending, reading);
    answer(response?).await
}
