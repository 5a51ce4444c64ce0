//! How a machine is laid out, whoever it belongs to: its directories, its files, what is bound where inside, and
//! the services that make it a node. The cell's own nodes and tenants' workers add what only they have.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use skep_distro::Artifacts;

use crate::error::Error;
use crate::host::cgroup::Hierarchies;
use crate::inside::search_path;
use crate::interface::{HOST_NETNS, PLUGIN, Place};
use crate::layout::MachinePaths;
use crate::machine::{Bind, MachineConfig, Service, Sysctl, Volume};
use crate::names::{NETNS_DIR, Names, netns_path};
use crate::node::{cni, containerd, images};
use crate::state::{self, Written};

/// A node forwards for its pods, and its pods' addresses come in on no interface of their network.
const NODE_SYSCTLS: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
];

/// One machine, to be given its files and its supervisor's configuration.
pub(crate) struct MachineLayout<'a> {
    /// What it is called on the host: its directories, network namespace and cgroup.
    pub machine: &'a str,
    /// Its host name.
    pub host_name: &'a str,
    pub names: &'a Names,
    pub paths: &'a MachinePaths,
    pub hierarchies: &'a Hierarchies,
    pub artifacts: &'a Artifacts,
    pub interfaces: Option<Interfaces<'a>>,
}

/// Lets pods of a machine ask for an interface in a tenant's network.
#[derive(Clone, Copy)]
pub(crate) struct Interfaces<'a> {
    pub place: &'a Place,
    /// What runs as the plugin when it is called by the plugin's name.
    pub program: &'a Path,
}

/// What one kind of node has beside the rest.
#[derive(Default)]
pub(crate) struct Extras {
    pub binds: Vec<Bind>,
    pub volumes: Vec<Volume>,
}

/// A host directory or file that appears elsewhere inside.
pub(crate) fn bind(from: PathBuf, to: &str) -> Bind {
    Bind { from, to: to.into() }
}

impl MachineLayout<'_> {
    /// The machine's cgroup, from a hierarchy's root.
    pub(crate) fn cgroup(&self) -> String {
        self.names.machine_cgroup(self.machine)
    }

    /// Makes a node's directories and writes what its runtime and its pods read; says whether the runtime's own
    /// configuration is another now.
    pub(crate) fn prepare_node(&self) -> Result<Written, Error> {
        let paths = self.paths;
        let dirs = [
            paths.kubernetes(),
            paths.kubelet(),
            paths.pod_logs(),
            paths.container_logs(),
            paths.containerd_root(),
            paths.cni_config(),
            paths.log().to_owned(),
        ];
        for dir in dirs {
            std::fs::create_dir_all(&dir).map_err(Error::io("make", dir))?;
        }
        let own_plugins = paths.cni_bin();
        let mut cni_bin = vec![self.artifacts.cni.as_path()];
        if let Some(interfaces) = self.interfaces {
            link_program(interfaces.program, &own_plugins.join(PLUGIN))?;
            cni_bin.push(&own_plugins);
        }
        let runtime = containerd::RuntimePaths {
            root: &paths.containerd_root(),
            bin: &self.artifacts.bin,
            cni_bin,
            cni_config: &paths.cni_config(),
        };
        let pause = images::find_reference(self.artifacts, "localhost/pause:")?;
        let written = state::write_text(
            &paths.containerd_config(),
            &containerd::build_config(&runtime, pause)?,
        )?;
        for file in [paths.resolv_conf(), paths.kubelet().join("resolv.conf")] {
            state::write_text(&file, "# names of the cluster only\n")?;
        }
        Ok(written)
    }

    /// Gives the runtime its pod network; until then the node is not ready.
    pub(crate) fn write_network(&self, pods: Ipv4Net) -> Result<(), Error> {
        let file = self.paths.cni_config().join("10-skep.conflist");
        let place = self.interfaces.map(|interfaces| interfaces.place);
        state::write_text(&file, &cni::build_network(pods, place)?).map(drop)
    }

    /// Writes the names that the machine knows: its own, and others with their addresses.
    pub(crate) fn write_hosts<A: Display>(
        &self,
        others: impl IntoIterator<Item = (A, String)>,
    ) -> Result<(), Error> {
        let mut text = format!("127.0.0.1 localhost\n127.0.1.1 {}\n", self.host_name);
        for (address, name) in others {
            // Writing to a text never fails.
            let _ = writeln!(text, "{address} {name}");
        }
        state::write_text(&self.paths.hosts(), &text).map(drop)
    }

    /// Makes the machine's cgroup and writes its supervisor's configuration.
    pub(crate) fn write_config(&self, config: &MachineConfig) -> Result<(), Error> {
        self.hierarchies.make(&format!("{}/system", self.cgroup()))?;
        state::write(&self.paths.config(), config)
    }

    /// A machine that knows names and runs services.
    pub(crate) fn build_config(&self, services: Vec<Service>) -> MachineConfig {
        MachineConfig {
            name: self.host_name.to_owned(),
            netns: netns_path(self.machine),
            cgroups: self.hierarchies.dirs(&self.cgroup()),
            log: self.paths.log().to_owned(),
            binds: vec![bind(self.paths.hosts(), "/etc/hosts")],
            sysctls: Vec::new(),
            volumes: Vec::new(),
            services,
        }
    }

    /// A machine with a container runtime and a kubelet.
    pub(crate) fn build_node(&self, kubelet: Vec<String>, extras: Extras) -> MachineConfig {
        let paths = self.paths;
        let containerd = vec![
            self.artifacts.bin.join("containerd").display().to_string(),
            "--config".into(),
            paths.containerd_config().display().to_string(),
        ];
        let mut config = self.build_config(vec![
            Service {
                runs_containers: true,
                ..self.build_service("containerd", containerd)
            },
            Service {
                wait_for: vec!["/var/lib/kubelet/config.yaml".into()],
                ..self.build_service("kubelet", kubelet)
            },
        ]);
        config.binds.extend([
            bind(paths.kubernetes(), "/etc/kubernetes"),
            bind(paths.kubelet(), "/var/lib/kubelet"),
            bind(paths.pod_logs(), "/var/log/pods"),
            bind(paths.container_logs(), "/var/log/containers"),
            bind(paths.resolv_conf(), "/etc/resolv.conf"),
        ]);
        if self.interfaces.is_some() {
            config.binds.push(bind(NETNS_DIR.into(), HOST_NETNS));
        }
        config.binds.extend(extras.binds);
        config.volumes = extras.volumes;
        config.sysctls = node_sysctls();
        config
    }

    /// A service that starts at once, with the distribution's programs in its search path.
    pub(crate) fn build_service(&self, name: &str, command: Vec<String>) -> Service {
        let env = BTreeMap::from([
            ("PATH".to_owned(), search_path(&self.artifacts.bin)),
            ("HOME".to_owned(), "/root".to_owned()),
        ]);
        Service {
            name: name.to_owned(),
            command,
            env,
            wait_for: Vec::new(),
            runs_containers: false,
        }
    }
}

/// Makes a program known by another name.
fn link_program(program: &Path, link: &Path) -> Result<(), Error> {
    if std::fs::read_link(link).is_ok_and(|is| is == program) {
        return Ok(());
    }
    let dir = link.parent().unwrap_or(Path::new("/"));
    let next = link.with_extension("next");
    let made = std::fs::create_dir_all(dir).and_then(|()| {
        let _ = std::fs::remove_file(&next);
        symlink(program, &next)?;
        std::fs::rename(&next, link)
    });
    made.map_err(Error::io("make", link))
}

fn node_sysctls() -> Vec<Sysctl> {
    let sysctl = |(path, value): &(&str, &str)| Sysctl {
        path: (*path).into(),
        value: (*value).into(),
    };
    NODE_SYSCTLS.iter().map(sysctl).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;

    #[test]
    fn golden() {
        let artifacts = Artifacts {
            kubernetes: "1.36.4".into(),
            etcd: "3.6.7".into(),
            coredns: "1.14.0".into(),
            envoy: "1.37.0".into(),
            bin: "/cache/bin".into(),
            cni: "/cache/cni".into(),
            images: Vec::new(),
        };
        let paths = Layout::new("/home".as_ref()).machine("skep-cabc-1");
        let machine = MachineLayout {
            machine: "skep-cabc-1",
            host_name: "demo-1",
            names: &Names::new("skep"),
            paths: &paths,
            hierarchies: &Hierarchies::V2("/cgroups".into()),
            artifacts: &artifacts,
            interfaces: None,
        };
        let extras = Extras {
            binds: vec![bind(paths.etcd(), "/var/lib/etcd")],
            volumes: vec![Volume {
                file: "/home/volumes/0.img".into(),
                at: "/volumes/0".into(),
            }],
        };
        insta::assert_yaml_snapshot!(machine.build_node(vec!["/cache/bin/kubelet".into()], extras));
    }

    #[test]
    fn a_link_follows_its_program() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("plugins").join(PLUGIN);
        for program in ["/old/skep", "/old/skep", "/new/skep"] {
            link_program(program.as_ref(), &link).unwrap();
            assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(program));
        }
    }
}
