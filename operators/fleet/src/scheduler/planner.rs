//! What the planner says of tenants that wait for a cell of a pool: one plan for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use skep_api::TenantCluster;
use skep_core::{CellName, reasons};
use skep_planner::model::Name;
use skep_planner::{Refusal, Rule};
use skep_view::Objects;
use tokio::sync::Mutex;

use super::error::Error;

/// The seed of chance between cells that are equally good; a tenant's name adds to it.
const SEED: u64 = 0;
/// How long a plan is good for those that it names: longer ago, cells and tenants may have changed.
const FRESH: Duration = Duration::from_secs(1);

/// What the planner says to one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// There is room for it in this cell.
    Take(CellName),
    /// It has to wait; the text says for what.
    Wait(String),
}

/// What one plan says to everybody who waits, by `project/name`.
type Advices = BTreeMap<Name, Advice>;

/// Plans when it is asked, and once for all who ask within a moment.
#[derive(Default)]
pub struct Planner {
    last: Mutex<Option<(Instant, Arc<Advices>)>>,
}

impl Planner {
    /// What the planner says to a tenant of a fleet whose spec is valid.
    pub async fn ask(
        &self,
        tenant: &TenantCluster,
        objects: impl FnOnce() -> Objects,
        now: i64,
    ) -> Result<Advice, Error> {
        let name = name(tenant);
        let mut last = self.last.lock().await;
        if let Some((at, advices)) = last.as_ref()
            && at.elapsed() < FRESH
            && let Some(advice) = advices.get(&name)
        {
            return Ok(advice.clone());
        }
        let (at, mut objects) = (Instant::now(), objects());
        // The cache may not know yet what the API said of this one.
        objects
            .tenants
            .retain(|known| (known.name_any(), known.namespace()) != (tenant.name_any(), tenant.namespace()));
        let mut asking = tenant.clone();
        if let Some(status) = &mut asking.status {
            // It was just found valid, whatever was said of an earlier spec.
            status.conditions.retain(|told| told.type_ != reasons::VALID);
        }
        objects.tenants.push(asking);
        // It reckons, and others wait for this thread.
        let planned = tokio::task::spawn_blocking(move || advise(&objects, now)).await;
        let advices = Arc::new(planned.map_err(Error::Plan)?);
        let advice = advices.get(&name).cloned();
        *last = Some((at, advices));
        Ok(advice
            .unwrap_or_else(|| Advice::Wait("the planner does not plan it; see `skep cell plan`".to_owned())))
    }
}

fn name(tenant: &TenantCluster) -> Name {
    let namespace = tenant.namespace().unwrap_or_default();
    let project = namespace.strip_prefix("project-").unwrap_or(&namespace);
    Name::from(format!("{project}/{}", tenant.name_any()))
}

/// Plans the fleet, and picks what is said to those who wait.
fn advise(objects: &Objects, now: i64) -> Advices {
    let (plan, report) = objects.view(now).state().plan(SEED);
    let taken = plan.placements.iter().filter_map(|placement| {
        let cell = placement.cell.parse().ok()?;
        Some((placement.tenant.clone(), Advice::Take(cell)))
    });
    let refused = report.refusals.iter().filter_map(|refusal| {
        let tenant = refusal.subject.strip_prefix("tenant ")?;
        (refusal.wanted == "placed").then(|| (Name::from(tenant), Advice::Wait(told(refusal))))
    });
    refused.chain(taken).collect()
}

/// A refusal in a sentence: what is the nearest, what binds there, what else there is.
fn told(refusal: &Refusal) -> String {
    let nearest = refusal.binding.as_ref().map_or_else(String::new, |binding| {
        let percent = if binding.utilisation.is_finite() {
            format!("{:.0}%", binding.utilisation * 100.0)
        } else {
            "more than all".to_owned()
        };
        let (resource, zone) = (&binding.resource, &binding.zone);
        format!(", where {resource} of zone {zone} would be at {percent} of what tenants may take")
    });
    let building = refusal.cells.get(&Rule::Building);
    let building = building.map_or_else(String::new, |count| {
        format!("; cells that are being built: {count}")
    });
    let (rule, detail, remedy) = (refusal.rule, &refusal.detail, refusal.would_change);
    format!("{rule:?}: {detail}{nearest}{building}; it needs {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_793_527_200;

    fn one<K: serde::de::DeserializeOwned>(text: &str) -> K {
        serde_saphyr::from_str(text).unwrap()
    }

    /// A cell of one zone in the pool, with so much processor.
    fn cell(name: &str, cpu: &str, checked_in: bool) -> skep_api::Cell {
        let status = format!(
            "status: {{lastCheckIn: 2026-11-01T10:00:00Z, capacity: [{{name: a, readyNodes: 1, allocatable: \
             {{cpu: {cpu}, memory: 64Gi, pods: '500', volumes: '100', datastore: 900Gi}}}}], conditions: [{{type: Ready, \
             status: 'True', reason: CheckedIn, message: '', lastTransitionTime: 2026-11-01T10:00:00Z}}]}}"
        );
        one(&format!(
            "
apiVersion: skep.dev/v1alpha1
kind: Cell
metadata: {{name: {name}}}
spec:
  pool: local
  region: local
  domain: skep.internal
  zones: [a]
  network: {{nodes: 198.18.0.0/24, services: 198.18.4.0/22, pods: 198.18.16.0/20}}
  gateway: {{address: '198.18.0.2:443'}}
{}
",
            if checked_in { status.as_str() } else { "" }
        ))
    }

    fn objects(cells: Vec<skep_api::Cell>) -> Objects {
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
        let pool = one(
            "{apiVersion: skep.dev/v1alpha1, kind: CellPool, metadata: {name: local}, spec: {region: local, headroom: none, maxCells: 9}}",
        );
        Objects::new(vec![pool], cells, made.profiles, made.classes, Vec::new())
    }

    fn tenant(name: &str) -> TenantCluster {
        one(&format!(
            "{{apiVersion: skep.dev/v1alpha1, kind: TenantCluster, metadata: {{name: {name}, namespace: project-shop, \
             creationTimestamp: 2026-11-01T10:00:00Z}}, spec: {{availability: Single}}}}"
        ))
    }

    async fn ask(planner: &Planner, cells: Vec<skep_api::Cell>, name: &str) -> Advice {
        let advice = planner.ask(&tenant(name), || objects(cells), NOW).await;
        advice.unwrap()
    }

    #[tokio::test]
    async fn a_tenant_goes_where_there_is_room() {
        let cells = vec![cell("full", "10m", true), cell("roomy", "4", true)];
        let advice = ask(&Planner::default(), cells, "one").await;
        assert_eq!(advice, Advice::Take("roomy".parse().unwrap()));
    }

    #[tokio::test]
    async fn one_that_waits_is_told_what_is_scarce_and_that_a_cell_comes() {
        let mut fleet = objects(vec![cell("full", "200m", true), cell("next", "", false)]);
        let mut running = tenant("running");
        running.status = Some(one("{cell: full, class: small}"));
        fleet.tenants.push(running);
        let advice = Planner::default().ask(&tenant("one"), || fleet, NOW).await;
        let Advice::Wait(told) = advice.unwrap() else {
            panic!("there is no room")
        };
        assert!(
            told.contains("cell full is the nearest to having room, where cpu of zone a would be at"),
            "{told}"
        );
        assert!(told.contains("cells that are being built: 1"), "{told}");
    }

    #[tokio::test]
    async fn one_whose_spec_was_wrong_before_is_planned_and_never_put_where_there_is_no_room() {
        let mut mended = tenant("mended");
        let wrong = "{conditions: [{type: Valid, status: 'False', reason: InvalidSpec, message: '', \
                     lastTransitionTime: 2026-11-01T10:00:00Z}]}";
        mended.status = Some(one(wrong));
        let full = || objects(vec![cell("full", "10m", true)]);
        let advice = Planner::default().ask(&mended, full, NOW).await.unwrap();
        assert!(
            matches!(&advice, Advice::Wait(told) if told.contains("cpu")),
            "{advice:?}"
        );
    }

    #[tokio::test]
    async fn those_who_ask_at_once_share_a_plan_and_do_not_share_the_same_room() {
        let planner = Planner::default();
        let mut all = objects(vec![cell("small", "200m", true)]);
        all.tenants = vec![tenant("first"), tenant("second")];
        let fleet = all.clone();
        let first = planner.ask(&tenant("first"), || fleet, NOW).await.unwrap();
        assert_eq!(first, Advice::Take("small".parse().unwrap()));
        let planned_anew = || -> Objects { panic!("the plan is a moment old") };
        let second = planner.ask(&tenant("second"), planned_anew, NOW).await.unwrap();
        assert!(matches!(second, Advice::Wait(_)), "{second:?}");
    }
}
