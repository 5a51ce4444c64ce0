//! What the watches have shown so far, small: host names and addresses, by control plane.
//!
//! Of control planes in other cells it knows the records, where this cell is the hub too, and of these cells the front.
//! A watch that starts again lists everything once more; until its end the earlier content counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use skep_api::{Cell, ControlPlane, DeploymentRecord};
use skep_core::{CellName, Cpid};
use skep_runtime::error::chain;

use crate::front::{Front, FrontError};
use crate::route::{Doors, HostNames, Route, Way, doors, host_names, owner, record_host_names};

/// One kind's content.
#[derive(Debug)]
struct Table<K, V> {
    live: BTreeMap<K, V>,
    listed: BTreeMap<K, V>,
    is_complete: bool,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            live: BTreeMap::new(),
            listed: BTreeMap::new(),
            is_complete: false,
        }
    }
}

impl<K: Ord + Clone, V: PartialEq> Table<K, V> {
    /// Takes in an event whose object was parsed to a key and, if it counts, a value; returns changed keys.
    fn take(&mut self, event: Event<(K, Option<V>)>) -> BTreeSet<K> {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply((key, value)) => self.listed.extend(value.map(|value| (key, value))),
            Event::InitDone => return self.end_listing(),
            Event::Apply((key, value)) => return self.set(key, value),
            Event::Delete((key, _)) => return self.set(key, None),
        }
        BTreeSet::new()
    }

    /// Takes the kind for one without objects, unless it was listed before.
    fn assume_empty(&mut self) {
        self.is_complete = true;
    }

    fn end_listing(&mut self) -> BTreeSet<K> {
        let before = std::mem::replace(&mut self.live, std::mem::take(&mut self.listed));
        self.is_complete = true;
        let keys = before.keys().chain(self.live.keys());
        keys.filter(|key| before.get(key) != self.live.get(key))
            .cloned()
            .collect()
    }

    fn set(&mut self, key: K, value: Option<V>) -> BTreeSet<K> {
        if self.live.get(&key) == value.as_ref() {
            return BTreeSet::new();
        }
        match value {
            Some(value) => self.live.insert(key.clone(), value),
            None => self.live.remove(&key),
        };
        [key].into()
    }
}

/// A control plane in another cell, as its record tells it.
#[derive(Debug, PartialEq)]
struct Far {
    hosts: HostNames,
    is_ending: bool,
}

/// Why a cell's tenants cannot be reached.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
enum Unreachable {
    /// The cell is gone.
    #[error("there is no such cell")]
    Gone,
    /// Its address is none.
    #[error("spec.gateway.address is of no use")]
    Front(#[source] FrontError),
    /// Its address would lead connections back here, and so on for ever.
    #[error("spec.gateway.address is this cell's own")]
    Own,
}

/// The content of all kinds.
#[derive(Debug)]
pub struct Inventory {
    /// The namespace of this cell's own records, which give no route: its control planes do.
    own: String,
    hosts: Table<Cpid, HostNames>,
    doors: Table<(Cpid, String), Doors>,
    /// By the namespace of the cell's records.
    fronts: Table<String, Result<Arc<Front>, FrontError>>,
    /// By control plane and namespace.
    far: Table<(Cpid, String), Far>,
    /// The namespaces of cells of which it was told that their tenants cannot be reached.
    told: BTreeSet<String>,
}

impl Inventory {
    /// Nothing, in the cell of this name.
    pub fn new(own: &CellName) -> Self {
        Self {
            own: own.namespace(),
            hosts: Table::default(),
            doors: Table::default(),
            fronts: Table::default(),
            far: Table::default(),
            told: BTreeSet::new(),
        }
    }

    /// Whether all kinds were listed: before, what is missing may just not have been seen.
    pub fn is_complete(&self) -> bool {
        let here = self.hosts.is_complete && self.doors.is_complete;
        here && self.fronts.is_complete && self.far.is_complete
    }

    /// Whether the control plane is in this cell, so that it has a status.
    pub fn is_local(&self, cpid: &Cpid) -> bool {
        self.hosts.live.contains_key(cpid)
    }

    /// Takes in an event of a cell; returns whose routes may have changed.
    pub fn cell(&mut self, event: Event<DeserializeGuard<Cell>>) -> BTreeSet<Cpid> {
        let is_listed = matches!(event, Event::InitDone);
        let event = map(event, |object| {
            let name = object.name_any().parse::<CellName>().ok()?;
            let front = match object.0 {
                Ok(cell) => cell.spec.gateway.address.parse().map(Arc::new),
                Err(_) => Err(FrontError::Unreadable),
            };
            Some((name.namespace(), Some(front)))
        });
        let changed = event.map(|event| self.fronts.take(event)).unwrap_or_default();
        // A check-in changes no address, so that cells cost nothing between changes.
        if changed.is_empty() && !is_listed {
            return BTreeSet::new();
        }
        let is_own = changed.contains(&self.own);
        self.told
            .retain(|namespace| !is_own && !changed.contains(namespace));
        let keys = self.far.live.keys();
        let concerned: Vec<(Cpid, String)> = keys
            .filter(|(_, namespace)| is_listed || is_own || changed.contains(namespace))
            .cloned()
            .collect();
        if self.fronts.is_complete {
            let known = changed
                .iter()
                .filter(|namespace| self.fronts.live.contains_key(*namespace));
            let namespaces = known.chain(concerned.iter().map(|(_, namespace)| namespace));
            let namespaces: BTreeSet<String> = namespaces.cloned().collect();
            self.tell(&namespaces);
        }
        concerned.into_iter().map(|(cpid, _)| cpid).collect()
    }

    /// Takes in an event of a record; returns whose routes may have changed.
    pub fn record(&mut self, event: Event<DeserializeGuard<DeploymentRecord>>) -> BTreeSet<Cpid> {
        let event = map(event, |object| {
            let namespace = object.namespace().filter(|namespace| *namespace != self.own)?;
            let cpid = object.name_any().parse::<Cpid>().ok()?;
            // Also one that is being deleted: its control plane serves until the record is gone.
            let far = object.0.ok().and_then(|record| {
                let (_, hosts) = record_host_names(&record).ok()?;
                let is_ending = record.metadata.deletion_timestamp.is_some();
                Some(Far { hosts, is_ending })
            });
            Some(((cpid, namespace), far))
        });
        let changed = event.map(|event| self.far.take(event)).unwrap_or_default();
        if self.fronts.is_complete {
            let here = changed.iter().filter(|key| self.far.live.contains_key(*key));
            let namespaces = here.map(|(_, namespace)| namespace.clone()).collect();
            self.tell(&namespaces);
        }
        changed.into_iter().map(|(cpid, _)| cpid).collect()
    }

    /// Takes in that the cluster does not know cells, so that there are none; no route changes.
    pub fn no_cells(&mut self) -> BTreeSet<Cpid> {
        self.fronts.assume_empty();
        BTreeSet::new()
    }

    /// Takes in that the cluster does not know records, so that there are none; no route changes.
    pub fn no_records(&mut self) -> BTreeSet<Cpid> {
        self.far.assume_empty();
        BTreeSet::new()
    }

    /// Takes in an event of a control plane; returns whose routes may have changed.
    pub fn control_plane(&mut self, event: Event<DeserializeGuard<ControlPlane>>) -> BTreeSet<Cpid> {
        let event = map(event, |object| {
            // One that cannot be read keeps its name, so that it is known to be there without a route.
            let name = object.name_any().parse::<Cpid>().ok()?;
            let readable = object
                .0
                .ok()
                .filter(|known| known.metadata.deletion_timestamp.is_none());
            Some((
                name,
                readable
                    .and_then(|known| host_names(&known).ok())
                    .map(|(_, hosts)| hosts),
            ))
        });
        event.map(|event| self.hosts.take(event)).unwrap_or_default()
    }

    /// Takes in an event of an endpoint slice; returns whose routes may have changed.
    pub fn endpoint_slice(&mut self, event: Event<EndpointSlice>) -> BTreeSet<Cpid> {
        let event = map(event, |slice| {
            Some(((owner(&slice)?, slice.name_any()), Some(doors(&slice))))
        });
        let keys = event.map(|event| self.doors.take(event)).unwrap_or_default();
        keys.into_iter().map(|(cpid, _)| cpid).collect()
    }

    /// The route of one control plane, if it is there. In this cell it wins over records of other cells: it is moved,
    /// and what is here is known first-hand.
    pub fn route(&self, cpid: &Cpid) -> Option<Route> {
        self.local_route(cpid).or_else(|| self.far_route(cpid))
    }

    /// Every route.
    pub fn routes(&self) -> Vec<Route> {
        let far = self.far.live.keys().map(|(cpid, _)| cpid);
        let cpids: BTreeSet<&Cpid> = self.hosts.live.keys().chain(far).collect();
        cpids.into_iter().filter_map(|cpid| self.route(cpid)).collect()
    }

    fn local_route(&self, cpid: &Cpid) -> Option<Route> {
        let hosts = self.hosts.live.get(cpid)?.clone();
        let doors = of_cpid(&self.doors, cpid).map(|(_, doors)| doors.clone());
        Some(Route {
            cpid: cpid.clone(),
            hosts,
            way: Way::Local(doors.collect()),
        })
    }

    /// Of several records the one that stays, then the one of the cell that comes first by name.
    fn far_route(&self, cpid: &Cpid) -> Option<Route> {
        let reachable =
            of_cpid(&self.far, cpid).filter_map(|(namespace, far)| Some((far, self.front(namespace).ok()?)));
        let (far, front) = reachable.min_by_key(|(far, _)| far.is_ending)?;
        Some(Route {
            cpid: cpid.clone(),
            hosts: far.hosts.clone(),
            way: Way::Far(front.clone()),
        })
    }

    fn front(&self, namespace: &str) -> Result<&Arc<Front>, Unreachable> {
        let known = self.fronts.live.get(namespace).ok_or(Unreachable::Gone)?;
        let front = known
            .as_ref()
            .map_err(|error| Unreachable::Front(error.clone()))?;
        let own = self.fronts.live.get(&self.own).and_then(|own| own.as_ref().ok());
        if namespace != self.own && own.is_some_and(|own| own.host() == front.host()) {
            return Err(Unreachable::Own);
        }
        Ok(front)
    }

    /// Tells once of each cell whose tenants cannot be reached.
    fn tell(&mut self, namespaces: &BTreeSet<String>) {
        for namespace in namespaces {
            match self.front(namespace) {
                Ok(_) => {
                    self.told.remove(namespace);
                }
                Err(error) => {
                    if self.told.insert(namespace.clone()) {
                        tracing::warn!(
                            namespace,
                            error = chain(&error),
                            "tenants of another cell are not routed to"
                        );
                    }
                }
            }
        }
    }
}

/// The rows of one control plane.
fn of_cpid<'a, V>(
    table: &'a Table<(Cpid, String), V>,
    cpid: &'a Cpid,
) -> impl Iterator<Item = (&'a str, &'a V)> {
    let rows = table.live.range((cpid.clone(), String::new())..);
    rows.take_while(move |((of, _), _)| of == cpid)
        .map(|((_, second), value)| (second.as_str(), value))
}

/// Parses the object of an event; nothing if it is of no interest.
fn map<T, U>(event: Event<T>, parse: impl FnOnce(T) -> Option<U>) -> Option<Event<U>> {
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(parse(object)?),
        Event::Apply(object) => Event::Apply(parse(object)?),
        Event::Delete(object) => Event::Delete(parse(object)?),
    })
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
