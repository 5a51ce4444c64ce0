//! Everything that talks to an API server, against a mocked one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

mod apply;
mod controller;
mod leader;
mod mock;
