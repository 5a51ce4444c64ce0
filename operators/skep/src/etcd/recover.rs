//! `skep etcd recover`: a datastore whose quorum is lost is formed anew of one member, once a person has seen what is lost.

use std::io::{IsTerminal, Write};

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use skep_api::etcd_cluster::{EtcdCluster, EtcdMember, SERVING};

use super::member_row;
use super::wait::{is_ready, wait};
use crate::client::output::print_list;
use crate::client::{Context, Failure};

/// Whose data are kept, and at which revision they are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    member: String,
    revision: i64,
    /// The pods of members that do not answer, so that what they have is not known.
    unknown: Vec<String>,
    /// The pods of members that have more, and up to which revision.
    newer: Vec<(String, i64)>,
}

/// Recovers a datastore, and waits until all its members serve.
pub async fn recover(
    client: &Client,
    found: &EtcdCluster,
    member: Option<&str>,
    is_sure: bool,
    context: &Context,
) -> Result<(), Failure> {
    let plan = plan(found, member)?;
    let status = found.status.clone().unwrap_or_default();
    let rows: Vec<_> = status
        .members
        .iter()
        .map(|member| member_row(member, None))
        .collect();
    print_list(context.global.output, &rows)?;
    eprintln!("{}", describe(&plan));
    if !is_sure {
        ask(&plan)?;
    }
    let namespace = found.namespace().unwrap_or_default();
    let api: Api<EtcdCluster> = Api::namespaced(client.clone(), &namespace);
    let name = format!("recover-{}", jiff::Timestamp::now().as_second());
    // With the unique id: a namesake that was made since is another datastore.
    let patch = json!({
        "metadata": {"uid": found.uid()},
        "spec": {"restore": {"name": name, "member": plan.member, "snapshot": null, "owner": null}},
    });
    api.patch(&found.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(Failure::from_error)?;
    let full = format!("{namespace}/{}", found.name_any());
    let late = format!("{full} is not whole yet; it goes on; see `skep etcd get {full}`");
    wait(&api, &found.name_any(), context, &late, |object| {
        is_recovered(object, &name)
    })
    .await?;
    eprintln!("all members serve");
    Ok(())
}

/// Chooses the member with the newest data, or checks the one that was named.
fn plan(found: &EtcdCluster, member: Option<&str>) -> Result<Plan, Failure> {
    let name = format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any());
    let status = found.status.clone().unwrap_or_default();
    let is_serving = status
        .conditions
        .iter()
        .any(|condition| condition.type_ == SERVING && condition.status == "True");
    if is_serving {
        let text = format!("a quorum of members of {name} answers, so there is nothing to recover");
        return Err(Failure::Refused(text));
    }
    let revision = |member: &EtcdMember| Some((member.revision?, member.pod.clone()));
    let newest = status.members.iter().filter_map(revision).max();
    let chosen = match member {
        None => newest.ok_or_else(|| {
            Failure::Refused(format!(
                "no member of {name} answers; mend one, or restore a snapshot (docs/etcd.md, runbook restore)"
            ))
        })?,
        Some(wanted) => {
            let found = status.members.iter().find(|member| member.pod == wanted);
            let found = found.ok_or_else(|| Failure::NotFound(format!("{name} has no member {wanted}")))?;
            revision(found).ok_or_else(|| {
                Failure::Refused(format!(
                    "member {wanted} of {name} does not answer, so what it has is not known"
                ))
            })?
        }
    };
    let unknown = status.members.iter().filter(|member| member.revision.is_none());
    let newer = status
        .members
        .iter()
        .filter_map(revision)
        .filter(|(other, _)| *other > chosen.0);
    Ok(Plan {
        newer: newer.map(|(revision, pod)| (pod, revision)).collect(),
        unknown: unknown.map(|member| member.pod.clone()).collect(),
        revision: chosen.0,
        member: chosen.1,
    })
}

fn describe(plan: &Plan) -> String {
    let Plan {
        member,
        revision,
        unknown,
        newer,
    } = plan;
    let more = newer.iter().map(|(pod, revision)| {
        format!("{pod} HAS MORE, up to revision {revision}, AND THAT IS LOST; name it instead to keep it; ")
    });
    let more: String = more.collect();
    let loss = if unknown.is_empty() && newer.is_empty() {
        "every member answers: what none of them has was never acknowledged by a quorum of these".to_owned()
    } else if unknown.is_empty() {
        "no other member is silent".to_owned()
    } else {
        format!(
            "what only {} had after that is lost; if one of them may come back, wait for it",
            unknown.join(" and ")
        )
    };
    format!(
        "The data of {member} are kept, at revision {revision}; {more}{loss}. All other volumes are set aside. Apiservers start anew."
    )
}

fn ask(plan: &Plan) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Refused("nobody can be asked here; say --yes".to_owned()));
    }
    eprint!("Type the name of the member that is kept to begin: ");
    std::io::stderr().flush().map_err(Failure::from_error)?;
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(Failure::from_error)?;
    if line.trim() == plan.member {
        return Ok(());
    }
    Err(Failure::Refused("nothing was changed".to_owned()))
}

/// What is waited for: that this recovery is done and all members serve.
fn is_recovered(object: &EtcdCluster, recovery: &str) -> Result<bool, Failure> {
    let status = object.status.clone().unwrap_or_default();
    let is_done = status.restored.as_deref() == Some(recovery);
    if is_done && status.recovered.as_deref() != Some(recovery) {
        let text = "a quorum of members answers again, so none was given up";
        return Err(Failure::Refused(text.to_owned()));
    }
    Ok(is_done && is_ready(object))
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use skep_api::etcd_cluster::EtcdClusterStatus;

    use super::*;

    pub fn datastore(revisions: &[Option<i64>], serving: &str) -> EtcdCluster {
        let object = json!({
            "apiVersion": "skep.dev/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": "etcd", "namespace": "cp-a"},
            "spec": {"version": "3.7.3", "image": "i", "members": 3, "volumeSize": "1Gi", "storageClass": "local",
                "quotaBytes": 67_108_864, "resources": {"cpu": "1m", "memory": "1Mi", "memoryLimit": "1Mi"}},
        });
        let mut object: EtcdCluster = serde_json::from_value(object).unwrap();
        let members = ["etcd-a", "etcd-b", "etcd-c"].iter().zip(revisions);
        object.status = Some(EtcdClusterStatus {
            members: members
                .map(|(pod, revision)| EtcdMember {
                    pod: (*pod).to_owned(),
                    revision: *revision,
                    ..EtcdMember::default()
                })
                .collect(),
            conditions: vec![Condition {
                type_: SERVING.to_owned(),
                status: serving.to_owned(),
                message: String::new(),
                reason: "x".to_owned(),
                last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
                observed_generation: None,
            }],
            ..EtcdClusterStatus::default()
        });
        object
    }

    #[test]
    fn the_member_with_the_newest_data_is_kept() {
        let plan = plan(&datastore(&[Some(7), Some(9), None], "False"), None).unwrap();
        assert_eq!((plan.member.as_str(), plan.revision), ("etcd-b", 9));
        let said = describe(&plan);
        assert!(said.contains("what only etcd-c had after that is lost"), "{said}");
    }

    #[test]
    fn a_member_that_has_less_than_another_is_told_of() {
        let plan = plan(&datastore(&[Some(7), Some(9), None], "False"), Some("etcd-a")).unwrap();
        let said = describe(&plan);
        assert!(said.contains("etcd-b HAS MORE, up to revision 9"), "{said}");
        assert!(said.contains("what only etcd-c had"), "{said}");
    }

    #[test]
    fn a_quorum_is_not_given_up_and_what_is_not_known_is_not_kept() {
        let refused = |datastore: &EtcdCluster, member| plan(datastore, member).unwrap_err();
        let serving = datastore(&[Some(7), Some(9), None], "True");
        assert!(matches!(refused(&serving, None), Failure::Refused(_)));
        let silent = datastore(&[None, None, None], "False");
        assert!(matches!(refused(&silent, None), Failure::Refused(_)));
        let lost = datastore(&[Some(7), None, None], "False");
        assert!(matches!(refused(&lost, Some("etcd-b")), Failure::Refused(_)));
        assert!(matches!(refused(&lost, Some("etcd-x")), Failure::NotFound(_)));
    }
}
