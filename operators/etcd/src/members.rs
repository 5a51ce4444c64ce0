//! What is asked of etcd itself, behind a trait so that tests can lose, delay and falsify answers.
//!
//! Every call is bounded, goes to one named member over verified TLS, and may be repeated.

mod transport;
pub mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::uri::PathAndQuery;
use skep_runtime::Categorised;
use skep_snapshots::Fingerprint;
use tonic::client::Grpc;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use self::transport::{Called, call, call_within, connect};
use crate::observed::{Alarm, AlarmKind, MemberStatus};

/// The longest that a database may be written anew: the largest, 8 GiB, on a slow disk.
const SPACE_TIMEOUT: Duration = Duration::from_mins(4);
/// The longest that a database may be counted or hashed.
const HASH_TIMEOUT: Duration = Duration::from_mins(1);
/// The longest that the next piece of a snapshot may take.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two questions to a member that starts.
const ASK: Duration = Duration::from_millis(500);

/// Every member's port for clients.
pub const CLIENT_PORT: u16 = 2379;

/// One member's address and how it is known to be the right one.
#[derive(Debug, Clone)]
pub struct Target {
    /// The address of its pod.
    pub address: String,
    /// Its port for clients.
    pub port: u16,
    /// The name that its certificate must have.
    pub server_name: String,
    /// The operator's own certificate; none for an etcd of a drill, which speaks without TLS and to its own pod alone.
    pub credentials: Option<Arc<Credentials>>,
}

impl Target {
    /// An etcd of the caller's own pod, which speaks without TLS; `what` is its name in errors.
    pub fn local(port: u16, what: &str) -> Self {
        Self {
            address: "127.0.0.1".to_owned(),
            port,
            server_name: what.to_owned(),
            credentials: None,
        }
    }
}

/// The operator's client certificate, its key, and the CA that signs the servers'; all PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The CA's certificate.
    pub authority: String,
    /// The client's certificate.
    pub certificate: String,
    /// The client's key.
    pub key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// A member as etcd lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedMember {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started.
    pub name: String,
    /// Its peer URLs.
    pub peer_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// No connection, or not in time.
    #[error("cannot connect to {target}")]
    Connect {
        /// The member's name.
        target: String,
        /// Why.
        #[source]
        source: Box<tonic::transport::Error>,
    },
    /// The member refused or gave up.
    #[error("{call} at {target}: {}", .status.message())]
    Call {
        /// The call's name.
        call: &'static str,
        /// The member's name.
        target: String,
        /// The answer.
        status: Box<Status>,
    },
    /// No answer in time; the call may have had its effect.
    #[error("{call} at {target} took longer than {} s", .timeout.as_secs())]
    TimedOut {
        /// The call's name.
        call: &'static str,
        /// The member's name.
        target: String,
        /// How long it was waited for.
        timeout: Duration,
    },
}

impl MembersError {
    /// Whether history was thrown away up to there before.
    pub fn is_compacted(&self) -> bool {
        matches!(self, Self::Call { status, .. } if status.message().contains("revision has been compacted"))
    }

    /// Whether etcd refused because the time has not come, or the step was done before: observe again.
    pub fn is_expected(&self) -> bool {
        // Texts of etcd's api/v3rpc/rpctypes/error.go; the codes alone do not tell them apart.
        const TEXTS: [&str; 7] = [
            "Peer URLs already exists",
            "in sync with leader",
            "unhealthy cluster",
            "too many learner members",
            "can only promote a learner member",
            "member not found",
            "not enough started members",
        ];
        let Self::Call { status, .. } = self else {
            return false;
        };
        TEXTS.iter().any(|text| status.message().contains(text)) || status.code() == Code::Unavailable
    }
}

impl Categorised for MembersError {
    fn category(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "etcd-connect",
            Self::Call { .. } => "etcd-call",
            Self::TimedOut { .. } => "etcd-timeout",
        }
    }
}

/// A stream of bytes that may break off.
pub type Pieces = BoxStream<'static, Result<Bytes, MembersError>>;

/// The calls to etcd that the operator makes.
pub trait Members: Send + Sync + 'static {
    /// What one member says of itself.
    fn status(&self, target: &Target) -> impl Future<Output = Result<MemberStatus, MembersError>> + Send;
    /// All members, linearizable: it fails without a quorum.
    fn list(&self, target: &Target) -> impl Future<Output = Result<Vec<ListedMember>, MembersError>> + Send;
    /// Adds a member without a vote.
    fn add_learner(
        &self,
        target: &Target,
        peer_url: &str,
    ) -> impl Future<Output = Result<(), MembersError>> + Send;
    /// Gives a learner its vote.
    fn promote(&self, target: &Target, id: u64) -> impl Future<Output = Result<(), MembersError>> + Send;
    /// Takes a member out.
    fn remove(&self, target: &Target, id: u64) -> impl Future<Output = Result<(), MembersError>> + Send;
    /// Makes another member the leader; `target` must be the leader.
    fn move_leader(&self, target: &Target, to: u64) -> impl Future<Output = Result<(), MembersError>> + Send;
    /// The alarms that are raised.
    fn alarms(&self, target: &Target) -> impl Future<Output = Result<Vec<Alarm>, MembersError>> + Send;
    /// Takes an alarm back.
    fn disarm(&self, target: &Target, alarm: Alarm) -> impl Future<Output = Result<(), MembersError>> + Send;
    /// Throws away history before a revision, and waits until it is gone from the member's database.
    fn compact(
        &self,
        target: &Target,
        revision: i64,
    ) -> impl Future<Output = Result<(), MembersError>> + Send;
    /// Writes the member's database anew without its holes; it answers nothing else meanwhile.
    fn defragment(&self, target: &Target) -> impl Future<Output = Result<(), MembersError>> + Send;
    /// What the member's store holds at a revision.
    fn fingerprint(
        &self,
        target: &Target,
        revision: i64,
    ) -> impl Future<Output = Result<Fingerprint, MembersError>> + Send;
    /// The member's database and its checksum, in pieces; each piece is waited for as long as a call.
    fn snapshot(&self, target: &Target) -> impl Future<Output = Result<Pieces, MembersError>> + Send;
}

/// Waits until a member that starts has a leader, for so long, and says where it stands.
pub async fn wait_for_leader<M: Members>(
    members: &M,
    target: &Target,
    longest: Duration,
) -> Result<MemberStatus, MembersError> {
    let deadline = tokio::time::Instant::now() + longest;
    loop {
        match members.status(target).await {
            Ok(status) if status.leader.is_some() => return Ok(status),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            _ => tokio::time::sleep(ASK).await,
        }
    }
}

/// Calls real members over gRPC.
#[derive(Debug, Clone, Copy, Default)]
pub struct GrpcMembers;

impl Members for GrpcMembers {
    async fn status(&self, target: &Target) -> Result<MemberStatus, MembersError> {
        let answer: wire::StatusResponse = call(
            target,
            "Status",
            "/etcdserverpb.Maintenance/Status",
            wire::StatusRequest {},
        )
        .await?;
        let header = answer.header.unwrap_or_default();
        Ok(MemberStatus {
            id: header.member_id,
            cluster_id: header.cluster_id,
            leader: (answer.leader != 0).then_some(answer.leader),
            version: answer.version,
            revision: header.revision,
            database_bytes: answer.db_size,
            used_bytes: answer.db_size_in_use,
            is_learner: answer.is_learner,
            errors: answer.errors,
        })
    }

    async fn list(&self, target: &Target) -> Result<Vec<ListedMember>, MembersError> {
        let request = wire::MemberListRequest { linearizable: true };
        let answer: wire::MembersResponse =
            call(target, "MemberList", "/etcdserverpb.Cluster/MemberList", request).await?;
        let listed = |member: wire::Member| ListedMember {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_urls,
            is_learner: member.is_learner,
        };
        Ok(answer.members.into_iter().map(listed).collect())
    }

    async fn add_learner(&self, target: &Target, peer_url: &str) -> Result<(), MembersError> {
        let request = wire::MemberAddRequest {
            peer_urls: vec![peer_url.to_owned()],
            is_learner: true,
        };
        let _: wire::MemberAddResponse =
            call(target, "MemberAdd", "/etcdserverpb.Cluster/MemberAdd", request).await?;
        Ok(())
    }

    async fn promote(&self, target: &Target, id: u64) -> Result<(), MembersError> {
        let request = wire::MemberIdRequest { id };
        let _: wire::MembersResponse = call(
            target,
            "MemberPromote",
            "/etcdserverpb.Cluster/MemberPromote",
            request,
        )
        .await?;
        Ok(())
    }

    async fn remove(&self, target: &Target, id: u64) -> Result<(), MembersError> {
        let request = wire::MemberIdRequest { id };
        let _: wire::MembersResponse = call(
            target,
            "MemberRemove",
            "/etcdserverpb.Cluster/MemberRemove",
            request,
        )
        .await?;
        Ok(())
    }

    async fn move_leader(&self, target: &Target, to: u64) -> Result<(), MembersError> {
        let request = wire::MemberIdRequest { id: to };
        let _: wire::HeaderResponse = call(
            target,
            "MoveLeader",
            "/etcdserverpb.Maintenance/MoveLeader",
            request,
        )
        .await?;
        Ok(())
    }

    async fn alarms(&self, target: &Target) -> Result<Vec<Alarm>, MembersError> {
        let request = wire::AlarmRequest {
            action: 0,
            member_id: 0,
            alarm: 0,
        };
        let raised = call_alarm(target, request).await?;
        Ok(raised
            .iter()
            .map(|alarm| Alarm {
                member: alarm.member_id,
                kind: match alarm.alarm {
                    1 => AlarmKind::NoSpace,
                    2 => AlarmKind::Corrupt,
                    other => AlarmKind::Other(other),
                },
            })
            .collect())
    }

    async fn disarm(&self, target: &Target, alarm: Alarm) -> Result<(), MembersError> {
        let request = wire::AlarmRequest {
            action: 2,
            member_id: alarm.member,
            alarm: match alarm.kind {
                AlarmKind::NoSpace => 1,
                AlarmKind::Corrupt => 2,
                AlarmKind::Other(other) => other,
            },
        };
        call_alarm(target, request).await.map(drop)
    }

    async fn compact(&self, target: &Target, revision: i64) -> Result<(), MembersError> {
        let request = wire::CompactionRequest {
            revision,
            physical: true,
        };
        let path = "/etcdserverpb.KV/Compact";
        let _: wire::HeaderResponse = call_within(SPACE_TIMEOUT, target, "Compact", path, request).await?;
        Ok(())
    }

    async fn defragment(&self, target: &Target) -> Result<(), MembersError> {
        let path = "/etcdserverpb.Maintenance/Defragment";
        let request = wire::DefragmentRequest {};
        let _: wire::HeaderResponse = call_within(SPACE_TIMEOUT, target, "Defragment", path, request).await?;
        Ok(())
    }

    async fn fingerprint(&self, target: &Target, revision: i64) -> Result<Fingerprint, MembersError> {
        let request = wire::RangeRequest {
            key: vec![0],
            range_end: vec![0],
            revision,
            serializable: true,
            count_only: true,
        };
        let path = "/etcdserverpb.KV/Range";
        let counted: wire::RangeResponse = call_within(HASH_TIMEOUT, target, "Range", path, request).await?;
        let request = wire::HashKvRequest { revision };
        let path = "/etcdserverpb.Maintenance/HashKV";
        let hashed: wire::HashKvResponse = call_within(HASH_TIMEOUT, target, "HashKV", path, request).await?;
        Ok(Fingerprint {
            keys: counted.count,
            hash: hashed.hash,
            compact_revision: hashed.compact_revision,
        })
    }

    async fn snapshot(&self, target: &Target) -> Result<Pieces, MembersError> {
        let called = Called {
            call: "Snapshot",
            target: target.server_name.clone(),
        };
        let asked = async {
            let mut client = Grpc::new(connect(target, PIECE_TIMEOUT).await?);
            client
                .ready()
                .await
                .map_err(|source| called.refused(Status::unavailable(source.to_string())))?;
            let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Snapshot");
            let codec = ProstCodec::<wire::SnapshotRequest, wire::SnapshotResponse>::default();
            let answer = client
                .server_streaming(Request::new(wire::SnapshotRequest {}), path, codec)
                .await;
            answer
                .map(tonic::Response::into_inner)
                .map_err(|status| called.refused(status))
        };
        let answer = tokio::time::timeout(PIECE_TIMEOUT, asked)
            .await
            .map_err(|_| called.late(PIECE_TIMEOUT))??;
        let pieces = futures::stream::try_unfold((answer, called), |(mut answer, called)| async move {
            let piece = tokio::time::timeout(PIECE_TIMEOUT, answer.message())
                .await
                .map_err(|_| called.late(PIECE_TIMEOUT))?
                .map_err(|status| called.refused(status))?;
            Ok(piece.map(|piece| (Bytes::from(piece.blob), (answer, called))))
        });
        Ok(pieces.boxed())
    }
}

async fn call_alarm(
    target: &Target,
    request: wire::AlarmRequest,
) -> Result<Vec<wire::AlarmMember>, MembersError> {
    let path = "/etcdserverpb.Maintenance/Alarm";
    let answer: wire::AlarmResponse = call(target, "Alarm", path, request).await?;
    Ok(answer.alarms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: Status) -> MembersError {
        MembersError::Call {
            call: "MemberAdd",
            target: "a".into(),
            status: Box::new(status),
        }
    }

    #[test]
    fn what_only_needs_another_look_is_told_from_what_failed() {
        for text in [
            "etcdserver: Peer URLs already exists",
            "etcdserver: can only promote a learner member which is in sync with leader",
            "etcdserver: member not found",
        ] {
            assert!(refused(Status::failed_precondition(text)).is_expected(), "{text}");
        }
        assert!(refused(Status::unavailable("etcdserver: unhealthy cluster")).is_expected());
        assert!(!refused(Status::unauthenticated("no")).is_expected());
    }

    #[test]
    fn credentials_are_not_printed() {
        let secret = Credentials {
            authority: "CA".into(),
            certificate: "CRT".into(),
            key: "KEY".into(),
        };
        assert_eq!(format!("{secret:?}"), "Credentials { .. }");
    }
}
