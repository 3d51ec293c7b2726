//! The console in a real browser: Debian's Chromium, driven over `WebDriver`.
//!
//! `tests/run` installs the browser, its driver, and axe-core, which looks for what keeps people with a screen reader or a keyboard out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

mod browser;
mod deeds;
mod fleet;
mod night;
mod pages;
mod people;
#[path = "../system/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests of the system need more of it"
)]
mod support;
mod upgrade;
