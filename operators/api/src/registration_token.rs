//! `RegistrationToken`: what may be registered with one bootstrap token, how often and until when.
//!
//! The secret half is never in the object: it lives in a bootstrap token Secret, which the API server checks itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What a token buys; only the pool has no default.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "RegistrationToken",
    plural = "registrationtokens",
    category = "skep",
    status = "RegistrationTokenStatus",
    derive = "PartialEq",
    doc = "Permission to register cells at the hub.",
    printcolumn(name = "Usable", type_ = "string", json_path = ".status.conditions[?(@.type=='Usable')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Usable')].reason"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.scope.pool"),
    printcolumn(name = "Cell", type_ = "string", json_path = ".spec.scope.cell"),
    printcolumn(name = "Uses", type_ = "integer", json_path = ".spec.uses"),
    printcolumn(name = "Used", type_ = "integer", json_path = ".status.used"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label of at most 40 characters that starts with a letter")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.ttlSeconds == oldSelf.ttlSeconds").message("ttlSeconds is immutable").field_path(".ttlSeconds"),
    validation = Rule::new("self.uses == oldSelf.uses").message("uses is immutable").field_path(".uses"),
    validation = Rule::new("self.scope == oldSelf.scope").message("scope is immutable").field_path(".scope"),
    validation = Rule::new("self.revoked || !oldSelf.revoked").message("a revoked token stays revoked").field_path(".revoked"),
    validation = Rule::new("!has(self.scope.cell) || self.uses == 1").message("must be 1 for a token of one cell").field_path(".uses")
)]
pub struct RegistrationTokenSpec {
    /// How long it may be used, in seconds from its creation: a minute to seven days.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 60, max = 604_800))]
    pub ttl_seconds: i64,
    /// How many registrations it buys.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub uses: i32,
    /// Which cells it may register.
    pub scope: RegistrationScope,
    /// It buys nothing more once true; what it bought stands.
    #[serde(default)]
    pub revoked: bool,
}

fn an_hour() -> i64 {
    3600
}

fn one() -> i32 {
    1
}

/// The cells that a token may register.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationScope {
    /// The pool that they belong to.
    #[schemars(regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"), length(max = 40))]
    pub pool: String,
    /// The only one of them; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"), length(max = 40))]
    pub cell: Option<String>,
}

/// What stands of a token.
#[derive(KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationTokenStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The public half of the bootstrap token: its Secret is `kube-system/bootstrap-token-ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]{6}$"))]
    pub bootstrap_id: Option<String>,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// How many uses were taken.
    #[serde(default)]
    pub used: i32,
    /// The names of the registrations that it bought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub registrations: Vec<String>,
    /// `Usable`: true, or false with the reason `Expired`, `Revoked` or `UsedUp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
