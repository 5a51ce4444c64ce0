//! What the watches have shown so far, small: host names and addresses, by control plane.
//!
//! A watch that starts again lists everything once more; until its end the earlier content counts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use skep_api::ControlPlane;
use skep_core::Cpid;

use crate::route::{Doors, HostNames, Route, doors, host_names, owner};

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

/// Both kinds' content.
#[derive(Debug, Default)]
pub struct Inventory {
    hosts: Table<Cpid, HostNames>,
    doors: Table<(Cpid, String), Doors>,
}

impl Inventory {
    /// Whether both kinds were listed: before, what is missing may just not have been seen.
    pub fn is_complete(&self) -> bool {
        self.hosts.is_complete && self.doors.is_complete
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

    /// The route of one control plane, if it is there.
    pub fn route(&self, cpid: &Cpid) -> Option<Route> {
        let hosts = self.hosts.live.get(cpid)?.clone();
        let slices = self.doors.live.range((cpid.clone(), String::new())..);
        let own = slices
            .take_while(|((of, _), _)| of == cpid)
            .map(|(_, doors)| doors.clone());
        Some(Route {
            cpid: cpid.clone(),
            hosts,
            doors: own.collect(),
        })
    }

    /// Every route.
    pub fn routes(&self) -> Vec<Route> {
        self.hosts
            .live
            .keys()
            .filter_map(|cpid| self.route(cpid))
            .collect()
    }
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
mod tests {
    use super::*;
    use crate::route::{API_SERVICE, SERVICE_LABEL, routes};
    use proptest::prelude::*;
    use serde_json::json;

    const CPIDS: [&str; 3] = ["caaaaaaaaa", "cbbbbbbbbb", "cccccccccc"];

    fn component() -> serde_json::Value {
        let resources = json!({"cpu": "1", "memory": "1Gi", "memoryLimit": "1Gi"});
        json!({"image": "i", "replicas": 1, "resources": resources})
    }

    fn control_plane(index: usize, is_deleted: bool) -> ControlPlane {
        let etcd = json!({
            "version": "3.7.3", "image": "i", "members": 3, "volumeSize": "1Gi", "storageClass": "local",
            "quotaBytes": 67_108_864, "resources": component()["resources"],
        });
        serde_json::from_value(json!({
            "apiVersion": "skep.dev/v1alpha1", "kind": "ControlPlane",
            "metadata": {"name": CPIDS[index], "deletionTimestamp": is_deleted.then_some("2026-11-01T10:00:00Z")},
            "spec": {
                "tenant": {"project": "p", "name": "n", "uid": "u"}, "version": "1.36.3", "profile": "p",
                "class": "small", "region": "local", "domain": "skep.internal", "availability": "Single",
                "network": {"pods": "198.19.0.0/17", "services": "198.19.128.0/20"},
                "etcd": etcd, "apiServer": component(), "controllerManager": component(), "scheduler": component(),
            },
        }))
        .unwrap()
    }

    fn slice(index: usize, number: u8, host: u8) -> EndpointSlice {
        serde_json::from_value(json!({
            "addressType": "IPv4",
            "metadata": {
                "name": format!("kube-apiserver-{number}"), "namespace": format!("cp-{}", CPIDS[index]),
                "labels": {SERVICE_LABEL: API_SERVICE},
            },
            "ports": [{"port": 6443}],
            "endpoints": [{"addresses": [format!("10.0.{number}.{host}")], "conditions": {"ready": true}}],
        }))
        .unwrap()
    }

    fn guarded(object: ControlPlane) -> DeserializeGuard<ControlPlane> {
        serde_json::from_value(serde_json::to_value(object).unwrap()).unwrap()
    }

    #[test]
    fn nothing_is_known_before_both_kinds_were_listed() {
        let mut inventory = Inventory::default();
        inventory.control_plane(Event::Init);
        inventory.control_plane(Event::InitApply(guarded(control_plane(0, false))));
        assert_eq!(inventory.control_plane(Event::InitDone).len(), 1);
        assert!(!inventory.is_complete());
        inventory.endpoint_slice(Event::InitDone);
        assert!(inventory.is_complete());
        assert!(!inventory.routes()[0].doors.api.is_ready());
    }

    #[test]
    fn a_listing_replaces_what_went_unseen() {
        let mut inventory = Inventory::default();
        inventory.control_plane(Event::Apply(guarded(control_plane(0, false))));
        inventory.control_plane(Event::Apply(guarded(control_plane(1, false))));
        inventory.control_plane(Event::Init);
        inventory.control_plane(Event::InitApply(guarded(control_plane(1, false))));
        assert_eq!(inventory.routes().len(), 2, "the listing has not ended");
        assert_eq!(
            inventory.control_plane(Event::InitDone),
            [CPIDS[0].parse().unwrap()].into()
        );
        assert_eq!(inventory.routes().len(), 1);
    }

    #[test]
    fn a_control_plane_that_is_deleted_or_unreadable_has_no_route() {
        let mut inventory = Inventory::default();
        inventory.control_plane(Event::Apply(guarded(control_plane(0, false))));
        inventory.control_plane(Event::Apply(guarded(control_plane(1, false))));
        inventory.control_plane(Event::Apply(guarded(control_plane(0, true))));
        let unreadable = json!({
            "apiVersion": "skep.dev/v1alpha1", "kind": "ControlPlane", "metadata": {"name": CPIDS[1]}, "spec": 1,
        });
        inventory.control_plane(Event::Apply(serde_json::from_value(unreadable).unwrap()));
        assert!(inventory.routes().is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Plane(usize, bool),
        NoPlane(usize),
        Slice(usize, u8, u8),
        NoSlice(usize, u8),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let index = 0..CPIDS.len();
        prop_oneof![
            (index.clone(), any::<bool>()).prop_map(|(index, gone)| Step::Plane(index, gone)),
            index.clone().prop_map(Step::NoPlane),
            (index.clone(), 0u8..2, 1u8..4)
                .prop_map(|(index, number, host)| Step::Slice(index, number, host)),
            (index, 0u8..2).prop_map(|(index, number)| Step::NoSlice(index, number)),
        ]
    }

    proptest! {
        #[test]
        fn events_lead_to_the_routes_of_the_objects_that_are_left(
            steps in prop::collection::vec(any_step(), 0..30),
        ) {
            let mut inventory = Inventory::default();
            let (mut planes, mut slices) = (BTreeMap::new(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Plane(index, gone) => {
                        planes.insert(index, control_plane(index, gone));
                        inventory.control_plane(Event::Apply(guarded(control_plane(index, gone))));
                    }
                    Step::NoPlane(index) => {
                        planes.remove(&index);
                        inventory.control_plane(Event::Delete(guarded(control_plane(index, true))));
                    }
                    Step::Slice(index, number, host) => {
                        slices.insert((index, number), slice(index, number, host));
                        inventory.endpoint_slice(Event::Apply(slice(index, number, host)));
                    }
                    Step::NoSlice(index, number) => {
                        slices.remove(&(index, number));
                        inventory.endpoint_slice(Event::Delete(slice(index, number, 1)));
                    }
                }
                prop_assert_eq!(inventory.routes(), routes(planes.values(), slices.values()));
            }
        }
    }
}
