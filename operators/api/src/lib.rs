//! The kinds of the platform, group `skep.dev/v1alpha1`: one file per kind.
//!
//! Types, schemas and admission rules only; no controller logic and no client.

pub mod cell;
pub mod cell_pool;
pub mod certificate_request;
pub mod cluster_profile;
pub mod cluster_registration;
pub mod control_plane;
pub mod deployment_record;
pub mod etcd_backup;
pub mod etcd_cluster;
pub mod etcd_drill;
pub mod etcd_restore;
pub mod registration_token;
pub mod size_class;
pub mod snapshot_store;
pub mod tenant_cluster;

pub use cell::{Cell, CellSpec, CellStatus};
pub use cell_pool::{CellPool, CellPoolSpec, CellPoolStatus, OrderMode, PoolNetwork, PoolOrder};
pub use certificate_request::{CertificateRequest, CertificateRequestSpec, CertificateRequestStatus};
pub use cluster_profile::{ClusterProfile, ClusterProfileSpec};
pub use cluster_registration::{ClusterRegistration, ClusterRegistrationSpec, ClusterRegistrationStatus};
pub use control_plane::{ControlPlane, ControlPlaneSpec, ControlPlaneStatus};
pub use deployment_record::{DeploymentRecord, DeploymentRecordSpec, DeploymentRecordStatus};
pub use etcd_backup::{EtcdBackup, EtcdBackupSpec, EtcdBackupStatus};
pub use etcd_cluster::{EtcdCluster, EtcdClusterSpec, EtcdClusterStatus};
pub use etcd_drill::{EtcdDrill, EtcdDrillSpec, EtcdDrillStatus};
pub use etcd_restore::{EtcdRestore, EtcdRestoreSpec, EtcdRestoreStatus};
pub use registration_token::{
    RegistrationScope, RegistrationToken, RegistrationTokenSpec, RegistrationTokenStatus,
};
pub use size_class::{SizeClass, SizeClassSpec};
pub use tenant_cluster::{TenantCluster, TenantClusterSpec, TenantClusterStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a tenant is spread over the zones of its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Availability {
    /// Replicas and members in three zones; the loss of one is survived.
    #[default]
    ZoneRedundant,
    /// One replica and one member; cheaper, and down while its zone is.
    Single,
}

impl Availability {
    /// How many etcd members a tenant has.
    pub fn members(self) -> i32 {
        match self {
            Self::ZoneRedundant => 3,
            Self::Single => 1,
        }
    }
}

/// A reference to the tenant cluster that something was made for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantReference {
    /// The project, which is a namespace at the hub.
    pub project: String,
    /// The name within the project.
    pub name: String,
    /// The unique id, so that a namesake made later is another one.
    pub uid: String,
}

/// Every definition that the hub and the cells install, in a stable order.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        Cell::crd(),
        CellPool::crd(),
        CertificateRequest::crd(),
        ClusterProfile::crd(),
        ClusterRegistration::crd(),
        ControlPlane::crd(),
        DeploymentRecord::crd(),
        EtcdBackup::crd(),
        EtcdCluster::crd(),
        EtcdDrill::crd(),
        EtcdRestore::crd(),
        RegistrationToken::crd(),
        SizeClass::crd(),
        TenantCluster::crd(),
    ]
}
