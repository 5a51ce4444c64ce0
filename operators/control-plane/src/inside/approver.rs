//! Answers kubelets' requests for serving certificates in one tenant.
//!
//! It approves and denies; the tenant's controller manager signs.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use skep_core::Cpid;
use skep_runtime::conditions::to_second;
use skep_runtime::error::chain;

use super::verdict::{SIGNER, Verdict, judge, node_of};

/// A node that has just joined tells its addresses within seconds.
const NODE_PERIOD: Duration = Duration::from_secs(1);
/// How often a node is looked for before its request is left to the next listing; a kubelet asks again, too.
const NODE_TRIES: u32 = 30;

/// Answers requests for as long as it is polled.
pub async fn approve(cpid: &Cpid, client: Client) {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let config = watcher::Config::default().fields(&format!("spec.signerName={SIGNER}"));
    let events = watcher(requests, config).default_backoff().applied_objects();
    events
        .into_stream()
        .for_each_concurrent(8, |event| {
            let client = client.clone();
            async move {
                match event {
                    Ok(request) => answer(cpid, &client, &request).await,
                    Err(error) => {
                        tracing::debug!(%cpid, error = chain(&error), "cannot watch kubelets' requests");
                    }
                }
            }
        })
        .await;
}

async fn answer(cpid: &Cpid, client: &Client, request: &CertificateSigningRequest) {
    let Some(name) = node_of(request) else { return };
    let (nodes, mut tries): (Api<Node>, _) = (Api::all(client.clone()), 0);
    let verdict = loop {
        let node = match nodes.get_opt(name).await {
            Ok(node) => node,
            Err(error) => {
                tracing::debug!(%cpid, name, error = chain(&error), "cannot read a node");
                None
            }
        };
        match judge(request, node.as_ref()) {
            Verdict::Later if tries < NODE_TRIES => tries += 1,
            verdict => break verdict,
        }
        tokio::time::sleep(NODE_PERIOD).await;
    };
    let (type_, reason, message) = match verdict {
        Verdict::Nothing | Verdict::Later => return,
        Verdict::Approve => (
            "Approved",
            "NodeAddresses",
            "the names and addresses are the node's own".to_owned(),
        ),
        Verdict::Deny(why) => ("Denied", "NotTheNodes", why),
    };
    let condition = CertificateSigningRequestCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.clone()),
        last_update_time: Some(Time(to_second(Timestamp::now()))),
        last_transition_time: None,
    };
    // The version makes sure that nothing was decided meanwhile.
    let patch = json!({
        "metadata": {"resourceVersion": request.resource_version()},
        "status": {"conditions": [condition]},
    });
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let patched = requests
        .patch_approval(
            &request.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await;
    match patched {
        Ok(_) => {
            tracing::info!(%cpid, node = name, answer = type_, message, "a kubelet's request was answered");
        }
        // The next event of the watch brings what stands by then.
        Err(error) => {
            tracing::warn!(%cpid, node = name, error = chain(&error), "cannot answer a kubelet's request");
        }
    }
}
