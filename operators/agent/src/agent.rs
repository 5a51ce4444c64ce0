//! The driver: observe, decide, apply and report, for one record or one request at a time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skep_api::DeploymentRecord;
use skep_core::{CellName, Cpid, labels};
use skep_runtime::error::chain;
use skep_runtime::{Applier, ApplyError, Categorised, Events, Outcome, api_category};

use crate::hub::{Hub, HubError, Report};
use crate::local::{Local, ReadError};
use crate::mirror::Mirror;
use crate::queue::Key;
use crate::{records, requests};

/// When to look again at what a watch should have told of.
const RETRY: Duration = Duration::from_mins(1);
/// When to look again for a namespace, of which no watch tells; people wait for what goes into it.
const SOON: Duration = Duration::from_secs(2);

/// A reconcile that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cell could not be read.
    #[error("cannot observe")]
    Observe(#[source] ReadError),
    /// The cell could not be written.
    #[error("cannot apply")]
    Apply(#[source] ApplyError),
    /// The hub could not be told.
    #[error("cannot report")]
    Report(#[source] HubError),
}

impl Categorised for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Observe(ReadError::Api(_, source)) => api_category(source),
            Self::Observe(ReadError::Unreadable { .. }) => "unreadable",
            Self::Apply(error) => error.category(),
            Self::Report(error) => error.category(),
        }
    }
}

/// Everything that a reconcile needs.
pub struct Agent {
    /// The name of the cell.
    pub cell: CellName,
    /// The hub.
    pub hub: Arc<dyn Hub>,
    /// What the hub last said.
    pub mirror: Arc<Mirror>,
    /// The cell.
    pub local: Local,
    /// Writes to the cell.
    pub applier: Applier,
    /// Tells people.
    pub events: Events,
}

impl Agent {
    /// Brings the cell closer to what the hub said, and tells the hub.
    pub async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        match key {
            Key::Record(name) => self.record(name).await,
            Key::Request { cpid, name } => self.request(cpid, name).await,
        }
    }

    /// The trace of the request that caused what a key is about.
    pub fn traceparent(&self, key: &Key) -> Option<String> {
        let metadata = match key {
            Key::Record(name) => self.mirror.record(name)?.metadata.clone(),
            Key::Request { cpid, name } => self.mirror.request(cpid, name)?.metadata.clone(),
        };
        metadata.annotations?.remove(labels::TRACEPARENT)
    }

    async fn record(&self, name: &str) -> Result<Outcome, Error> {
        let Some(record) = self.mirror.record(name) else {
            return Ok(Outcome::skipped("the hub has no record of it"));
        };
        let observed = self.local.control_plane(name).await.map_err(Error::Observe)?;
        match (records::decide(&self.cell, &record, observed.as_ref()), &observed) {
            (records::Decision::Apply(desired), _) => match self.applier.apply(desired.as_ref()).await {
                Ok(applied) => self.tell(&record, records::Finding::Standing(&applied)).await,
                Err(error) if error.category() == "invalid" => {
                    // Only another record helps: the hub is told what the cell's API said.
                    self.tell(&record, records::Finding::Refused(&chain(&error)))
                        .await?;
                    Err(Error::Apply(error))
                }
                Err(error) => Err(Error::Apply(error)),
            },
            (records::Decision::Keep, Some(plane)) => {
                self.tell(&record, records::Finding::Standing(plane)).await
            }
            (records::Decision::Delete, Some(plane)) => {
                self.applier.delete_observed(plane).await.map_err(Error::Apply)?;
                self.tell(&record, records::Finding::Removing(plane)).await?;
                Ok(Outcome::waiting("the control plane to be removed", RETRY))
            }
            (records::Decision::Await, Some(plane)) => {
                self.tell(&record, records::Finding::Removing(plane)).await?;
                Ok(Outcome::waiting("the control plane to be removed", RETRY))
            }
            (records::Decision::Refuse(why), _) => {
                self.tell(&record, records::Finding::Refused(why)).await?;
                Ok(Outcome::skipped(why))
            }
            (_, _) => self.tell(&record, records::Finding::Gone).await,
        }
    }

    async fn tell(&self, record: &DeploymentRecord, finding: records::Finding<'_>) -> Result<Outcome, Error> {
        let status = records::build_status(record, finding, Timestamp::now());
        self.hub
            .report(Report::Record(record, status))
            .await
            .map_err(Error::Report)?;
        Ok(Outcome::Converged)
    }

    async fn request(&self, cpid: &str, name: &str) -> Result<Outcome, Error> {
        if !self.mirror.is_complete() {
            return Ok(Outcome::skipped("the hub has not told everything yet"));
        }
        let Ok(home) = cpid.parse::<Cpid>() else {
            return Ok(Outcome::skipped("its cpid is none"));
        };
        let copy = self.local.copy(&home, name).map_err(Error::Observe)?;
        let request = self.mirror.request(cpid, name);
        let plane = self.local.known_control_plane(cpid);
        let decision = requests::decide(
            &self.cell,
            request.as_deref(),
            copy.as_ref(),
            plane.as_ref(),
            Timestamp::now(),
        );
        match (decision, &request, &copy) {
            (requests::Decision::Copy(built), _, _) => match self.applier.apply(built.as_ref()).await {
                Ok(_) => {}
                // It comes with the control plane, whose next change brings this request again.
                Err(error) if error.is_not_found() => return Ok(Outcome::waiting("its namespace", SOON)),
                Err(error) => return Err(Error::Apply(error)),
            },
            (requests::Decision::Answer(status), Some(request), _) => {
                self.hub
                    .report(Report::Request(request, status))
                    .await
                    .map_err(Error::Report)?;
            }
            (requests::Decision::Remove, _, Some(copy)) => {
                self.applier.delete_observed(copy).await.map_err(Error::Apply)?;
            }
            (requests::Decision::NoControlPlane, _, _) => {
                return Ok(Outcome::waiting("its control plane", RETRY));
            }
            (_, _, _) => {}
        }
        Ok(Outcome::Converged)
    }
}
