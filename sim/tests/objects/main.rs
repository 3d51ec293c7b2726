//! Devices that are upgraded by objects 5, 9 and 33629, against a small server under a virtual clock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::too_many_lines)] // helpers of tests are tests, too

mod any;
mod faults;
mod field;
mod patient;
mod pull;
mod push;
mod software;
