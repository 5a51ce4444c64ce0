//! `skep cell create` and `skep cell delete`: further cells of a local platform, ordered and given back by hand.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use ipnet::IpNet;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use skep_api::cell::{CellNetwork, Gateway};
use skep_api::{Cell, CellPool, CellSpec, DeploymentRecord};
use skep_core::{CellName, reasons};
use skep_distro::Progress;
use skep_provider::Ranges;
use skep_provider::local::free_ranges;
use skep_runtime::conditions::{find, is_true};

use crate::client::{Context, Failure};
use crate::platform::cells::PROVIDER;
use crate::platform::progress::Display;
use crate::platform::up::hub_client;

/// What a cell of one node usually takes on two cores.
const USUAL: Duration = Duration::from_secs(90);

/// Options of `skep cell create`.
#[derive(Debug, Clone, clap::Args)]
pub struct CreateArgs {
    /// The cell's name; the shorter, the better: it is part of its machines' names.
    name: String,
    /// The pool that it belongs to.
    #[arg(long, default_value = "local")]
    pool: String,
    /// Its zones.
    #[arg(long, value_delimiter = ',', default_value = "a")]
    zones: Vec<String>,
    /// Node machines in each zone.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes_per_zone: u8,
    /// Only order it.
    #[arg(long)]
    no_wait: bool,
}

/// Orders a further cell on this machine, and waits until tenants can be placed there.
pub(super) async fn create(args: &CreateArgs, context: &Context) -> Result<(), Failure> {
    let client = hub_client(&context.home).await?;
    let pools: Api<CellPool> = Api::all(client.clone());
    let pool = pools.get_opt(&args.pool).await.context("cannot read the pools")?;
    let pool = pool.ok_or_else(|| {
        let pool = &args.pool;
        Failure::NotFound(format!("there is no pool {pool}; see `skep cell pools`"))
    })?;
    let cells: Api<Cell> = Api::all(client);
    let all = cells
        .list(&ListParams::default())
        .await
        .context("cannot read the cells")?
        .items;
    let cell = build(args, &pool, &all)?;
    match cells.create(&PostParams::default(), &cell).await {
        Ok(_) => {}
        Err(kube::Error::Api(told)) if told.is_already_exists() => {
            let name = &args.name;
            return Err(Failure::Refused(format!(
                "there is a cell {name} already; see `skep cell get {name}`"
            )));
        }
        Err(kube::Error::Api(told)) if told.is_invalid() => return Err(Failure::Invalid(told.message)),
        Err(error) => return Err(Failure::from_error(error)),
    }
    if args.no_wait {
        eprintln!("cell {} is ordered", args.name);
        return Ok(());
    }
    let display = Display::new();
    let what = format!("cell {} is made", args.name);
    let ready = until_ready(cells, &args.name, &display);
    let limited = async {
        let waited = tokio::time::timeout(context.global.timeout, ready).await;
        waited.map_err(|_| late(&args.name, "ready", context))?
    };
    let waited = display.step("cell", &what, Some(USUAL), limited).await;
    display.clear();
    waited?;
    eprintln!("cell {} is ready", args.name);
    Ok(())
}

/// Gives a cell back; one with tenants is kept until these are gone.
pub(super) async fn delete(name: &str, wait: bool, context: &Context) -> Result<(), Failure> {
    let client = hub_client(&context.home).await?;
    let cells: Api<Cell> = Api::all(client.clone());
    let found = cells.get_opt(name).await.context("cannot read the cell")?;
    let found =
        found.ok_or_else(|| Failure::NotFound(format!("there is no cell {name}; see `skep cell list`")))?;
    if found.spec.provider.as_deref() != Some(PROVIDER) {
        return Err(Failure::Refused(format!(
            "cell {name} was not made by `skep cell create`; remove it where it was made"
        )));
    }
    let tenants = tenants(&client, name).await?;
    if !tenants.is_empty() {
        return Err(Failure::Refused(format!(
            "cell {name} holds {}; delete them first",
            tenants.join(", ")
        )));
    }
    cells
        .delete(name, &DeleteParams::default())
        .await
        .with_context(|| format!("cannot delete cell {name}"))?;
    if !wait {
        eprintln!("cell {name} is being removed");
        return Ok(());
    }
    let gone = |cell: Option<&Cell>| cell.is_none();
    let waited = skep_runtime::wait_for(cells, name, gone, context.global.timeout).await;
    waited.map_err(|_| late(name, "gone", context))?;
    eprintln!("cell {name} is gone");
    Ok(())
}

fn late(name: &str, what: &str, context: &Context) -> Failure {
    let seconds = context.global.timeout.as_secs();
    Failure::TimedOut(format!(
        "cell {name} is not {what} after {seconds} s; it goes on; see `skep cell get {name}` and log/cells.log in the state directory"
    ))
}

/// The tenants of a cell, as `project/name`.
async fn tenants(client: &Client, cell: &str) -> Result<Vec<String>, Failure> {
    let name: CellName = cell
        .parse()
        .map_err(|error: skep_core::names::NameError| Failure::Invalid(format!("cell name: {error}")))?;
    let records: Api<DeploymentRecord> = Api::namespaced(client.clone(), &name.namespace());
    let found = records.list(&ListParams::default()).await;
    let found = found.with_context(|| format!("cannot read the records of cell {cell}"))?;
    let names = found.iter().map(|record| {
        let tenant = &record.spec.tenant;
        format!("{}/{}", tenant.project, tenant.name)
    });
    Ok(names.collect())
}

/// The order, with the first address ranges that no cell and no other instance of this machine has.
fn build(args: &CreateArgs, pool: &CellPool, all: &[Cell]) -> Result<Cell, Failure> {
    let region = &pool.spec.region;
    let neighbour = all.iter().find(|cell| cell.spec.region == *region);
    let domain = neighbour.map(|cell| cell.spec.domain.clone());
    let domain = domain.ok_or_else(|| {
        Failure::Refused(format!(
            "region {region} has no cell yet whose domain a further one could share"
        ))
    })?;
    let taken: Vec<Ranges> = all.iter().filter_map(|cell| ranges(&cell.spec.network)).collect();
    let free = free_ranges(&taken).map_err(Failure::from_error)?;
    let (ranges, gateway) = free.ok_or_else(|| {
        Failure::Refused(
            "all address ranges of this machine are taken: delete a cell or an instance first".to_owned(),
        )
    })?;
    Ok(Cell::new(
        &args.name,
        CellSpec {
            pool: Some(pool.name_any()),
            region: region.clone(),
            domain,
            zones: args.zones.clone(),
            network: CellNetwork {
                nodes: ranges.nodes.to_string(),
                pods: ranges.pods.to_string(),
                services: ranges.services.to_string(),
            },
            gateway: Gateway { address: gateway },
            cordoned: false,
            provider: Some(PROVIDER.to_owned()),
            nodes_per_zone: Some(args.nodes_per_zone),
        },
    ))
}

fn ranges(network: &CellNetwork) -> Option<Ranges> {
    let parse = |text: &str| text.parse::<IpNet>().ok();
    Some(Ranges {
        nodes: parse(&network.nodes)?,
        pods: parse(&network.pods)?,
        services: parse(&network.services)?,
    })
}

/// Waits until a cell is built and its agent has checked in, and tells meanwhile what it waits for.
///
/// # Errors
/// [`Failure::Invalid`] when the order can never be met as it is.
async fn until_ready(cells: Api<Cell>, name: &str, display: &Display) -> Result<(), Failure> {
    let mut told = BTreeSet::new();
    let mut states = Box::pin(watcher::watch_object(cells, name).default_backoff());
    while let Some(state) = states.next().await {
        let Ok(Some(cell)) = state else { continue };
        let conditions = cell.status.map(|status| status.conditions).unwrap_or_default();
        let is = |type_| is_true(&conditions, type_);
        if is(reasons::BUILT) && is(reasons::READY) {
            return Ok(());
        }
        let waits = if is(reasons::BUILT) {
            reasons::READY
        } else {
            reasons::BUILT
        };
        let Some(waits) = find(&conditions, waits) else {
            continue;
        };
        display.line("cell", &waits.message);
        if waits.reason == reasons::INVALID_SPEC {
            let message = &waits.message;
            return Err(Failure::Invalid(format!(
                "{message}; delete it with `skep cell delete {name}`, and order another"
            )));
        }
        let is_failure = waits.reason != reasons::BUILDING && waits.reason != reasons::WAITING;
        // What fails is tried again; who waits should know.
        if is_failure && waits.reason != reasons::NOT_CHECKED_IN && told.insert(waits.message.clone()) {
            eprintln!("  {}: {}", waits.reason, waits.message);
        }
    }
    Err(Failure::Other("the watch of the cell ended".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_takes_ranges_that_nobody_has() {
        let args = CreateArgs {
            name: "two".into(),
            pool: "local".into(),
            zones: vec!["a".into()],
            nodes_per_zone: 1,
            no_wait: true,
        };
        let pool: CellPool = serde_json::from_value(serde_json::json!({
            "apiVersion": "skep.dev/v1alpha1", "kind": "CellPool", "metadata": {"name": "local"},
            "spec": {"region": "local"},
        }))
        .unwrap();
        let refused = build(&args, &pool, &[]).unwrap_err();
        assert!(refused.to_string().contains("no cell yet"), "{refused}");
        let mut hub = Cell::new("local", {
            let mut spec = build(&args, &pool, &[cell("local")]).unwrap().spec;
            spec.provider = None;
            spec
        });
        hub.spec.zones = vec!["a".into(), "b".into()];
        let further = build(&args, &pool, std::slice::from_ref(&hub)).unwrap();
        assert_ne!(further.spec.network, hub.spec.network);
        assert_eq!(further.spec.domain, hub.spec.domain);
        assert_eq!(further.spec.provider.as_deref(), Some("local"));
    }

    fn cell(name: &str) -> Cell {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "skep.dev/v1alpha1", "kind": "Cell", "metadata": {"name": name},
            "spec": {
                "region": "local", "domain": "skep.internal", "zones": ["a"], "gateway": {"address": "10.0.0.1:443"},
                "network": {"nodes": "10.0.0.0/24", "pods": "10.1.0.0/16", "services": "10.2.0.0/16"},
            },
        }))
        .unwrap()
    }
}
