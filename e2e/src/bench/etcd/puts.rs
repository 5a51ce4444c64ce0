//! A bounded load on one cluster: some clients that each put small values, one after the other, at its leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use skep_etcd::members::{CLIENT_PORT, Credentials, GrpcMembers, Members, Target};

use super::CLUSTER;
use crate::soak::etcd::kv::{Identified, Kv};

const CLIENTS: u32 = 8;
/// Each client puts so many keys in turn.
const KEYS: u32 = 100;
const VALUE_BYTES: usize = 256;
/// The longest that one put may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cluster, and who puts.
pub struct Cluster {
    /// Its members.
    members: Vec<Target>,
}

/// What one sample gave.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Puts a second.
    pub rate: f64,
    /// The 99th percentile of a put's time, in milliseconds.
    pub p99: f64,
}

impl Cluster {
    /// The members by name and address, in a namespace.
    pub fn new(members: &[(String, String)], namespace: &str, credentials: &Arc<Credentials>) -> Self {
        let target = |(name, address): &(String, String)| Target {
            address: address.clone(),
            port: CLIENT_PORT,
            server_name: format!("{name}.{CLUSTER}-peer.{namespace}.svc"),
            credentials: Some(credentials.clone()),
        };
        Self {
            members: members.iter().map(target).collect(),
        }
    }

    /// The leader, and the revision of its store; nothing while there is none.
    pub async fn leader(&self) -> Option<(&Target, i64)> {
        for target in &self.members {
            if let Ok(status) = GrpcMembers.status(target).await
                && status.leader == Some(status.id)
            {
                return Some((target, status.revision));
            }
        }
        None
    }

    /// Puts for some time, and throws away the history afterwards.
    ///
    /// # Errors
    /// When there is no leader, or a put fails.
    pub async fn sample(&self, duration: Duration) -> Result<Sample> {
        let (leader, _) = self.leader().await.context("there is no leader")?;
        let begun = Instant::now();
        let clients = (0..CLIENTS).map(|client| put(leader, client, begun + duration));
        let mut times: Vec<f64> = futures::future::try_join_all(clients).await?.concat();
        let seconds = begun.elapsed().as_secs_f64();
        let (_, revision) = self.leader().await.context("there is no leader any more")?;
        GrpcMembers.compact(leader, revision).await?;
        times.sort_by(f64::total_cmp);
        let p99 = times.get(times.len() * 99 / 100).copied();
        Ok(Sample {
            rate: f64::from(u32::try_from(times.len())?) / seconds,
            p99: p99.context("nothing was put")?,
        })
    }
}

/// Connects to a member as the operator does.
pub async fn connect(member: &Target, patience: Duration) -> Result<Kv> {
    let credentials = member.credentials.as_ref().context("a member without TLS")?;
    let own = Identified {
        authority: credentials.authority.clone().into_bytes(),
        certificate: credentials.certificate.clone().into_bytes(),
        key: credentials.key.clone().into_bytes(),
    };
    Kv::connect(&member.address, &member.server_name, &own, patience).await
}

/// The times of one client's puts, in milliseconds.
async fn put(leader: &Target, client: u32, end: Instant) -> Result<Vec<f64>> {
    let mut etcd = connect(leader, PATIENCE).await?;
    let value = "x".repeat(VALUE_BYTES);
    let mut times = Vec::new();
    for number in 0_u32.. {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        let key = format!("bench/{client}/{}", number % KEYS);
        etcd.put(&key, &value).await.context("a put failed")?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}
