//! Changes the rules of a cell: asked, asked back, and done.

use askama::Template;
use axum::{
    body::Bytes,
    extract::Path,
    http::{Method, StatusCode},
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{Detail, tagged};
use crate::{
    api::Problem,
    console::{
        confirm::Question,
        fields::Fields,
        fleet::devices::number,
        page::{Failure, Paged, done, page_with, status},
        viewer::Viewer,
    },
};

/// The fields of the form, in the order in which they are asked back.
const NAMES: [&str; 8] = [
    "limit",
    "adaptive",
    "note",
    "busy_days",
    "busy_from",
    "busy_to",
    "busy_zone",
    "busy_limit",
];
/// Rows of busy hours that are free in the form.
const FREE: usize = 2;

#[derive(Template)]
#[template(path = "fleet/cell_edit.html")]
struct EditPage<'a> {
    at: &'a Viewer,
    id: u32,
    etag: &'a str,
    fields: &'a Fields,
    busy: Vec<Busy>,
    problem: Option<&'a Problem>,
}

impl EditPage<'_> {
    fn is(&self, adaptive: &str) -> bool {
        self.fields.get("adaptive") == adaptive
    }
}

/// A row of busy hours, as it was entered.
#[derive(Debug, Default, Clone)]
struct Busy {
    days: String,
    from: String,
    to: String,
    zone: String,
    limit: String,
}

impl Busy {
    /// What stands in the same place of the five columns is a row.
    fn all(fields: &Fields) -> Vec<Self> {
        let column = |name| fields.all(name).collect::<Vec<&str>>();
        let [days, to, zone, limit] =
            ["busy_days", "busy_to", "busy_zone", "busy_limit"].map(column);
        let of =
            |column: &[&str], row: usize| column.get(row).copied().unwrap_or_default().to_owned();
        let rows = fields.all("busy_from").enumerate();
        let rows = rows.map(|(row, from)| Self {
            days: of(&days, row),
            from: from.to_owned(),
            to: of(&to, row),
            zone: of(&zone, row),
            limit: of(&limit, row),
        });
        rows.collect()
    }

    fn is_empty(&self) -> bool {
        self.from.is_empty() && self.to.is_empty() && self.limit.is_empty()
    }

    /// As the API takes it.
    fn value(&self, row: usize) -> Result<Value, Problem> {
        let limit: Result<u32, _> = self.limit.parse();
        let limit = limit.map_err(|_| {
            let field = format!("busy_hours[{row}].limit");
            Problem::field(&field, "it is no whole number in the range of this field")
        })?;
        let mut hours =
            json!({"from": self.from, "to": self.to, "zone": self.zone, "limit": limit});
        let days = super::super::several(&self.days);
        if !days.is_empty() {
            hours["days"] = days.into();
        }
        Ok(hours)
    }
}

/// The form. A cell that no device has been in gets its rules all the same.
pub(super) async fn ask(viewer: Viewer, Path(id): Path<u32>) -> Paged {
    let (fields, etag) = match tagged(&viewer, id).await? {
        Some((cell, etag)) => (filled(&cell), etag),
        None => (Fields::default(), "\"0\"".to_owned()),
    };
    Ok(form(&viewer, id, &etag, &fields, None))
}

fn filled(cell: &Detail) -> Fields {
    let adaptive = match cell.adaptive {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    let limit = cell.cell.limit.map(|limit| limit.to_string());
    let mut fields = vec![
        ("limit", limit.unwrap_or_default()),
        ("adaptive", adaptive.to_owned()),
        ("note", cell.note.clone().unwrap_or_default()),
    ];
    for busy in &cell.busy_hours {
        let days = busy.days.clone().unwrap_or_default().join(" ");
        fields.extend([
            ("busy_days", days),
            ("busy_from", busy.from.clone()),
            ("busy_to", busy.to.clone()),
            ("busy_zone", busy.zone.clone()),
            ("busy_limit", busy.limit.to_string()),
        ]);
    }
    let fields = fields.into_iter();
    Fields(
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn form(at: &Viewer, id: u32, etag: &str, fields: &Fields, problem: Option<&Problem>) -> Response {
    let mut busy = Busy::all(fields);
    busy.retain(|row| !row.is_empty());
    let free = Busy {
        zone: at.zone.name().to_owned(),
        ..Busy::default()
    };
    busy.extend(std::iter::repeat_n(free, FREE));
    let shown = EditPage {
        at,
        id,
        etag,
        fields,
        busy,
        problem,
    };
    page_with(problem.map_or(StatusCode::OK, status), &shown)
}

/// Asks back, and changes the rules when that was answered.
pub(super) async fn change(viewer: Viewer, Path(id): Path<u32>, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let update = match update(&fields) {
        Ok(_) if !fields.ticked("sure") => return question(&viewer, id, &fields).await,
        Ok(update) => {
            let path = format!("/v1/cells/{id}");
            viewer
                .change(Method::PATCH, &path, Some(&update), &fields)
                .await
        }
        Err(problem) => Err(problem),
    };
    match update {
        Ok(_) => Ok(done(&viewer, &format!("/cells/{id}"), "cell-changed")),
        Err(problem) => {
            let (etag, entered) = (fields.get("etag"), fields.entered());
            Ok(form(&viewer, id, etag, &entered, Some(&problem)))
        }
    }
}

fn update(fields: &Fields) -> Result<Value, Problem> {
    let mut update = Map::new();
    update.insert("limit".to_owned(), json!(number(fields, "limit")?));
    let note = fields.some("note");
    update.insert("note".to_owned(), json!(note));
    let adaptive = match fields.get("adaptive") {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    };
    update.insert("adaptive".to_owned(), json!(adaptive));
    let rows = Busy::all(fields);
    let rows = rows.iter().filter(|row| !row.is_empty()).enumerate();
    let busy: Result<Vec<Value>, Problem> = rows.map(|(i, row)| row.value(i)).collect();
    update.insert("busy_hours".to_owned(), busy?.into());
    Ok(Value::Object(update))
}

async fn question(at: &Viewer, id: u32, fields: &Fields) -> Result<Response, Failure> {
    let mut hidden: Vec<(&'static str, String)> = Vec::new();
    for name in NAMES {
        hidden.extend(fields.all(name).map(|value| (name, value.to_owned())));
    }
    hidden.push(("etag", fields.get("etag").to_owned()));
    hidden.push(("sure", "1".to_owned()));
    let limit = match fields.some("limit") {
        Some(limit) => at.t1("cell-means-limit", "limit", limit),
        None => at.t("cell-means-no-limit"),
    };
    let question = Question {
        at,
        title: at.t1("cell-ask-change", "cell", id.to_string()),
        means: vec![limit, concerned(at, id).await?, at.t("fleet-nobody-loses")],
        inputs: Vec::new(),
        hidden,
        button: at.t("cell-change"),
        danger: false,
        action: at.url(format_args!("/cells/{id}/edit")),
        back: at.url(format_args!("/cells/{id}")),
        problem: None,
    };
    Ok(question.page())
}

/// How many devices it concerns now.
pub(super) async fn concerned(at: &Viewer, id: u32) -> Result<String, Failure> {
    let (active, waiting) = match tagged(at, id).await? {
        Some((cell, _)) => (cell.cell.active, cell.cell.waiting),
        None => (0, 0),
    };
    Ok(at.t2("cell-concerns", "active", active, "waiting", waiting))
}
