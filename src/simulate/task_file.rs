//! How the task of a simulation is run, as an operator writes it: a file in TOML with the fields of [`TaskRules`].

use std::{fs::File, io::Read as _, path::Path};

use super::{FleetFile, world::start_of};
use crate::task::{Membership, TaskRules, WindowState};

/// The largest file that is read, bytes.
const MOST_BYTES: u64 = 1024 * 1024;

/// Reads how a task for this fleet is run.
///
/// # Errors
/// The file cannot be read, is no TOML, or has a field that cannot be had, for a person.
pub(crate) fn read(path: &Path, fleet: &FleetFile) -> Result<TaskRules, String> {
    let shown = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| format!("cannot read the task file {shown}: {error}"))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(format!(
            "the task file {shown} is larger than {MOST_BYTES} bytes"
        ));
    }
    parse(&text, fleet).map_err(|error| format!("the task file {shown}: {error}"))
}

fn parse(text: &str, fleet: &FleetFile) -> Result<TaskRules, String> {
    let mut rules: TaskRules = toml::from_str(text).map_err(|error| error.to_string())?;
    let start_at = start_of(fleet);
    let errors = rules.check(start_at);
    if !errors.is_empty() {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(errors.join("; "));
    }
    if rules.membership == Membership::Joining && !fleet.joins() {
        return Err(
            "membership: the fleet file adds no devices that could join; give it [joining], or leave membership out"
                .to_owned(),
        );
    }
    let closed_for_ever = WindowState::Closed { opens_at: None };
    if rules.window(None, start_at) == closed_for_ever {
        return Err(format!(
            "windows: none opens within a year of the task's start, at {start_at}"
        ));
    }
    // somebody has approved it
    rules.approval = false;
    rules.confirmation = None;
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<TaskRules, String> {
        parse(text, &FleetFile::parse("start_within_s = 60").unwrap())
    }

    #[test]
    fn the_example_is_a_task() {
        let example = include_str!("../../docs/tasks/canary.toml");
        let rules = rules(example).unwrap();
        assert_eq!(rules.phase_count(), 3);
        assert!(!rules.abort.is_empty() && rules.rate.is_some() && rules.windows.is_some());
    }

    #[test]
    fn says_which_field_cannot_be_had() {
        for (text, expected) in [
            ("[[phases]]\npercent = 0.0", "phases[0].percent: "),
            ("[[phases]]\npercent = nan", "phases[0].percent: "),
            ("[[abort]]\nmin_results = 3", "abort[0].percent: "),
            ("[rate]\nper_minute = 0", "rate.per_minute: "),
            (
                "not_after = \"2027-01-15T08:01:00Z\"",
                "not_after: 2027-01-15T08:01:00",
            ),
            (
                "[[phases]]\ncount = 1\nsoak_seconds = 2592001",
                "phases[0].soak_seconds: 0 to 2592000 are possible",
            ),
            (
                "membership = \"joining\"",
                "membership: the fleet file adds no devices",
            ),
        ] {
            let error = rules(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let both = rules("[[abort]]\n[rate]\nper_minute = 0").unwrap_err();
        assert!(
            both.contains("abort[0].percent: ") && both.contains("; rate.per_minute: "),
            "{both}"
        );
        for (text, field) in [
            ("fases = []", "fases"),
            ("[rate]\nper_minute = \"many\"", "per_minute"),
            (
                "[windows]\nzone = \"UTC\"\nwindows = [{ from = \"25:00\", to = \"05:00\" }]",
                "windows[0].from",
            ),
        ] {
            let error = rules(text).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/task.toml"), &FleetFile::default()).unwrap_err();
        assert!(
            error.starts_with("cannot read the task file /nowhere/task.toml: "),
            "{error}"
        );
    }

    #[test]
    fn devices_join_where_the_fleet_has_some_that_come_later() {
        let fleet = FleetFile::parse("[joining]\npercent = 20\nwithin_s = 3600").unwrap();
        let rules = parse("membership = \"joining\"", &fleet).unwrap();
        assert_eq!(rules.membership, Membership::Joining);
    }

    #[test]
    fn an_approval_is_taken_as_given() {
        assert!(rules("approval = true").unwrap().is_empty());
    }
}
