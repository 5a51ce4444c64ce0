//! The provider `local`: cells are made in the background, as each takes a minute or two, and found again by their tags.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skep_builder::{CellProvider, Deletion, Described, Leak, Order, ProviderError, Quote, Stage, Token};
use skep_core::network::GATEWAY_PORT;
use skep_distro::{Artifacts, Progress};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::cable::{Cable, End};
use super::order::{Ordered, Tag};
use super::progress::Told;
use crate::cell::Cell;
use crate::down::down;
use crate::error::{Error, Refusal};
use crate::host::cgroup::Hierarchies;
use crate::host::process;
use crate::host::registry::Registry;
use crate::layout::Layout;
use crate::names::Names;
use crate::spec::{LocalCell, LocalSpec};
use crate::state;
use crate::up::up;

/// What a cell of one node takes on two cores, images imported and operators started.
const LEAD: Duration = Duration::from_mins(2);
/// When to look at one that is made.
const LOOK: Duration = Duration::from_secs(2);
/// The port of a cell's API at its front.
const API_PORT: u16 = 6443;

/// What further cells of a hub are made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub's instance.
    pub instance: String,
    /// The hub's state directory.
    pub home: PathBuf,
    /// The distribution that every cell runs.
    pub artifacts: Artifacts,
    /// The command that becomes a machine's supervisor; `--config FILE` is added to it.
    pub supervisor: Vec<OsString>,
    /// Local volumes on each node.
    pub volumes_per_node: u16,
    /// Size of a volume in bytes.
    pub volume_bytes: u64,
}

/// Puts into a new cluster what makes it a cell: definitions, operators, and its way to the hub.
#[async_trait]
pub trait Furnish: Send + Sync {
    /// Does what is missing of it; may be repeated.
    async fn furnish(
        &self,
        cell: &LocalCell,
        order: &Order,
        progress: &dyn Progress,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Makes further cells on this machine.
pub struct LocalProvider {
    workshop: Arc<Workshop>,
    works: Mutex<BTreeMap<Token, Work>>,
}

/// A cell that this process made, or makes.
struct Work {
    order: Order,
    state: State,
}

enum State {
    Underway(Arc<Told>, JoinHandle<Result<(), ProviderError>>),
    Done,
}

struct Workshop {
    settings: Settings,
    furnish: Box<dyn Furnish>,
    ordered: Ordered,
}

impl LocalProvider {
    /// A provider of further cells of one hub.
    pub fn new(settings: Settings, furnish: Box<dyn Furnish>) -> Self {
        Self {
            workshop: Arc::new(Workshop {
                ordered: Ordered::under(&settings.home),
                settings,
                furnish,
            }),
            works: Mutex::default(),
        }
    }

    /// Keeps the order's tag, unless what stands forbids it.
    fn accept(&self, order: &Order) -> Result<Tag, ProviderError> {
        let tag = Tag::of(order, &self.workshop.settings.instance)?;
        let ordered = &self.workshop.ordered;
        if let Some(stands) = ordered.of_cell(&tag.cell).map_err(failed("read the order"))? {
            tag.follows(&stands)?;
        }
        ordered.keep(&tag).map_err(failed("keep the order"))?;
        Ok(tag)
    }
}

#[async_trait]
impl CellProvider for LocalProvider {
    async fn quote(&self, order: &Order) -> Result<Quote, ProviderError> {
        Tag::of(order, &self.workshop.settings.instance)?;
        Ok(Quote {
            price_milli: 0,
            lead: LEAD,
            nodes_left: None,
        })
    }

    async fn create(&self, order: &Order) -> Result<Stage, ProviderError> {
        let tag = self.accept(order)?;
        let mut works = self.works.lock().await;
        let known = works.remove(&order.token);
        let work = match known {
            Some(work) => work.look(order).await?,
            None => None,
        };
        let is_done = |work: &Work| matches!(work.state, State::Done);
        if let Some(work) = work.as_ref().filter(|work| is_done(work)) {
            let described = self.workshop.describe(&tag)?;
            if meets(&work.order, order) && self.workshop.is_whole(&tag).await? {
                works.insert(order.token.clone(), Work::done(order));
                return Ok(Stage::Standing(described));
            }
        }
        let work = match work.filter(|work| !is_done(work)) {
            Some(work) => work,
            None => Work::begin(self.workshop.clone(), order.clone(), tag),
        };
        let waits_for = work.told();
        works.insert(order.token.clone(), work);
        Ok(Stage::Building {
            waits_for,
            after: LOOK,
        })
    }

    async fn describe(&self, token: &Token) -> Result<Option<Described>, ProviderError> {
        let found = self
            .workshop
            .ordered
            .find(token)
            .map_err(failed("read the order"))?;
        found.map(|tag| self.workshop.describe(&tag)).transpose()
    }

    async fn delete(&self, token: &Token) -> Result<Deletion, ProviderError> {
        if let Some(Work {
            state: State::Underway(_, handle),
            ..
        }) = self.works.lock().await.remove(token)
        {
            handle.abort();
            // It ends at its next pause; what it has begun by then is found by the tag.
            let _ = handle.await;
        }
        let Some(tag) = self
            .workshop
            .ordered
            .find(token)
            .map_err(failed("read the order"))?
        else {
            return Ok(Deletion::Gone);
        };
        let home = self.workshop.ordered.home(&tag.cell);
        let done = down(&tag.instance, &home, false, &Told::default()).await;
        done.map_err(failed("take the cell down"))?;
        let forgotten = self.workshop.ordered.forget(&tag.cell);
        forgotten.map_err(failed("remove the cell's state"))?;
        Ok(Deletion::Gone)
    }

    async fn leaks(&self, known: &BTreeSet<Token>) -> Result<Vec<Leak>, ProviderError> {
        let tags = self.workshop.ordered.all().map_err(failed("read the orders"))?;
        let entries = Registry::open().entries().map_err(failed("read the instances"))?;
        let prefix = Names::new(&self.workshop.settings.instance).cell_instance("");
        let is_tagged = |instance: &str| tags.iter().any(|tag| tag.instance == instance);
        let untagged = entries
            .into_iter()
            .map(|entry| entry.instance)
            .filter(|instance| instance.starts_with(&prefix) && !is_tagged(instance))
            .map(|instance| (instance, String::new()));
        let unknown = |tag: &&Tag| !known.iter().any(|token| token.as_str() == tag.token);
        let unordered = tags.iter().filter(unknown);
        let unordered = unordered.map(|tag| (tag.instance.clone(), tag.token.clone()));
        let leak = |(instance, token)| Leak {
            part: format!("instance/{instance}"),
            token,
        };
        Ok(untagged.chain(unordered).map(leak).collect())
    }
}

impl Work {
    fn begin(workshop: Arc<Workshop>, order: Order, tag: Tag) -> Self {
        let told = Arc::new(Told::default());
        let making = {
            let (order, told) = (order.clone(), told.clone());
            async move { workshop.make(&order, &tag, &told).await }
        };
        Self {
            order,
            state: State::Underway(told, tokio::spawn(making)),
        }
    }

    fn done(order: &Order) -> Self {
        Self {
            order: order.clone(),
            state: State::Done,
        }
    }

    fn told(&self) -> String {
        match &self.state {
            State::Underway(told, _) => told.now(),
            State::Done => String::new(),
        }
    }

    /// Where it has come to; nothing where another order has to be begun instead.
    async fn look(self, order: &Order) -> Result<Option<Self>, ProviderError> {
        match self.state {
            State::Underway(told, handle) if !handle.is_finished() => Ok(Some(Self {
                state: State::Underway(told, handle),
                ..self
            })),
            State::Underway(_, handle) => {
                let ended = handle.await.map_err(Error::Task).map_err(failed("make the cell"));
                ended.and_then(|made| made)?;
                let is_met = meets(&self.order, order);
                Ok(is_met.then(|| Self::done(order)))
            }
            State::Done => Ok(Some(Self {
                state: State::Done,
                ..self
            })),
        }
    }
}

/// Whether what was made for `had` is what `wanted` asks for; an agent that is registered needs no token any more.
fn meets(had: &Order, wanted: &Order) -> bool {
    let mut had = had.clone();
    if wanted.registration.token.is_none() {
        had.registration.token = None;
    }
    had == *wanted
}

impl Workshop {
    async fn make(&self, order: &Order, tag: &Tag, told: &Told) -> Result<(), ProviderError> {
        let spec = self.spec(tag);
        let cell = up(&spec, &self.settings.artifacts, told).await;
        let cell = cell.map_err(failed("make the cell's machines"))?;
        self.cable(tag)?.ensure().await.map_err(failed("lay the cable"))?;
        let furnished = self.furnish.furnish(&cell, order, told).await;
        furnished.map_err(|source| ProviderError::Transient {
            what: "install the cell's operators".to_owned(),
            after: None,
            source,
        })
    }

    fn spec(&self, tag: &Tag) -> LocalSpec {
        LocalSpec {
            instance: tag.instance.clone(),
            home: self.ordered.home(&tag.cell),
            region: tag.region.clone(),
            zones: tag.zones.clone(),
            nodes_per_zone: tag.nodes_per_zone,
            control_planes: 1,
            volumes_per_node: self.settings.volumes_per_node,
            volume_bytes: self.settings.volume_bytes,
            ranges: Some(tag.slot.ranges()),
            supervisor: self.settings.supervisor.clone(),
        }
    }

    fn cable(&self, tag: &Tag) -> Result<Cable, ProviderError> {
        let hub = state::read::<Cell>(&Layout::new(&self.settings.home).cell());
        let hub = hub.map_err(failed("read the hub's shape"))?;
        let not_up = || Error::from(Refusal::NotUp(self.settings.instance.clone()));
        let hub = hub.ok_or_else(not_up).map_err(failed("lay the cable"))?;
        Ok(Cable {
            hub: End {
                names: hub.names(),
                slot: hub.slot,
            },
            cell: End {
                names: Names::new(&tag.instance),
                slot: tag.slot,
            },
        })
    }

    /// Whether every machine of a cell that was made runs; a cable that is missing is laid again.
    async fn is_whole(&self, tag: &Tag) -> Result<bool, ProviderError> {
        let described = self.describe(tag)?;
        let wanted = u32::from(tag.nodes_per_zone);
        let are_up = described.nodes.len() == tag.zones.len()
            && described.nodes.iter().all(|(_, running)| *running == wanted);
        if are_up {
            self.cable(tag)?.ensure().await.map_err(failed("lay the cable"))?;
        }
        Ok(are_up)
    }

    fn describe(&self, tag: &Tag) -> Result<Described, ProviderError> {
        let layout = Layout::new(&self.ordered.home(&tag.cell));
        let cell = state::read::<Cell>(&layout.cell()).map_err(failed("read the cell's shape"))?;
        let hierarchies = Hierarchies::observe().map_err(failed("read cgroups"))?;
        let names = Names::new(&tag.instance);
        let mut nodes: BTreeMap<String, u32> = BTreeMap::new();
        for node in cell.iter().flat_map(|cell| &cell.nodes) {
            let runs = process::machine_init(&hierarchies, &names, &node.name).is_some();
            *nodes.entry(node.zone.clone()).or_default() += u32::from(runs);
        }
        let at = |port: u16| Some(format!("{}:{port}", tag.slot.front()));
        let is_there = layout.kubeconfig().exists();
        Ok(Described {
            nodes: nodes.into_iter().collect(),
            api: at(API_PORT).filter(|_| is_there),
            gateway: at(GATEWAY_PORT).filter(|_| is_there),
            parts: vec![format!("instance/{}", tag.instance)],
        })
    }
}

/// What this machine did not do may go well later, unless it was refused for good.
fn failed<E: Into<Error>>(what: &'static str) -> impl Fn(E) -> ProviderError {
    move |error| {
        let error = error.into();
        let what = what.to_owned();
        match error {
            Error::Refused(Refusal::Busy(_) | Refusal::SlotTaken { .. }) => ProviderError::Transient {
                what,
                after: None,
                source: Box::new(error),
            },
            Error::Refused(Refusal::NoSlot { .. } | Refusal::DiskFull { .. }) => ProviderError::Exhausted {
                resource: "room on this machine".to_owned(),
                message: error.to_string(),
            },
            Error::Refused(_) => ProviderError::Refused {
                what,
                source: Box::new(error),
            },
            _ => ProviderError::Transient {
                what,
                after: None,
                source: Box::new(error),
            },
        }
    }
}
