//! `DeploymentRecord`: what one tenant shall be, in the cell's namespace at the hub.
//!
//! Spec and metadata are written by the hub alone, status by the cell's agent alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{ControlPlaneSpec, TenantReference};

/// The resolved control plane of one tenant and its revision.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "DeploymentRecord",
    plural = "deploymentrecords",
    shortname = "record",
    category = "skep",
    namespaced,
    status = "DeploymentRecordStatus",
    derive = "PartialEq",
    doc = "What one tenant shall be in one cell; named after the control plane's cpid.",
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.tenant.project"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.tenant.name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Desired", type_ = "string", json_path = ".spec.revision"),
    printcolumn(name = "Observed", type_ = "string", json_path = ".status.observedRevision"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.cpid == oldSelf.cpid").message("cpid is immutable").field_path(".cpid"),
    validation = Rule::new("self.tenant == oldSelf.tenant").message("tenant is immutable").field_path(".tenant")
)]
pub struct DeploymentRecordSpec {
    /// The tenant that this record is for.
    pub tenant: TenantReference,
    /// The identity of the control plane.
    #[schemars(regex(pattern = r"^c[a-z2-7]{9}$"))]
    pub cpid: String,
    /// SHA-256 of `controlPlane` in its canonical form, 16 hexadecimal characters.
    #[schemars(regex(pattern = r"^[0-9a-f]{16}$"))]
    pub revision: String,
    /// The control plane, resolved from profile, class and tenant.
    pub control_plane: ControlPlaneSpec,
}

/// What the cell's agent says of a record.
#[derive(KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentRecordStatus {
    /// The generation of the record that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The revision that the cell has made true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_revision: Option<String>,
    /// The Kubernetes version that the apiservers run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The certificate of the tenant's cluster CA, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<String>,
    /// The state in the standard form: `Ready` first, `Deleted` once nothing is left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
