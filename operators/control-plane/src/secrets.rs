//! The Secrets of a control plane that this operator makes: their names and keys, known to all steps.
//!
//! Names alone. What is in them is made in `material`, and never leaves the cell.

/// The cluster CA: clients and serving certificates of the tenant.
pub const CLUSTER_CA: &str = "cluster-ca";
/// The CA of the front proxy (aggregated APIs).
pub const FRONT_PROXY_CA: &str = "front-proxy-ca";
/// The CA of the apiserver as client of kubelets.
pub const KUBELET_CLIENT_CA: &str = "kubelet-client-ca";
/// The CA of the way back.
pub const KONNECTIVITY_CA: &str = "konnectivity-ca";
/// The key pair that signs service-account tokens.
pub const SERVICE_ACCOUNT: &str = "service-account";
/// The key that encrypts Secrets in the datastore.
pub const AT_REST: &str = "at-rest";
/// kube-apiserver's serving certificate.
pub const API_SERVER: &str = "apiserver";
/// kube-apiserver's certificate towards kubelets.
pub const API_SERVER_KUBELET_CLIENT: &str = "apiserver-kubelet-client";
/// kube-apiserver's certificate towards aggregated APIs.
pub const FRONT_PROXY_CLIENT: &str = "front-proxy-client";
/// kube-controller-manager's kubeconfig.
pub const CONTROLLER_MANAGER_KUBECONFIG: &str = "controller-manager-kubeconfig";
/// kube-scheduler's kubeconfig.
pub const SCHEDULER_KUBECONFIG: &str = "scheduler-kubeconfig";
/// The serving certificate of the way back, towards agents.
pub const KONNECTIVITY_SERVER: &str = "konnectivity-server";
/// The kubeconfig by which the way back has agents' tokens checked, at the apiserver beside it.
pub const KONNECTIVITY_KUBECONFIG: &str = "konnectivity-kubeconfig";
/// metrics-server's serving certificate; copied into the tenant.
pub const METRICS_SERVER: &str = "metrics-server";
/// This operator's own kubeconfig, `system:masters`; it never leaves the cell.
pub const OPERATOR_KUBECONFIG: &str = "operator-kubeconfig";

/// The key of a certificate, PEM.
pub const CERTIFICATE: &str = "tls.crt";
/// The key of a private key, PEM.
pub const PRIVATE_KEY: &str = "tls.key";
/// The key of a certificate authority's certificate, PEM, beside a leaf.
pub const AUTHORITY: &str = "ca.crt";
/// The key of a kubeconfig.
pub const KUBECONFIG: &str = "value";
/// The key of the private half of the service-account keys.
pub const SERVICE_ACCOUNT_PRIVATE: &str = "sa.key";
/// The key of the public half of the service-account keys.
pub const SERVICE_ACCOUNT_PUBLIC: &str = "sa.pub";
/// The key of the encryption configuration.
pub const ENCRYPTION: &str = "encryption.yaml";
