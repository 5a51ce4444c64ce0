//! A hub and a cell in one, the agent beside it with no more rights than `manifests/rbac` gives, and stand-ins
//! for what else is in a hub and a cell.

mod stand_ins;

use kube::Client;
use serde_json::{Value, json};
use skep_agent::{HubAccess, Settings};
use skep_api::DeploymentRecord;
use skep_testing::{Cluster, Options};
use tokio::task::JoinSet;

pub const CPID: &str = "cabcdefghi";
pub const HUB_NAMESPACE: &str = "skep-cell-local";

const AGENT_TOKEN: &str = "agent-of-this-test";

/// A cluster that is hub and cell at once.
pub struct Lab {
    pub cluster: Cluster,
    stand_ins: JoinSet<()>,
}

impl Lab {
    /// Starts everything but the agent; some ten seconds.
    pub async fn start() -> Self {
        let users = vec![(AGENT_TOKEN, "skep-agent")];
        let cluster = Cluster::start(&Options {
            users,
            ..Options::default()
        })
        .await;
        cluster.install_definitions().await;
        for name in [HUB_NAMESPACE, "skep-system"] {
            cluster
                .apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
                .await;
        }
        let manifests = [
            include_str!("../../../../manifests/rbac/agent.yaml"),
            include_str!("../../../../manifests/rbac/cells.yaml"),
            include_str!("../fixtures/cell.yaml"),
        ];
        for text in manifests {
            cluster.apply_manifest(text).await;
        }
        let mut lab = Self {
            cluster,
            stand_ins: JoinSet::new(),
        };
        let (admin, authority) = (lab.cluster.admin.clone(), lab.cluster.authority.clone());
        lab.stand_ins.spawn(stand_ins::approve(admin.clone(), authority));
        lab.stand_ins.spawn(stand_ins::run_control_planes(admin.clone()));
        lab.stand_ins.spawn(stand_ins::sign(admin));
        lab
    }

    /// The hub as the agent's own account reaches it.
    pub fn hub_access(&self) -> HubAccess {
        HubAccess::Account(Box::new(self.cluster.config(AGENT_TOKEN)))
    }

    /// The client of the agent's own account.
    pub fn agent_client(&self) -> Client {
        self.cluster.client(AGENT_TOKEN)
    }
}

/// How the agents of these tests run.
pub fn settings() -> Settings {
    Settings {
        cell: "local".parse().unwrap(),
        version: "0.0.1-test".into(),
        instance: None,
    }
}

/// The record of the fixtures, as the hub writes it.
pub fn record(cpid: &str) -> Value {
    let text = include_str!("../fixtures/record.yaml").replace(CPID, cpid);
    let mut record: DeploymentRecord = serde_saphyr::from_str(&text).unwrap();
    record.metadata.uid = None;
    record.metadata.generation = None;
    serde_json::to_value(record).unwrap()
}
