//! `skep etcd move`: members leave a node, each once its successor has joined elsewhere.

use futures::TryStreamExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::json;
use skep_api::etcd_cluster::{EtcdCluster, EtcdClusterStatus};
use skep_core::reasons;

use crate::client::{Context, Failure};

/// Has the member on a node leave it, and waits until its successor serves and it is gone.
pub async fn relocate(
    client: &Client,
    found: &EtcdCluster,
    member: &str,
    context: &Context,
) -> Result<(), Failure> {
    let (namespace, name) = (found.namespace().unwrap_or_default(), found.name_any());
    let node = node_of(found, member)?;
    let api: Api<EtcdCluster> = Api::namespaced(client.clone(), &namespace);
    let mut avoided = found.spec.avoid_nodes.clone();
    if !avoided.contains(&node) {
        avoided.push(node.clone());
    }
    // Of the version that was read: what another has added since is not lost.
    let patch = json!({
        "metadata": {"resourceVersion": found.resource_version()},
        "spec": {"avoidNodes": avoided},
    });
    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(Failure::from_error)?;
    eprintln!(
        "spec.avoidNodes of {namespace}/{name} names {node} now; the members on it leave once their successors have joined"
    );
    let late = |_| {
        let seconds = context.global.timeout.as_secs();
        Failure::TimedOut(format!(
            "a member of {namespace}/{name} is still on {node} after {seconds} s; it goes on; see `skep etcd get {namespace}/{name}`"
        ))
    };
    tokio::time::timeout(context.global.timeout, wait(api, &name, &node))
        .await
        .map_err(late)?
}

fn node_of(found: &EtcdCluster, member: &str) -> Result<String, Failure> {
    let members = found.status.iter().flat_map(|status| &status.members);
    let known: Vec<_> = members.collect();
    let full = format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any());
    let Some(found) = known.iter().find(|other| other.pod == member) else {
        let pods: Vec<&str> = known.iter().map(|other| other.pod.as_str()).collect();
        return Err(Failure::NotFound(format!(
            "{full} has no member {member}; its members are {}",
            pods.join(", ")
        )));
    };
    found
        .node
        .clone()
        .ok_or_else(|| Failure::Refused(format!("member {member} of {full} has no node yet")))
}

/// Tells what is waited for until no member is on the node and all serve.
async fn wait(api: Api<EtcdCluster>, name: &str, node: &str) -> Result<(), Failure> {
    let mut objects = std::pin::pin!(watcher::watch_object(api, name));
    let mut said = String::new();
    while let Some(object) = objects.try_next().await.map_err(Failure::from_error)? {
        let Some(object) = object else {
            let text = format!("datastore {name} was deleted meanwhile");
            return Err(Failure::NotFound(text));
        };
        let generation = object.metadata.generation;
        let status = object.status.unwrap_or_default();
        let ready = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == reasons::READY);
        let is_whole = ready.is_some_and(|ready| ready.status == "True");
        if is_whole && status.observed_generation == generation && !is_used(&status, node) {
            eprintln!("no member is on {node} any more, all serve");
            return Ok(());
        }
        let message = ready.map(|ready| ready.message.clone()).unwrap_or_default();
        if message != said {
            eprintln!("{message}");
            said = message;
        }
    }
    Err(Failure::Other(format!("the watch of datastore {name} ended")))
}

fn is_used(status: &EtcdClusterStatus, node: &str) -> bool {
    let mut members = status.members.iter();
    members.any(|member| member.node.as_deref() == Some(node))
}

#[cfg(test)]
mod tests {
    use skep_api::etcd_cluster::EtcdMember;

    use super::super::recover::tests::datastore;
    use super::*;

    #[test]
    fn the_node_of_a_member_is_known_or_the_error_names_the_members() {
        let mut object = datastore(&[None, None, None], "True");
        let members = &mut object.status.as_mut().unwrap().members;
        members[1] = EtcdMember {
            node: Some("n".to_owned()),
            ..members[1].clone()
        };
        assert_eq!(node_of(&object, "etcd-b").unwrap(), "n");
        assert!(matches!(node_of(&object, "etcd-a"), Err(Failure::Refused(_))));
        let missing = node_of(&object, "etcd-x").unwrap_err();
        assert!(
            missing.to_string().contains("etcd-a, etcd-b, etcd-c"),
            "{missing}"
        );
    }
}
