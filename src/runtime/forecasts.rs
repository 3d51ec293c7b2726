//! Forecasts in the background: one at a time, on a thread that gives way to all others. Some wait. What was forecast is kept in
//! memory: it is no truth, and the next one knows more.

mod gather;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::sync::watch;

use crate::{
    clock::{SystemClock, UtcMillis},
    config::Settings,
    forecast::{Forecast, Given, forecast},
    ledger::{PackageId, TaskId},
    store::{CreateTaskError, NewTask, Store, StoreError},
    tenant::TenantId,
};
use gather::Gather;

/// So many wait at the most.
const MOST_WAITING: usize = 8;
/// So many that have ended are kept, the newest.
const MOST_KEPT: usize = 32;
/// A forecast of a task that is older is made anew.
const FRESH: Duration = Duration::from_mins(5);
/// Of so many steps: how much is done.
const STEPS: u32 = 1_000;
/// How much the thread gives way: 0 is as all others, 19 runs where nobody else wants to.
const NICE: i32 = 15;

/// The number of a forecast, from 1 on since the start of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForecastId(pub i64);

/// What is forecast.
#[derive(Debug, Clone)]
enum Wanted {
    /// A task that is not created.
    New(Box<NewTask>),
    /// A task that is there.
    Task(TaskId),
}

/// A forecast, as far as it is.
#[derive(Debug, Clone)]
pub struct ForecastJob {
    /// Its number.
    pub id: ForecastId,
    /// The task, if there is one.
    pub task: Option<TaskId>,
    /// The first package of one that is not created.
    pub package: Option<PackageId>,
    /// When it was asked for.
    pub asked_at: UtcMillis,
    /// How far it is.
    pub state: ForecastState,
    /// So much is done, in thousandths.
    pub done: u32,
}

/// How far a forecast is.
#[derive(Debug, Clone)]
pub enum ForecastState {
    /// Others come first.
    Queued,
    /// It is made.
    Running,
    /// It is there.
    Done(Arc<Forecast>),
    /// It cannot be made, for a person.
    Failed(String),
    /// Nobody wants it any more.
    Cancelled,
}

impl ForecastState {
    fn is_open(&self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// Why a forecast is not made.
#[derive(Debug, Error)]
pub enum ForecastError {
    /// Too many wait.
    #[error("{MOST_WAITING} forecasts wait already; wait until one is done, or cancel one")]
    Full,
    /// Callers of a tenant have too many under way.
    #[error(
        "callers of tenant {tenant} have {share} forecasts under way already, which is their share (tenants.max_forecasts); wait until one is \
         done, or cancel one"
    )]
    ShareTaken {
        /// The tenant.
        tenant: TenantId,
        /// How many that is.
        share: usize,
    },
    /// The task could not be created.
    #[error(transparent)]
    Task(#[from] CreateTaskError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes forecasts.
#[derive(Clone)]
pub struct Forecasts {
    store: Arc<dyn Store>,
    config: Settings,
    clock: SystemClock,
    stop: watch::Receiver<bool>,
    jobs: Arc<Mutex<Jobs>>,
}

#[derive(Default)]
struct Jobs {
    last: i64,
    all: BTreeMap<ForecastId, Job>,
    waiting: VecDeque<(ForecastId, Wanted)>,
    /// Somebody works on them.
    worked_on: bool,
}

struct Job {
    shown: ForecastJob,
    /// The tenant on which whoever has asked is granted whatever it is granted.
    tenant: Option<TenantId>,
    done: Arc<AtomicU32>,
    cancelled: Arc<AtomicBool>,
}

/// Why there is no forecast.
enum Ended {
    Cancelled,
    Failed(String),
}

impl Forecasts {
    /// Makes forecasts of what `store` knows, until `stop` turns true.
    pub fn new(
        store: Arc<dyn Store>,
        config: Settings,
        clock: SystemClock,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            store,
            config,
            clock,
            stop,
            jobs: Arc::default(),
        }
    }

    /// Has a forecast made of a task that is not created. It is refused as the task would be. `tenant` is that of whoever asks, if that is
    /// one, which has a share of what may be under way.
    ///
    /// # Errors
    /// The task could not be created, or too many forecasts wait.
    pub async fn of_new(
        &self,
        new: NewTask,
        tenant: Option<&TenantId>,
    ) -> Result<ForecastJob, ForecastError> {
        self.has_room(&self.jobs(), tenant)?;
        self.gather().check(&new).await?;
        self.add(Wanted::New(Box::new(new)), tenant)
    }

    /// The newest forecast of a task that was asked for within five minutes, or a new one.
    ///
    /// # Errors
    /// Too many forecasts wait.
    pub fn of_task(
        &self,
        task: TaskId,
        tenant: Option<&TenantId>,
    ) -> Result<ForecastJob, ForecastError> {
        let now = self.clock.now().utc;
        let newest = {
            let jobs = self.jobs();
            let of_task = jobs.all.values().rev();
            let mut of_task = of_task.filter(|job| job.shown.task == Some(task));
            of_task.find_map(|job| {
                let shown = job.shown();
                let fresh = now.since(shown.asked_at) < FRESH;
                let there = matches!(
                    shown.state,
                    ForecastState::Done(_) | ForecastState::Failed(_)
                );
                ((there && fresh) || shown.state.is_open()).then_some(shown)
            })
        };
        match newest {
            Some(job) => Ok(job),
            None => self.add(Wanted::Task(task), tenant),
        }
    }

    /// A forecast, unless there is none of that number, or not any more.
    pub fn look(&self, id: ForecastId) -> Option<ForecastJob> {
        self.jobs().all.get(&id).map(Job::shown)
    }

    /// Of so many upgrades of a task, those that would have ended by then, by the newest forecast of it.
    pub(super) fn expected(&self, task: TaskId, total: u64, now: UtcMillis) -> Option<u64> {
        let jobs = self.jobs();
        let mut newest = jobs.all.values().rev();
        newest.find_map(|job| match &job.shown.state {
            ForecastState::Done(made) if job.shown.task == Some(task) => {
                let reached = made.progress.iter().rev().find(|(at, _)| *at <= now);
                let ended = reached.map_or(0, |(_, ended)| *ended);
                Some(total.saturating_sub(made.devices) + ended)
            }
            _ => None,
        })
    }

    /// Ends a forecast that waits or is made; one that has ended stays as it is. Returns whether it is there.
    pub fn cancel(&self, id: ForecastId) -> bool {
        let mut jobs = self.jobs();
        jobs.waiting.retain(|(waiting, _)| *waiting != id);
        let Some(job) = jobs.all.get_mut(&id) else {
            return false;
        };
        job.cancelled.store(true, Ordering::Relaxed);
        if job.shown.state.is_open() {
            job.shown.state = ForecastState::Cancelled;
        }
        true
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // what a panic left is whole: each change is one assignment
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gather(&self) -> Gather {
        Gather {
            store: self.store.clone(),
            config: self.config.get(),
            now: self.clock.now().utc,
        }
    }

    fn has_room(&self, jobs: &Jobs, tenant: Option<&TenantId>) -> Result<(), ForecastError> {
        if jobs.waiting.len() >= MOST_WAITING {
            return Err(ForecastError::Full);
        }
        let Some(tenant) = tenant else { return Ok(()) };
        let share = self.config.get().tenants.max_forecasts;
        let theirs = |job: &&Job| job.shown.state.is_open() && job.tenant.as_ref() == Some(tenant);
        if jobs.all.values().filter(theirs).count() < share {
            return Ok(());
        }
        let tenant = tenant.clone();
        Err(ForecastError::ShareTaken { tenant, share })
    }

    fn add(&self, wanted: Wanted, tenant: Option<&TenantId>) -> Result<ForecastJob, ForecastError> {
        let now = self.clock.now().utc;
        let mut jobs = self.jobs();
        self.has_room(&jobs, tenant)?;
        jobs.last += 1;
        let id = ForecastId(jobs.last);
        let job = Job {
            shown: ForecastJob {
                id,
                task: match wanted {
                    Wanted::New(_) => None,
                    Wanted::Task(task) => Some(task),
                },
                package: match &wanted {
                    Wanted::New(new) => Some(new.package),
                    Wanted::Task(_) => None,
                },
                asked_at: now,
                state: ForecastState::Queued,
                done: 0,
            },
            tenant: tenant.cloned(),
            done: Arc::default(),
            cancelled: Arc::default(),
        };
        let shown = job.shown();
        jobs.all.insert(id, job);
        jobs.waiting.push_back((id, wanted));
        jobs.forget();
        if !std::mem::replace(&mut jobs.worked_on, true) {
            tokio::spawn(self.clone().work());
        }
        Ok(shown)
    }

    /// Makes one after the other, until none waits.
    async fn work(self) {
        loop {
            let next = {
                let mut jobs = self.jobs();
                let next = jobs.waiting.pop_front();
                let job = next.as_ref().and_then(|(id, _)| jobs.all.get_mut(id));
                let watched = job.map(|job| {
                    job.shown.state = ForecastState::Running;
                    (job.done.clone(), job.cancelled.clone())
                });
                let next = next.zip(watched);
                jobs.worked_on = next.is_some();
                next
            };
            let Some(((id, wanted), (done, cancelled))) = next else {
                return;
            };
            let made = self.make(wanted, done, cancelled).await;
            let mut jobs = self.jobs();
            if let Some(job) = jobs.all.get_mut(&id) {
                job.shown.state = match made {
                    Ok(made) => ForecastState::Done(Arc::new(made)),
                    Err(Ended::Failed(why)) => ForecastState::Failed(why),
                    Err(Ended::Cancelled) => ForecastState::Cancelled,
                };
            }
            jobs.forget();
        }
    }

    async fn make(
        &self,
        wanted: Wanted,
        done: Arc<AtomicU32>,
        cancelled: Arc<AtomicBool>,
    ) -> Result<Forecast, Ended> {
        let stop = self.stop.clone();
        let ends = move || cancelled.load(Ordering::Relaxed) || *stop.borrow();
        let gather = self.gather();
        let given = match wanted {
            Wanted::New(new) => gather.of_new(&new, &ends).await,
            Wanted::Task(task) => gather.of_task(task, &ends).await,
        };
        let given = given?;
        let (tell, told) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name("forecast".to_owned());
        let played = thread.spawn(move || {
            let _ = tell.send(play(&given, &done, ends)); // nobody listens when the server has stopped
        });
        if let Err(error) = played {
            return Err(Ended::Failed(format!(
                "no thread can be had for the forecast: {error}"
            )));
        }
        told.await.unwrap_or_else(|_| {
            let why = "the forecast has met a fault of the server's own; its log has more";
            Err(Ended::Failed(why.to_owned()))
        })
    }
}

impl Job {
    fn shown(&self) -> ForecastJob {
        let done = match self.shown.state {
            ForecastState::Done(_) => STEPS,
            _ => self.done.load(Ordering::Relaxed),
        };
        ForecastJob {
            done,
            ..self.shown.clone()
        }
    }
}

impl Jobs {
    /// Keeps so many of those that have ended: the oldest goes of whoever has most.
    fn forget(&mut self) {
        loop {
            let mut ended: BTreeMap<Option<&TenantId>, (usize, Reverse<ForecastId>)> =
                BTreeMap::new();
            for (id, job) in &self.all {
                if !job.shown.state.is_open() {
                    let theirs = ended.entry(job.tenant.as_ref());
                    theirs.or_insert((0, Reverse(*id))).0 += 1;
                }
            }
            let kept: usize = ended.values().map(|(count, _)| count).sum();
            match ended.into_values().max() {
                Some((_, Reverse(oldest))) if kept > MOST_KEPT => self.all.remove(&oldest),
                _ => return,
            };
        }
    }
}

/// Plays it, on a thread of its own.
fn play(given: &Given, done: &AtomicU32, ends: impl Fn() -> bool) -> Result<Forecast, Ended> {
    // On Linux each thread has a priority of its own. Where it cannot be lowered the thread yields, as it does anyhow.
    let lowered = rustix::process::nice(NICE);
    if let Err(error) = lowered {
        tracing::debug!(%error, "the priority of a forecast cannot be lowered");
    }
    let made = forecast(given, |share| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 1 was said"
        )]
        let steps = (share * f64::from(STEPS)) as u32;
        done.store(steps.min(STEPS), Ordering::Relaxed);
        std::thread::yield_now();
        if ends() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    made.ok_or(Ended::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        store::{SqliteStore, conformance::task_for_three},
    };

    /// Nothing is worked on: a test says what has ended.
    async fn unworked() -> (Forecasts, TaskId, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
        let task = task_for_three(&*store).await;
        let settings = Settings::new(Arc::new(Config::default()));
        let stop = watch::channel(false).1;
        let forecasts = Forecasts::new(store, settings, SystemClock::start(), stop);
        forecasts.jobs().worked_on = true;
        (forecasts, task, dir)
    }

    fn id(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn callers_of_a_tenant_leave_room_to_others() {
        let (forecasts, task, _dir) = unworked().await;
        let (acme, beta) = (Some(id("acme")), Some(id("beta")));
        let ask = |tenant: &Option<TenantId>| forecasts.add(Wanted::Task(task), tenant.as_ref());
        let theirs: Vec<_> = std::iter::from_fn(|| ask(&acme).ok()).collect();
        assert_eq!(theirs.len(), 3);
        let refused = ask(&acme).unwrap_err();
        assert!(matches!(
            refused,
            ForecastError::ShareTaken { share: 3, .. }
        ));
        assert!(refused.to_string().contains("tenant acme"), "{refused}");
        ask(&beta).unwrap();
        // one that is cancelled makes room
        assert!(forecasts.cancel(theirs[0].id));
        ask(&acme).unwrap();
        // the carrier has what is left
        let carriers: Vec<_> = std::iter::from_fn(|| ask(&None).ok()).collect();
        assert_eq!(carriers.len(), MOST_WAITING - 4);
        assert!(matches!(ask(&beta), Err(ForecastError::Full)));
    }

    #[tokio::test]
    async fn what_is_kept_for_one_tenant_pushes_nothing_of_others_out() {
        let (forecasts, task, _dir) = unworked().await;
        let (acme, beta) = (Some(id("acme")), Some(id("beta")));
        let ended = |tenant: &Option<TenantId>| {
            let job = forecasts.add(Wanted::Task(task), tenant.as_ref()).unwrap();
            assert!(forecasts.cancel(job.id));
            forecasts.jobs().forget();
            job.id
        };
        let (ours, theirs) = (ended(&None), ended(&beta));
        let many: Vec<ForecastId> = (0..MOST_KEPT + 5).map(|_| ended(&acme)).collect();
        let is_there = |id: &ForecastId| forecasts.look(*id).is_some();
        assert!(is_there(&ours) && is_there(&theirs));
        let kept: Vec<&ForecastId> = many.iter().filter(|id| is_there(id)).collect();
        assert_eq!(kept.len(), MOST_KEPT - 2);
        assert!(is_there(many.last().unwrap()), "the newest stay");
    }
}
