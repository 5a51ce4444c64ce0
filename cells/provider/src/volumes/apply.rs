//! The controller's reads and writes at the API.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;

use super::{CONTROLLER, SCRUB_FAILED, VolumesError};

/// The API, as this controller uses it.
pub(super) struct Cluster {
    client: Client,
    recorder: Recorder,
    node: String,
}

impl Cluster {
    pub(super) fn new(client: Client, node: &str) -> Self {
        let reporter = Reporter {
            controller: CONTROLLER.into(),
            instance: Some(node.to_owned()),
        };
        let recorder = Recorder::new(client.clone(), reporter);
        Self {
            client,
            recorder,
            node: node.to_owned(),
        }
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    pub(super) async fn fetch_node(&self) -> Result<Node, VolumesError> {
        let nodes = Api::<Node>::all(self.client.clone());
        nodes
            .get(&self.node)
            .await
            .map_err(failed(format!("read node {}", self.node)))
    }

    /// Whether a volume object is there, whatever its labels.
    pub(super) async fn exists(&self, name: &str) -> Result<bool, VolumesError> {
        let found = self.volumes().get_metadata_opt(name).await;
        found
            .map(|found| found.is_some())
            .map_err(failed(format!("read volume {name}")))
    }

    pub(super) async fn apply_volume(&self, volume: &PersistentVolume) -> Result<(), VolumesError> {
        let name = volume.name_any();
        let params = PatchParams::apply(CONTROLLER).force();
        let applied = self.volumes().patch(&name, &params, &Patch::Apply(volume)).await;
        applied.map(drop).map_err(failed(format!("apply volume {name}")))
    }

    /// Whether the claim that a volume was bound to is no more, read now and not from a cache.
    pub(super) async fn is_claim_gone(&self, volume: &PersistentVolume) -> Result<bool, VolumesError> {
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let Some(reference) = reference else {
            return Ok(false);
        };
        let (Some(namespace), Some(name), Some(uid)) =
            (&reference.namespace, &reference.name, &reference.uid)
        else {
            return Ok(false);
        };
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        let found = claims.get_metadata_opt(name).await;
        let found = found.map_err(failed(format!("read claim {namespace}/{name}")))?;
        Ok(found
            .and_then(|claim| claim.metadata.uid)
            .is_none_or(|is| is != *uid))
    }

    /// Offers a scrubbed volume again, unless it changed since it was seen.
    pub(super) async fn release(&self, volume: &PersistentVolume) -> Result<(), VolumesError> {
        let name = volume.name_any();
        let patch = json!({
            "metadata": {
                "resourceVersion": volume.resource_version(),
                "annotations": { SCRUB_FAILED: null },
            },
            "spec": { "claimRef": null },
        });
        let patched = self
            .volumes()
            .patch(&name, &manager(), &Patch::Merge(patch))
            .await;
        patched
            .map(drop)
            .map_err(failed(format!("offer volume {name} again")))
    }

    /// Tells, on the volume, why it stays out of use.
    pub(super) async fn note_failure(
        &self,
        volume: &PersistentVolume,
        why: &str,
    ) -> Result<(), VolumesError> {
        let name = volume.name_any();
        // Told once: a changing note would wake this controller again.
        if volume
            .annotations()
            .get(SCRUB_FAILED)
            .is_some_and(|told| told == why)
        {
            return Ok(());
        }
        let patch = json!({ "metadata": { "annotations": { SCRUB_FAILED: why } } });
        let patched = self
            .volumes()
            .patch(&name, &manager(), &Patch::Merge(patch))
            .await;
        patched.map_err(failed(format!("annotate volume {name}")))?;
        let note = format!("{name} cannot be scrubbed and stays out of use: {why}");
        self.warn(&volume.object_ref(&()), "ScrubFailed", "Scrub", &note)
            .await
    }

    /// Tells, on the node, of a directory that is not offered.
    pub(super) async fn warn_node(&self, node: &Node, reason: &str, text: &str) -> Result<(), VolumesError> {
        self.warn(&node.object_ref(&()), reason, "Offer", text).await
    }

    async fn warn(
        &self,
        about: &k8s_openapi::api::core::v1::ObjectReference,
        reason: &str,
        action: &str,
        note: &str,
    ) -> Result<(), VolumesError> {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.into(),
            note: Some(note.into()),
            action: action.into(),
            secondary: None,
        };
        self.recorder
            .publish(&event, about)
            .await
            .map_err(failed("write an event"))
    }
}

fn manager() -> PatchParams {
    PatchParams {
        field_manager: Some(CONTROLLER.into()),
        ..PatchParams::default()
    }
}

fn failed(action: impl Into<String>) -> impl FnOnce(kube::Error) -> VolumesError {
    let action = action.into();
    move |source| VolumesError::Api {
        action,
        source: Box::new(source),
    }
}
