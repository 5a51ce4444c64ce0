//! A control plane's status from birth to readiness, and that it stays the same when nothing changes.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use kube::ResourceExt;
use skep_api::ControlPlane;

use super::*;
use crate::fixtures::{control_plane, observed_deployment, observed_serving, tenant};
use crate::material::{Life, build_material};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn status_at(
    object: &ControlPlane,
    observed: &Observed,
    bootstrap: &Bootstrap,
    now: &str,
) -> ControlPlaneStatus {
    let tenant = tenant();
    let born = at("2026-11-21T12:00:00Z");
    let material = build_material(&tenant, &observed.secrets, Life::New, [7; 32], born);
    let facts = Facts {
        object,
        tenant: &tenant,
        observed,
        material: material.as_ref(),
        bootstrap,
        inside: &match bootstrap {
            Bootstrap::Done => Inside::Applied(37),
            Bootstrap::NotTried | Bootstrap::Failed(_) => Inside::NotTried,
        },
        turn: Turn::Now,
        problem: None,
    };
    build_status(&facts, at(now))
}

fn with_keys(mut observed: Observed) -> Observed {
    let born = at("2026-11-21T12:00:00Z");
    let material = build_material(&tenant(), &BTreeMap::new(), Life::New, [7; 32], born).unwrap();
    for secret in material.create.into_iter().chain(material.renew) {
        observed.secrets.insert(secret.name_any(), secret);
    }
    observed
}

fn lines(status: &ControlPlaneStatus) -> String {
    let line = |c: &Condition| format!("{} {} {}: {}\n", c.type_, c.status, c.reason, c.message);
    let version = status.version.as_deref().unwrap_or("none");
    format!(
        "version {version}\n{}",
        status.conditions.iter().map(line).collect::<String>()
    )
}

#[test]
fn from_birth_to_readiness() {
    let object = control_plane();
    let mut story = String::new();
    let mut tell = |what: &str, observed: &Observed, bootstrap: Bootstrap| {
        let status = status_at(&object, observed, &bootstrap, "2026-11-21T12:00:01Z");
        assert_eq!(status.conditions[0].type_, "Ready");
        let _ = write!(story, "== {what}\n{}", lines(&status));
    };
    tell("nothing is there", &Observed::default(), Bootstrap::NotTried);
    let mut observed = with_keys(Observed::default());
    tell("keys are there", &observed, Bootstrap::NotTried);
    observed = with_keys(observed_serving());
    observed_deployment(&mut observed, Program::ApiServer, 1, 0);
    tell("apiserver starts", &observed, Bootstrap::NotTried);
    observed_deployment(&mut observed, Program::ApiServer, 1, 1);
    tell(
        "apiserver answers",
        &observed,
        Bootstrap::Failed("connection refused".into()),
    );
    observed_deployment(&mut observed, Program::ControllerManager, 2, 1);
    observed_deployment(&mut observed, Program::Scheduler, 2, 2);
    tell("controllers run", &observed, Bootstrap::Done);
    observed_deployment(&mut observed, Program::ApiServer, 3, 3);
    observed_deployment(&mut observed, Program::ControllerManager, 2, 2);
    tell("everything runs", &observed, Bootstrap::Done);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../tests/golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!("status", story));
}

#[test]
fn nothing_new_gives_the_same_status() {
    let mut object = control_plane();
    let mut observed = with_keys(observed_serving());
    for (program, replicas) in [
        (Program::ApiServer, 3),
        (Program::ControllerManager, 2),
        (Program::Scheduler, 2),
    ] {
        observed_deployment(&mut observed, program, replicas, replicas);
    }
    let first = status_at(&object, &observed, &Bootstrap::Done, "2026-11-21T12:00:01Z");
    object.status = Some(first.clone());
    let second = status_at(&object, &observed, &Bootstrap::Done, "2026-11-21T13:00:00Z");
    assert_eq!(first, second);
}

#[test]
fn what_was_known_stays_known_through_an_outage() {
    let mut object = control_plane();
    let mut observed = with_keys(observed_serving());
    observed_deployment(&mut observed, Program::ApiServer, 3, 3);
    object.status = Some(status_at(
        &object,
        &observed,
        &Bootstrap::Done,
        "2026-11-21T12:00:01Z",
    ));
    observed_deployment(&mut observed, Program::ApiServer, 3, 0);
    let status = status_at(&object, &observed, &Bootstrap::NotTried, "2026-11-21T12:00:02Z");
    assert_eq!(status.version.as_deref(), Some("1.36.3"));
    assert!(conditions::is_true(&status.conditions, reasons::BOOTSTRAPPED));
    assert!(conditions::is_true(
        &status.conditions,
        reasons::COMPONENTS_APPLIED
    ));
    assert!(!conditions::is_true(&status.conditions, reasons::READY));
    let invalid = InvalidSpec {
        field: "spec.x".into(),
        problem: "is wrong".into(),
    };
    let status = build_invalid(&object, &invalid, at("2026-11-21T12:00:03Z"));
    assert_eq!(status.conditions[0].message, "spec.x: is wrong");
    assert_eq!(status.conditions.len(), 8);
}

#[test]
fn a_condition_of_another_controller_is_never_taken_over() {
    let mut object = control_plane();
    let mut status = status_at(
        &object,
        &Observed::default(),
        &Bootstrap::NotTried,
        "2026-11-21T12:00:01Z",
    );
    let route = Condition {
        type_: "RouteReady".into(),
        ..status.conditions[0].clone()
    };
    status.conditions.push(route);
    object.status = Some(status);
    for next in [
        build_deleting(&object, "x", at("2026-11-21T12:00:02Z")),
        status_at(
            &object,
            &Observed::default(),
            &Bootstrap::NotTried,
            "2026-11-21T12:00:02Z",
        ),
    ] {
        assert!(
            next.conditions
                .iter()
                .all(|condition| condition.type_ != "RouteReady")
        );
    }
}
