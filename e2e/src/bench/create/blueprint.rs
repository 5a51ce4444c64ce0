//! What a tenant's programs are made of: read from the pods and processes of a tenant that runs.
//!
//! Command lines, environments and programs come from the running processes themselves and files from the
//! Secrets and maps that their pods mount, so that the reference follows every change of the real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, KeyToPath, Pod, Probe, Secret, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::cell;
use crate::bench::memory::Census;

/// Overrides what an etcd that has joined is told, so that it forms a cluster on an empty volume again.
const FORM_ANEW: (&str, &str) = ("ETCD_INITIAL_CLUSTER_STATE", "new");

/// One program with all that it needs.
#[derive(Debug, Clone)]
pub struct Program {
    /// The container's name.
    pub name: String,
    /// The process that it was read from.
    pub pid: i32,
    /// Where its file is inside the container.
    pub file: PathBuf,
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Files by their path inside the container.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Directories to write to, by their path inside the container.
    pub directories: BTreeMap<PathBuf, Directory>,
    /// What says that it is ready.
    pub probe: Option<Address>,
}

/// A directory that a program may write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directory {
    /// Empty at first, and shared by the pod's containers under this name.
    Shared(String),
    /// The pod's volume.
    Volume,
}

/// Where a program says that it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Whether it speaks TLS.
    pub is_secure: bool,
    /// The port.
    pub port: u16,
    /// The path.
    pub path: String,
}

/// A tenant's programs.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// In the order in which they are started.
    pub programs: Vec<Program>,
    /// The addresses that the pods have.
    pub addresses: BTreeSet<String>,
    /// The names in the tenant's own domain that occur anywhere; all are served by these programs.
    pub hosts: BTreeSet<String>,
}

impl Blueprint {
    /// Reads a running tenant.
    pub async fn read(client: &Client, cpid: &str) -> Result<Self> {
        let pods = cell::tenant_pods(client, cpid).await?;
        let sources = Sources::fetch(client, &cell::namespace(cpid)).await?;
        let census = Census::take()?;
        let mut programs = Vec::new();
        for pod in &pods {
            for container in cell::running(pod) {
                let pid = census.first_process(&container.id).with_context(|| {
                    format!("container {} has no process on this machine", container.name)
                })?;
                programs.push(Program::read(pod, &container.name, pid, &sources)?);
            }
        }
        programs.sort_by_key(|program| (order(&program.name), program.name.clone()));
        let addresses = pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone());
        let texts = programs.iter().flat_map(Program::texts);
        let hosts = texts.flat_map(|text| hosts_in(&text, cpid)).collect();
        Ok(Self {
            addresses: addresses.collect(),
            hosts,
            programs,
        })
    }

    /// A program by its name.
    pub fn program(&self, name: &str) -> Result<&Program> {
        let found = self.programs.iter().find(|program| program.name == name);
        found.with_context(|| format!("the tenant has no container {name}"))
    }
}

/// Datastore, then apiserver, then the rest, as a control plane is brought up.
fn order(name: &str) -> u8 {
    match name {
        "etcd" => 0,
        "kube-apiserver" => 1,
        _ => 2,
    }
}

/// Everything that looks like a host name and has the control plane's identity in it.
fn hosts_in(text: &str, cpid: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    text.split(|c| !is_part(c))
        .map(|token| token.trim_matches('.'))
        .filter(|token| token.contains(cpid) && token.contains('.'))
        .map(str::to_owned)
        .collect()
}

impl Program {
    fn read(pod: &Pod, name: &str, pid: i32, sources: &Sources) -> Result<Self> {
        let spec = pod.spec.as_ref().context("a pod has no spec")?;
        let all = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten());
        let container = all
            .into_iter()
            .find(|container| container.name == name)
            .with_context(|| format!("{} has no container {name}", pod.name_any()))?;
        let process = PathBuf::from(format!("/proc/{pid}"));
        let mut program = Self {
            name: name.to_owned(),
            pid,
            file: std::fs::read_link(process.join("exe"))?,
            command: strings(&process.join("cmdline"))?,
            environment: environment(&process.join("environ"))?,
            files: BTreeMap::new(),
            directories: BTreeMap::new(),
            probe: container
                .readiness_probe
                .as_ref()
                .or(container.startup_probe.as_ref())
                .and_then(|probe| address(container, probe)),
        };
        for mount in container.volume_mounts.iter().flatten() {
            let volume = spec
                .volumes
                .iter()
                .flatten()
                .find(|volume| volume.name == mount.name)
                .with_context(|| format!("{} has no volume {}", pod.name_any(), mount.name))?;
            if mount.sub_path.is_some() {
                bail!(
                    "{name} mounts a part of volume {}, which is not done by hand",
                    mount.name
                );
            }
            program.add(pod, volume, Path::new(&mount.mount_path), sources)?;
        }
        Ok(program)
    }

    fn add(&mut self, pod: &Pod, volume: &Volume, at: &Path, sources: &Sources) -> Result<()> {
        if volume.empty_dir.is_some() {
            let name = format!("{}-{}", pod.name_any(), volume.name);
            self.directories.insert(at.to_owned(), Directory::Shared(name));
        } else if volume.persistent_volume_claim.is_some() {
            self.directories.insert(at.to_owned(), Directory::Volume);
        } else {
            let files = sources
                .files(volume)
                .with_context(|| format!("volume {} of {} cannot be made by hand", volume.name, self.name))?;
            self.files
                .extend(files.into_iter().map(|(path, bytes)| (at.join(path), bytes)));
        }
        Ok(())
    }

    /// Everything in it that may name a host.
    fn texts(&self) -> Vec<String> {
        let command = self
            .command
            .iter()
            .map(|part| part.to_string_lossy().into_owned());
        let environment = self
            .environment
            .iter()
            .map(|(_, value)| value.to_string_lossy().into_owned());
        let files = self
            .files
            .values()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        command.chain(environment).chain(files).collect()
    }
}

/// Strings of one of `/proc`'s files, which end with a zero each.
fn strings(path: &Path) -> Result<Vec<OsString>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parts = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    Ok(parts
        .split(|byte| *byte == 0)
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect())
}

fn environment(path: &Path) -> Result<Vec<(OsString, OsString)>> {
    let pairs = strings(path)?.into_iter().filter_map(|pair| {
        let bytes = pair.into_vec();
        let at = bytes.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (bytes.get(..at)?, bytes.get(at + 1..)?);
        Some((
            OsString::from_vec(name.to_vec()),
            OsString::from_vec(value.to_vec()),
        ))
    });
    let (name, value) = FORM_ANEW;
    Ok(pairs
        .map(|(key, old)| {
            let value = if key == name { value.into() } else { old };
            (key, value)
        })
        .collect())
}

fn address(container: &Container, probe: &Probe) -> Option<Address> {
    let get = probe.http_get.as_ref()?;
    let number = match &get.port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten();
            named
                .filter(|port| port.name.as_ref() == Some(name))
                .map(|port| port.container_port)
                .next()?
        }
    };
    Some(Address {
        is_secure: get.scheme.as_deref() == Some("HTTPS"),
        port: u16::try_from(number).ok()?,
        path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
    })
}

/// The Secrets and maps of a namespace, by name.
#[derive(Debug, Default)]
struct Sources {
    secrets: BTreeMap<String, Files>,
    maps: BTreeMap<String, Files>,
}

type Files = BTreeMap<String, Vec<u8>>;

impl Sources {
    async fn fetch(client: &Client, namespace: &str) -> Result<Self> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let secrets = secrets
            .list(&ListParams::default())
            .await?
            .into_iter()
            .map(|secret| {
                let data = secret.data.clone().unwrap_or_default().into_iter();
                (
                    secret.name_any(),
                    data.map(|(key, ByteString(bytes))| (key, bytes)).collect(),
                )
            });
        let maps = maps.list(&ListParams::default()).await?.into_iter().map(|map| {
            let data = map.data.clone().unwrap_or_default().into_iter();
            (
                map.name_any(),
                data.map(|(key, text)| (key, text.into_bytes())).collect(),
            )
        });
        Ok(Self {
            secrets: secrets.collect(),
            maps: maps.collect(),
        })
    }

    /// The files of a volume, by their path in it.
    fn files(&self, volume: &Volume) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.as_deref().unwrap_or_default();
            return chosen(&self.secrets, name, secret.items.as_deref());
        }
        if let Some(map) = &volume.config_map {
            return chosen(&self.maps, &map.name, map.items.as_deref());
        }
        let projected = volume.projected.as_ref().context("it is of an unknown kind")?;
        let mut files = BTreeMap::new();
        for source in projected.sources.iter().flatten() {
            files.extend(self.projected(source)?);
        }
        Ok(files)
    }

    fn projected(&self, source: &VolumeProjection) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        if let Some(secret) = &source.secret {
            chosen(&self.secrets, &secret.name, secret.items.as_deref())
        } else if let Some(map) = &source.config_map {
            chosen(&self.maps, &map.name, map.items.as_deref())
        } else {
            bail!("it projects something of an unknown kind")
        }
    }
}

/// The files of one source, all or those that are chosen, by their path in the volume.
fn chosen(
    all: &BTreeMap<String, Files>,
    name: &str,
    items: Option<&[KeyToPath]>,
) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let files = all.get(name).with_context(|| format!("{name} is not there"))?;
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(files
            .iter()
            .map(|(key, bytes)| (PathBuf::from(key), bytes.clone()))
            .collect());
    };
    items
        .iter()
        .map(|item| {
            let bytes = files
                .get(&item.key)
                .with_context(|| format!("{name} has no {}", item.key))?;
            Ok((PathBuf::from(&item.path), bytes.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hosts_of_the_tenant_are_found_wherever_they_stand() {
        let text =
            "--etcd-servers=https://etcd-client.cp-cabc.svc:2379 server: \"https://x.cp-cabc.svc\" cabc";
        let found = hosts_in(text, "cabc");
        assert_eq!(
            found,
            BTreeSet::from(["etcd-client.cp-cabc.svc".into(), "x.cp-cabc.svc".into()])
        );
    }

    #[test]
    fn a_projected_volume_holds_the_chosen_files() {
        let files = BTreeMap::from([("tls.crt".to_owned(), vec![1]), ("tls.key".to_owned(), vec![2])]);
        let sources = Sources {
            secrets: BTreeMap::from([("ca".to_owned(), files)]),
            maps: BTreeMap::new(),
        };
        let volume = |name: &str| -> Volume {
            serde_json::from_value(json!({"name": "pki", "projected": {"sources": [
                {"secret": {"name": name, "items": [{"key": "tls.crt", "path": "ca/tls.crt"}]}}]}}))
            .unwrap()
        };
        assert_eq!(
            sources.files(&volume("ca")).unwrap(),
            BTreeMap::from([("ca/tls.crt".into(), vec![1])])
        );
        assert!(sources.files(&volume("gone")).is_err());
    }

    #[test]
    fn a_probe_of_a_named_port_is_found() {
        let container: Container = serde_json::from_value(json!({"name": "c",
            "ports": [{"name": "https", "containerPort": 6443}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "https", "scheme": "HTTPS"}}}))
        .unwrap();
        let found = address(&container, container.readiness_probe.as_ref().unwrap());
        let wanted = Address {
            is_secure: true,
            port: 6443,
            path: "/readyz".into(),
        };
        assert_eq!(found, Some(wanted));
    }
}
