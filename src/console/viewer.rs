//! Who looks at a page: the session, what it permits, the language and the time zone.

use std::{fmt::Display, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, Method, Uri, header, request::Parts},
};
use fluent_bundle::FluentValue;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Console, PLACE, assets,
    calls::{Answer, Behalf, Leave, part},
    failure::Failure,
    fields::Fields,
    texts::{Language, Said},
    times::Zone,
};
use crate::{
    access::{Caller, CallerKind, Operation},
    api::{Problem, Source},
};

/// The cookies of the console: what somebody has chosen.
pub(super) const LANGUAGE: &str = "cellwise-language";
pub(super) const ZONE: &str = "cellwise-zone";
pub(super) const THEME: &str = "cellwise-theme";

/// A browser, whoever sits before it.
#[derive(Clone)]
pub(super) struct Guest {
    pub(super) console: Console,
    pub(super) behalf: Behalf,
    pub(super) language: Language,
    pub(super) zone: Zone,
    /// `light`, `dark`, or empty for what the browser has.
    pub(super) theme: &'static str,
    /// Path and query of the page, below the console: `/tasks?cursor=…`.
    pub(super) here: String,
    prefix: Arc<str>,
    now: Timestamp,
}

/// Somebody who has logged in.
#[derive(Clone)]
pub(super) struct Viewer {
    guest: Guest,
    caller: Caller,
    csrf: Arc<str>,
    /// Before a second factor is set up, nothing else is possible.
    pub(super) has_to_enrol: bool,
}

impl std::ops::Deref for Viewer {
    type Target = Guest;

    fn deref(&self) -> &Guest {
        &self.guest
    }
}

/// The script says so where a page renews itself, and nobody has asked for it.
const RENEWS: &str = "x-renew";

impl Guest {
    /// The browser that sends a request.
    pub(super) fn of_request(console: &Console, request: &Request) -> Self {
        let behalf = Behalf {
            source: Source(Source::of(request)),
            cookies: cookies(request.headers()),
            unattended: request.headers().contains_key(RENEWS) || request.uri().path() == "/live",
        };
        Self::of(console, request.headers(), request.uri(), behalf)
    }

    /// The browser that sends this.
    pub(super) fn of(console: &Console, headers: &HeaderMap, uri: &Uri, behalf: Behalf) -> Self {
        let config = console.parts.settings.get();
        let chosen = |name| cookie(headers, name);
        let accepted = headers.get(header::ACCEPT_LANGUAGE);
        let accepted = accepted.and_then(|value| value.to_str().ok());
        let language = chosen(LANGUAGE).and_then(Language::tagged);
        let now = console.parts.clock.now().utc.0;
        Self {
            language: language
                .unwrap_or_else(|| Language::of_browser(accepted.unwrap_or_default())),
            zone: chosen(ZONE).and_then(Zone::named).unwrap_or_default(),
            theme: match chosen(THEME) {
                Some("light") => "light",
                Some("dark") => "dark",
                _ => "",
            },
            here: uri
                .path_and_query()
                .map_or("/", |it| it.as_str())
                .to_owned(),
            prefix: config.console.path_prefix.as_str().into(),
            // what the clock says is within the range of times
            now: Timestamp::from_millisecond(now).unwrap_or_default(),
            console: console.clone(),
            behalf,
        }
    }

    /// The address of a page: `/tasks/7`.
    pub(super) fn url(&self, path: impl Display) -> String {
        format!("{}{PLACE}{path}", self.prefix)
    }

    /// The address of a file: `console.css`.
    pub(super) fn asset(&self, name: &str) -> String {
        self.url(format_args!("/static/{}/{name}", *assets::VERSION))
    }

    /// A text by its name.
    pub(super) fn t(&self, name: &str) -> String {
        self.say(name, &[])
    }

    /// A text with a value in it.
    pub(super) fn t1(&self, name: &str, key: &str, value: impl Said) -> String {
        self.say(name, &[(key, value.said())])
    }

    /// A text with two values in it.
    pub(super) fn t2(
        &self,
        name: &str,
        key: &str,
        value: impl Said,
        second_key: &str,
        second: impl Said,
    ) -> String {
        self.say(name, &[(key, value.said()), (second_key, second.said())])
    }

    /// A text with any values in it. What has no such name is shown by its name.
    pub(super) fn say(&self, name: &str, arguments: &[(&str, FluentValue<'_>)]) -> String {
        let said = self.language.say(name, arguments);
        said.unwrap_or_else(|| name.to_owned())
    }

    /// What a word of the API means, such as the state of a task: the text `task-state-running`; the word itself, where the console does
    /// not know it.
    pub(super) fn word(&self, kind: &str, word: &str) -> String {
        let name = format!("{kind}-{}", word.replace(['_', '.'], "-"));
        self.language
            .say(&name, &[])
            .unwrap_or_else(|| word.to_owned())
    }

    /// A count as people read it: `1,000,000`.
    #[expect(
        clippy::unused_self,
        reason = "pages write numbers as they write texts"
    )]
    pub(super) fn n(&self, count: impl Display) -> String {
        let digits = count.to_string();
        let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) && digit.is_ascii_digit() {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        grouped
    }

    /// A time of the API (RFC 3339) in the viewer's zone; as it is, where it is none.
    pub(super) fn time(&self, at: &str) -> String {
        at.parse()
            .map_or_else(|_| at.to_owned(), |at| self.zone.tell(at))
    }

    /// How long ago a time was, or in how long it will be: `3 min ago`, `in 2 h`.
    pub(super) fn ago(&self, at: &str) -> String {
        let Ok(at) = at.parse::<Timestamp>() else {
            return at.to_owned();
        };
        let seconds = self.now.as_second() - at.as_second();
        let span = self.span(seconds.unsigned_abs());
        let name = if seconds < 0 { "in-time" } else { "ago" };
        self.t1(name, "span", span)
    }

    /// A span of time, roughly: `40 s`, `3 min`, `2 h`, `5 d`.
    pub(super) fn span(&self, seconds: u64) -> String {
        let (name, count) = match seconds {
            0..120 => ("span-s", seconds),
            120..7_200 => ("span-min", seconds / 60),
            7_200..172_800 => ("span-h", seconds / 3_600),
            _ => ("span-d", seconds / 86_400),
        };
        self.t1(name, "count", count)
    }

    /// The languages that there are.
    #[expect(clippy::unused_self, reason = "pages know nothing else")]
    pub(super) fn languages(&self) -> impl Iterator<Item = Language> {
        Language::ALL.into_iter()
    }
}

impl Viewer {
    /// Somebody who is let in; `None`: nobody is logged in.
    pub(super) async fn find(guest: Guest) -> Result<Option<Self>, Problem> {
        let request = super::calls::Calls::request(Method::GET, "/v1/me", None)?;
        let response = match guest.console.calls.send(&guest.behalf, request).await {
            Ok(response) => response,
            Err(problem) if problem.status == 401 => return Ok(None),
            Err(problem) => return Err(problem),
        };
        let caller = response.extensions().get::<Caller>().cloned();
        let answer = super::calls::answer(response).await?;
        let (Some(caller), Some(csrf)) = (caller, answer.body["csrf_token"].as_str()) else {
            return Ok(None); // a token in a header: pages are for sessions
        };
        let second_factor = &answer.body["second_factor"];
        Ok(Some(Self {
            csrf: csrf.into(),
            has_to_enrol: second_factor["required"] == true && second_factor["enrolled"] != true,
            guest,
            caller,
        }))
    }

    /// What the pages of this session send back with every change.
    pub(super) fn csrf(&self) -> &str {
        &self.csrf
    }

    /// Names a form that is shown now, so that it is carried out once.
    #[expect(clippy::unused_self, reason = "pages know nothing else")]
    pub(super) fn once(&self) -> String {
        let mut random = [0; 16];
        // without randomness nothing else works either; then the form has no name
        let _ = getrandom::fill(&mut random);
        hex::encode(random)
    }

    /// The user's name.
    pub(super) fn name(&self) -> &str {
        match self.caller.kind() {
            CallerKind::User { name, .. } => name,
            CallerKind::AdminToken | CallerKind::ApiToken { .. } => "",
        }
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether the API permits an operation to the viewer, on something at least.
    pub(super) fn may(&self, operation: &str) -> bool {
        let found = Operation::named(operation);
        debug_assert!(found.is_some(), "there is no operation {operation}");
        self.caller.admit(found).is_ok()
    }

    /// Reads something of the API.
    pub(super) async fn read(&self, path: &str) -> Result<Answer, Failure> {
        let answer = self.console.calls.read(&self.behalf, path).await;
        answer.map_err(Failure::from)
    }

    /// The same, as a page takes it.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        Ok(part(self.read(path).await?.body)?)
    }

    /// The same; `None` where it is not there, or not for the viewer.
    pub(super) async fn look<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failure> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(failure) if matches!(failure.0.status, 403 | 404) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Changes something, with what a form has sent.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        fields: &Fields,
    ) -> Result<Answer, Problem> {
        self.change_with(method, path, body, &fields.leave()).await
    }

    /// Changes something.
    pub(super) async fn change_with(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        leave: &Leave,
    ) -> Result<Answer, Problem> {
        let calls = &self.console.calls;
        calls
            .change(&self.behalf, (method, path), body, leave)
            .await
    }
}

impl<S: Sync> FromRequestParts<S> for Viewer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let viewer = parts.extensions.get::<Self>().cloned();
        viewer.ok_or_else(|| {
            Failure(Problem::broken(
                "a page of the console has no door before it".to_owned(),
            ))
        })
    }
}

/// What the cookie of this name holds.
fn cookie<'h>(headers: &'h HeaderMap, wanted: &str) -> Option<&'h str> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let mut pairs = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(name, _)| *name == wanted)
        .map(|(_, value)| value)
}

/// All cookies of a request in one header.
fn cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::COOKIE).cloned()
}
