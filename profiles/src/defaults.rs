//! The classes and profiles that come with the platform, filled in with what the distribution offers.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use serde_json::{Value, json};
use skep_api::{ClusterProfile, SizeClass};
use skep_core::KubernetesVersion;
use skep_core::version::VersionError;

const CLASSES: [(&str, &str); 3] = [
    ("small", include_str!("../classes/small.yaml")),
    ("medium", include_str!("../classes/medium.yaml")),
    ("large", include_str!("../classes/large.yaml")),
];
const STANDARD: &str = include_str!("../standard/profile.yaml");
const STANDARD_TEMPLATE: &str = include_str!("../standard/control-plane.yaml.hbs");

/// Six WAL segments of etcd: what a volume holds besides two copies of the database.
const WAL_BYTES: i64 = 6 * 64 * MEBIBYTE;
const MEBIBYTE: i64 = 1 << 20;
/// What every class asks for where volumes are the local provider's: 2 GiB less what ext4 takes, with room.
const LOCAL_VOLUME_MEBIBYTES: u32 = 1536;

/// What the platform has to offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer<'a> {
    /// Where images come from, such as `localhost`.
    pub image_repository: &'a str,
    /// The Kubernetes versions; the newest becomes the default.
    pub kubernetes_versions: &'a [KubernetesVersion],
    /// The etcd version.
    pub etcd_version: &'a str,
    /// The images of what runs inside a tenant, by part; `kube-proxy` comes with each Kubernetes version.
    pub images: &'a BTreeMap<String, String>,
    /// The resolver that tenants' DNS asks for names outside of the cluster; none when empty.
    pub upstream_dns: &'a str,
    /// The largest volume that can be had, in mebibytes; classes that want more get this much. For local
    /// volumes, which are all of one size and cannot grow.
    pub largest_volume: Option<u32>,
}

/// The objects to apply, classes first.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// Smallest first.
    pub classes: Vec<SizeClass>,
    /// By name.
    pub profiles: Vec<ClusterProfile>,
}

/// Defaults that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DefaultsError {
    /// There is no version to offer.
    #[error("no Kubernetes version is offered")]
    NoVersion,
    /// A version on offer is none.
    #[error("a version on offer is not valid")]
    Version(#[source] VersionError),
    /// The largest volume cannot hold the smallest database.
    #[error("a volume of {0} MiB is too small for a datastore")]
    VolumeTooSmall(u32),
    /// A file of this crate is wrong; a test keeps this from happening.
    #[error("{file} is not valid")]
    File {
        /// The class or profile.
        file: &'static str,
        /// Where and why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The objects that `skep up` applies: classes first, sized for the local provider's volumes.
///
/// The newest of `versions` becomes the default.
pub fn defaults(
    image_repository: &str,
    versions: &[String],
    etcd_version: &str,
    images: &BTreeMap<String, String>,
) -> Result<Vec<DynamicObject>, DefaultsError> {
    let parsed = versions.iter().map(|text| text.parse::<KubernetesVersion>());
    let kubernetes_versions = parsed
        .collect::<Result<Vec<_>, _>>()
        .map_err(DefaultsError::Version)?;
    let largest_volume = Some(LOCAL_VOLUME_MEBIBYTES);
    let kubernetes_versions = kubernetes_versions.as_slice();
    offered(&Offer {
        image_repository,
        kubernetes_versions,
        etcd_version,
        images,
        // Nodes of local tenants have no way to names outside.
        upstream_dns: "",
        largest_volume,
    })?
    .objects()
}

/// The classes and profiles of the platform for what is on offer.
pub fn offered(offer: &Offer<'_>) -> Result<Defaults, DefaultsError> {
    let classes = CLASSES
        .iter()
        .map(|(name, text)| class(name, text, offer.largest_volume));
    Ok(Defaults {
        classes: classes.collect::<Result<_, _>>()?,
        profiles: vec![standard(offer)?],
    })
}

impl Defaults {
    /// The objects as the API takes them, classes first.
    pub fn objects(&self) -> Result<Vec<DynamicObject>, DefaultsError> {
        let classes = self.classes.iter().map(serde_json::to_value);
        let profiles = self.profiles.iter().map(serde_json::to_value);
        classes
            .chain(profiles)
            .map(|value| {
                value
                    .and_then(serde_json::from_value)
                    .map_err(|e| invalid("defaults", e))
            })
            .collect()
    }
}

fn class(name: &'static str, text: &str, largest_volume: Option<u32>) -> Result<SizeClass, DefaultsError> {
    let mut class: SizeClass = serde_saphyr::from_str(text).map_err(|e| invalid(name, e))?;
    if let Some(largest) = largest_volume
        && mebibytes(&class.spec.etcd_volume_size).is_none_or(|wanted| wanted > i64::from(largest))
    {
        let quota = (i64::from(largest) * MEBIBYTE - WAL_BYTES) / 2;
        if quota < 64 * MEBIBYTE {
            return Err(DefaultsError::VolumeTooSmall(largest));
        }
        class.spec.etcd_volume_size = format!("{largest}Mi");
        class.spec.etcd_quota_bytes = quota.min(class.spec.etcd_quota_bytes);
    }
    Ok(class)
}

/// Reads the two units that the class files use.
fn mebibytes(size: &str) -> Option<i64> {
    if let Some(number) = size.strip_suffix("Mi") {
        return number.parse().ok();
    }
    size.strip_suffix("Gi")?
        .parse::<i64>()
        .ok()
        .map(|number| number * 1024)
}

fn standard(offer: &Offer<'_>) -> Result<ClusterProfile, DefaultsError> {
    let mut versions = offer.kubernetes_versions.to_vec();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.dedup();
    if versions.is_empty() {
        return Err(DefaultsError::NoVersion);
    }
    let mut value: Value = serde_saphyr::from_str(STANDARD).map_err(|e| invalid("standard", e))?;
    value["spec"]["versions"] = versions.iter().map(ToString::to_string).collect();
    value["spec"]["imageRepository"] = json!(offer.image_repository);
    value["spec"]["etcdVersion"] = json!(offer.etcd_version);
    value["spec"]["images"] = json!(offer.images);
    value["spec"]["parameters"]["upstreamDns"] = json!(offer.upstream_dns);
    value["spec"]["template"] = json!(STANDARD_TEMPLATE);
    serde_json::from_value(value).map_err(|e| invalid("standard", e))
}

fn invalid(file: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> DefaultsError {
    DefaultsError::File {
        file,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(largest_volume: Option<u32>) -> Offer<'static> {
        const VERSIONS: [KubernetesVersion; 2] = [
            KubernetesVersion {
                major: 1,
                minor: 35,
                patch: 4,
            },
            KubernetesVersion {
                major: 1,
                minor: 36,
                patch: 3,
            },
        ];
        const NO_IMAGES: &BTreeMap<String, String> = &BTreeMap::new();
        Offer {
            image_repository: "localhost",
            kubernetes_versions: &VERSIONS,
            etcd_version: "3.7.3",
            images: NO_IMAGES,
            upstream_dns: "",
            largest_volume,
        }
    }

    #[test]
    fn the_newest_version_comes_first() {
        let made = offered(&offer(None)).unwrap();
        assert_eq!(made.profiles[0].spec.versions, ["1.36.3", "1.35.4"]);
        assert_eq!(
            defaults("localhost", &["1.36.3".to_owned()], "3.7.3", &BTreeMap::new())
                .unwrap()
                .len(),
            4
        );
        assert!(defaults("localhost", &["newest".to_owned()], "3.7.3", &BTreeMap::new()).is_err());
        let none = Offer {
            kubernetes_versions: &[],
            ..offer(None)
        };
        assert!(matches!(offered(&none), Err(DefaultsError::NoVersion)));
    }

    #[test]
    fn every_class_holds_two_databases_and_the_log() {
        for largest in [None, Some(1536)] {
            for class in offered(&offer(largest)).unwrap().classes {
                let volume = mebibytes(&class.spec.etcd_volume_size).unwrap() * MEBIBYTE;
                assert!(
                    class.spec.etcd_quota_bytes * 2 + WAL_BYTES <= volume,
                    "{:?}",
                    class.metadata.name
                );
                assert!(largest.is_none_or(|largest| volume <= i64::from(largest) * MEBIBYTE));
            }
        }
        assert!(matches!(
            offered(&offer(Some(400))),
            Err(DefaultsError::VolumeTooSmall(400))
        ));
    }

    #[test]
    fn soft_limits_are_three_quarters_of_the_hard_ones() {
        for class in offered(&offer(None)).unwrap().classes {
            let spec = class.spec;
            for part in [
                spec.api_server,
                spec.controller_manager,
                spec.scheduler,
                spec.etcd,
            ] {
                let hard = mebibytes(&part.memory_limit).unwrap();
                let soft = mebibytes(part.go_memory_limit.unwrap().strip_suffix('B').unwrap()).unwrap();
                assert_eq!(soft * 4, hard * 3);
            }
        }
    }
}
