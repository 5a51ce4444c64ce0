//! Etcd under its operator while everything fails: a sample of what `make soak T=etcd` does, without the platform.
//!
//! Each takes minutes: a round forms, breaks and heals a cluster of real etcds, and waits until nothing is written any more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

/// Runs a sample of one part in namespaces of its own.
fn soak(part: &str, rounds: u32) {
    let status = Command::new(env!("CARGO_BIN_EXE_soak"))
        .arg("etcd")
        .env("SOAK_PART", part)
        .env("SOAK_ROUNDS", rounds.to_string())
        .env_remove("SEED")
        .status()
        .expect("the soak starts");
    assert!(status.success(), "{part}: see above for the seed");
}

#[test]
fn no_acknowledged_write_is_lost_whatever_fails() {
    soak("etcd-faults", 20);
}

#[test]
fn the_operator_may_die_after_any_of_its_calls() {
    soak("etcd-crashes", 20);
}
