use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Input {
    Bytes(u16, Vec<u8>),
    /// A CoAP header with anything behind it.
    Coap(u16, u8, u8, Vec<u8>),
    /// PCP with a right check code and anything in it, as the device's notification.
    Pcp(u8, Vec<u8>),
    Register(u16),
    Wait(u16),
}

fn input() -> impl Strategy<Value = Input> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        (1u16..5, bytes()).prop_map(|(port, b)| Input::Bytes(port, b)),
        (1u16..5, 0x40u8..0x80, any::<u8>(), bytes())
            .prop_map(|(port, first, code, b)| Input::Coap(port, first, code, b)),
        (18u8..26, bytes()).prop_map(|(code, b)| Input::Pcp(code, b)),
        (1u16..5).prop_map(Input::Register),
        (0u16..400).prop_map(Input::Wait),
    ]
}

fn frame(code: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xFF, 0xFE, 1, code, 0, 0];
    frame.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    frame.extend(data);
    let checksum = pcp::checksum(&frame);
    frame[4..6].copy_from_slice(&checksum.to_be_bytes());
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever arrives from whomever: no panic, nothing grows, and the upgrade of another device ends
    /// as it should.
    #[test]
    fn nothing_that_arrives_disturbs_another_device(inputs in prop::collection::vec(input(), 0..120)) {
        let mut world = World::new();
        let mut hostile = Script::new("meter-9", 9);
        let mut good = Script::new("meter-1", 100);
        for n in 1..=9 {
            world.add(&format!("meter-{n}"));
        }
        let package = package("V2", &content());
        world.start("meter-9", 9, &package);
        hostile.register(&mut world);
        hostile.receive(&mut world);
        world.start("meter-1", 1, &package);
        good.negotiate(&mut world, 51, -90, 15);
        good.receive(&mut world);
        for input in inputs {
            match input {
                Input::Bytes(port, bytes) => world.datagram(peer(port), &bytes),
                Input::Coap(port, first, code, rest) => {
                    let mut bytes = vec![first, code, 0, 9];
                    bytes.extend(rest);
                    world.datagram(peer(port), &bytes);
                }
                Input::Pcp(code, data) => hostile.notify(&mut world, &frame(code, &data)),
                Input::Register(port) => {
                    Script::new(&format!("meter-{}", port + 1), port).register(&mut world);
                }
                Input::Wait(tenths) => world.pass(Duration::from_millis(u64::from(tenths) * 100)),
            }
            world.sent.retain(|(to, _)| *to == good.at);
        }
        good.asks_segment(&mut world, "V2", 0);
        prop_assert!(world.engine.tables().peers <= 12);
        prop_assert!(world.engine.timers.len() < 200);
        prop_assert!(!good.frames(&mut world).is_empty() || world.outcome(1).is_some());
    }
}
