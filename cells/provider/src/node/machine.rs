//! The machines of an instance: their files, and the supervisor's configuration of each.

use std::collections::BTreeMap;
use std::path::Path;

use skep_distro::Artifacts;

use super::{cni, containerd, front, images, kubelet, patches};
use crate::cell::Cell;
use crate::command::Command;
use crate::error::Error;
use crate::host::cgroup::Hierarchies;
use crate::inside::search_path;
use crate::layout::{Layout, MachinePaths};
use crate::machine::{Bind, MachineConfig, Service, Sysctl, Volume};
use crate::names::netns_path;
use crate::spec::Node;
use crate::state;

/// Where volumes are mounted inside.
const VOLUMES: &str = "/var/lib/skep/volumes";

/// A node forwards for its pods, and its pods' addresses come in on no interface of their network.
const NODE_SYSCTLS: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
];

/// The settings of every node machine.
pub(crate) fn node_sysctls() -> Vec<Sysctl> {
    let sysctl = |(path, value): &(&str, &str)| Sysctl {
        path: (*path).into(),
        value: (*value).into(),
    };
    NODE_SYSCTLS.iter().map(sysctl).collect()
}

/// What machines are made of.
pub(crate) struct Workshop<'a> {
    pub cell: &'a Cell,
    pub layout: &'a Layout,
    pub hierarchies: &'a Hierarchies,
    pub artifacts: &'a Artifacts,
}

impl Workshop<'_> {
    /// Writes a node's files and makes its volumes; changes nothing that is right.
    pub(crate) async fn prepare_node(&self, node: &Node) -> Result<(), Error> {
        let paths = self.layout.machine(&node.name);
        let dirs = [
            paths.kubernetes(),
            paths.kubelet(),
            paths.pod_logs(),
            paths.container_logs(),
            paths.mounted_volumes(),
            paths.containerd_root(),
            paths.log().to_owned(),
        ];
        for dir in dirs {
            std::fs::create_dir_all(&dir).map_err(Error::io("make", dir))?;
        }
        make_private(&paths.etcd())?;
        let runtime = containerd::RuntimePaths {
            root: &paths.containerd_root(),
            bin: &self.artifacts.bin,
            cni_bin: &self.artifacts.cni,
            cni_config: &paths.cni_config(),
        };
        let pause = images::find_reference(self.artifacts, "localhost/pause:")?;
        let network = cni::build_network(self.cell.slot.pods_of(node.index))?;
        state::write_text(
            &paths.containerd_config(),
            &containerd::build_config(&runtime, pause)?,
        )?;
        state::write_text(&paths.cni_config().join("10-skep.conflist"), &network)?;
        for file in [paths.resolv_conf(), paths.kubelet().join("resolv.conf")] {
            state::write_text(&file, "# names of the cluster only\n")?;
        }
        self.write_hosts(&paths, &node.name)?;
        for (name, text) in patches::build_patches()? {
            state::write_text(&paths.kubeadm_patches().join(name), &text)?;
        }
        self.make_volumes(&node.name).await?;
        let config = self.build_node(node, &paths);
        self.write_config(&paths, &config)
    }

    /// Writes the front's files; a running proxy takes up what changed.
    pub(crate) fn prepare_front(&self) -> Result<(), Error> {
        let name = self.cell.names().front();
        let paths = self.layout.machine(&name);
        std::fs::create_dir_all(paths.log()).map_err(Error::io("make", paths.log()))?;
        let files = front::build_files(
            paths.dir(),
            &self.cell.instance,
            self.cell.slot.front(),
            &self.cell.nodes,
        )?;
        for (file, text) in files {
            state::write_text(&paths.dir().join(file), &text)?;
        }
        self.write_hosts(&paths, &name)?;
        let config = self.build_front(&name, &paths);
        self.write_config(&paths, &config)
    }

    fn write_config(&self, paths: &MachinePaths, config: &MachineConfig) -> Result<(), Error> {
        self.hierarchies.make(&format!(
            "{}/system",
            self.cell.names().machine_cgroup(&config.name)
        ))?;
        state::write(&paths.config(), config)
    }

    fn write_hosts(&self, paths: &MachinePaths, name: &str) -> Result<(), Error> {
        let others = self.cell.nodes.iter().map(|node| {
            format!(
                "{} {}
",
                node.address, node.name
            )
        });
        let own = format!(
            "127.0.0.1 localhost
127.0.1.1 {name}
"
        );
        let text: String = std::iter::once(own).chain(others).collect();
        state::write_text(&paths.hosts(), &text).map(drop)
    }

    /// Makes the sparse backing files that are missing.
    async fn make_volumes(&self, node: &str) -> Result<(), Error> {
        for number in 0..self.cell.volumes_per_node {
            let file = self.layout.volume_file(node, number);
            if file.exists() {
                continue;
            }
            let next = file.with_extension("next");
            let dir = self.layout.volumes().join(node);
            std::fs::create_dir_all(&dir).map_err(Error::io("make", dir))?;
            let made =
                std::fs::File::create(&next).and_then(|f| f.set_len(file_bytes(self.cell.volume_bytes)));
            made.map_err(Error::io("make", &next))?;
            Command::new("mkfs.ext4")
                .args([
                    "-q",
                    "-F",
                    "-m",
                    "0",
                    "-i",
                    "32768",
                    "-O",
                    "^resize_inode",
                    "-J",
                    "size=16",
                ])
                .args([
                    "-E",
                    "lazy_itable_init=1,lazy_journal_init=1,nodiscard,packed_meta_blocks=1",
                ])
                .arg(&next)
                .run()
                .await?;
            std::fs::rename(&next, &file).map_err(Error::io("move into place", file))?;
        }
        Ok(())
    }

    fn build_node(&self, node: &Node, paths: &MachinePaths) -> MachineConfig {
        let bind = |from: std::path::PathBuf, to: &str| Bind { from, to: to.into() };
        let cgroup = self.cell.names().machine_cgroup(&node.name);
        let mounted = |number: u16| Volume {
            file: self.layout.volume_file(&node.name, number),
            at: format!("{VOLUMES}/{number}").into(),
        };
        let containerd = vec![
            self.artifacts.bin.join("containerd").display().to_string(),
            "--config".into(),
            paths.containerd_config().display().to_string(),
        ];
        let kubelet = kubelet::build_command(&self.artifacts.bin, node, &self.cell.region, &cgroup);
        MachineConfig {
            name: node.name.clone(),
            netns: netns_path(&node.name),
            cgroups: self.hierarchies.dirs(&cgroup),
            log: paths.log().to_owned(),
            binds: vec![
                bind(paths.kubernetes(), "/etc/kubernetes"),
                bind(paths.kubelet(), "/var/lib/kubelet"),
                bind(paths.etcd(), "/var/lib/etcd"),
                bind(paths.pod_logs(), "/var/log/pods"),
                bind(paths.container_logs(), "/var/log/containers"),
                bind(paths.mounted_volumes(), VOLUMES),
                bind(paths.hosts(), "/etc/hosts"),
                bind(paths.resolv_conf(), "/etc/resolv.conf"),
            ],
            sysctls: node_sysctls(),
            volumes: (0..self.cell.volumes_per_node).map(mounted).collect(),
            services: vec![
                Service {
                    runs_containers: true,
                    ..self.service("containerd", containerd, Vec::new())
                },
                self.service("kubelet", kubelet, vec!["/var/lib/kubelet/config.yaml".into()]),
            ],
        }
    }

    fn build_front(&self, name: &str, paths: &MachinePaths) -> MachineConfig {
        let envoy = vec![
            self.artifacts.bin.join("envoy").display().to_string(),
            "--config-path".into(),
            paths.dir().join("envoy.json").display().to_string(),
            // Its shared memory is named by this number, for all instances of a host.
            "--disable-hot-restart".into(),
            "--concurrency".into(),
            "1".into(),
            "--log-level".into(),
            "warning".into(),
        ];
        MachineConfig {
            name: name.to_owned(),
            netns: netns_path(name),
            cgroups: self.hierarchies.dirs(&self.cell.names().machine_cgroup(name)),
            log: paths.log().to_owned(),
            binds: vec![Bind {
                from: paths.hosts(),
                to: "/etc/hosts".into(),
            }],
            sysctls: Vec::new(),
            volumes: Vec::new(),
            services: vec![self.service("envoy", envoy, Vec::new())],
        }
    }

    fn service(&self, name: &str, command: Vec<String>, wait_for: Vec<std::path::PathBuf>) -> Service {
        let env = BTreeMap::from([
            ("PATH".to_owned(), search_path(&self.artifacts.bin)),
            ("HOME".to_owned(), "/root".to_owned()),
        ]);
        Service {
            name: name.to_owned(),
            command,
            env,
            wait_for,
            runs_containers: false,
        }
    }
}

/// How large a backing file must be for its file system to hold as much: inodes take a 128th of it,
/// the journal and the rest less than 32 MiB.
fn file_bytes(volume_bytes: u64) -> u64 {
    volume_bytes + volume_bytes / 64 + (32 << 20)
}

/// Makes a directory that only root may enter; etcd insists on it.
fn make_private(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::io("make", dir))?;
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(dir, mode).map_err(Error::io("set the permissions of", dir))
}
