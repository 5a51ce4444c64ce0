//! The certificate that the pod's own account asks for; the account is used for nothing else at the hub.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Config, ResourceExt};
use skep_core::{CELL_AGENTS, CellName};
use skep_pki::{CertificatePem, new_request};
use skep_runtime::client::{ClientUse, build};
use skep_runtime::error::chain;

use super::request::{await_certificate, build_request};
use super::{Certified, IdentityError};
use crate::NAME;

/// Asks with the credentials of a configuration.
pub struct Account {
    requester: Client,
    hub: Config,
    cell: CellName,
}

impl Account {
    /// Asks at `hub` with the credentials in it, for the certificate of this cell's agent.
    pub(super) fn new(mut hub: Config, cell: CellName) -> Result<Self, IdentityError> {
        // The agent has its own backoff, which people wait for.
        hub.default_retry = false;
        let requester = build(hub.clone(), NAME, ClientUse::OwnCluster).map_err(IdentityError::Client)?;
        Ok(Self { requester, hub, cell })
    }

    pub(super) async fn try_obtain(&self) -> Result<Certified, IdentityError> {
        let (key, request) =
            new_request(&self.cell.agent_user(), &[CELL_AGENTS]).map_err(IdentityError::Pki)?;
        let requests: Api<CertificateSigningRequest> = Api::all(self.requester.clone());
        let created = requests
            .create(&PostParams::default(), &build_request(&self.cell, &request))
            .await
            .map_err(|source| IdentityError::Api("create", source))?;
        let name = created.name_any();
        let answer = await_certificate(&requests, &name).await;
        if let Err(error) = requests.delete(&name, &DeleteParams::default()).await {
            // Kubernetes removes it after an hour.
            tracing::debug!(name, error = chain(&error), "the signing request stays behind");
        }
        let certificate =
            CertificatePem::parse(&String::from_utf8_lossy(&answer?)).map_err(IdentityError::Pki)?;
        Certified::new(self.hub.clone(), &certificate, &key)
    }
}
