use std::sync::Arc;

use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

use super::{Exchange, LaneNow, limits::LimitLog, until};
use crate::{
    clock::SystemClock,
    config::Config,
    ledger::{Lane, TaskId},
    session::{Adapted, Gate, GateAsk},
    store::{LaneChanges, LimitChange, Store, StoreError},
    task::Share,
};

/// What is said to the gate.
pub(super) enum GateMessage {
    Ask(GateAsk),
    /// Whether slots are granted.
    Open(bool),
    StoreAvailable(bool),
    Configure(Arc<Config>),
    /// How does it stand in a lane?
    Look(Lane, oneshot::Sender<LaneNow>),
    /// What the operator rules for lanes.
    Rule(LaneChanges),
    /// What tasks have of slots.
    Share(Vec<(TaskId, Share)>),
}

/// Messages that are taken before the gate's own deadlines have their turn.
const AT_ONCE: usize = 256;

/// Rules that are read at once.
const PAGE: u32 = 10_000;

/// Has the gate know every rule for a cell, and every limit of a site or gateway, before it grants a slot. Returns the revisions of both up
/// to which it does.
///
/// # Errors
/// The database cannot be read.
pub async fn restore_rules(
    gate: &mut Gate,
    clock: SystemClock,
    store: &dyn Store,
) -> Result<(i64, i64), StoreError> {
    let mut cells = 0;
    loop {
        let changes = store.cell_changes_since(cells, PAGE).await?;
        let Some(last) = changes.last() else { break };
        cells = last.revision;
        for change in changes {
            gate.rule(clock.now(), Lane::Cell(change.cell), change.rules);
        }
    }
    let mut limits = 0;
    loop {
        let changes = store.lane_limits_since(limits, PAGE).await?;
        let Some(last) = changes.last() else {
            return Ok((cells, limits));
        };
        limits = last.revision;
        for change in changes {
            gate.limit(change.lane, change.limit);
        }
    }
}

/// Has the gate know what every task has of slots before it grants one.
///
/// # Errors
/// The database cannot be read.
pub async fn restore_shares(
    gate: &mut Gate,
    clock: SystemClock,
    store: &dyn Store,
) -> Result<(), StoreError> {
    for head in store.task_heads(clock.now().utc).await? {
        gate.share(head.task, Share::of(&head.rules));
    }
    Ok(())
}

/// Lets the gate hear the shards, and them hear it. It never ends by itself.
pub(super) async fn run_gate(
    mut gate: Gate,
    clock: SystemClock,
    exchange: Arc<Exchange>,
    limits: LimitLog,
    mut inbox: UnboundedReceiver<GateMessage>,
) {
    let mut messages = Vec::with_capacity(AT_ONCE);
    loop {
        let wait = until(gate.poll_timeout(), clock.now().instant);
        tokio::select! {
            _ = inbox.recv_many(&mut messages, AT_ONCE) => {}
            () = tokio::time::sleep(wait) => {}
        }
        let now = clock.now();
        for message in messages.drain(..) {
            match message {
                GateMessage::Ask(ask) => gate.handle(now.instant, ask),
                GateMessage::Open(open) => gate.open(open),
                GateMessage::StoreAvailable(available) => gate.store_available(available),
                GateMessage::Configure(config) => gate.configure(&config.admission),
                GateMessage::Look(lane, answer) => {
                    let view = gate.look(now.instant, lane);
                    let _ = answer.send(LaneNow::of(now, view)); // nobody waits any more
                }
                GateMessage::Share(shares) => {
                    for (task, share) in shares {
                        gate.share(task, share);
                    }
                }
                GateMessage::Rule(changes) => {
                    for change in changes.cells {
                        gate.rule(now, Lane::Cell(change.cell), change.rules);
                    }
                    for change in changes.limits {
                        gate.limit(change.lane, change.limit);
                    }
                }
            }
        }
        let now = clock.now();
        gate.keep_time(now);
        gate.handle_timeout(now.instant);
        while let Some(adapted) = gate.poll_adapted() {
            let Lane::Cell(cell) = adapted.lane else {
                continue; // no other lane is followed
            };
            log(cell, &adapted);
            limits.add(LimitChange {
                cell,
                at: now.utc,
                most: adapted.most,
                before: adapted.before,
                percent: adapted.percent,
            });
        }
        while let Some((device, order)) = gate.poll_order() {
            exchange.tell(device, order);
        }
    }
}

/// Tells the operator that the limit of a cell has changed, and why.
fn log(cell: u32, adapted: &Adapted) {
    let percent = adapted.percent;
    match (adapted.before, adapted.most) {
        (before, Some(limit)) if before.is_none_or(|before| limit < before) => tracing::info!(
            cell,
            limit,
            percent,
            "the cell is crowded: a KiB takes so many percent of what it takes while few upgrade there; fewer may upgrade at once"
        ),
        (_, Some(limit)) => {
            tracing::debug!(
                cell,
                limit,
                percent,
                "one more may upgrade at once in the cell"
            );
        }
        (_, None) => {
            tracing::info!(
                cell,
                percent,
                "the cell is crowded no more: coverage alone counts again"
            );
        }
    }
}
