//! Small hubs, and what their pool says.

use skep_runtime::conditions::find;
use skep_view::Objects;

use super::*;

const NOW: &str = "2026-11-01T10:00:00Z";

fn one<K: serde::de::DeserializeOwned>(text: &str) -> K {
    serde_saphyr::from_str(text).unwrap()
}

fn pool(spec: &str) -> CellPool {
    one(&format!(
        "{{apiVersion: skep.dev/v1alpha1, kind: CellPool, metadata: {{name: local, generation: 3}}, \
         spec: {{region: local, headroom: none, {spec}}}}}"
    ))
}

/// A cell whose three zones have 10 volumes each: with one zone lost, 19 for tenants that take one a member.
fn cell() -> skep_api::Cell {
    let zones = ["a", "b", "c"].map(|zone| {
        format!(
            "{{name: {zone}, readyNodes: 1, allocatable: {{cpu: '40', memory: 80Gi, pods: '110', volumes: '10', datastore: 40Gi}}}}"
        )
    });
    one(&format!(
        "
apiVersion: skep.dev/v1alpha1
kind: Cell
metadata: {{name: one}}
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

fn objects(pool: &CellPool, cells: Vec<skep_api::Cell>, tenants: u32) -> Objects {
    let tenant = |number: u32| {
        one(&format!(
            "{{apiVersion: skep.dev/v1alpha1, kind: TenantCluster, metadata: {{name: t{number}, namespace: project-shop, \
             creationTimestamp: {NOW}}}, spec: {{}}, status: {{cell: one, class: small}}}}"
        ))
    };
    let versions = ["1.36.3".parse().unwrap()];
    let made = skep_profiles::offered(&skep_profiles::Offer {
        image_repository: "localhost",
        kubernetes_versions: &versions,
        etcd_version: "3.7.3",
        images: &BTreeMap::new(),
        upstream_dns: "",
        largest_volume: Some(1536),
    })
    .unwrap();
    let tenants = (0..tenants).map(tenant).collect();
    Objects::new(vec![pool.clone()], cells, made.profiles, made.classes, tenants)
}

fn status(pool: &CellPool, cells: Vec<skep_api::Cell>, tenants: u32) -> CellPoolStatus {
    let now: Timestamp = NOW.parse().unwrap();
    let view = objects(pool, cells, tenants).view(now.as_second());
    build_status(pool, &Outlook::all(view)["local"], now)
}

fn sufficient(status: &CellPoolStatus) -> (&str, &str, &str) {
    assert_eq!(status.conditions[0].type_, "Sufficient");
    let told = find(&status.conditions, "Sufficient").unwrap();
    (&told.status, &told.reason, &told.message)
}

#[test]
fn a_pool_fills_up_warns_and_wants_another_cell() {
    let pool = pool("maxCells: 2");
    let told = status(&pool, vec![cell()], 2);
    assert_eq!(
        sufficient(&told),
        ("True", "AsDesired", "volumes binds: 6.00 of 19.00 is taken, 32%")
    );
    assert_eq!(
        (told.cells, told.tenants, told.wanted, told.short_since.clone()),
        (1, 2, 0, None)
    );
    let binding = told.binding.unwrap();
    assert_eq!((binding.resource.as_str(), binding.percent), ("volumes", 32));
    // From 60%.
    let told = status(&pool, vec![cell()], 4);
    assert_eq!(sufficient(&told).0, "True");
    assert_eq!(sufficient(&told).1, "Filling");
    // From 85%.
    let told = status(&pool, vec![cell()], 6);
    assert_eq!(
        sufficient(&told),
        (
            "False",
            "Short",
            "volumes binds: 18.00 of 19.00 is taken, 95%: volumes: 18.0 taken of 19.0, and the history is too short for a \
             forecast; 1 cell more is wanted; build it, and name this pool in its Cell"
        )
    );
    assert_eq!(
        (told.wanted, told.short_since),
        (1, Some(Time(NOW.parse().unwrap())))
    );
}

#[test]
fn what_forbids_another_cell_is_the_reason() {
    for (spec, reason, detail) in [
        ("maxCells: 1", "Maximum", "the pool may have 1 cell"),
        (
            "maxCells: 5, stopped: true",
            "Stopped",
            "ordering was stopped by hand",
        ),
        (
            "maxCells: 5, priceMilli: 2000, budgetMilli: 3000",
            "Budget",
            "3 dollars an hour are all that it may cost",
        ),
    ] {
        let told = status(&pool(spec), vec![cell()], 6);
        let (state, why, message) = sufficient(&told);
        assert_eq!((state, why), ("False", reason));
        assert!(message.ends_with(detail), "{message}");
        assert_eq!(told.wanted, 0);
    }
}

#[test]
fn a_shortage_is_cleared_below_what_raised_it() {
    let mut pool = pool("maxCells: 2");
    let short = status(&pool, vec![cell()], 6);
    pool.status = Some(short.clone());
    let again = status(&pool, vec![cell()], 5);
    assert_eq!(sufficient(&again).0, "False");
    assert_eq!(again.short_since, short.short_since);
    let over = status(&pool, vec![cell()], 2);
    assert_eq!((sufficient(&over).0, over.short_since.clone()), ("True", None));
}

#[test]
fn a_pool_without_cells_wants_its_fewest() {
    let told = status(&pool("minCells: 2, maxCells: 3"), Vec::new(), 0);
    let (state, _, message) = sufficient(&told);
    assert_eq!((state, told.wanted), ("False", 2));
    assert!(
        message.starts_with("the pool has no cell: the pool has fewer than 2 cells"),
        "{message}"
    );
}

#[test]
fn a_field_that_cannot_be_acted_upon_is_named() {
    let told = status(
        &pool("zones: [{name: a, allocatable: {cpu: much}}]"),
        vec![cell()],
        0,
    );
    let valid = find(&told.conditions, "Valid").unwrap();
    assert_eq!(valid.status, "False");
    assert_eq!(
        valid.message,
        "zones: cpu of zone a: \"much\" is no quantity from 0"
    );
}
