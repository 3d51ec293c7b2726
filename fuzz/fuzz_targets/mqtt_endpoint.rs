//! Fuzzes the MQTT server among several clients; what is done with the input stands in `src/mqtt_endpoint.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cellwise_fuzz::mqtt_endpoint::run(input));
