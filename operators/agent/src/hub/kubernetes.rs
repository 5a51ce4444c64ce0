//! The hub behind the Kubernetes API: one list, then watches that go on from where they ended.
//!
//! The cursor holds the resource versions of records and requests. Watches stay open between pulls; they end
//! with their connection and are opened again with the client of the day.

mod feed;

use async_trait::async_trait;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use skep_api::{Cell, CertificateRequest, DeploymentRecord};
use skep_core::{CellName, labels};
use skep_runtime::{Applier, ApplyError};
use tokio::sync::{Mutex, watch};

use self::feed::{Feed, FeedError};
use super::{Change, CheckIn, Cursor, Hub, HubError, Pull, Report};
use crate::NAME;

/// Changes of one kind in one pull at most, so that a burst is worked on while it goes on.
const LARGEST_PULL: usize = 500;

/// The hub's API in the namespace of one cell.
pub struct KubernetesHub {
    client: watch::Receiver<Client>,
    cell: CellName,
    feeds: Mutex<Feeds>,
}

/// Both feeds and the cursor that was handed out for where they are.
#[derive(Default)]
struct Feeds {
    records: Feed<DeploymentRecord>,
    requests: Feed<CertificateRequest>,
    returned: Option<Cursor>,
}

impl KubernetesHub {
    /// The hub as `client` reaches it; the channel brings a new client when the certificate is renewed.
    pub fn new(client: watch::Receiver<Client>, cell: CellName) -> Self {
        Self {
            client,
            cell,
            feeds: Mutex::default(),
        }
    }

    fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    async fn list(&self, feeds: &mut Feeds) -> Result<Pull, HubError> {
        let (client, namespace) = (self.client(), self.cell.namespace());
        let (records, requests) = tokio::try_join!(
            feeds
                .records
                .list(Api::namespaced(client.clone(), &namespace), "list records"),
            feeds
                .requests
                .list(Api::namespaced(client, &namespace), "list requests"),
        )?;
        Ok(feeds.hand_out(records, requests, true))
    }

    async fn follow(&self, feeds: &mut Feeds) -> Result<Pull, FeedError> {
        let namespace = self.cell.namespace();
        loop {
            let client = self.client();
            let (records, requests) = (
                Api::namespaced(client.clone(), &namespace),
                Api::namespaced(client, &namespace),
            );
            tokio::try_join!(
                feeds.records.open(records, "watch records"),
                feeds.requests.open(requests, "watch requests"),
            )?;
            let (mut records, mut requests) = (Vec::new(), Vec::new());
            tokio::select! {
                change = feeds.records.next("watch records") => records.extend(change?),
                change = feeds.requests.next("watch requests") => requests.extend(change?),
            }
            // From here nothing awaits, so that a dropped pull loses nothing.
            records.extend(feeds.records.drain("watch records", LARGEST_PULL));
            requests.extend(feeds.requests.drain("watch requests", LARGEST_PULL));
            if !records.is_empty() || !requests.is_empty() {
                return Ok(feeds.hand_out(records, requests, false));
            }
        }
    }

    async fn check_in(&self, check_in: &CheckIn) -> Result<(), HubError> {
        // Applied by name alone: the agent may write this status and need not read the cell.
        let body = json!({
            "apiVersion": "skep.dev/v1alpha1",
            "kind": "Cell",
            "metadata": {"name": self.cell.as_str()},
            "status": check_in,
        });
        let params = PatchParams::apply(&labels::field_manager(NAME)).force();
        let cells: Api<Cell> = Api::all(self.client());
        cells
            .patch_status(self.cell.as_str(), &params, &Patch::Apply(body))
            .await
            .map(drop)
            .map_err(HubError::CheckIn)
    }
}

impl Feeds {
    fn hand_out(
        &mut self,
        records: Vec<Change<DeploymentRecord>>,
        requests: Vec<Change<CertificateRequest>>,
        complete: bool,
    ) -> Pull {
        let since = Cursor::new(format!("{}/{}", self.records.version(), self.requests.version()));
        self.returned = Some(since.clone());
        Pull {
            records,
            requests,
            since,
            complete,
        }
    }

    /// Goes to where `since` was handed out, unless the feeds are there.
    fn seek(&mut self, since: &Cursor) -> Result<(), HubError> {
        if self.returned.as_ref() == Some(since) {
            return Ok(());
        }
        let (records, requests) = since.as_str().split_once('/').ok_or(HubError::Cursor)?;
        self.records.seek(records);
        self.requests.seek(requests);
        self.returned = Some(since.clone());
        Ok(())
    }
}

#[async_trait]
impl Hub for KubernetesHub {
    async fn pull(&self, since: Option<&Cursor>) -> Result<Pull, HubError> {
        let mut feeds = self.feeds.lock().await;
        let Some(since) = since else {
            return self.list(&mut feeds).await;
        };
        feeds.seek(since)?;
        match self.follow(&mut feeds).await {
            Ok(pull) => Ok(pull),
            Err(FeedError::Expired) => {
                tracing::info!("the hub no longer has what changed since; everything is pulled");
                self.list(&mut feeds).await
            }
            Err(FeedError::Failed(error)) => Err(error),
        }
    }

    async fn report(&self, report: Report<'_>) -> Result<(), HubError> {
        let applier = Applier::new(self.client(), NAME);
        let written = match report {
            Report::Record(observed, status) => applier.apply_status(observed, &status).await,
            Report::Request(observed, status) => applier.apply_status(observed, &status).await,
            Report::CheckIn(check_in) => return self.check_in(&check_in).await,
        };
        match written {
            Err(error) if !ApplyError::is_not_found(&error) => Err(HubError::Report(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
