//! One call to one member: connected, bounded, and named in its errors.

use std::time::Duration;

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::{Credentials, MembersError, Target};

/// The longest that one call may take; a local member answers within milliseconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A call to one member, for its errors.
pub(super) struct Called {
    pub call: &'static str,
    pub target: String,
}

impl Called {
    pub fn refused(&self, status: Status) -> MembersError {
        MembersError::Call {
            call: self.call,
            target: self.target.clone(),
            status: Box::new(status),
        }
    }

    pub fn late(&self, timeout: Duration) -> MembersError {
        MembersError::TimedOut {
            call: self.call,
            target: self.target.clone(),
            timeout,
        }
    }
}

pub(super) async fn call<Q, A>(
    target: &Target,
    name: &'static str,
    path: &'static str,
    request: Q,
) -> Result<A, MembersError>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    call_within(CALL_TIMEOUT, target, name, path, request).await
}

pub(super) async fn call_within<Q, A>(
    timeout: Duration,
    target: &Target,
    name: &'static str,
    path: &'static str,
    request: Q,
) -> Result<A, MembersError>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let called = Called {
        call: name,
        target: target.server_name.clone(),
    };
    let bounded = tokio::time::timeout(timeout, async {
        let channel = connect(target, timeout).await?;
        let mut client = Grpc::new(channel);
        client
            .ready()
            .await
            .map_err(|source| called.refused(Status::unavailable(source.to_string())))?;
        let path = PathAndQuery::from_static(path);
        let answer = client
            .unary(Request::new(request), path, ProstCodec::<Q, A>::default())
            .await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| called.refused(status))
    });
    bounded.await.map_err(|_| called.late(timeout))?
}

pub(super) async fn connect(target: &Target, timeout: Duration) -> Result<Channel, MembersError> {
    let failed = |source| MembersError::Connect {
        target: target.server_name.clone(),
        source: Box::new(source),
    };
    let scheme = if target.credentials.is_some() {
        "https"
    } else {
        "http"
    };
    let url = format!("{scheme}://{}:{}", bracketed(&target.address), target.port);

    let endpoint = Endpoint::from_shared(url).map_err(failed)?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(timeout);
    let endpoint = match &target.credentials {
        Some(credentials) => endpoint.tls_config(tls(target, credentials)).map_err(failed)?,
        None => endpoint,
    };
    endpoint.connect().await.map_err(failed)
}

fn tls(target: &Target, credentials: &Credentials) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .domain_name(&target.server_name)
        .ca_certificate(Certificate::from_pem(&credentials.authority))
        .identity(Identity::from_pem(&credentials.certificate, &credentials.key))
}

fn bracketed(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}
