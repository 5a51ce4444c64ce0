//! Turns a raw `ControlPlane` into a [`Tenant`]: parsed once, and right from then on.
//!
//! Pure. After this step nobody reads the raw spec; what is refused names its field.

mod arguments;
mod quantity;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use skep_api::control_plane::{
    ComponentResources, ComponentTemplate, ControlPlaneSpec, EtcdTemplate, SidecarTemplate,
};
use skep_api::{Availability, ControlPlane, TenantReference};
use skep_core::{ClusterName, Cpid, Domain, Endpoint, KubernetesVersion, ProjectName, Region, TenantNetwork};
use skep_runtime::Categorised;

use arguments::check_arguments;
use quantity::check_resources;

/// A field of the spec that cannot be acted upon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidSpec {
    /// The path of the field, such as `spec.apiServer.arguments[v]`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl InvalidSpec {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

impl Categorised for InvalidSpec {
    fn category(&self) -> &'static str {
        "invalid-spec"
    }

    fn is_terminal(&self) -> bool {
        true
    }
}

/// One tenant's control plane as it shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// The identity.
    pub cpid: Cpid,
    /// The host names.
    pub endpoint: Endpoint,
    /// The `ControlPlane` as owner of everything that is made for it.
    pub owner: OwnerReference,
    /// The project, for labels alone.
    pub project: ProjectName,
    /// The tenant's name within its project, for labels alone.
    pub cluster: ClusterName,
    /// The size class, for labels alone.
    pub class: String,
    /// The profile, for labels alone.
    pub profile: String,
    /// The version of all components.
    pub version: KubernetesVersion,
    /// How it is spread over zones.
    pub availability: Availability,
    /// The tenant's ranges.
    pub network: TenantNetwork,
    /// The datastore.
    pub etcd: EtcdTemplate,
    /// kube-apiserver.
    pub api_server: Component,
    /// kube-controller-manager.
    pub controller_manager: Component,
    /// kube-scheduler.
    pub scheduler: Component,
    /// The server of the way back, beside each apiserver.
    pub konnectivity: Option<SidecarTemplate>,
    /// How an apiserver reaches kubelets, pods and Services.
    pub way_back: WayBack,
    /// The images of what runs inside the tenant, by part.
    pub images: BTreeMap<String, String>,
    /// The resolver for names outside of the tenant; none when empty.
    pub upstream_dns: String,
}

impl Tenant {
    /// The namespace of the control plane.
    pub fn namespace(&self) -> String {
        self.cpid.namespace()
    }
}

/// How an apiserver reaches kubelets, pods and Services of its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayBack {
    /// Through agents on the tenant's nodes.
    Konnectivity,
    /// By an interface of its own in the tenant's network, which the cell's provider gives it.
    Interface,
}

/// One component, its arguments checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The image reference.
    pub image: String,
    /// How many pods run in the end.
    pub replicas: i32,
    /// What a pod asks for and may take.
    pub resources: ComponentResources,
    /// Allowed arguments, name without dashes to value.
    pub arguments: BTreeMap<&'static str, String>,
}

/// The three components that run Kubernetes' own programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
}

impl Program {
    /// The command, which is also the name of Deployment and container.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }

    /// The field of the spec.
    fn field(self) -> &'static str {
        match self {
            Self::ApiServer => "spec.apiServer",
            Self::ControllerManager => "spec.controllerManager",
            Self::Scheduler => "spec.scheduler",
        }
    }
}

/// Checks a control plane; the first field that is wrong is named.
///
/// # Errors
/// When a field cannot be acted upon; only a change of the object can help.
pub fn validate(object: &ControlPlane) -> Result<Tenant, InvalidSpec> {
    let ControlPlaneSpec {
        tenant,
        version,
        profile,
        class,
        region,
        domain,
        availability,
        network,
        etcd,
        api_server,
        controller_manager,
        scheduler,
        konnectivity,
        images,
        parameters,
    } = &object.spec;
    let TenantReference {
        project,
        name,
        uid: _,
    } = tenant;
    let cpid: Cpid = parse("metadata.name", &object.name_any())?;
    let region: Region = parse("spec.region", region)?;
    let domain: Domain = parse("spec.domain", domain)?;
    let owner = object
        .controller_owner_ref(&())
        .ok_or_else(|| InvalidSpec::new("metadata.uid", "the object was not read from an API server"))?;
    let network = TenantNetwork::parse(&network.pods, &network.services, &[])
        .map_err(|error| InvalidSpec::new(format!("spec.{}", error.field()), error.to_string()))?;
    Ok(Tenant {
        endpoint: Endpoint::new(&cpid, &region, &domain),
        cpid,
        owner,
        project: parse("spec.tenant.project", project)?,
        cluster: parse("spec.tenant.name", name)?,
        class: check_label("spec.class", class)?,
        profile: check_label("spec.profile", profile)?,
        version: parse("spec.version", version)?,
        availability: *availability,
        network,
        etcd: check_etcd(etcd)?,
        api_server: check_component(Program::ApiServer, api_server)?,
        controller_manager: check_component(Program::ControllerManager, controller_manager)?,
        scheduler: check_component(Program::Scheduler, scheduler)?,
        konnectivity: konnectivity.as_ref().map(check_sidecar).transpose()?,
        images: images
            .iter()
            .map(|(name, image)| Ok((name.clone(), check_image(&format!("spec.images[{name}]"), image)?)))
            .collect::<Result<_, _>>()?,
        way_back: check_way_back(parameters.get("wayBack").map_or("", String::as_str))?,
        upstream_dns: check_upstream(parameters.get("upstreamDns").map_or("", String::as_str))?,
    })
}

fn check_sidecar(template: &SidecarTemplate) -> Result<SidecarTemplate, InvalidSpec> {
    let SidecarTemplate { image, resources } = template;
    Ok(SidecarTemplate {
        image: check_image("spec.konnectivity.image", image)?,
        resources: check_resources("spec.konnectivity.resources", resources)?,
    })
}

fn check_way_back(text: &str) -> Result<WayBack, InvalidSpec> {
    match text {
        "" | "konnectivity" => Ok(WayBack::Konnectivity),
        "interface" => Ok(WayBack::Interface),
        _ => {
            let problem = format!("must be konnectivity or interface, and is {text:?}");
            Err(InvalidSpec::new("spec.parameters[wayBack]", problem))
        }
    }
}

/// What `CoreDNS` takes after `forward .`: a file, or addresses with or without a port.
fn check_upstream(text: &str) -> Result<String, InvalidSpec> {
    let is_target = |word: &str| {
        word.parse::<std::net::IpAddr>().is_ok()
            || word.parse::<std::net::SocketAddr>().is_ok()
            || word == "/etc/resolv.conf"
    };
    if text.split_whitespace().all(is_target) {
        return Ok(text.to_owned());
    }
    let problem = "must be empty, /etc/resolv.conf, or addresses of resolvers";
    Err(InvalidSpec::new("spec.parameters[upstreamDns]", problem))
}

fn parse<T>(field: &str, value: &str) -> Result<T, InvalidSpec>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    value
        .parse()
        .map_err(|error: T::Err| InvalidSpec::new(field, error.to_string()))
}

fn check_component(program: Program, template: &ComponentTemplate) -> Result<Component, InvalidSpec> {
    let field = program.field();
    let ComponentTemplate {
        image,
        replicas,
        resources,
        arguments,
    } = template;
    if !(0..=9).contains(replicas) {
        return Err(InvalidSpec::new(
            format!("{field}.replicas"),
            "must be between 0 and 9",
        ));
    }
    Ok(Component {
        image: check_image(&format!("{field}.image"), image)?,
        replicas: *replicas,
        resources: check_resources(&format!("{field}.resources"), resources)?,
        arguments: check_arguments(program, &format!("{field}.arguments"), arguments)?,
    })
}

fn check_etcd(template: &EtcdTemplate) -> Result<EtcdTemplate, InvalidSpec> {
    let _: KubernetesVersion = parse("spec.etcd.version", &template.version)?;
    check_image("spec.etcd.image", &template.image)?;
    check_resources("spec.etcd.resources", &template.resources)?;
    if ![1, 3, 5].contains(&template.members) {
        return Err(InvalidSpec::new("spec.etcd.members", "must be 1, 3 or 5"));
    }
    Ok(template.clone())
}

fn check_image(field: &str, image: &str) -> Result<String, InvalidSpec> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "./:@_-".contains(c);
    if image.is_empty() || image.len() > 300 || !image.chars().all(is_allowed) {
        return Err(InvalidSpec::new(field, "is no image reference"));
    }
    Ok(image.to_owned())
}

fn check_label(field: &str, value: &str) -> Result<String, InvalidSpec> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let ends = value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.ends_with(|c: char| c.is_ascii_alphanumeric());
    if value.len() > 63 || !ends || !value.chars().all(is_allowed) {
        return Err(InvalidSpec::new(
            field,
            "must be letters, digits and '-', at most 63 characters",
        ));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests;
