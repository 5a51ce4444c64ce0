//! Decisions and statuses from small fixtures.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use skep_api::{Cell, DeploymentRecord, TenantCluster, TenantClusterStatus};
use skep_core::reasons;
use skep_profiles::{Offer, offered};
use skep_runtime::conditions::find;

use super::build::is_as_built;
use super::choose::{Refusal, Why, choose};
use super::decide::{Decision, Placement, decide, identity};
use super::status::{Finding, build_status, is_converged};
use crate::validate::Catalog;

fn now() -> Timestamp {
    "2026-11-01T10:00:00Z".parse().unwrap()
}

fn cell(name: &str, tenants: i32, is_ready: bool) -> Cell {
    let state = if is_ready { "True" } else { "False" };
    let text = format!(
        "
apiVersion: skep.dev/v1alpha1
kind: Cell
metadata: {{name: {name}}}
spec:
  region: local
  domain: skep.internal
  zones: [a, b, c]
  network: {{nodes: 198.18.0.0/24, services: 198.18.4.0/22, pods: 198.18.16.0/20}}
  gateway: {{address: '198.18.0.2:443'}}
status:
  tenants: {tenants}
  conditions:
  - {{type: Ready, status: '{state}', reason: CheckedIn, message: '', lastTransitionTime: '2026-11-01T09:00:00Z'}}
"
    );
    serde_saphyr::from_str(&text).unwrap()
}

fn catalog(cells: Vec<Cell>) -> Catalog {
    let versions = ["1.36.3".parse().unwrap(), "1.35.4".parse().unwrap()];
    let offer = Offer {
        image_repository: "localhost",
        kubernetes_versions: &versions,
        etcd_version: "3.7.3",
        images: &std::collections::BTreeMap::new(),
        upstream_dns: "",
        largest_volume: Some(1536),
    };
    let made = offered(&offer).unwrap();
    Catalog {
        front: None,
        profiles: made
            .profiles
            .into_iter()
            .map(|p| (p.metadata.name.unwrap(), p.spec))
            .collect(),
        classes: made
            .classes
            .into_iter()
            .map(|c| (c.metadata.name.unwrap(), c.spec))
            .collect(),
        cells,
    }
}

fn tenant() -> TenantCluster {
    let text = "
apiVersion: skep.dev/v1alpha1
kind: TenantCluster
metadata:
  name: demo
  namespace: project-default
  uid: 0b7f6f0e-0000-4000-8000-000000000001
  generation: 1
  annotations: {skep.dev/traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01}
spec: {}
";
    serde_saphyr::from_str(text).unwrap()
}

fn placed(tenant: &TenantCluster, catalog: &Catalog) -> Box<Placement> {
    match decide(tenant, catalog, None).unwrap() {
        Decision::Placed(placement) => placement,
        other => panic!("{other:?}"),
    }
}

/// The record as the API would hold it after the agent said `ready` of `revision`.
fn reported(placement: &Placement, ready: &str, revision: Option<&str>) -> DeploymentRecord {
    let mut record = placement.record.clone();
    record.metadata.generation = Some(4);
    let conditions = serde_json::json!([
        {"type": "Ready", "status": ready, "reason": "Waiting", "message": "no quorum yet",
         "lastTransitionTime": "2026-11-01T09:30:00Z"},
        {"type": "DatastoreReady", "status": "False", "reason": "NoQuorum", "message": "1 of 3 members",
         "lastTransitionTime": "2026-11-01T09:30:00Z"},
    ]);
    record.status = serde_json::from_value(serde_json::json!({
        "observedGeneration": 4, "observedRevision": revision, "conditions": conditions,
    }))
    .unwrap();
    record
}

fn snapshot(name: &str, status: &TenantClusterStatus) {
    insta::with_settings!({snapshot_path => "../../tests/golden", prepend_module_to_snapshot => false}, {
        insta::assert_yaml_snapshot!(name, status);
    });
}

#[test]
fn the_record_is_as_recorded() {
    let placement = placed(&tenant(), &catalog(vec![cell("local", 0, true)]));
    insta::with_settings!({snapshot_path => "../../tests/golden", prepend_module_to_snapshot => false}, {
        insta::assert_yaml_snapshot!("record", placement.record);
    });
}

#[test]
fn a_record_is_written_again_only_when_it_lacks_something() {
    let built = placed(&tenant(), &catalog(vec![cell("local", 0, true)])).record;
    let mut found = built.clone();
    found.metadata.uid = Some("u".to_owned());
    let add = ("somebody.else/mark".to_owned(), "x".to_owned());
    found.metadata.labels.get_or_insert_default().extend([add]);
    assert!(is_as_built(&found, &built));
    let changes: [fn(&mut DeploymentRecord); 4] = [
        |record| record.spec.revision = "another".to_owned(),
        |record| record.metadata.finalizers = None,
        |record| record.metadata.labels = None,
        |record| record.spec.control_plane.api_server.replicas += 1,
    ];
    for change in changes {
        let mut other = found.clone();
        change(&mut other);
        assert!(!is_as_built(&other, &built), "{other:?}");
        other.metadata.deletion_timestamp = Some(Time(now()));
        assert!(
            is_as_built(&other, &built),
            "one that is being deleted stays as it is"
        );
    }
}

#[test]
fn the_emptiest_ready_cell_is_chosen() {
    let region = "local".parse().unwrap();
    let mut cordoned = cell("c", 0, true);
    cordoned.spec.cordoned = true;
    let cells = [
        cell("a", 5, true),
        cell("b", 3, true),
        cordoned.clone(),
        cell("d", 0, false),
    ];
    assert_eq!(choose(&cells, &region).unwrap().cell.as_str(), "b");
    let refused = choose(&[cordoned, cell("d", 0, false)], &region).unwrap_err();
    let expected = [("c", Why::Cordoned), ("d", Why::NotReady)];
    assert_eq!(
        refused,
        expected.map(|(cell, why)| Refusal {
            cell: cell.to_owned(),
            why
        })
    );
    assert_eq!(choose(&[], &region), Err(vec![]));
}

#[test]
fn a_latched_cell_is_kept_whatever_else_there_is() {
    let catalog = catalog(vec![cell("a", 100, false), cell("b", 0, true)]);
    let mut tenant = tenant();
    let status =
        serde_json::json!({"cell": "a", "cpid": "cabcdefghi", "version": "1.35.4", "class": "small"});
    tenant.status = serde_json::from_value(status).unwrap();
    let placement = placed(&tenant, &catalog);
    assert_eq!(placement.cell.as_str(), "a");
    assert_eq!(placement.record.metadata.name.as_deref(), Some("cabcdefghi"));
    assert_eq!(placement.record.spec.control_plane.version, "1.35.4");

    let gone = Catalog {
        cells: vec![cell("b", 0, true)],
        ..catalog
    };
    assert_eq!(
        decide(&tenant, &gone, None).unwrap(),
        Decision::CellGone("a".parse().unwrap())
    );

    tenant.status.as_mut().unwrap().version = None;
    assert!(
        decide(&tenant, &gone, None).is_err(),
        "a tenant with a cell is never placed again"
    );
}

#[test]
fn a_change_of_class_changes_the_revision_only_then() {
    let catalog = catalog(vec![cell("local", 0, true)]);
    let one = placed(&tenant(), &catalog);
    assert_eq!(placed(&tenant(), &catalog).record, one.record);
    let mut bigger = tenant();
    bigger.spec.class = skep_api::tenant_cluster::ClassChoice::Medium;
    assert_ne!(
        placed(&bigger, &catalog).record.spec.revision,
        one.record.spec.revision
    );
}

#[test]
fn a_namespace_that_is_no_project_is_refused() {
    let mut tenant = tenant();
    tenant.metadata.namespace = Some("kube-system".to_owned());
    match decide(&tenant, &catalog(vec![cell("local", 0, true)]), None).unwrap() {
        Decision::Invalid(errors) => assert_eq!(errors[0].field, "metadata.namespace"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn statuses_are_as_recorded() {
    let catalog = catalog(vec![cell("local", 0, true)]);
    let mut tenant = tenant();
    let cpid = identity(&tenant).unwrap();
    let placement = placed(&tenant, &catalog);
    let revision = placement.record.spec.revision.clone();

    let latched = build_status(&tenant, &cpid, &Finding::Placed(&placement, None), now());
    snapshot("status-latched", &latched);
    tenant.status = Some(latched);

    let written = placement.record.clone();
    snapshot(
        "status-written",
        &build_status(
            &tenant,
            &cpid,
            &Finding::Placed(&placement, Some(&written)),
            now(),
        ),
    );

    let waiting = reported(&placement, "False", None);
    let status = build_status(
        &tenant,
        &cpid,
        &Finding::Placed(&placement, Some(&waiting)),
        now(),
    );
    snapshot("status-waiting", &status);

    let ready = reported(&placement, "True", Some(&revision));
    assert!(is_converged(&ready));
    let status = build_status(&tenant, &cpid, &Finding::Placed(&placement, Some(&ready)), now());
    snapshot("status-ready", &status);
    tenant.status = Some(status);

    let error = crate::FieldError {
        field: "version",
        message: "1.99.0 is not on offer".to_owned(),
    };
    snapshot(
        "status-invalid",
        &build_status(&tenant, &cpid, &Finding::Invalid(&[error]), now()),
    );
    snapshot(
        "status-protected",
        &build_status(&tenant, &cpid, &Finding::Protected, now()),
    );
    let what = "cell local removes the control plane".to_owned();
    snapshot(
        "status-deleting",
        &build_status(&tenant, &cpid, &Finding::Deleting(what), now()),
    );
}

#[test]
fn readiness_is_never_that_of_an_older_revision() {
    let catalog = catalog(vec![cell("local", 0, true)]);
    let tenant = tenant();
    let cpid = identity(&tenant).unwrap();
    let placement = placed(&tenant, &catalog);
    let old = reported(&placement, "True", Some("0123456789abcdef"));
    assert!(!is_converged(&old));
    let status = build_status(&tenant, &cpid, &Finding::Placed(&placement, Some(&old)), now());
    assert_eq!(find(&status.conditions, reasons::READY).unwrap().status, "False");
    let mut stale = reported(&placement, "True", Some(&placement.record.spec.revision));
    stale.metadata.generation = Some(5);
    let status = build_status(&tenant, &cpid, &Finding::Placed(&placement, Some(&stale)), now());
    assert_eq!(find(&status.conditions, reasons::PULLED).unwrap().status, "False");
}
