//! What tenants may ask for, field by field.

#![allow(clippy::unwrap_used, clippy::panic)]

use skep_api::{Cell, TenantClusterSpec};
use skep_fleet::{Catalog, FieldError, Resolved, Standing, validate};
use skep_profiles::{Offer, offered};

fn cell(name: &str, region: &str, pods: &str) -> Cell {
    let text = format!(
        "
apiVersion: skep.dev/v1alpha1
kind: Cell
metadata: {{name: {name}}}
spec:
  region: {region}
  domain: skep.internal
  zones: [a, b, c]
  network: {{nodes: 198.18.0.0/24, services: 198.18.4.0/22, pods: {pods}}}
  gateway: {{address: '198.18.0.2:443'}}
"
    );
    serde_saphyr::from_str(&text).unwrap()
}

fn catalog() -> Catalog {
    let versions = [
        "1.36.3".parse().unwrap(),
        "1.35.4".parse().unwrap(),
        "1.34.9".parse().unwrap(),
    ];
    let offer = Offer {
        image_repository: "localhost",
        kubernetes_versions: &versions,
        etcd_version: "3.7.3",
        images: &std::collections::BTreeMap::new(),
        upstream_dns: "",
        largest_volume: None,
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
        cells: vec![cell("local", "local", "198.18.16.0/20")],
    }
}

fn spec(text: &str) -> TenantClusterSpec {
    serde_saphyr::from_str(text).unwrap()
}

fn resolved(text: &str, standing: Option<&Standing>) -> Resolved {
    validate(&spec(text), &catalog(), standing).unwrap()
}

fn refused(text: &str, standing: Option<&Standing>) -> Vec<FieldError> {
    validate(&spec(text), &catalog(), standing).unwrap_err()
}

fn standing(version: &str) -> Standing {
    Standing {
        cell: "local".parse().unwrap(),
        version: version.parse().unwrap(),
        class: "medium".to_owned(),
    }
}

#[test]
fn nothing_asked_for_is_the_default_of_everything() {
    let resolved = resolved("{}", None);
    assert_eq!(resolved.version.to_string(), "1.36.3");
    assert_eq!(
        (resolved.profile.as_str(), resolved.class.as_str()),
        ("standard", "small")
    );
    assert_eq!(resolved.region.as_str(), "local");
    assert_eq!(resolved.network.pods, "198.19.0.0/17");
}

#[test]
fn each_mistake_names_its_field() {
    let cases = [
        (
            "version: 1.99.0",
            "version",
            "1.99.0 is newer than the newest on offer, 1.36.3",
        ),
        (
            "version: 1.36.1",
            "version",
            "1.36.1 is not on offer; there is 1.36.3, 1.35.4, 1.34.9",
        ),
        (
            "version: latest",
            "version",
            "a version looks like 1.36.3; \"latest\" does not",
        ),
        (
            "profile: windows",
            "profile",
            "there is no profile \"windows\"; there is standard",
        ),
        (
            "region: mars",
            "region",
            "there is no region \"mars\"; there is local",
        ),
        (
            "network: {pods: 198.18.0.0/16, services: 198.19.128.0/20}",
            "network.pods",
            "198.18.0.0/16 overlaps 198.18.0.0/24, the nodes of cell local",
        ),
        (
            "network: {pods: 10.0.0.0/16, services: 10.0.0.0/20}",
            "network.services",
            "10.0.0.0/20 overlaps 10.0.0.0/16, the tenant's own pods",
        ),
    ];
    for (text, field, message) in cases {
        let expected = FieldError {
            field,
            message: message.to_owned(),
        };
        assert_eq!(refused(text, None), [expected], "{text}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let errors = refused(
        "{version: 1.99.0, region: mars, network: {pods: x, services: y}}",
        None,
    );
    let fields: Vec<&str> = errors.iter().map(|error| error.field).collect();
    assert_eq!(fields, ["region", "version", "network.pods"]);
}

#[test]
fn a_running_tenant_keeps_what_its_spec_leaves_open() {
    let resolved = resolved("{}", Some(&standing("1.35.4")));
    assert_eq!(
        (resolved.version.to_string().as_str(), resolved.class.as_str()),
        ("1.35.4", "medium")
    );
}

#[test]
fn a_running_tenant_keeps_a_version_that_is_no_longer_offered() {
    let resolved = resolved("version: 1.33.1", Some(&standing("1.33.1")));
    assert_eq!(resolved.version.to_string(), "1.33.1");
}

#[test]
fn upgrades_go_one_minor_forward() {
    assert_eq!(
        resolved("version: 1.36.3", Some(&standing("1.35.4")))
            .version
            .to_string(),
        "1.36.3"
    );
    assert_eq!(
        refused("version: 1.36.3", Some(&standing("1.34.9")))[0].field,
        "version"
    );
    assert_eq!(
        refused("version: 1.35.4", Some(&standing("1.36.3")))[0].field,
        "version"
    );
}

#[test]
fn the_class_can_be_pinned() {
    assert_eq!(resolved("class: large", Some(&standing("1.36.3"))).class, "large");
    assert_eq!(resolved("class: auto", Some(&standing("1.36.3"))).class, "medium");
}

#[test]
fn several_regions_must_be_told_apart() {
    let mut catalog = catalog();
    catalog.cells.push(cell("other", "north", "198.18.48.0/20"));
    let errors = validate(&spec("{}"), &catalog, None).unwrap_err();
    assert_eq!(errors[0].to_string(), "region: must be one of local, north");
    assert!(validate(&spec("region: north"), &catalog, None).is_ok());
    let elsewhere = validate(&spec("region: north"), &catalog, Some(&standing("1.36.3"))).unwrap_err();
    assert_eq!(
        elsewhere[0].message,
        "the cluster is in local and cannot go to another region"
    );
}

#[test]
fn a_new_cell_does_not_make_a_running_tenant_invalid() {
    let mut catalog = catalog();
    catalog.cells.push(cell("second", "local", "198.19.0.0/20"));
    assert!(validate(&spec("{}"), &catalog, Some(&standing("1.36.3"))).is_ok());
    assert_eq!(
        validate(&spec("{}"), &catalog, None).unwrap_err()[0].field,
        "network.pods"
    );
}

#[test]
fn without_a_cell_there_is_no_region() {
    let catalog = Catalog {
        cells: Vec::new(),
        ..catalog()
    };
    assert_eq!(
        validate(&spec("{}"), &catalog, None).unwrap_err()[0].field,
        "region"
    );
}
