//! What a task does and waits for, in a sentence.

use crate::{
    clock::UtcMillis,
    ledger::PackageId,
    task::{Hold, HoldReason, NotYet, OverBudget, PUT_OFF_COUNTED, Resource, ShareNow, Stand},
};

/// Tasks that are named at once.
const NAMED: usize = 3;

/// What a task does, and what it waits for.
pub fn stand(stand: &Stand) -> String {
    match stand {
        Stand::Over(state) => format!("it is {}", state.name()),
        Stand::Held(it) => hold(it),
        Stand::StartsAt(at) => format!("it starts at {at}"),
        Stand::WindowClosed(Some(at)) => format!("its next window opens at {at}"),
        Stand::WindowClosed(None) => "none of its windows opens within a year".to_owned(),
        Stand::AwaitsDevices(None) => {
            "nothing is left to do; it waits for devices that join, until it is stopped".to_owned()
        }
        Stand::EmptyPhase(phase) => format!(
            "nobody is in phase {}; it waits for devices that join, or for the next phase to be begun",
            phase + 1
        ),
        Stand::AwaitsDevices(Some(last)) => {
            format!("nothing is left to do; it waits for devices that join, until {last}")
        }
        Stand::Phase {
            phase,
            of,
            results,
            wanted,
            soaking,
        } => {
            let soak = match soaking {
                0 => String::new(),
                soaking => format!(
                    ", and {soaking} have to be in health for some time after their upgrade"
                ),
            };
            let phase = phase + 1;
            format!("phase {phase} of {of} runs: {results} devices of {wanted} have a result{soak}")
        }
        Stand::OverBudget { waiting, until } => format!(
            "{waiting} upgrades wait: their devices have not enough left of their budgets of this month; the first goes on at {until}"
        ),
        Stand::Runs { running, waiting } => format!("{running} upgrades run, {waiting} wait"),
    }
}

/// How many upgrades of a task wait for their devices' budgets, besides what it does; empty where none does or that is said already.
pub fn put_off(stand: &Stand, put_off: (u32, Option<UtcMillis>)) -> String {
    let (count @ 1.., Some(until)) = put_off else {
        return String::new();
    };
    if matches!(stand, Stand::OverBudget { .. } | Stand::Over(_)) {
        return String::new();
    }
    let more = if count >= PUT_OFF_COUNTED {
        " or more"
    } else {
        ""
    };
    format!("; {count}{more} of them wait for their devices' budgets, the first until {until}")
}

/// Why an upgrade waits until its device may spend again.
fn over_budget(over: &OverBudget) -> String {
    let amount = |number| amount(over.resource, number);
    let (budget, used, need) = (amount(over.budget), amount(over.used), amount(over.need));
    let until = over.until;
    if over.need > over.budget {
        return format!(
            "the upgrade costs its device {need}, which is more than its whole budget of {budget} a month; it is looked at again at {until}"
        );
    }
    format!(
        "its device is over its budget of {budget} this month: it has spent {used}, and the upgrade costs {need}; it waits until {until}"
    )
}

/// Why a task cannot have a budget.
pub fn never_fits(package: PackageId, over: &OverBudget) -> String {
    let (budget, need) = (
        amount(over.resource, over.budget),
        amount(over.resource, over.need),
    );
    format!(
        "package {} costs a device {need} at least, which is more than {budget}: it could never begin",
        package.0
    )
}

fn amount(resource: Resource, number: u64) -> String {
    match resource {
        Resource::Bytes => format!("{number} bytes"),
        Resource::Airtime => {
            let seconds = number.div_ceil(1_000);
            format!("{seconds} s of airtime (estimated)")
        }
    }
}

/// Why nothing of a task begins, and what to do.
pub fn hold(hold: &Hold) -> String {
    let at = hold.at;
    match &hold.why {
        HoldReason::Paused { note: None } => format!("paused at {at}; resume it to go on"),
        HoldReason::Paused { note: Some(note) } => {
            format!("paused at {at} ({note}); resume it to go on")
        }
        HoldReason::Failures {
            failed,
            results,
            threshold,
        } => format!(
            "paused by itself at {at}: {failed} of {results} devices have failed, which is too many (abort[{threshold}]); \
             look at them, and resume it to go on"
        ),
        HoldReason::PhaseDone { phase } => format!(
            "phase {} has come true at {at}; have a look, and resume the task to go on with the next",
            phase + 1
        ),
        HoldReason::PhaseFailed {
            phase,
            succeeded,
            results,
        } => format!(
            "phase {} has not come true at {at}: {succeeded} of {results} devices count as successes; retry those that failed, \
             or resume the task to go on with the next",
            phase + 1
        ),
        HoldReason::Approval => format!("waits for approval since {at}"),
    }
}

/// Why a task was stopped by itself; `None` where somebody has stopped it.
pub fn stopped_for(hold: &Hold) -> Option<String> {
    match hold.why {
        HoldReason::Failures {
            failed,
            results,
            threshold,
        } => Some(format!(
            "{failed} of {results} devices have failed, which is too many (abort[{threshold}])"
        )),
        HoldReason::Paused { .. }
        | HoldReason::PhaseDone { .. }
        | HoldReason::PhaseFailed { .. }
        | HoldReason::Approval => None,
    }
}

/// How an upgrade that waits for a slot stands among those of its task, and that task beside others.
pub fn share(place: u32, share: &ShareNow) -> String {
    let ShareNow {
        task,
        priority,
        weight,
        weights,
        ..
    } = share;
    let task = task.0;
    let own = share.own_priority;
    let risen = if *priority > own {
        format!(" (it has come to priority {priority} from {own} by waiting)")
    } else {
        String::new()
    };
    let turns = format!(
        "number {place} of task {task}'s queue there; task {task} has {weight} of {weights} shares of priority \
         {priority}{risen}"
    );
    let named: Vec<String> = (share.before.iter().take(NAMED))
        .map(|(task, priority)| format!("task {} (priority {priority})", task.0))
        .collect();
    let more = match share.before.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match named.len() {
        0 => turns,
        1 => format!("{turns}; {}{more} comes first", named.join(", ")),
        _ => format!("{turns}; {}{more} come first", named.join(", ")),
    }
}

/// What an upgrade waits for that was taken back at the end of a window.
pub fn after_take_back(waits: &str) -> String {
    format!("taken back at the end of its window; {waits}")
}

/// Why an upgrade may not begin yet.
pub fn not_yet(why: &NotYet) -> String {
    match why {
        NotYet::TaskScheduled(at) => format!("the task starts at {at}"),
        NotYet::TaskNotRunning(state) => format!("the task is {}", state.name()),
        NotYet::TaskHeld(it) => format!("nothing of the task begins: {}", hold(it)),
        NotYet::LaterPhase { phase, running } => format!(
            "it is in phase {} of the task, and phase {} runs",
            phase + 1,
            running + 1
        ),
        NotYet::WindowClosed(Some(at)) => format!("the task's next window opens at {at}"),
        NotYet::WindowClosed(None) => "none of the task's windows opens within a year".to_owned(),
        NotYet::Until(at) => format!("the next attempt begins at {at}"),
        NotYet::DeviceBusy(other) => {
            format!("upgrade {} of the same device has to end first", other.0)
        }
        NotYet::DeviceExcluded(reason) => {
            format!("the device is excluded from upgrades ({reason})")
        }
        NotYet::NotConfirmed => "the owner of its device has not confirmed it".to_owned(),
        NotYet::ConfirmedFor(at) => format!("its owner has confirmed it for {at}"),
        NotYet::OverBudget(over) => over_budget(over),
        NotYet::Rate(per_minute) => {
            format!("the task began with {per_minute} upgrades a minute, and its turn has not come")
        }
    }
}
