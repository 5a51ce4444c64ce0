//! What things of an instance are called on the host.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The longest name of a network interface.
const INTERFACE_NAME_LEN: usize = 15;

/// Names of one instance's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    instance: String,
}

impl Names {
    pub(crate) fn new(instance: &str) -> Self {
        Self {
            instance: instance.to_owned(),
        }
    }

    /// The instance of a cell that this one is the hub of.
    ///
    /// No zone or tenant's name begins with a dash, so nothing of this instance ever has a name that the cell's would own.
    pub(crate) fn cell_instance(&self, cell: &str) -> String {
        format!("{}--{cell}", self.instance)
    }

    /// The network namespace that holds the bridge and routes between pods and host.
    pub(crate) fn switch(&self) -> String {
        format!("{}-switch", self.instance)
    }

    /// The machine that runs the front proxy.
    pub(crate) fn front(&self) -> String {
        format!("{}-front", self.instance)
    }

    /// The network namespace that routes between a tenant's workers and the front.
    pub(crate) fn router(&self, cpid: &str) -> String {
        format!("{}-{cpid}", self.instance)
    }

    /// The machine of a tenant's worker.
    pub(crate) fn worker(&self, cpid: &str, index: u8) -> String {
        format!("{}-{cpid}-{index}", self.instance)
    }

    /// The host's interface towards the instance; the bridge inside has the same name.
    pub(crate) fn bridge(&self) -> String {
        interface(&format!("{}0", self.instance))
    }

    /// The bridge's port towards a machine.
    pub(crate) fn port(machine: &str) -> String {
        interface(machine)
    }

    /// The instance's cgroup, from a hierarchy's root.
    pub(crate) fn cgroup(&self) -> String {
        format!("/skep/{}", self.instance)
    }

    /// A machine's cgroup, from a hierarchy's root.
    pub(crate) fn machine_cgroup(&self, machine: &str) -> String {
        format!("/skep/{}/{machine}", self.instance)
    }

    /// Whether a network namespace is one of this instance.
    ///
    /// Another instance's name may begin with ours, so its names are told apart by `others`.
    pub(crate) fn owns_netns(&self, netns: &str, others: &[String]) -> bool {
        let of = |instance: &str| {
            netns
                .strip_prefix(instance)
                .is_some_and(|rest| rest.starts_with('-'))
        };
        of(&self.instance) && !others.iter().any(|o| o.len() > self.instance.len() && of(o))
    }
}

/// Where `ip netns` keeps its names.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// The file that names a network namespace.
pub(crate) fn netns_path(netns: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(netns)
}

/// An interface name; one that is too long keeps its head and gets a hash of the whole.
fn interface(name: &str) -> String {
    if name.len() <= INTERFACE_NAME_LEN {
        return name.to_owned();
    }
    let hash = hex::encode(Sha256::digest(name.as_bytes()));
    let head: String = name.chars().take(8).collect();
    format!("{head}-{}", &hash[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_interface_names_are_short_and_stay_apart() {
        assert_eq!(interface("skep0"), "skep0");
        assert_eq!(interface("exactly-fifteen"), "exactly-fifteen");
        let one = interface("a-rather-long-one-a-1");
        let two = interface("a-rather-long-one-a-2");
        assert_eq!(one.len(), INTERFACE_NAME_LEN);
        assert_ne!(one, two);
        assert_eq!(one, interface("a-rather-long-one-a-1"));
    }

    #[test]
    fn a_cell_owns_nothing_of_its_hub_and_the_hub_nothing_of_it() {
        let hub = Names::new("skep");
        // A cell may be called like a zone of the hub.
        let instance = hub.cell_instance("a");
        let cell = Names::new(&instance);
        for name in ["skep-a-1", "skep-switch", "skep-front"] {
            assert!(!cell.owns_netns(name, &["skep".to_owned()]), "{name}");
        }
        let registered = [instance];
        assert!(!hub.owns_netns("skep--a-switch", &registered));
        assert!(!hub.owns_netns("skep--a-a-1", &registered));
        assert!(cell.owns_netns("skep--a-a-1", &["skep".to_owned()]));
    }

    #[test]
    fn an_instance_does_not_own_its_namesakes() {
        let names = Names::new("skep");
        let others = vec!["skep-two".to_owned()];
        assert!(names.owns_netns("skep-a-1", &others));
        assert!(names.owns_netns("skep-switch", &others));
        assert!(!names.owns_netns("skep-two-a-1", &others));
        assert!(!names.owns_netns("skepper-a-1", &others));
    }
}
