//! What lets a new cell's agent register: a token of the hub for this one cell, made anew while it is needed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use skep_api::{Cell, ClusterRegistration, RegistrationScope, RegistrationToken, RegistrationTokenSpec};
use skep_core::{labels, reasons};
use skep_runtime::Applier;
use skep_runtime::conditions::find;

use crate::controller::Error;

/// Where bootstrap tokens are.
const TOKENS: &str = "kube-system";
/// How long a token may be used, in seconds: longer than a cell takes to be made.
const TTL_SECONDS: i64 = 6 * 3600;

/// How a cell's agent comes to the hub.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// It did already.
    Registered,
    /// With this bootstrap token.
    Ready(String),
    /// There will be a token in a moment.
    Awaited,
}

/// The tokens of the cells that are made here.
pub(crate) struct Tickets {
    client: Client,
}

impl Tickets {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// What a cell's agent has to register with; a token that is over is made anew.
    pub(crate) async fn of(&self, cell: &Cell, applier: &Applier) -> Result<Ticket, Error> {
        if self.is_registered(cell).await? {
            return Ok(Ticket::Registered);
        }
        let tokens: Api<RegistrationToken> = Api::all(self.client.clone());
        let name = format!("cell-{}", cell.name_any());
        let found = tokens.get_opt(&name).await;
        let Some(found) = found.map_err(|source| Error::Observe("registration token", source))? else {
            return self.make(&tokens, cell, &name, applier).await;
        };
        if !belongs(&found, cell) {
            return discard(&tokens, &found).await;
        }
        let status = found.status.clone().unwrap_or_default();
        let Some(told) = find(&status.conditions, reasons::USABLE) else {
            return Ok(Ticket::Awaited);
        };
        // A used-up one is kept for as long as its certificate can be fetched with it.
        if told.status == "False" && told.reason != reasons::USED_UP {
            return discard(&tokens, &found).await;
        }
        match self.secret_of(status.bootstrap_id.as_deref()).await? {
            Some(secret) => Ok(Ticket::Ready(secret)),
            None => discard(&tokens, &found).await,
        }
    }

    /// The bootstrap token, whole, if it is still there.
    async fn secret_of(&self, id: Option<&str>) -> Result<Option<String>, Error> {
        let Some(id) = id else { return Ok(None) };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), TOKENS);
        let secret = secrets.get_opt(&format!("bootstrap-token-{id}")).await;
        let secret = secret.map_err(|source| Error::Observe("bootstrap token", source))?;
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let text = data
            .get("token-secret")
            .and_then(|value| std::str::from_utf8(&value.0).ok());
        Ok(text.map(|text| format!("{id}.{text}")))
    }

    /// Whether its agent has a certificate: one stands for the cell, and it was heard of.
    async fn is_registered(&self, cell: &Cell) -> Result<bool, Error> {
        let status = cell.status.as_ref();
        if status.is_none_or(|status| status.last_check_in.is_none()) {
            return Ok(false);
        }
        let registrations: Api<ClusterRegistration> = Api::all(self.client.clone());
        let only = ListParams::default().fields(&format!("spec.cell={}", cell.name_any()));
        let found = registrations.list(&only).await;
        let found = found.map_err(|source| Error::Observe("registrations", source))?;
        let stands =
            |one: &ClusterRegistration| !one.spec.revoked && one.metadata.deletion_timestamp.is_none();
        Ok(found.iter().any(stands))
    }

    async fn make(
        &self,
        tokens: &Api<RegistrationToken>,
        cell: &Cell,
        name: &str,
        applier: &Applier,
    ) -> Result<Ticket, Error> {
        let Some(token) = build_token(cell, name) else {
            return Ok(Ticket::Awaited);
        };
        let params = PostParams {
            field_manager: Some(applier.manager().to_owned()),
            ..PostParams::default()
        };
        match tokens.create(&params, &token).await {
            Ok(_) => Ok(Ticket::Awaited),
            Err(kube::Error::Api(told)) if told.is_already_exists() => Ok(Ticket::Awaited),
            Err(source) => Err(Error::Observe("new registration token", source)),
        }
    }
}

/// Whether a token was made for exactly this cell and not for an earlier one of its name.
fn belongs(token: &RegistrationToken, cell: &Cell) -> bool {
    let uid = cell.uid();
    token
        .owner_references()
        .iter()
        .any(|owner| Some(&owner.uid) == uid.as_ref())
}

/// Deletes exactly the token that was looked at; the next look makes another.
async fn discard(tokens: &Api<RegistrationToken>, token: &RegistrationToken) -> Result<Ticket, Error> {
    let exactly = DeleteParams::default().preconditions(Preconditions {
        uid: token.uid(),
        ..Preconditions::default()
    });
    match tokens.delete(&token.name_any(), &exactly).await {
        Ok(_) => Ok(Ticket::Awaited),
        Err(kube::Error::Api(told)) if told.is_not_found() || told.is_conflict() => Ok(Ticket::Awaited),
        Err(source) => Err(Error::Observe("registration token", source)),
    }
}

/// A token for one cell, once, that goes with the cell.
fn build_token(cell: &Cell, name: &str) -> Option<RegistrationToken> {
    let spec = RegistrationTokenSpec {
        ttl_seconds: TTL_SECONDS,
        uses: 1,
        scope: RegistrationScope {
            pool: cell.spec.pool.clone()?,
            cell: Some(cell.name_any()),
        },
        revoked: false,
    };
    let mut token = RegistrationToken::new(name, spec);
    let pairs = [
        (labels::CELL, cell.name_any()),
        (labels::APP_PART_OF, "skep".to_owned()),
    ];
    let labels: BTreeMap<_, _> = pairs.map(|(key, value)| (key.to_owned(), value)).into();
    token.metadata = ObjectMeta {
        labels: Some(labels),
        owner_references: Some(vec![cell.owner_ref(&())?]),
        ..token.metadata
    };
    Some(token)
}
