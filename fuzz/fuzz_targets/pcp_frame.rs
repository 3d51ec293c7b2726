//! Fuzzes a PCP frame; what is done with the input stands in `src/pcp_frame.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cellwise_fuzz::pcp_frame::run(input));
