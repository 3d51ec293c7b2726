//! A change that is asked back: what it does to how many devices, and a button.

use askama::Template;
use axum::response::Response;

use super::{
    page::{page, page_with},
    viewer::Viewer,
};
use crate::api::Problem;

/// The question.
#[derive(Template)]
#[template(path = "confirm.html")]
pub(super) struct Question<'a> {
    pub(super) at: &'a Viewer,
    /// What is going to be done: `Pause the task "Spring"`.
    pub(super) title: String,
    /// What that means, a sentence each.
    pub(super) means: Vec<String>,
    /// Further inputs.
    pub(super) inputs: Vec<Input>,
    /// What the page sends back besides: names and values.
    pub(super) hidden: Vec<(&'static str, String)>,
    /// What the button says.
    pub(super) button: String,
    /// It cannot be taken back.
    pub(super) danger: bool,
    /// Where the form goes, and where it is left without.
    pub(super) action: String,
    pub(super) back: String,
    /// Why it was not done, when it was tried.
    pub(super) problem: Option<Problem>,
}

/// An input of a question.
pub(super) struct Input {
    pub(super) name: &'static str,
    pub(super) label: String,
    pub(super) value: String,
    /// As HTML has it: `text`, `number`, `checkbox`, `datetime-local`.
    pub(super) kind: &'static str,
    pub(super) required: bool,
}

impl Question<'_> {
    /// The page.
    pub(super) fn page(&self) -> Response {
        match &self.problem {
            None => page(self),
            Some(problem) => page_with(super::page::status(problem), self),
        }
    }
}
