//! Registration against a real API server: what a token buys, and what it never does.

#![allow(clippy::unwrap_used, clippy::panic)]

mod lab;

use kube::Api;
use lab::{Key, Lab};
use serde_json::json;
use skep_api::Cell;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_buys_one_certificate_that_reads_its_own_cell() {
    let lab = Lab::start().await;
    let holder = lab.token("eu", json!({"scope": {"pool": "eu"}})).await;
    let key = Key::new("one");
    let leaf = lab.ask(&holder, &key).await.leaf();
    let agent = lab.certified("one", &leaf).await;
    Api::<Cell>::all(agent).get("one").await.unwrap();
    assert_eq!(lab.used("eu").await, 1);
    let made = lab.registrations().get(&key.registration).await.unwrap();
    assert_eq!(made.spec.cell, "one");
    assert_eq!(made.spec.token, "eu");
}
