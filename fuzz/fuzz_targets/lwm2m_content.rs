//! Fuzzes a device's answer to a read; what is done with the input stands in `src/lwm2m_content.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cellwise_fuzz::lwm2m_content::run(input));
