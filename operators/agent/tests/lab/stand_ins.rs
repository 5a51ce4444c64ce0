//! What a hub and a cell do beside the agent, in a few lines each: approve and sign its certificate, run
//! control planes, sign users' requests, let records go.

use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use skep_api::{CertificateRequest, ControlPlane};
use skep_pki::{CertificateAuthority, Subject};

const FINALIZER: &str = "skep.dev/control-plane";

/// Approves and signs every signing request.
pub async fn approve(admin: Client, authority: CertificateAuthority) {
    let api: Api<CertificateSigningRequest> = Api::all(admin);
    each(api.clone(), |request| {
        let (api, authority) = (api.clone(), &authority);
        async move {
            if request
                .status
                .as_ref()
                .is_some_and(|status| status.conditions.is_some())
            {
                return;
            }
            let text = String::from_utf8(request.spec.request.0.clone()).unwrap();
            let asked = skep_pki::check_request(&text).unwrap();
            let subject = Subject {
                username: asked.common_name.unwrap(),
                groups: asked.organizations,
            };
            let ttl = jiff::SignedDuration::from_hours(1);
            let certificate = authority
                .sign_request(&text, &subject, ttl, Timestamp::now())
                .unwrap();
            let name = request.name_any();
            let approved = json!({"type": "Approved", "status": "True", "reason": "Test", "message": ""});
            let body = Patch::Merge(json!({"status": {"conditions": [approved]}}));
            let _ = api.patch_approval(&name, &PatchParams::default(), &body).await;
            let pem = ByteString(certificate.as_bytes().to_vec());
            status(&api, &name, json!({"certificate": pem})).await;
        }
    })
    .await;
}

/// Makes every control plane ready, in a namespace, and holds each by a finalizer until it is to go.
pub async fn run_control_planes(admin: Client) {
    let api: Api<ControlPlane> = Api::all(admin.clone());
    each(api.clone(), |plane| {
        let (api, admin) = (api.clone(), admin.clone());
        async move {
            let name = plane.name_any();
            let patch = |body: Value| {
                let (api, name) = (api.clone(), name.clone());
                async move { api.patch(&name, &PatchParams::default(), &Patch::Merge(body)).await.map(drop) }
            };
            if plane.metadata.deletion_timestamp.is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = patch(json!({"metadata": {"uid": plane.uid(), "finalizers": null}})).await;
                return;
            }
            if plane.finalizers().is_empty() {
                let _ = patch(json!({"metadata": {"uid": plane.uid(), "finalizers": [FINALIZER]}})).await;
            }
            let home = format!("cp-{name}");
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}});
            let params = PatchParams::apply("test").force();
            Api::<Namespace>::all(admin).patch(&home, &params, &Patch::Apply(namespace)).await.unwrap();
            let said = plane.status.as_ref().and_then(|status| status.observed_generation);
            if said != plane.metadata.generation {
                let ready = condition("Ready", plane.metadata.generation);
                let said = json!({"observedGeneration": plane.metadata.generation, "version": plane.spec.version, "conditions": [ready]});
                status(&api, &name, said).await;
            }
        }
    })
    .await;
}

/// Signs every request in a control plane's namespace.
pub async fn sign(admin: Client) {
    let all: Api<CertificateRequest> = Api::all(admin.clone());
    each(all, |request| {
        let namespace = request.namespace().unwrap();
        let api: Api<CertificateRequest> = Api::namespaced(admin.clone(), &namespace);
        async move {
            if namespace.starts_with("cp-") && request.status.is_none() {
                let answer = json!({"certificate": "signed", "conditions": [condition("Issued", None)]});
                status(&api, &request.name_any(), answer).await;
            }
        }
    })
    .await;
}

fn condition(type_: &str, generation: Option<i64>) -> Value {
    let mut condition = json!({
        "type": type_,
        "status": "True",
        "reason": "AsDesired",
        "message": "",
        "lastTransitionTime": "2026-11-01T10:00:00Z",
    });
    if let Some(generation) = generation {
        condition["observedGeneration"] = generation.into();
    }
    condition
}

async fn status<K>(api: &Api<K>, name: &str, status: Value)
where
    K: Clone + DeserializeOwned + Debug,
{
    let body = Patch::Merge(json!({"status": status}));
    let _ = api.patch_status(name, &PatchParams::default(), &body).await;
}

/// Does `work` for each object that is there or changes.
async fn each<K, F>(api: Api<K>, work: impl Fn(K) -> F)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    F: Future<Output = ()>,
{
    let events = watcher(api, watcher::Config::default())
        .default_backoff()
        .applied_objects();
    events
        .filter_map(|event| async { event.ok() })
        .map(Ok::<K, ()>)
        .try_for_each(|object| async {
            work(object).await;
            Ok(())
        })
        .await
        .unwrap();
}
