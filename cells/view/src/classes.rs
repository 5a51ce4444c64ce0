//! What a tenant of a profile, class and spread asks for: the sum over its control plane's pods and volumes.

use std::collections::BTreeMap;

use skep_api::control_plane::ComponentResources;
use skep_api::{Availability, ClusterProfileSpec, ControlPlaneSpec, SizeClassSpec, TenantReference};
use skep_core::quantity::{MEBIBYTE, amount};
use skep_planner::document::{Fault, MOST_OF_A_TENANT, milli};
use skep_planner::model::{Class, Classes, SIGNALS, SizeClass};
use skep_planner::{Demand, Resource, Vector};

use crate::Objects;

/// What tenants ask for, by profile, class and spread.
pub(crate) struct Sizes {
    /// What each class starts with: the least of what it is in any profile.
    pub classes: Classes,
    demands: BTreeMap<(String, Class, bool), Demand>,
}

impl Sizes {
    pub fn new(objects: &Objects, faults: &mut Vec<Fault>) -> Self {
        let mut demands = BTreeMap::new();
        for (name, profile) in &objects.profiles {
            for class in Class::ALL {
                let class_name = class.to_string();
                let Some(size) = objects.classes.get(&class_name) else {
                    continue;
                };
                if !profile.classes.contains(&class_name) {
                    continue;
                }
                for availability in [Availability::ZoneRedundant, Availability::Single] {
                    let plane = resolved(name, profile, &class_name, size, availability);
                    match plane.and_then(|plane| demand(&plane)) {
                        Ok(demand) => {
                            let key = (name.clone(), class, availability == Availability::Single);
                            demands.insert(key, demand);
                        }
                        Err(message) => faults.push(Fault::new(format!("profiles.{name}"), message)),
                    }
                }
            }
        }
        let least = |class: Class, is_single: bool| {
            let all = demands
                .iter()
                .filter(|((_, of, single), _)| *of == class && *single == is_single);
            let least = |one: Demand, other: Demand| Demand {
                mean: Vector::from_fn(|r| one.mean[r].min(other.mean[r])),
                deviation: Vector::from_fn(|r| one.deviation[r].min(other.deviation[r])),
            };
            all.map(|(_, demand)| *demand).reduce(least).unwrap_or_default()
        };
        let classes = Classes(Class::ALL.map(|class| SizeClass {
            prior: least(class, false),
            single: least(class, true),
            limits: [None; SIGNALS],
        }));
        Self { classes, demands }
    }

    /// What a tenant asks for; what its class starts with where its profile is not known.
    pub fn demand(&self, profile: &str, class: Class, availability: Availability) -> Demand {
        let is_single = availability == Availability::Single;
        let known = self.demands.get(&(profile.to_owned(), class, is_single));
        let size = self.classes.get(class);
        let start = if is_single { size.single } else { size.prior };
        known.copied().unwrap_or(start)
    }
}

/// The control plane of some tenant; who it is for changes nothing of its size.
fn resolved(
    name: &str,
    profile: &ClusterProfileSpec,
    class: &str,
    size: &SizeClassSpec,
    availability: Availability,
) -> Result<ControlPlaneSpec, String> {
    let mut versions: Vec<_> = profile
        .versions
        .iter()
        .filter_map(|version| version.parse().ok())
        .collect();
    versions.sort_unstable();
    let version = versions.pop().ok_or("it offers no version")?;
    let part = |text: &str| text.to_owned();
    let tenant = skep_profiles::Tenant {
        reference: TenantReference {
            project: part("project"),
            name: part("name"),
            uid: part("uid"),
        },
        version,
        profile: name.to_owned(),
        class: class.to_owned(),
        availability,
        network: profile.network.clone(),
        region: "region".parse().map_err(|error| format!("{error}"))?,
        domain: "domain.internal".parse().map_err(|error| format!("{error}"))?,
    };
    skep_profiles::resolve(profile, size, &tenant).map_err(|error| skep_runtime::error::chain(&error))
}

/// What a control plane asks for.
fn demand(plane: &ControlPlaneSpec) -> Result<Demand, String> {
    let beside = plane
        .konnectivity
        .as_ref()
        .map(|konnectivity| &konnectivity.resources);
    let components = [&plane.api_server, &plane.controller_manager, &plane.scheduler];
    let asked = components.map(|component| (component.replicas, &component.resources));
    let containers = asked
        .into_iter()
        .chain([(plane.etcd.members, &plane.etcd.resources)])
        .chain(beside.map(|resources| (plane.api_server.replicas, resources)));
    let (mut cpu, mut memory) = (0.0, 0.0);
    for (
        count,
        ComponentResources {
            cpu: cores,
            memory: bytes,
            ..
        },
    ) in containers
    {
        cpu += f64::from(count) * read(cores)?;
        memory += f64::from(count) * read(bytes)?;
    }
    let members = f64::from(plane.etcd.members);
    let pods: i32 = components.iter().map(|component| component.replicas).sum();
    let mut mean = Vector::splat(0);
    for (resource, units) in [
        (Resource::Cpu, cpu),
        (Resource::Memory, memory / MEBIBYTE),
        (Resource::Pods, f64::from(pods) + members),
        (Resource::Volumes, members),
        (
            Resource::Datastore,
            members * read(&plane.etcd.volume_size)? / MEBIBYTE,
        ),
    ] {
        let thousandths =
            milli(units, MOST_OF_A_TENANT).map_err(|message| format!("{resource}: {message}"))?;
        mean[resource] = u32::try_from(thousandths).unwrap_or(u32::MAX);
    }
    // What is asked for is set aside, whether it is used or not.
    Ok(Demand {
        mean,
        deviation: Vector::splat(0),
    })
}

fn read(quantity: &str) -> Result<f64, String> {
    amount(quantity).ok_or_else(|| format!("{quantity:?} is no quantity from 0"))
}
