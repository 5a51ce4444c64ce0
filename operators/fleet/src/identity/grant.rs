//! Granting a registration: what the hub knows is read afresh, the use is counted, the registration made.

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use skep_api::{Cell, ClusterRegistration, ClusterRegistrationSpec, RegistrationToken};
use skep_core::{KeyName, Registration, labels, reasons};
use skep_runtime::conditions::{ConditionStatus, Conditions};
use tokio::sync::Mutex;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::NAME;
use super::controller::Error;
use super::registration::{BootstrapId, Refusal, Use, check_standing, check_token};
use super::verdict::Denial;

/// The hub's tokens and registrations.
pub(super) struct Registrations {
    client: Client,
    /// Two keys that ask for one cell at once must not both find it free; the hub has one leader.
    turn: Mutex<()>,
}

impl Registrations {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            turn: Mutex::new(()),
        }
    }

    /// Counts the use and makes the registration, or says why not; doing it again changes nothing.
    pub(super) async fn register(
        &self,
        request: &CertificateSigningRequest,
        asked: &Registration,
        id: &BootstrapId,
    ) -> Result<Result<(), Denial>, Error> {
        let _turn = self.turn.lock().await;
        let Some(token) = self.token(id).await? else {
            return Ok(Err(Refusal::UnknownToken(id.0.clone()).into()));
        };
        let cells: Api<Cell> = Api::all(self.client.clone());
        let Some(cell) = cells.get_opt(asked.cell.as_str()).await.map_err(Error::Observe)? else {
            return Ok(Err(Denial::UnknownCell(asked.cell.to_string())));
        };
        let others = self.of_cell(asked).await?;
        let used = match check_token(&token, asked, &cell, &others, Timestamp::now()) {
            Ok(used) => used,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        let known = self.registration(asked).await?;
        if known.is_some()
            && let Err(refusal) = check_standing(known.as_ref(), asked)
        {
            return Ok(Err(refusal.into()));
        }
        if used == Use::First {
            self.count(&token, asked).await?;
        }
        if known.is_none() {
            self.create(&token, &cell, request, asked).await?;
        }
        Ok(Ok(()))
    }

    /// Whether a registered agent may go on.
    pub(super) async fn renew(&self, asked: &Registration) -> Result<Result<(), Denial>, Error> {
        let found = self.registration(asked).await?;
        Ok(check_standing(found.as_ref(), asked).map_err(Denial::from))
    }

    /// Writes down when a registration's newest certificate ends.
    pub(super) async fn record(&self, issued: &Registration, end: Timestamp) -> Result<(), Error> {
        let Some(found) = self.registration(issued).await? else {
            return Ok(());
        };
        let status = found.status.clone().unwrap_or_default();
        if found.spec.cell != issued.cell.as_str()
            || status.certificate_end.is_some_and(|known| known.0 >= end)
        {
            return Ok(());
        }
        let conditions = Conditions::new(&status.conditions, found.metadata.generation, Timestamp::now())
            .set(
                reasons::ISSUED,
                ConditionStatus::True,
                reasons::AS_DESIRED,
                "a certificate was signed",
            )
            .build();
        let body = json!({
            "metadata": {"uid": found.uid(), "resourceVersion": found.resource_version()},
            "status": {"certificateEnd": end.to_string(), "conditions": conditions},
        });
        let written = self
            .registrations()
            .patch_status(&issued.name, &params(), &Patch::Merge(body))
            .await;
        written.map(drop).map_err(Error::Write)
    }

    fn registrations(&self) -> Api<ClusterRegistration> {
        Api::all(self.client.clone())
    }

    async fn registration(&self, asked: &Registration) -> Result<Option<ClusterRegistration>, Error> {
        let found = self.registrations().get_opt(&asked.name).await;
        found.map_err(Error::Observe)
    }

    async fn of_cell(&self, asked: &Registration) -> Result<Vec<ClusterRegistration>, Error> {
        let only = ListParams::default().fields(&format!("spec.cell={}", asked.cell));
        let found = self.registrations().list(&only).await.map_err(Error::Observe)?;
        Ok(found.items)
    }

    async fn token(&self, id: &BootstrapId) -> Result<Option<RegistrationToken>, Error> {
        let tokens: Api<RegistrationToken> = Api::all(self.client.clone());
        let all = tokens
            .list(&ListParams::default())
            .await
            .map_err(Error::Observe)?;
        let is_it = |token: &RegistrationToken| {
            let status = token.status.as_ref();
            status.and_then(|status| status.bootstrap_id.as_ref()) == Some(&id.0)
        };
        Ok(all.items.into_iter().find(is_it))
    }

    /// Takes one use, of exactly the token that was judged: of two that take the last one, one is in conflict.
    async fn count(&self, token: &RegistrationToken, asked: &Registration) -> Result<(), Error> {
        let status = token.status.clone().unwrap_or_default();
        let mut bought = status.registrations;
        bought.push(asked.name.clone());
        let body = json!({
            "metadata": {"uid": token.uid(), "resourceVersion": token.resource_version()},
            "status": {"used": status.used + 1, "registrations": bought},
        });
        let tokens: Api<RegistrationToken> = Api::all(self.client.clone());
        let written = tokens
            .patch_status(&token.name_any(), &params(), &Patch::Merge(body))
            .await;
        written.map(drop).map_err(Error::Write)
    }

    async fn create(
        &self,
        token: &RegistrationToken,
        cell: &Cell,
        request: &CertificateSigningRequest,
        asked: &Registration,
    ) -> Result<(), Error> {
        let key_fingerprint = fingerprint(request).unwrap_or_default();
        let spec = ClusterRegistrationSpec {
            cell: asked.cell.to_string(),
            token: token.name_any(),
            key_fingerprint,
            revoked: false,
        };
        let mut made = ClusterRegistration::new(&asked.name, spec);
        // It goes with the cell: a later cell of the same name is nobody's yet.
        made.metadata.owner_references = cell.owner_ref(&()).map(|owner| vec![owner]);
        let params = PostParams {
            field_manager: Some(labels::field_manager(NAME)),
            ..PostParams::default()
        };
        let created = self.registrations().create(&params, &made).await;
        created.map(drop).map_err(Error::Write)
    }
}

fn fingerprint(request: &CertificateSigningRequest) -> Option<String> {
    let (_, pem) = parse_x509_pem(&request.spec.request.0).ok()?;
    let (_, asked) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let key = asked.certification_request_info.subject_pki.raw;
    Some(KeyName::of(key).fingerprint)
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(labels::field_manager(NAME)),
        ..PatchParams::default()
    }
}
