//! The cell as the agent sees it: its control planes, copies of requests, nodes, pods and volumes, cached by watches.
//!
//! A cache may lag: whoever concludes from an absence asks the API first.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt, future};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::{Store, Writer};
use kube::runtime::reflector::{ObjectRef, store};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use skep_api::cell::ZoneCapacity;
use skep_api::{CertificateRequest, ControlPlane};
use skep_core::{CellName, Cpid, labels};
use skep_runtime::error::chain;
use skep_runtime::metrics::WATCH_ERRORS;

use crate::NAME;
use crate::capacity::{is_ready, measure, shrink_node, shrink_pod, shrink_volume};
use crate::mirror::Mirror;
use crate::queue::{Key, Queue};
use crate::requests::is_copy;

type Cache<K> = Store<DeserializeGuard<K>>;

/// An object of the cell that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The API refused, or could not be reached.
    #[error("cannot read {0} in the cell")]
    Api(&'static str, #[source] kube::Error),
    /// The object is there and not readable as its kind.
    #[error("{kind} {name} in the cell cannot be read: {error}")]
    Unreadable {
        /// The object's kind.
        kind: &'static str,
        /// The object's name.
        name: String,
        /// What is wrong with it.
        error: String,
    },
}

/// The caches.
#[derive(Clone)]
pub struct Local {
    client: Client,
    planes: Cache<ControlPlane>,
    copies: Cache<CertificateRequest>,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    volumes: Cache<PersistentVolume>,
}

/// What fills the caches; to be run beside them.
pub struct Watches {
    client: Client,
    cell: CellName,
    planes: Writer<DeserializeGuard<ControlPlane>>,
    copies: Writer<DeserializeGuard<CertificateRequest>>,
    nodes: Writer<DeserializeGuard<Node>>,
    pods: Writer<DeserializeGuard<Pod>>,
    volumes: Writer<DeserializeGuard<PersistentVolume>>,
}

impl Local {
    /// The empty caches of a cell, and what fills them.
    pub fn new(client: Client, cell: CellName) -> (Self, Watches) {
        let ((planes, plane_writer), (copies, copy_writer)) = (store(), store());
        let ((nodes, node_writer), (pods, pod_writer), (volumes, volume_writer)) =
            (store(), store(), store());
        let watches = Watches {
            client: client.clone(),
            cell,
            planes: plane_writer,
            copies: copy_writer,
            nodes: node_writer,
            pods: pod_writer,
            volumes: volume_writer,
        };
        (
            Self {
                client,
                planes,
                copies,
                nodes,
                pods,
                volumes,
            },
            watches,
        )
    }

    /// Awaits the first fill of all caches.
    pub async fn filled(&self) {
        // An error says that the watches ended, and the process with them.
        let _ = tokio::join!(
            self.planes.wait_until_ready(),
            self.copies.wait_until_ready(),
            self.nodes.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.volumes.wait_until_ready()
        );
    }

    /// One control plane; an absence is asked of the API, whatever the cell's label says.
    pub async fn control_plane(&self, name: &str) -> Result<Option<ControlPlane>, ReadError> {
        let known = self.planes.get(&ObjectRef::new(name));
        if let Some(known) = known {
            return readable(known.as_ref()).map(|plane| Some(plane.clone()));
        }
        let planes: Api<DeserializeGuard<ControlPlane>> = Api::all(self.client.clone());
        let found = planes
            .get_opt(name)
            .await
            .map_err(|error| ReadError::Api("the control plane", error))?;
        found.as_ref().map(|found| readable(found).cloned()).transpose()
    }

    /// One control plane of this cell as the cache knows it.
    pub fn known_control_plane(&self, name: &str) -> Option<ControlPlane> {
        let known = self.planes.get(&ObjectRef::new(name))?;
        known.0.as_ref().ok().cloned()
    }

    /// The metadata of all control planes of this cell, readable or not.
    pub fn control_planes(&self) -> Vec<Arc<DeserializeGuard<ControlPlane>>> {
        self.planes.state()
    }

    /// The copy of one request.
    pub fn copy(&self, cpid: &Cpid, name: &str) -> Result<Option<CertificateRequest>, ReadError> {
        let known = self.copies.get(&ObjectRef::new(name).within(&cpid.namespace()));
        let copy = known.as_ref().map(|known| readable(known.as_ref())).transpose()?;
        Ok(copy.filter(|copy| is_copy(copy)).cloned())
    }

    /// What all copies in the cache are about.
    pub fn copies(&self) -> Vec<Key> {
        copy_keys(&self.copies)
    }

    /// How many control planes are in this cell.
    pub fn tenants(&self) -> usize {
        self.planes.len()
    }

    /// How many nodes of the cell are ready.
    pub fn ready_nodes(&self) -> usize {
        self.nodes
            .state()
            .iter()
            .filter(|node| node.0.as_ref().is_ok_and(is_ready))
            .count()
    }

    /// What each zone has and what is taken of it.
    pub fn capacity(&self) -> Vec<ZoneCapacity> {
        let (nodes, pods, volumes) = (self.nodes.state(), self.pods.state(), self.volumes.state());
        measure(known(&nodes), known(&pods), known(&volumes))
    }
}

impl Watches {
    /// Fills the caches for as long as it is polled, and queues what each change concerns.
    pub async fn run(self, mirror: &Mirror, queue: &Queue) {
        let Self {
            client,
            cell,
            planes,
            copies,
            nodes,
            pods,
            volumes,
        } = self;
        let ours = Config::default().labels(&format!("{}={cell}", labels::CELL));
        let planes = watched(planes, Api::all(client.clone()), ours.clone(), |_| {}).for_each(|event| {
            match event {
                Event::Apply(object) | Event::Delete(object) => {
                    let cpid = object.name_any();
                    queue.extend(mirror.requests(Some(&cpid)));
                    queue.add(Key::Record(cpid));
                }
                Event::InitDone => {
                    queue.extend(mirror.requests(None));
                    queue.extend(mirror.records().into_iter().map(Key::Record));
                }
                Event::Init | Event::InitApply(_) => {}
            }
            future::ready(())
        });
        let cached = copies.as_reader();
        let copies = watched(copies, Api::all(client.clone()), ours, |_| {}).for_each(|event| {
            match event {
                Event::Apply(object) | Event::Delete(object) => {
                    queue.extend(object.0.ok().filter(is_copy).map(|copy| Key::of(&copy)));
                }
                // The cache has what was listed only now; copies whose request is gone are in no mirror.
                Event::InitDone => {
                    queue.extend(mirror.requests(None));
                    queue.extend(copy_keys(&cached));
                }
                Event::Init | Event::InitApply(_) => {}
            }
            future::ready(())
        });
        let nodes = counted(nodes, Api::all(client.clone()), shrink_node);
        let pods = counted(pods, Api::all(client.clone()), shrink_pod);
        let volumes = counted(volumes, Api::all(client), shrink_volume);
        tokio::join!(planes, copies, nodes, pods, volumes);
    }
}

/// A watch into a cache that is read when a check-in is due, and causes nothing.
async fn counted<K>(
    writer: Writer<DeserializeGuard<K>>,
    api: Api<DeserializeGuard<K>>,
    shrink: impl Fn(&mut K) + Send + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    watched(writer, api, Config::default(), shrink)
        .for_each(|_| future::ready(()))
        .await;
}

/// A watch into a cache that never ends: errors are counted and logged, and a new try follows with backoff.
fn watched<K>(
    writer: Writer<DeserializeGuard<K>>,
    api: Api<DeserializeGuard<K>>,
    config: Config,
    shrink: impl Fn(&mut K) + Send + 'static,
) -> impl Stream<Item = Event<DeserializeGuard<K>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let kind = K::kind(&()).into_owned();
    let events = watcher(api, config).modify(move |object: &mut DeserializeGuard<K>| {
        object.managed_fields_mut().clear();
        if let Ok(object) = &mut object.0 {
            shrink(object);
        }
    });
    reflector(writer, events.default_backoff()).filter_map(move |event| {
        if let Err(error) = &event {
            WATCH_ERRORS.with_label_values(&[NAME, &kind]).inc();
            tracing::warn!(kind, error = chain(error), "a watch of the cell failed");
        }
        future::ready(event.ok())
    })
}

fn copy_keys(cache: &Cache<CertificateRequest>) -> Vec<Key> {
    let all = cache.state();
    let copies = all.iter().filter_map(|object| object.0.as_ref().ok());
    copies.filter(|object| is_copy(object)).map(Key::of).collect()
}

/// The objects of a cache that can be read.
fn known<K>(objects: &[Arc<DeserializeGuard<K>>]) -> impl Iterator<Item = &K> {
    objects.iter().filter_map(|object| object.0.as_ref().ok())
}

fn readable<K: Resource<DynamicType = ()>>(object: &DeserializeGuard<K>) -> Result<&K, ReadError> {
    object.0.as_ref().map_err(|invalid| ReadError::Unreadable {
        kind: std::any::type_name::<K>().rsplit("::").next().unwrap_or_default(),
        name: invalid.metadata.name.clone().unwrap_or_default(),
        error: invalid.error.clone(),
    })
}
