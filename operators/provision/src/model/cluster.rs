//! Clusters as tenants see them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use skep_api::TenantCluster;
use skep_api::tenant_cluster::ClassChoice;
use utoipa::ToSchema;

/// How a control plane is spread over zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub enum Availability {
    /// Three zones; the loss of one is survived.
    #[default]
    ZoneRedundant,
    /// One zone; cheaper, and down while that zone is.
    Single,
}

/// The size class that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The platform chooses, starting small.
    #[default]
    Auto,
    /// Pinned to small.
    Small,
    /// Pinned to medium.
    Medium,
    /// Pinned to large.
    Large,
}

/// A tenant's address ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// The range of the pods.
    #[schema(example = "198.19.0.0/17")]
    pub pods: String,
    /// The range of the services.
    #[schema(example = "198.19.128.0/20")]
    pub services: String,
}

/// A cluster to be made; only the name is required.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"name": "demo", "class": "small", "availability": "ZoneRedundant"}))]
pub struct NewCluster {
    /// The name within the project: a DNS label of at most 40 characters that starts with a letter.
    #[schema(max_length = 40, pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$")]
    pub name: String,
    /// The Kubernetes version; the newest where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1.36.3")]
    pub version: Option<String>,
    /// The profile; `standard` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The size class; `auto` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// The region; the platform's only one where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The spread over zones; `ZoneRedundant` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
    /// The address ranges; the profile's where they are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// While true, a deletion is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,
}

/// A JSON merge patch (RFC 7396) of the fields that may change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"deletionProtection": true}))]
pub struct PatchCluster {
    /// A newer Kubernetes version, at most one minor ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Another size class; null goes back to `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Whether a deletion is refused; null is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,
}

/// A cluster: what was asked for, and what stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// The name within the project.
    pub name: String,
    /// The project.
    pub project: String,
    /// The unique id; a namesake made later has another one.
    pub uid: String,
    /// When it was asked for (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Since when it is being deleted (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// The version that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The profile.
    pub profile: String,
    /// The size class that was asked for.
    pub class: Class,
    /// The region that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The spread over zones.
    pub availability: Availability,
    /// The address ranges that were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Whether a deletion is refused.
    pub deletion_protection: bool,
    /// What stands.
    pub state: ClusterState,
    /// The state in the standard form, `Ready` first.
    pub conditions: Vec<Condition>,
}

/// What stands of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterState {
    /// The Kubernetes version in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The size class in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The cell that holds the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    /// The identity of the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpid: Option<String>,
    /// The host name of the cluster's API, the TLS server name to check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The address, `host:port`, at which that name is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// One statement about the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about: `Ready`, `Scheduled`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word for programs.
    pub reason: String,
    /// A sentence for people: what is waited for.
    pub message: String,
    /// When the status last changed (RFC 3339).
    pub last_transition_time: String,
}

/// One Kubernetes event about a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterEvent {
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// When it last happened (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// How often it happened.
    pub count: i32,
}

/// A wish for a client certificate; the private key stays with the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"csr": "-----BEGIN CERTIFICATE REQUEST-----\n…\n-----END CERTIFICATE REQUEST-----\n", "ttl": "1h"}))]
pub struct NewKubeconfig {
    /// A PKCS #10 request, PEM; its subject is replaced by the caller's identity.
    pub csr: String,
    /// How long the certificate is to be valid: `10m` to `24h`; `1h` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// Everything that a kubeconfig needs beside the private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The client certificate, PEM.
    pub certificate: String,
    /// The certificate of the CA that serves the cluster's API, PEM.
    pub certificate_authority: String,
    /// The URL of the cluster's API.
    #[schema(example = "https://198.18.0.2:443")]
    pub server: String,
    /// The name that the server's certificate must carry (`tls-server-name`).
    #[schema(example = "api.cabcdefghi.local.skep.internal")]
    pub tls_server_name: String,
    /// When the certificate ends (RFC 3339).
    pub expires: String,
}

impl Cluster {
    /// Whether the cluster does what was asked for in its newest form.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready")
            .is_some_and(|condition| condition.status == "True")
    }

    /// A condition by its type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

impl From<&TenantCluster> for Cluster {
    fn from(object: &TenantCluster) -> Self {
        let spec = &object.spec;
        let status = object.status.clone().unwrap_or_default();
        let project = object.namespace().unwrap_or_default();
        Self {
            name: object.name_any(),
            project: project.strip_prefix("project-").unwrap_or(&project).to_owned(),
            uid: object.uid().unwrap_or_default(),
            created_at: object.metadata.creation_timestamp.as_ref().map(time_text),
            deleted_at: object.metadata.deletion_timestamp.as_ref().map(time_text),
            version: spec.version.clone(),
            profile: spec.profile.clone(),
            class: spec.class.into(),
            region: spec.region.clone(),
            availability: spec.availability.into(),
            network: spec.network.as_ref().map(|network| Network {
                pods: network.pods.clone(),
                services: network.services.clone(),
            }),
            deletion_protection: spec.deletion_protection,
            conditions: status.conditions.iter().map(Condition::from).collect(),
            state: ClusterState {
                version: status.version,
                class: status.class,
                cell: status.cell,
                cpid: status.cpid,
                endpoint: status.endpoint,
                address: status.address,
            },
        }
    }
}

impl From<&meta::Condition> for Condition {
    fn from(condition: &meta::Condition) -> Self {
        Self {
            kind: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            last_transition_time: time_text(&condition.last_transition_time),
        }
    }
}

impl From<ClassChoice> for Class {
    fn from(class: ClassChoice) -> Self {
        match class {
            ClassChoice::Auto => Self::Auto,
            ClassChoice::Small => Self::Small,
            ClassChoice::Medium => Self::Medium,
            ClassChoice::Large => Self::Large,
        }
    }
}

impl From<Class> for ClassChoice {
    fn from(class: Class) -> Self {
        match class {
            Class::Auto => Self::Auto,
            Class::Small => Self::Small,
            Class::Medium => Self::Medium,
            Class::Large => Self::Large,
        }
    }
}

impl From<skep_api::Availability> for Availability {
    fn from(availability: skep_api::Availability) -> Self {
        match availability {
            skep_api::Availability::ZoneRedundant => Self::ZoneRedundant,
            skep_api::Availability::Single => Self::Single,
        }
    }
}

impl From<Availability> for skep_api::Availability {
    fn from(availability: Availability) -> Self {
        match availability {
            Availability::ZoneRedundant => Self::ZoneRedundant,
            Availability::Single => Self::Single,
        }
    }
}

/// A time to the second, as RFC 3339.
pub(crate) fn time_text(time: &meta::Time) -> String {
    time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
