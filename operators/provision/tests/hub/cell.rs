//! Stands in for the scheduler and the cell of the one cluster that is looked at.

use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use skep_api::{CertificateRequest, TenantCluster};
use skep_testing::until;

use super::Hub;

/// Writes the status that the scheduler would.
pub async fn place_cluster(hub: &Hub, name: &str) {
    let clusters: Api<TenantCluster> = Api::namespaced(hub.cluster.admin.clone(), "project-shop");
    let status = json!({"status": {"cell": "local", "cpid": "cabcdefghi", "version": "1.36.3", "class": "small",
        "endpoint": "api.cabcdefghi.local.skep.internal", "address": "198.18.0.2:443",
        "conditions": [{"type": "Ready", "status": "True", "reason": "AsDesired", "message": "all there",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    clusters
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

/// The certificate request that comes.
pub async fn next_request(hub: &Hub) -> CertificateRequest {
    let requests = requests(hub);
    until("a certificate request comes", || async {
        requests.list(&ListParams::default()).await.ok()?.items.pop()
    })
    .await
}

/// Removes a certificate request, as the hub's janitor does.
pub async fn remove(hub: &Hub, request: &CertificateRequest) {
    let name = request.metadata.name.as_deref().unwrap();
    requests(hub)
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
}

/// Signs a certificate request with an authority of its own.
pub async fn sign(hub: &Hub, request: &CertificateRequest) {
    let now = jiff::Timestamp::now();
    let authority = skep_pki::CertificateAuthority::create("cluster-ca", now).unwrap();
    let subject = skep_pki::Subject {
        username: request.spec.username.clone(),
        groups: request.spec.groups.iter().map(|group| group.0.clone()).collect(),
    };
    let ttl = jiff::SignedDuration::from_secs(request.spec.ttl_seconds);
    let signed = authority
        .sign_request(&request.spec.request, &subject, ttl, now)
        .unwrap();
    let status = json!({"status": {"certificate": signed.as_str(),
        "certificateAuthority": authority.certificate().as_str(),
        "conditions": [{"type": "Issued", "status": "True", "reason": "AsDesired", "message": "signed",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let name = request.metadata.name.as_deref().unwrap();
    requests(hub)
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

fn requests(hub: &Hub) -> Api<CertificateRequest> {
    Api::namespaced(hub.cluster.admin.clone(), "skep-cell-local")
}
