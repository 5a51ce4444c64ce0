//! A snapshot of a large database and its restore: as the operator does both, beside etcd's own tools by hand.
//!
//! Both ask the same member and write to the same disk; the operator's is also encrypted, checked and read back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::sync;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skep_api::snapshot_store::SnapshotStore;
use skep_etcd::members::{GrpcMembers, Members, Target};
use skep_etcd::restore::{BUMP, Job, Member, Restored, restore};
use skep_snapshots::{About, Keys, Location, Manifest, Owner, REQUEST_TIMEOUT, Store};
use skep_testing::binaries;
use tokio::process::Command;

use super::puts::{Cluster, connect};
use super::{CLUSTER, Settings, VERSION, pair};
use crate::bench::load::Quiet;
use crate::bench::{Bound, Figure, Report, Spread};
use crate::soak::etcd::stage::{Site, Size, Stage};

const NAMESPACE: &str = "large";
/// Room for more than twice the usual gigabyte.
const SIZE: Size = Size {
    volume: "8Gi",
    quota_bytes: 3 << 30,
    heap: "2GiB",
};
/// Who fill the database, at the same time.
const CLIENTS: usize = 8;
/// The bytes of values, in turn.
const VALUES: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
/// The longest that one put may take while the database is filled.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the operator does takes at most so many times as long as by hand.
const MOST_TIME: f64 = 1.1;
/// The member that data are restored for; it never starts.
const NAME: &str = "restored";
const PEER_URL: &str = "https://127.0.0.1:2380";

/// Adds the figures.
pub async fn add(report: &mut Report, stage: &Stage, settings: &Settings, quiet: &mut Quiet) -> Result<()> {
    let mut site = Site::open_sized(stage, NAMESPACE, 1, VERSION, None, SIZE).await?;
    site.wait_until_whole(1).await.context("it was never formed")?;
    let credentials = Arc::new(pair::credentials(stage, NAMESPACE).await?);
    let addresses = pair::addresses(&pair::pods(stage, NAMESPACE).await?);
    let cluster = Cluster::new(&addresses, NAMESPACE, &credentials);
    let (member, _) = cluster.leader().await.context("there is no leader")?;
    fill(member, settings.snapshot_bytes).await?;
    let bench = Bench::prepare(stage.directory.join("snapshots"), member)?;
    let mut times = Times::default();
    for round in 0..settings.snapshots {
        sync();
        quiet.wait("a pair of snapshots").await?;
        let manifest = bench.pair(round % 2 == 0, &mut times).await?;
        let bytes = usize::try_from(manifest.bytes)?;
        ensure!(
            bytes >= settings.snapshot_bytes,
            "the snapshot has {bytes} bytes only"
        );
    }
    std::fs::remove_dir_all(&bench.directory)?;
    site.delete().await?;
    site.close()?;
    times.add(report, settings.snapshot_bytes / 1_000_000)
}

/// Puts values until they have so many bytes together.
async fn fill(member: &Target, bytes: usize) -> Result<()> {
    let clients = (0..CLIENTS).map(|client| fill_part(member, client, bytes / CLIENTS + 1));
    futures::future::try_join_all(clients).await?;
    Ok(())
}

async fn fill_part(member: &Target, client: usize, bytes: usize) -> Result<()> {
    let mut etcd = connect(member, PATIENCE).await?;
    let noise = noise(u64::try_from(client)?);
    let mut left = bytes;
    for (number, size) in VALUES.into_iter().cycle().enumerate() {
        if left == 0 {
            break;
        }
        let key = format!("large/{client}/{number}");
        etcd.put(&key, &noise[..size]).await.context("a put failed")?;
        left = left.saturating_sub(size);
    }
    Ok(())
}

/// A text of the largest value that hardly repeats itself.
fn noise(seed: u64) -> String {
    let mut chance = StdRng::seed_from_u64(seed);
    let letters = (0..VALUES[VALUES.len() - 1]).map(|_| char::from(chance.random_range(b'a'..=b'z')));
    letters.collect()
}

/// A member whose snapshots are taken, a store for them, and a directory for all files.
struct Bench {
    directory: PathBuf,
    member: Target,
    keys: Keys,
    store: Store,
    owner: Owner,
}

impl Bench {
    fn prepare(directory: PathBuf, member: &Target) -> Result<Self> {
        let objects = directory.join("store");
        std::fs::create_dir_all(&objects)?;
        let credentials = member.credentials.as_ref().context("a member without TLS")?;
        std::fs::write(directory.join("ca.crt"), &credentials.authority)?;
        std::fs::write(directory.join("tls.crt"), &credentials.certificate)?;
        std::fs::write(directory.join("tls.key"), &credentials.key)?;
        let keys = Keys::generate();
        let store = Store::open(
            Location::directory(&objects)?,
            None,
            keys.clone(),
            REQUEST_TIMEOUT,
        )?;
        Ok(Self {
            directory,
            member: member.clone(),
            keys,
            store,
            owner: Owner::new("bench")?,
        })
    }

    /// A snapshot each way and a restore each way, ours first or last; says what our snapshot was.
    async fn pair(&self, is_ours_first: bool, times: &mut Times) -> Result<Manifest> {
        let manifest = if is_ours_first {
            let manifest = self.write(times).await?;
            self.save_by_hand(times).await?;
            self.restore(&manifest, times).await?;
            self.restore_by_hand(times).await?;
            manifest
        } else {
            self.save_by_hand(times).await?;
            let manifest = self.write(times).await?;
            self.restore_by_hand(times).await?;
            self.restore(&manifest, times).await?;
            manifest
        };
        self.store.delete(&self.owner, manifest.about.id()).await?;
        std::fs::remove_file(self.plain())?;
        Ok(manifest)
    }

    /// Takes a snapshot as the operator does: written, then read back.
    async fn write(&self, times: &mut Times) -> Result<Manifest> {
        let status = GrpcMembers.status(&self.member).await?;
        let about = About {
            cluster: CLUSTER.to_owned(),
            etcd_version: status.version,
            cluster_id: status.cluster_id,
            revision: Some(status.revision),
            content: None,
            taken_at: jiff::Timestamp::now(),
        };
        sync();
        let begun = Instant::now();
        let pieces = GrpcMembers.snapshot(&self.member).await?;
        let manifest = self.store.write(&self.owner, about, pieces).await?;
        times.written.push(begun.elapsed().as_secs_f64());
        self.store.verify(&self.owner, manifest.about.id()).await?;
        times.read_back.push(begun.elapsed().as_secs_f64());
        Ok(manifest)
    }

    async fn save_by_hand(&self, times: &mut Times) -> Result<()> {
        let mut command = Command::new(binaries().join("etcdctl"));
        command
            .arg(format!("--endpoints=https://{}:2379", self.member.server_name))
            .arg("--cacert")
            .arg(self.directory.join("ca.crt"))
            .arg("--cert")
            .arg(self.directory.join("tls.crt"))
            .arg("--key")
            .arg(self.directory.join("tls.key"))
            .args(["snapshot", "save"])
            .arg(self.plain());
        times.saved_by_hand.push(timed(command).await?);
        Ok(())
    }

    async fn restore(&self, manifest: &Manifest, times: &mut Times) -> Result<()> {
        let volume = self.directory.join("volume");
        std::fs::create_dir(&volume)?;
        let job = Job {
            store: SnapshotStore {
                s3: None,
                directory: Some(self.directory.join("store").display().to_string()),
            },
            owner: self.owner.to_string(),
            snapshot: manifest.about.id().to_string(),
            keeps_revisions: false,
            member: Member {
                name: NAME.to_owned(),
                peer_url: PEER_URL.to_owned(),
                token: NAMESPACE.to_owned(),
            },
        };
        sync();
        let begun = Instant::now();
        let restored = restore(&job, &volume, self.keys.clone(), None).await?;
        times.restored.push(begun.elapsed().as_secs_f64());
        ensure!(matches!(restored, Restored::Made(_)), "nothing was restored");
        remove_data(&volume)
    }

    async fn restore_by_hand(&self, times: &mut Times) -> Result<()> {
        let volume = self.directory.join("by-hand");
        let mut command = Command::new(binaries().join("etcdutl"));
        command
            .args(["snapshot", "restore"])
            .arg(self.plain())
            .arg("--data-dir")
            .arg(volume.join("data"))
            .args(["--name", NAME])
            .args(["--initial-cluster", &format!("{NAME}={PEER_URL}")])
            .args(["--initial-advertise-peer-urls", PEER_URL])
            .args(["--initial-cluster-token", NAMESPACE])
            .args(["--bump-revision", BUMP, "--mark-compacted"]);
        std::fs::create_dir(&volume)?;
        times.restored_by_hand.push(timed(command).await?);
        remove_data(&volume)
    }

    /// The snapshot by hand.
    fn plain(&self) -> PathBuf {
        self.directory.join("by-hand.db")
    }
}

/// Removes a volume in which a member's data must lie.
fn remove_data(volume: &Path) -> Result<()> {
    let database = volume.join("data/member/snap/db");
    ensure!(database.is_file(), "there is no {}", database.display());
    Ok(std::fs::remove_dir_all(volume)?)
}

/// How many seconds a command takes that must end well.
async fn timed(mut command: Command) -> Result<f64> {
    sync();
    let begun = Instant::now();
    let output = command.kill_on_drop(true).output().await;
    let took = begun.elapsed().as_secs_f64();
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(took)
}

/// Seconds, by what was done.
#[derive(Debug, Default)]
struct Times {
    saved_by_hand: Vec<f64>,
    written: Vec<f64>,
    /// From the beginning of the same snapshots.
    read_back: Vec<f64>,
    restored_by_hand: Vec<f64>,
    restored: Vec<f64>,
}

impl Times {
    fn add(&self, report: &mut Report, megabytes: usize) -> Result<()> {
        let mut add = |name: &str, samples: &[f64], reference: Option<f64>| -> Result<f64> {
            let spread = Spread::of(samples).context("nothing was measured")?;
            let figure = Figure::of(format!("{megabytes} MB: {name}"), spread, "s");
            report.add(match reference {
                Some(reference) => figure.against(reference).held_to(Bound::Goal(MOST_TIME)),
                None => figure,
            });
            Ok(spread.median)
        };
        let by_hand = add("a snapshot by etcdctl", &self.saved_by_hand, None)?;
        add("a snapshot, written to the store", &self.written, Some(by_hand))?;
        add(
            "a snapshot, written and read back",
            &self.read_back,
            Some(by_hand),
        )?;
        let by_hand = add("a restore by etcdutl", &self.restored_by_hand, None)?;
        add("a restore", &self.restored, Some(by_hand))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_as_long_as_the_largest_value() {
        assert!(VALUES.iter().all(|size| noise(1).get(..*size).is_some()));
        assert_ne!(noise(1), noise(2));
    }
}
