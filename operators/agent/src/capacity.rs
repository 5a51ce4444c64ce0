//! What the cell has and what is taken of it, zone by zone: pure, from its nodes, pods and volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, PersistentVolume, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use skep_api::cell::ZoneCapacity;
use skep_core::quantity::{MEBIBYTE, amount};
use skep_core::{Cpid, labels};

/// Standard: the name of a node that volumes go by.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// What one zone has or gives, in the units of the dimensions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Amounts {
    /// Cores.
    cpu: f64,
    /// Bytes.
    memory: f64,
    pods: f64,
    volumes: f64,
    /// Bytes.
    datastore: f64,
}

#[derive(Debug, Default)]
struct Zone {
    nodes: i32,
    ready: i32,
    /// Those that are ready and take pods.
    open: i32,
    allocatable: Amounts,
    system: Amounts,
    committed: Amounts,
}

/// Sums up the cell by zone, in the order of their names; a node of no zone counts for none.
///
/// A node that is not ready, is cordoned, or has a taint that keeps pods away, gives nothing; a zone of such nodes is lost.
/// A pod is a tenant's in the namespace of a control plane, and else the cell's own; one that is on no node yet, or has
/// ended, takes nothing.
pub fn measure<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    pods: impl Iterator<Item = &'a Pod>,
    volumes: impl Iterator<Item = &'a PersistentVolume>,
) -> Vec<ZoneCapacity> {
    let mut zones: BTreeMap<&str, Zone> = BTreeMap::new();
    let mut homes: BTreeMap<String, &str> = BTreeMap::new();
    for node in nodes {
        let Some(name) = node.labels().get(labels::TOPOLOGY_ZONE) else {
            continue;
        };
        homes.insert(node.name_any(), name);
        if let Some(host) = node.labels().get(HOSTNAME) {
            homes.insert(host.clone(), name);
        }
        let zone = zones.entry(name).or_default();
        zone.nodes += 1;
        zone.ready += i32::from(is_ready(node));
        if is_ready(node) && takes_pods(node) {
            zone.open += 1;
            zone.allocatable.add(&of_node(node));
        }
    }
    for pod in pods {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let Some(zone) = node
            .and_then(|node| homes.get(node))
            .and_then(|zone| zones.get_mut(zone))
        else {
            continue;
        };
        if has_ended(pod) {
            continue;
        }
        let is_tenants = pod.namespace().is_some_and(|namespace| is_tenants(&namespace));
        let taken = if is_tenants {
            &mut zone.committed
        } else {
            &mut zone.system
        };
        taken.add(&of_pod(pod));
    }
    for volume in volumes {
        let Some(zone) = zone_of(volume, &homes).and_then(|zone| zones.get_mut(zone)) else {
            continue;
        };
        let amounts = of_volume(volume);
        zone.allocatable.add(&amounts);
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if let Some(namespace) = claim.and_then(|claim| claim.namespace.as_deref()) {
            let taken = if is_tenants(namespace) {
                &mut zone.committed
            } else {
                &mut zone.system
            };
            taken.add(&amounts);
        }
    }
    zones.into_iter().map(|(name, zone)| zone.told(name)).collect()
}

impl Zone {
    fn told(&self, name: &str) -> ZoneCapacity {
        ZoneCapacity {
            name: name.to_owned(),
            ready_nodes: self.ready,
            lost: self.nodes > 0 && self.open == 0,
            allocatable: self.allocatable.told(),
            system: self.system.told(),
            committed: self.committed.told(),
        }
    }
}

impl Amounts {
    fn add(&mut self, other: &Self) {
        self.cpu += other.cpu;
        self.memory += other.memory;
        self.pods += other.pods;
        self.volumes += other.volumes;
        self.datastore += other.datastore;
    }

    /// As quantities, in units that whole numbers suffice for.
    fn told(&self) -> BTreeMap<String, String> {
        let mebibytes = |bytes: f64| format!("{:.0}Mi", bytes / MEBIBYTE);
        [
            ("cpu", format!("{:.0}m", self.cpu * 1000.0)),
            ("memory", mebibytes(self.memory)),
            ("pods", format!("{:.0}", self.pods)),
            ("volumes", format!("{:.0}", self.volumes)),
            ("datastore", mebibytes(self.datastore)),
        ]
        .into_iter()
        .map(|(name, quantity)| (name.to_owned(), quantity))
        .collect()
    }
}

/// Whether a namespace is a control plane's.
fn is_tenants(namespace: &str) -> bool {
    let cpid = namespace.strip_prefix("cp-").map(str::parse::<Cpid>);
    matches!(cpid, Some(Ok(cpid)) if cpid.namespace() == namespace)
}

fn of_node(node: &Node) -> Amounts {
    let allocatable = node
        .status
        .as_ref()
        .and_then(|status| status.allocatable.as_ref());
    let read = |name: &str| read(allocatable, name);
    Amounts {
        cpu: read("cpu"),
        memory: read("memory"),
        pods: read("pods"),
        ..Amounts::default()
    }
}

/// What a pod asks for as the scheduler counts it: its containers and its sidecars together, or the greatest of what its
/// init containers ask for beside the sidecars before them, and its overhead.
///
/// The rule is that of `k8s.io/component-helpers/resource`.
fn of_pod(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else {
        return Amounts::default();
    };
    let mut running = Amounts::default();
    for container in &spec.containers {
        running.add(&of_container(container));
    }
    let (mut sidecars, mut starting) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let asked = of_container(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&asked);
            running.add(&asked);
            continue;
        }
        starting.cpu = starting.cpu.max(sidecars.cpu + asked.cpu);
        starting.memory = starting.memory.max(sidecars.memory + asked.memory);
    }
    let overhead = spec.overhead.as_ref();
    Amounts {
        cpu: running.cpu.max(starting.cpu) + read(overhead, "cpu"),
        memory: running.memory.max(starting.memory) + read(overhead, "memory"),
        pods: 1.0,
        ..Amounts::default()
    }
}

fn of_container(container: &Container) -> Amounts {
    let requests = container
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    Amounts {
        cpu: read(requests, "cpu"),
        memory: read(requests, "memory"),
        ..Amounts::default()
    }
}

fn of_volume(volume: &PersistentVolume) -> Amounts {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    Amounts {
        volumes: 1.0,
        datastore: read(capacity, "storage"),
        ..Amounts::default()
    }
}

/// The zone that a volume is bound to, by its zone or its node.
fn zone_of<'a>(volume: &'a PersistentVolume, homes: &BTreeMap<String, &'a str>) -> Option<&'a str> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let terms = required.node_selector_terms.iter();
    let wants = terms.flat_map(|term| term.match_expressions.iter().flatten());
    let mut zones = wants.filter_map(|want| {
        let value = want.values.as_ref()?.first()?;
        match want.key.as_str() {
            labels::TOPOLOGY_ZONE => Some(value.as_str()),
            HOSTNAME => homes.get(value).copied(),
            _ => None,
        }
    });
    zones.next()
}

fn read(quantities: Option<&BTreeMap<String, Quantity>>, name: &str) -> f64 {
    let quantity = quantities.and_then(|quantities| quantities.get(name));
    quantity.and_then(|quantity| amount(&quantity.0)).unwrap_or(0.0)
}

/// Whether a node says that it is ready.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|told| told.type_ == "Ready");
    ready.any(|told| told.status == "True")
}

/// Whether the Kubernetes scheduler puts pods of any kind on a node.
fn takes_pods(node: &Node) -> bool {
    let Some(spec) = &node.spec else { return true };
    let effects = spec.taints.iter().flatten().map(|taint| taint.effect.as_str());
    let is_open = |effect: &str| !matches!(effect, "NoSchedule" | "NoExecute");
    spec.unschedulable != Some(true) && effects.into_iter().all(is_open)
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Of a node: its zone, what it gives, whether it takes pods and is ready.
pub fn shrink_node(node: &mut Node) {
    node.metadata.annotations = None;
    let spec = node.spec.take().unwrap_or_default();
    let kept = node.spec.get_or_insert_default();
    (kept.unschedulable, kept.taints) = (spec.unschedulable, spec.taints);
    let status = node.status.take().unwrap_or_default();
    let kept = node.status.get_or_insert_default();
    (kept.conditions, kept.allocatable) = (status.conditions, status.allocatable);
}

/// Of a pod: where it is, what it asks for, and whether it has ended.
pub fn shrink_pod(pod: &mut Pod) {
    (
        pod.metadata.annotations,
        pod.metadata.labels,
        pod.metadata.owner_references,
    ) = (None, None, None);
    let phase = pod.status.take().and_then(|status| status.phase);
    pod.status.get_or_insert_default().phase = phase;
    let Some(spec) = pod.spec.take() else { return };
    let shrink = |containers: Vec<Container>| {
        let shrink = |container: Container| Container {
            resources: container.resources,
            restart_policy: container.restart_policy,
            ..Container::default()
        };
        containers.into_iter().map(shrink).collect()
    };
    let kept = pod.spec.get_or_insert_default();
    kept.node_name = spec.node_name;
    kept.overhead = spec.overhead;
    kept.containers = shrink(spec.containers);
    kept.init_containers = spec.init_containers.map(shrink);
}

/// Of a volume: how large it is, where, and whose.
pub fn shrink_volume(volume: &mut PersistentVolume) {
    volume.metadata.annotations = None;
    volume.status = None;
}

#[cfg(test)]
mod tests;
