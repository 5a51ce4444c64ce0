//! The objects that tests begin with.

use skep_api::etcd_cluster::EtcdCluster;

use crate::validate::{Cluster, validate};

const THREE: &str = include_str!("../tests/fixtures/three.yaml");
const ONE: &str = include_str!("../tests/fixtures/one.yaml");

pub fn three() -> EtcdCluster {
    serde_saphyr::from_str(THREE).unwrap()
}

pub fn one() -> EtcdCluster {
    serde_saphyr::from_str(ONE).unwrap()
}

pub fn valid(object: &EtcdCluster) -> Cluster {
    validate(object).unwrap()
}
