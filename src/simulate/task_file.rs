//! The task of a simulation, as an operator writes it: a file in TOML with the fields of [`TaskRules`], and its packages where it
//! has several.

use std::{fs::File, io::Read as _, path::Path};

use super::{FleetFile, offered::PackagesFile, world::start_of};
use crate::task::{Membership, TaskRules, WindowState};

/// The largest file that is read, bytes.
const MOST_BYTES: u64 = 1024 * 1024;

/// Fields of a task that say what is installed, and not how it is run.
const OF_PACKAGES: [&str; 4] = ["packages", "steps", "allow_downgrade", "conditions"];

/// A task.
#[derive(Debug, Default)]
pub(crate) struct TaskFile {
    pub(crate) rules: TaskRules,
    pub(crate) packages: PackagesFile,
}

/// Reads a task for this fleet.
///
/// # Errors
/// The file cannot be read, is no TOML, or has a field that cannot be had, for a person.
pub(crate) fn read(path: &Path, fleet: &FleetFile) -> Result<TaskFile, String> {
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

pub(super) fn parse(text: &str, fleet: &FleetFile) -> Result<TaskFile, String> {
    let (mut rules, packages) = split(text).map_err(|error| error.to_string())?;
    let start_at = start_of(fleet);
    let errors = rules.check(start_at);
    let errors = errors.iter().map(ToString::to_string);
    let errors: Vec<String> = errors.chain(packages.check()).collect();
    if !errors.is_empty() {
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
    Ok(TaskFile { rules, packages })
}

fn split(text: &str) -> Result<(TaskRules, PackagesFile), toml::de::Error> {
    let mut table: toml::Table = toml::from_str(text)?;
    let of_packages = OF_PACKAGES.iter();
    let of_packages: toml::Table = of_packages
        .filter_map(|field| table.remove_entry(*field))
        .collect();
    // what is left of the text says where it is wrong
    let rules = if of_packages.is_empty() {
        toml::from_str(text)?
    } else {
        table.try_into()?
    };
    Ok((rules, of_packages.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<TaskRules, String> {
        let fleet = FleetFile::parse("start_within_s = 60").unwrap();
        Ok(parse(text, &fleet)?.rules)
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
    fn packages_are_for_whom_they_say() {
        let fleet = FleetFile::default();
        let steps = include_str!("../../docs/tasks/steps.toml");
        let task = parse(steps, &fleet).unwrap();
        assert_eq!(task.packages.packages.len(), 3);
        assert_eq!(task.rules.phase_count(), 2, "the rest says how it is run");
        for (text, expected) in [
            (
                "[[packages]]\nversion = \"V2\"\n[[packages]]\nversion = \"V3\"",
                "packages[1].from: ",
            ),
            (
                "[[packages]]\nversion = \"V2\"\nsize_kib = 0",
                "packages[0].size_kib: 1 to 31000",
            ),
            (
                "[[packages]]\nversion = \"a version of PCP is shorter\"",
                "packages[0].version: ",
            ),
            ("steps = true", "steps: "),
            (
                "steps = true\n[[packages]]\nversion = \"V2\"\nfrom = { versions = [\"V1\"] }\n\
                 [[packages]]\nversion = \"V1\"\nfrom = { versions = [\"V2\"] }",
                "steps: the steps lead in a circle",
            ),
        ] {
            let error = parse(text, &fleet).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        for (text, field) in [
            ("[[packages]]\nfrom = {}", "version"),
            ("[[packages]]\nversion = \"V2\"\nform = {}", "form"),
            ("fases = []\n[[packages]]\nversion = \"V2\"", "fases"),
        ] {
            let error = parse(text, &fleet).unwrap_err();
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
        let rules = parse("membership = \"joining\"", &fleet).unwrap().rules;
        assert_eq!(rules.membership, Membership::Joining);
    }

    #[test]
    fn an_approval_is_taken_as_given() {
        assert!(rules("approval = true").unwrap().is_empty());
    }
}
