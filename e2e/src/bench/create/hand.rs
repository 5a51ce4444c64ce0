//! A tenant's programs started by hand: on the loopback of a network of their own, in directories that hold what
//! their containers hold, with the datastore on a file system like the tenant's.
//!
//! No container runtime, no kubelet, no operator: what is measured here is what none of them can go below.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::blueprint::{Blueprint, Directory, Program};
use super::ground::Ground;
use super::probe::{Probe, await_all};
use super::user::Credentials;
use crate::bench::memory::anonymous;

/// How long all programs may take together.
const PATIENCE: Duration = Duration::from_mins(2);
/// Binds what a program writes to, then becomes the program. Arguments: chroot, root, pairs of directories up to
/// `--`, and the command.
const ENTER: &str = r#"
set -e
chroot=$1 root=$2; shift 2
while [ "$1" != -- ]; do /bin/mount --bind "$1" "$root$2"; shift 2; done
shift
/bin/mount -t proc proc "$root/proc"
/bin/mount --rbind /dev "$root/dev"
exec "$chroot" "$root" "$@"
"#;

/// Everything that is needed to start a tenant's programs again and again.
#[derive(Debug)]
pub struct Hand {
    ground: Ground,
    blueprint: Blueprint,
    credentials: Credentials,
}

/// Programs that run.
#[derive(Debug)]
pub struct Running {
    children: Vec<(String, Child)>,
    /// From just before the datastore was started until the apiserver was ready.
    pub ready: Duration,
}

impl Hand {
    /// Lays out files and network after a tenant that runs now and need not run later.
    pub fn lay_out(blueprint: Blueprint, credentials: Credentials) -> Result<Self> {
        let ground = Ground::make(&blueprint)?;
        let hosts: Vec<&str> = blueprint.hosts.iter().map(String::as_str).collect();
        let hosts = format!("127.0.0.1 localhost {}\n", hosts.join(" "));
        for program in &blueprint.programs {
            let root = ground.root(&program.name);
            lay_out(program, &root, &hosts, &ground.programs())
                .with_context(|| format!("cannot lay out {} by hand", program.name))?;
        }
        Ok(Self {
            ground,
            blueprint,
            credentials,
        })
    }

    /// Starts datastore and apiserver on empty directories; returns when the apiserver says that it is ready.
    pub async fn start(&self) -> Result<Running> {
        self.empty()?;
        let (etcd, api_server) = (
            self.blueprint.program("etcd")?,
            self.blueprint.program("kube-apiserver")?,
        );
        let begun = Instant::now();
        let mut children = vec![self.spawn(etcd)?];
        self.await_ready(&[etcd]).await?;
        children.push(self.spawn(api_server)?);
        self.await_ready(&[api_server]).await?;
        Ok(Running {
            children,
            ready: begun.elapsed(),
        })
    }

    /// Starts the rest, and returns when all of it listens.
    pub async fn start_rest(&self, running: &mut Running) -> Result<()> {
        let started: BTreeSet<&String> = running.children.iter().map(|(name, _)| name).collect();
        let is_rest = |program: &&Program| !started.contains(&program.name);
        let rest: Vec<&Program> = self.blueprint.programs.iter().filter(is_rest).collect();
        for program in &rest {
            running.children.push(self.spawn(program)?);
        }
        self.await_ready(&rest).await
    }

    /// Gives network and file system back.
    pub fn clear(self) -> Result<()> {
        self.ground.clear()
    }

    async fn await_ready(&self, programs: &[&Program]) -> Result<()> {
        let probes = programs
            .iter()
            .filter_map(|program| Probe::of(program, &self.credentials));
        let waiting = await_all(self.ground.network(), probes.collect());
        let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
        let limit = PATIENCE.as_secs();
        tokio::time::timeout(PATIENCE, waiting).await.with_context(|| {
            format!(
                "{} by hand not ready after {limit} s; see {}",
                names.join(", "),
                self.ground.logs().display()
            )
        })?
    }

    /// Makes every directory that is written to empty.
    fn empty(&self) -> Result<()> {
        for program in &self.blueprint.programs {
            for directory in program.directories.values() {
                let directory = self.source(directory);
                for entry in fs::read_dir(&directory)? {
                    let path = entry?.path();
                    if path.file_name() == Some(OsStr::new("lost+found")) {
                        continue;
                    }
                    if path.is_dir() {
                        fs::remove_dir_all(&path)?;
                    } else {
                        fs::remove_file(&path)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn source(&self, directory: &Directory) -> PathBuf {
        match directory {
            Directory::Shared(name) => self.ground.shared(name),
            Directory::Volume => self.ground.volume(),
        }
    }

    /// Starts one program; it ends with this one, whatever becomes of it.
    fn spawn(&self, program: &Program) -> Result<(String, Child)> {
        let root = self.ground.root(&program.name);
        let log = fs::File::create(self.ground.logs().join(format!("{}.log", program.name)))?;
        let mut command = Command::new(find("nsenter")?);
        command
            .arg(format!("--net={}", self.ground.network().display()))
            .arg(find("unshare")?)
            .arg("--mount")
            .arg(find("setpriv")?)
            .args(["--pdeathsig", "KILL", "--", "/bin/sh", "-c", ENTER, "sh"])
            .arg(find("chroot")?)
            .arg(&root);
        for (at, directory) in &program.directories {
            command.arg(self.source(directory)).arg(at);
        }
        let child = command
            .arg("--")
            .args(&program.command)
            .env_clear()
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {} by hand", program.name))?;
        Ok((program.name.clone(), child))
    }
}

impl Running {
    /// The memory of each program in bytes.
    pub fn memory(&self) -> Result<Vec<(String, u64)>> {
        let of = |(name, child): &(String, Child)| {
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
            let bytes = pid.and_then(anonymous);
            Ok((
                name.clone(),
                bytes.with_context(|| format!("{name} by hand has ended"))?,
            ))
        };
        self.children.iter().map(of).collect()
    }

    /// Ends them, the last first.
    pub async fn end(mut self) -> Result<()> {
        while let Some((name, mut child)) = self.children.pop() {
            if let Some(status) = child.try_wait()? {
                bail!("{name} by hand ended before its time: {status}");
            }
            child.kill().await?;
        }
        Ok(())
    }
}

/// Makes the root directory of one program.
fn lay_out(program: &Program, root: &Path, hosts: &str, programs: &Path) -> Result<()> {
    for directory in ["proc", "dev", "etc"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::write(root.join("etc/hosts"), hosts)?;
    for at in program.directories.keys() {
        fs::create_dir_all(within(root, at)?)?;
    }
    for (at, bytes) in &program.files {
        write_private(&within(root, at)?, bytes)?;
    }
    let kept = keep_program(program, programs)?;
    let file = within(root, &program.file)?;
    fs::create_dir_all(file.parent().unwrap_or(root))?;
    fs::hard_link(kept, &file)?;
    link_command(program, root)
}

/// Keeps one copy of a program's file for all who run it, as their images do.
fn keep_program(program: &Program, programs: &Path) -> Result<PathBuf> {
    let image = PathBuf::from(format!("/proc/{}/exe", program.pid));
    let length = fs::metadata(&image)?.len();
    let name = program.file.file_name().context("a program without a name")?;
    let kept = programs.join(format!("{}-{length}", name.to_string_lossy()));
    if !kept.exists() {
        fs::copy(&image, &kept)?;
    }
    Ok(kept)
}

/// Gives the file the name that the command calls it by: programs of one file go by their names.
fn link_command(program: &Program, root: &Path) -> Result<()> {
    let command = PathBuf::from(program.command.first().context("a program without a command")?);
    let at = if command.is_absolute() {
        command
    } else {
        program.file.parent().unwrap_or(Path::new("/")).join(command)
    };
    if at == program.file {
        return Ok(());
    }
    let link = within(root, &at)?;
    fs::create_dir_all(link.parent().unwrap_or(root))?;
    Ok(symlink(&program.file, link)?)
}

/// A path inside a container as the host sees it.
fn within(root: &Path, at: &Path) -> Result<PathBuf> {
    let below = at
        .strip_prefix("/")
        .context("a path in a container is not absolute")?;
    ensure!(
        !below
            .components()
            .any(|part| part.as_os_str() == OsStr::new("..")),
        "{} leaves its root",
        at.display()
    );
    Ok(root.join(below))
}

/// Writes a file, which may be a key, for root alone.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(bytes)?)
}

/// Where one of the system's programs is.
fn find(program: &str) -> Result<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("{program} is not installed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_within_their_root() {
        let root = Path::new("/r");
        assert_eq!(
            within(root, Path::new("/etc/kubernetes")).unwrap(),
            PathBuf::from("/r/etc/kubernetes")
        );
        assert!(within(root, Path::new("/etc/../..")).is_err());
        assert!(within(root, Path::new("etc")).is_err());
    }
}
