//! Small hubs, and the plans that are made from them.

use skep_api::cell::ZoneCapacity;
use skep_planner::model::{Class, Phase, Place};
use skep_planner::{Resource, Rule};

use super::*;

const NOW: &str = "2026-11-01T10:00:00Z";

fn now() -> Seconds {
    1_793_527_200
}

fn one<K: serde::de::DeserializeOwned>(text: &str) -> K {
    serde_saphyr::from_str(text).unwrap()
}

fn pool(text: &str) -> CellPool {
    one(&format!(
        "{{apiVersion: skep.dev/v1alpha1, kind: CellPool, metadata: {{name: local}}, spec: {{region: local, {text}}}}}"
    ))
}

/// A cell of three zones, of which each has so many volumes.
fn cell(name: &str, volumes: u32) -> Cell {
    let zones: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|zone| {
            format!(
                "{{name: {zone}, readyNodes: 1, allocatable: {{cpu: 4000m, memory: 8192Mi, pods: '110', volumes: '{volumes}', \
                 datastore: {}Mi}}, system: {{cpu: 500m, memory: 512Mi, pods: '9'}}}}",
                volumes * 1536
            )
        })
        .collect();
    one(&format!(
        "
apiVersion: skep.dev/v1alpha1
kind: Cell
metadata: {{name: {name}}}
spec:
  pool: local
  region: local
  domain: skep.internal
  zones: [a, b, c]
  network: {{nodes: 198.18.0.0/24, services: 198.18.4.0/22, pods: 198.18.16.0/20}}
  gateway: {{address: '198.18.0.2:443'}}
status:
  lastCheckIn: {NOW}
  capacity: [{}]
  conditions: [{{type: Ready, status: 'True', reason: CheckedIn, message: '', lastTransitionTime: {NOW}}}]
",
        zones.join(", ")
    ))
}

fn tenant(name: &str, spec: &str, status: &str) -> TenantCluster {
    one(&format!(
        "{{apiVersion: skep.dev/v1alpha1, kind: TenantCluster, \
         metadata: {{name: {name}, namespace: project-shop, creationTimestamp: {NOW}}}, spec: {{{spec}}}, status: {{{status}}}}}"
    ))
}

fn objects(pools: Vec<CellPool>, cells: Vec<Cell>, tenants: Vec<TenantCluster>) -> Objects {
    let versions = ["1.36.3".parse().unwrap()];
    let offer = skep_profiles::Offer {
        image_repository: "localhost",
        kubernetes_versions: &versions,
        etcd_version: "3.7.3",
        images: &BTreeMap::new(),
        upstream_dns: "",
        largest_volume: Some(1536),
    };
    let made = skep_profiles::offered(&offer).unwrap();
    Objects::new(pools, cells, made.profiles, made.classes, tenants)
}

#[test]
fn a_tenant_takes_what_its_control_plane_asks_for() {
    let spread = tenant("spread", "", "");
    let single = tenant("single", "availability: Single, class: medium", "");
    let view = objects(vec![pool("")], vec![cell("one", 20)], vec![spread, single]).view(now());
    assert_eq!(view.faults, []);
    let demand = |position: usize, resource: Resource| view.input.tenants[position].demand.mean[resource];
    // Two apiservers, three members, one of each controller.
    assert_eq!(demand(0, Resource::Cpu), 2 * 50 + 3 * 25 + 20 + 10);
    assert_eq!(demand(0, Resource::Memory), (2 * 256 + 3 * 64 + 64 + 32) * 1000);
    assert_eq!(demand(0, Resource::Pods), 7000);
    assert_eq!(demand(0, Resource::Volumes), 3000);
    assert_eq!(demand(0, Resource::Datastore), 3 * 1536 * 1000);
    assert_eq!(demand(1, Resource::Volumes), 1000);
    assert_eq!(demand(1, Resource::Cpu), 250 + 100 + 100 + 50);
    assert_eq!(view.input.tenants[1].class, Class::Medium);
    assert_eq!(view.input.tenants[0].name, "shop/spread");
}

#[test]
fn a_profile_that_asks_for_more_changes_its_own_tenants_alone() {
    let mut all = objects(vec![pool("")], vec![cell("one", 20)], Vec::new());
    let mut greedy = all.profiles["standard"].clone();
    greedy.template = greedy.template.replace(
        "{{json class.apiServer}}",
        "{cpu: '900', memory: 1Mi, memoryLimit: 1Mi}",
    );
    all.profiles.insert("greedy".into(), greedy);
    all.tenants = vec![tenant("modest", "", ""), tenant("greedy", "profile: greedy", "")];
    let view = all.view(now());
    assert_eq!(view.faults, []);
    let cpu = |position: usize| view.input.tenants[position].demand.mean[Resource::Cpu];
    assert_eq!(cpu(0), 205);
    assert_eq!(cpu(1), 1_800_105);
    let prior = &view.input.classes.get(Class::Small).prior;
    assert_eq!(prior.mean[Resource::Cpu], 205);
    // The least of each dimension.
    assert_eq!(prior.mean[Resource::Memory], (2 + 3 * 64 + 64 + 32) * 1000);
}

#[test]
fn a_class_whose_quantity_is_none_is_told_and_the_others_count() {
    let mut all = objects(vec![pool("")], vec![cell("one", 20)], vec![tenant("new", "", "")]);
    if let Some(medium) = all.classes.get_mut("medium") {
        medium.etcd.memory = "lots".into();
    }
    let view = all.view(now());
    let fault = Fault::new("profiles.standard", "\"lots\" is no quantity from 0");
    assert_eq!(view.faults, [fault.clone(), fault]);
    assert_eq!(view.input.tenants[0].demand.mean[Resource::Cpu], 205);
}

#[test]
fn a_cell_fills_up_and_the_pool_says_which_dimension_binds() {
    // Of 10 volumes in each zone, with one zone lost: 2 × 0.95 × 10 for tenants of three members, so six of them.
    let running = |number: u32| {
        tenant(
            &format!("t{number}"),
            "",
            "cell: one, class: small, version: 1.36.3",
        )
    };
    let tenants: Vec<TenantCluster> = (0..6).map(running).chain([tenant("new", "", "")]).collect();
    let pools = vec![pool("headroom: none, maxCells: 2")];
    let (plan, report) = objects(pools, vec![cell("one", 10)], tenants)
        .view(now())
        .state()
        .plan(0);
    assert_eq!(plan.placements, []);
    assert_eq!(plan.orders.len(), 1, "{report}");
    assert!(plan.orders[0].is_shadow);
    let pool = &report.pools[0];
    assert_eq!(
        (pool.pool.as_str(), pool.cells, pool.resource.as_str()),
        ("local", 1, "volumes")
    );
    let refusal = &report.refusals[0];
    assert_eq!(
        (refusal.subject.as_str(), refusal.rule),
        ("tenant shop/new", Rule::Room)
    );
    assert_eq!(refusal.binding.as_ref().unwrap().resource, Resource::Volumes);
}

#[test]
fn room_that_is_kept_is_not_given_away() {
    for (headroom, placed) in [("none", 1), ("large", 0)] {
        let pools = vec![pool(&format!("headroom: {headroom}"))];
        let (plan, report) = objects(pools, vec![cell("one", 20)], vec![tenant("new", "", "")])
            .view(now())
            .state()
            .plan(0);
        assert_eq!(plan.placements.len(), placed, "{headroom}: {report}");
    }
}

#[test]
fn phases_are_read_off_a_cell() {
    let mut cells: Vec<Cell> = ["a", "b", "c", "d"].iter().map(|name| cell(name, 10)).collect();
    cells[1].spec.cordoned = true;
    cells[2].status = None;
    cells[3].metadata.deletion_timestamp = cells[0].status.as_ref().unwrap().last_check_in.clone();
    let view = objects(vec![pool("")], cells, Vec::new()).view(now());
    let phases: Vec<Phase> = view.input.cells.values().map(|cell| cell.phase).collect();
    assert_eq!(
        phases,
        [Phase::Active, Phase::Cordoned, Phase::Building, Phase::Draining]
    );
    // One that never checked in is reckoned as its pool says.
    assert_eq!(view.input.cells["c"].zones, view.input.pools["local"].template);
    assert_eq!(view.input.cells["a"].reported, now());
    assert_eq!(view.faults, []);
}

#[test]
fn a_bad_report_closes_its_cell_and_names_the_field() {
    type Edit = fn(&mut Vec<ZoneCapacity>);
    let edits: [(Edit, &str); 5] = [
        (Vec::clear, "the agent reports no zone"),
        (|zones| zones.truncate(2), "zone c is missing"),
        (
            |zones| zones[0].allocatable.extend([("cpu".into(), "-4".into())]),
            "cpu of zone a: \"-4\" is no quantity from 0",
        ),
        (
            |zones| zones[1].system.extend([("memory".into(), "1e99".into())]),
            "memory of zone b: \"1e99\" is no quantity from 0",
        ),
        (
            |zones| zones[2].allocatable.extend([("gpus".into(), "4".into())]),
            "gpus of zone c is no dimension; those are cpu, memory, pods, volumes, datastore",
        ),
    ];
    for (edit, message) in edits {
        let (mut bad, good) = (cell("bad", 10), cell("good", 10));
        edit(&mut bad.status.as_mut().unwrap().capacity);
        // Those that are in it stay, and nothing is ordered or moved on their account.
        let there = [
            tenant("there", "", "cell: bad, class: small"),
            tenant("pinned", "class: medium", "cell: bad, class: small"),
        ];
        for with_good in [true, false] {
            let cells = if with_good {
                vec![bad.clone(), good.clone()]
            } else {
                vec![bad.clone()]
            };
            let tenants = there.iter().cloned().chain([tenant("new", "", "")]).collect();
            let view = objects(vec![pool("headroom: none, maxCells: 5")], cells, tenants).view(now());
            assert_eq!(view.faults, [Fault::new("cells.bad.status.capacity", message)]);
            let (plan, report) = view.state().plan(0);
            assert_eq!(report.cells[0].rule, Rule::BadReport);
            assert!(plan.moves.is_empty() && plan.orders.is_empty(), "{report}");
            let chosen: Vec<&str> = plan
                .placements
                .iter()
                .map(|placement| placement.cell.as_str())
                .collect();
            let expected: &[&str] = if with_good { &["good"] } else { &[] };
            assert_eq!(chosen, expected, "{report}");
        }
    }
}

#[test]
fn who_is_refused_or_goes_or_is_of_no_project_waits_for_no_cell() {
    let invalid = "conditions: [{type: Valid, status: 'False', reason: InvalidSpec, message: '', lastTransitionTime: '2026-11-01T09:00:00Z'}]";
    let mut going = tenant("going", "", "");
    going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
    let mut stray = tenant("stray", "", "");
    stray.metadata.namespace = Some("elsewhere".into());
    let mut leaving = tenant("leaving", "", "cell: one, class: small");
    leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
    let tenants = vec![tenant("invalid", "", invalid), going, stray, leaving];
    let view = objects(vec![pool("")], vec![cell("one", 10)], tenants).view(now());
    let names: Vec<&str> = view
        .input
        .tenants
        .iter()
        .map(|tenant| tenant.name.as_str())
        .collect();
    // One that has a cell takes room until it is gone.
    assert_eq!(names, ["shop/leaving"]);
}

#[test]
fn nodes_in_a_zone_that_is_not_the_cell_s_give_nothing() {
    let mut one = cell("one", 10);
    let stray = ZoneCapacity {
        name: "z".into(),
        ..one.status.as_ref().unwrap().capacity[0].clone()
    };
    one.status.as_mut().unwrap().capacity.push(stray);
    let view = objects(vec![pool("")], vec![one], Vec::new()).view(now());
    let zones: Vec<&str> = view.input.cells["one"]
        .zones
        .iter()
        .map(|zone| zone.name.as_str())
        .collect();
    assert_eq!(zones, ["a", "b", "c"]);
}

#[test]
fn cells_of_no_pool_or_a_wrong_one_still_take_tenants() {
    for (named, region, fault) in [
        (None, "local", None),
        (Some("absent"), "local", Some("there is no pool absent")),
        (
            Some("local"),
            "north",
            Some("pool local is in region local, and the cell in north"),
        ),
    ] {
        let mut stray = cell("stray", 10);
        stray.spec.pool = named.map(str::to_owned);
        stray.spec.region = region.to_owned();
        let view = objects(
            vec![pool("minCells: 0")],
            vec![stray],
            vec![tenant("new", "", "")],
        )
        .view(now());
        let messages: Vec<&str> = view.faults.iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(messages, fault.into_iter().collect::<Vec<_>>());
        let (plan, report) = view.state().plan(0);
        assert_eq!(plan.placements.len(), 1, "{report}");
        assert!(plan.orders.is_empty(), "{report}");
    }
}

#[test]
fn a_tenant_of_no_region_waits_for_one_to_be_named() {
    let (here, mut there) = (cell("here", 10), cell("there", 10));
    there.spec.region = "north".into();
    there.spec.pool = None;
    let tenants = vec![
        tenant("vague", "", ""),
        tenant("north", "region: north", ""),
        tenant("at-home", "", "cell: there"),
    ];
    let view = objects(vec![pool("minCells: 0")], vec![here, there], tenants).view(now());
    assert_eq!(view.faults.len(), 1);
    assert_eq!(view.faults[0].field, "tenants.shop/vague.region");
    let names: Vec<&str> = view
        .input
        .tenants
        .iter()
        .map(|tenant| tenant.name.as_str())
        .collect();
    assert_eq!(names, ["shop/north", "shop/at-home"]);
    assert!(matches!(view.input.tenants[1].place, Place::Running { .. }));
}

/// A second cell, which was ordered.
fn ordered(name: &str) -> Cell {
    let mut cell = cell(name, 20);
    cell.spec.provider = Some("local".into());
    cell
}

const ORDER: &str = "provider: local, domain: skep.internal, zones: [a, b, c]";

#[test]
fn what_is_promised_may_be_more_than_there_is() {
    let plain = objects(vec![pool("")], vec![cell("one", 20)], Vec::new()).view(now());
    let twice = pool("overcommitPercent: {cpu: 250}");
    let twice = objects(vec![twice], vec![cell("one", 20)], Vec::new()).view(now());
    let of = |view: &View, resource: Resource| view.input.cells["one"].zones[0].capacity[resource];
    assert_eq!(of(&twice, Resource::Cpu), of(&plain, Resource::Cpu) * 5 / 2);
    assert_eq!(of(&twice, Resource::Memory), of(&plain, Resource::Memory));
    let template = |view: &View| view.input.pools["local"].template[0].capacity[Resource::Cpu];
    assert_eq!(template(&twice), of(&twice, Resource::Cpu));
}

#[test]
fn a_pool_orders_by_itself_or_as_many_as_were_approved_or_only_says_so() {
    // Two are wanted at least, and one is there.
    let orders = |order: &str| {
        let pool = pool(&format!("minCells: 2, maxCells: 9{order}"));
        let view = objects(vec![pool], vec![cell("one", 20)], Vec::new()).view(now());
        let (plan, _) = view.state().plan(0);
        let told = plan.orders.iter().map(|order| (order.cells, order.is_shadow));
        told.collect::<Vec<_>>()
    };
    assert_eq!(orders(""), [(1, true)]);
    assert_eq!(orders(&format!(", order: {{{ORDER}}}")), [(1, true)]);
    assert_eq!(
        orders(&format!(", order: {{{ORDER}, mode: Automatic}}")),
        [(1, false)]
    );
    let approved = |cells: u32| {
        orders(&format!(
            ", order: {{{ORDER}, mode: Approval, approved: {cells}}}"
        ))
    };
    assert_eq!(approved(1), [(1, true)]);
    assert_eq!(approved(2), [(1, false)]);
}

#[test]
fn only_an_empty_cell_that_was_ordered_is_given_back() {
    let drains = |order: &str, cells: Vec<Cell>, tenants: Vec<TenantCluster>| {
        let pool = pool(&format!("headroom: none, maxCells: 9{order}"));
        let (plan, _) = objects(vec![pool], cells, tenants).view(now()).state().plan(0);
        let told = plan
            .drains
            .iter()
            .map(|drain| (drain.cell.to_string(), drain.is_shadow));
        told.collect::<Vec<_>>()
    };
    let both = || vec![cell("one", 20), ordered("two")];
    let automatic = format!(", order: {{{ORDER}, mode: Automatic}}");
    assert_eq!(
        drains(&automatic, both(), Vec::new()),
        [("two".to_owned(), false)]
    );
    assert_eq!(
        drains(&format!(", order: {{{ORDER}}}"), both(), Vec::new()),
        [("two".to_owned(), true)]
    );
    assert_eq!(drains("", both(), Vec::new()), []);
    assert_eq!(
        drains(&automatic, vec![cell("one", 20), cell("two", 20)], Vec::new()),
        []
    );
    let there = tenant("there", "", "cell: two, class: small, version: 1.36.3");
    assert_eq!(drains(&automatic, both(), vec![there]), []);
}
