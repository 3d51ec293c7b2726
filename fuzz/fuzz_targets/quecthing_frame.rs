//! Fuzzes what a device with `QuecThing` publishes; what is done with the input stands in `src/quecthing_frame.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cellwise_fuzz::quecthing_frame::run(input));
