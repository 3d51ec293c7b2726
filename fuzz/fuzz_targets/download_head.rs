//! Fuzzes a PCP frame; what is done with the input stands in `src/download_head.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cellwise_fuzz::download_head::run(input));
