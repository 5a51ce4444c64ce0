//! From the raw spec to [`Cluster`]: after this nobody reads the spec.
//!
//! Admission refuses most of this already; an older definition, or none at all, must not break a datastore.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};
use skep_api::control_plane::ComponentResources;
use skep_api::etcd_cluster::{EtcdCluster, EtcdClusterSpec, RestorePhase, RestoreSource, VolumePolicy};
use skep_core::labels;
use skep_snapshots::{Owner, SnapshotId};

use crate::quantity::{Bytes, Cpu};
use crate::snapshots::Policy;
use crate::version::{EtcdVersion, Release};

/// The longest name: with `-peer`, a suffix and a namespace it must stay a host name.
const LONGEST_NAME: usize = 30;
/// The room beside the database: five log files of 64 MB.
const LOG_BYTES: u64 = 256 << 20;
/// A datastore whose spec can be acted upon.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Its name, a DNS label.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its unique id.
    pub uid: String,
    /// What its children name as their owner.
    pub owner: OwnerReference,
    /// The platform's labels that it carries.
    pub labels: BTreeMap<String, String>,
    /// With what members are made.
    pub release: Release,
    /// How many members there shall be.
    pub members: usize,
    /// The size of each member's volume.
    pub volume_size: Bytes,
    /// The class of each member's volume.
    pub storage_class: String,
    /// The most bytes that the database may hold.
    pub quota_bytes: u64,
    /// What each member asks for and may take.
    pub resources: Resources,
    /// The priority class of the pods.
    pub priority_class: Option<String>,
    /// The clients that get a certificate.
    pub clients: BTreeSet<String>,
    /// What becomes of volumes that are no longer used.
    pub volume_policy: VolumePolicy,
    /// How often the authorities were to be replaced by now.
    pub authority_rotation: i64,
    /// Which authorities all clients trust by now.
    pub client_trust: Option<String>,
    /// Which authorities members are made with; none until one was replaced.
    pub trust: Option<String>,
    /// Nodes that no member may be on.
    pub avoided_nodes: BTreeSet<String>,
    /// When snapshots are taken, and where they are kept.
    pub snapshots: Option<Policy>,
    /// The snapshot that the data shall come from.
    pub restore: Option<RestoreSource>,
    /// The snapshot that the first member is made from now.
    pub forming_from: Option<RestoreSource>,
    /// The image that makes a member's data from a snapshot: the operators' own, where it is known.
    pub operator_image: Option<String>,
}

/// CPU and memory of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// The CPU that is set aside.
    pub cpu: Cpu,
    /// The memory that is set aside.
    pub memory: Bytes,
    /// The most memory that it may take.
    pub memory_limit: Bytes,
    /// The soft limit of Go's heap, in Go's own notation.
    pub go_memory_limit: String,
}

/// A spec that cannot be acted upon, and the field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.{field}: {why}")]
pub struct InvalidSpec {
    /// The field below `spec`.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl InvalidSpec {
    pub(crate) fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self {
            field,
            why: why.into(),
        }
    }
}

impl Cluster {
    /// The same with what members are made with today, as recorded, where that differs from what the spec asks for.
    #[must_use]
    pub fn as_it_runs(&self, object: &EtcdCluster) -> Self {
        let recorded = object.status.as_ref().and_then(|status| status.release.as_ref());
        let release = recorded.and_then(Release::recorded);
        let restoring = object
            .status
            .as_ref()
            .and_then(|status| status.restoring.as_ref());
        let forming = restoring.filter(|restoring| restoring.phase == RestorePhase::Forming);
        Self {
            release: release.unwrap_or_else(|| self.release.clone()),
            forming_from: forming.map(|forming| forming.source.clone()),
            ..self.clone()
        }
    }

    /// Its namespace and name, for people.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The token that keeps two clusters of the same name apart.
    pub fn token(&self) -> String {
        let text = format!("{}/{}/{}", self.namespace, self.name, self.uid);
        hex::encode(&Sha256::digest(text.as_bytes())[..16])
    }
}

/// Parses and checks the whole spec.
pub fn validate(object: &EtcdCluster) -> Result<Cluster, InvalidSpec> {
    let EtcdClusterSpec {
        version,
        image,
        members,
        volume_size,
        storage_class,
        quota_bytes,
        resources,
        priority_class,
        clients,
        volume_policy,
        authority_rotation,
        client_trust,
        avoid_nodes,
        snapshots,
        restore,
    } = &object.spec;
    let volume_size = Bytes::parse(volume_size)
        .ok_or_else(|| InvalidSpec::new("volumeSize", format!("{volume_size:?} is no size such as 2Gi")))?;
    Ok(Cluster {
        name: check_name(object)?,
        namespace: object.namespace().unwrap_or_default(),
        uid: object.uid().unwrap_or_default(),
        owner: object.controller_owner_ref(&()).unwrap_or_default(),
        labels: platform_labels(object),
        release: Release {
            version: EtcdVersion::parse(version)?,
            image: check_image(image)?,
        },
        members: check_members(*members)?,
        quota_bytes: check_quota(*quota_bytes, &volume_size)?,
        volume_size,
        storage_class: check_label("storageClass", storage_class)?,
        resources: check_resources(resources)?,
        priority_class: priority_class
            .as_deref()
            .map(|name| check_label("priorityClass", name))
            .transpose()?,
        clients: check_clients(clients)?,
        volume_policy: *volume_policy,
        authority_rotation: *authority_rotation,
        client_trust: client_trust.clone(),
        trust: None,
        avoided_nodes: avoid_nodes.iter().cloned().collect(),
        snapshots: snapshots.as_ref().map(Policy::parse).transpose()?,
        restore: check_restore(restore.as_ref(), snapshots.is_some())?,
        forming_from: None,
        operator_image: None,
    })
}

fn check_restore(
    restore: Option<&RestoreSource>,
    has_store: bool,
) -> Result<Option<RestoreSource>, InvalidSpec> {
    let Some(source) = restore else {
        return Ok(None);
    };
    match (&source.owner, &source.snapshot, &source.member) {
        (Some(_), Some(_), None) if !has_store => {
            return Err(InvalidSpec::new(
                "restore",
                "it needs the store of spec.snapshots",
            ));
        }
        (Some(owner), Some(snapshot), None) => {
            Owner::new(owner).map_err(|error| InvalidSpec::new("restore.owner", error.to_string()))?;
            snapshot
                .parse::<SnapshotId>()
                .map_err(|error| InvalidSpec::new("restore.snapshot", error.to_string()))?;
        }
        (None, None, Some(member)) => drop(check_label("restore.member", member)?),
        _ => {
            let why = "it must have either owner and snapshot, or member";
            return Err(InvalidSpec::new("restore", why));
        }
    }
    Ok(Some(source.clone()))
}

fn check_name(object: &EtcdCluster) -> Result<String, InvalidSpec> {
    let name = object.name_any();
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    if name.len() > LONGEST_NAME || !is_label(&name) || !starts_well {
        let why = format!(
            "{name:?} is no DNS label of at most {LONGEST_NAME} characters that starts with a letter"
        );
        return Err(InvalidSpec::new("metadata.name", why));
    }
    Ok(name)
}

fn platform_labels(object: &EtcdCluster) -> BTreeMap<String, String> {
    const COPIED: [&str; 6] = [
        labels::CELL,
        labels::PROJECT,
        labels::CLUSTER,
        labels::CPID,
        labels::CLASS,
        labels::PROFILE,
    ];
    let own = object.labels();
    COPIED
        .iter()
        .filter_map(|key| own.get(*key).map(|value| ((*key).to_owned(), value.clone())))
        .collect()
}

pub(crate) fn check_image(image: &str) -> Result<String, InvalidSpec> {
    let is_reference = !image.is_empty() && image.len() <= 300 && image.bytes().all(|b| b.is_ascii_graphic());
    if is_reference {
        Ok(image.to_owned())
    } else {
        Err(InvalidSpec::new(
            "image",
            format!("{image:?} is no image reference"),
        ))
    }
}

fn check_members(members: i32) -> Result<usize, InvalidSpec> {
    match members {
        1 => Ok(1),
        3 => Ok(3),
        5 => Ok(5),
        other => Err(InvalidSpec::new("members", format!("{other} is not 1, 3 or 5"))),
    }
}

/// The database may be copied once beside itself (defragmentation), and the log needs its room.
fn check_quota(quota: i64, volume: &Bytes) -> Result<u64, InvalidSpec> {
    const SMALLEST: u64 = 64 << 20;
    const LARGEST: u64 = 8 << 30;
    let bytes = u64::try_from(quota).unwrap_or(0);
    if !(SMALLEST..=LARGEST).contains(&bytes) {
        return Err(InvalidSpec::new(
            "quotaBytes",
            format!("{quota} is not between 64 MiB and 8 GiB"),
        ));
    }
    let needed = 2 * bytes + LOG_BYTES;
    if volume.get() < needed {
        let why =
            format!("a volume of {volume} is too small for it; twice the quota and 256 MiB are {needed}");
        return Err(InvalidSpec::new("quotaBytes", why));
    }
    Ok(bytes)
}

fn check_resources(resources: &ComponentResources) -> Result<Resources, InvalidSpec> {
    let ComponentResources {
        cpu,
        memory,
        memory_limit,
        go_memory_limit,
    } = resources;
    let cpu = Cpu::parse(cpu)
        .ok_or_else(|| InvalidSpec::new("resources.cpu", format!("{cpu:?} is no amount such as 50m")))?;
    let memory = Bytes::parse(memory).ok_or_else(|| {
        InvalidSpec::new("resources.memory", format!("{memory:?} is no size such as 128Mi"))
    })?;
    let limit = Bytes::parse(memory_limit).ok_or_else(|| {
        InvalidSpec::new(
            "resources.memoryLimit",
            format!("{memory_limit:?} is no size such as 512Mi"),
        )
    })?;
    if limit.get() < memory.get() {
        return Err(InvalidSpec::new(
            "resources.memoryLimit",
            format!("{limit} is less than memory, {memory}"),
        ));
    }
    let go_memory_limit = match go_memory_limit {
        Some(text) => check_go_limit(text)?,
        // The rest is for the pages of the mapped database.
        None => format!("{}B", limit.get() / 5 * 4),
    };
    Ok(Resources {
        cpu,
        memory,
        memory_limit: limit,
        go_memory_limit,
    })
}

fn check_go_limit(text: &str) -> Result<String, InvalidSpec> {
    let number = ["KiB", "MiB", "GiB", "TiB", "B"]
        .iter()
        .find_map(|unit| text.strip_suffix(unit));
    if number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(text.to_owned());
    }
    Err(InvalidSpec::new(
        "resources.goMemoryLimit",
        format!("{text:?} is no limit such as 384MiB"),
    ))
}

fn check_clients(clients: &[String]) -> Result<BTreeSet<String>, InvalidSpec> {
    clients
        .iter()
        .map(|name| {
            let name = check_label("clients", name)?;
            if name.len() > LONGEST_NAME {
                return Err(InvalidSpec::new(
                    "clients",
                    format!("{name:?} is longer than {LONGEST_NAME}"),
                ));
            }
            Ok(name)
        })
        .collect()
}

fn check_label(field: &'static str, text: &str) -> Result<String, InvalidSpec> {
    if is_label(text) {
        Ok(text.to_owned())
    } else {
        Err(InvalidSpec::new(field, format!("{text:?} is no DNS label")))
    }
}

fn is_label(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests;
