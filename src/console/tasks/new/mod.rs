//! A new task: the form, what would become of it, what it will do, and at last the task.

mod form;
mod request;

use std::time::Duration;

use askama::Template;
use axum::{
    body::Bytes,
    extract::RawQuery,
    http::Method,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

pub(super) use form::Form;
use request::{Maker, names};

use super::{
    super::{
        calls::part,
        fields::{Fields, encode},
        listed::Listed,
        page::{Failure, Paged, page, page_with, status},
        viewer::Viewer,
    },
    forecast::Forecast,
    review::Review,
    rules::{Phase, Rules},
};
use crate::api::Problem;

/// Packages and groups that can be chosen: a page of the API as long as it may be.
const CHOICES: &str = "limit=1000";
/// A form that is being filled in does not wait longer for a number. Of a million devices it takes some seconds.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);
/// Largest request that is shown as text.
const MAX_SHOWN: usize = 16 << 10;

#[derive(Template)]
#[template(path = "tasks/new.html")]
struct NewPage<'a> {
    at: &'a Viewer,
    f: Form,
    choices: Choices,
    preview: Preview<'a>,
    forecast: Option<Forecast>,
    problem: Option<Problem>,
}

/// What can be chosen.
#[derive(Debug, Default)]
struct Choices {
    packages: Vec<Package>,
    groups: Vec<Group>,
    tenants: Vec<Tenant>,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: i64,
    product: String,
    version: String,
    component: Option<String>,
    tenant: Option<String>,
    superseded_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Group {
    id: i64,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Tenant {
    id: String,
    name: String,
}

/// What the form would do, as far as that can be told while it is filled in.
#[derive(Template)]
#[template(path = "tasks/preview.html")]
struct Preview<'a> {
    at: &'a Viewer,
    count: Option<u64>,
    /// It takes longer to count them than the page waits.
    takes_longer: bool,
    request: String,
    command: String,
    problem: Option<Box<str>>,
}

impl Choices {
    /// Whether this number was entered, and is none of those that can be chosen.
    fn misses_package(&self, id: &str) -> bool {
        !id.is_empty() && !self.packages.iter().any(|it| it.id.to_string() == id)
    }

    fn misses_group(&self, id: &str) -> bool {
        !id.is_empty() && !self.groups.iter().any(|it| it.id.to_string() == id)
    }

    async fn read(viewer: &Viewer) -> Result<Self, Failure> {
        let packages = viewer.look(&format!("/v1/packages?{CHOICES}")).await?;
        let mut packages: Vec<Package> = items(packages);
        packages.retain(|package| package.superseded_at.is_none());
        let groups = viewer.look(&format!("/v1/groups?{CHOICES}")).await?;
        let tenants = viewer.look(&format!("/v1/tenants?{CHOICES}")).await?;
        Ok(Self {
            packages,
            groups: items(groups),
            tenants: items(tenants),
        })
    }
}

fn items<T>(list: Option<Listed<T>>) -> Vec<T> {
    list.map_or_else(Vec::new, |list| list.items)
}

/// The empty form, with what the address says of it.
pub(in crate::console) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let mut form = Form::entered(Fields::parse(given.unwrap_or_default().as_bytes()));
    // another page links to this one by what is on it
    if let Some(package) = form.0.some("package").map(str::to_owned) {
        form.set("package0_id", package);
    }
    for kind in ["group", "filter", "devices"] {
        if form.0.some("for").is_none() && form.0.some(kind).is_some() {
            form.set("for", kind);
        }
    }
    if form.0.some("zone").is_none() {
        form.set("zone", viewer.zone.name());
    }
    filled_in(&viewer, form, None, None).await
}

/// The form, as it was filled in.
async fn filled_in(
    viewer: &Viewer,
    f: Form,
    forecast: Option<Forecast>,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let shown = NewPage {
        at: viewer,
        choices: Choices::read(viewer).await?,
        preview: Preview::of(viewer, &f).await?,
        f,
        forecast,
        problem,
    };
    Ok(match &shown.problem {
        None => page(&shown),
        Some(problem) => page_with(status(problem), &shown),
    })
}

/// What a change of the form would do.
pub(in crate::console) async fn preview(viewer: Viewer, body: Bytes) -> Paged {
    let form = Form::entered(Fields::parse(&body));
    Ok(page(&Preview::of(&viewer, &form).await?))
}

/// The form was sent: for another row, a forecast, the question, or to create the task.
pub(in crate::console) async fn send(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let mut form = Form::entered(fields.entered());
    let what = fields.get("do").to_owned();
    form.0.0.retain(|(name, _)| name != "do");
    form.close_up();
    match &*what {
        "forecast" => match forecast(&viewer, &form, &fields).await {
            Ok(made) => filled_in(&viewer, form, Some(made), None).await,
            Err(problem) => filled_in(&viewer, form, None, Some(problem)).await,
        },
        "look" => {
            let id = form.get("forecast").parse().unwrap_or_default();
            match Forecast::wait(&viewer, id).await {
                Ok(made) => filled_in(&viewer, form, Some(made), None).await,
                Err(problem) => filled_in(&viewer, form, None, Some(problem)).await,
            }
        }
        "review" => match review(&viewer, &form).await {
            Ok(asked) => Ok(asked),
            Err(problem) => filled_in(&viewer, form, None, Some(problem)).await,
        },
        "create" => match create(&viewer, &form, &fields).await {
            Ok(created) => {
                let path = path_of_created(&created);
                let joint = if path.contains('?') { '&' } else { '?' };
                let url = viewer.url(format_args!("{path}{joint}done=task-created"));
                Ok(Redirect::to(&url).into_response())
            }
            Err(problem) => filled_in(&viewer, form, None, Some(problem)).await,
        },
        more => {
            form.add_row(more.trim_start_matches("more-"));
            filled_in(&viewer, form, None, None).await
        }
    }
}

/// The page of a task that was created, and what the answer says beyond that.
pub(super) fn path_of_created(created: &Value) -> String {
    let id = created["id"].as_i64().unwrap_or_default();
    let mut path = format!("/tasks/{id}");
    let told = [
        ("overlaps", &created["overlaps"]["devices"]),
        ("not_served", &created["not_served"]),
    ];
    for (name, count) in told {
        if let Some(count @ 1..) = count.as_u64() {
            let joint = if path.contains('?') { '&' } else { '?' };
            path = format!("{path}{joint}{name}={count}");
        }
    }
    path
}

/// A time that was entered in the zone of the viewer, as the API takes it.
pub(in crate::console) fn time(
    viewer: &Viewer,
    fields: &Fields,
    name: &str,
) -> Result<Option<String>, Problem> {
    let Some(text) = fields.some(name) else {
        return Ok(None);
    };
    let time = viewer.zone.of_input(text);
    let time = time.ok_or_else(|| Problem::field(name, viewer.t("no-time")))?;
    Ok(Some(time))
}

/// The path of the API, for the tenant that was chosen.
fn path(what: &str, form: &Form) -> String {
    match form.0.some("tenant") {
        Some(tenant) => format!("{what}?tenant={}", encode(tenant)),
        None => what.to_owned(),
    }
}

async fn forecast(viewer: &Viewer, form: &Form, fields: &Fields) -> Result<Forecast, Problem> {
    let body = Maker { at: viewer, form }.task()?;
    let path = path("/v1/forecasts", form);
    let asked = viewer.change(Method::POST, &path, Some(&body), fields);
    let asked: Forecast = part(asked.await?.body)?;
    Forecast::wait(viewer, asked.id).await
}

async fn create(viewer: &Viewer, form: &Form, fields: &Fields) -> Result<Value, Problem> {
    let body = Maker { at: viewer, form }.task()?;
    let path = path("/v1/tasks", form);
    let created = viewer.change(Method::POST, &path, Some(&body), fields);
    Ok(created.await?.body)
}

/// Asks, with what will happen to how many devices.
async fn review(viewer: &Viewer, form: &Form) -> Result<Response, Problem> {
    let mut body = Maker { at: viewer, form }.task()?;
    if body["name"].is_null() {
        return Err(Problem::field("name", viewer.t("name-missing")));
    }
    let count = count(viewer, form).await?;
    let mut means = whom(viewer, form).await?;
    means.push(match count {
        Some(count) => viewer.t2("means-create", "count", count, "told", viewer.n(count)),
        None => return Err(Problem::field("package_id", viewer.t("package-missing"))),
    });
    means.push(match body["start_at"].as_str() {
        Some(time) => viewer.t1("means-starts", "time", viewer.time(time)),
        None => viewer.t("means-starts-now"),
    });
    if body["approval"] == true {
        means.push(viewer.t("means-approval"));
    }
    if !body["exclude"].is_null() {
        means.push(viewer.t("means-exclude"));
    }
    let phases = body["phases"].take();
    let phases: Vec<Phase> = if phases.is_null() {
        Vec::new()
    } else {
        part(phases)?
    };
    // the answer of the API has them in another form
    for name in ["name", "approval", "exclude", "packages"] {
        if let Some(body) = body.as_object_mut() {
            body.remove(name);
        }
    }
    if let Some(body) = body.as_object_mut() {
        body.retain(|_, value| !value.is_null());
    }
    let rules: Rules = part(body)?;
    let review = Review {
        at: viewer,
        title: viewer.t1("task-ask-create", "name", form.get("name")),
        means,
        phases,
        told: rules.told(viewer),
        kept: form.0.clone(),
        etag: String::new(),
        button: viewer.t("task-do-create"),
        save: "create",
        action: viewer.url("/tasks/new"),
    };
    Ok(page(&review))
}

/// What is installed, and on whose devices.
async fn whom(viewer: &Viewer, form: &Form) -> Result<Vec<String>, Problem> {
    let mut told = Vec::new();
    for row in form.rows(form::PACKAGES) {
        let id = row.get("id");
        if id.is_empty() {
            continue;
        }
        let package = viewer.get(&format!("/v1/packages/{}", encode(id))).await;
        let package: Package = package.map_err(|failure| failure.0)?;
        let mut name = format!("{} {}", package.product, package.version);
        if let Some(component) = &package.component {
            name = format!("{name} ({component})");
        }
        told.push(viewer.t1("means-package", "package", name));
    }
    told.push(match form.get("for") {
        "filter" => viewer.t1("means-filter", "filter", form.get("filter")),
        "group" => viewer.t1("means-group", "group", form.get("group")),
        "devices" => viewer.t("targets-devices"),
        _ => viewer.t("targets-all"),
    });
    Ok(told)
}

/// The devices that the form names; `None`: it has no package yet.
async fn count(viewer: &Viewer, form: &Form) -> Result<Option<u64>, Problem> {
    let first = form.rows(form::PACKAGES).into_iter();
    let mut ids = first.map(|row| row.get("id")).filter(|id| !id.is_empty());
    let Some(id) = ids.next() else {
        return Ok(None);
    };
    if form.get("for") == "devices" {
        let named = names(form.get("devices"));
        let named: std::collections::BTreeSet<_> = named.into_iter().collect();
        return Ok(Some(u64::try_from(named.len()).unwrap_or(u64::MAX)));
    }
    let package: Package = viewer
        .get(&format!("/v1/packages/{}", encode(id)))
        .await
        .map_err(|failure| failure.0)?;
    let mut query = Fields(vec![("product".to_owned(), package.product)]);
    if let Some(tenant) = package.tenant {
        query.0.push(("tenant".to_owned(), tenant));
    }
    let kind = form.get("for");
    if matches!(kind, "filter" | "group") {
        query.0.push((kind.to_owned(), form.get(kind).to_owned()));
    }
    let path = format!("/v1/devices/count?{}", query.query());
    let counted: Count = viewer.get(&path).await.map_err(|failure| failure.0)?;
    Ok(Some(counted.count))
}

#[derive(Debug, Deserialize)]
struct Count {
    count: u64,
}

impl<'a> Preview<'a> {
    async fn of(at: &'a Viewer, form: &Form) -> Result<Self, Failure> {
        let mut preview = Self {
            at,
            count: None,
            takes_longer: false,
            request: String::new(),
            command: String::new(),
            problem: None,
        };
        match (Maker { at, form }).task() {
            Ok(body) => {
                let request = serde_json::to_string_pretty(&body).unwrap_or_default();
                if request.len() <= MAX_SHOWN {
                    preview.command = command(&request, &path("/v1/tasks", form));
                    preview.request = request;
                }
            }
            Err(problem) => preview.tell(problem),
        }
        match timeout(COUNTED_WITHIN, count(at, form)).await {
            Ok(Ok(count)) => preview.count = count,
            // the session has ended
            Ok(Err(problem)) if problem.status == 401 => return Err(problem.into()),
            Ok(Err(problem)) => preview.tell(problem),
            Err(_) => preview.takes_longer = true,
        }
        Ok(preview)
    }

    fn tell(&mut self, problem: Problem) {
        let first = problem.errors.into_iter().next();
        let told = first.map(|error| format!("{}: {}", error.field, error.detail));
        self.problem = Some(told.map_or(problem.detail, String::into_boxed_str));
    }
}

/// The request as a command line for a shell (POSIX.1, 2.2.2: nothing is special between single quotes, but they themselves).
fn command(request: &str, path: &str) -> String {
    let quoted = request.replace('\'', r"'\''");
    format!(
        "curl -X POST \"$API{path}\" -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{quoted}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_argument_whatever_is_in_it() {
        let command = command(r#"{"name": "it's $(x)"}"#, "/v1/tasks");
        assert!(
            command.ends_with(r#"-d '{"name": "it'\''s $(x)"}'"#),
            "{command}"
        );
    }

    #[test]
    fn the_page_of_a_created_task_is_told_what_the_answer_says() {
        let created = serde_json::json!({"id": 7, "overlaps": {"devices": 3}, "not_served": 0});
        assert_eq!(path_of_created(&created), "/tasks/7?overlaps=3");
        let created = serde_json::json!({"id": 7, "overlaps": null, "not_served": 2});
        assert_eq!(path_of_created(&created), "/tasks/7?not_served=2");
    }
}
