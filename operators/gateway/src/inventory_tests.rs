//! Events of all kinds, and the routes that they lead to.

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

fn new_inventory() -> Inventory {
    Inventory::new(&"hub".parse().unwrap())
}

fn guarded(object: ControlPlane) -> DeserializeGuard<ControlPlane> {
    serde_json::from_value(serde_json::to_value(object).unwrap()).unwrap()
}

fn cell(name: &str, address: &str) -> DeserializeGuard<Cell> {
    let network = json!({"nodes": "10.9.0.0/24", "pods": "10.10.0.0/16", "services": "10.11.0.0/16"});
    serde_json::from_value(json!({
        "apiVersion": "skep.dev/v1alpha1", "kind": "Cell", "metadata": {"name": name},
        "spec": {
            "region": "local", "domain": "skep.internal", "zones": ["a"], "network": network,
            "gateway": {"address": address},
        },
    }))
    .unwrap()
}

fn record(of_cell: &str, index: usize, is_deleted: bool) -> DeserializeGuard<DeploymentRecord> {
    let plane = control_plane(index, is_deleted);
    let object = json!({
        "apiVersion": "skep.dev/v1alpha1", "kind": "DeploymentRecord",
        "metadata": {
            "name": CPIDS[index], "namespace": format!("skep-cell-{of_cell}"),
            "deletionTimestamp": plane.metadata.deletion_timestamp,
        },
        "spec": {
            "tenant": plane.spec.tenant, "cpid": CPIDS[index], "revision": "0123456789abcdef",
            "controlPlane": plane.spec,
        },
    });
    serde_json::from_value(object).unwrap()
}

/// Where the routes to other cells lead.
fn fronts(inventory: &Inventory) -> Vec<(String, Front)> {
    let front = |route: Route| match route.way {
        Way::Far(front) => Some((route.cpid.as_str().to_owned(), (*front).clone())),
        Way::Local(_) => None,
    };
    inventory.routes().into_iter().filter_map(front).collect()
}

#[test]
fn nothing_is_known_before_all_kinds_were_listed() {
    let mut inventory = new_inventory();
    inventory.control_plane(Event::Init);
    inventory.control_plane(Event::InitApply(guarded(control_plane(0, false))));
    assert_eq!(inventory.control_plane(Event::InitDone).len(), 1);
    inventory.endpoint_slice(Event::InitDone);
    inventory.cell(Event::InitDone);
    assert!(!inventory.is_complete());
    inventory.record(Event::InitDone);
    assert!(inventory.is_complete());
    assert_eq!(inventory.routes()[0].is_ready(), Some(false));
}

#[test]
fn a_cluster_that_knows_neither_cells_nor_records_has_none() {
    let mut inventory = new_inventory();
    inventory.control_plane(Event::InitDone);
    inventory.endpoint_slice(Event::InitDone);
    inventory.no_cells();
    inventory.no_records();
    assert!(inventory.is_complete());
    // Who answers so when something was published already does not take it away.
    inventory.cell(Event::Apply(cell("eu-1", "10.9.0.1:443")));
    inventory.record(Event::Apply(record("eu-1", 0, false)));
    inventory.no_cells();
    inventory.no_records();
    assert_eq!(
        fronts(&inventory),
        [(CPIDS[0].to_owned(), "10.9.0.1:443".parse().unwrap())]
    );
}

#[test]
fn a_record_of_another_cell_leads_to_its_front_until_it_is_gone() {
    let mut inventory = new_inventory();
    inventory.cell(Event::Apply(cell("eu-1", "10.9.0.1:443")));
    let changed = inventory.record(Event::Apply(record("eu-1", 0, false)));
    assert_eq!(changed, [CPIDS[0].parse().unwrap()].into());
    let route = inventory.routes().remove(0);
    let names: Vec<_> = ["api", "node", "konnectivity"]
        .map(|role| format!("{role}.{}.local.skep.internal", CPIDS[0]))
        .into();
    assert_eq!(route.hosts.iter().collect::<Vec<_>>(), names);
    assert_eq!(
        route.is_ready(),
        None,
        "only its own cell says whether it is ready"
    );
    assert!(!inventory.is_local(&route.cpid), "no status is written for it");
    inventory.record(Event::Apply(record("eu-1", 0, true)));
    assert_eq!(inventory.routes(), [route], "it serves while it is deleted");
    inventory.record(Event::Delete(record("eu-1", 0, true)));
    assert!(inventory.routes().is_empty());
}

#[test]
fn a_change_of_a_cells_address_changes_its_tenants_routes_and_no_others() {
    let mut inventory = new_inventory();
    inventory.cell(Event::Apply(cell("eu-1", "10.9.0.1:443")));
    inventory.cell(Event::Apply(cell("eu-2", "10.9.0.2:443")));
    inventory.record(Event::Apply(record("eu-1", 0, false)));
    inventory.record(Event::Apply(record("eu-2", 1, false)));
    let again = inventory.cell(Event::Apply(cell("eu-1", "10.9.0.1:443")));
    assert!(again.is_empty(), "a check-in changes nothing");
    let changed = inventory.cell(Event::Apply(cell("eu-1", "front.example.com:443")));
    assert_eq!(changed, [CPIDS[0].parse().unwrap()].into());
    let expected = [(0, "front.example.com:443"), (1, "10.9.0.2:443")];
    let expected = expected.map(|(index, front)| (CPIDS[index].to_owned(), front.parse().unwrap()));
    assert_eq!(fronts(&inventory), expected);
}

#[test]
fn a_cell_that_is_gone_or_whose_address_is_none_or_our_own_is_told_of_once() {
    let mut inventory = new_inventory();
    inventory.record(Event::Apply(record("eu-1", 0, false)));
    assert!(inventory.told.is_empty(), "cells were not listed yet");
    inventory.cell(Event::InitDone);
    let told: BTreeSet<String> = ["skep-cell-eu-1".to_owned()].into();
    assert_eq!(inventory.told, told, "there is no such cell");
    inventory.cell(Event::Apply(cell("eu-1", "10.9.0.1:443")));
    assert!(inventory.told.is_empty());
    assert_eq!(inventory.routes().len(), 1);
    for useless in ["10.9.0.1", "10.9.0.9:443"] {
        inventory.cell(Event::Apply(cell("hub", "10.9.0.9:444")));
        let changed = inventory.cell(Event::Apply(cell("eu-1", useless)));
        assert_eq!(changed.len(), 1, "{useless}");
        assert_eq!(inventory.told, told, "{useless}");
        assert!(inventory.routes().is_empty(), "{useless}");
    }
    // Once this cell is elsewhere, that address is another's.
    assert_eq!(inventory.cell(Event::Apply(cell("hub", "10.9.0.8:443"))).len(), 1);
    assert_eq!(inventory.routes().len(), 1);
    inventory.cell(Event::Delete(cell("eu-1", "10.9.0.9:443")));
    assert!(inventory.routes().is_empty());
    assert_eq!(inventory.told, told);
}

#[test]
fn of_two_records_the_one_that_stays_leads_the_way() {
    let mut inventory = new_inventory();
    inventory.cell(Event::Apply(cell("eu-1", "10.9.0.1:443")));
    inventory.cell(Event::Apply(cell("eu-2", "10.9.0.2:443")));
    inventory.record(Event::Apply(record("eu-1", 0, true)));
    inventory.record(Event::Apply(record("eu-2", 0, false)));
    assert_eq!(fronts(&inventory)[0].1, "10.9.0.2:443".parse().unwrap());
    inventory.cell(Event::Delete(cell("eu-2", "10.9.0.2:443")));
    assert_eq!(fronts(&inventory)[0].1, "10.9.0.1:443".parse().unwrap());
}

#[test]
fn records_of_this_cell_and_those_that_make_no_sense_give_no_route() {
    let mut inventory = new_inventory();
    for name in ["hub", "eu-1"] {
        inventory.cell(Event::Apply(cell(name, "10.9.0.1:443")));
    }
    inventory.cell(Event::Apply(cell("eu-1", "10.9.0.2:443")));
    inventory.record(Event::Apply(record("hub", 0, false)));
    let mut other_name = serde_json::to_value(record("eu-1", 1, false).0.unwrap()).unwrap();
    other_name["metadata"]["name"] = CPIDS[0].into();
    inventory.record(Event::Apply(serde_json::from_value(other_name).unwrap()));
    let mut unreadable = serde_json::to_value(record("eu-1", 2, false).0.unwrap()).unwrap();
    unreadable["spec"] = 1.into();
    inventory.record(Event::Apply(serde_json::from_value(unreadable).unwrap()));
    let mut elsewhere = serde_json::to_value(record("eu-1", 1, false).0.unwrap()).unwrap();
    elsewhere["metadata"]["namespace"] = "eu-1".into();
    inventory.record(Event::Apply(serde_json::from_value(elsewhere).unwrap()));
    assert!(inventory.routes().is_empty());
}

#[test]
fn a_listing_replaces_what_went_unseen() {
    let mut inventory = new_inventory();
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
    let mut inventory = new_inventory();
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
    Cell(usize, usize),
    NoCell(usize),
    Record(usize, usize, bool),
    NoRecord(usize, usize),
}

const CELLS: [&str; 3] = ["hub", "eu-1", "eu-2"];
const ADDRESSES: [&str; 4] = ["10.9.0.1:443", "10.9.0.2:443", "front.example.com:443", "nowhere"];

/// The far routes by the rules, one after the other.
fn expected_fronts(
    planes: &BTreeMap<usize, ControlPlane>,
    cells: &BTreeMap<usize, usize>,
    records: &BTreeMap<(usize, usize), bool>,
) -> Vec<(String, Front)> {
    let own = cells.get(&0).copied();
    let mut found = Vec::new();
    for (index, cpid) in CPIDS.iter().enumerate() {
        if planes
            .get(&index)
            .is_some_and(|plane| plane.metadata.deletion_timestamp.is_none())
        {
            continue;
        }
        let order = [(1, false), (2, false), (1, true), (2, true)];
        let usable = order.into_iter().find_map(|(cell, is_ending)| {
            let address = cells.get(&cell).filter(|address| Some(**address) != own)?;
            let front = ADDRESSES[*address].parse().ok()?;
            (records.get(&(cell, index)) == Some(&is_ending)).then_some(front)
        });
        found.extend(usable.map(|front| ((*cpid).to_owned(), front)));
    }
    found
}

fn any_step() -> impl Strategy<Value = Step> {
    let index = 0..CPIDS.len();
    prop_oneof![
        (index.clone(), any::<bool>()).prop_map(|(index, gone)| Step::Plane(index, gone)),
        index.clone().prop_map(Step::NoPlane),
        (index.clone(), 0u8..2, 1u8..4).prop_map(|(index, number, host)| Step::Slice(index, number, host)),
        (index.clone(), 0u8..2).prop_map(|(index, number)| Step::NoSlice(index, number)),
        (0..CELLS.len(), 0..ADDRESSES.len()).prop_map(|(cell, address)| Step::Cell(cell, address)),
        (0..CELLS.len()).prop_map(Step::NoCell),
        (0..CELLS.len(), index.clone(), any::<bool>())
            .prop_map(|(cell, index, gone)| Step::Record(cell, index, gone)),
        (0..CELLS.len(), index).prop_map(|(cell, index)| Step::NoRecord(cell, index)),
    ]
}

proptest! {
    #[test]
    fn events_lead_to_the_routes_of_the_objects_that_are_left(
        steps in prop::collection::vec(any_step(), 0..40),
    ) {
        let mut inventory = new_inventory();
        let (mut planes, mut slices) = (BTreeMap::new(), BTreeMap::new());
        let (mut cells, mut records) = (BTreeMap::new(), BTreeMap::new());
        for step in steps {
            let before = inventory.routes();
            let changed = match step {
                Step::Plane(index, gone) => {
                    planes.insert(index, control_plane(index, gone));
                    inventory.control_plane(Event::Apply(guarded(control_plane(index, gone))))
                }
                Step::NoPlane(index) => {
                    planes.remove(&index);
                    inventory.control_plane(Event::Delete(guarded(control_plane(index, true))))
                }
                Step::Slice(index, number, host) => {
                    slices.insert((index, number), slice(index, number, host));
                    inventory.endpoint_slice(Event::Apply(slice(index, number, host)))
                }
                Step::NoSlice(index, number) => {
                    slices.remove(&(index, number));
                    inventory.endpoint_slice(Event::Delete(slice(index, number, 1)))
                }
                Step::Cell(name, address) => {
                    cells.insert(name, address);
                    inventory.cell(Event::Apply(cell(CELLS[name], ADDRESSES[address])))
                }
                Step::NoCell(name) => {
                    cells.remove(&name);
                    inventory.cell(Event::Delete(cell(CELLS[name], ADDRESSES[0])))
                }
                Step::Record(of_cell, index, gone) => {
                    records.insert((of_cell, index), gone);
                    inventory.record(Event::Apply(record(CELLS[of_cell], index, gone)))
                }
                Step::NoRecord(of_cell, index) => {
                    records.remove(&(of_cell, index));
                    inventory.record(Event::Delete(record(CELLS[of_cell], index, true)))
                }
            };
            let after = inventory.routes();
            let local = after.iter().filter(|route| matches!(route.way, Way::Local(_))).cloned();
            prop_assert_eq!(local.collect::<Vec<_>>(), routes(planes.values(), slices.values()));
            prop_assert_eq!(fronts(&inventory), expected_fronts(&planes, &cells, &records));
            let differ = before.iter().filter(|route| !after.contains(route));
            for route in differ.chain(after.iter().filter(|route| !before.contains(route))) {
                prop_assert!(changed.contains(&route.cpid), "every change of a route is told");
            }
        }
    }
}
