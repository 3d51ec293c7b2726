//! Fuzzes the engine among many peers; what is done with the input stands in `src/engine.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cellwise_fuzz::engine::run(input));
