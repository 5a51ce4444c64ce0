//! Asks an apiserver that starts whether it answers.
//!
//! Kubelet asks once a second and tells through three controllers; a user who waits for a new cluster waits for that
//! too. So while no apiserver of a control plane is available, one task asks the pods themselves. It gives up after
//! two minutes: from then on kubelet's word is good enough.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::Stream;
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use skep_api::ControlPlane;
use skep_core::{Cpid, labels};
use skep_runtime::client::ClientUse;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::inside::Access;
use crate::observe::Observed;
use crate::validate::{Program, Tenant};

/// How long pods are asked.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two questions to an apiserver that does not answer yet.
const PERIOD: Duration = Duration::from_millis(200);
/// Between two questions to one that does, until it is available.
const CALM_PERIOD: Duration = Duration::from_secs(1);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(2);
/// After so many questions without an answer the pods are looked up again.
const QUESTIONS: usize = 10;

struct Task {
    access: Access,
    answering: Arc<Mutex<Option<String>>>,
    _handle: AbortOnDropHandle<()>,
}

/// The questions to the starting apiservers of one cell; dropped, it ends them.
pub struct Knocks {
    client: Client,
    tasks: Mutex<HashMap<Cpid, Task>>,
    wake: mpsc::UnboundedSender<ObjectRef<ControlPlane>>,
}

impl Knocks {
    /// No question yet, and the control planes of which there is news.
    pub fn new(client: Client) -> (Self, impl Stream<Item = ObjectRef<ControlPlane>> + Send + 'static) {
        let (wake, news) = mpsc::unbounded_channel();
        let news = futures::stream::unfold(news, |mut news| async { Some((news.recv().await?, news)) });
        let tasks = Mutex::default();
        (Self { client, tasks, wake }, news)
    }

    /// The address of an apiserver that answers though none is available yet; asks from now on if it must.
    pub fn answering(&self, tenant: &Tenant, observed: &Observed) -> Option<String> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_starting =
            observed.deployment(Program::ApiServer).is_some() && observed.available(Program::ApiServer) == 0;
        let Some(access) = Access::of(tenant, observed).ok().filter(|_| is_starting) else {
            tasks.remove(&tenant.cpid);
            return None;
        };
        if let Some(task) = tasks.get(&tenant.cpid)
            && task.access == access
        {
            return lock(&task.answering).clone();
        }
        let answering = Arc::<Mutex<Option<String>>>::default();
        let visitor = Visitor {
            pods: Api::namespaced(self.client.clone(), &tenant.namespace()),
            cpid: tenant.cpid.clone(),
            access: access.clone(),
            answering: answering.clone(),
            wake: self.wake.clone(),
        };
        let task = Task {
            access,
            answering,
            _handle: AbortOnDropHandle::new(tokio::spawn(visitor.ask())),
        };
        tasks.insert(tenant.cpid.clone(), task);
        None
    }

    /// Ends the questions to one control plane.
    pub fn forget(&self, cpid: &Cpid) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.remove(cpid);
    }
}

struct Visitor {
    pods: Api<Pod>,
    cpid: Cpid,
    access: Access,
    answering: Arc<Mutex<Option<String>>>,
    wake: mpsc::UnboundedSender<ObjectRef<ControlPlane>>,
}

impl Visitor {
    async fn ask(self) {
        let begun = Instant::now();
        let mut doors = Vec::new();
        let mut questions = 0;
        while begun.elapsed() < PATIENCE {
            if doors.is_empty() || questions == QUESTIONS {
                doors = self.doors().await;
                questions = 0;
            }
            questions += 1;
            let answering = first_answering(&doors).await;
            let period = if answering.is_some() { CALM_PERIOD } else { PERIOD };
            self.tell(answering);
            tokio::time::sleep(period).await;
        }
        self.tell(None);
    }

    /// The apiservers' addresses, each with a client; none while they cannot be looked up, which the next try mends.
    async fn doors(&self) -> Vec<(String, Client)> {
        let selector = format!("{}={}", labels::COMPONENT, Program::ApiServer.name());
        let pods = match self.pods.list(&ListParams::default().labels(&selector)).await {
            Ok(pods) => pods.items,
            Err(error) => {
                tracing::debug!(cpid = %self.cpid, %error, "cannot list apiservers");
                return Vec::new();
            }
        };
        let living = pods
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let mut doors = Vec::new();
        for address in living.filter_map(|pod| pod.status?.pod_ip) {
            if let Ok(client) = self.access.at(&address).connect(ClientUse::Tenant).await {
                doors.push((address, client));
            }
        }
        doors
    }

    /// Notes who answers, and has the control plane looked at where that is news.
    fn tell(&self, answering: Option<String>) {
        let mut before = lock(&self.answering);
        if *before != answering {
            *before = answering;
            drop(before);
            // Nobody listens any more only when the controller ends.
            let _ = self.wake.send(ObjectRef::new(self.cpid.as_str()));
        }
    }
}

async fn first_answering(doors: &[(String, Client)]) -> Option<String> {
    for (address, client) in doors {
        let question = Request::get("/readyz").body(Vec::new()).ok()?;
        let answer = tokio::time::timeout(LIMIT, client.request_text(question)).await;
        if matches!(answer, Ok(Ok(_))) {
            return Some(address.clone());
        }
    }
    None
}

fn lock(answering: &Mutex<Option<String>>) -> std::sync::MutexGuard<'_, Option<String>> {
    // An address is whole whenever the lock is free, so a poisoned lock is still usable.
    answering.lock().unwrap_or_else(PoisonError::into_inner)
}
