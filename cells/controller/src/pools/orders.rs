//! What a pool orders and gives back: pure.

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use skep_api::cell::{CellNetwork, Gateway};
use skep_api::cell_pool::IdleCell;
use skep_api::{Cell, CellPool, CellSpec, PoolNetwork};
use skep_planner::model::Name;
use skep_runtime::conditions::to_second;

/// The annotation of a cell that was closed to be given back.
pub(super) const RETIRING: &str = "skep.dev/retiring";

/// How long a cell is closed before it is looked at once more.
const SETTLED: SignedDuration = SignedDuration::from_secs(10);

/// Why nothing can be ordered although it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unorderable {
    /// Every network of the pool is in use.
    #[error("spec.order.networks has none left that no cell uses: add one")]
    NoNetwork,
}

/// The next cell of a pool, with the first number and the first network that no cell has.
pub(super) fn next_cell(pool: &CellPool, cells: &[Cell]) -> Result<Option<Cell>, Unorderable> {
    let Some(order) = &pool.spec.order else {
        return Ok(None);
    };
    let used: Vec<IpNet> = cells.iter().flat_map(|cell| ranges(&cell.spec.network)).collect();
    let is_free = |network: &&PoolNetwork| {
        let own = [&network.nodes, &network.pods, &network.services];
        let own: Vec<IpNet> = own.into_iter().filter_map(|text| text.parse().ok()).collect();
        let meets = |one: &IpNet| {
            used.iter()
                .any(|other| one.contains(other) || other.contains(one))
        };
        own.len() == 3 && !own.iter().any(meets)
    };
    let network = order
        .networks
        .iter()
        .find(is_free)
        .ok_or(Unorderable::NoNetwork)?;
    let is_taken = |name: &String| cells.iter().any(|cell| cell.name_any() == *name);
    let mut names = (2_u32..).map(|number| format!("{}-{number}", pool.name_any()));
    let Some(name) = names.find(|name| !is_taken(name)) else {
        return Ok(None);
    };
    let spec = CellSpec {
        pool: Some(pool.name_any()),
        region: pool.spec.region.clone(),
        domain: order.domain.clone(),
        zones: order.zones.clone(),
        network: CellNetwork {
            nodes: network.nodes.clone(),
            pods: network.pods.clone(),
            services: network.services.clone(),
        },
        gateway: Gateway {
            address: network.gateway.clone(),
        },
        cordoned: false,
        provider: Some(order.provider.clone()),
        nodes_per_zone: order.nodes_per_zone,
    };
    Ok(Some(Cell::new(&name, spec)))
}

fn ranges(network: &CellNetwork) -> impl Iterator<Item = IpNet> {
    [&network.nodes, &network.pods, &network.services]
        .into_iter()
        .filter_map(|text| text.parse().ok())
}

/// The cells that the plan would empty, with since when they hold nobody.
pub(super) fn idle(pool: &CellPool, drains: &[Name], now: Timestamp) -> Vec<IdleCell> {
    let known = pool.status.as_ref().map_or(&[][..], |status| &status.idle);
    let since = |name: &str| known.iter().find(|cell| cell.name == name);
    let cells = drains.iter().map(|name| IdleCell {
        name: name.to_string(),
        since: since(name).map_or(Time(to_second(now)), |cell| cell.since.clone()),
    });
    cells.collect()
}

/// Whether a cell held nobody for as long as its pool asks for.
pub(super) fn is_over(pool: &CellPool, cell: &IdleCell, now: Timestamp) -> bool {
    let seconds = pool
        .spec
        .order
        .as_ref()
        .map_or(i64::MAX, |order| order.idle_seconds);
    let limit = SignedDuration::from_secs(seconds);
    cell.since.0.duration_until(now) >= limit
}

/// Whether a cell was closed for longer than a placement takes that was decided before.
pub(super) fn is_settled(closed: &str, now: Timestamp) -> bool {
    // One whose time nobody can read was closed by hand, whenever that was.
    closed
        .parse::<Timestamp>()
        .map_or(true, |closed| closed.duration_until(now) >= SETTLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> CellPool {
        serde_saphyr::from_str(
            "
apiVersion: skep.dev/v1alpha1
kind: CellPool
metadata: {name: local}
spec:
  region: local
  order:
    provider: local
    domain: skep.internal
    zones: [a]
    idleSeconds: 60
    networks:
    - {nodes: 198.18.0.0/24, pods: 198.18.16.0/20, services: 198.18.4.0/22, gateway: '198.18.0.2:443'}
    - {nodes: 198.18.32.0/24, pods: 198.18.48.0/20, services: 198.18.36.0/22, gateway: '198.18.32.2:443'}
    - {nodes: 198.18.64.0/24, pods: 198.18.80.0/20, services: 198.18.68.0/22, gateway: '198.18.64.2:443'}
",
        )
        .unwrap()
    }

    #[test]
    fn cells_are_numbered_and_have_networks_of_their_own_until_none_is_left() {
        let pool = pool();
        let mut first = next_cell(&pool, &[]).unwrap().unwrap();
        assert_eq!(first.name_any(), "local-2");
        first.metadata.name = Some("local".into());
        let mut all = vec![first];
        for number in 2..=3 {
            let next = next_cell(&pool, &all).unwrap().unwrap();
            assert_eq!(next.name_any(), format!("local-{number}"));
            assert!(all.iter().all(|cell| cell.spec.network != next.spec.network));
            all.push(next);
        }
        assert_eq!(next_cell(&pool, &all), Err(Unorderable::NoNetwork));
        // One that was given back leaves its number and its network.
        let gone = all.remove(1);
        assert_eq!(next_cell(&pool, &all).unwrap().unwrap().spec, gone.spec);
        let mut silent = pool.clone();
        silent.spec.order = None;
        assert_eq!(next_cell(&silent, &all), Ok(None));
    }

    #[test]
    fn a_closed_cell_is_looked_at_again_after_a_while() {
        let now: Timestamp = "2026-11-01T10:00:10Z".parse().unwrap();
        assert!(is_settled("2026-11-01T10:00:00Z", now));
        assert!(!is_settled("2026-11-01T10:00:01Z", now));
        assert!(is_settled("", now));
    }

    #[test]
    fn an_idle_cell_keeps_its_time() {
        let mut pool = pool();
        let begin: Timestamp = "2026-11-01T10:00:00Z".parse().unwrap();
        let first = idle(&pool, &["local-2".into()], begin);
        pool.status = Some(skep_api::CellPoolStatus {
            idle: first.clone(),
            ..Default::default()
        });
        let later = begin + SignedDuration::from_secs(59);
        assert_eq!(idle(&pool, &["local-2".into()], later), first);
        assert!(!is_over(&pool, &first[0], later));
        assert!(is_over(&pool, &first[0], begin + SignedDuration::from_secs(60)));
        assert!(idle(&pool, &[], later).is_empty());
    }
}
