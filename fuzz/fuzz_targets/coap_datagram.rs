//! Fuzzes a CoAP datagram; what is done with the input stands in `src/coap_datagram.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cellwise_fuzz::coap_datagram::run(input));
