//! Reads and writes of one key over etcd's gRPC: the two calls that the soak's clients make.
//!
//! The messages are those of etcd's rpc.proto, as far as they are used; the crate `etcd-client` would need protoc here.

use std::time::Duration;

use anyhow::{Context, Result};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_prost::ProstCodec;

/// The header of every answer.
#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    cluster_id: u64,
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

/// A connection to one member.
pub struct Kv(Grpc<Channel>);

/// How a client shows who it is, all PEM.
pub struct Identified {
    /// The authority of the servers.
    pub authority: Vec<u8>,
    /// The client's certificate.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

impl Kv {
    /// Connects to the member at an address, whose certificate must have the name.
    ///
    /// # Errors
    /// When there is no connection in time.
    pub async fn connect(address: &str, name: &str, own: &Identified, patience: Duration) -> Result<Self> {
        let tls = ClientTlsConfig::new()
            .domain_name(name)
            .ca_certificate(Certificate::from_pem(&own.authority))
            .identity(Identity::from_pem(&own.certificate, &own.key));
        let endpoint = Endpoint::from_shared(format!("https://{address}:2379"))?
            .connect_timeout(Duration::from_secs(1))
            .timeout(patience)
            .tls_config(tls)?;
        Ok(Self(Grpc::new(endpoint.connect().await?)))
    }

    /// Writes a key and returns the revision of the write.
    ///
    /// # Errors
    /// When it was refused, or nobody knows.
    pub async fn put(&mut self, key: &str, value: &str) -> Result<i64> {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
        };
        let answer: PutResponse = self.call("/etcdserverpb.KV/Put", request).await?;
        Ok(answer.header.context("an answer without a header")?.revision)
    }

    /// Reads a key, linearizable; returns its value, empty where there is none, and the store's revision.
    ///
    /// # Errors
    /// When it was not answered.
    pub async fn get(&mut self, key: &str) -> Result<(String, i64)> {
        let request = RangeRequest { key: key.into() };
        let answer: RangeResponse = self.call("/etcdserverpb.KV/Range", request).await?;
        let value = answer
            .kvs
            .first()
            .map(|pair| String::from_utf8_lossy(&pair.value).into_owned());
        let revision = answer.header.context("an answer without a header")?.revision;
        Ok((value.unwrap_or_default(), revision))
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.0.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = self
            .0
            .unary(Request::new(request), PathAndQuery::from_static(path), codec)
            .await?;
        Ok(answer.into_inner())
    }
}
