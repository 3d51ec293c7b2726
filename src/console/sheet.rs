//! Pages of the same parts: links, facts, tables and forms.

use askama::Template;
use axum::response::Response;

use super::{
    chart::Svg,
    fields::encode,
    listed::Pager,
    page::{page, page_with, status},
    viewer::Viewer,
};
use crate::api::Problem;

/// A page.
#[derive(Template)]
#[template(path = "sheet.html")]
pub(super) struct Sheet<'a> {
    at: &'a Viewer,
    title: String,
    links: Vec<Link>,
    blocks: Vec<Block>,
    problem: Option<Problem>,
}

/// A way to another page.
pub(super) struct Link {
    to: String,
    text: String,
    class: &'static str,
}

/// A part of a page.
pub(super) enum Block {
    Heading(String),
    /// A class of the style sheet, and a sentence.
    Sentence(&'static str, String),
    Facts(Vec<(String, Cell)>),
    Links(Vec<Link>),
    Table(Table),
    Pager(Pager),
    Picture(Svg),
    Form(Form),
    /// What is shown once, or copied: an id, what it is, and the text.
    Plain(&'static str, String, String),
}

/// Something in a table or beside a name.
#[derive(Default)]
pub(super) enum Cell {
    #[default]
    None,
    Text(String),
    Code(String),
    Number(String),
    /// A text, and where it leads.
    Link(String, String),
    /// A class of the style sheet, and a word.
    Tag(&'static str, String),
    Lines(Vec<String>),
    /// What is seen when it is opened.
    Folded(String, String),
}

/// A table.
pub(super) struct Table {
    pub(super) id: &'static str,
    /// What it is, for those who do not see it.
    pub(super) label: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// What is said where there are no rows.
    pub(super) none: String,
    /// It renews itself.
    pub(super) renews: bool,
}

/// A form.
#[derive(Default)]
pub(super) struct Form {
    pub(super) action: String,
    pub(super) groups: Vec<Group>,
    pub(super) hidden: Vec<(&'static str, String)>,
    pub(super) button: String,
    pub(super) danger: bool,
    /// It looks for something, and changes nothing.
    pub(super) looks: bool,
    /// It sends a file: what is said where that fails.
    pub(super) upload: Option<String>,
}

/// Inputs that belong together.
#[derive(Default)]
pub(super) struct Group {
    /// Empty for none.
    pub(super) legend: String,
    pub(super) inputs: Vec<Input>,
}

/// An input.
pub(super) struct Input {
    name: String,
    label: String,
    value: String,
    hint: String,
    required: bool,
    kind: Kind,
}

/// What is entered.
enum Kind {
    /// A line, of a type as HTML has it.
    Line(&'static str),
    /// A line that is completed out of these.
    Of(Vec<String>),
    Area,
    /// One of these: value and text.
    Choice(Vec<(String, String)>),
    Box,
    /// How a browser fills it in.
    Password(&'static str),
    File,
}

impl<'a> Sheet<'a> {
    pub(super) fn new(at: &'a Viewer, title: String) -> Self {
        Self {
            at,
            title,
            links: Vec::new(),
            blocks: Vec::new(),
            problem: None,
        }
    }

    /// With a link beside the title, for who may.
    pub(super) fn link(mut self, operation: &str, link: Link) -> Self {
        if self.at.may(operation) {
            self.links.push(link);
        }
        self
    }

    pub(super) fn block(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    pub(super) fn blocks(mut self, blocks: impl IntoIterator<Item = Block>) -> Self {
        self.blocks.extend(blocks);
        self
    }

    /// With a form and what the API said of it.
    pub(super) fn form(mut self, form: Form, problem: Option<Problem>) -> Self {
        self.blocks.push(Block::Form(form));
        self.problem = self.problem.or(problem);
        self
    }

    /// The answer.
    pub(super) fn page(self) -> Response {
        match &self.problem {
            None => page(&self),
            Some(problem) => page_with(status(problem), &self),
        }
    }
}

impl Link {
    /// To a page of the console.
    pub(super) fn to(at: &Viewer, path: impl std::fmt::Display, text: &str) -> Self {
        Self {
            to: at.url(path),
            text: at.t(text),
            class: "",
        }
    }

    /// What the page is mostly for.
    pub(super) fn first(self) -> Self {
        Self {
            class: " primary",
            ..self
        }
    }

    /// What cannot be taken back.
    pub(super) fn danger(self) -> Self {
        Self {
            class: " danger",
            ..self
        }
    }
}

impl Cell {
    /// A text, or nothing.
    pub(super) fn maybe(text: Option<String>) -> Self {
        text.map_or(Self::None, Self::Text)
    }
}

impl Table {
    /// What stands above the columns, and whether there are numbers below.
    fn heads(&self) -> impl Iterator<Item = (bool, &str)> {
        let first = self.rows.first();
        self.columns.iter().enumerate().map(move |(i, column)| {
            let below = first.and_then(|row| row.get(i));
            (matches!(below, Some(Cell::Number(_))), column.as_str())
        })
    }
}

impl Group {
    pub(super) fn of(inputs: Vec<Input>) -> Self {
        Self {
            legend: String::new(),
            inputs,
        }
    }
}

impl Input {
    fn of(name: impl Into<String>, label: String, kind: Kind) -> Self {
        Self {
            name: name.into(),
            label,
            value: String::new(),
            hint: String::new(),
            required: false,
            kind,
        }
    }

    pub(super) fn line(name: impl Into<String>, label: String) -> Self {
        Self::of(name, label, Kind::Line("text"))
    }

    /// A line of another type: `number`, `date`, `datetime-local`, `url`, `time`.
    pub(super) fn typed(name: impl Into<String>, label: String, kind: &'static str) -> Self {
        Self::of(name, label, Kind::Line(kind))
    }

    pub(super) fn area(name: impl Into<String>, label: String) -> Self {
        Self::of(name, label, Kind::Area)
    }

    pub(super) fn file(name: impl Into<String>, label: String) -> Self {
        Self::of(name, label, Kind::File)
    }

    pub(super) fn tick(name: impl Into<String>, label: String) -> Self {
        Self::of(name, label, Kind::Box)
    }

    /// `current-password`, `new-password`, `one-time-code`.
    pub(super) fn secret(name: impl Into<String>, label: String, fills: &'static str) -> Self {
        Self::of(name, label, Kind::Password(fills))
    }

    pub(super) fn choice(
        name: impl Into<String>,
        label: String,
        choices: Vec<(String, String)>,
    ) -> Self {
        Self::of(name, label, Kind::Choice(choices))
    }

    /// A line with proposals.
    pub(super) fn one_of(name: impl Into<String>, label: String, known: Vec<String>) -> Self {
        Self::of(name, label, Kind::Of(known))
    }

    pub(super) fn value(mut self, value: impl Into<String>) -> Self {
        self.value = value.into();
        self
    }

    pub(super) fn ticked(mut self, ticked: bool) -> Self {
        self.value = if ticked { "1" } else { "" }.to_owned();
        self
    }

    pub(super) fn hint(mut self, hint: String) -> Self {
        self.hint = hint;
        self
    }

    pub(super) fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// A path with the tenant that it is of; as it is for that of the tenant `default`.
pub(super) fn of_tenant(path: &str, tenant: Option<&str>) -> String {
    match tenant.filter(|tenant| !tenant.is_empty()) {
        Some(tenant) => format!("{path}?tenant={}", encode(tenant)),
        None => path.to_owned(),
    }
}

/// The head of a table, by the names of texts.
pub(super) fn columns(at: &Viewer, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| at.t(name)).collect()
}
