//! One task: where it stands, what it waits for, what came of it, and how it is run.

use askama::Template;
use axum::{
    extract::{Path, RawQuery},
    http::StatusCode,
};

use super::{
    super::{
        fields::Fields,
        page::{Failure, Paged, page},
        viewer::Viewer,
    },
    forecast::Forecast,
    rules::Told,
    series::Course,
    view::Task,
};

#[derive(Template)]
#[template(path = "tasks/show.html")]
struct TaskPage<'a> {
    at: &'a Viewer,
    task: Task,
    told: Vec<Told>,
    course: Option<Course>,
    forecast: Option<Forecast>,
    /// What the API said when it was created: other tasks with the same devices, devices that can be served nothing.
    overlaps: Option<u64>,
    not_served: Option<u64>,
}

impl TaskPage<'_> {
    /// The failures, the most frequent first.
    fn failures(&self) -> Vec<(&str, u64)> {
        let mut failures: Vec<_> = (self.task.failures.iter())
            .map(|(reason, count)| (&**reason, *count))
            .collect();
        failures.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        failures
    }

    /// The address of something below the task.
    fn below(&self, path: &str) -> String {
        self.at.url(format_args!("/tasks/{}/{path}", self.task.id))
    }

    /// It waits for somebody else than the viewer.
    fn is_own(&self) -> bool {
        self.task.waits_for_approval() && self.task.is_of(self.at)
    }

    fn may_retry(&self) -> bool {
        self.at.may("retry_task") && self.task.stopped_at.is_none()
    }

    fn has_next_phase(&self) -> bool {
        self.task.phase < self.task.phases.len() && self.is_steered()
    }

    /// It is held because of what has failed: that is looked at before it goes on.
    fn has_failed(&self) -> bool {
        matches!(&*self.task.stand.code, "failures" | "phase_failed")
    }

    /// It can be paused and resumed.
    fn is_steered(&self) -> bool {
        !self.task.has_ended() && !self.task.waits_for_approval() && self.task.state != "stopping"
    }
}

/// The page.
pub(super) async fn show(viewer: Viewer, Path(id): Path<i64>, RawQuery(given): RawQuery) -> Paged {
    let task: Task = viewer.get(&format!("/v1/tasks/{id}")).await?;
    let course = Course::of(&viewer, id, task.total).await?;
    let forecast = if task.has_ended() || task.is_held() || task.state == "stopping" {
        None
    } else {
        forecast(&viewer, id).await?
    };
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let count = |name| given.get(name).parse().ok().filter(|count| *count > 0);
    Ok(page(&TaskPage {
        at: &viewer,
        told: task.rules.told(&viewer),
        course,
        forecast,
        overlaps: count("overlaps"),
        not_served: count("not_served"),
        task,
    }))
}

/// The forecast of a task, as far as it is. The API makes one in five minutes at the most.
async fn forecast(viewer: &Viewer, id: i64) -> Result<Option<Forecast>, Failure> {
    if !viewer.may("get_task_forecast") {
        return Ok(None);
    }
    match viewer.get(&format!("/v1/tasks/{id}/forecast")).await {
        Ok(forecast) => Ok(Some(forecast)),
        // it has ended meanwhile, or others are forecast
        Err(failure)
            if [
                StatusCode::CONFLICT,
                StatusCode::TOO_MANY_REQUESTS,
                StatusCode::NOT_FOUND,
                StatusCode::FORBIDDEN,
            ]
            .contains(&super::super::page::status(&failure.0)) =>
        {
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}
