//! Wiring and driver: judge a request, write the verdict.

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skep_api::Cell;
use skep_core::labels;
use skep_core::{CellName, Registration};
use skep_runtime::controller::Settings as LoopSettings;
use skep_runtime::{CancellationToken, Categorised, ControllerBuilder, Outcome, Reconcile, api_category};

use super::NAME;
use super::grant::Registrations;
use super::verdict::{Denial, Verdict, judge};

/// How the controller runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Concurrency, timeout and backoff.
    pub controller: LoopSettings,
    /// The users that may ask for cells' certificates.
    pub requesters: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            controller: LoopSettings::default(),
            requesters: vec!["system:serviceaccount:skep-system:skep-agent".to_owned()],
        }
    }
}

/// A verdict that could not be reached or written; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A cell, token or registration could not be read.
    #[error("cannot read the cells, tokens or registrations")]
    Observe(#[source] kube::Error),
    /// The verdict, or what it rests on, could not be written.
    #[error("cannot write the verdict, the use of the token or the registration")]
    Write(#[source] kube::Error),
}

impl Categorised for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Observe(source) | Self::Write(source) => api_category(source),
        }
    }
}

/// Judges signing requests until `shutdown`.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    let reconciler = Identity {
        registrations: Registrations::new(client.clone()),
        client: client.clone(),
        requesters: settings.requesters,
    };
    ControllerBuilder::<CertificateSigningRequest>::new(NAME, Api::all(client), watcher::Config::default())
        .run(settings.controller, reconciler, shutdown)
        .await;
    Ok(())
}

struct Identity {
    registrations: Registrations,
    client: Client,
    requesters: Vec<String>,
}

impl Reconcile<CertificateSigningRequest> for Identity {
    type Error = Error;

    async fn reconcile(&self, request: &CertificateSigningRequest) -> Result<Outcome, Error> {
        // The cell is looked up only when everything else is right, by the name that is asked for.
        let verdict = match judge(request, &self.requesters, |_| true) {
            Verdict::Approve(cell)
            | Verdict::Register(Registration { cell, .. }, _)
            | Verdict::Renew(Registration { cell, .. })
                if !self.is_cell(&cell).await? =>
            {
                judge(request, &self.requesters, |_| false)
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Foreign => Ok(Outcome::skipped("it is decided, or not about cells")),
            Verdict::Approve(cell) => {
                let message = format!("the agent of cell {cell}");
                self.approve(request, "CellAgent", &message).await
            }
            Verdict::Register(asked, id) => {
                let granted = self.registrations.register(request, &asked, &id).await?;
                self.answer(request, &asked, "Registered", granted).await
            }
            Verdict::Renew(asked) => {
                let granted = self.registrations.renew(&asked).await?;
                self.answer(request, &asked, "Renewed", granted).await
            }
            Verdict::Issued(registration, end) => {
                self.registrations.record(&registration, end).await?;
                Ok(Outcome::Converged)
            }
            Verdict::Deny(denial) => self.deny(request, &denial).await,
        }
    }
}

impl Identity {
    async fn is_cell(&self, cell: &CellName) -> Result<bool, Error> {
        let cells: Api<Cell> = Api::all(self.client.clone());
        let found = cells
            .get_metadata_opt(cell.as_str())
            .await
            .map_err(Error::Observe)?;
        Ok(found.is_some_and(|cell| cell.metadata.deletion_timestamp.is_none()))
    }

    async fn answer(
        &self,
        request: &CertificateSigningRequest,
        asked: &Registration,
        reason: &str,
        granted: Result<(), Denial>,
    ) -> Result<Outcome, Error> {
        match granted {
            Ok(()) => {
                let message = format!("the agent of cell {}, registration {}", asked.cell, asked.name);
                self.approve(request, reason, &message).await
            }
            Err(denial) => self.deny(request, &denial).await,
        }
    }

    async fn approve(
        &self,
        request: &CertificateSigningRequest,
        reason: &str,
        message: &str,
    ) -> Result<Outcome, Error> {
        self.write(request, "Approved", reason, message).await?;
        tracing::info!(request = request.name_any(), message, "approved");
        Ok(Outcome::Converged)
    }

    async fn deny(&self, request: &CertificateSigningRequest, denial: &Denial) -> Result<Outcome, Error> {
        self.write(request, "Denied", denial.reason(), &denial.to_string())
            .await?;
        tracing::warn!(request = request.name_any(), reason = denial.reason(), "denied");
        Ok(Outcome::Converged)
    }

    async fn write(
        &self,
        request: &CertificateSigningRequest,
        type_: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), Error> {
        let now = Time(skep_runtime::conditions::to_second(Timestamp::now()));
        let condition = CertificateSigningRequestCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(now.clone()),
            last_transition_time: Some(now),
        };
        // The resource version makes the verdict one on exactly the request that was judged.
        let body = json!({
            "metadata": {"uid": request.uid(), "resourceVersion": request.resource_version()},
            "status": {"conditions": [condition]},
        });
        let params = PatchParams {
            field_manager: Some(labels::field_manager(NAME)),
            ..PatchParams::default()
        };
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let written = requests
            .patch_approval(&request.name_any(), &params, &Patch::Merge(body))
            .await;
        written.map(drop).map_err(Error::Write)
    }
}
