//! `ClusterRegistration`: one agent's identity at the hub, from its first certificate until it is revoked.
//!
//! The agent's rights hang on this object, not on the certificate's validity.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Which key speaks for which cell.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "ClusterRegistration",
    plural = "clusterregistrations",
    category = "skep",
    status = "ClusterRegistrationStatus",
    derive = "PartialEq",
    doc = "The identity of one cell's agent at the hub.",
    selectable = ".spec.cell",
    printcolumn(name = "Cell", type_ = "string", json_path = ".spec.cell"),
    printcolumn(name = "Revoked", type_ = "boolean", json_path = ".spec.revoked"),
    printcolumn(name = "Token", type_ = "string", json_path = ".spec.token"),
    printcolumn(name = "Until", type_ = "string", json_path = ".status.certificateEnd"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^r[a-z2-7]{25}$')")
        .message("metadata.name must be the letter r and 25 characters of base32, made from the registering public key")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.cell == oldSelf.cell").message("cell is immutable").field_path(".cell"),
    validation = Rule::new("self.token == oldSelf.token").message("token is immutable").field_path(".token"),
    validation = Rule::new("self.keyFingerprint == oldSelf.keyFingerprint").message("keyFingerprint is immutable").field_path(".keyFingerprint"),
    validation = Rule::new("self.revoked || !oldSelf.revoked").message("a revoked registration stays revoked").field_path(".revoked")
)]
pub struct ClusterRegistrationSpec {
    /// The cell whose agent this is.
    #[schemars(regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"), length(max = 40))]
    pub cell: String,
    /// The `RegistrationToken` that bought it.
    #[schemars(length(min = 1, max = 40))]
    pub token: String,
    /// The SHA-256 of the registering public key, in lowercase hexadecimal; renewed certificates may have other keys.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub key_fingerprint: String,
    /// The agent loses every right at once, and for good, when true.
    #[serde(default)]
    pub revoked: bool,
}

/// What stands of a registration.
#[derive(KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRegistrationStatus {
    /// When the newest certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_end: Option<Time>,
    /// `Issued`: whether a certificate was signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
