//! One device against hand-made server messages, under a virtual clock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::too_many_lines)] // helpers of tests are tests, too

mod bench;
mod faults;
mod lwm2m;
mod robustness;
mod sleep;
mod upgrade;
