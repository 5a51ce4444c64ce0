//! The committed definitions are the ones that the types generate.

#![allow(clippy::unwrap_used)]

use kube::ResourceExt;

#[test]
fn committed_definitions_match_the_types() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/crds");
    for definition in skep_api::definitions() {
        let path = format!("{directory}/{}.yaml", definition.name_any());
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let generated = serde_saphyr::to_string(&definition).unwrap();
        assert!(
            committed == generated,
            "{} is stale: run `make gen`",
            definition.name_any()
        );
    }
}

#[test]
fn every_definition_has_a_status_with_conditions_or_none_at_all() {
    for definition in skep_api::definitions() {
        let version = &definition.spec.versions[0];
        let schema = serde_json::to_value(version.schema.as_ref().unwrap()).unwrap();
        let status = &schema["openAPIV3Schema"]["properties"]["status"];
        if !status.is_null() {
            let conditions = &status["properties"]["conditions"];
            assert_eq!(
                conditions["x-kubernetes-list-map-keys"][0],
                "type",
                "{}",
                definition.name_any()
            );
        }
    }
}
