//! How pages are shown: language, time zone, colours. Cookies keep it; the API knows nothing of it.

use axum::{
    body::Bytes,
    http::{HeaderValue, header},
};

use super::{
    super::{
        fields::Fields,
        login::chosen_cookie,
        page::{Paged, done},
        sheet::{Form, Group, Input},
        texts::Language,
        times::Zone,
        viewer::{LANGUAGE, THEME, Viewer, ZONE},
    },
    sheet,
};
use crate::api::Problem;

/// The form.
pub(super) fn form(at: &Viewer) -> Form {
    let languages = at.languages();
    let languages = languages.map(|it| (it.tag().to_owned(), it.name().to_owned()));
    let zones = jiff::tz::db().available().map(|zone| zone.to_string());
    let themes = [
        ("browser", "theme-browser"),
        ("light", "theme-light"),
        ("dark", "theme-dark"),
    ];
    let themes = themes.map(|(value, text)| (value.to_owned(), at.t(text)));
    Form {
        action: at.url("/account/shown"),
        groups: vec![Group::of(vec![
            Input::choice("language", at.t("language"), languages.collect())
                .value(at.language.tag()),
            Input::one_of("zone", at.t("zone"), zones.collect())
                .value(at.zone.name())
                .hint(at.t("zone-hint"))
                .required(),
            Input::choice("theme", at.t("theme"), themes.to_vec()).value(at.theme),
        ])],
        button: at.t("save-it"),
        ..Form::default()
    }
}

/// Keeps what was chosen.
pub(super) async fn choose(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    if fields.get("csrf") != viewer.csrf() {
        let problem = Problem::field(
            "csrf",
            "the form is not of this session: open the page anew",
        );
        return sheet(&viewer, Some(problem)).await;
    }
    let Some(zone) = Zone::named(fields.get("zone")) else {
        let problem = Problem::field(
            "zone",
            "no time zone is called so; an example is Asia/Shanghai",
        );
        return sheet(&viewer, Some(problem)).await;
    };
    let language = Language::tagged(fields.get("language")).unwrap_or(viewer.language);
    let theme = match fields.get("theme") {
        "light" => "light",
        "dark" => "dark",
        _ => "browser",
    };
    let mut response = done(&viewer, "/account", "shown-so");
    for (name, value) in [
        (LANGUAGE, language.tag()),
        (ZONE, zone.name()),
        (THEME, theme),
    ] {
        // names of zones have no other characters
        if let Ok(cookie) = HeaderValue::from_str(&chosen_cookie(name, value)) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    Ok(response)
}
