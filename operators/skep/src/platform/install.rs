//! Puts the platform's own objects into the hub: definitions, roles, operators, classes, and the cell with its pool; and into
//! a further cell what of them makes it one, with its way to the hub.
//!
//! Everything goes through server-side apply, so a second run changes nothing that is right.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use include_dir::{Dir, include_dir};
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::json;
use skep_builder::Registration;
use skep_distro::Artifacts;
use skep_provider::LocalCell;
use skep_provider::local::networks;
use skep_runtime::{Applier, manifests};

static MANIFESTS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../manifests");

/// The order of the manifests' folders; definitions first, what needs them later.
const FOLDERS: [&str; 6] = ["crds", "operators", "rbac", "admission", "local", "gateway"];
/// The manifests that only a hub has; a hub is a cell too and has all others as well.
const HUB_ONLY: [&str; 9] = [
    "operators/builder.yaml",
    "operators/hub.yaml",
    "rbac/builder.yaml",
    "rbac/cells.yaml",
    "rbac/hub-bindings.yaml",
    "rbac/identity.yaml",
    "rbac/provision.yaml",
    "rbac/registration.yaml",
    "rbac/scheduler.yaml",
];
/// The Secret by which a cell's agent finds the hub.
const HUB_SECRET: &str = "skep-hub";
/// The Secret by which the hub's builder finds a provider of cells.
const PROVIDER_SECRET: &str = "skep-provider";
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
    /// The name of the cell.
    pub cell: String,
    /// The zones, in order.
    pub zones: Vec<String>,
}

/// How the hub's builder reaches a provider of cells.
pub struct ProviderAccess {
    /// The value of `spec.provider` of its cells.
    pub name: &'static str,
    /// Where it is.
    pub url: String,
    /// Its authority, as PEM.
    pub authority: String,
    /// What it asks for.
    pub token: String,
}

/// What an installation is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A hub that is a cell too.
    Hub,
    /// A cell of a hub elsewhere.
    Cell,
}

/// Applies everything that the platform consists of.
pub async fn install(
    client: Client,
    site: &Site,
    cell: &LocalCell,
    provider: &ProviderAccess,
    artifacts: &Artifacts,
) -> Result<()> {
    let applier = Applier::new(client, "installer");
    let secret = secret(
        PROVIDER_SECRET,
        &[
            ("name", Some(provider.name)),
            ("url", Some(&provider.url)),
            ("ca.crt", Some(&provider.authority)),
            ("token", Some(&provider.token)),
        ],
    )?;
    apply_committed(&applier, Part::Hub, site, cell, secret, artifacts).await?;
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

/// Applies everything that makes a cluster a cell of a hub elsewhere, and tells its agent where that is.
pub async fn install_cell(
    client: Client,
    site: &Site,
    cell: &LocalCell,
    registration: &Registration,
    artifacts: &Artifacts,
) -> Result<()> {
    let applier = Applier::new(client, "installer");
    let Registration {
        hub,
        authority,
        token,
    } = registration;
    let secret = secret(
        HUB_SECRET,
        &[
            ("server", Some(hub)),
            ("ca.crt", Some(authority)),
            // An agent that is registered needs no token any more.
            ("token", token.as_deref()),
        ],
    )?;
    apply_committed(&applier, Part::Cell, site, cell, secret, artifacts).await
}

async fn apply_committed(
    applier: &Applier,
    part: Part,
    site: &Site,
    cell: &LocalCell,
    secret: DynamicObject,
    artifacts: &Artifacts,
) -> Result<()> {
    let mut objects = committed(part)?;
    for object in &mut objects {
        set_images(object, artifacts).with_context(|| format!("in {}", object.name_any()))?;
    }
    // Namespaces come first, and the settings before what reads them when it starts.
    objects.extend([secret, settings(site, cell, artifacts)?]);
    applier
        .apply_objects(objects)
        .await
        .context("cannot install the platform's manifests")
}

fn secret(name: &str, files: &[(&str, Option<&str>)]) -> Result<DynamicObject> {
    let data: BTreeMap<_, _> = files
        .iter()
        .filter_map(|(file, text)| Some((*file, STANDARD.encode((*text)?))))
        .collect();
    object(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": skep_core::SYSTEM_NAMESPACE,
            "labels": {"app.kubernetes.io/part-of": "skep"},
        },
        "data": data,
    }))
}

fn committed(part: Part) -> Result<Vec<DynamicObject>> {
    let is_wanted = |path: &std::path::Path| {
        part == Part::Hub || !HUB_ONLY.iter().any(|file| path == std::path::Path::new(file))
    };
    let mut objects = Vec::new();
    for folder in FOLDERS {
        let Some(folder) = MANIFESTS.get_dir(folder) else {
            continue;
        };
        for file in folder
            .files()
            .filter(|file| file.path().extension().is_some_and(|e| e == "yaml") && is_wanted(file.path()))
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
            "SKEP_FRONT": format!("{}:443", cell.front_address),
            "SKEP_HUB_SERVER": format!("https://{}:6443", cell.front_address),
            "SKEP_KUBERNETES_VERSIONS": artifacts.kubernetes,
        },
    }))
}

/// The pool of local cells: there is one cell, as no other fits beside it unless somebody says so.
///
/// All of its zones are one machine, of which tenants take far less than they ask for: as much is promised as Kubernetes itself
/// would take, with a zone lost too.
fn pool_object(site: &Site) -> Result<DynamicObject> {
    let networks: Vec<_> = networks(&super::home::instance())
        .context("cannot read which address ranges are taken")?
        .into_iter()
        .map(|(ranges, gateway)| {
            json!({
                "nodes": ranges.nodes,
                "pods": ranges.pods,
                "services": ranges.services,
                "gateway": gateway,
            })
        })
        .collect();
    object(json!({
        "apiVersion": "skep.dev/v1alpha1",
        "kind": "CellPool",
        "metadata": {"name": site.region},
        "spec": {
            "region": site.region,
            "headroom": "none",
            "leadMinutes": 10,
            "overcommitPercent": {"cpu": 1000, "memory": 400, "pods": 200, "volumes": 200, "datastore": 200},
            // Whether anything is ordered is for people to say: `mode` is left out.
            "order": {
                "provider": super::cells::PROVIDER,
                "domain": site.domain,
                "zones": site.zones,
                "nodesPerZone": 1,
                "networks": networks,
            },
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
        let objects = committed(Part::Hub).unwrap();
        assert!(objects.len() > 20, "{}", objects.len());
        assert!(objects.iter().all(|object| object.types.is_some()));
    }

    #[test]
    fn a_cell_has_nothing_of_the_hubs_and_the_hub_has_it_all() {
        let (hub, cell) = (committed(Part::Hub).unwrap(), committed(Part::Cell).unwrap());
        for file in HUB_ONLY {
            assert!(MANIFESTS.get_file(file).is_some(), "{file} is gone");
        }
        assert!(cell.len() < hub.len());
        for object in &cell {
            let subjects = object
                .data
                .get("subjects")
                .and_then(|subjects| subjects.as_array());
            let names = subjects
                .into_iter()
                .flatten()
                .map(|subject| subject["name"].as_str());
            assert!(
                names
                    .flatten()
                    .all(|name| name != "skep-hub" && name != "skep-admin"),
                "{} is the hub's",
                object.name_any()
            );
        }
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
        for mut object in committed(Part::Hub).unwrap() {
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
