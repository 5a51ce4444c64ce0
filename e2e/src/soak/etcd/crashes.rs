//! The operator dies after one of its calls, in each part of a cluster's life.

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::ledger::Totals;
use super::super::points::{Point, Points};
use super::stage::{Site, Stage};
use super::tally::Fatal;
use super::{SILENCE, VERSIONS, choose_member, settle, wipe, writers};

/// Where the operator may die: in every part of a member's life.
const PHASES: &[&str] = &[
    "forming",
    "growing",
    "upgrading",
    "compacting",
    "rotating",
    "moving",
    "healing",
    "shrinking",
    "deleting",
];
const DEATHS: &str = "deaths of the operator";

/// The points at which it dies: after each call, or after each call for a change. It keeps nothing outside of Kubernetes and
/// etcd, so that after a call that only reads it leaves what it left after the change before.
pub const fn crashes(fatal: Fatal) -> Points {
    let (counted, about) = match fatal {
        Fatal::Call => ("calls", 3600),
        Fatal::Change => ("changes", 350),
    };
    Points {
        phases: PHASES,
        counted,
        about,
        interrupted: DEATHS,
    }
}

/// A cluster is formed and grows; then it is upgraded, or is full, or gets other authorities, or a member moves, or it loses a member's data and shrinks; then it is deleted.
pub(super) async fn crash(stage: &Stage, fatal: Fatal, point: Point) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut chance = StdRng::seed_from_u64(point.call);
    let special = PHASES[point.phase];
    let name = format!("{}-{special}-{}", crashes(fatal).counted, point.call);
    let death = Death { fatal, point };
    let version = VERSIONS[usize::from(special != "upgrading")];
    let mut phase = Phase::new("forming", death);
    let mut site = Site::open(stage, &name, 1, version, phase.deadly).await?;
    site.wait_until_whole(1).await.context("it was never formed")?;
    phase.end(&mut site, &mut totals)?;
    let writers = writers::Writers::start(&site.place, point.call);

    phase = Phase::new("growing", death).begin(&mut site)?;
    site.resize(3).await?;
    site.wait_until_whole(3)
        .await
        .context("it never had three members")?;
    phase.end(&mut site, &mut totals)?;

    match special {
        "upgrading" => {
            phase = Phase::new(special, death).begin(&mut site)?;
            site.upgrade(VERSIONS[1]).await?;
            site.wait_until_whole(3).await.context("it was never upgraded")?;
            phase.end(&mut site, &mut totals)?;
        }
        "compacting" => {
            phase = Phase::new(special, death).begin(&mut site)?;
            site.fill(&mut chance).await?;
            site.wait_until_whole(3)
                .await
                .context("it never had room again")?;
            phase.end(&mut site, &mut totals)?;
        }
        "rotating" => {
            phase = Phase::new(special, death).begin(&mut site)?;
            site.rotate().await?;
            site.wait_until_whole(3)
                .await
                .context("it is not whole with its new authorities")?;
            phase.end(&mut site, &mut totals)?;
        }
        "moving" => {
            phase = Phase::new(special, death).begin(&mut site)?;
            relocate(&mut site, &mut chance).await?;
            phase.end(&mut site, &mut totals)?;
        }
        _ => lose_and_shrink(&mut site, death, &mut chance, &mut totals).await?,
    }
    settle(&mut site, writers, SILENCE, &mut totals).await?;

    phase = Phase::new("deleting", death).begin(&mut site)?;
    site.delete().await?;
    phase.end(&mut site, &mut totals)?;
    site.has_all_volumes().await?;
    totals.add(DEATHS, site.deaths);
    ensure!(
        point.call > 1 || site.deaths == 1,
        "the operator lives on after its first call"
    );
    site.close()?;
    Ok(totals)
}

async fn relocate(site: &mut Site<'_>, chance: &mut StdRng) -> Result<()> {
    let victim = choose_member(site, chance)?;
    let node = site.relocate(&victim).await?.context("a member without a node")?;
    site.wait_until_whole(3).await.context("it never moved")?;
    site.has_left(&node).await
}

async fn lose_and_shrink(
    site: &mut Site<'_>,
    death: Death,
    chance: &mut StdRng,
    totals: &mut Totals,
) -> Result<()> {
    let mut phase = Phase::new("healing", death).begin(site)?;
    let victim = choose_member(site, chance)?;
    wipe(site, &victim);
    site.wait_until_changed(&victim).await?;
    site.wait_until_whole(3).await.context("it never healed")?;
    phase.end(site, totals)?;

    phase = Phase::new("shrinking", death).begin(site)?;
    site.resize(1).await?;
    site.wait_until_whole(1)
        .await
        .context("it never had one member again")?;
    phase.end(site, totals)
}

/// At which point of its calls of a kind the operator dies.
#[derive(Clone, Copy)]
struct Death {
    fatal: Fatal,
    point: Point,
}

/// One phase of a cluster's life, and after how many calls in it the operator dies.
struct Phase {
    name: &'static str,
    deadly: Option<(Fatal, u64)>,
    calls_before: [u64; 2],
}

impl Phase {
    fn new(name: &'static str, Death { fatal, point }: Death) -> Self {
        Self {
            name,
            deadly: (PHASES[point.phase] == name).then_some((fatal, point.call)),
            calls_before: [0; 2],
        }
    }

    fn begin(mut self, site: &mut Site<'_>) -> Result<Self> {
        self.calls_before = site.calls()?;
        if let Some(death) = self.deadly {
            site.arm_operator(death)?;
        }
        Ok(self)
    }

    fn end(&self, site: &mut Site<'_>, totals: &mut Totals) -> Result<()> {
        site.disarm_operator()?;
        let counts = site.calls()?.into_iter().zip(self.calls_before);
        for (fatal, (now, before)) in [Fatal::Call, Fatal::Change].into_iter().zip(counts) {
            totals.add(&crashes(fatal).counted_while(self.name), now - before);
        }
        Ok(())
    }
}
