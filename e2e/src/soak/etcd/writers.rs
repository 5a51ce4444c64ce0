//! Clients that write and read all the time and write down what they asked, what they were told, and when.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::kv::{Identified, Kv};

/// The name that the clients' certificate has.
pub const NAME: &str = "soak";
const CLIENTS: u64 = 3;
const KEYS: u64 = 6;
/// Between two calls of a client.
const PAUSE: Duration = Duration::from_millis(40);
/// The longest that a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// One call and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    client: u64,
    key: String,
    write: bool,
    value: String,
    /// When it was made, in nanoseconds from the beginning.
    #[serde(rename = "call")]
    made: u64,
    /// When it was answered; nothing when nobody knows whether it was carried out.
    #[serde(rename = "return")]
    returned: Option<u64>,
    /// The store's revision that came with the answer.
    revision: i64,
}

/// Everything that all clients did.
#[derive(Clone)]
pub struct History {
    begun: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
    /// A client whose call has no known outcome goes on under another number: its call may still be carried out.
    clients: Arc<AtomicU64>,
}

/// What was checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checked {
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Writes of which nobody knows.
    pub unknown: u64,
    /// The longest time without an acknowledged write.
    pub longest_silence: Duration,
}

impl History {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            calls: Arc::default(),
            clients: Arc::default(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn next_client(&self) -> u64 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    fn add(&self, call: Call) {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call);
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls
            .iter()
            .filter(|call| call.write && call.returned.is_some())
            .count()
    }

    /// Checks that the whole is linearizable, and that no revision went back.
    ///
    /// # Errors
    /// What was lost or went back.
    pub fn check(&self, porcupine: &Path) -> Result<Checked> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut answered: Vec<&Call> = calls.iter().filter(|call| call.returned.is_some()).collect();
        ensure!(!answered.is_empty(), "no call was ever answered");
        no_revision_goes_back(&answered)?;
        is_linearizable(&calls, porcupine)?;
        answered.retain(|call| call.write);
        let mut times: Vec<u64> = answered.iter().filter_map(|call| call.returned).collect();
        times.sort_unstable();
        let silence = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let count = |filter: &dyn Fn(&Call) -> bool| calls.iter().filter(|call| filter(call)).count() as u64;
        Ok(Checked {
            writes: count(&|call| call.write && call.returned.is_some()),
            reads: count(&|call| !call.write && call.returned.is_some()),
            unknown: count(&|call| call.write && call.returned.is_none()),
            longest_silence: Duration::from_nanos(silence),
        })
    }
}

/// A call that begins after another has ended never sees an older revision, and a write always a newer one.
fn no_revision_goes_back(answered: &[&Call]) -> Result<()> {
    let mut by_end = answered.to_vec();
    by_end.sort_by_key(|call| call.returned);
    let mut by_begin = answered.to_vec();
    by_begin.sort_by_key(|call| call.made);
    let mut ended = by_end.into_iter().peekable();
    let mut newest: i64 = 0;
    for call in by_begin {
        while let Some(earlier) = ended.next_if(|earlier| earlier.returned < Some(call.made)) {
            newest = newest.max(earlier.revision);
        }
        let is_newer = call.revision > newest || (!call.write && call.revision == newest);
        ensure!(
            is_newer,
            "a revision went back: {newest} was seen before {call:?}"
        );
    }
    Ok(())
}

fn is_linearizable(calls: &[Call], porcupine: &Path) -> Result<()> {
    let known = calls.iter().filter(|call| call.write || call.returned.is_some());
    let mut child = Command::new(porcupine)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run porcupine")?;
    let mut input = child.stdin.take().context("porcupine takes no input")?;
    for call in known {
        writeln!(input, "{}", serde_json::to_string(call)?)?;
    }
    drop(input);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        output.status.success(),
        "the history is not linearizable: porcupine says {said}"
    );
    Ok(())
}

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
}

impl Writers {
    /// Starts them.
    pub fn start(place: &Place, seed: u64) -> Self {
        let (history, stop) = (History::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            let chance = StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(number));
            tasks.spawn(work(place.clone(), history.clone(), chance, stop.clone()));
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

async fn work(place: Place, history: History, mut chance: StdRng, stop: CancellationToken) {
    let mut number = history.next_client();
    let mut writes = 0_u64;
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
        let is_write = !is_last && chance.random_bool(0.6);
        let key = if is_last {
            last
        } else {
            chance.random_range(0..KEYS)
        };
        let mut call = Call {
            client: number,
            key: format!("soak/{key}"),
            write: is_write,
            value: String::new(),
            made: history.now(),
            returned: None,
            revision: 0,
        };
        let is_known = if is_write {
            writes += 1;
            call.value = format!("{number}-{writes}");
            put(etcd, &mut call).await
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

async fn put(etcd: &mut Kv, call: &mut Call) -> bool {
    let answer = tokio::time::timeout(PATIENCE, etcd.put(&call.key, &call.value)).await;
    let revision = answer.ok().and_then(Result::ok);
    call.revision = revision.unwrap_or_default();
    revision.is_some()
}

async fn get(etcd: &mut Kv, call: &mut Call) -> bool {
    let answer = tokio::time::timeout(PATIENCE, etcd.get(&call.key)).await;
    let Some((value, revision)) = answer.ok().and_then(Result::ok) else {
        return false;
    };
    (call.value, call.revision) = (value, revision);
    true
}

/// Connects to one member, as a client does that the Service has led there.
async fn connect(place: &Place, chance: &mut StdRng) -> Result<Kv> {
    let Place {
        client,
        namespace,
        cluster,
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
    let secret = secrets.get(&format!("{cluster}-client-{NAME}")).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// (write, value, called at, answered at, revision)
    type Row = (bool, &'static str, u64, Option<u64>, i64);

    fn check(rows: &[Row], porcupine: &Path) -> Result<Checked> {
        let history = History::new();
        for (number, (write, value, made, returned, revision)) in rows.iter().enumerate() {
            history.add(Call {
                client: u64::try_from(number)?,
                key: "soak/1".to_owned(),
                write: *write,
                value: (*value).to_owned(),
                made: *made,
                returned: *returned,
                revision: *revision,
            });
        }
        history.check(porcupine)
    }

    #[test]
    fn what_was_lost_or_went_back_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let porcupine = directory.path().join("porcupine");
        crate::soak::etcd::inside::build_porcupine(&porcupine).unwrap();
        let check = |rows: &[Row]| check(rows, &porcupine);
        let first = (true, "1", 1, Some(2), 2);
        let second = (true, "2", 3, Some(4), 3);
        let unknown = (true, "2", 3, None, 0);
        let read = |value, revision| (false, value, 5, Some(6), revision);
        let right = check(&[first, second, read("2", 3)]).expect("a right history");
        assert_eq!((right.writes, right.reads, right.unknown), (2, 1, 0));
        // Of a write without an answer nobody knows: either is right.
        check(&[first, unknown, read("1", 2)]).expect("it was not carried out");
        check(&[first, unknown, read("2", 3)]).expect("it was carried out");
        for (wrong, rows) in [
            ("an acknowledged write is lost", vec![first, second, read("1", 3)]),
            ("all is lost", vec![first, read("", 2)]),
            ("a revision went back", vec![first, second, read("2", 2)]),
            (
                "a write has an older revision",
                vec![first, (true, "2", 3, Some(4), 2)],
            ),
            (
                "a read goes back",
                vec![first, unknown, read("2", 3), (false, "1", 7, Some(8), 3)],
            ),
            ("nobody wrote it", vec![first, read("7", 2)]),
        ] {
            assert!(check(&rows).is_err(), "{wrong}");
        }
    }
}
