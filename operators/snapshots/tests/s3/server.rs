//! A server that speaks S3, over a directory that may be small.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skep_pki::{CertificateAuthority, LeafRequest, San};
use skep_snapshots::{Bucket, Credentials, Keys, Location, REQUEST_TIMEOUT, SnapshotId, Store};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::owner;

const ACCESS_KEY: &str = "skep";
pub const SECRET_KEY: &str = "secret-of-this-test";
const BUCKET: &str = "snapshots";
/// Where it has to run out, short enough to wait for.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(2);

/// A server over a directory; both go with it.
pub struct Server {
    process: Child,
    port: u16,
    arguments: Vec<String>,
    /// The authority of its certificate, where it has one.
    ca: Option<String>,
    pub directory: TempDir,
    keys: Keys,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    pub async fn start_with(authority: Option<&CertificateAuthority>) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), authority).await
    }

    pub async fn start_in(directory: TempDir, authority: Option<&CertificateAuthority>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let file = |name: &str| directory.path().join(name).display().to_string();
        for name in ["root/snapshots", "metadata"] {
            std::fs::create_dir_all(file(name)).unwrap();
        }
        let mut arguments = vec![format!("--port=127.0.0.1:{port}"), "--quiet".into()];
        arguments.extend([format!("--access={ACCESS_KEY}"), format!("--secret={SECRET_KEY}")]);
        if let Some(authority) = authority {
            let request = LeafRequest::server("127.0.0.1", vec![San::parse("127.0.0.1")]);
            let leaf = authority.issue(&request, Timestamp::now()).unwrap();
            std::fs::write(file("tls.crt"), leaf.certificate.as_str()).unwrap();
            std::fs::write(file("tls.key"), leaf.key.expose()).unwrap();
            arguments.extend([
                format!("--cert={}", file("tls.crt")),
                format!("--key={}", file("tls.key")),
            ]);
        }
        // Not every file system has extended attributes.
        arguments.extend([
            "posix".into(),
            format!("--sidecar={}", file("metadata")),
            file("root"),
        ]);
        Self {
            process: run(&arguments, port).await,
            port,
            arguments,
            ca: authority.map(|authority| authority.certificate().as_str().to_owned()),
            directory,
            keys: Keys::generate(),
        }
    }

    pub async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    pub async fn start_again(&mut self) {
        self.process = run(&self.arguments, self.port).await;
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub fn bucket(&self) -> Bucket {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        Bucket {
            name: BUCKET.into(),
            prefix: "cells/one".into(),
            region: "us-east-1".into(),
            endpoint: Some(format!("{scheme}://127.0.0.1:{}", self.port)),
            ca: self.ca.clone(),
        }
    }

    pub fn store(&self) -> Store {
        self.open(self.bucket(), SECRET_KEY, REQUEST_TIMEOUT)
    }

    pub fn impatient_store(&self) -> Store {
        self.open(self.bucket(), SECRET_KEY, SHORT_TIMEOUT)
    }

    pub fn open(&self, bucket: Bucket, secret_key: &str, request_timeout: Duration) -> Store {
        let credentials = Credentials {
            access_key: ACCESS_KEY.into(),
            secret_key: secret_key.into(),
        };
        let location = Location::s3(bucket).unwrap();
        Store::open(location, Some(&credentials), self.keys.clone(), request_timeout).unwrap()
    }

    pub fn file(&self, id: SnapshotId, name: &str) -> PathBuf {
        let folder = format!("root/{BUCKET}/cells/one/{}/{id}", owner());
        self.directory.path().join(folder).join(name)
    }
}

async fn run(arguments: &[String], port: u16) -> Child {
    let programs =
        std::env::var("SKEP_TEST_PROGRAMS").expect("`STAGES=unit e2e/run` sets SKEP_TEST_PROGRAMS");
    let programs: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(programs).unwrap()).unwrap();
    let program = programs["tests"]["programs"]["versitygw"]
        .as_str()
        .expect("`ensure --tests` builds versitygw");
    // The kernel ends it where the test is killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]).args(arguments);
    let process = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    for _ in 0..1000 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return process;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("versitygw never listened");
}

/// A file system of some MiB over a directory; it goes with this.
pub struct Small(PathBuf);

impl Small {
    pub fn mount(directory: &Path, mebibytes: usize) -> Self {
        let small = Self(directory.to_owned());
        small.resize("size", mebibytes);
        small
    }

    pub fn resize(&self, how: &str, mebibytes: usize) {
        let options = format!("{how}={mebibytes}m");
        let mut command = std::process::Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&self.0);
        assert!(command.status().unwrap().success(), "cannot mount");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(
            std::process::Command::new("umount")
                .arg("-l")
                .arg(&self.0)
                .status(),
        );
    }
}
