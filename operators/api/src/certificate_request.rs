//! `CertificateRequest`: a signing request on its way to the cell and the certificate on its way back.
//!
//! It lives ten minutes and never holds a private key.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// How long a request lives before it is removed, in seconds.
pub const LIFETIME_SECONDS: i64 = 600;

/// Who asks for a certificate of which control plane.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "CertificateRequest",
    plural = "certificaterequests",
    category = "skep",
    namespaced,
    status = "CertificateRequestStatus",
    derive = "PartialEq",
    doc = "A certificate signing request for one control plane.",
    printcolumn(name = "Cpid", type_ = "string", json_path = ".spec.cpid"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.username"),
    printcolumn(
        name = "Issued",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Issued')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a certificate request is immutable"))]
pub struct CertificateRequestSpec {
    /// The control plane whose cluster CA shall sign.
    #[schemars(regex(pattern = r"^c[a-z2-7]{9}$"))]
    pub cpid: String,
    /// The PKCS #10 request, PEM; its subject is replaced by `username` and `groups`.
    #[schemars(length(min = 1, max = 16384))]
    pub request: String,
    /// How long the certificate is to be valid, in seconds: ten minutes to 24 hours.
    #[schemars(range(min = 600, max = 86400))]
    pub ttl_seconds: i64,
    /// The user that the certificate names.
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = Rule::new("!self.startsWith('system:')").message("must not start with 'system:'"))]
    pub username: String,
    /// The groups that the certificate names.
    #[schemars(length(max = 10))]
    #[x_kube(validation = Rule::new("self.all(g, !g.startsWith('system:'))").message("must not hold a group that starts with 'system:'"))]
    pub groups: Vec<BoundedGroup>,
}

/// A group's name, at most 200 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct BoundedGroup(#[schemars(length(min = 1, max = 200))] pub String);

/// What became of a request.
#[derive(KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRequestStatus {
    /// The signed certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The certificate of the CA that serves the tenant's API, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<String>,
    /// `Issued`: true, or false with the reason `Refused` and what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
