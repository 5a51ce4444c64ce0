//! Golden output of every child, and the rendered arguments against the CIS Kubernetes benchmark.

mod cis;

use crate::build::{Stage, build_children};
use crate::fixtures::{control_plane, tenant};
use crate::validate::validate;

fn stage() -> Stage {
    Stage {
        api_servers: Some(3),
        has_controllers: true,
    }
}

#[test]
fn children_as_golden_files() {
    let children = build_children(&tenant(), stage());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../tests/golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| {
        insta::assert_yaml_snapshot!("namespace", children.namespace);
        insta::assert_yaml_snapshot!("etcd-cluster", children.etcd);
        insta::assert_yaml_snapshot!("service", children.service);
        insta::assert_yaml_snapshot!("configuration", children.configuration);
        insta::assert_yaml_snapshot!("disruption-budgets", children.disruption_budgets);
        for deployment in &children.deployments {
            let name = deployment.metadata.name.clone().unwrap();
            insta::assert_yaml_snapshot!(name, deployment);
        }
    });
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let render = || serde_json::to_string(&build_children(&tenant(), stage()).deployments).unwrap();
    assert_eq!(render(), render());
}

#[test]
fn a_rename_or_another_class_rolls_no_pod() {
    let mut other = control_plane();
    other.spec.tenant.name = "renamed".into();
    other.spec.class = "medium".into();
    let (one, other) = (
        build_children(&tenant(), stage()).deployments,
        build_children(&validate(&other).unwrap(), stage()).deployments,
    );
    for (one, other) in one.iter().zip(&other) {
        let template = |d: &k8s_openapi::api::apps::v1::Deployment| d.spec.clone().unwrap().template;
        assert_eq!(template(one), template(other));
        assert_ne!(one.metadata.labels, other.metadata.labels);
    }
}

#[test]
fn a_single_tenant_asks_for_no_spread() {
    let mut single = control_plane();
    single.spec.availability = skep_api::Availability::Single;
    for deployment in build_children(&validate(&single).unwrap(), stage()).deployments {
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        assert!(pod.topology_spread_constraints.is_none() && pod.affinity.is_none());
    }
}
