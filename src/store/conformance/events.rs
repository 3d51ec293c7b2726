use super::*;
use crate::{
    ledger::Cancellation,
    store::{
        AddWebhookError, AttemptResult, Attempted, DeliveryState, DueDelivery, Event,
        MAX_WEBHOOKS_ALIKE, NewWebhook, Subject, WebhookId,
    },
};

async fn add(store: &impl Store, task: Option<TaskId>) -> WebhookId {
    let webhook = store.add_webhook(&new_webhook(task)).await.unwrap();
    assert_eq!(
        store.webhook(webhook.id).await.unwrap(),
        Some(webhook.clone())
    );
    webhook.id
}

fn new_webhook(task: Option<TaskId>) -> NewWebhook {
    NewWebhook {
        tenant: None,
        task,
        url: "https://hooks.example.com/x".to_owned(),
        secret: vec![1; 32],
        vault: None,
        created_at: T0,
    }
}

async fn due(store: &impl Store, webhook: WebhookId, at: UtcMillis) -> Vec<DueDelivery> {
    store.due_deliveries(webhook, at, 100).await.unwrap()
}

async fn told(store: &impl Store) -> Vec<Event> {
    store.events(0, None, 1_000).await.unwrap()
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

async fn end(world: &World<'_, impl Store>, task: TaskId, upgrade: UpgradeId, outcome: Outcome) {
    world
        .commit(&[
            stage(upgrade, 1, Stage::Downloading, t(5)),
            ended(upgrade, task, 1, outcome, None, t(10)),
        ])
        .await;
}

pub(crate) async fn every_outcome_is_told_once(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 1).await;
    let ids = world.ids(task.id).await;
    assert_eq!(store.event_range().await.unwrap(), (0, 0));
    // an attempt that another one follows is no outcome
    let again = ended(ids[0], task.id, 1, NOT_HEARD, Some(t(60)), t(9));
    world.commit(&[again]).await;
    assert_eq!(told(store).await, []);
    let last = ended(ids[0], task.id, 2, NOT_HEARD, None, t(90));
    world
        .commit(&[stage(ids[0], 2, Stage::Downloading, t(70)), last.clone()])
        .await;
    world.commit(&[last]).await;
    end(&world, task.id, ids[1], UPGRADED).await;
    let events = told(store).await;
    assert_eq!(
        kinds(&events),
        ["upgrade.failed", "upgrade.succeeded", "task.finished"]
    );
    assert_eq!(
        events[0],
        Event {
            id: events[0].id,
            at: t(90),
            kind: "upgrade.failed".to_owned(),
            task: task.id,
            task_name: "night".to_owned(),
            product: "p".to_owned(),
            version: crate::package::Version::new("V2").unwrap(),
            subject: Subject::Upgrade {
                upgrade: ids[0],
                endpoint: "d0".to_owned(),
                attempts: 2,
                reason: Some(NOT_HEARD.reason().to_owned()),
                told: Some(crate::ledger::Told::Facts(Box::default())),
                cell: Some(51_234),
                started_at: Some(t(70)),
                home: None,
                stage: None,
            },
        }
    );
    let all = Subject::Task {
        hold: None,
        succeeded: 1,
        failed: 1,
        cancelled: 0,
    };
    assert_eq!(events[2].subject, all);
    assert_eq!(store.event_range().await.unwrap(), (0, events[2].id));
}

pub(crate) async fn a_cancelled_task_and_a_removed_device_are_told(store: &impl Store) {
    let (world, task) = World::with_task(store, 3, 0).await;
    let ids = world.ids(task.id).await;
    let webhook = add(store, None).await;
    assert!(store.remove_device("d0", None, None, t(1)).await.unwrap());
    world
        .commit(&[stage(ids[1], 1, Stage::Downloading, t(2))])
        .await;
    store.stop_task(task.id, t(3), false).await.unwrap();
    store.stop_task(task.id, t(4), false).await.unwrap();
    let cancelled = ended(
        ids[1],
        task.id,
        1,
        Outcome::Cancelled(Cancellation::TaskStopped),
        None,
        t(5),
    );
    world.commit(&[cancelled]).await;
    let events = told(store).await;
    assert_eq!(
        kinds(&events),
        [
            "upgrade.failed",
            "upgrade.cancelled",
            "upgrade.cancelled",
            "task.stopped"
        ]
    );
    let times: Vec<UtcMillis> = events.iter().map(|event| event.at).collect();
    assert_eq!(times, [t(1), t(3), t(5), t(5)]);
    let counts = Subject::Task {
        hold: None,
        succeeded: 0,
        failed: 1,
        cancelled: 2,
    };
    assert_eq!(events[3].subject, counts);
    let delivered: Vec<Event> = (due(store, webhook, t(9)).await.into_iter())
        .map(|delivery| delivery.event)
        .collect();
    assert_eq!(delivered, events);
}

pub(crate) async fn events_are_read_in_order_and_by_task(store: &impl Store) {
    let (world, first) = World::with_task(store, 2, 0).await;
    let ids = world.ids(first.id).await;
    end(&world, first.id, ids[0], UPGRADED).await;
    end(&world, first.id, ids[1], NOT_HEARD).await;
    let package = world.package("p", "V3", 2).await;
    let second = store
        .create_task(&new_task(&package, list(&["d0"])))
        .await
        .unwrap();
    let id = world.ids(second.id).await[0];
    end(&world, second.id, id, UPGRADED).await;
    let all = told(store).await;
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted_by_key(|event| event.id));
    assert_eq!(store.events(all[1].id, None, 2).await.unwrap(), all[2..4]);
    assert_eq!(
        store.events(0, Some(second.id), 10).await.unwrap(),
        all[3..]
    );
    assert_eq!(store.events(all[4].id, None, 10).await.unwrap(), []);
    // a deleted task's outcomes can still be told
    store.delete_task(first.id).await.unwrap();
    assert_eq!(told(store).await, all);
}

pub(crate) async fn webhooks_get_what_concerns_them(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 0).await;
    let ids = world.ids(task.id).await;
    let package = world.package("p", "V3", 2).await;
    let other = store
        .create_task(&new_task(&package, list(&["d0"])))
        .await
        .unwrap();
    let (of_all, of_task) = (add(store, None).await, add(store, Some(task.id)).await);
    let of_other = add(store, Some(other.id)).await;
    assert_eq!(store.busy_webhooks().await.unwrap(), []);
    end(&world, task.id, ids[0], UPGRADED).await;
    let late = add(store, None).await;
    assert_eq!(
        due(store, of_all, t(9)).await,
        [],
        "it is due when it has happened"
    );
    let expected = due(store, of_all, t(10)).await;
    assert_eq!(expected.len(), 1);
    assert_eq!((expected[0].attempts, expected[0].first_at), (0, None));
    assert_eq!(due(store, of_task, t(10)).await[0].event, expected[0].event);
    assert_eq!(due(store, of_other, t(10)).await, []);
    assert_eq!(due(store, late, t(10)).await, []);
    let busy = store.busy_webhooks().await.unwrap();
    let busy: Vec<_> = busy.iter().map(|busy| (busy.id, busy.due_at)).collect();
    assert_eq!(busy, [(of_all, t(10)), (of_task, t(10))]);
    let unknown = store.add_webhook(&new_webhook(Some(TaskId(999)))).await;
    assert!(matches!(unknown, Err(AddWebhookError::NoTask(TaskId(999)))));
    let page = store.webhooks(None, Some(of_all), 2).await.unwrap();
    assert!(page.more);
    let listed: Vec<_> = page
        .items
        .iter()
        .map(|w| (w.id, w.task, w.pending))
        .collect();
    assert_eq!(
        listed,
        [(of_task, Some(task.id), 1), (of_other, Some(other.id), 0)]
    );
}

pub(crate) async fn a_task_brings_its_webhook(store: &impl Store) {
    let (world, package) = World::with_devices(store, 1).await;
    let mut new = new_task(&package, Selection::All);
    new.webhook = Some(new_webhook(None));
    let task = store.create_task(&new).await.unwrap();
    let webhooks = store.webhooks(None, None, 10).await.unwrap().items;
    assert_eq!(webhooks.len(), 1);
    assert_eq!(webhooks[0].task, Some(task.id));
    let id = world.ids(task.id).await[0];
    end(&world, task.id, id, UPGRADED).await;
    assert_eq!(due(store, webhooks[0].id, t(10)).await.len(), 2);
}

/// One upgrade, its event and its task's, and a webhook for both.
async fn with_deliveries(store: &impl Store) -> (WebhookId, Vec<DueDelivery>) {
    let (world, task) = World::with_task(store, 1, 0).await;
    let webhook = add(store, None).await;
    end(&world, task.id, world.ids(task.id).await[0], UPGRADED).await;
    let deliveries = due(store, webhook, t(10)).await;
    assert_eq!(deliveries.len(), 2);
    (webhook, deliveries)
}

pub(crate) async fn a_delivery_is_tried_until_it_ends(store: &impl Store) {
    let (webhook, deliveries) = with_deliveries(store).await;
    let record = async |number: usize, at, result| {
        let delivery = deliveries[number].id;
        let attempted = Attempted {
            delivery,
            round: 0,
            at,
            works: result == AttemptResult::Delivered,
            result,
        };
        store.record_attempts(&[attempted]).await.unwrap();
    };
    let error = || "503".to_owned();
    record(
        0,
        t(10),
        AttemptResult::Again {
            at: t(15),
            error: error(),
        },
    )
    .await;
    record(1, t(10), AttemptResult::Delivered).await;
    assert_eq!(due(store, webhook, t(14)).await, []);
    assert_eq!(store.last_due(webhook, t(14)).await.unwrap(), None);
    let again = due(store, webhook, t(15)).await;
    assert_eq!(again.len(), 1);
    let last = store.last_due(webhook, t(15)).await.unwrap();
    assert_eq!(last.as_ref(), again.last());
    assert_eq!((again[0].attempts, again[0].first_at), (1, Some(t(10))));
    assert_eq!(again[0].event, deliveries[0].event);
    record(0, t(15), AttemptResult::GivenUp { error: error() }).await;
    // too late, and without effect
    record(0, t(16), AttemptResult::Delivered).await;
    assert_eq!(store.busy_webhooks().await.unwrap(), []);
    let page = store.deliveries(webhook, None, None, 1).await.unwrap();
    assert!(page.more);
    let newest = &page.items[0];
    assert_eq!(
        (newest.id, newest.state),
        (deliveries[1].id, DeliveryState::Delivered)
    );
    assert_eq!(
        (newest.attempts, newest.next_at, newest.last_at),
        (1, None, Some(t(10)))
    );
    let page = store
        .deliveries(webhook, None, Some(newest.id), 10)
        .await
        .unwrap();
    let failed = store
        .deliveries(webhook, Some(DeliveryState::Failed), None, 10)
        .await
        .unwrap();
    assert_eq!(page, failed);
    let oldest = &page.items[0];
    assert_eq!((oldest.state, oldest.attempts), (DeliveryState::Failed, 2));
    assert_eq!(oldest.last_error, Some(error()));
    assert_eq!(oldest.kind, "upgrade.succeeded");
    let webhook = store.webhook(webhook).await.unwrap().unwrap();
    assert_eq!((webhook.pending, webhook.failed), (0, 1));
}

pub(crate) async fn a_webhook_fails_from_its_first_failure_to_its_next_success(store: &impl Store) {
    let (_, deliveries) = with_deliveries(store).await;
    let record = async |attempts: &[(usize, UtcMillis, bool)]| {
        let attempts: Vec<Attempted> = (attempts.iter())
            .map(|(number, at, works)| Attempted {
                delivery: deliveries[*number].id,
                round: 0,
                at: *at,
                works: *works,
                result: AttemptResult::Again {
                    at: t(99),
                    error: String::new(),
                },
            })
            .collect();
        store.record_attempts(&attempts).await.unwrap();
        store.busy_webhooks().await.unwrap()[0].failing_since
    };
    assert_eq!(record(&[]).await, None);
    assert_eq!(record(&[(0, t(10), true)]).await, None);
    assert_eq!(record(&[(0, t(11), false)]).await, Some(t(11)));
    assert_eq!(record(&[(1, t(12), false)]).await, Some(t(11)));
    assert_eq!(
        record(&[(1, t(13), true), (0, t(14), false)]).await,
        Some(t(14))
    );
    assert_eq!(record(&[(0, t(15), false), (1, t(16), true)]).await, None);
}

pub(crate) async fn a_backlog_is_given_up_and_replayed(store: &impl Store) {
    let (webhook, deliveries) = with_deliveries(store).await;
    assert_eq!(
        store
            .give_up(webhook, t(10), t(20), "dead", 10)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        store
            .give_up(webhook, t(11), t(20), "dead", 1)
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        store
            .give_up(webhook, t(11), t(20), "dead", 10)
            .await
            .unwrap(),
        1
    );
    assert_eq!(due(store, webhook, t(30)).await, []);
    assert_eq!(
        store
            .replay(webhook, Some(deliveries[1].id), t(30), 1)
            .await
            .unwrap(),
        1
    );
    let replayed = due(store, webhook, t(30)).await;
    assert_eq!(replayed.len(), 1);
    assert_eq!(replayed[0].id, deliveries[1].id);
    assert_eq!(store.replay(webhook, None, t(31), 10).await.unwrap(), 1);
    assert_eq!(due(store, webhook, t(31)).await.len(), 2);
    assert_eq!(store.replay(webhook, None, t(31), 10).await.unwrap(), 0);
    let unknown = store
        .replay(WebhookId(999), Some(deliveries[0].id), t(31), 10)
        .await;
    assert_eq!(unknown.unwrap(), 0);
}

pub(crate) async fn a_replay_begins_anew(store: &impl Store) {
    let (webhook, deliveries) = with_deliveries(store).await;
    let replayed = deliveries[0].id;
    let record = async |round, at| {
        let attempted = Attempted {
            delivery: replayed,
            round,
            at,
            works: false,
            result: AttemptResult::Again {
                at: at + Duration::from_mins(1),
                error: "503".to_owned(),
            },
        };
        store.record_attempts(&[attempted]).await.unwrap();
    };
    record(0, t(10)).await;
    store
        .replay(webhook, Some(replayed), t(20), 1)
        .await
        .unwrap();
    // it was under way when it was replayed
    record(0, t(19)).await;
    let due_again = due(store, webhook, t(20)).await;
    let again = due_again.iter().find(|due| due.id == replayed).unwrap();
    assert_eq!((again.round, again.attempts, again.first_at), (1, 0, None));
    record(1, t(20)).await;
    let later = store.last_due(webhook, t(80)).await.unwrap().unwrap();
    assert_eq!(later.id, replayed);
    assert_eq!((later.attempts, later.first_at), (1, Some(t(20))));
}

pub(crate) async fn old_events_are_forgotten(store: &impl Store) {
    let (webhook, deliveries) = with_deliveries(store).await;
    let ids: Vec<i64> = told(store).await.iter().map(|event| event.id).collect();
    let delivered = |number: usize| Attempted {
        delivery: deliveries[number].id,
        round: 0,
        at: t(20),
        works: true,
        result: AttemptResult::Delivered,
    };
    store.record_attempts(&[delivered(1)]).await.unwrap();
    assert_eq!(store.forget_events(t(20), 10).await.unwrap(), 0);
    assert_eq!(
        store.forget_events(t(100), 10).await.unwrap(),
        2,
        "a delivery and its event"
    );
    let kept = told(store).await;
    assert_eq!(kept.len(), 1, "what is still to be delivered is kept");
    assert_eq!(kept[0].id, ids[0]);
    let newest_is_forgotten = (ids[1], ids[1]);
    assert_eq!(store.event_range().await.unwrap(), newest_is_forgotten);
    store.record_attempts(&[delivered(0)]).await.unwrap();
    assert_eq!(store.forget_events(t(100), 10).await.unwrap(), 2);
    assert_eq!(store.event_range().await.unwrap(), newest_is_forgotten);
    assert!(store.webhook(webhook).await.unwrap().is_some());
}

pub(crate) async fn a_task_s_webhook_goes_some_time_after_the_task(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 0).await;
    let ids = world.ids(task.id).await;
    let webhook = add(store, Some(task.id)).await;
    assert_eq!(store.forget_events(t(100), 10).await.unwrap(), 0, "it runs");
    end(&world, task.id, ids[0], UPGRADED).await;
    end(&world, task.id, ids[1], UPGRADED).await;
    assert_eq!(
        store
            .give_up(webhook, t(11), t(50), "dead", 10)
            .await
            .unwrap(),
        3
    );
    assert_eq!(store.forget_events(t(50), 10).await.unwrap(), 0);
    assert!(store.webhook(webhook).await.unwrap().is_some());
    store.forget_events(t(51), 10).await.unwrap();
    assert_eq!(store.webhook(webhook).await.unwrap(), None);
    // nor does that of a deleted task stay
    let of_deleted = add(store, Some(task.id)).await;
    store.delete_task(task.id).await.unwrap();
    assert_eq!(store.forget_events(t(51), 10).await.unwrap(), 1);
    assert_eq!(store.webhook(of_deleted).await.unwrap(), None);
}

pub(crate) async fn so_many_webhooks_are_told_the_same(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 0).await;
    for told in [None, Some(task.id)] {
        for _ in 0..MAX_WEBHOOKS_ALIKE {
            add(store, told).await;
        }
        let refused = store.add_webhook(&new_webhook(told)).await;
        assert!(matches!(
            refused,
            Err(AddWebhookError::TooManyAlike(MAX_WEBHOOKS_ALIKE))
        ));
    }
    let package = world.package("p", "V3", 2).await;
    let other = store.create_task(&new_task(&package, Selection::All)).await;
    add(store, Some(other.unwrap().id)).await;
}

pub(crate) async fn a_webhook_goes_with_its_deliveries(store: &impl Store) {
    let (webhook, _) = with_deliveries(store).await;
    assert!(store.remove_webhook(webhook).await.unwrap());
    assert!(!store.remove_webhook(webhook).await.unwrap());
    assert_eq!(store.webhook(webhook).await.unwrap(), None);
    assert_eq!(store.busy_webhooks().await.unwrap(), []);
    assert_eq!(told(store).await.len(), 2);
}
