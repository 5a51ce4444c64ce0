//! The few messages of etcd's API (`api/etcdserverpb/rpc.proto`) that the operator speaks, by field number.
//!
//! Written by hand: the generated client wants `protoc` on every machine that builds, and its member list
//! cannot be asked for linearizably.

/// `ResponseHeader`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Header {
    /// The cluster's id.
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    /// The id of the member that answered.
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    /// The store's revision.
    #[prost(int64, tag = "3")]
    pub revision: i64,
}

/// `StatusRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusRequest {}

/// `StatusResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusResponse {
    /// Who answers.
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    /// The version of the binary.
    #[prost(string, tag = "2")]
    pub version: String,
    /// The bytes of the database file.
    #[prost(int64, tag = "3")]
    pub db_size: i64,
    /// The leader's id; 0 for none.
    #[prost(uint64, tag = "4")]
    pub leader: u64,
    /// The bytes of the database file that hold data.
    #[prost(int64, tag = "9")]
    pub db_size_in_use: i64,
    /// Alarms and the want of a leader.
    #[prost(string, repeated, tag = "8")]
    pub errors: Vec<String>,
    /// Whether the member has no vote.
    #[prost(bool, tag = "10")]
    pub is_learner: bool,
}

/// `MemberListRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberListRequest {
    /// Whether the answer must reflect all that was agreed before the question.
    #[prost(bool, tag = "1")]
    pub linearizable: bool,
}

/// `Member`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Member {
    /// The id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The name; empty until it has started.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The peer URLs.
    #[prost(string, repeated, tag = "3")]
    pub peer_urls: Vec<String>,
    /// Whether it has no vote.
    #[prost(bool, tag = "5")]
    pub is_learner: bool,
}

/// `MemberListResponse`, `MemberRemoveResponse` and `MemberPromoteResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MembersResponse {
    /// All members.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<Member>,
}

/// `MemberAddRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberAddRequest {
    /// The new member's peer URLs.
    #[prost(string, repeated, tag = "1")]
    pub peer_urls: Vec<String>,
    /// Whether it comes without a vote.
    #[prost(bool, tag = "2")]
    pub is_learner: bool,
}

/// `MemberAddResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberAddResponse {
    /// All members, the new one among them.
    #[prost(message, repeated, tag = "3")]
    pub members: Vec<Member>,
}

/// `MemberRemoveRequest`, `MemberPromoteRequest` and `MoveLeaderRequest`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct MemberIdRequest {
    /// The member.
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// An answer of which nothing is read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderResponse {}

/// `AlarmRequest`; action 0 asks for all, 2 takes one back.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct AlarmRequest {
    /// What is done.
    #[prost(int32, tag = "1")]
    pub action: i32,
    /// The member that raised it.
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    /// Which alarm; 0 for all.
    #[prost(int32, tag = "3")]
    pub alarm: i32,
}

/// `AlarmMember`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct AlarmMember {
    /// The member that raised it.
    #[prost(uint64, tag = "1")]
    pub member_id: u64,
    /// Which: 1 for NOSPACE, 2 for CORRUPT.
    #[prost(int32, tag = "2")]
    pub alarm: i32,
}

/// `AlarmResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AlarmResponse {
    /// The alarms that are raised.
    #[prost(message, repeated, tag = "2")]
    pub alarms: Vec<AlarmMember>,
}

/// `CompactionRequest`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct CompactionRequest {
    /// History before this revision goes.
    #[prost(int64, tag = "1")]
    pub revision: i64,
    /// Whether the answer waits until it is gone from the database.
    #[prost(bool, tag = "2")]
    pub physical: bool,
}

/// `DefragmentRequest`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct DefragmentRequest {}

/// `SnapshotRequest`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SnapshotRequest {}

/// `SnapshotResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SnapshotResponse {
    /// The next bytes of the database; the last 32 are the SHA-256 of those before.
    #[prost(bytes = "vec", tag = "3")]
    pub blob: Vec<u8>,
}

/// `RangeRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RangeRequest {
    /// The first key; with a zero byte here and as the end all keys are meant.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// The key after the last.
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    /// The revision of which is read.
    #[prost(int64, tag = "4")]
    pub revision: i64,
    /// Whether the member answers by itself.
    #[prost(bool, tag = "7")]
    pub serializable: bool,
    /// Whether keys are only counted.
    #[prost(bool, tag = "9")]
    pub count_only: bool,
}

/// `RangeResponse`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RangeResponse {
    /// How many keys there are.
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// `HashKVRequest`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HashKvRequest {
    /// The revision up to which is hashed.
    #[prost(int64, tag = "1")]
    pub revision: i64,
}

/// `HashKVResponse`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HashKvResponse {
    /// The hash.
    #[prost(uint32, tag = "2")]
    pub hash: u32,
    /// The revision before which history was thrown away.
    #[prost(int64, tag = "3")]
    pub compact_revision: i64,
}
