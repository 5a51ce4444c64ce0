//! moto's server: a process of its own on loopback, in an environment that is made once and kept.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// With hashes, so that nothing else is ever installed.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The server; it ends when this is dropped, and with the test.
pub struct Moto {
    pub url: String,
    child: Child,
}

impl Moto {
    pub async fn start() -> Self {
        // Another test of this process may have said so already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let environment = tokio::task::spawn_blocking(environment).await.unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(["python3", "-m", "moto.server"])
            .env("PYTHONPATH", environment)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self {
            url: format!("http://127.0.0.1:{port}"),
            child,
        };
        let client = reqwest::Client::new();
        for _ in 0..300 {
            if client.get(format!("{}/moto-api/", moto.url)).send().await.is_ok() {
                return moto;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("moto does not answer at {}", moto.url);
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory with moto in it, made if it is not there.
fn environment() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap();
    let key = hex::encode(Sha256::digest(REQUIREMENTS));
    let cache = skep_distro::default_cache();
    let kept = cache.join(format!("moto-{}", &key[..12]));
    if kept.exists() {
        return kept;
    }
    // Other processes may do the same at the same time: whoever is first puts it in place.
    let made = cache.join(format!("moto-{}.{}", &key[..12], std::process::id()));
    std::fs::create_dir_all(&made).unwrap();
    let requirements = made.join("requirements.txt");
    std::fs::write(&requirements, REQUIREMENTS).unwrap();
    run(Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args([
            "--root-user-action",
            "ignore",
            "--require-hashes",
            "--requirement",
        ])
        .arg(&requirements)
        .arg("--target")
        .arg(&made));
    if std::fs::rename(&made, &kept).is_err() {
        std::fs::remove_dir_all(&made).unwrap();
    }
    assert!(
        kept.join("moto").is_dir(),
        "there is no moto in {}",
        kept.display()
    );
    kept
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
