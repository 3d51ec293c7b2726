//! Devices with QuecThing.

use super::*;

/// Devices with QuecThing, all with that character, if any.
fn quecthing(devices: usize, character: &str) -> Scenario {
    let character = if character.is_empty() {
        String::new()
    } else {
        format!("[styles.characters]\n\"{character}\" = 100\n")
    };
    let text =
        format!("start_within_s = 60\n[[styles]]\nstyle = \"quecthing\"\nshare = 1\n{character}");
    fleet(&text, devices, 5)
}

#[test]
fn they_are_upgraded_and_verified() {
    let unverified = Rc::new(Cell::new(0));
    let summary = run_with(&quecthing(12, ""), Unverified(unverified.clone()));
    assert_eq!(summary.violations, []);
    assert_eq!(succeeded(&summary), 12, "{:?}", summary.reasons);
    assert_eq!(unverified.get(), 0);
    assert!(summary.figures.downloaded_bytes >= 12 * 20_000);
}

#[test]
fn what_becomes_of_them_is_what_their_characters_say() {
    let characters = sim::mqtt::Fault::catalogue()
        .map(|(fault, _)| fault)
        .filter(|fault| fault.is_for_connected() && fault.is_for(sim::mqtt::Style::QuecThing));
    let characters: Vec<String> = (characters.map(|it| it.to_string()))
        .chain(["refuses@3".to_owned()])
        .collect();
    assert!(characters.len() > 10, "{characters:?}");
    for character in characters {
        let summary = run(&quecthing(3, &character));
        assert_eq!(summary.violations, [], "{character}");
        assert_eq!(summary.surprises, [].into(), "{character}");
    }
}

#[test]
fn takeovers_broken_links_and_crashes_violate_nothing() {
    let harsh = |seed, store| Scenario {
        faults: Faults::Harsh,
        crash_every: Some(Duration::from_mins(10)),
        seed,
        store,
        ..quecthing(16, "")
    };
    for seed in 1..=4 {
        let summary = run(&harsh(seed, StoreKind::Memory));
        assert_eq!(summary.violations, [], "seed {seed}");
        assert!(summary.crashes > 0, "seed {seed}");
    }
    let trace = |store| run(&harsh(1, store)).trace_sha256;
    assert_eq!(trace(StoreKind::Memory), trace(StoreKind::Sqlite));
}

// ---- rules that are broken on purpose

#[test]
fn what_leaves_before_its_change_is_committed_is_noticed() {
    let offers = |out: &Out| matches!(out, Out::Publish { payload, .. } if sim::mqtt::quecthing::is_offer(payload));
    let scenario = quecthing(4, "");
    for (hasty, words) in [
        (Hasty(offers), "is offered its package"),
        (
            Hasty(|out| matches!(out, Out::Grant(_))),
            "is granted its download",
        ),
    ] {
        breaks(&scenario, hasty, Rule::CommittedFirst, words);
    }
}

/// Frames of devices come with one digit of a version replaced, and with the sum that fits.
struct Misheard(u8, u8);

impl Hooks for Misheard {
    fn hears_of(&mut self, event: &mut Event) {
        let Event::Message {
            uplink: Uplink::Frames,
            payload,
            ..
        } = event
        else {
            return;
        };
        let mut frame = payload.to_vec();
        let told = frame.windows(2).position(|it| it == [b'V', self.0]);
        if let Some(at) = told {
            frame[at + 1] = self.1;
            frame[4] = frame[4].wrapping_add(self.1).wrapping_sub(self.0);
            *payload = frame.into();
        }
    }
}

#[test]
fn a_success_that_is_none_is_noticed() {
    let scenario = quecthing(4, "old-version-after-success");
    let misheard = Misheard(b'1', b'2');
    breaks(&scenario, misheard, Rule::TrueOutcome, "runs another");
}

#[test]
fn a_failure_that_is_none_is_noticed() {
    let misheard = Misheard(b'2', b'1');
    breaks(
        &quecthing(4, ""),
        misheard,
        Rule::TrueOutcome,
        "has shown it",
    );
}

#[test]
fn a_token_that_outlives_its_upgrade_is_noticed() {
    let kept = Loses(|out| matches!(out, Out::Revoke(_)));
    breaks(&quecthing(4, ""), kept, Rule::Grants, "are granted");
}
