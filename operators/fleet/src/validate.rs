//! What a tenant asked for, checked against what the platform offers; all mistakes at once, by field.
//!
//! Pure, and shared: the provisioning API refuses with it what the scheduler could not act upon.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use skep_api::tenant_cluster::{ClassChoice, Network};
use skep_api::{
    Availability, Cell, ClusterProfileSpec, SizeClassSpec, TenantClusterSpec, TenantClusterStatus,
};
use skep_core::{CellName, KubernetesVersion, Region, TenantNetwork};

/// What the platform offers.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Profiles by name.
    pub profiles: BTreeMap<String, ClusterProfileSpec>,
    /// Size classes by name.
    pub classes: BTreeMap<String, SizeClassSpec>,
    /// Every cell.
    pub cells: Vec<Cell>,
    /// The one way in for tenants of all cells, `host:port`; each cell's own gateway where there is none.
    pub front: Option<String>,
}

/// What was decided of a tenant before, and stays unless its spec says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The cell that holds the tenant.
    pub cell: CellName,
    /// The version that was resolved.
    pub version: KubernetesVersion,
    /// The class that was resolved.
    pub class: String,
}

impl Standing {
    /// Reads what was decided from a status; nothing while the tenant has no cell.
    pub fn of(status: &TenantClusterStatus) -> Option<Self> {
        Some(Self {
            cell: status.cell.as_ref()?.parse().ok()?,
            version: status.version.as_ref()?.parse().ok()?,
            class: status.class.clone()?,
        })
    }
}

/// A tenant's spec with every choice made, save the cell of a new tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The Kubernetes version.
    pub version: KubernetesVersion,
    /// The profile's name.
    pub profile: String,
    /// The class's name.
    pub class: String,
    /// The region.
    pub region: Region,
    /// The spread over zones.
    pub availability: Availability,
    /// The address ranges.
    pub network: Network,
}

/// A field that cannot be acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The path below `spec`, such as `network.pods`.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

fn refuse(field: &'static str, message: impl Into<String>) -> FieldError {
    FieldError {
        field,
        message: message.into(),
    }
}

/// Checks a spec and makes every choice that it leaves open.
///
/// `standing` is what was decided before: a running tenant keeps its version and class while its spec leaves
/// them open, and keeps a version that is no longer offered.
pub fn validate(
    spec: &TenantClusterSpec,
    catalog: &Catalog,
    standing: Option<&Standing>,
) -> Result<Resolved, Vec<FieldError>> {
    let TenantClusterSpec {
        version,
        profile,
        class,
        region,
        availability,
        network,
        deletion_protection: _,
    } = spec;
    let mut errors = Vec::new();
    let mut note = |error| errors.push(error);
    let region = choose_region(region.as_deref(), catalog, standing)
        .map_err(&mut note)
        .ok();
    let Some(offer) = catalog.profiles.get(profile) else {
        note(refuse(
            "profile",
            unknown("profile", profile, catalog.profiles.keys()),
        ));
        errors.extend(refused_by_every_profile(version.as_deref(), catalog, standing));
        return Err(errors);
    };
    let version = choose_version(version.as_deref(), offer, standing)
        .map_err(&mut note)
        .ok();
    let class = choose_class(*class, offer, catalog, standing)
        .map_err(&mut note)
        .ok();
    let network = network.clone().unwrap_or_else(|| offer.network.clone());
    let taken = taken_ranges(catalog, region.as_ref(), standing);
    let taken: Vec<(IpNet, &str)> = taken
        .iter()
        .map(|(range, owner)| (*range, owner.as_str()))
        .collect();
    if let Err(error) = TenantNetwork::parse(&network.pods, &network.services, &taken) {
        note(refuse(error.field(), error.to_string()));
    }
    match (version, class, region) {
        (Some(version), Some(class), Some(region)) if errors.is_empty() => Ok(Resolved {
            version,
            profile: profile.clone(),
            class,
            region,
            availability: *availability,
            network,
        }),
        _ => Err(errors),
    }
}

/// What is wrong with a version whichever profile was meant.
fn refused_by_every_profile(
    asked: Option<&str>,
    catalog: &Catalog,
    standing: Option<&Standing>,
) -> Option<FieldError> {
    let offers = catalog.profiles.values();
    let refusals: Option<Vec<FieldError>> = offers
        .map(|offer| choose_version(asked, offer, standing).err())
        .collect();
    refusals?.into_iter().next()
}

fn choose_region(
    asked: Option<&str>,
    catalog: &Catalog,
    standing: Option<&Standing>,
) -> Result<Region, FieldError> {
    let known: BTreeSet<&String> = catalog.cells.iter().map(|cell| &cell.spec.region).collect();
    let of_cell = |standing: &Standing| {
        let is_same = |cell: &&Cell| cell.metadata.name.as_deref() == Some(standing.cell.as_str());
        catalog.cells.iter().find(is_same).map(|cell| &cell.spec.region)
    };
    let stands = standing.and_then(of_cell);
    let chosen = match (asked, stands) {
        (Some(asked), Some(stands)) if asked != stands => {
            return Err(refuse(
                "region",
                format!("the cluster is in {stands} and cannot go to another region"),
            ));
        }
        (_, Some(stands)) => stands,
        (Some(asked), None) => known
            .iter()
            .find(|region| region.as_str() == asked)
            .ok_or_else(|| refuse("region", unknown("region", asked, known.iter().copied())))?,
        (None, None) => match (known.first(), known.len()) {
            (Some(only), 1) => only,
            (Some(_), _) => {
                return Err(refuse(
                    "region",
                    format!("must be one of {}", list(known.iter().copied())),
                ));
            }
            (None, _) => return Err(refuse("region", "the platform has no cell in any region yet")),
        },
    };
    chosen
        .parse()
        .map_err(|error| refuse("region", format!("{error}")))
}

fn choose_version(
    asked: Option<&str>,
    offer: &ClusterProfileSpec,
    standing: Option<&Standing>,
) -> Result<KubernetesVersion, FieldError> {
    let mut offered: Vec<KubernetesVersion> = offer.versions.iter().filter_map(|v| v.parse().ok()).collect();
    offered.sort_unstable_by(|a, b| b.cmp(a));
    let Some(newest) = offered.first().copied() else {
        return Err(refuse("profile", "the profile offers no version"));
    };
    let Some(asked) = asked else {
        return Ok(standing.map_or(newest, |standing| standing.version));
    };
    let asked: KubernetesVersion = asked
        .parse()
        .map_err(|error| refuse("version", format!("{error}")))?;
    if standing.is_some_and(|standing| standing.version == asked) {
        return Ok(asked);
    }
    if asked > newest {
        return Err(refuse(
            "version",
            format!("{asked} is newer than the newest on offer, {newest}"),
        ));
    }
    if !offered.contains(&asked) {
        let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
        return Err(refuse(
            "version",
            format!("{asked} is not on offer; there is {}", list(offered.iter())),
        ));
    }
    match standing {
        Some(standing) if asked < standing.version => Err(refuse(
            "version",
            format!(
                "the cluster runs {} and cannot go back to {asked}",
                standing.version
            ),
        )),
        Some(standing) if !standing.version.may_upgrade_to(asked) => {
            let message = format!(
                "from {} the next step is one minor version, not {asked}",
                standing.version
            );
            Err(refuse("version", message))
        }
        _ => Ok(asked),
    }
}

fn choose_class(
    asked: ClassChoice,
    offer: &ClusterProfileSpec,
    catalog: &Catalog,
    standing: Option<&Standing>,
) -> Result<String, FieldError> {
    let asked = match asked {
        ClassChoice::Auto => match (standing, offer.classes.first()) {
            (Some(standing), _) if catalog.classes.contains_key(&standing.class) => {
                return Ok(standing.class.clone());
            }
            (_, Some(first)) => first.as_str(),
            (_, None) => return Err(refuse("profile", "the profile offers no class")),
        },
        ClassChoice::Small => "small",
        ClassChoice::Medium => "medium",
        ClassChoice::Large => "large",
    };
    if !offer.classes.iter().any(|class| class == asked) {
        return Err(refuse(
            "class",
            unknown("class of this profile", asked, offer.classes.iter()),
        ));
    }
    if !catalog.classes.contains_key(asked) {
        return Err(refuse("class", unknown("class", asked, catalog.classes.keys())));
    }
    Ok(asked.to_owned())
}

/// The ranges that the tenant may not use: those of its cell, or of every cell that it might get.
fn taken_ranges(
    catalog: &Catalog,
    region: Option<&Region>,
    standing: Option<&Standing>,
) -> Vec<(IpNet, String)> {
    let is_candidate = |cell: &&Cell| match standing {
        Some(standing) => cell.metadata.name.as_deref() == Some(standing.cell.as_str()),
        None => region.is_none_or(|region| cell.spec.region == region.as_str()),
    };
    let mut taken = Vec::new();
    for cell in catalog.cells.iter().filter(is_candidate) {
        let name = cell.metadata.name.as_deref().unwrap_or_default();
        let network = &cell.spec.network;
        let ranges = [
            ("nodes", &network.nodes),
            ("pods", &network.pods),
            ("services", &network.services),
        ];
        for (what, range) in ranges {
            // A range that does not parse is the `cells` controller's to report.
            taken.extend(
                range
                    .parse()
                    .ok()
                    .map(|range| (range, format!("the {what} of cell {name}"))),
            );
        }
    }
    taken
}

fn unknown<'a>(what: &str, given: &str, known: impl Iterator<Item = &'a String>) -> String {
    let given: String = given.chars().take(60).collect();
    format!("there is no {what} {given:?}; there is {}", list(known))
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
