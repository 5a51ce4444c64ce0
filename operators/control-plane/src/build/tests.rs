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
fn a_tenant_with_an_interface_as_golden_files() {
    let mut object = control_plane();
    object
        .spec
        .parameters
        .insert("wayBack".into(), "interface".into());
    let children = build_children(&validate(&object).unwrap(), stage());
    let plain = build_children(&tenant(), stage());
    // Only the apiservers know of it.
    assert_eq!(children.deployments[1..], plain.deployments[1..]);
    let egress = &children.configuration.data.unwrap()["egress.yaml"];
    let template = children.deployments[0].spec.clone().unwrap().template;
    let annotations = template.metadata.unwrap().annotations.unwrap();
    assert_eq!(annotations["skep.dev/tenant-interface"], "cabcdefghi");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../tests/golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!("egress-with-interface", egress));
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
