//! A task, or its new rules, before they are sent: what they will do to how many devices.

use askama::Template;

use super::{
    super::{fields::Fields, viewer::Viewer},
    rules::{Phase, Told},
};

/// The question.
#[derive(Template)]
#[template(path = "tasks/review.html")]
pub(super) struct Review<'a> {
    pub(super) at: &'a Viewer,
    pub(super) title: String,
    /// What it means, a sentence each.
    pub(super) means: Vec<String>,
    pub(super) phases: Vec<Phase>,
    pub(super) told: Vec<Told>,
    /// What was entered.
    pub(super) kept: Fields,
    pub(super) etag: String,
    pub(super) button: String,
    /// What the button does, as the form says.
    pub(super) save: &'static str,
    pub(super) action: String,
}
