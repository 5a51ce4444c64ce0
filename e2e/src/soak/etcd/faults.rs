//! What goes wrong.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::stage::Site;

/// How no fault is called.
pub const NONE: &str = "nothing";

/// A fault of one member, or of the operator.
#[derive(Debug, Clone)]
pub enum Fault {
    /// None, so that steps alone are seen too.
    Nothing,
    /// An etcd is killed.
    Kill(String),
    /// An etcd stops for some seconds.
    Stop(String),
    /// A member is cut off from all others, clients too.
    Cut(String),
    /// A member's disk is full for some seconds.
    Full(String),
    /// A member's disk takes a quarter of a second for each sync, for some seconds.
    Slow(String),
    /// The operator is killed and started again.
    KillOperator,
    /// The operator never hears of most changes, for some seconds.
    LoseEvents,
    /// The operator is killed, and started again with the view that it gets then: it hears of no change for some seconds.
    RestartBlind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str(NONE),
            Self::Kill(pod) => write!(f, "{pod} killed"),
            Self::Stop(pod) => write!(f, "{pod} stopped"),
            Self::Cut(pod) => write!(f, "{pod} cut off"),
            Self::Full(pod) => write!(f, "the disk of {pod} full"),
            Self::Slow(pod) => write!(f, "the disk of {pod} slow"),
            Self::KillOperator => f.write_str("the operator killed"),
            Self::LoseEvents => f.write_str("most events lost"),
            Self::RestartBlind => f.write_str("the operator killed, and blind when it came back"),
        }
    }
}

impl Fault {
    /// Chooses one for the pods that are there.
    pub fn choose(chance: &mut StdRng, pods: &[String]) -> Self {
        let Some(pod) = pods.choose(chance).cloned() else {
            return Self::KillOperator;
        };
        match chance.random_range(0..16) {
            0 => Self::Nothing,
            1 | 2 => Self::Kill(pod),
            3 | 4 => Self::Stop(pod),
            5 | 6 => Self::Cut(pod),
            7 | 8 => Self::Full(pod),
            9 | 10 => Self::Slow(pod),
            11 | 12 => Self::LoseEvents,
            13 => Self::RestartBlind,
            _ => Self::KillOperator,
        }
    }

    /// Lets it happen and ends it.
    ///
    /// # Errors
    /// When the fault itself cannot be made.
    pub async fn happen(&self, site: &mut Site<'_>, chance: &mut StdRng) -> Result<()> {
        let lasting = Duration::from_millis(chance.random_range(500..6000));
        let machine = match self {
            Self::Nothing => return Ok(()),
            Self::KillOperator => return site.restart_operator(),
            Self::LoseEvents => return lose_events(site, 80, lasting).await,
            Self::RestartBlind => {
                site.restart_operator()?;
                return lose_events(site, 100, lasting).await;
            }
            Self::Kill(pod) | Self::Stop(pod) | Self::Cut(pod) | Self::Full(pod) | Self::Slow(pod) => {
                site.machines.get(pod)
            }
        };
        // The pod may have gone in between.
        let Some(machine) = machine else {
            return Ok(());
        };
        match self {
            Self::Kill(_) => machine.signal(Signal::SIGKILL),
            Self::Stop(_) => {
                machine.signal(Signal::SIGSTOP);
                tokio::time::sleep(lasting).await;
                machine.signal(Signal::SIGCONT);
            }
            Self::Cut(pod) => {
                for is_cut in [true, false] {
                    let done = machine.network.cut(is_cut);
                    let now = site.machines.get(pod);
                    // With its pod the network goes too.
                    if now.is_some_and(|now| now.network.address == machine.network.address) {
                        done?;
                    }
                    if is_cut {
                        tokio::time::sleep(lasting).await;
                    }
                }
            }
            Self::Full(_) => {
                machine.volume.fill(true)?;
                tokio::time::sleep(lasting).await;
                machine.volume.fill(false)?;
            }
            Self::Slow(_) => machine.slow_down(lasting).await?,
            Self::Nothing | Self::KillOperator | Self::LoseEvents | Self::RestartBlind => {}
        }
        Ok(())
    }
}

async fn lose_events(site: &mut Site<'_>, percent: u64, lasting: Duration) -> Result<()> {
    site.operator.lose_events(percent)?;
    tokio::time::sleep(lasting).await;
    site.operator.lose_events(0)
}
