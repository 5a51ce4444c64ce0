//! How machines become nodes of a cluster: a token for minutes, plain kubeadm, and the wait until they are ready.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use rand::Rng;
use serde_json::json;
use skep_distro::Artifacts;
use skep_provider::workers::{self, JoinToken};

use super::list::is_ready;
use super::session::Session;
use skep_runtime::wait_for;

use crate::client::{Context, Failure};
use crate::platform::progress::Display;
use crate::platform::up;

/// How long a token may be used: a join takes seconds.
const TOKEN_TTL: SignedDuration = SignedDuration::from_mins(10);
/// How long a node that has joined may take to be ready.
const READY_LIMIT: Duration = Duration::from_mins(3);

/// A bootstrap token as Kubernetes writes it.
#[derive(Clone)]
pub struct BootstrapToken(String);

impl std::fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BootstrapToken({})", self.parts().0)
    }
}

impl BootstrapToken {
    /// The id, which is no secret, and the secret.
    fn parts(&self) -> (&str, &str) {
        self.0.split_once('.').unwrap_or_default()
    }
}

/// Parses six and sixteen lower-case letters and digits with a dot between them.
pub(super) fn parse_token(text: &str) -> Result<BootstrapToken, String> {
    let is_part = |part: &str, length: usize| {
        let is_symbol = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.len() == length && part.chars().all(is_symbol)
    };
    match text.split_once('.') {
        Some((id, secret)) if is_part(id, 6) && is_part(secret, 16) => Ok(BootstrapToken(text.to_owned())),
        _ => Err("a bootstrap token is six and sixteen of a-z and 0-9 with a dot between them".to_owned()),
    }
}

/// Adds nodes to a cluster, waits until they are ready, and returns their names.
pub(super) async fn add(
    cluster: &str,
    count: u8,
    zone: Option<&str>,
    token: Option<BootstrapToken>,
    context: &Context,
) -> Result<Vec<String>, Failure> {
    let session = Session::open(cluster, context).await?;
    if let Some(token) = &token {
        session.check_token(token, cluster).await?;
    }
    let zones = if let Some(zone) = zone {
        vec![zone.to_owned(); usize::from(count)]
    } else {
        let standing =
            workers::workers(&session.ground.home, &session.tenant.cpid).map_err(Failure::from_error)?;
        let occupied = standing.iter().map(|worker| worker.zone.as_str());
        spread(&zones(&session.ground.cell, context).await?, occupied, count)
    };
    let display = Display::brief();
    let added = session.join(cluster, &zones, token, &display).await;
    display.clear();
    added
}

/// The zones of further nodes: each goes where the fewest are, the first of several.
fn spread<'a>(zones: &[String], taken: impl Iterator<Item = &'a str>, count: u8) -> Vec<String> {
    let mut load: BTreeMap<&str, usize> = BTreeMap::new();
    for zone in taken {
        *load.entry(zone).or_default() += 1;
    }
    let mut chosen = Vec::new();
    for _ in 0..count {
        let emptiest = zones
            .iter()
            .min_by_key(|zone| load.get(zone.as_str()).copied().unwrap_or(0));
        let Some(zone) = emptiest else { break };
        *load.entry(zone).or_default() += 1;
        chosen.push(zone.clone());
    }
    chosen
}

/// Makes sure that a cluster has a worker on this machine, and returns a client of the cluster.
pub async fn ensure_one(cluster: &str, context: &Context) -> Result<Client, Failure> {
    let session = Session::open(cluster, context).await?;
    let local = workers::workers(&session.ground.home, &session.tenant.cpid).map_err(Failure::from_error)?;
    if local.is_empty() {
        add(cluster, 1, None, None, context).await?;
    }
    Ok(session.client)
}

/// The command that becomes a machine's supervisor: this program.
pub(super) fn supervisor() -> Result<[OsString; 3], Failure> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Ok([
        program.into_os_string(),
        OsString::from("machine"),
        OsString::from("run"),
    ])
}

/// A cell's zones.
async fn zones(cell: &str, context: &Context) -> Result<Vec<String>, Failure> {
    let client = up::hub_client(&context.home).await?;
    let cells: Api<skep_api::Cell> = Api::all(client);
    let found = cells.get(cell).await;
    Ok(found
        .with_context(|| format!("cannot read cell {cell}"))?
        .spec
        .zones)
}

impl Session {
    async fn join(
        &self,
        cluster: &str,
        zones: &[String],
        given: Option<BootstrapToken>,
        display: &Display,
    ) -> Result<Vec<String>, Failure> {
        let artifacts = self.artifacts(display).await?;
        let supervisor = supervisor()?;
        let place = self.ground.place_with(&supervisor);
        let (token, is_ours) = match given {
            Some(BootstrapToken(token)) => (self.with_authority(token), false),
            None => (self.create_token().await?, true),
        };
        let added =
            workers::add_workers(&place, &self.tenant, cluster, zones, &token, &artifacts, display).await;
        if is_ours {
            self.delete_token(&token).await;
        }
        let added: Vec<_> = added
            .map_err(Failure::from_error)?
            .into_iter()
            .map(|worker| worker.name)
            .collect();
        let ready = futures::future::try_join_all(added.iter().map(|name| self.await_ready(name)));
        display
            .step("nodes", "nodes become ready", Some(Duration::from_secs(5)), ready)
            .await?;
        Ok(added)
    }

    /// The distribution of the cluster's version.
    pub(super) async fn artifacts(&self, display: &Display) -> Result<Artifacts, Failure> {
        let request = skep_distro::Request {
            cache: skep_distro::default_cache(),
            kubernetes: self.version().await?,
            prebuilt: None,
            operator_binary: None,
        };
        skep_distro::ensure(&request, display)
            .await
            .map_err(Failure::from_error)
    }

    /// A bootstrap token that lasts for minutes, as `kubeadm token create` makes one.
    async fn create_token(&self) -> Result<JoinToken, Failure> {
        let (id, secret) = (random_text(6), random_text(16));
        let expiration = Timestamp::now() + TOKEN_TTL;
        let object: Secret = serde_json::from_value(json!({
            "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {
                "token-id": id,
                "token-secret": secret,
                "expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "usage-bootstrap-authentication": "true",
                "usage-bootstrap-signing": "true",
                "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
            },
        }))
        .map_err(Failure::from_error)?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "kube-system");
        secrets
            .create(&PostParams::default(), &object)
            .await
            .context("cannot make a bootstrap token")?;
        Ok(self.with_authority(format!("{id}.{secret}")))
    }

    fn with_authority(&self, token: String) -> JoinToken {
        JoinToken {
            token,
            authority_hash: self.authority_hash.clone(),
        }
    }

    /// Looks whether a token that was given can still let a node in, before a machine is made for it.
    async fn check_token(&self, token: &BootstrapToken, cluster: &str) -> Result<(), Failure> {
        let (id, secret) = token.parts();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "kube-system");
        let found = secrets
            .get_opt(&format!("bootstrap-token-{id}"))
            .await
            .context("cannot read the cluster's bootstrap tokens")?;
        let data = found.and_then(|found| found.data).unwrap_or_default();
        let value = |key: &str| data.get(key).and_then(|value| std::str::from_utf8(&value.0).ok());
        let hint = "leave --token out to have a new one made";
        if value("token-secret") != Some(secret) {
            return Err(Failure::Refused(format!(
                "token {id} is none of cluster {cluster}: it is used up, has expired, or is another cluster's; {hint}"
            )));
        }
        let end = value("expiration").and_then(|text| text.parse::<Timestamp>().ok());
        match end.filter(|end| *end <= Timestamp::now()) {
            Some(end) => Err(Failure::Refused(format!(
                "token {id} has expired at {end}; {hint}"
            ))),
            None => Ok(()),
        }
    }

    /// It ends by itself in minutes; a failure here is no failure of the join.
    async fn delete_token(&self, token: &JoinToken) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "kube-system");
        let id = token.token.split('.').next().unwrap_or_default();
        drop(
            secrets
                .delete(&format!("bootstrap-token-{id}"), &DeleteParams::default())
                .await,
        );
    }

    pub(super) async fn await_ready(&self, name: &str) -> Result<(), Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let ready = |node: Option<&Node>| node.is_some_and(is_ready);
        wait_for(nodes, name, ready, READY_LIMIT).await.map_err(|late| {
            Failure::TimedOut(format!(
                "node {name} has joined and is not ready: {late}; see `kubectl describe node {name}`"
            ))
        })
    }
}

/// Letters and digits, as bootstrap tokens are made of.
fn random_text(length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut chance = rand::rng();
    (0..length)
        .map(|_| char::from(LETTERS[chance.random_range(0..LETTERS.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_go_to_the_zone_with_the_fewest() {
        let zones = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(spread(&zones, [].into_iter(), 4), ["a", "b", "c", "a"]);
        assert_eq!(spread(&zones, ["a", "b"].into_iter(), 2), ["c", "a"]);
        assert!(spread(&[], [].into_iter(), 2).is_empty());
    }

    #[test]
    fn a_token_is_what_kubernetes_takes() {
        assert!(parse_token("abcdef.0123456789abcdef").is_ok());
        for bad in [
            "",
            "abcdef",
            "abcde.0123456789abcdef",
            "Abcdef.0123456789abcdef",
            "abcdef.0123456789abcdef0",
        ] {
            assert!(parse_token(bad).is_err(), "{bad}");
        }
        assert!(!format!("{:?}", parse_token("abcdef.0123456789abcdef")).contains("0123"));
    }
}
