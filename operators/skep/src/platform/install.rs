//! Puts the platform's own objects into the hub: definitions, roles, operators, classes, and the cell with its pool.
//!
//! Everything goes through server-side apply, so a second run changes nothing that is right.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use include_dir::{Dir, include_dir};
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::json;
use skep_distro::Artifacts;
use skep_provider::LocalCell;
use skep_runtime::{Applier, manifests};

static MANIFESTS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../manifests");

/// The order of the manifests' folders; definitions first, what needs them later.
const FOLDERS: [&str; 6] = ["crds", "operators", "rbac", "admission", "local", "gateway"];
/// The image reference in the manifests that stands for the operators' image of this build.
const OPERATOR_IMAGE: &str = "localhost/skep:current";
/// The image reference in the manifests that stands for the distribution's Envoy.
const ENVOY_IMAGE: &str = "localhost/envoy:current";
/// The images of the distribution that run inside tenants; kube-proxy comes with each Kubernetes version.
const TENANT_IMAGES: [&str; 6] = [
    "busybox",
    "coredns",
    "envoy",
    "konnectivity",
    "local-path-provisioner",
    "metrics-server",
];

/// What the local platform is called and where it answers.
pub struct Site {
    /// The region.
    pub region: String,
    /// The domain of tenants' host names.
    pub domain: String,
    /// The name of the cell that is also the hub.
    pub cell: String,
    /// The zones, in order.
    pub zones: Vec<String>,
}

/// Applies everything that the platform consists of.
pub async fn install(client: Client, site: &Site, cell: &LocalCell, artifacts: &Artifacts) -> Result<()> {
    let applier = Applier::new(client, "installer");
    let mut objects = committed()?;
    for object in &mut objects {
        set_images(object, artifacts).with_context(|| format!("in {}", object.name_any()))?;
    }
    objects.push(settings(site, cell, artifacts)?);
    applier
        .apply_objects(objects)
        .await
        .context("cannot install the platform's manifests")?;
    let repository = "localhost";
    let versions = std::slice::from_ref(&artifacts.kubernetes);
    let images = tenant_images(artifacts);
    let defaults = skep_profiles::defaults(repository, versions, &artifacts.etcd, &images)?;
    applier
        .apply_objects(defaults)
        .await
        .context("cannot install classes and profiles")?;
    applier
        .apply_objects(vec![pool_object(site)?, cell_object(site, cell)?])
        .await
        .context("cannot install the cell and its pool")
}

fn committed() -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for folder in FOLDERS {
        let Some(folder) = MANIFESTS.get_dir(folder) else {
            continue;
        };
        for file in folder
            .files()
            .filter(|file| file.path().extension().is_some_and(|e| e == "yaml"))
        {
            let name = file.path().display();
            let text = file
                .contents_utf8()
                .with_context(|| format!("{name} is not UTF-8"))?;
            objects.extend(manifests::parse(text).with_context(|| format!("in {name}"))?);
        }
    }
    Ok(objects)
}

fn set_images(object: &mut DynamicObject, artifacts: &Artifacts) -> Result<()> {
    let Some(containers) = object.data.pointer_mut("/spec/template/spec/containers") else {
        return Ok(());
    };
    let containers = containers.as_array_mut().context("containers is no list")?;
    for container in containers {
        let wanted = match container["image"].as_str() {
            Some(OPERATOR_IMAGE) => "skep",
            Some(ENVOY_IMAGE) => "envoy",
            _ => continue,
        };
        let image = artifacts.images.iter().find(|image| image.name == wanted);
        let reference = image.and_then(|image| image.references.first());
        let reference = reference.with_context(|| format!("the distribution has no image {wanted}"))?;
        container["image"] = json!(reference);
        let variables = container["env"].as_array_mut().into_iter().flatten();
        for variable in variables.filter(|variable| variable["name"] == "SKEP_IMAGE") {
            variable["value"] = json!(reference);
        }
    }
    Ok(())
}

/// The distribution's images that run inside tenants, by part.
fn tenant_images(artifacts: &Artifacts) -> BTreeMap<String, String> {
    let of_tenants = artifacts
        .images
        .iter()
        .filter(|image| TENANT_IMAGES.contains(&image.name.as_str()));
    of_tenants
        .filter_map(|image| Some((image.name.clone(), image.references.first()?.clone())))
        .collect()
}

fn settings(site: &Site, cell: &LocalCell, artifacts: &Artifacts) -> Result<DynamicObject> {
    object(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "skep-settings",
            "namespace": skep_core::SYSTEM_NAMESPACE,
            "labels": {"app.kubernetes.io/part-of": "skep"},
        },
        "data": {
            "SKEP_REGION": site.region,
            "SKEP_DOMAIN": site.domain,
            "SKEP_CELL": site.cell,
            "SKEP_API_NAMES": cell.front_address.to_string(),
            "SKEP_KUBERNETES_VERSIONS": artifacts.kubernetes,
        },
    }))
}

/// The pool of local cells: there is one, as no other fits beside it unless somebody says so.
fn pool_object(site: &Site) -> Result<DynamicObject> {
    object(json!({
        "apiVersion": "skep.dev/v1alpha1",
        "kind": "CellPool",
        "metadata": {"name": site.region},
        "spec": {
            "region": site.region,
            "headroom": "none",
            "leadMinutes": 10,
        },
    }))
}

fn cell_object(site: &Site, cell: &LocalCell) -> Result<DynamicObject> {
    object(json!({
        "apiVersion": "skep.dev/v1alpha1",
        "kind": "Cell",
        "metadata": {"name": site.cell},
        "spec": {
            "pool": site.region,
            "region": site.region,
            "domain": site.domain,
            "zones": site.zones,
            "network": {
                "nodes": cell.ranges.nodes,
                "pods": cell.ranges.pods,
                "services": cell.ranges.services,
            },
            "gateway": {"address": format!("{}:443", cell.front_address)},
        },
    }))
}

fn object(value: serde_json::Value) -> Result<DynamicObject> {
    serde_json::from_value(value).context("an object of the installer is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_committed_manifest_parses_and_has_its_kind() {
        let objects = committed().unwrap();
        assert!(objects.len() > 20, "{}", objects.len());
        assert!(objects.iter().all(|object| object.types.is_some()));
    }

    #[test]
    fn no_image_is_left_that_a_registry_would_have_to_serve() {
        let image = |name: &str| skep_distro::ImageArchive {
            name: name.into(),
            references: vec![format!("localhost/{name}:1")],
            path: "/tmp".into(),
            digest: String::new(),
        };
        let artifacts = Artifacts {
            kubernetes: "1.36.3".into(),
            etcd: String::new(),
            coredns: String::new(),
            envoy: String::new(),
            bin: "/tmp".into(),
            cni: "/tmp".into(),
            images: vec![image("skep"), image("envoy")],
        };
        for mut object in committed().unwrap() {
            set_images(&mut object, &artifacts).unwrap();
            let Some(containers) = object.data.pointer("/spec/template/spec/containers") else {
                continue;
            };
            for container in containers.as_array().unwrap() {
                let image = container["image"].as_str().unwrap();
                assert!(
                    image.starts_with("localhost/") && !image.ends_with(":current"),
                    "{image}"
                );
            }
        }
    }
}
