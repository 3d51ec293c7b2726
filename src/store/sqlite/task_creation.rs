//! A task comes to be in parts: each is a transaction of its own, so that others get their turn at the writer while a
//! million upgrades are written. Until the last one the task is hidden.

use std::collections::VecDeque;

use sqlx::SqliteConnection;

use super::{
    Doing, PART, SqliteStore,
    bulk::json_list,
    counts::CountChanges,
    events, groups,
    narrowing::{self, Narrowing},
    rows::{self, Columns},
    task_devices::{self, Part, Selected},
    task_packages, tasks,
    walk::Walk,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    filter::Filter,
    ledger::{Reasons, TaskId, TaskState},
    store::{
        CreateTaskError, DeviceFilter, GroupId, NewTask, NewWebhook, Selection, StoreError,
        TaskRecord, UpgradeState,
    },
    task::{Census, Deal, Hold, HoldReason, Lot, Membership, TaskRules},
};

pub(super) const CREATING: &str = "creating a task";

/// Lots of a task: so many phases, each with so many time zones.
const MAX_LOTS: usize = 20_000;
/// No endpoint is behind it: no character is above U+10FFFF.
const LAST_ENDPOINT: &str = "\u{10FFFF}";
/// Endpoints that an error names.
const NAMED: usize = 5;
/// Devices that are looked for at once: as many as a step of the search looks at, so that it steps no more often than it must.
const FOUND: u32 = 100_000;

/// Whether upgrades of the task of number `?1` have to be confirmed.
macro_rules! unconfirmed {
    () => {
        "COALESCE((SELECT t.rules ->> '$.confirmation' IS NOT NULL FROM tasks t WHERE t.id = ?1), 0)"
    };
}

/// A task that is being created.
struct Creation<'n> {
    task: TaskId,
    product: String,
    start_at: UtcMillis,
    rules: &'n TaskRules,
    created_at: UtcMillis,
    remaining: Remaining<'n>,
    /// Where its devices are not all in one lot.
    deal: Option<Deal>,
    /// Lots that are written.
    lots: usize,
    /// Devices that were left out, because they are excluded.
    excluded: u64,
    /// Devices that the task leaves out itself.
    left_out: u64,
}

/// Devices whose upgrades are not written yet.
enum Remaining<'n> {
    /// Of the list, in the order of their endpoints, those from this position on.
    Listed(Vec<&'n str>, usize),
    /// All of the product whose endpoints follow.
    OfProduct(String),
    /// Those of these JSON lists of [`PART`] at most, in the order of their endpoints.
    Found(VecDeque<String>),
}

impl SqliteStore {
    /// `begun` is the task once something of it may be in the database.
    #[expect(clippy::too_many_lines, reason = "one step after the other")]
    pub(super) async fn create_in_parts(
        &self,
        new: &NewTask,
        begun: &mut Option<TaskId>,
    ) -> Result<TaskRecord, CreateTaskError> {
        let mut reader = self.readers.begin().await.doing(CREATING)?;
        let package = task_packages::usable(&mut reader, new).await?;
        let product = package.package.product;
        narrowing::check(&mut reader, &new.exclude).await?;
        let narrowing = Narrowing::of(&mut reader, &new.exclude, new.created_at).await?;
        let mut left_out = 0;
        let remaining = match &new.selection {
            Selection::Product(named) if *named != product => {
                return Err(CreateTaskError::OtherProduct {
                    package: product,
                    task: named.clone(),
                });
            }
            Selection::Product(_) | Selection::All if narrowing.is_none() => {
                Remaining::OfProduct(String::new())
            }
            Selection::Devices(endpoints) => {
                let mut sorted: Vec<&str> = endpoints.iter().map(String::as_str).collect();
                sorted.sort_unstable();
                sorted.dedup();
                if !are_of_product(&mut reader, &sorted, &product).await? {
                    refuse_wrong(&mut reader, endpoints, &product).await?;
                }
                if let Some(narrowing) = &narrowing {
                    left_out = narrowing.keep(&mut reader, &mut sorted).await?;
                }
                Remaining::Listed(sorted, 0)
            }
            Selection::Product(_) | Selection::All | Selection::Filter(_) | Selection::Group(_) => {
                let filter = selected(&mut reader, new, &product).await?;
                let walk = Walk::of(&mut reader, filter).await?;
                let found;
                (found, left_out) = find(&walk, &mut reader, narrowing.as_ref()).await?;
                Remaining::Found(found)
            }
        };
        let rules = &new.rules;
        let dealt = rules.phase_count() > 1 || rules.knows_zones();
        let census = if dealt {
            let asks = (rules, new.created_at);
            remaining.census(&mut reader, asks, &product).await?
        } else {
            Census::default()
        };
        if let Some(phase) = census.empty_phase(rules) {
            return Err(CreateTaskError::EmptyPhase { phase });
        }
        drop(reader);
        let start_at = new.start_at.unwrap_or(new.created_at).max(new.created_at);
        let mut tx = self.write(CREATING).await?;
        if let Selection::Group(group) = new.selection {
            check_group(&mut tx, group).await?; // from here on it is not removed
        }
        narrowing::check(&mut tx, &new.exclude).await?; // nor is this one
        task_packages::usable(&mut tx, new).await?; // nor a key
        let task = insert_hidden(&mut tx, new, start_at)
            .await
            .doing(CREATING)?;
        tx.made(Table::Tasks, task.0);
        task_packages::link(&mut tx, task, new)
            .await
            .doing(CREATING)?;
        let mut creation = Creation {
            task,
            deal: dealt.then(|| Deal::new(rules, &census, task.0.unsigned_abs())),
            lots: 0,
            product,
            start_at,
            rules,
            created_at: new.created_at,
            remaining,
            excluded: 0,
            left_out,
        };
        while creation.insert_part(&mut tx).await? {
            tx.commit_part().await.doing(CREATING)?;
            *begun = Some(creation.task);
            tx = self.write(CREATING).await?;
        }
        let record = creation.show(&mut tx, new).await?;
        tx.count("devices", record.total());
        tx.commit().await.doing(CREATING)?;
        Ok(record)
    }
}

impl Remaining<'_> {
    /// How many they are at the beginning, without those that are excluded.
    async fn count(&self, conn: &mut SqliteConnection, product: &str) -> Result<u64, StoreError> {
        match self {
            Self::Listed(endpoints, _) => not_excluded(conn, &json_list(endpoints)).await,
            Self::OfProduct(_) => count_of_product(conn, product).await,
            Self::Found(lists) => {
                let mut count = 0;
                for names in lists {
                    count += not_excluded(conn, names).await?;
                }
                Ok(count)
            }
        }
    }

    /// Where they stand in the draw of a task with these rules that is created at that time.
    async fn census(
        &self,
        conn: &mut SqliteConnection,
        asks: (&TaskRules, UtcMillis),
        product: &str,
    ) -> Result<Census, StoreError> {
        if !asks.0.draws_by_attributes() {
            return Ok(Census::of(self.count(conn, product).await?));
        }
        let mut census = Census::default();
        match self {
            Self::Listed(endpoints, _) => {
                for part in endpoints.chunks(PART as usize) {
                    let names = json_list(part);
                    count_in(&mut census, conn, asks, product, Part::Listed(&names)).await?;
                }
            }
            Self::OfProduct(_) => {
                let mut after = Some(String::new());
                while let Some(last) = after {
                    let part = Part::Behind(&last);
                    after = count_in(&mut census, conn, asks, product, part).await?;
                }
            }
            Self::Found(lists) => {
                for names in lists {
                    count_in(&mut census, conn, asks, product, Part::Listed(names)).await?;
                }
            }
        }
        Ok(census)
    }

    /// Takes the next devices by their names, where these are known.
    fn take_named(&mut self) -> Option<String> {
        match self {
            Self::Listed(endpoints, from) => {
                let names = json_list(endpoints.iter().skip(*from).take(PART as usize));
                *from += PART as usize;
                Some(names)
            }
            Self::Found(lists) => Some(lists.pop_front().unwrap_or_else(|| "[]".to_owned())),
            Self::OfProduct(_) => None,
        }
    }
}

/// The devices that a walk finds and the task does not leave out, as JSON lists of [`PART`] at most, and how many it does. They are
/// looked for once, for the draw and for the upgrades: a million names are 25 MB.
async fn find(
    walk: &Walk,
    conn: &mut SqliteConnection,
    narrowing: Option<&Narrowing>,
) -> Result<(VecDeque<String>, u64), StoreError> {
    let mut lists = VecDeque::new();
    let mut left_out = 0;
    let mut after = None;
    loop {
        let mut found = walk.find(conn, after.as_deref(), FOUND).await?;
        if let Some(narrowing) = narrowing {
            left_out += narrowing.keep(conn, &mut found.endpoints).await?;
        }
        lists.extend(found.endpoints.chunks(PART as usize).map(json_list));
        after = found.next;
        if after.is_none() {
            return Ok((lists, left_out));
        }
    }
}

impl Creation<'_> {
    /// Writes the next upgrades. Returns whether more may follow.
    async fn insert_part(&mut self, conn: &mut SqliteConnection) -> Result<bool, StoreError> {
        let mut counts = CountChanges::default();
        let more = if self.deal.is_some() {
            self.deal_upgrades(conn, &mut counts).await?
        } else {
            let (inserted, more) = self.insert_upgrades(conn).await.doing(CREATING)?;
            counts.add(self.task, 0, UpgradeState::Pending, None, inserted);
            self.write_lots(conn, &[Lot::default()])
                .await
                .doing(CREATING)?;
            more
        };
        counts.write(conn).await.doing(CREATING)?;
        Ok(more)
    }

    /// Writes the next upgrades, each in its lot. Returns whether more may follow.
    async fn deal_upgrades(
        &mut self,
        conn: &mut SqliteConnection,
        counts: &mut CountChanges,
    ) -> Result<bool, StoreError> {
        let devices = self.next_devices(conn).await?;
        let more = match &mut self.remaining {
            Remaining::Listed(endpoints, from) => *from < endpoints.len(),
            Remaining::Found(lists) => !lists.is_empty(),
            Remaining::OfProduct(after) => {
                if let Some(last) = devices.last() {
                    after.clone_from(&last.endpoint);
                }
                devices.len() == PART as usize
            }
        };
        let Some(deal) = &mut self.deal else {
            return Ok(more);
        };
        let mut dealt = Vec::with_capacity(devices.len());
        for device in devices {
            if device.excluded {
                self.excluded += 1;
                continue;
            }
            let lot = deal.lot(&device.endpoint, device.place, device.zone.as_deref());
            counts.add(self.task, lot, UpgradeState::Pending, None, 1);
            dealt.push((device.endpoint, lot));
        }
        let lots = deal.lots().to_vec();
        if lots.len() > MAX_LOTS {
            return Err(rows::unreadable("task_lots", lots.len()));
        }
        self.write_lots(conn, &lots).await.doing(CREATING)?;
        let times = (self.start_at, self.created_at);
        insert_dealt(conn, self.task, times, &dealt)
            .await
            .doing(CREATING)?;
        Ok(more)
    }

    /// Takes the next devices, in the order of their endpoints.
    async fn next_devices(
        &mut self,
        conn: &mut SqliteConnection,
    ) -> Result<Vec<Selected>, StoreError> {
        let names = self.remaining.take_named();
        let part = match (&self.remaining, &names) {
            (Remaining::OfProduct(after), _) => Part::Behind(after),
            (_, names) => Part::Listed(names.as_deref().unwrap_or("[]")),
        };
        task_devices::read(conn, (self.rules, self.created_at), &self.product, part).await
    }

    /// Writes those of the lots that are not written yet.
    async fn write_lots(
        &mut self,
        conn: &mut SqliteConnection,
        lots: &[Lot],
    ) -> Result<(), sqlx::Error> {
        for lot in lots.iter().skip(self.lots) {
            sqlx::query(
                "INSERT INTO task_lots (task_id, lot, phase, zone, soak_s) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(self.task.0)
            .bind(lot.lot)
            .bind(lot.phase)
            .bind(lot.zone.as_deref())
            .bind(self.rules.phase(lot.phase).soak_seconds)
            .execute(&mut *conn)
            .await?;
        }
        self.lots = lots.len();
        Ok(())
    }

    /// Returns how many, and whether more may follow.
    #[expect(
        clippy::too_many_lines,
        reason = "one statement for each kind of selection"
    )]
    async fn insert_upgrades(
        &mut self,
        conn: &mut SqliteConnection,
    ) -> Result<(i64, bool), sqlx::Error> {
        /// The devices follow as `d`.
        macro_rules! insert {
            ($devices:literal) => {
                concat!(
                    "INSERT INTO upgrades (task_id, endpoint, state, not_before, created_at, unconfirmed, free) \
                     SELECT ?1, d.endpoint, 'pending', ?2, ?3, ",
                    unconfirmed!(),
                    ", NOT EXISTS (SELECT 1 FROM upgrades r INDEXED BY upgrades_running_on \
                         WHERE r.endpoint = d.endpoint AND r.phase = 1) AND NOT ",
                    unconfirmed!(),
                    " ",
                    $devices
                )
            };
        }
        let names = self.remaining.take_named().unwrap_or_default();
        let query = match &self.remaining {
            Remaining::Listed(..) | Remaining::Found(_) => {
                sqlx::query(insert!(
                    "FROM json_each(?5) j CROSS JOIN devices d INDEXED BY devices_by_product ON d.endpoint = j.value \
                     WHERE d.removed = 0 AND d.product = ?4 \
                         AND NOT EXISTS (SELECT 1 FROM exclusions e WHERE e.endpoint = d.endpoint) ORDER BY j.id"
                ))
                .bind(self.task.0)
                .bind(self.start_at.0)
                .bind(self.created_at.0)
                .bind(&self.product)
                .bind(&names)
            }
            Remaining::OfProduct(after) => sqlx::query(insert!(
                "FROM devices d WHERE d.removed = 0 AND d.product = ?4 AND d.endpoint > ?5 \
                     AND NOT EXISTS (SELECT 1 FROM exclusions e WHERE e.endpoint = d.endpoint) \
                 ORDER BY d.endpoint LIMIT ?6"
            ))
            .bind(self.task.0)
            .bind(self.start_at.0)
            .bind(self.created_at.0)
            .bind(&self.product)
            .bind(after)
            .bind(PART),
        };
        let inserted = query.execute(&mut *conn).await?.rows_affected();
        let more = match &mut self.remaining {
            Remaining::Listed(endpoints, from) => {
                let before = from.saturating_sub(PART as usize);
                let part = endpoints.len().saturating_sub(before).min(PART as usize);
                // whoever is not there at all has the task refused
                self.excluded += (part as u64).saturating_sub(inserted);
                *from < endpoints.len()
            }
            Remaining::Found(lists) => {
                self.excluded += excluded_of(conn, &self.product, &names).await?;
                !lists.is_empty()
            }
            Remaining::OfProduct(after) => {
                let last = last_endpoint(conn, self.task).await?;
                let more = inserted == u64::from(PART);
                let until = if more { last.as_str() } else { LAST_ENDPOINT };
                self.excluded += excluded_between(conn, &self.product, after, until).await?;
                *after = last;
                more
            }
        };
        Ok((inserted.cast_signed(), more))
    }

    /// Makes the task visible, unless something has changed meanwhile that forbids it.
    async fn show(
        self,
        conn: &mut SqliteConnection,
        new: &NewTask,
    ) -> Result<TaskRecord, CreateTaskError> {
        task_packages::usable(conn, new).await?;
        let state = if self.start_at > self.created_at {
            TaskState::Scheduled
        } else {
            TaskState::Running
        };
        sqlx::query(
            "UPDATE tasks SET hidden = 0, state = ?, excluded = ?, left_out = ? WHERE id = ?",
        )
        .bind(state.name())
        .bind(self.excluded.cast_signed())
        .bind(self.left_out.cast_signed())
        .bind(self.task.0)
        .execute(&mut *conn)
        .await
        .doing(CREATING)?;
        if let Some(webhook) = &new.webhook {
            let webhook = NewWebhook {
                task: Some(self.task),
                ..webhook.clone()
            };
            events::insert_webhook(conn, &webhook).await?;
        }
        let record = tasks::read(conn, self.task)
            .await?
            .ok_or_else(|| rows::unreadable("tasks.id", self.task.0))?;
        if let Remaining::Listed(endpoints, _) = &self.remaining
            && record.total() < endpoints.len() as u64
        {
            refuse_wrong(conn, endpoints, &self.product).await?;
        }
        if record.rules.membership == Membership::Joining {
            return Ok(record); // others may come
        }
        if record.total() == 0 && self.left_out > 0 {
            return Err(CreateTaskError::AllLeftOut {
                left_out: self.left_out,
                excluded: self.excluded,
            });
        }
        if record.total() == 0 && self.excluded > 0 {
            return Err(CreateTaskError::AllExcluded {
                excluded: self.excluded,
            });
        }
        if record.total() == 0 {
            return Err(CreateTaskError::NoDevices {
                product: self.product,
            });
        }
        Ok(record)
    }
}

/// Writes the upgrades of devices, each in its lot. The times are the first at which they may begin, and now.
pub(super) async fn insert_dealt(
    conn: &mut SqliteConnection,
    task: TaskId,
    (not_before, now): (UtcMillis, UtcMillis),
    dealt: &[(String, u32)],
) -> Result<(), sqlx::Error> {
    /// Of a lot and an endpoint with a blank between. To take a pair apart, the database would parse each of them as JSON, twice.
    macro_rules! endpoint {
        () => {
            "substr(j.value, instr(j.value, ' ') + 1)"
        };
    }
    let dealt = dealt.iter();
    sqlx::query(concat!(
        "INSERT INTO upgrades (task_id, endpoint, state, not_before, created_at, lot, unconfirmed, free) \
         SELECT ?1, ",
        endpoint!(),
        ", 'pending', ?2, ?3, CAST(j.value AS INTEGER), ",
        unconfirmed!(),
        ", NOT EXISTS (SELECT 1 FROM upgrades r INDEXED BY upgrades_running_on WHERE r.endpoint = ",
        endpoint!(),
        " AND r.phase = 1) AND NOT ",
        unconfirmed!(),
        " FROM json_each(?4) j",
    ))
    .bind(task.0)
    .bind(not_before.0)
    .bind(now.0)
    .bind(json_list(dealt.map(|(endpoint, lot)| format!("{lot} {endpoint}"))))
    .execute(conn)
    .await
    .map(|_| ())
}

/// Counts a part of a task's devices; whoever is excluded is in no phase. Returns the last one's endpoint, if more may follow it.
async fn count_in(
    census: &mut Census,
    conn: &mut SqliteConnection,
    asks: (&TaskRules, UtcMillis),
    product: &str,
    part: Part<'_>,
) -> Result<Option<String>, StoreError> {
    let devices = task_devices::read(conn, asks, product, part).await?;
    let last = (devices.last()).filter(|_| devices.len() == PART as usize);
    let last = last.map(|device| device.endpoint.clone());
    for device in devices.iter().filter(|device| !device.excluded) {
        census.count(device.place);
    }
    Ok(last)
}

/// Of these devices, a JSON list, so many are not excluded.
async fn not_excluded(conn: &mut SqliteConnection, endpoints: &str) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM json_each(?) j WHERE NOT EXISTS (SELECT 1 FROM exclusions e WHERE e.endpoint = j.value)",
    )
    .bind(endpoints)
    .fetch_one(conn)
    .await
    .doing("counting a task's devices")?;
    Ok(count.unsigned_abs())
}

/// Devices of a product that are not excluded.
async fn count_of_product(conn: &mut SqliteConnection, product: &str) -> Result<u64, StoreError> {
    let doing = "counting a task's devices";
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM devices INDEXED BY devices_by_product WHERE product = ? AND removed = 0",
    )
    .bind(product)
    .fetch_one(&mut *conn)
    .await
    .doing(doing)?;
    let excluded = excluded_between(conn, product, "", LAST_ENDPOINT)
        .await
        .doing(doing)?;
    Ok(count.unsigned_abs().saturating_sub(excluded))
}

/// The device of a task's last upgrade; an empty text when it has none.
async fn last_endpoint(conn: &mut SqliteConnection, task: TaskId) -> Result<String, sqlx::Error> {
    let last: Option<String> = sqlx::query_scalar(
        "SELECT endpoint FROM upgrades WHERE task_id = ? ORDER BY id DESC LIMIT 1",
    )
    .bind(task.0)
    .fetch_optional(conn)
    .await?;
    Ok(last.unwrap_or_default())
}

/// Devices of a product that are excluded, of a JSON list.
async fn excluded_of(
    conn: &mut SqliteConnection,
    product: &str,
    endpoints: &str,
) -> Result<u64, sqlx::Error> {
    let excluded: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM json_each(?) j CROSS JOIN exclusions e ON e.endpoint = j.value \
             CROSS JOIN devices d ON d.endpoint = e.endpoint WHERE d.removed = 0 AND d.product = ?",
    )
    .bind(endpoints)
    .bind(product)
    .fetch_one(conn)
    .await?;
    Ok(excluded.unsigned_abs())
}

/// Devices of a product that are excluded, of those behind one endpoint up to another.
async fn excluded_between(
    conn: &mut SqliteConnection,
    product: &str,
    after: &str,
    until: &str,
) -> Result<u64, sqlx::Error> {
    let excluded: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM exclusions e CROSS JOIN devices d ON d.endpoint = e.endpoint \
         WHERE e.endpoint > ?1 AND e.endpoint <= ?2 AND d.removed = 0 AND d.product = ?3",
    )
    .bind(after)
    .bind(until)
    .bind(product)
    .fetch_one(conn)
    .await?;
    Ok(excluded.unsigned_abs())
}

/// The devices of the product that a task's filter lets through, or that belong to its group.
async fn selected(
    conn: &mut SqliteConnection,
    new: &NewTask,
    product: &str,
) -> Result<DeviceFilter, CreateTaskError> {
    let mut filter = DeviceFilter {
        product: Some(product.to_owned()),
        now: new.created_at,
        ..DeviceFilter::default()
    };
    match &new.selection {
        Selection::Filter(given) => filter.filter = Some(given.clone()),
        Selection::Group(group) => {
            check_group(conn, *group).await?;
            filter.group = Some(*group);
        }
        Selection::Devices(_) | Selection::Product(_) | Selection::All => {}
    }
    Ok(filter)
}

async fn check_group(conn: &mut SqliteConnection, group: GroupId) -> Result<(), CreateTaskError> {
    let there = groups::read(conn, group).await?;
    there.map_or(Err(CreateTaskError::GroupNotFound(group)), |_| Ok(()))
}

/// A hidden task is stopped for everybody who does not ask whether it is hidden.
pub(super) async fn insert_hidden(
    conn: &mut SqliteConnection,
    new: &NewTask,
    start_at: UtcMillis,
) -> Result<TaskId, sqlx::Error> {
    let group = match new.selection {
        Selection::Group(group) => Some(group.0),
        _ => None,
    };
    let task = sqlx::query_scalar(
        "INSERT INTO tasks (name, package_id, state, hidden, start_at, retry_attempts, retry_interval_s, created_at, group_id, \
             retry_reasons, rules, hold, exclude_filter, exclude_group, may_join, selected_by, packages, \
             created_by, scope, tenant) \
         VALUES (?, ?, 'stopped', 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
             COALESCE((SELECT p.tenant FROM packages p WHERE p.id = ?), 'default')) RETURNING id",
    )
    .bind(&new.name)
    .bind(new.package.0)
    .bind(start_at.0)
    .bind(new.retry.attempts)
    .bind(new.retry.interval_s)
    .bind(new.created_at.0)
    .bind(group)
    .bind((new.retry.reasons != Reasons::default()).then(|| json_list(new.retry.reasons.words())))
    .bind((!new.rules.is_empty()).then(|| rows::json(&new.rules)))
    .bind(new.rules.approval.then(|| {
        rows::json(&Hold {
            why: HoldReason::Approval,
            at: new.created_at,
        })
    }))
    .bind(new.exclude.filter.as_ref().map(Filter::to_string))
    .bind(new.exclude.group.map(|group| group.0))
    .bind(!matches!(new.selection, Selection::Devices(_)))
    .bind(match &new.selection {
        Selection::Filter(filter) => Some(filter.to_string()),
        _ => None,
    })
    .bind((!new.packages.is_empty()).then(|| rows::json(&new.packages)))
    .bind(&new.origin.by)
    .bind(new.origin.scope.as_ref().map(Filter::to_string))
    .bind(new.package.0)
    .fetch_one(&mut *conn)
    .await
    .map(TaskId)?;
    if !new.exclude.devices.is_empty() {
        narrowing::write_devices(conn, task, &new.exclude).await?;
    }
    Ok(task)
}

const CHECKING: &str = "checking a task's devices";

/// Whether all devices of a list are there and have the product. The list is in the order of an index that knows all
/// of this, so that this takes a fraction of looking at the devices.
async fn are_of_product(
    conn: &mut SqliteConnection,
    endpoints: &[&str],
    product: &str,
) -> Result<bool, StoreError> {
    for part in endpoints.chunks(PART as usize) {
        let wrong: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM json_each(?) j WHERE NOT EXISTS ( \
                 SELECT 1 FROM devices d INDEXED BY devices_by_product \
                 WHERE d.product = ? AND d.endpoint = j.value AND d.removed = 0))",
        )
        .bind(json_list(part))
        .bind(product)
        .fetch_one(&mut *conn)
        .await
        .doing(CHECKING)?;
        if wrong {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refuses a list that names a device that is not there or has another product.
async fn refuse_wrong(
    conn: &mut SqliteConnection,
    endpoints: &[impl serde::Serialize],
    product: &str,
) -> Result<(), CreateTaskError> {
    let wrong = sqlx::query(
        "SELECT DISTINCT j.value AS endpoint, d.product IS NULL AS unknown \
         FROM json_each(?) j LEFT JOIN devices d ON d.endpoint = j.value AND d.removed = 0 \
         WHERE d.product IS NULL OR d.product <> ? ORDER BY j.key",
    )
    .bind(json_list(endpoints))
    .bind(product)
    .fetch_all(conn)
    .await
    .doing(CHECKING)?;
    let mut unknown = Vec::new();
    let mut other_product = Vec::new();
    for row in &wrong {
        let endpoint: String = row.value("endpoint")?;
        if row.value("unknown")? {
            unknown.push(endpoint);
        } else {
            other_product.push(endpoint);
        }
    }
    let first_of = |mut endpoints: Vec<String>| {
        let count = endpoints.len() as u64;
        endpoints.truncate(NAMED);
        (count, endpoints)
    };
    if !unknown.is_empty() {
        let (count, first) = first_of(unknown);
        return Err(CreateTaskError::UnknownDevices { count, first });
    }
    if !other_product.is_empty() {
        let (count, first) = first_of(other_product);
        return Err(CreateTaskError::DevicesOfOtherProduct {
            product: product.to_owned(),
            count,
            first,
        });
    }
    Ok(())
}
