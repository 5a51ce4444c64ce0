//! How apiservers follow their datastore from one authority to another, and after the loss of data.
//!
//! They read whom to trust when they start: so they are made anew for each change, and the datastore, which waits before it
//! shows what another authority signed, is told once all of them are.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use skep_api::etcd_cluster::{RECOVERED_ANNOTATION, TRUST_ANNOTATION};

use super::{Children, etcd};
use crate::observe::Observed;
use crate::stage::is_rolled_out;
use crate::validate::Program;

/// Has apiservers made anew for the authorities in their Secret, and says which ones all of them trust.
///
/// They also are once their datastore was formed anew by one member: what they have seen may be gone.
pub fn follow_datastore(children: &mut Children, observed: &Observed) {
    let secret = observed.secrets.get(etcd::CLIENT_SECRET);
    let offered = secret.and_then(|secret| secret.annotations().get(TRUST_ANNOTATION));
    let status = observed.etcd.as_ref().and_then(|etcd| etcd.status.as_ref());
    let recovered = status.and_then(|status| status.recovered.as_ref());
    for (key, value) in [(TRUST_ANNOTATION, offered), (RECOVERED_ANNOTATION, recovered)] {
        if let Some(value) = value {
            annotate_api_server(children, key, value);
        }
    }
    let told = observed
        .etcd
        .as_ref()
        .and_then(|etcd| etcd.spec.client_trust.clone());
    let deployment = observed.deployment(Program::ApiServer);
    let rolled_out = deployment.filter(|found| is_rolled_out(found) && !has_ending_pods(found));
    let rolled_out = rolled_out.and_then(loaded);
    children.etcd.spec.client_trust = rolled_out.or(told);
}

fn annotate_api_server(children: &mut Children, key: &str, value: &str) {
    let is_api_server = |found: &&mut Deployment| found.name_any() == Program::ApiServer.name();
    let api_server = children.deployments.iter_mut().find(is_api_server);
    if let Some(spec) = api_server.and_then(|api_server| api_server.spec.as_mut()) {
        let metadata = spec.template.metadata.get_or_insert_default();
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(key.to_owned(), value.to_owned());
    }
}

/// A pod that ends still answers its last requests.
fn has_ending_pods(deployment: &Deployment) -> bool {
    let status = deployment.status.as_ref();
    status.and_then(|status| status.terminating_replicas).unwrap_or(0) > 0
}

fn loaded(deployment: &Deployment) -> Option<String> {
    let metadata = deployment.spec.as_ref()?.template.metadata.as_ref()?;
    metadata.annotations.as_ref()?.get(TRUST_ANNOTATION).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Stage, build_children};
    use crate::fixtures::{observed_deployment, observed_serving, tenant};

    fn offer(observed: &mut Observed, revision: &str) {
        let secret = observed.secrets.get_mut(etcd::CLIENT_SECRET).unwrap();
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(TRUST_ANNOTATION.to_owned(), revision.to_owned());
    }

    fn follow(observed: &Observed) -> (Option<String>, Option<String>) {
        let stage = Stage {
            api_servers: Some(2),
            has_controllers: true,
        };
        let mut children = build_children(&tenant(), stage);
        follow_datastore(&mut children, observed);
        (
            children.deployments.first().and_then(loaded),
            children.etcd.spec.client_trust,
        )
    }

    #[test]
    fn nothing_is_made_anew_for_a_datastore_that_never_changed_its_authority() {
        let mut observed = observed_serving();
        observed_deployment(&mut observed, Program::ApiServer, 2, 2);
        assert_eq!(follow(&observed), (None, None));
    }

    #[test]
    fn the_datastore_is_told_when_every_apiserver_was_made_anew() {
        let mut observed = observed_serving();
        observed_deployment(&mut observed, Program::ApiServer, 2, 2);
        offer(&mut observed, "one");
        assert_eq!(follow(&observed), (Some("one".into()), None));

        let deployment = observed.deployments.get_mut(Program::ApiServer.name()).unwrap();
        let template = &mut deployment.spec.as_mut().unwrap().template;
        let annotations = template
            .metadata
            .get_or_insert_default()
            .annotations
            .get_or_insert_default();
        annotations.insert(TRUST_ANNOTATION.to_owned(), "one".to_owned());
        deployment.status.as_mut().unwrap().updated_replicas = Some(1);
        assert_eq!(follow(&observed), (Some("one".into()), None));

        let mut status = |updated, ending| {
            let deployment = observed.deployments.get_mut(Program::ApiServer.name()).unwrap();
            let status = deployment.status.as_mut().unwrap();
            (status.updated_replicas, status.terminating_replicas) = (Some(updated), Some(ending));
            follow(&observed)
        };
        assert_eq!(status(2, 1), (Some("one".into()), None));
        assert_eq!(status(2, 0), (Some("one".into()), Some("one".into())));
    }

    #[test]
    fn what_the_datastore_was_told_stays_while_apiservers_are_made_anew() {
        let mut observed = observed_serving();
        observed_deployment(&mut observed, Program::ApiServer, 2, 2);
        offer(&mut observed, "two");
        observed.etcd.as_mut().unwrap().spec.client_trust = Some("one".to_owned());
        assert_eq!(follow(&observed), (Some("two".into()), Some("one".into())));
    }
    #[test]
    fn apiservers_are_made_anew_after_a_recovery() {
        let mut observed = observed_serving();
        let etcd = observed.etcd.as_mut().unwrap();
        etcd.status.get_or_insert_default().recovered = Some("one".to_owned());
        let stage = Stage {
            api_servers: Some(2),
            has_controllers: true,
        };
        let mut children = build_children(&tenant(), stage);
        follow_datastore(&mut children, &observed);
        let spec = children.deployments[0].spec.as_ref().unwrap();
        let annotations = spec
            .template
            .metadata
            .as_ref()
            .unwrap()
            .annotations
            .as_ref()
            .unwrap();
        assert_eq!(annotations[RECOVERED_ANNOTATION], "one");
    }
}
