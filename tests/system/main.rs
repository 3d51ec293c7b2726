//! The whole program, from outside: the real binary, real sockets on ports of the system's choosing, and
//! devices and clients that share no code with it. `tests/run` installs what these tests need; what is
//! missing makes them fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::too_many_lines)] // a test says so by ending, and is one story

mod app;
mod audit;
mod broker;
mod cancel;
mod check_config;
mod coap_client;
mod commands;
mod demo;
mod dtls;
mod garbage;
mod gateways;
mod heard;
mod mqtt;
mod objects;
mod oidc;
mod openapi;
mod operations;
mod operator;
mod pcp_decode;
mod products;
mod quecthing;
mod restart;
mod shards;
mod support;
mod traces;
mod upgrade;
mod webhooks;
mod wire;
