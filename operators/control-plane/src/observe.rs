//! Reads what is there of a control plane: live, in one round of parallel requests.
//!
//! It decides nothing. Secrets are read live because a certificate authority that a cache lacks must never
//! be made anew.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use skep_api::EtcdCluster;
use skep_core::{Cpid, reasons};
use skep_runtime::{Categorised, api_category, conditions};

use crate::build::{etcd, labels::owned_selector};
use crate::validate::Program;

/// A read that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what} of {namespace}")]
pub struct ObserveError {
    what: &'static str,
    namespace: String,
    #[source]
    source: kube::Error,
}

impl Categorised for ObserveError {
    fn category(&self) -> &'static str {
        api_category(&self.source)
    }
}

/// What stands of a control plane.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The namespace.
    pub namespace: Option<Namespace>,
    /// All Secrets of the namespace by name, the etcd operator's too.
    pub secrets: BTreeMap<String, Secret>,
    /// The datastore.
    pub etcd: Option<EtcdCluster>,
    /// Our Deployments by name.
    pub deployments: BTreeMap<String, Deployment>,
    /// The Service `kube-apiserver`.
    pub service: Option<Service>,
    /// The metadata of our other children, by kind and name.
    pub others: BTreeMap<(String, String), ObjectMeta>,
    /// The address of an apiserver that answers while none is available yet.
    pub answering: Option<String>,
}

impl Observed {
    /// The metadata of one child.
    pub fn metadata_of(&self, kind: &str, name: &str) -> Option<&ObjectMeta> {
        match kind {
            "Namespace" => self.namespace.as_ref().map(|found| &found.metadata),
            "EtcdCluster" => self.etcd.as_ref().map(|found| &found.metadata),
            "Service" => self.service.as_ref().map(|found| &found.metadata),
            "Deployment" => self.deployments.get(name).map(|found| &found.metadata),
            _ => self.others.get(&(kind.to_owned(), name.to_owned())),
        }
    }

    /// The Deployment of a program.
    pub fn deployment(&self, program: Program) -> Option<&Deployment> {
        self.deployments.get(program.name())
    }

    /// How many pods of a program can take requests.
    pub fn available(&self, program: Program) -> i32 {
        let status = self.deployment(program).and_then(|found| found.status.as_ref());
        let available = status.and_then(|status| status.available_replicas).unwrap_or(0);
        match program {
            Program::ApiServer if self.answering.is_some() => available.max(1),
            _ => available,
        }
    }

    /// Whether an apiserver that starts now finds its datastore: it takes writes or is about to, and the
    /// apiserver's certificate towards it is there. Making the apiserver's pod takes as long as etcd's start, and an
    /// apiserver waits 20 seconds for its datastore (`dialTimeout` in `k8s.io/apiserver`); but of several members
    /// clients meet those alone that kubelet calls ready, and to be refused first would cost more than it saves.
    pub fn is_datastore_at_hand(&self) -> bool {
        let Some((etcd, status)) = self
            .etcd
            .as_ref()
            .and_then(|etcd| Some((etcd, etcd.status.as_ref()?)))
        else {
            return false;
        };
        let is_at_hand = conditions::find(&status.conditions, SERVING).is_some_and(|found| {
            found.status == "True" || found.reason == reasons::STARTING && etcd.spec.members == 1
        });
        is_at_hand && self.secrets.contains_key(etcd::CLIENT_SECRET)
    }
}

/// The condition of an `EtcdCluster` that says that at least one voter takes writes.
pub const SERVING: &str = "Serving";

/// Reads everything of one control plane.
///
/// # Errors
/// When any of the reads fails; absent objects are no error.
pub async fn observe(client: &Client, cpid: &Cpid) -> Result<Observed, ObserveError> {
    let name = cpid.namespace();
    let failed = |what| {
        let namespace = name.clone();
        move |source| ObserveError {
            what,
            namespace,
            source,
        }
    };
    let owned = ListParams::default().labels(&owned_selector());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &name);
    let etcds: Api<EtcdCluster> = Api::namespaced(client.clone(), &name);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &name);
    let services: Api<Service> = Api::namespaced(client.clone(), &name);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &name);
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), &name);
    let everything = ListParams::default();
    let (namespace, secrets, etcd, deployments, service, maps, budgets) = tokio::try_join!(
        async { namespaces.get_opt(&name).await.map_err(failed("the namespace")) },
        async { secrets.list(&everything).await.map_err(failed("the secrets")) },
        async { etcds.get_opt(etcd::NAME).await.map_err(failed("the datastore")) },
        async { deployments.list(&owned).await.map_err(failed("the deployments")) },
        async {
            services
                .get_opt(Program::ApiServer.name())
                .await
                .map_err(failed("the service"))
        },
        async {
            maps.list_metadata(&owned)
                .await
                .map_err(failed("the configuration"))
        },
        async {
            budgets
                .list_metadata(&owned)
                .await
                .map_err(failed("the disruption budgets"))
        },
    )?;
    let others = marks(maps.items).chain(marks(budgets.items)).collect();
    Ok(Observed {
        namespace,
        secrets: by_name(secrets.items),
        etcd,
        deployments: by_name(deployments.items),
        service,
        others,
        answering: None,
    })
}

fn by_name<K: Resource>(items: Vec<K>) -> BTreeMap<String, K> {
    items.into_iter().map(|item| (item.name_any(), item)).collect()
}

fn marks<K: Resource<DynamicType = ()>>(
    items: Vec<PartialObjectMeta<K>>,
) -> impl Iterator<Item = ((String, String), ObjectMeta)> {
    items
        .into_iter()
        .map(|item| ((K::kind(&()).into_owned(), item.name_any()), item.metadata))
}
