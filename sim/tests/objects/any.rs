//! Whatever happens, a device installs nothing but its package.

use proptest::{collection::vec, prelude::*};
use sim::{Character, UpdatesBy, device::DeviceState};

use super::field::{Field, URI, package, spec, version};

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    PowerLoss,
    Uri,
    Reset,
    /// A block of that size, as if so many of its size had gone before.
    Block {
        number: usize,
        size: u16,
        wrong: bool,
    },
    PushAll(u16),
    Update,
    /// From now on the server serves the package, or something else.
    Serve {
        loses: usize,
        wrong: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let size = || (4_u32..=10).prop_map(|exponent| 1_u16 << exponent);
    prop_oneof![
        4 => (100_u64..300_000).prop_map(Step::Pass),
        1 => Just(Step::PowerLoss),
        3 => Just(Step::Uri),
        1 => Just(Step::Reset),
        2 => (0_usize..4, size(), any::<bool>())
            .prop_map(|(number, size, wrong)| Step::Block { number, size, wrong }),
        1 => size().prop_map(Step::PushAll),
        3 => Just(Step::Update),
        1 => (0_usize..6, any::<bool>())
            .prop_map(|(loses, wrong)| Step::Serve { loses: loses + 1, wrong }),
    ]
}

fn wrong_package() -> Vec<u8> {
    package().iter().map(|byte| !byte).collect()
}

fn take(field: &mut Field, step: &Step) {
    match *step {
        Step::Pass(ms) => field.pass(ms),
        Step::PowerLoss => {
            field.device.lose_power(field.now_ms, 5_000);
        }
        Step::Uri => drop(field.write("5/0/1", URI.as_bytes())),
        Step::Reset => drop(field.write("5/0/1", b"")),
        Step::Block {
            number,
            size,
            wrong,
        } => {
            let content = if wrong { wrong_package() } else { package() };
            let offset = number * usize::from(size);
            drop(field.push_block("5/0/0", offset, size, &content));
        }
        Step::PushAll(size) => drop(field.push("5/0/0", size, &package())),
        Step::Update => drop(field.execute("5/0/2", "")),
        Step::Serve { loses, wrong } => {
            field.serving.loses = if loses < 2 { 0 } else { loses };
            field.serving.content = if wrong { wrong_package() } else { package() };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_but_the_package_is_installed(character in 0_usize..5, steps in vec(step(), 1..50)) {
        let character = Character::ALL[character];
        let mut field = Field::new(spec(UpdatesBy::Firmware, character));
        let mut runs = field.device.version();
        for step in &steps {
            take(&mut field, step);
            let report = field.device.report();
            let whole = report.state == DeviceState::Downloaded || report.version != runs;
            if whole {
                prop_assert_eq!(field.device.image(), Some(&*package()));
            }
            runs = report.version;
        }
        // it can be upgraded after all that
        field.serving.content = package();
        field.serving.loses = 0;
        field.pass(3_600_000);
        field.write("5/0/1", b"");
        let code = field.push("5/0/0", 64, &package());
        prop_assert_eq!(code, Some(sim::coap::Code::CHANGED));
        field.execute("5/0/2", "");
        field.pass(600_000);
        prop_assert_eq!(field.device.version(), version("V2"));
    }
}
