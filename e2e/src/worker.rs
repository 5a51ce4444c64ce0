//! A tenant's user at work: writes and reads, one after the other, while something happens to the platform.

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use skep_runtime::client::{ClientUse, from_kubeconfig};
use tokio_util::sync::CancellationToken;

use crate::Tenant;

const OBJECT: &str = "clock";
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(200);

/// What etcd says of a proposal that its leader did not take.
const DROPPED: &str = "raft proposal dropped";
/// What the tenant's requests came to.
#[derive(Debug, Default)]
pub struct Worked {
    /// How many writes with a read after each.
    pub answered: u64,
    /// How many etcd's leaders did not take.
    pub dropped: usize,
    /// Those that failed, and why.
    pub failed: Vec<String>,
    /// The slowest, retries counted.
    pub slowest: Duration,
}

/// Asks as a well-behaved client does: again after a second, up to ten times, where the server says that it ends, as Go's
/// client does; again at once where the server has closed the connection.
///
/// A server may close a connection just when a request is sent on it. Go's client sends it again on another one, where doing
/// so is safe; ours does not. An etcd that hands its leadership over takes no proposal until that is done, and says so; the
/// API server hands that on instead of asking again.
async fn ask<T>(dropped: &mut usize, asked: impl AsyncFn() -> kube::Result<T>) -> kube::Result<T> {
    let mut attempts = 0..10;
    loop {
        match asked().await {
            Err(error @ kube::Error::Service(_)) if attempts.next().is_some() => {
                if !format!("{error:?}").contains("IncompleteMessage") {
                    return Err(error);
                }
            }
            Err(kube::Error::Api(status)) if status.code == 429 && attempts.next().is_some() => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(kube::Error::Api(status))
                if status.message.contains(DROPPED) && attempts.next().is_some() =>
            {
                *dropped += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            result => return result,
        }
    }
}

/// Writes and reads as the tenant's user until it is stopped; every answer that is no success is kept.
pub async fn work(tenant: &Tenant, stop: &CancellationToken) -> Result<Worked> {
    let objects: Api<ConfigMap> = Api::namespaced(client_of(tenant).await?, "default");
    let mut worked = Worked::default();
    let begun = Instant::now();
    while !stop.is_cancelled() {
        let number = worked.answered.to_string();
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": OBJECT}, "data": {"n": number}});
        let asked = Instant::now();
        let answer = async {
            let params = PatchParams::apply("e2e").force();
            let patch = Patch::Apply(object);
            ask(&mut worked.dropped, async || {
                objects.patch(OBJECT, &params, &patch).await
            })
            .await?;
            ask(&mut worked.dropped, async || objects.get(OBJECT).await).await
        };
        match answer.await {
            Ok(read) if read.data.as_ref().is_some_and(|data| data["n"] == number) => {}
            Ok(read) => worked
                .failed
                .push(format!("{number} was written, {:?} read", read.data)),
            Err(error) => worked
                .failed
                .push(format!("after {:?}: {error:?}", begun.elapsed())),
        }
        worked.answered += 1;
        worked.slowest = worked.slowest.max(asked.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(worked)
}

/// A client that tries nothing a second time.
async fn client_of(tenant: &Tenant) -> Result<Client> {
    let kubeconfig = tenant.kubeconfig()?;
    Ok(from_kubeconfig(kubeconfig.as_bytes(), "e2e", ClientUse::Tenant).await?)
}
