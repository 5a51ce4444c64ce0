//! The machines of an instance: their files, and the supervisor's configuration of each.

pub(crate) mod layout;

use std::path::Path;

use skep_distro::Artifacts;

use self::layout::{Extras, Interfaces, MachineLayout, bind};
use super::{front, kubelet, patches};
use crate::cell::Cell;
use crate::command::Command;
use crate::error::Error;
use crate::host::cgroup::Hierarchies;
use crate::layout::{Layout, MachinePaths};
use crate::machine::{MachineConfig, Volume};
use crate::names::Names;
use crate::spec::Node;
use crate::state::{self, Written};

/// Where volumes are mounted inside.
const VOLUMES: &str = "/var/lib/skep/volumes";

/// What machines are made of.
pub(crate) struct Workshop<'a> {
    pub cell: &'a Cell,
    pub layout: &'a Layout,
    pub hierarchies: &'a Hierarchies,
    pub artifacts: &'a Artifacts,
    /// What lets pods into tenants' networks.
    pub interfaces: Option<Interfaces<'a>>,
}

impl Workshop<'_> {
    /// Writes a node's files and makes its volumes; changes nothing that is right. Says whether its container runtime
    /// is configured otherwise now.
    pub(crate) async fn prepare_node(&self, node: &Node) -> Result<Written, Error> {
        let (names, paths) = (self.cell.names(), self.layout.machine(&node.name));
        let machine = self.machine(&node.name, &names, &paths);
        let runtime = machine.prepare_node()?;
        let mounted = paths.mounted_volumes();
        std::fs::create_dir_all(&mounted).map_err(Error::io("make", mounted))?;
        make_private(&paths.etcd())?;
        machine.write_network(self.cell.slot.pods_of(node.index))?;
        machine.write_hosts(self.hosts())?;
        for (name, text) in patches::build_patches()? {
            state::write_text(&paths.kubeadm_patches().join(name), &text)?;
        }
        self.make_volumes(&node.name).await?;
        machine.write_config(&self.build_node(node, &machine))?;
        Ok(runtime)
    }

    /// Writes the front's files; a running proxy takes up what changed.
    pub(crate) fn prepare_front(&self) -> Result<(), Error> {
        let names = self.cell.names();
        let name = names.front();
        let paths = self.layout.machine(&name);
        let machine = self.machine(&name, &names, &paths);
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
        machine.write_hosts(self.hosts())?;
        machine.write_config(&self.build_front(&machine))
    }

    /// A machine of the instance; its host name is the machine's own.
    fn machine<'a>(&'a self, name: &'a str, names: &'a Names, paths: &'a MachinePaths) -> MachineLayout<'a> {
        MachineLayout {
            machine: name,
            host_name: name,
            names,
            paths,
            hierarchies: self.hierarchies,
            artifacts: self.artifacts,
            interfaces: self.interfaces,
        }
    }

    fn hosts(&self) -> impl Iterator<Item = (std::net::Ipv4Addr, String)> {
        self.cell
            .nodes
            .iter()
            .map(|node| (node.address, node.name.clone()))
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

    fn build_node(&self, node: &Node, machine: &MachineLayout<'_>) -> MachineConfig {
        let mounted = |number: u16| Volume {
            file: self.layout.volume_file(&node.name, number),
            at: format!("{VOLUMES}/{number}").into(),
        };
        let kubelet = kubelet::build_command(&self.artifacts.bin, node, &self.cell.region, &machine.cgroup());
        let extras = Extras {
            binds: vec![
                bind(machine.paths.etcd(), "/var/lib/etcd"),
                bind(machine.paths.mounted_volumes(), VOLUMES),
            ],
            volumes: (0..self.cell.volumes_per_node).map(mounted).collect(),
        };
        machine.build_node(kubelet, extras)
    }

    fn build_front(&self, machine: &MachineLayout<'_>) -> MachineConfig {
        let envoy = vec![
            self.artifacts.bin.join("envoy").display().to_string(),
            "--config-path".into(),
            machine.paths.dir().join("envoy.json").display().to_string(),
            // Its shared memory is named by this number, for all instances of a host.
            "--disable-hot-restart".into(),
            "--concurrency".into(),
            "1".into(),
            "--log-level".into(),
            "warning".into(),
        ];
        machine.build_config(vec![machine.build_service("envoy", envoy)])
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
