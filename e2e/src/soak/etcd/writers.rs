//! Clients that write and read all the time and write down what they asked, what they were told, and when.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::history::{Call, History};
use super::kv::{Identified, Kv};

const CLIENTS: u64 = 3;
const KEYS: u64 = 6;
/// Between two calls of a client.
const PAUSE: Duration = Duration::from_millis(40);
/// Just below the largest that etcd takes.
const VALUE_BYTES: usize = 1_400_000;
/// How long a database may take to be full and to have room again.
const FILL_PATIENCE: Duration = Duration::from_mins(5);
/// How long a client writes nothing after it was refused for want of space.
const WHILE_FULL: Duration = Duration::from_secs(3);
/// How etcd refuses what it has no room for.
const FULL: &str = "database space exceeded";
/// The longest that a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The clients of one cluster.
pub struct Writers {
    /// What they did.
    pub history: History,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

/// Where a cluster is and how it is reached.
#[derive(Clone)]
pub struct Place {
    /// The API server of its pods.
    pub client: Client,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub cluster: String,
    /// As which of its clients.
    pub identity: String,
}

impl Writers {
    /// Starts them.
    pub fn start(place: &Place, seed: u64) -> Self {
        let (history, stop) = (History::new(), CancellationToken::new());
        // What others wrote before is no part of this history.
        let prefix = format!("soak/{:08x}", rand::random::<u32>());
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            let chance = StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(number));
            let work = work(
                place.clone(),
                prefix.clone(),
                history.clone(),
                chance,
                stop.clone(),
            );
            tasks.spawn(work);
        }
        Self { history, tasks, stop }
    }

    /// Ends them; each reads every key once more.
    pub async fn stop(self) -> History {
        self.stop.cancel();
        self.tasks.join_all().await;
        self.history
    }
}

async fn work(place: Place, prefix: String, history: History, mut chance: StdRng, stop: CancellationToken) {
    let mut number = history.next_client();
    let mut writes = 0_u64;
    let mut writes_from = Instant::now();
    let mut connection: Option<Kv> = None;
    let mut last = 0;
    loop {
        let is_last = stop.is_cancelled();
        if connection.is_none() {
            connection = connect(&place, &mut chance).await.ok();
        }
        let Some(etcd) = connection.as_mut() else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let is_write = !is_last && chance.random_bool(0.6) && Instant::now() >= writes_from;
        let key = if is_last {
            last
        } else {
            chance.random_range(0..KEYS)
        };
        let mut call = Call {
            client: number,
            key: format!("{prefix}/{key}"),
            write: is_write,
            value: String::new(),
            made: history.now(),
            returned: None,
            revision: 0,
        };
        let is_known = if is_write {
            writes += 1;
            call.value = format!("{number}-{writes}");
            match put(etcd, &mut call).await {
                Ok(()) => true,
                Err(error) => {
                    // The write that fills a database is carried out and refused all the same: nobody knows.
                    if error.to_string().contains(FULL) {
                        writes_from = Instant::now() + WHILE_FULL;
                    }
                    false
                }
            }
        } else {
            get(etcd, &mut call).await
        };
        if is_known {
            call.returned = Some(history.now());
        }
        history.add(call);
        match (is_known, is_last) {
            (true, true) if last + 1 == KEYS => return,
            (true, true) => last += 1,
            (true, false) => tokio::time::sleep(PAUSE).await,
            (false, _) => {
                number = history.next_client();
                connection = None;
            }
        }
    }
}

async fn put(etcd: &mut Kv, call: &mut Call) -> Result<()> {
    call.revision = tokio::time::timeout(PATIENCE, etcd.put(&call.key, &call.value)).await??;
    Ok(())
}

async fn get(etcd: &mut Kv, call: &mut Call) -> bool {
    let answer = tokio::time::timeout(PATIENCE, etcd.get(&call.key)).await;
    let Some((value, revision)) = answer.ok().and_then(Result::ok) else {
        return false;
    };
    (call.value, call.revision) = (value, revision);
    true
}

/// With what a database is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// One key is written again and again, until etcd takes no more; then it is waited for until it takes something again.
    History,
    /// One key after the other is written, also while etcd takes no more.
    Data,
}

/// Writes large values until a database is full; returns once it takes something again.
///
/// # Errors
/// When it never is full, or does not heal.
pub async fn fill(place: &Place, filling: Filling, chance: &mut StdRng) -> Result<()> {
    let large = "x".repeat(VALUE_BYTES);
    let begun = Instant::now();
    let (mut number, mut is_full): (u64, bool) = (0, false);
    let mut connection: Option<Kv> = None;
    // Data go on until whoever wants them has enough.
    while filling == Filling::Data || begun.elapsed() < FILL_PATIENCE {
        if connection.is_none() {
            connection = connect(place, chance).await.ok();
        }
        let Some(etcd) = connection.as_mut() else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (key, value) = match filling {
            Filling::Data => (format!("fill/{number}"), large.as_str()),
            Filling::History if is_full => ("fill".to_owned(), "small"),
            Filling::History => ("fill".to_owned(), large.as_str()),
        };
        match tokio::time::timeout(PATIENCE, etcd.put(&key, value)).await {
            Ok(Ok(_)) if filling == Filling::History && is_full => return Ok(()),
            Ok(Ok(_)) => number += 1,
            Ok(Err(error)) if error.to_string().contains(FULL) => {
                is_full = true;
                tokio::time::sleep(WHILE_FULL).await;
            }
            // Another member may answer.
            _ => connection = None,
        }
    }
    let what = if is_full {
        "is full and stays so"
    } else {
        "is not full"
    };
    bail!("the database {what} for {FILL_PATIENCE:?}")
}

/// The keys that are remembered, each with itself as its value.
fn remembered() -> impl Iterator<Item = String> {
    (0..50).map(|number| format!("kept/{number}"))
}

/// Writes some keys.
///
/// # Errors
/// When one is not acknowledged.
pub async fn remember(place: &Place, chance: &mut StdRng) -> Result<()> {
    let mut etcd = connect(place, chance).await?;
    for key in remembered() {
        etcd.put(&key, &key).await?;
    }
    Ok(())
}

/// Reads the keys that were remembered, and returns the revision of the store.
///
/// # Errors
/// When one is not there.
pub async fn recall(place: &Place, chance: &mut StdRng) -> Result<i64> {
    let mut etcd = connect(place, chance).await?;
    let mut last = 0;
    for key in remembered() {
        let (value, revision) = etcd.get(&key).await?;
        anyhow::ensure!(value == key, "{key} has {value:?}");
        last = revision;
    }
    Ok(last)
}

/// Connects to one member, as a client does that the Service has led there.
async fn connect(place: &Place, chance: &mut StdRng) -> Result<Kv> {
    let Place {
        client,
        namespace,
        cluster,
        identity,
    } = place;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let wanted = ListParams::default().labels(&format!("app.kubernetes.io/instance={cluster}"));
    let mut members: Vec<(String, String)> = Vec::new();
    for pod in pods.list(&wanted).await? {
        if let Some(address) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) {
            members.push((pod.name_any(), address));
        }
    }
    let (pod, address) = members.choose(chance).context("there is no member")?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get(&format!("{cluster}-client-{identity}")).await?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| {
        data.get(key)
            .map(|bytes| bytes.0.clone())
            .with_context(|| format!("no {key}"))
    };
    let own = Identified {
        authority: text("ca.crt")?,
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
    };
    let name = format!("{pod}.{cluster}-peer.{namespace}.svc");
    let connected = tokio::time::timeout(PATIENCE, Kv::connect(address, &name, &own, PATIENCE));
    connected.await.context("connecting takes too long")?
}
