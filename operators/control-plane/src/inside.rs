//! What the operator does inside tenants, beside its reconciles: it keeps what runs there in place, and answers
//! kubelets that ask for serving certificates.
//!
//! One task for each tenant that answers. A tenant that is slow or gone holds up its own task alone.

mod access;
mod approver;
mod parts;
mod verdict;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::Stream;
use kube::runtime::reflector::ObjectRef;
use skep_api::ControlPlane;
use skep_core::Cpid;
use skep_runtime::Backoff;
use skep_runtime::Categorised;
use skep_runtime::backoff::spread;
use skep_runtime::client::ClientUse;
use skep_runtime::error::chain;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

pub use access::{Access, ConnectError};
use parts::Wanted;

use crate::observe::Observed;
use crate::validate::Tenant;

/// How often what runs in a tenant is applied again, in case somebody removed it.
const REFRESH: Duration = Duration::from_mins(10);
/// Between tries while a tenant refuses or does not answer.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_mins(1),
};

/// What stands of the inside of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Inside {
    /// Nothing was tried: no apiserver answers yet.
    #[default]
    NotTried,
    /// So many objects are in place.
    Applied(usize),
    /// They could not be applied; why.
    Failed(String),
}

struct Task {
    access: Access,
    wanted: Wanted,
    state: Arc<Mutex<Inside>>,
    _handle: AbortOnDropHandle<()>,
}

/// The insides of all tenants of one cell; dropped, it ends every task.
pub struct Insides {
    tasks: Mutex<HashMap<Cpid, Task>>,
    wake: mpsc::UnboundedSender<ObjectRef<ControlPlane>>,
}

impl Insides {
    /// No task yet, and the control planes of which there is news.
    pub fn new() -> (Self, impl Stream<Item = ObjectRef<ControlPlane>> + Send + 'static) {
        let (wake, news) = mpsc::unbounded_channel();
        let news = futures::stream::unfold(news, |mut news| async { Some((news.recv().await?, news)) });
        let tasks = Mutex::default();
        (Self { tasks, wake }, news)
    }

    /// Looks after one tenant from now on, as it is wanted now, and tells what stands.
    pub fn look_after(&self, tenant: &Tenant, observed: &Observed) -> Inside {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let known = || tasks.get(&tenant.cpid).map(|task| lock(&task.state).clone());
        let (Ok(access), Some(wanted)) = (Access::of(tenant, observed), Wanted::of(tenant, observed)) else {
            return known().unwrap_or_default();
        };
        if let Some(task) = tasks.get(&tenant.cpid)
            && task.access == access
            && task.wanted == wanted
        {
            return lock(&task.state).clone();
        }
        let last = known().unwrap_or_default();
        let state = Arc::new(Mutex::new(last.clone()));
        let keeper = Keeper {
            cpid: tenant.cpid.clone(),
            access: access.clone(),
            wanted: wanted.clone(),
            state: state.clone(),
            wake: self.wake.clone(),
        };
        let task = Task {
            access,
            wanted,
            state,
            _handle: AbortOnDropHandle::new(tokio::spawn(keeper.keep())),
        };
        tasks.insert(tenant.cpid.clone(), task);
        last
    }

    /// Ends what runs for one tenant.
    pub fn forget(&self, cpid: &Cpid) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.remove(cpid);
    }
}

/// Why a tenant does not take what is written into it, for its status. A tenant that cannot be reached fails each of
/// many writes in another way and another order: its status says so in the same words each time, and the log more.
pub(crate) fn explain<E: Categorised + std::error::Error + 'static>(error: &E) -> String {
    match error.category() {
        "network" | "timeout" => "the tenant's API does not answer".to_owned(),
        _ => chain(error),
    }
}

struct Keeper {
    cpid: Cpid,
    access: Access,
    wanted: Wanted,
    state: Arc<Mutex<Inside>>,
    wake: mpsc::UnboundedSender<ObjectRef<ControlPlane>>,
}

impl Keeper {
    async fn keep(self) {
        let client = match self.access.connect(ClientUse::TenantWatch).await {
            Ok(client) => client,
            // Only another kubeconfig or address helps, and either brings another task.
            Err(error) => return self.tell(Inside::Failed(chain(&error))),
        };
        tokio::join!(
            self.keep_parts(&client),
            approver::approve(&self.cpid, client.clone())
        );
    }

    async fn keep_parts(&self, client: &kube::Client) {
        let mut failures = 0;
        loop {
            let pause = match self.wanted.apply(client).await {
                Ok(count) => {
                    failures = 0;
                    self.tell(Inside::Applied(count));
                    spread(REFRESH, rand::random())
                }
                Err(error) => {
                    failures += 1;
                    let reason = explain(&error);
                    let error = chain(&error);
                    tracing::warn!(cpid = %self.cpid, failures, error, "cannot apply what runs inside a tenant");
                    self.tell(Inside::Failed(reason));
                    BACKOFF.delay(failures, rand::random())
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Notes what stands, and has the control plane's status say so where it is news.
    fn tell(&self, news: Inside) {
        let mut state = lock(&self.state);
        if *state != news {
            *state = news;
            drop(state);
            // Nobody listens any more only when the controller ends.
            let _ = self.wake.send(ObjectRef::new(self.cpid.as_str()));
        }
    }
}

fn lock(state: &Mutex<Inside>) -> std::sync::MutexGuard<'_, Inside> {
    // A state is valid whenever the lock is free, so a poisoned lock is still usable.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
