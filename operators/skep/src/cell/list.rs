//! Lists of cells and pools.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, ResourceExt};
use serde::Serialize;
use skep_api::cell::ZoneCapacity;
use skep_api::{Cell, CellPool};
use skep_core::quantity::amount;
use skep_core::reasons;
use skep_runtime::conditions::find;

use super::hub;
use crate::client::output::{Tabular, age, print_list, print_whole};
use crate::client::{Context, Failure};
use crate::platform::up::hub_client;

/// Lists all cells.
pub async fn cells(context: &Context) -> Result<(), Failure> {
    let client = hub_client(&context.home).await?;
    let cells: Vec<Cell> = hub::all(&client).await?;
    let rows: Vec<CellRow> = cells.iter().map(CellRow::of).collect();
    Ok(print_list(context.global.output, &rows)?)
}

/// Shows one cell.
pub async fn cell(name: &str, context: &Context) -> Result<(), Failure> {
    let client = hub_client(&context.home).await?;
    let found = Api::<Cell>::all(client)
        .get_opt(name)
        .await
        .map_err(Failure::from_error)?;
    let cell = found.ok_or_else(|| {
        Failure::NotFound(format!(
            "there is no cell {name}; `skep cell list` shows those that there are"
        ))
    })?;
    if print_whole(context.global.output, &cell)? {
        return Ok(());
    }
    let status = cell.status.unwrap_or_default();
    tell(&status.conditions);
    let rows: Vec<Share> = status.capacity.iter().flat_map(shares).collect();
    Ok(print_list(context.global.output, &rows)?)
}

/// Lists all pools.
pub async fn pools(context: &Context) -> Result<(), Failure> {
    let client = hub_client(&context.home).await?;
    let pools: Vec<CellPool> = hub::all(&client).await?;
    let rows: Vec<PoolRow> = pools.iter().map(PoolRow::of).collect();
    Ok(print_list(context.global.output, &rows)?)
}

fn tell(conditions: &[Condition]) {
    for condition in conditions {
        eprintln!("{}={}: {}", condition.type_, condition.status, condition.message);
    }
}

/// One dimension of a zone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Share {
    zone: String,
    resource: String,
    allocatable: String,
    system: String,
    tenants: String,
    /// What tenants take of what the cell itself leaves, in percent; nothing where it leaves nothing.
    percent: Option<i32>,
}

fn shares(zone: &ZoneCapacity) -> Vec<Share> {
    let quantity = |of: &std::collections::BTreeMap<String, String>, name: &str| of.get(name).cloned();
    let share = |(name, allocatable): (&String, &String)| {
        let (system, tenants) = (quantity(&zone.system, name), quantity(&zone.committed, name));
        let read = |text: Option<&String>| text.and_then(|text| amount(text)).unwrap_or(0.0);
        let left = read(Some(allocatable)) - read(system.as_ref());
        Share {
            zone: zone.name.clone(),
            resource: name.clone(),
            allocatable: allocatable.clone(),
            percent: (left > 0.0).then(|| percent(read(tenants.as_ref()) / left)),
            system: system.unwrap_or_else(|| "-".to_owned()),
            tenants: tenants.unwrap_or_else(|| "-".to_owned()),
        }
    };
    zone.allocatable.iter().map(share).collect()
}

/// Whole percent, at most 999.
#[expect(clippy::cast_possible_truncation, reason = "clamped just before")]
fn percent(share: f64) -> i32 {
    (share * 100.0).round().clamp(0.0, 999.0) as i32
}

impl Tabular for Share {
    const HEADINGS: &'static [&'static str] =
        &["ZONE", "RESOURCE", "ALLOCATABLE", "SYSTEM", "TENANTS", "USED"];
    const NARROW: usize = 6;

    fn cells(&self) -> Vec<String> {
        let used = self
            .percent
            .map_or_else(|| "-".to_owned(), |percent| format!("{percent}%"));
        let Self {
            zone,
            resource,
            allocatable,
            system,
            tenants,
            ..
        } = self;
        [zone, resource, allocatable, system, tenants, &used]
            .map(Clone::clone)
            .to_vec()
    }

    fn name(&self) -> String {
        format!("{}/{}", self.zone, self.resource)
    }
}

/// One cell in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct CellRow {
    name: String,
    pool: Option<String>,
    region: String,
    ready: String,
    zones: Vec<String>,
    lost_zones: Vec<String>,
    ready_nodes: i32,
    tenants: i32,
    binds: Option<String>,
    percent: Option<i32>,
    last_check_in: Option<String>,
    message: String,
}

impl CellRow {
    fn of(cell: &Cell) -> Self {
        let status = cell.status.clone().unwrap_or_default();
        let ready = find(&status.conditions, reasons::READY);
        let shares = status.capacity.iter().flat_map(shares);
        let scarcest = shares.max_by_key(|share| share.percent);
        let lost = status.capacity.iter().filter(|zone| zone.lost);
        Self {
            name: cell.name_any(),
            pool: cell.spec.pool.clone(),
            region: cell.spec.region.clone(),
            ready: ready.map_or("Unknown", |ready| ready.status.as_str()).to_owned(),
            zones: cell.spec.zones.clone(),
            lost_zones: lost.map(|zone| zone.name.clone()).collect(),
            ready_nodes: status.ready_nodes,
            tenants: status.tenants,
            binds: scarcest
                .as_ref()
                .map(|share| format!("{} in zone {}", share.resource, share.zone)),
            percent: scarcest.and_then(|share| share.percent),
            last_check_in: status.last_check_in.as_ref().map(|last| last.0.to_string()),
            message: ready.map(|ready| ready.message.clone()).unwrap_or_default(),
        }
    }
}

impl Tabular for CellRow {
    const HEADINGS: &'static [&'static str] = &[
        "NAME",
        "POOL",
        "REGION",
        "READY",
        "ZONES",
        "NODES",
        "TENANTS",
        "SCARCEST",
        "USED",
        "CHECKED IN",
        "MESSAGE",
    ];
    const NARROW: usize = 10;

    fn cells(&self) -> Vec<String> {
        let dash = || "-".to_owned();
        let zone = |zone: &String| {
            if self.lost_zones.contains(zone) {
                format!("{zone} (lost)")
            } else {
                zone.clone()
            }
        };
        let zones: Vec<String> = self.zones.iter().map(zone).collect();
        vec![
            self.name.clone(),
            self.pool.clone().unwrap_or_else(dash),
            self.region.clone(),
            self.ready.clone(),
            zones.join(","),
            self.ready_nodes.to_string(),
            self.tenants.to_string(),
            self.binds.clone().unwrap_or_else(dash),
            self.percent.map_or_else(dash, |percent| format!("{percent}%")),
            age(self.last_check_in.as_deref(), jiff::Timestamp::now()),
            self.message.clone(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// One pool in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PoolRow {
    name: String,
    region: String,
    sufficient: String,
    reason: String,
    cells: i32,
    max_cells: i32,
    wanted: i32,
    tenants: i32,
    binds: Option<String>,
    percent: Option<i32>,
    message: String,
}

impl PoolRow {
    fn of(pool: &CellPool) -> Self {
        let status = pool.status.clone().unwrap_or_default();
        let told = find(&status.conditions, reasons::SUFFICIENT);
        let text = |of: fn(&Condition) -> &String, none: &str| {
            told.map_or_else(|| none.to_owned(), |told| of(told).clone())
        };
        Self {
            name: pool.name_any(),
            region: pool.spec.region.clone(),
            sufficient: text(|told| &told.status, "Unknown"),
            reason: text(|told| &told.reason, "-"),
            cells: status.cells,
            max_cells: pool.spec.max_cells,
            wanted: status.wanted,
            tenants: status.tenants,
            percent: status.binding.as_ref().map(|binding| binding.percent),
            binds: status.binding.map(|binding| binding.resource),
            message: text(
                |told| &told.message,
                "the controller of pools has not looked at it yet",
            ),
        }
    }
}

impl Tabular for PoolRow {
    const HEADINGS: &'static [&'static str] = &[
        "NAME",
        "REGION",
        "SUFFICIENT",
        "REASON",
        "CELLS",
        "MAX",
        "WANTED",
        "TENANTS",
        "SCARCEST",
        "USED",
        "MESSAGE",
    ];
    const NARROW: usize = 10;

    fn cells(&self) -> Vec<String> {
        let dash = || "-".to_owned();
        vec![
            self.name.clone(),
            self.region.clone(),
            self.sufficient.clone(),
            self.reason.clone(),
            self.cells.to_string(),
            self.max_cells.to_string(),
            self.wanted.to_string(),
            self.tenants.to_string(),
            self.binds.clone().unwrap_or_else(dash),
            self.percent.map_or_else(dash, |percent| format!("{percent}%")),
            self.message.clone(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: &str = "
apiVersion: skep.dev/v1alpha1
kind: Cell
metadata: {name: one}
spec:
  pool: local
  region: local
  domain: skep.internal
  zones: [a, b]
  network: {nodes: 198.18.0.0/24, services: 198.18.4.0/22, pods: 198.18.16.0/20}
  gateway: {address: '198.18.0.2:443'}
status:
  readyNodes: 2
  tenants: 3
  capacity:
  - {name: a, allocatable: {cpu: 4000m, volumes: '10'}, system: {cpu: 1000m, volumes: '0'}, committed: {cpu: 300m, volumes: '4'}}
  - {name: b, lost: true, allocatable: {cpu: 0m, volumes: '10'}, system: {cpu: 500m}, committed: {cpu: 300m, volumes: '3'}}
";

    #[test]
    fn a_row_names_the_scarcest_dimension_and_lost_zones() {
        let cell: Cell = serde_saphyr::from_str(CELL).unwrap();
        let row = CellRow::of(&cell);
        let cells = row.cells();
        assert_eq!(cells[..3], ["one", "local", "local"]);
        assert_eq!(
            cells[3..9],
            ["Unknown", "a,b (lost)", "2", "3", "volumes in zone a", "40%"]
        );
    }

    #[test]
    fn a_zone_shows_each_dimension_and_what_is_left_of_it() {
        let cell: Cell = serde_saphyr::from_str(CELL).unwrap();
        let rows: Vec<Vec<String>> = cell
            .status
            .unwrap()
            .capacity
            .iter()
            .flat_map(shares)
            .map(|share| share.cells())
            .collect();
        assert_eq!(rows[0], ["a", "cpu", "4000m", "1000m", "300m", "10%"]);
        // The cell itself takes more than there is.
        assert_eq!(rows[2], ["b", "cpu", "0m", "500m", "300m", "-"]);
        assert_eq!(rows[3], ["b", "volumes", "10", "-", "3", "30%"]);
    }
}
