//! What a cell's agent gets at the hub: a namespace for its records, and the right to them and to its check-in.
//!
//! Nothing here is owned by the cell: an owner that goes would take the records along, and those the tenants.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skep_core::{CellName, GROUP, labels};

use crate::AGENT_ROLE;

/// Everything that is applied for one cell, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Children {
    /// Holds the cell's records.
    pub namespace: Namespace,
    /// The agent's right to records and requests in it.
    pub binding: RoleBinding,
    /// The agent's right to check in.
    pub check_in_role: ClusterRole,
    /// Gives it to the agent.
    pub check_in_binding: ClusterRoleBinding,
}

/// Builds everything for one cell; the agents of `registrations`, those that stand, have the rights too.
pub fn build_children(cell: &CellName, registrations: &[String]) -> Children {
    let namespace = cell.namespace();
    let user = cell.agent_user();
    let registered = registrations.iter().map(|name| cell.registered_user(name));
    let mut users: Vec<String> = std::iter::once(user.clone()).chain(registered).collect();
    users.sort();
    let subjects: Vec<Subject> = users.iter().map(|user| subject(user)).collect();
    Children {
        namespace: Namespace {
            metadata: metadata(cell, &namespace, None),
            ..Namespace::default()
        },
        binding: RoleBinding {
            metadata: metadata(cell, AGENT_ROLE, Some(&namespace)),
            role_ref: role(AGENT_ROLE),
            subjects: Some(subjects.clone()),
        },
        check_in_role: ClusterRole {
            metadata: metadata(cell, &user, None),
            rules: Some(vec![
                rule(cell, "cells", "get"),
                rule(cell, "cells/status", "patch"),
                signing_requests(),
            ]),
            aggregation_rule: None,
        },
        check_in_binding: ClusterRoleBinding {
            metadata: metadata(cell, &user, None),
            role_ref: role(&user),
            subjects: Some(subjects),
        },
    }
}

fn metadata(cell: &CellName, name: &str, namespace: Option<&str>) -> ObjectMeta {
    let pairs = [
        (labels::CELL, cell.as_str()),
        (labels::APP_PART_OF, "skep"),
        (labels::APP_MANAGED_BY, "skep-cells"),
    ];
    let labels: BTreeMap<_, _> = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}

fn rule(cell: &CellName, resource: &str, verb: &str) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![GROUP.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: Some(vec![cell.to_string()]),
        verbs: vec![verb.to_owned()],
        ..PolicyRule::default()
    }
}

/// To ask for its next certificate and fetch it; `identity` judges what is asked.
fn signing_requests() -> PolicyRule {
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(texts(&["certificates.k8s.io"])),
        resources: Some(texts(&["certificatesigningrequests"])),
        verbs: texts(&["create", "get", "watch"]),
        ..PolicyRule::default()
    }
}

fn role(name: &str) -> RoleRef {
    RoleRef {
        api_group: Some("rbac.authorization.k8s.io".to_owned()),
        kind: "ClusterRole".to_owned(),
        name: name.to_owned(),
    }
}

fn subject(user: &str) -> Subject {
    Subject {
        api_group: Some("rbac.authorization.k8s.io".to_owned()),
        kind: "User".to_owned(),
        name: user.to_owned(),
        namespace: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_as_recorded() {
        let children = build_children(&"local".parse().unwrap(), &[]);
        insta::with_settings!({snapshot_path => "../tests/golden", prepend_module_to_snapshot => false}, {
            insta::assert_yaml_snapshot!("namespace", children.namespace);
            insta::assert_yaml_snapshot!("binding", children.binding);
            insta::assert_yaml_snapshot!("check-in-role", children.check_in_role);
            insta::assert_yaml_snapshot!("check-in-binding", children.check_in_binding);
        });
    }

    #[test]
    fn registered_agents_have_the_same_rights() {
        let children = build_children(&"local".parse().unwrap(), &["rabc".to_owned()]);
        let users = |subjects: Option<Vec<Subject>>| -> Vec<String> {
            subjects
                .into_iter()
                .flatten()
                .map(|subject| subject.name)
                .collect()
        };
        let both = ["skep:cell:local", "skep:cell:local:rabc"];
        assert_eq!(users(children.binding.subjects), both);
        assert_eq!(users(children.check_in_binding.subjects), both);
    }
}
