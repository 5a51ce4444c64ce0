//! `EtcdCluster`: one datastore, its members and where each of them stands.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control_plane::ComponentResources;
use crate::snapshot_store::SnapshotPolicy;

/// The condition that says whether a quorum of the present members serves; `Ready` wants every member.
pub const SERVING: &str = "Serving";

/// The condition that says whether the last snapshot is as young as the schedule wants it.
pub const BACKED_UP: &str = "BackedUp";

/// The condition that says whether the last drill has made an etcd from a snapshot that serves what was taken.
pub const RESTORE_PROVEN: &str = "RestoreProven";

/// The condition that says whether the database has room for the next day, at the growth of the last hours.
pub const ROOM_AHEAD: &str = "RoomAhead";

/// What a datastore shall be.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "EtcdCluster",
    plural = "etcdclusters",
    category = "skep",
    namespaced,
    status = "EtcdClusterStatus",
    derive = "PartialEq",
    doc = "An etcd cluster.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Members", type_ = "integer", json_path = ".status.readyMembers"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.members"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 30").message("metadata.name has at most 30 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.storageClass == oldSelf.storageClass").message("storageClass is immutable").field_path(".storageClass"),
    validation = Rule::new("!isQuantity(self.volumeSize) || !isQuantity(oldSelf.volumeSize) || quantity(self.volumeSize).compareTo(quantity(oldSelf.volumeSize)) >= 0")
        .message("volumeSize may not shrink").field_path(".volumeSize"),
    validation = Rule::new("!self.version.matches('^[0-9]+[.][0-9]+[.]') || !oldSelf.version.matches('^[0-9]+[.][0-9]+[.]') || (self.version.split('.')[0] == oldSelf.version.split('.')[0] && int(self.version.split('.')[1]) <= int(oldSelf.version.split('.')[1]) + 1)")
        .message("version may go up by one minor version at a time").field_path(".version"),
    validation = Rule::new("!has(self.restore) || has(self.restore.member) || has(self.snapshots)").message("restore needs the store of snapshots").field_path(".restore"),
    validation = Rule::new("!has(self.restore) || !has(oldSelf.restore) || self.restore == oldSelf.restore || self.restore.name != oldSelf.restore.name")
        .message("another restore needs another name").field_path(".restore")
)]
pub struct EtcdClusterSpec {
    /// The etcd version; 3.5.33, 3.6.14 and 3.7.1 are the oldest safe ones of their lines.
    #[schemars(regex(pattern = r"^[0-9]+\.[0-9]+\.[0-9]+$"), length(max = 20))]
    pub version: String,
    /// The image reference.
    #[schemars(length(min = 1, max = 300))]
    pub image: String,
    /// The number of members.
    #[x_kube(validation = Rule::new("self == 1 || self == 3 || self == 5").message("must be 1, 3 or 5"))]
    pub members: i32,
    /// The size of each member's volume, such as `2Gi`.
    #[schemars(length(max = 20))]
    #[x_kube(validation = Rule::new("isQuantity(self)").message("must be a quantity such as 2Gi"))]
    pub volume_size: String,
    /// The storage class of the volumes.
    #[schemars(length(min = 1, max = 63))]
    pub storage_class: String,
    /// The most bytes that the database may hold.
    #[schemars(range(min = 67_108_864_i64, max = 8_589_934_592_i64))]
    pub quota_bytes: i64,
    /// What each member asks for and may take.
    pub resources: ComponentResources,
    /// The priority class of the members' pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// The names of clients; each gets a Secret `etcd-client-NAME` with a certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub clients: Vec<String>,
    /// What becomes of the volumes when the cluster is deleted.
    #[serde(default)]
    pub volume_policy: VolumePolicy,
    /// Raise it to have the authorities of members and clients replaced without a pause; they also are when two thirds
    /// of their life are over.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub authority_rotation: i64,
    /// Which authorities every client trusts, as `status.trust.revision` names them; a replacement waits for it before
    /// each step that a client would notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub client_trust: Option<String>,
    /// Nodes that no member may be on: one that is moves to another node once its successor has joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    pub avoid_nodes: Vec<String>,
    /// Snapshots: when they are taken, where they are kept, and for how long; none where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<SnapshotPolicy>,
    /// The snapshot that the data come from: of a new cluster, or, under a new name, in the place of what is there. An
    /// `EtcdRestore` checks the snapshot first and sets this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreSource>,
}

/// What the data of a cluster come from: a snapshot in the store of `spec.snapshots`, or a member that is left of a lost
/// quorum.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.snapshot) != has(self.member)").message("exactly one of snapshot and member must be set"),
    validation = Rule::new("has(self.snapshot) == has(self.owner)").message("owner must be set with snapshot, and only then").field_path(".owner")
)]
pub struct RestoreSource {
    /// The name of this restore; under a new name another one is done.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The snapshot's name in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub snapshot: Option<String>,
    /// Whose snapshot: the unique id of the datastore that it was taken of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub owner: Option<String>,
    /// The pod of the member whose data are kept; all others are set aside. Only where no quorum answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub member: Option<String>,
}

/// A restore that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdRestoring {
    /// What is restored.
    #[serde(flatten)]
    pub source: RestoreSource,
    /// How far it has come.
    pub phase: RestorePhase,
}

/// How far a restore has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestorePhase {
    /// The members that were there go; their volumes are set aside.
    Clearing,
    /// A first member is made from the snapshot, or of the member that is kept.
    Forming,
}

/// A snapshot that was taken, written and read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdSnapshot {
    /// The `EtcdBackup`.
    pub backup: String,
    /// The snapshot's name in the store.
    pub snapshot: String,
    /// The revision that it holds at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// When it was taken.
    pub taken_at: Time,
}

/// How a drill has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdDrillResult {
    /// The `EtcdDrill`.
    pub drill: String,
    /// The snapshot that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Whether what was made of it serves what was taken.
    pub passed: bool,
    /// When it has ended.
    pub at: Time,
    /// What was found, for people.
    pub message: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants it so
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// What becomes of the volumes when an etcd cluster is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum VolumePolicy {
    /// They stay, and a person removes them.
    #[default]
    Retain,
    /// They are removed with the cluster.
    Delete,
}

/// What stands of a datastore.
#[derive(KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClusterStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Whether the first member has ever formed the cluster; from then on members only join.
    #[serde(default)]
    pub bootstrapped: bool,
    /// The cluster's id, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The version that every member runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The pod of the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// How many voting members serve.
    #[serde(default)]
    pub ready_members: i32,
    /// The members, by pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<EtcdMember>,
    /// With what members are made; what the spec asks for is taken over once that is safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<EtcdRelease>,
    /// Whom clients have to trust; absent until an authority was replaced for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<EtcdTrust>,
    /// The change of membership that is under way; kept until it is done, so that a restart goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<MemberIntent>,
    /// The newest snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<EtcdSnapshot>,
    /// The last drill that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<EtcdDrillResult>,
    /// The restore that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restoring: Option<EtcdRestoring>,
    /// The name of the last restore that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<String>,
    /// The name of the last restore from a member; clients that have seen more than it held start anew for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<String>,
    /// The state in the standard form, `Ready` first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A version and the image that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdRelease {
    /// The etcd version.
    pub version: String,
    /// The image reference.
    pub image: String,
}

/// Whom clients have to trust, and how far the replacement of authorities has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdTrust {
    /// The name of the authorities and of the one that signs; clients' Secrets carry it as an annotation.
    pub revision: String,
    /// How far the replacement has come.
    pub phase: TrustPhase,
}

/// How far one authority has taken another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
pub enum TrustPhase {
    /// One authority is trusted, and it signs.
    #[default]
    Settled,
    /// The next authority is trusted beside the one that signs.
    Introduced,
    /// The next authority signs; the one before it is still trusted.
    Signing,
}

/// The annotation of clients' pods that names the recovery that they have seen.
pub const RECOVERED_ANNOTATION: &str = "skep.dev/etcd-recovered";

/// The annotation of a client's Secret that names the authorities in it.
pub const TRUST_ANNOTATION: &str = "skep.dev/etcd-trust";

/// One member as etcd and Kubernetes see it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdMember {
    /// The pod's name, which is the member's name.
    pub pod: String,
    /// The member's id, hexadecimal; absent until it has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The zone of its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The node that it is on, or was last: its volume is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Learner or voter.
    #[serde(default)]
    pub role: MemberRole,
    /// Whether it answers.
    #[serde(default)]
    pub healthy: bool,
    /// The version that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The bytes of its database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_bytes: Option<i64>,
    /// The revision that its data have; told only while there is no quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
}

/// The role of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum MemberRole {
    /// Receives the log and has no vote.
    #[default]
    Learner,
    /// Has a vote.
    Voter,
}

/// A change of membership that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberIntent {
    /// What is being done.
    pub action: MemberAction,
    /// The pod that it is done to.
    pub pod: String,
}

/// The kinds of membership change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberAction {
    /// The first member forms the cluster.
    Bootstrap,
    /// A learner joins and is promoted.
    Add,
    /// A member leaves.
    Remove,
    /// A member's pod is made anew over its volume.
    Restart,
    /// A member's database is written anew without its holes.
    Defragment,
}
