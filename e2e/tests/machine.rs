//! What `skep up` refuses before it changes anything on the machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::path::{Path, PathBuf};

use skep_e2e::Output;
use skep_e2e::platform::run;
use tokio::process::Command;

async fn shell(program: &str, arguments: &[&str]) -> Output {
    run(Command::new(program).args(arguments), None).await.unwrap()
}

/// A file system of 64 MiB on a loop device, unmounted at the end.
struct SmallDisk {
    image: PathBuf,
    mount: PathBuf,
}

impl SmallDisk {
    async fn mount() -> Self {
        let name = format!("skep-e2e-disk-{}", std::process::id());
        let (image, mount) = (
            std::env::temp_dir().join(format!("{name}.img")),
            std::env::temp_dir().join(name),
        );
        std::fs::create_dir_all(&mount).unwrap();
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(64 << 20).unwrap();
        shell("mkfs.ext4", &["-q", image.to_str().unwrap()])
            .await
            .success()
            .unwrap();
        shell(
            "mount",
            &["-o", "loop", image.to_str().unwrap(), mount.to_str().unwrap()],
        )
        .await
        .success()
        .unwrap();
        Self { image, mount }
    }

    fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg(&self.mount).status();
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
        drop(std::fs::remove_file(&self.image));
        drop(std::fs::remove_dir(&self.mount));
    }
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_up_with_numbers() {
    let disk = SmallDisk::mount().await;
    let home = disk.path().join("home");
    let mut command = Command::new(std::env::var("SKEP").unwrap());
    command
        .args(["up"])
        .env("SKEP_HOME", &home)
        .env("SKEP_INSTANCE", "tiny");
    let output = run(&mut command, None).await.unwrap();
    assert_eq!(output.status, 1, "{output:?}");
    let last = output.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: ") && last.contains("GiB"), "{last}");
    let numbers = last
        .split(|c: char| !c.is_ascii_digit())
        .filter(|number| !number.is_empty())
        .count();
    assert!(numbers >= 2, "needed and free are told: {last}");
    let links = shell("ip", &["-o", "link"]).await.success().unwrap();
    assert!(!links.contains("tiny"), "{links}");
}

#[tokio::test]
async fn wrong_usage_is_told_with_status_2() {
    let skep = std::env::var("SKEP").unwrap();
    for arguments in [
        &["up", "--control-planes", "2"][..],
        &["cluster", "create"],
        &["nonsense"],
    ] {
        let output = shell(&skep, arguments).await;
        assert_eq!(output.status, 2, "{arguments:?}: {output:?}");
        assert!(
            output.stderr.contains("Usage") || output.stderr.contains("possible values"),
            "{}",
            output.stderr
        );
    }
}
