//! Golden control planes of every profile, class and availability, and what hostile values come to.

#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use skep_api::tenant_cluster::Network;
use skep_api::{Availability, ClusterProfileSpec, SizeClassSpec, TenantReference};
use skep_profiles::{Defaults, Offer, ResolveError, Tenant, offered, resolve, revision};

fn platform() -> Defaults {
    let versions = ["1.36.3".parse().unwrap()];
    let images = ["coredns", "konnectivity"]
        .map(|name| (name.to_owned(), format!("localhost/{name}:1")))
        .into();
    let offer = Offer {
        image_repository: "localhost",
        kubernetes_versions: &versions,
        etcd_version: "3.7.3",
        images: &images,
        upstream_dns: "",
        largest_volume: None,
    };
    offered(&offer).unwrap()
}

fn parts(class: &str) -> (ClusterProfileSpec, SizeClassSpec) {
    let Defaults { classes, profiles } = platform();
    let class = classes
        .into_iter()
        .find(|c| c.metadata.name.as_deref() == Some(class))
        .unwrap();
    (profiles[0].spec.clone(), class.spec)
}

fn tenant(class: &str, availability: Availability) -> Tenant {
    Tenant {
        reference: TenantReference {
            project: "default".to_owned(),
            name: "demo".to_owned(),
            uid: "0b7f6f0e-0000-4000-8000-000000000001".to_owned(),
        },
        version: "1.36.3".parse().unwrap(),
        profile: "standard".to_owned(),
        class: class.to_owned(),
        availability,
        network: Network {
            pods: "198.19.0.0/17".to_owned(),
            services: "198.19.128.0/20".to_owned(),
        },
        region: "local".parse().unwrap(),
        domain: "skep.internal".parse().unwrap(),
    }
}

#[test]
fn control_planes_are_as_recorded() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| {
        for class in ["small", "medium", "large"] {
            for availability in [Availability::ZoneRedundant, Availability::Single] {
                let (profile, sizes) = parts(class);
                let spec = resolve(&profile, &sizes, &tenant(class, availability)).unwrap();
                insta::assert_yaml_snapshot!(format!("standard-{class}-{availability:?}"), spec);
            }
        }
    });
}

#[test]
fn a_revision_stands_for_what_was_resolved() {
    let (profile, class) = parts("small");
    let one = resolve(&profile, &class, &tenant("small", Availability::ZoneRedundant)).unwrap();
    let other = resolve(&profile, &class, &tenant("small", Availability::Single)).unwrap();
    assert_eq!(revision(&one), revision(&one.clone()));
    assert_ne!(revision(&one), revision(&other));
    assert!(revision(&one).len() == 16 && revision(&one).bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn a_template_that_changes_the_tenant_is_refused() {
    let (mut profile, class) = parts("small");
    profile.template = profile
        .template
        .replace("{{json tenant.network.pods}}", "10.0.0.0/8");
    let error = resolve(&profile, &class, &tenant("small", Availability::Single)).unwrap_err();
    assert!(
        matches!(error, ResolveError::Changed { field: "network", .. }),
        "{error}"
    );
}

#[test]
fn a_template_that_is_wrong_says_so() {
    let (mut profile, class) = parts("small");
    profile.template.push_str("extra: {{json tenant.nothing}}\n");
    let error = resolve(&profile, &class, &tenant("small", Availability::Single)).unwrap_err();
    assert!(matches!(error, ResolveError::Render { .. }), "{error}");
    profile.template = "tenant: {}".to_owned();
    let error = resolve(&profile, &class, &tenant("small", Availability::Single)).unwrap_err();
    assert!(matches!(error, ResolveError::Parse { .. }), "{error}");
}

proptest! {
    /// Values are validated long before, and must not matter here even if one day they are not.
    #[test]
    fn hostile_values_stay_values(name in "\\PC{0,40}|[\\n\\t\"'{}:#&*!|>%@` -]{0,20}|\\u{0}\\u{85}\\u{2028}") {
        let (mut profile, class) = parts("small");
        profile.image_repository = name.clone();
        let mut hostile = tenant("small", Availability::Single);
        hostile.reference.name = name.clone();
        hostile.network.pods = name.clone();
        let spec = resolve(&profile, &class, &hostile).unwrap();
        prop_assert_eq!(&spec.tenant.name, &name);
        prop_assert_eq!(&spec.network.pods, &name);
        prop_assert_eq!(spec.etcd.image, format!("{name}/etcd:3.7.3"));
    }
}
