//! A stand-in of etcd's members: they answer what the operator asks, over gRPC and TLS as a real one does, and hold no data.
//!
//! What they say is as a cluster says that was formed by one member and grew by learners, and then has nothing to do.

use std::convert::Infallible;
use std::future::ready;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use skep_etcd::members::wire::{
    AlarmRequest, AlarmResponse, Header, Member, MemberAddRequest, MemberAddResponse, MemberIdRequest,
    MemberListRequest, MembersResponse, StatusRequest, StatusResponse,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

/// The port of a member's API.
const PORT: u16 = 2379;
/// A small tenant's database, far from its quota.
const DATABASE_BYTES: i64 = 8 << 20;
/// The revision of a store that nobody writes to.
const REVISION: i64 = 1000;

/// The members of one cluster, as all of them list them.
#[derive(Debug, Default)]
struct Members {
    id: u64,
    members: Vec<Member>,
}

/// One cluster.
#[derive(Debug, Clone, Default)]
pub struct Cluster(Arc<Mutex<Members>>);

/// What a member serves with, all PEM.
pub struct Served {
    /// The authority of clients.
    pub authority: Vec<u8>,
    /// The member's certificate.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

impl Cluster {
    fn with<T>(&self, action: impl FnOnce(&mut Members) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts the member `name` at an address; the first forms the cluster, another one must have been added.
    ///
    /// # Errors
    /// When it was not added, or its address is taken.
    pub async fn start(
        &self,
        name: &str,
        peer_url: &str,
        address: Ipv4Addr,
        served: &Served,
        calls: Arc<AtomicU64>,
    ) -> Result<()> {
        let member = self.with(|members| members.start(name, peer_url))?;
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&served.certificate, &served.key))
            .client_ca_root(Certificate::from_pem(&served.authority));
        let listener = TcpListener::bind(SocketAddr::from((address, PORT)))
            .await
            .with_context(|| format!("cannot listen at {address}"))?;
        let endpoint = Endpoint {
            cluster: self.clone(),
            member,
            calls,
        };
        let tonic = Server::builder().tls_config(tls)?;
        let name = name.to_owned();
        tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            if let Err(error) = tonic.serve_with_incoming(endpoint, incoming).await {
                eprintln!("{name} serves no more: {error}");
            }
        });
        Ok(())
    }
}

impl Members {
    fn start(&mut self, name: &str, peer_url: &str) -> Result<u64> {
        if self.members.is_empty() {
            self.id = rand::random();
            self.push(peer_url, false);
        }
        let found = self
            .members
            .iter_mut()
            .find(|member| member.peer_urls == [peer_url]);
        let member = found.with_context(|| format!("{name} starts and was never added"))?;
        ensure!(member.name.is_empty(), "{name} starts a second time");
        name.clone_into(&mut member.name);
        Ok(member.id)
    }

    fn push(&mut self, peer_url: &str, is_learner: bool) {
        self.members.push(Member {
            id: rand::random::<u64>().max(1),
            name: String::new(),
            peer_urls: vec![peer_url.to_owned()],
            is_learner,
        });
    }

    fn status(&self, id: u64) -> StatusResponse {
        let own = self.members.iter().find(|member| member.id == id);
        StatusResponse {
            header: Some(Header {
                cluster_id: self.id,
                member_id: id,
                revision: REVISION,
            }),
            version: super::VERSION.to_owned(),
            db_size: DATABASE_BYTES,
            // The first leads for ever.
            leader: self.members.first().map_or(0, |member| member.id),
            db_size_in_use: DATABASE_BYTES,
            errors: Vec::new(),
            is_learner: own.is_some_and(|member| member.is_learner),
        }
    }

    fn add(&mut self, request: &MemberAddRequest) -> Result<MemberAddResponse, Status> {
        let url = request.peer_urls.first().map_or("", String::as_str);
        if self.members.iter().any(|member| member.peer_urls == [url]) {
            return Err(Status::failed_precondition(
                "etcdserver: Peer URLs already exists",
            ));
        }
        self.push(url, request.is_learner);
        Ok(MemberAddResponse {
            members: self.members.clone(),
        })
    }

    fn promote(&mut self, id: u64) -> Result<MembersResponse, Status> {
        let found = self.members.iter_mut().find(|member| member.id == id);
        let member = found.ok_or_else(|| Status::not_found("etcdserver: member not found"))?;
        member.is_learner = false;
        Ok(self.list())
    }

    fn list(&self) -> MembersResponse {
        MembersResponse {
            members: self.members.clone(),
        }
    }
}

/// The API of one member.
#[derive(Debug, Clone)]
struct Endpoint {
    cluster: Cluster,
    member: u64,
    calls: Arc<AtomicU64>,
}

impl Service<http::Request<Body>> for Endpoint {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self {
            cluster,
            member,
            calls,
        } = self.clone();
        calls.fetch_add(1, Ordering::Relaxed);
        async move { Ok(cluster.answer(member, request).await) }.boxed()
    }
}

impl Cluster {
    async fn answer(self, id: u64, request: http::Request<Body>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/etcdserverpb.Maintenance/Status" => {
                unary(request, |_: StatusRequest| {
                    Ok(self.with(|members| members.status(id)))
                })
                .await
            }
            "/etcdserverpb.Maintenance/Alarm" => {
                unary(request, |_: AlarmRequest| Ok(AlarmResponse::default())).await
            }
            "/etcdserverpb.Cluster/MemberList" => {
                unary(request, |_: MemberListRequest| {
                    Ok(self.with(|members| members.list()))
                })
                .await
            }
            "/etcdserverpb.Cluster/MemberAdd" => {
                unary(request, |asked: MemberAddRequest| {
                    self.with(|members| members.add(&asked))
                })
                .await
            }
            "/etcdserverpb.Cluster/MemberPromote" => {
                unary(request, |asked: MemberIdRequest| {
                    self.with(|members| members.promote(asked.id))
                })
                .await
            }
            _ => Status::unimplemented(path).into_http(),
        }
    }
}

async fn unary<Q, A>(
    request: http::Request<Body>,
    answer: impl Fn(Q) -> Result<A, Status>,
) -> http::Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    let service =
        tower::service_fn(|asked: tonic::Request<Q>| ready(answer(asked.into_inner()).map(Response::new)));
    Grpc::new(ProstCodec::<A, Q>::default())
        .unary(service, request)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_grows_by_learners() {
        let mut members = Members::default();
        let first = members.start("a", "https://a").unwrap();
        assert!(members.start("b", "https://b").is_err());
        let asked = MemberAddRequest {
            peer_urls: vec!["https://b".to_owned()],
            is_learner: true,
        };
        members.add(&asked).unwrap();
        assert!(members.add(&asked).is_err());
        let second = members.start("b", "https://b").unwrap();
        assert!(members.status(second).is_learner && members.status(second).leader == first);
        members.promote(second).unwrap();
        assert!(!members.status(second).is_learner);
        assert_eq!(members.list().members.len(), 2);
    }
}
