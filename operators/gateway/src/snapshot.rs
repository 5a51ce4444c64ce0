//! All resources of the cell's routes, by kind and name.
//!
//! A change of one route costs as much as that route, however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_core::Cpid;

use crate::resources::{Kind, Resource, build_resources};
use crate::route::Route;

/// The names of resources that changed, by kind.
pub type Changes = BTreeSet<(Kind, String)>;

/// Every resource that Envoy may ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    resources: BTreeMap<(Kind, String), Arc<Resource>>,
    routes: BTreeMap<Cpid, Route>,
}

impl Snapshot {
    /// The snapshot of a set of routes.
    pub fn of(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut snapshot = Self::default();
        for route in routes {
            snapshot.put(route);
        }
        snapshot
    }

    /// Puts one route in place of what was there, and says what changed.
    pub fn put(&mut self, route: Route) -> Changes {
        if self.routes.get(&route.cpid) == Some(&route) {
            return Changes::new();
        }
        let built = build_resources(&route);
        let names: BTreeSet<(Kind, String)> = built
            .iter()
            .map(|(kind, name, _)| (*kind, name.clone()))
            .collect();
        let mut changes = self.forget(&route.cpid, &names);
        for (kind, name, resource) in built {
            let before = self.resources.insert((kind, name.clone()), resource.clone());
            if before.is_none_or(|before| before.version != resource.version) {
                changes.insert((kind, name));
            }
        }
        self.routes.insert(route.cpid.clone(), route);
        changes
    }

    /// Takes a route away, and says what changed.
    pub fn remove(&mut self, cpid: &Cpid) -> Changes {
        let changes = self.forget(cpid, &BTreeSet::new());
        self.routes.remove(cpid);
        changes
    }

    /// Puts exactly these routes in place of all, and says what changed.
    pub fn replace(&mut self, routes: Vec<Route>) -> Changes {
        let named: BTreeSet<&Cpid> = routes.iter().map(|route| &route.cpid).collect();
        let gone: Vec<Cpid> = self
            .routes
            .keys()
            .filter(|cpid| !named.contains(cpid))
            .cloned()
            .collect();
        let mut changes: Changes = gone.iter().flat_map(|cpid| self.remove(cpid)).collect();
        for route in routes {
            changes.extend(self.put(route));
        }
        changes
    }

    /// One resource.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&(kind, name.to_owned()))
    }

    /// The names of all resources of a kind.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let of_kind = self
            .resources
            .range((kind, String::new())..)
            .take_while(move |((k, _), _)| *k == kind);
        of_kind.map(|((_, name), _)| name.as_str())
    }

    /// The route of one control plane.
    pub fn route(&self, cpid: &Cpid) -> Option<&Route> {
        self.routes.get(cpid)
    }

    /// All routes.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values()
    }

    /// How many control planes have a route.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether nothing is routed.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Drops the resources of a control plane, save those that are to stay.
    fn forget(&mut self, cpid: &Cpid, stay: &BTreeSet<(Kind, String)>) -> Changes {
        let Some(route) = self.routes.get(cpid) else {
            return Changes::new();
        };
        let of_host = |host: &str| Kind::ALL.map(|kind| (kind, host.to_owned()));
        let keys = route
            .hosts
            .iter()
            .flat_map(of_host)
            .filter(|key| !stay.contains(key));
        let keys: Changes = keys.collect();
        for key in &keys {
            self.resources.remove(key);
        }
        keys
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::route::{Doors, HostNames, Way};
    use proptest::prelude::*;
    use serde_json::json;

    pub(crate) fn route(cpid: &str, addresses: &[&str]) -> Route {
        let doors: Doors = addresses.iter().map(|address| door(address)).collect();
        let host = |role: &str| format!("{role}.{cpid}.local.skep.internal");
        Route {
            cpid: cpid.parse().unwrap(),
            hosts: HostNames {
                api: host("api"),
                node: host("node"),
                konnectivity: host("konnectivity"),
            },
            way: Way::Local(doors),
        }
    }

    pub(crate) fn far_route(cpid: &str, front: &str) -> Route {
        Route {
            way: Way::Far(std::sync::Arc::new(front.parse().unwrap())),
            ..route(cpid, &[])
        }
    }

    fn door(address: &str) -> Doors {
        let (ip, port) = address.rsplit_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        let slice = json!({
            "metadata": {}, "addressType": "IPv4", "ports": [{"port": port}], "endpoints": [{"addresses": [ip]}],
        });
        crate::route::doors(&serde_json::from_value(slice).unwrap())
    }

    const CPIDS: [&str; 4] = ["caaaaaaaaa", "cbbbbbbbbb", "cccccccccc", "cddddddddd"];

    fn any_route() -> impl Strategy<Value = Route> {
        prop_oneof![any_local_route(), any_far_route()]
    }

    fn any_far_route() -> impl Strategy<Value = Route> {
        let fronts = ["10.9.0.1:443", "10.9.0.2:443", "front.example.com:443"];
        (0..CPIDS.len(), prop::sample::select(fronts.to_vec()))
            .prop_map(|(index, front)| far_route(CPIDS[index], front))
    }

    fn any_local_route() -> impl Strategy<Value = Route> {
        (0..CPIDS.len(), prop::collection::btree_set(1u8..5, 0..3)).prop_map(|(index, hosts)| {
            let addresses: Vec<String> = hosts.iter().map(|host| format!("10.0.0.{host}:6443")).collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            route(CPIDS[index], &addresses)
        })
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put(Box<Route>),
        Remove(usize),
        Replace(Vec<Route>),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any_route().prop_map(|route| Step::Put(Box::new(route))),
            2 => (0..CPIDS.len()).prop_map(Step::Remove),
            1 => prop::collection::vec(any_route(), 0..4).prop_map(Step::Replace),
        ]
    }

    proptest! {
        #[test]
        fn steps_lead_to_the_snapshot_of_what_is_left_and_name_every_change(
            steps in prop::collection::vec(any_step(), 0..20),
        ) {
            let mut snapshot = Snapshot::default();
            let mut left: BTreeMap<Cpid, Route> = BTreeMap::new();
            for step in steps {
                let before = snapshot.clone();
                let changes = match step {
                    Step::Put(route) => { left.insert(route.cpid.clone(), (*route).clone()); snapshot.put(*route) }
                    Step::Remove(index) => {
                        let cpid = CPIDS[index].parse().unwrap();
                        left.remove(&cpid);
                        snapshot.remove(&cpid)
                    }
                    Step::Replace(routes) => {
                        left = routes.iter().map(|route| (route.cpid.clone(), route.clone())).collect();
                        snapshot.replace(routes)
                    }
                };
                prop_assert_eq!(&snapshot, &Snapshot::of(left.values().cloned()));
                let keys = before.resources.keys().chain(snapshot.resources.keys());
                for key in keys {
                    if before.resources.get(key) != snapshot.resources.get(key) {
                        prop_assert!(changes.contains(key));
                    }
                }
            }
        }
    }
}
