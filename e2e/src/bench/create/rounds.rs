//! Rounds by hand and through the platform, in turn, each on a quiet machine.

use anyhow::Result;

use super::blueprint::Blueprint;
use super::cell::{self, Memory};
use super::hand::Hand;
use super::user::{self, Creation};
use super::{Bench, Operators, say};

/// What the rounds found.
#[derive(Debug, Default)]
pub struct Rounds {
    /// Seconds by hand until the apiserver was ready.
    pub by_hand: Vec<f64>,
    /// Clusters through the platform.
    pub created: Vec<Creation>,
    /// The memory of the programs by hand in bytes, at rest.
    pub memory_by_hand: Vec<Memory>,
    /// The memory of a tenant in bytes, at rest.
    pub memory: Vec<Memory>,
    /// The platform's own memory beside one tenant.
    pub operators: Vec<Operators>,
}

/// Runs all rounds after one of each that does not count: it fills the caches of files.
pub async fn run(bench: &mut Bench) -> Result<Rounds> {
    let hand = warm_up(bench).await?;
    let mut rounds = Rounds::default();
    for round in 1..=bench.settings.rounds {
        let is_settled = round <= bench.settings.memory_rounds;
        by_hand(bench, &hand, &mut rounds, round, is_settled).await?;
        through_platform(bench, &mut rounds, round, is_settled).await?;
    }
    hand.clear()?;
    Ok(rounds)
}

async fn warm_up(bench: &mut Bench) -> Result<Hand> {
    say("a cluster and a start by hand that do not count");
    let name = "warm-up";
    let created = user::create(name, None, user::PERIOD).await?;
    user::await_ready(&bench.platform, name).await?;
    let blueprint = Blueprint::read(&bench.hub, &created.cpid).await?;
    let hand = Hand::lay_out(blueprint, created.credentials)?;
    cell::remove(&bench.platform, &bench.hub, &[(name.to_owned(), created.cpid)]).await?;
    let mut running = hand.start().await?;
    hand.start_rest(&mut running).await?;
    running.end().await?;
    Ok(hand)
}

async fn by_hand(
    bench: &mut Bench,
    hand: &Hand,
    rounds: &mut Rounds,
    round: usize,
    is_settled: bool,
) -> Result<()> {
    bench.quiet.wait("the next start by hand").await?;
    let mut running = hand.start().await?;
    let seconds = running.ready.as_secs_f64();
    say(&format!("round {round}: by hand {seconds:.2} s"));
    rounds.by_hand.push(seconds);
    if is_settled {
        hand.start_rest(&mut running).await?;
        bench.settle().await;
        rounds.memory_by_hand.push(Memory {
            containers: running.memory()?.into_iter().collect(),
            beside: 0,
        });
    }
    running.end().await
}

async fn through_platform(
    bench: &mut Bench,
    rounds: &mut Rounds,
    round: usize,
    is_settled: bool,
) -> Result<()> {
    bench.quiet.wait("the next cluster").await?;
    let name = format!("one-{round}");
    let created = user::create(&name, None, user::PERIOD).await?;
    let Creation { tries, hung, .. } = created;
    let seconds = created.answered.as_secs_f64();
    say(&format!(
        "round {round}: a cluster {seconds:.2} s, its list tried {tries} times, of which {hung} hung"
    ));
    user::await_ready(&bench.platform, &name).await?;
    if is_settled {
        bench.settle().await;
        rounds
            .memory
            .push(cell::tenant_memory(&bench.hub, &created.cpid).await?);
        rounds.operators.push(bench.operators().await?);
    }
    let gone = [(name, created.cpid.clone())];
    rounds.created.push(created);
    cell::remove(&bench.platform, &bench.hub, &gone).await
}
