//! One package: what it is, what is said of it, and who runs it.

use axum::{body::Bytes, extract::Path, http::Method};
use serde::Deserialize;

use super::super::{
    confirm::Question,
    fields::{Fields, encode},
    listed::Listed,
    page::{Failure, Paged, done},
    sheet::{Block, Cell, Link, Sheet, Table, columns, of_tenant},
    viewer::Viewer,
};
use crate::api::Problem;

/// How many tasks are looked through.
const TASKS: usize = 200;

/// A package.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub(super) id: i64,
    tenant: Option<String>,
    product: String,
    pub(super) version: String,
    component: Option<String>,
    size_bytes: u64,
    served_by: Vec<String>,
    segment_size: Option<u32>,
    segment_count: Option<u32>,
    check_code: Option<u32>,
    sha256: String,
    md5: Option<String>,
    created_at: String,
    superseded_at: Option<String>,
    pub(super) cves_mended: Vec<String>,
    pub(super) release_notes: Option<String>,
    pub(super) support_ends: Option<String>,
    pub(super) sbom: Option<Sbom>,
    signature: Option<Signature>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Sbom {
    format: String,
    spec_version: String,
    components: u64,
}

#[derive(Debug, Deserialize)]
struct Signature {
    algorithm: String,
    key: String,
    verified_at: String,
    key_removed_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Count {
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Task {
    id: i64,
    name: String,
    state: String,
    package_id: i64,
    packages: Vec<TaskPackage>,
}

#[derive(Debug, Deserialize)]
struct TaskPackage {
    package_id: i64,
}

/// The page.
pub(in crate::console) async fn show(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    let at = &viewer;
    let it: Package = at.get(&format!("/v1/packages/{id}")).await?;
    let title = format!("{} {}", it.product, it.version);
    let mut sheet = Sheet::new(at, title)
        .link(
            "update_package",
            Link::to(
                at,
                format_args!("/packages/{id}/papers"),
                "package-change-papers",
            ),
        )
        .link(
            "set_sbom",
            Link::to(at, format_args!("/packages/{id}/sbom"), "package-set-sbom"),
        )
        .link(
            "delete_package",
            Link::to(at, format_args!("/packages/{id}/delete"), "package-delete").danger(),
        );
    if it.superseded_at.is_some() {
        sheet = sheet.block(Block::Sentence("warning", at.t("package-superseded-means")));
    }
    sheet = sheet
        .block(Block::Facts(facts(at, &it)))
        .block(Block::Heading(at.t("package-papers")))
        .block(Block::Facts(papers(at, &it)));
    if let Some(sbom) = &it.sbom {
        let file = Link::to(
            at,
            format_args!("/packages/{id}/sbom/file"),
            "package-sbom-file",
        );
        let mut links = vec![file];
        if at.may("remove_sbom") {
            let to = format!("/packages/{id}/sbom/remove");
            links.push(Link::to(at, to, "package-sbom-remove").danger());
        }
        let says = [("format", &sbom.format), ("version", &sbom.spec_version)];
        let mut says = says
            .map(|(name, value)| (name, value.as_str().into()))
            .to_vec();
        says.push(("count", sbom.components.into()));
        sheet = sheet
            .block(Block::Sentence("", at.say("package-sbom-is", &says)))
            .block(Block::Links(links));
    }
    Ok(sheet.blocks(who_runs(at, &it).await?).page())
}

fn facts(at: &Viewer, it: &Package) -> Vec<(String, Cell)> {
    let product = of_tenant(
        &format!("/products/{}", encode(&it.product)),
        it.tenant.as_deref(),
    );
    let served = it.served_by.iter().map(|by| at.word("served-by", by));
    let mut facts = vec![
        (
            at.t("of-product"),
            Cell::Link(it.product.clone(), at.url(product)),
        ),
        (at.t("package-version"), Cell::Text(it.version.clone())),
        (
            at.t("package-component"),
            Cell::Text(
                it.component
                    .clone()
                    .unwrap_or_else(|| at.t("package-of-all")),
            ),
        ),
        (at.t("package-size"), Cell::Text(at.n(it.size_bytes))),
        (at.t("package-served"), Cell::Lines(served.collect())),
    ];
    for (name, value) in [
        ("package-segment-size", it.segment_size),
        ("package-segments", it.segment_count),
    ] {
        facts.extend(value.map(|value| (at.t(name), Cell::Text(at.n(value)))));
    }
    if let Some(code) = it.check_code {
        facts.push((
            at.t("package-check-code"),
            Cell::Code(format!("{code:04x}")),
        ));
    }
    facts.push(("SHA-256".to_owned(), Cell::Code(it.sha256.clone())));
    if let Some(md5) = &it.md5 {
        facts.push(("MD5".to_owned(), Cell::Code(md5.clone())));
    }
    facts.push((at.t("created"), Cell::Text(at.time(&it.created_at))));
    if let Some(superseded) = &it.superseded_at {
        facts.push((at.t("package-superseded"), Cell::Text(at.time(superseded))));
    }
    if let Some(tenant) = &it.tenant {
        facts.push((at.t("of-tenant"), Cell::Text(tenant.clone())));
    }
    facts
}

fn papers(at: &Viewer, it: &Package) -> Vec<(String, Cell)> {
    let signature = match &it.signature {
        None => Cell::Text(at.t("package-not-signed")),
        Some(it) => Cell::Lines(
            [
                Some(format!("{} {}", it.algorithm, it.key)),
                Some(at.time(&it.verified_at)),
                it.key_removed_at
                    .as_ref()
                    .map(|_| at.t("package-key-removed")),
            ]
            .into_iter()
            .flatten()
            .collect(),
        ),
    };
    let cves = if it.cves_mended.is_empty() {
        Cell::Text(at.t("package-cves-none"))
    } else {
        Cell::Lines(it.cves_mended.clone())
    };
    let mut facts = vec![
        (at.t("package-signature"), signature),
        (at.t("package-cves"), cves),
    ];
    if let Some(day) = &it.support_ends {
        facts.push((at.t("package-support-ends"), Cell::Text(day.clone())));
    }
    if let Some(notes) = &it.release_notes {
        let lines = notes.lines().map(str::to_owned).collect();
        facts.push((at.t("package-notes"), Cell::Lines(lines)));
    }
    facts
}

/// The devices of a product that run a version.
fn running(product: &str, version: &str) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "product=='{}';version=='{}'",
        quoted(product),
        quoted(version)
    )
}

/// Which devices run it, and which tasks bring it.
async fn who_runs(at: &Viewer, it: &Package) -> Result<Vec<Block>, Failure> {
    let mut blocks = vec![Block::Heading(at.t("package-runs"))];
    let filter = encode(&running(&it.product, &it.version));
    let tenant = encode(it.tenant.as_deref().unwrap_or("default"));
    let count = format!("/v1/devices/count?filter={filter}&tenant={tenant}");
    if let Some(Count { count }) = at.look(&count).await? {
        blocks.push(Block::Sentence(
            "",
            at.t1("package-runs-count", "count", count),
        ));
        let devices = format!("/devices?filter={filter}");
        blocks.push(Block::Links(vec![Link::to(
            at,
            devices,
            "package-runs-show",
        )]));
    }
    let tasks: Option<Listed<Task>> = at.look(&format!("/v1/tasks?limit={TASKS}")).await?;
    let tasks = tasks.map(|tasks| tasks.items).unwrap_or_default();
    let of_it = |task: &Task| {
        task.package_id == it.id || task.packages.iter().any(|p| p.package_id == it.id)
    };
    let rows = tasks.into_iter().filter(of_it).map(|task| {
        vec![
            Cell::Link(task.name, at.url(format_args!("/tasks/{}", task.id))),
            Cell::Tag("", at.word("task-state", &task.state)),
        ]
    });
    blocks.push(Block::Heading(at.t("package-tasks")));
    blocks.push(Block::Table(Table {
        id: "package-tasks",
        label: at.t("package-tasks"),
        columns: columns(at, &["task-name", "task-state"]),
        rows: rows.collect(),
        none: at.t1("package-tasks-none", "count", TASKS),
        renews: true,
    }));
    Ok(blocks)
}

/// Asks.
pub(in crate::console) async fn ask_delete(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    question(&viewer, id, None).await
}

async fn question(at: &Viewer, id: i64, problem: Option<Problem>) -> Paged {
    let it: Package = at.get(&format!("/v1/packages/{id}")).await?;
    let question = Question {
        at,
        title: at.t2(
            "package-ask-delete",
            "product",
            &*it.product,
            "version",
            &*it.version,
        ),
        means: vec![at.t("package-means-delete")],
        inputs: Vec::new(),
        hidden: Vec::new(),
        button: at.t("package-delete"),
        danger: true,
        action: at.url(format_args!("/packages/{id}/delete")),
        back: at.url(format_args!("/packages/{id}")),
        problem,
    };
    Ok(question.page())
}

/// Deletes it.
pub(in crate::console) async fn delete(viewer: Viewer, Path(id): Path<i64>, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let path = format!("/v1/packages/{id}");
    match viewer.change(Method::DELETE, &path, None, &fields).await {
        Ok(_) => Ok(done(&viewer, "/packages", "package-deleted")),
        Err(problem) => question(&viewer, id, Some(problem)).await,
    }
}
