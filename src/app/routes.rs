//! The operations below `/app/v1`, and what each needs. One that is not here is closed to everybody.

use crate::home::Action;

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// A user, whoever it is: what is told is the user's own.
    User,
    /// A role in the home of its path that may do this.
    Home(Action),
}

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// Its name, as the description has it (`operationId`).
    pub(super) name: &'static str,
    /// What it needs.
    pub(super) needs: Needs,
}

const fn user(name: &'static str) -> Route {
    Route {
        name,
        needs: Needs::User,
    }
}

const fn home(name: &'static str, action: Action) -> Route {
    Route {
        name,
        needs: Needs::Home(action),
    }
}

/// Every operation, in the order of the names.
pub(super) const ROUTES: &[Route] = {
    use Action::{Cancel, Confirm, Continue, Read, SetAutomatic, Start};
    &[
        home("cancel_device_upgrade", Cancel),
        home("check_device", Read),
        home("confirm_device_plan", Confirm),
        home("continue_device_start", Continue),
        home("get_device_automatic", Read),
        home("get_device_status", Read),
        home("list_device_history", Read),
        home("list_device_upgrades", Read),
        home("list_home_upgrades", Read),
        user("list_homes"),
        home("refuse_device_plan", Confirm),
        home("set_device_automatic", SetAutomatic),
        home("start_device_upgrades", Start),
        home("start_home_upgrades", Start),
        home("stream_home_events", Read),
    ]
};

impl Route {
    /// The operation of that name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.name == name)
    }
}
