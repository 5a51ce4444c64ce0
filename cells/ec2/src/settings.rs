//! What a platform says once of all its cells on EC2.

/// Where cells are made and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Tells this platform's parts from all others in the account; the same for ever.
    pub platform: String,
    /// The image of the nodes, `ami-…`: one with containerd, kubelet and kubeadm.
    pub image: String,
    /// What nodes are where an order does not say, such as `m5.xlarge`.
    pub node_type: String,
    /// How many pods with addresses of their own each node shall have room for.
    pub pods_per_node: u32,
    /// How many virtual processors the account's quota still admits; unknown where it is not said.
    pub vcpus_left: Option<u32>,
    /// A secret of 32 bytes or more, from which the cells' join tokens are derived.
    pub join_secret: Vec<u8>,
}
