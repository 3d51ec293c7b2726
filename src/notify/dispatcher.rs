//! Delivers. One task looks at the store, begins what is due as far as the receivers' bounds allow, and writes down
//! what came of it; the posts themselves are tasks of their own.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use ipnet::{Ipv4Net, Ipv6Net};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::{
    address::Target,
    payload::{Instance, Payload},
    post::{Posted, Poster},
    receivers::{PER_ORIGIN, Receivers},
    schedule::Schedule,
    signature::Secret,
};
use crate::{
    clock::{Instant, Now, SystemClock},
    config::{Settings, WebhookConfig},
    signal::Signals,
    store::{
        AttemptResult, Attempted, BusyWebhook, DeliveryId, DueDelivery, Events, StoreError,
        WebhookId, webhook_secret,
    },
    vault::Vault,
};

/// Between two looks at the least.
const SOON: Duration = Duration::from_millis(20);
/// Between two looks at the most.
const IDLE: Duration = Duration::from_secs(30);
const AFTER_ERROR: Duration = Duration::from_secs(2);
/// Old events are looked for this often.
const HOUSEKEEPING: Duration = Duration::from_mins(10);
/// Rows that are deleted or given up at once.
const CHUNK: u32 = 1_000;
/// What is under way when the server stops has this long to end.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Posts what is to be told.
pub struct Dispatcher {
    setup: DispatcherSetup,
    /// The settings that `poster` was made with.
    config: WebhookConfig,
    poster: Poster,
    schedule: Schedule,
    receivers: Receivers,
    under_way: HashSet<DeliveryId>,
    posts: JoinSet<Attempt>,
    /// What came of attempts, to be written down.
    done: Vec<Attempted>,
    housekeeping_at: Instant,
}

/// What a dispatcher is started with.
pub struct DispatcherSetup {
    /// Where it stands what is to be told.
    pub store: Arc<dyn Events>,
    /// The settings. Of those that change only the networks count.
    pub config: Settings,
    /// Signalled when something has happened.
    pub signals: Arc<Signals>,
    /// The clock.
    pub clock: SystemClock,
    /// Marks the database.
    pub instance: Instance,
    /// Opens the webhooks' secrets, where there is a credential key.
    pub vault: Option<Vault>,
}

/// A webhook that is due, and how its deliveries are coming along.
struct Line {
    webhook: BusyWebhook,
    origin: String,
    /// Those that may begin, once they were read.
    free: Option<VecDeque<DueDelivery>>,
}

/// A delivery that was tried.
struct Attempt {
    delivery: DueDelivery,
    webhook: WebhookId,
    origin: String,
    began: Now,
    posted: Posted,
}

impl Dispatcher {
    /// A dispatcher that has not looked yet.
    ///
    /// # Errors
    /// The TLS library cannot be used.
    pub fn new(setup: DispatcherSetup) -> Result<Self, reqwest::Error> {
        let config = setup.config.get().webhooks.clone();
        let schedule = Schedule {
            first_pause: Duration::from_secs(config.first_pause_s),
            give_up_after: Duration::from_secs(config.give_up_after_s),
        };
        Ok(Self {
            poster: Poster::new(
                &config.allow_networks,
                Duration::from_secs(config.timeout_s),
            )?,
            config,
            housekeeping_at: setup.clock.now().instant,
            setup,
            receivers: Receivers::new(schedule),
            schedule,
            under_way: HashSet::new(),
            posts: JoinSet::new(),
            done: Vec::new(),
        })
    }

    /// Delivers until `stop` turns true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut news = self.setup.signals.news.listen();
        let mut works = true;
        while !*stop.borrow() {
            news.mark_unchanged();
            let pause = match self.look().await {
                Ok(pause) => {
                    works = true;
                    pause
                }
                Err(error) => {
                    if works {
                        tracing::warn!(%error, "webhooks wait; trying again");
                    }
                    works = false;
                    AFTER_ERROR
                }
            };
            let woken = async {
                tokio::select! {
                    () = sleep(pause) => None,
                    Some(post) = self.posts.join_next() => Some(post),
                    Ok(()) = news.changed() => None,
                }
            };
            tokio::select! {
                post = woken => if let Some(Ok(attempt)) = post {
                    self.ended(attempt);
                },
                _ = stop.wait_for(|stop| *stop) => break,
            }
            // What ends at about the same time is written together.
            tokio::select! {
                () = sleep(SOON) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        let last = async {
            while let Some(post) = self.posts.join_next().await {
                if let Ok(attempt) = post {
                    self.ended(attempt);
                }
            }
        };
        let _ = tokio::time::timeout(STOP_WITHIN, last).await; // what is cut off is delivered again
        if let Err(error) = self.write_down().await {
            tracing::warn!(%error, "what was delivered last is delivered again at the next start");
        }
    }

    /// Writes down what has ended, and begins what is due. Returns how long nothing more is.
    async fn look(&mut self) -> Result<Duration, StoreError> {
        while let Some(post) = self.posts.try_join_next() {
            if let Ok(attempt) = post {
                self.ended(attempt);
            }
        }
        self.write_down().await?;
        self.follow_settings();
        let now = self.setup.clock.now();
        let mut pause = self.keep_house(now).await?;
        let mut lines = Vec::new();
        for webhook in self.setup.store.busy_webhooks().await? {
            if webhook.failing_since.is_some() {
                self.receivers.fails(webhook.id, now.instant);
            }
            if webhook.due_at > now.utc {
                pause = pause.min(webhook.due_at.since(now.utc));
            } else if let Some(until) = self.receivers.rests_until(webhook.id)
                && until > now.instant
            {
                self.give_up_backlog(&webhook, now).await?;
                pause = pause.min(until.since(now.instant));
            } else {
                lines.push(Line {
                    origin: origin(&webhook),
                    webhook,
                    free: None,
                });
            }
        }
        self.serve(lines, now).await?;
        Ok(pause)
    }

    /// Posts to other networks from now on, if the settings say so.
    fn follow_settings(&mut self) {
        let settings = self.setup.config.get();
        let networks = &settings.webhooks.allow_networks;
        if *networks == self.config.allow_networks {
            return;
        }
        match Poster::new(networks, Duration::from_secs(self.config.timeout_s)) {
            Ok(poster) => {
                self.poster = poster;
                self.config.allow_networks.clone_from(networks);
            }
            Err(error) => tracing::error!(%error, "webhooks go on with the networks of before"),
        }
    }

    /// Begins what is due, one of each webhook at a time, as long as there are places. Whoever gets none is looked
    /// at again when one is free.
    async fn serve(&mut self, mut lines: Vec<Line>, now: Now) -> Result<(), StoreError> {
        lines.sort_by_cached_key(|line| self.receivers.precedence(line.webhook.id, &line.origin));
        let mut lines = VecDeque::from(lines);
        while let Some(mut line) = lines.pop_front() {
            let id = line.webhook.id;
            if !self.receivers.may_begin(id, &line.origin, now.instant) {
                continue;
            }
            let free = match &mut line.free {
                Some(free) => free,
                none => none.insert(self.free(id, now).await?),
            };
            if let Some(delivery) = free.pop_front() {
                self.begin(&line.webhook, &line.origin, delivery, now);
                lines.push_back(line);
            }
        }
        Ok(())
    }

    /// Deliveries of a webhook that are due and not under way, as many as may begin at the most.
    async fn free(
        &self,
        webhook: WebhookId,
        now: Now,
    ) -> Result<VecDeque<DueDelivery>, StoreError> {
        if self.receivers.repeats(webhook) {
            let last = self.setup.store.last_due(webhook, now.utc).await?;
            return Ok(last.into_iter().collect());
        }
        // those under way are still due in the store
        let limit = PER_ORIGIN + self.receivers.under_way(webhook);
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let store = &self.setup.store;
        let mut due = store.due_deliveries(webhook, now.utc, limit).await?;
        due.retain(|delivery| !self.under_way.contains(&delivery.id));
        Ok(due.into())
    }

    fn begin(&mut self, webhook: &BusyWebhook, origin: &str, delivery: DueDelivery, began: Now) {
        self.receivers.begin(webhook.id, origin);
        self.under_way.insert(delivery.id);
        let payload = Payload::new(&delivery.event, &self.setup.instance);
        // serialising strings and numbers does not fail
        let body = serde_json::to_string(&payload).unwrap_or_default();
        let secret = webhook_secret(webhook.id, &webhook.secret, self.setup.vault.as_ref());
        let secret = secret.map(Secret::from_bytes);
        let headers = secret.map(|secret| secret.headers(payload.id(), began.utc, &body));
        let (poster, url) = (self.poster.clone(), webhook.url.clone());
        let (webhook, origin) = (webhook.id, origin.to_owned());
        self.posts.spawn(async move {
            Attempt {
                posted: match headers {
                    Ok(headers) => poster.post(&url, headers, body).await,
                    Err(error) => Posted::Failed(error.to_string(), None),
                },
                delivery,
                webhook,
                origin,
                began,
            }
        });
    }

    fn ended(&mut self, attempt: Attempt) {
        let now = self.setup.clock.now();
        let works = !matches!(attempt.posted, Posted::Failed(..));
        self.receivers
            .end(attempt.webhook, &attempt.origin, works, now.instant);
        let delivery = attempt.delivery;
        let attempts = delivery.attempts + 1;
        let first_at = delivery.first_at.unwrap_or(attempt.began.utc);
        let schedule = self.schedule;
        let again = |error, wait| schedule.follow(attempts, first_at, now.utc, wait, error);
        let result = match attempt.posted {
            Posted::Accepted => AttemptResult::Delivered,
            Posted::Gone(error) => AttemptResult::GivenUp { error },
            Posted::Refused(error) => again(error, None),
            Posted::Failed(error, wait) => again(error, wait),
        };
        if let AttemptResult::GivenUp { error } = &result {
            tracing::warn!(
                delivery = delivery.id.0,
                event = delivery.event.id,
                webhook = attempt.webhook.0,
                origin = attempt.origin,
                attempts,
                error,
                "an event could not be delivered; replay it when the receiver works again"
            );
        }
        self.done.push(Attempted {
            delivery: delivery.id,
            round: delivery.round,
            at: attempt.began.utc,
            works,
            result,
        });
    }

    async fn write_down(&mut self) -> Result<(), StoreError> {
        if self.done.is_empty() {
            return Ok(());
        }
        self.setup.store.record_attempts(&self.done).await?;
        for attempted in self.done.drain(..) {
            self.under_way.remove(&attempted.delivery);
        }
        Ok(())
    }

    /// A webhook that has not worked for as long as a delivery is tried, has failed those too that its backlog
    /// kept from being tried.
    async fn give_up_backlog(&self, webhook: &BusyWebhook, now: Now) -> Result<(), StoreError> {
        let before = now.utc.before(self.schedule.give_up_after);
        if webhook.failing_since.is_none_or(|since| since > before) || webhook.due_at >= before {
            return Ok(());
        }
        let error = "the receiver has not worked for as long as a delivery is tried";
        let store = &self.setup.store;
        let given_up = store
            .give_up(webhook.id, before, now.utc, error, CHUNK)
            .await?;
        tracing::warn!(webhook = webhook.id.0, given_up, error);
        Ok(())
    }

    /// Deletes what is old. Returns when to look again.
    async fn keep_house(&mut self, now: Now) -> Result<Duration, StoreError> {
        if now.instant >= self.housekeeping_at {
            let store = &self.setup.store;
            let kept = Duration::from_secs(self.config.keep_s);
            if store.forget_events(now.utc.before(kept), CHUNK).await? >= u64::from(CHUNK) {
                return Ok(SOON);
            }
            let busy = store.busy_webhooks().await?;
            let wanted: HashSet<WebhookId> = busy.iter().map(|webhook| webhook.id).collect();
            self.receivers.keep(|webhook| wanted.contains(&webhook));
            self.housekeeping_at = now.instant + HOUSEKEEPING;
        }
        Ok(IDLE)
    }
}

/// What the webhook leads to, whatever its path.
fn origin(webhook: &BusyWebhook) -> String {
    // where it leads is checked when it is posted to
    let anywhere = [Ipv4Net::default().into(), Ipv6Net::default().into()];
    Target::parse(&webhook.url, &anywhere)
        .map_or_else(|_| webhook.url.clone(), |target| target.origin())
}
