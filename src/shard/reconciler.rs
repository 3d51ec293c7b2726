//! Turns the operator's intent, as it stands in the store, into commands: cells get rules, devices come and go, tasks start and are stopped,
//! upgrades begin.
//!
//! ```text
//! look ─▶ newcomers that are gone ─▶ cells ─▶ devices ─▶ stops ─▶ soaks ─▶ what becomes of tasks ─▶ who joins ─▶ starts ─▶ until when? ─▶ wait
//!                                      ▲                                                                   │ after each page
//!                                      └───────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Everything it does can be done again: nothing is forgotten when it is stopped in between, or when the store fails.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use crate::{
    clock::{Instant, Now, UtcMillis},
    engine::Command,
    ledger::{TaskId, TaskState, UpgradeId, UpgradeOrder},
    store::{DeviceChange, LaneChanges, RunningUpgrade, SoaksDue, UpgradeToStop},
    task::{
        Begin, Due, Move, Paces, PutOff, Share, Source, Sweeps, TaskHead, TaskRules, Windows, plan,
        that_begin,
    },
};

/// So long a device is waited for after its soak, where nothing else is said: a day.
const SOAK_WAIT: Duration = Duration::from_hours(24);
/// Between two looks at soaks, of a page each: devices that listen are not all asked at once.
const SOAKS_EVERY: Duration = Duration::from_secs(1);
/// Rows that are read, and commands that are given, at once.
pub const PAGE: u32 = 500;
/// The shortest time between two looks, when something is due.
const SOON: Duration = Duration::from_millis(10);
/// The longest time between two looks, should nobody signal.
const IDLE: Duration = Duration::from_secs(10);
/// What runs is told again when its windows end after this long: of ends that are more than 8 days away nothing is known
/// ([`WindowState::FAR`](crate::task::WindowState::FAR)).
const ENDS_EVERY: Duration = Duration::from_hours(7 * 24);
/// Between two looks for devices that came by themselves and are gone.
const NEWCOMERS_EVERY: Duration = Duration::from_mins(10);
/// A device that came by itself is forgotten when it has not been registered for so long. The end of a registration is known
/// to the store to the hour.
const NEWCOMERS_STAY: Duration = Duration::from_hours(1);
/// Registrations that ended before the start may have ended because nobody was there to renew them: their devices have so
/// long to come back.
const NEWCOMERS_RETURN: Duration = Duration::from_hours(24);

/// What the reconciler wants done next. Whoever does it tells it what came of it.
#[derive(Debug)]
pub enum Want {
    /// Ask the store, and give it the reply.
    Ask(Query),
    /// Let the gate know these rules, and say [`Reconciler::obeyed`].
    Rule(LaneChanges),
    /// Let the gate know what these tasks have of slots, and say [`Reconciler::obeyed`].
    Share(Vec<(TaskId, Share)>),
    /// Let the shards follow these devices: [`Command`]s of [`follow`], and the keys of those that encrypt. Then say
    /// [`Reconciler::obeyed`].
    Follow(Vec<DeviceChange>),
    /// Have the shards obey, and say [`Reconciler::obeyed`] when all that follows is committed.
    Obey(Vec<Command>),
    /// Have the shards begin these attempts, each with its package or, where that cannot be had, with
    /// [`Command::Fail`]. Then say [`Reconciler::obeyed`].
    Start(Vec<UpgradeOrder>),
    /// Nothing before this, unless intent is written or an attempt ends; then [`Reconciler::look`].
    Wait(Duration),
}

/// A question to the store; each is an operation of [`crate::store::Store`].
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// `remove_newcomers`.
    RemoveNewcomers {
        /// When their registrations ended.
        ended: Range<UtcMillis>,
        /// So many at most.
        limit: u32,
    },
    /// `cell_changes_since` and `lane_limits_since`.
    LaneChanges {
        /// Those of cells, and those of sites and gateways, later than these revisions.
        after: (i64, i64),
        /// So many of each at most.
        limit: u32,
    },
    /// `device_changes_since`.
    DeviceChanges {
        /// Later ones than this revision.
        after: i64,
        /// So many at most.
        limit: u32,
        /// Whether a look at the devices begins with it.
        begins: bool,
    },
    /// `forget_removed`.
    ForgetRemoved(String),
    /// `soaks_due`.
    Soaks {
        /// At this time.
        now: UtcMillis,
        /// So long a device is waited for after its soak.
        wait: Duration,
        /// So many at most.
        limit: u32,
    },
    /// `task_heads`.
    Heads(UtcMillis),
    /// `make_moves`.
    Move(Vec<Move>),
    /// `join`.
    Join {
        /// The task that devices may join.
        task: TaskId,
        /// Those behind this one.
        after: Option<String>,
    },
    /// `running_upgrades`.
    Running {
        /// The task.
        task: TaskId,
        /// Those behind this one.
        after: Option<UpgradeId>,
        /// So many at most.
        limit: u32,
    },
    /// `upgrades_to_stop`.
    ToStop(u32),
    /// `due_upgrades`.
    Due {
        /// Where from, in the order of their first.
        sources: Vec<Source>,
        /// At this time.
        now: UtcMillis,
        /// So many at most.
        limit: u32,
    },
    /// `put_off`.
    PutOff(Vec<PutOff>),
    /// `next_due`.
    NextTime(UtcMillis),
}

/// What the store says.
#[derive(Debug)]
pub enum Reply {
    /// So many newcomers were removed.
    NewcomersRemoved(u64),
    /// Cells whose rules have changed, and sites and gateways whose limit has.
    Lanes(LaneChanges),
    /// Devices that have changed.
    Devices(Vec<DeviceChange>),
    /// It was done.
    Done,
    /// Where the sweep for devices that join goes on, if it is not through.
    Joined(Option<String>),
    /// Upgrades of a task that run.
    Running(Vec<RunningUpgrade>),
    /// Upgrades to be stopped.
    ToStop(Vec<UpgradeToStop>),
    /// What there is to do about soaks.
    Soaks(SoaksDue),
    /// Tasks that have not ended.
    Heads(Vec<TaskHead>),
    /// Upgrades that are due.
    Due(Vec<Due>),
    /// When the next one is.
    NextTime(Option<UtcMillis>),
}

/// Where it stands.
#[derive(Debug)]
enum Step {
    Newcomers,
    Cells(AfterDevices),
    Ruling(LaneChanges, AfterDevices),
    Devices {
        begins: bool,
        next: AfterDevices,
    },
    Following(Vec<DeviceChange>, AfterDevices),
    Forget(Vec<String>, AfterDevices),
    Stops,
    Stopping(Vec<Command>),
    Soaks,
    Asking(Vec<Command>),
    Starts,
    Sharing(Vec<(TaskId, Share)>),
    /// The windows of a task have changed: what of it runs behind that one is to be told.
    Ends(Arc<TaskHead>, Option<UpgradeId>),
    /// It is told; `None` follows the last part.
    TellingEnds(Arc<TaskHead>, Vec<Command>, Option<UpgradeId>),
    Moving(Vec<Move>),
    Joining(TaskId, Option<String>),
    Due(Vec<Source>),
    PuttingOff(Begin),
    Starting(Vec<UpgradeOrder>),
    NextTime,
    Waits(Duration),
}

/// What follows a look at the devices.
#[derive(Debug, Clone, Copy)]
enum AfterDevices {
    Stops,
    Starts,
}

/// Brings the shards up to the store.
#[derive(Debug)]
pub struct Reconciler {
    /// Device changes up to here are known to the shards.
    revision: i64,
    /// Changes of cells up to here are known to the gate.
    cells_revision: i64,
    /// Changes of the limits of sites and gateways up to here are known to the gate.
    limits_revision: i64,
    step: Step,
    /// Upgrades that were stopped, or begun, in this look.
    tried: HashSet<UpgradeId>,
    /// When the server started.
    started: Now,
    /// How fast tasks begin that have a rate.
    paces: Paces,
    /// The search for devices that join tasks.
    sweeps: Sweeps,
    /// A part of a sweep was looked at, and nothing else had its turn since.
    swept: bool,
    /// What the gate knows of the shares of tasks: of those that have another than most.
    shares: HashMap<TaskId, Share>,
    /// Tasks with windows at whose end upgrades are taken back, as the shards know them, and since when.
    ends: HashMap<TaskId, (Windows, Instant)>,
    /// When it began to tell what is told of the ends of a task.
    telling_since: Instant,
    /// When there is another plan although nothing happens before.
    planned_at: Option<UtcMillis>,
    /// What became of tasks in this look.
    moved: Vec<Move>,
    /// So long a device is waited for after its soak.
    soak_wait: Duration,
    /// When soaks are looked at next, once there was something to do about them.
    soaks_at: Option<Instant>,
    /// When devices that came by themselves are looked for next; `None` where nobody may come so, and those who did are left.
    newcomers_at: Option<Instant>,
}

impl Reconciler {
    /// One that has not looked yet; the shards know device changes up to `revision`. Where registration is `open`, devices that
    /// came by themselves are forgotten.
    pub fn new(now: Now, revision: i64, open: bool) -> Self {
        Self {
            revision,
            cells_revision: 0,
            limits_revision: 0,
            step: Step::Newcomers,
            tried: HashSet::new(),
            started: now,
            paces: Paces::default(),
            sweeps: Sweeps::default(),
            swept: false,
            shares: HashMap::new(),
            ends: HashMap::new(),
            telling_since: now.instant,
            planned_at: None,
            moved: Vec::new(),
            soak_wait: SOAK_WAIT,
            soaks_at: None,
            newcomers_at: open.then_some(now.instant + NEWCOMERS_STAY),
        }
    }

    /// The gate knows changes of cells, and of limits, up to these revisions.
    #[must_use]
    pub fn knowing_lanes(self, (cells_revision, limits_revision): (i64, i64)) -> Self {
        Self {
            cells_revision,
            limits_revision,
            ..self
        }
    }

    /// Looks for devices that join tasks this often, if devices do not change before.
    #[must_use]
    pub fn joining_every(self, interval: Duration) -> Self {
        Self {
            sweeps: Sweeps::every(interval),
            ..self
        }
    }

    /// Devices are waited for that long after their soak.
    #[must_use]
    pub fn waiting_for_soaks(self, soak_wait: Duration) -> Self {
        Self { soak_wait, ..self }
    }

    /// What to do next. It is the same until [`reply`](Self::reply), [`obeyed`](Self::obeyed) or [`look`](Self::look) is
    /// called.
    #[expect(clippy::too_many_lines, reason = "one match over all steps")]
    pub fn want(&mut self, now: Now) -> Want {
        let none_yet = self.newcomers_at.is_none_or(|at| now.instant < at);
        if matches!(self.step, Step::Newcomers) && none_yet {
            self.step = Step::Cells(AfterDevices::Stops);
        }
        let asked_lately = self.soaks_at.is_some_and(|at| now.instant < at);
        if matches!(self.step, Step::Soaks) && asked_lately {
            self.step = Step::Starts;
        }
        match &self.step {
            Step::Newcomers => Want::Ask(Query::RemoveNewcomers {
                ended: self.newcomers_ended(now),
                limit: PAGE,
            }),
            Step::Cells(_) => Want::Ask(Query::LaneChanges {
                after: (self.cells_revision, self.limits_revision),
                limit: PAGE,
            }),
            Step::Ruling(changes, _) => Want::Rule(changes.clone()),
            Step::Devices { begins, .. } => Want::Ask(Query::DeviceChanges {
                after: self.revision,
                limit: PAGE,
                begins: *begins,
            }),
            Step::Following(changes, _) => Want::Follow(changes.clone()),
            Step::Forget(removed, next) => {
                if let Some(endpoint) = removed.last() {
                    return Want::Ask(Query::ForgetRemoved(endpoint.clone()));
                }
                let (begins, next) = (false, *next);
                self.step = Step::Devices { begins, next };
                self.want(now)
            }
            Step::Starts => Want::Ask(Query::Heads(now.utc)),
            Step::Sharing(shares) => Want::Share(shares.clone()),
            Step::Ends(head, after) => Want::Ask(Query::Running {
                task: head.task,
                after: *after,
                limit: PAGE,
            }),
            Step::Moving(moves) => Want::Ask(Query::Move(moves.clone())),
            Step::Joining(task, after) => Want::Ask(Query::Join {
                task: *task,
                after: after.clone(),
            }),
            Step::Stops => Want::Ask(Query::ToStop(PAGE)),
            Step::Stopping(commands)
            | Step::Asking(commands)
            | Step::TellingEnds(_, commands, _) => Want::Obey(commands.clone()),
            Step::Soaks => Want::Ask(Query::Soaks {
                now: now.utc,
                wait: self.soak_wait,
                limit: PAGE,
            }),
            Step::Due(sources) => Want::Ask(Query::Due {
                sources: sources.clone(),
                now: now.utc,
                limit: PAGE,
            }),
            Step::PuttingOff(begin) => Want::Ask(Query::PutOff(begin.put_off.clone())),
            Step::Starting(orders) => Want::Start(orders.clone()),
            Step::NextTime => Want::Ask(Query::NextTime(now.utc)),
            Step::Waits(pause) => Want::Wait(*pause),
        }
    }

    /// Takes the store's reply to what was asked.
    #[expect(clippy::too_many_lines, reason = "one match over all replies")]
    pub fn reply(&mut self, now: Now, reply: Reply) {
        let step = std::mem::replace(&mut self.step, Step::Newcomers);
        self.step = match (step, reply) {
            (Step::Newcomers, Reply::NewcomersRemoved(removed)) => {
                // A whole page may not have been all.
                if removed < PAGE.into() {
                    self.newcomers_at = Some(now.instant + NEWCOMERS_EVERY);
                }
                Step::Cells(AfterDevices::Stops)
            }
            (Step::Cells(next), Reply::Lanes(changes)) if changes.is_empty() => {
                let begins = true;
                Step::Devices { begins, next }
            }
            (Step::Cells(next), Reply::Lanes(changes)) => Step::Ruling(changes, next),
            (Step::Devices { next, .. }, Reply::Devices(changes)) => match (changes.last(), next) {
                (Some(_), next) => Step::Following(changes, next),
                (None, AfterDevices::Stops) => Step::Stops,
                (None, AfterDevices::Starts) => Step::Starts,
            },
            (Step::Forget(mut removed, next), Reply::Done) => {
                removed.pop();
                Step::Forget(removed, next)
            }
            (Step::Stops, Reply::ToStop(upgrades)) => {
                let new = (upgrades.into_iter()).filter(|stop| self.tried.insert(stop.upgrade));
                let commands: Vec<Command> = new.map(stop).collect();
                if commands.is_empty() {
                    self.tried.clear();
                    Step::Soaks
                } else {
                    Step::Stopping(commands)
                }
            }
            (Step::Soaks, Reply::Soaks(due)) => {
                // what there may be besides a page comes later: many soaks are over when a server was down
                self.soaks_at = (due.looked_at > 0).then(|| now.instant + SOAKS_EVERY);
                let ask = |endpoint| Command::AskVersion { endpoint };
                let commands: Vec<Command> = due.ask.into_iter().map(ask).collect();
                if commands.is_empty() {
                    Step::Starts
                } else {
                    Step::Asking(commands)
                }
            }
            (Step::Starts, Reply::Heads(heads)) => self.plan(&heads, now),
            (Step::Ends(head, _), Reply::Running(running)) => {
                let whole = running.len() >= PAGE as usize;
                let next = running.last().filter(|_| whole).map(|last| last.upgrade);
                let commands: Vec<Command> = take_backs(&head.rules, running, now.utc).collect();
                if commands.is_empty() {
                    self.ends_told(&head)
                } else {
                    Step::TellingEnds(head, commands, next)
                }
            }
            (Step::Moving(moves), Reply::Done) => {
                // a task that was stopped has upgrades that run
                let stops = moves.iter().any(|step| matches!(step, Move::Stop(..)));
                self.moved = moves;
                if stops {
                    // what has begun in this look too
                    self.tried.clear();
                    Step::Stops
                } else {
                    Step::Starts
                }
            }
            (Step::Joining(task, _), Reply::Joined(next)) => {
                self.sweeps.swept(task, next, now);
                self.swept = true;
                Step::Starts
            }
            (Step::Due(sources), Reply::Due(mut due)) => {
                due.retain(|due| !self.tried.contains(&due.order.upgrade));
                let begin = that_begin(due, &sources);
                let put_off = begin.put_off.iter().map(|it| it.upgrade);
                self.tried.extend(put_off);
                self.tried
                    .extend(begin.orders.iter().map(|order| order.upgrade));
                self.keep_pace(&sources, &begin.orders, now);
                match (begin.orders.is_empty(), begin.put_off.is_empty()) {
                    (true, true) => self.nothing_starts(),
                    (false, true) => Step::Starting(begin.orders),
                    (_, false) => Step::PuttingOff(begin),
                }
            }
            // there may be others behind them
            (Step::PuttingOff(begin), Reply::Done) if begin.orders.is_empty() => Step::Starts,
            (Step::PuttingOff(begin), Reply::Done) => Step::Starting(begin.orders),
            (Step::NextTime, Reply::NextTime(due)) => {
                let soaks_at = self.soaks_at.map(|at| now.utc + at.since(now.instant));
                let next = (due.into_iter().chain(self.planned_at).chain(soaks_at)).min();
                Step::Waits(next.map_or(IDLE, |at| at.since(now.utc).clamp(SOON, IDLE)))
            }
            // an answer to nothing
            (step, _) => step,
        };
    }

    /// The shards have obeyed, and all that follows is committed.
    pub fn obeyed(&mut self) {
        let step = std::mem::replace(&mut self.step, Step::Newcomers);
        self.step = match step {
            Step::Ruling(changes, next) => {
                let last = changes.cells.last().map(|last| last.revision);
                self.cells_revision = last.unwrap_or(self.cells_revision);
                let last = changes.limits.last().map(|last| last.revision);
                self.limits_revision = last.unwrap_or(self.limits_revision);
                Step::Cells(next)
            }
            Step::Following(changes, next) => {
                self.revision = changes.last().map_or(self.revision, |last| last.revision);
                let removed = changes.into_iter().filter(|change| change.removed);
                let mut removed: Vec<String> = removed.map(|change| change.endpoint).collect();
                removed.reverse(); // they are taken from the end
                Step::Forget(removed, next)
            }
            Step::Sharing(shares) => {
                self.shares.extend(shares);
                self.shares.retain(|_, share| *share != Share::default());
                Step::Starts
            }
            Step::TellingEnds(head, _, Some(next)) => Step::Ends(head, Some(next)),
            Step::TellingEnds(head, _, None) => self.ends_told(&head),
            Step::Stopping(_) => Step::Stops,
            Step::Asking(_) => Step::Starts,
            // A large task does not keep new devices waiting.
            Step::Starting(_) => {
                self.swept = false;
                Step::Cells(AfterDevices::Starts)
            }
            step => step,
        };
    }

    /// What the gate does not know of shares: they are told before anything begins that has one.
    fn news_of_shares(&self, heads: &[TaskHead]) -> Vec<(TaskId, Share)> {
        let now: HashMap<TaskId, Share> = heads
            .iter()
            .map(|head| (head.task, Share::of(&head.rules)))
            .collect();
        let known = |task: &TaskId| self.shares.get(task).copied().unwrap_or_default();
        let told = now.iter().filter(|(task, share)| known(task) != **share);
        let gone = self.shares.keys().filter(|task| !now.contains_key(*task));
        let mut news: Vec<_> = (told.map(|(task, share)| (*task, *share)))
            .chain(gone.map(|task| (*task, Share::default())))
            .collect();
        news.sort_unstable_by_key(|(task, _)| *task);
        news
    }

    /// The first task whose windows the shards do not know, or no longer far enough: what runs is told before anything else begins.
    fn news_of_ends(&self, heads: &[TaskHead], now: Now) -> Option<Arc<TaskHead>> {
        let is_news = |head: &&TaskHead| {
            let known = self.ends.get(&head.task);
            let known = known.filter(|(_, told)| now.instant.since(*told) < ENDS_EVERY);
            let changed = head.rules.take_back_windows() != known.map(|(windows, _)| windows);
            changed && head.state != TaskState::Scheduled
        };
        heads.iter().find(is_news).cloned().map(Arc::new)
    }

    /// What runs of a task is told when its windows end.
    fn ends_told(&mut self, head: &TaskHead) -> Step {
        match head.rules.take_back_windows() {
            Some(windows) => self
                .ends
                .insert(head.task, (windows.clone(), self.telling_since)),
            None => self.ends.remove(&head.task),
        };
        Step::Starts
    }

    fn plan(&mut self, heads: &[TaskHead], now: Now) -> Step {
        let news = self.news_of_shares(heads);
        if !news.is_empty() {
            return Step::Sharing(news);
        }
        (self.ends).retain(|task, _| heads.iter().any(|head| head.task == *task));
        if let Some(head) = self.news_of_ends(heads, now) {
            self.telling_since = now.instant;
            return Step::Ends(head, None);
        }
        let plan = plan(heads, &self.paces, now);
        (self.paces).retain(|task| heads.iter().any(|head| head.task == task));
        // many tasks that devices join would keep all others waiting
        let joining = self.sweeps.due(heads, now).filter(|_| !self.swept);
        self.planned_at = plan.next.into_iter().chain(self.sweeps.next(now)).min();
        // what was ordered and did not happen is not ordered for ever
        if !plan.moves.is_empty() && plan.moves != self.moved {
            Step::Moving(plan.moves)
        } else if let Some((task, after)) = joining {
            Step::Joining(task, after)
        } else if plan.start.is_empty() {
            self.nothing_starts()
        } else {
            Step::Due(plan.start)
        }
    }

    /// Counts what begins of tasks that have a rate.
    fn keep_pace(&mut self, sources: &[Source], orders: &[UpgradeOrder], now: Now) {
        for order in orders {
            let source = sources.iter().find(|source| source.task == order.task);
            if let Some(per_minute) = source.and_then(|source| source.per_minute) {
                self.paces.begun(order.task, per_minute, 1, now);
            }
        }
    }

    fn nothing_starts(&mut self) -> Step {
        self.swept = false;
        self.moved.clear();
        self.tried.clear();
        Step::NextTime
    }

    /// Of which newcomers it is time to forget them.
    fn newcomers_ended(&self, now: Now) -> Range<UtcMillis> {
        let long = now.instant.since(self.started.instant) >= NEWCOMERS_RETURN;
        let from = if long { UtcMillis(0) } else { self.started.utc };
        from..now.utc.before(NEWCOMERS_STAY)
    }

    /// Devices were added or changed, or groups of them, or exclusions have ended: some may join tasks. The next look sees to it.
    pub fn members_changed(&mut self) {
        self.sweeps.devices_changed();
    }

    /// Begins to look anew: the time has passed that was to be waited, intent was written, an attempt has ended, or something
    /// has failed.
    pub fn look(&mut self) {
        self.swept = false;
        self.moved.clear();
        self.tried.clear();
        self.step = Step::Newcomers;
    }
}

/// What the shards are to know of changed devices.
pub fn follow(changes: Vec<DeviceChange>) -> Vec<Command> {
    let commands = changes.into_iter().map(|change| {
        let DeviceChange {
            endpoint,
            product,
            secure,
            protocol,
            via,
            removed,
            ..
        } = change;
        if removed {
            Command::RemoveDevice { endpoint }
        } else {
            Command::AddDevice {
                endpoint,
                product,
                secure,
                protocol,
                via,
            }
        }
    });
    commands.collect()
}

/// What the shards are to know of upgrades that run under these rules: when they are taken back.
pub fn take_backs(
    rules: &TaskRules,
    running: Vec<RunningUpgrade>,
    now: UtcMillis,
) -> impl Iterator<Item = Command> {
    // many upgrades, few zones
    let mut ends = HashMap::new();
    running.into_iter().map(move |it| {
        let zone = it.zone.clone();
        let back = ends
            .entry(zone)
            .or_insert_with(|| rules.taken_back(it.zone.as_deref(), now));
        Command::TakeBack {
            endpoint: it.endpoint,
            upgrade: it.upgrade,
            back: *back,
        }
    })
}

fn stop(stop: UpgradeToStop) -> Command {
    Command::Stop {
        endpoint: stop.endpoint,
        upgrade: stop.upgrade,
        reason: stop.reason,
    }
}

#[cfg(test)]
mod tests;
