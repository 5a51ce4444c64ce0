//! `skep etcd move`: members leave a node, each once its successor has joined elsewhere.

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use skep_api::etcd_cluster::{EtcdCluster, EtcdClusterStatus};

use super::wait::{is_ready, wait};
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
    let late = format!(
        "a member of {namespace}/{name} is still on {node}; it goes on; see `skep etcd get {namespace}/{name}`"
    );
    wait(&api, &name, context, &late, |object| Ok(is_left(object, &node))).await?;
    eprintln!("no member is on {node} any more, all serve");
    Ok(())
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

/// What is waited for: that no member is on the node and all serve.
fn is_left(object: &EtcdCluster, node: &str) -> bool {
    let status = object.status.clone().unwrap_or_default();
    is_ready(object) && status.observed_generation == object.metadata.generation && !is_used(&status, node)
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
