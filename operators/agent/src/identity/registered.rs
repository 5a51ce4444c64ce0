//! The certificate of a cell whose hub is another cluster: a token buys the first, each certificate the next.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Api, Client, ResourceExt};
use skep_api::Cell;
use skep_core::{CELL_AGENTS, CellName};
use skep_pki::{KeyPem, request_for};
use skep_runtime::Events;
use skep_runtime::client::{ClientUse, build};

use super::directory::{BootstrapToken, DirectoryError, HubDirectory};
use super::request::{await_certificate, build_request};
use super::stored::{Step, Store, Stored, decide, reference};
use super::{Certified, IdentityError, Occasion, auth_info};
use crate::{NAME, Settings};

/// The reasons of a denial that another request with the same key would meet again, whatever the token.
const OF_THE_KEY: [&str; 4] = [
    "RegistrationNotStanding",
    "KeyNotAllowed",
    "SubjectNotAllowed",
    "RequesterNotAllowed",
];

/// Registers with a token, and renews with what it got.
pub struct Registered {
    directory: HubDirectory,
    store: Store,
    events: Events,
    cell: CellName,
    /// Whether the hub is done with the key that is stored.
    is_denied: AtomicBool,
}

impl Registered {
    pub(super) fn new(client: Client, directory: HubDirectory, settings: &Settings) -> Self {
        Self {
            directory,
            store: Store::new(client.clone(), settings.cell.clone()),
            events: Events::new(client, NAME, settings.instance.clone()),
            cell: settings.cell.clone(),
            is_denied: AtomicBool::new(false),
        }
    }

    pub(super) async fn try_obtain(&self, occasion: Occasion) -> Result<Certified, IdentityError> {
        let stored = self.store.read().await?;
        let token = self.directory.token().await;
        let id = token.as_ref().ok().map(BootstrapToken::id);
        let is_denied = self.is_denied.load(Ordering::Relaxed);
        let step = decide(stored.as_ref(), id, is_denied, Timestamp::now());
        let tried = match (step, stored) {
            (Step::MakeKey, old) => self.make(old.as_ref(), token).await,
            // A certificate that is still good serves while the next is asked for.
            (Step::Renew, Some(stored)) if occasion == Occasion::Renewal => self.renew(&stored).await,
            (Step::Use | Step::Renew, Some(stored)) => self.client(&stored).await,
            (Step::AwaitToken, Some(stored)) => Err(IdentityError::Expired {
                registration: stored.registration.name,
                file: self.directory.token_file(),
            }),
            (_, Some(stored)) => self.register(&stored, &token?).await,
            (_, None) => self.make(None, token).await,
        };
        match &tried {
            Ok(_) => self.is_denied.store(false, Ordering::Relaxed),
            Err(error) => self.note(error).await,
        }
        tried
    }

    /// Whether another token than the one of the identity is there, and the hub takes nothing from `client`.
    pub(super) async fn is_over(&self, client: Client) -> bool {
        let (Ok(token), Ok(Some(stored))) = (self.directory.token().await, self.store.read().await) else {
            return false;
        };
        if token.id() == stored.bootstrap_id {
            return false;
        }
        let asked = Api::<Cell>::all(client).get(self.cell.as_str()).await;
        let is_over = asked.is_err_and(|error| is_refusal(&error));
        if is_over {
            tracing::warn!(
                registration = stored.registration.name,
                bootstrap_id = token.id(),
                "the hub takes nothing from this registration any more, and there is another token"
            );
            self.is_denied.store(true, Ordering::Relaxed);
        }
        is_over
    }

    async fn make(
        &self,
        old: Option<&Stored>,
        token: Result<BootstrapToken, DirectoryError>,
    ) -> Result<Certified, IdentityError> {
        let token = token?;
        let made = Stored::make(&self.cell, token.id(), old).map_err(IdentityError::Pki)?;
        let stored = self.store.write(&made).await?;
        self.is_denied.store(false, Ordering::Relaxed);
        let (registration, bootstrap_id) = (stored.registration.name.as_str(), token.id());
        tracing::info!(registration, bootstrap_id, "a key to register with");
        self.register(&stored, &token).await
    }

    async fn register(&self, stored: &Stored, token: &BootstrapToken) -> Result<Certified, IdentityError> {
        let asked = self.ask(token.auth_info()?, stored, &stored.key).await;
        let pem = asked.map_err(|error| match error {
            IdentityError::Api(_, kube::Error::Api(told)) if told.code == 401 => {
                IdentityError::UnknownToken {
                    id: token.id().to_owned(),
                    file: self.directory.token_file(),
                }
            }
            other => other,
        })?;
        let mut certified = stored
            .certified(stored.key.clone(), &pem)
            .map_err(IdentityError::Pki)?;
        token.id().clone_into(&mut certified.bootstrap_id);
        let stored = self.store.write(&certified).await?;
        self.client(&stored).await
    }

    async fn renew(&self, stored: &Stored) -> Result<Certified, IdentityError> {
        let key = KeyPem::generate().map_err(IdentityError::Pki)?;
        let (certificate, current) = stored.credentials()?;
        let asked = self.ask(auth_info(certificate, current)?, stored, &key).await;
        let pem = asked.map_err(|error| match error {
            IdentityError::Api(_, source) if is_refusal(&source) => IdentityError::Refused {
                registration: stored.registration.name.clone(),
                file: self.directory.token_file(),
            },
            other => other,
        })?;
        let renewed = stored.certified(key, &pem).map_err(IdentityError::Pki)?;
        let stored = self.store.write(&renewed).await?;
        self.client(&stored).await
    }

    /// Asks for a certificate of `key` in the name of the stored registration.
    async fn ask(
        &self,
        credentials: AuthInfo,
        stored: &Stored,
        key: &KeyPem,
    ) -> Result<Vec<u8>, IdentityError> {
        let mut hub = self.directory.hub().await?;
        hub.auth_info = credentials;
        let client = build(hub, NAME, ClientUse::OwnCluster).map_err(IdentityError::Client)?;
        let request =
            request_for(key, &stored.registration.user(), &[CELL_AGENTS]).map_err(IdentityError::Pki)?;
        let requests: Api<CertificateSigningRequest> = Api::all(client);
        let created = requests
            .create(&PostParams::default(), &build_request(&self.cell, &request))
            .await
            .map_err(|source| IdentityError::Api("create", source))?;
        // It may not delete the request; Kubernetes removes it after an hour.
        await_certificate(&requests, &created.name_any()).await
    }

    async fn client(&self, stored: &Stored) -> Result<Certified, IdentityError> {
        let hub = self.directory.hub().await?;
        let (certificate, key) = stored.credentials()?;
        Certified::new(hub, certificate, key)
    }

    /// Tells people in the cell what the hub said, and remembers what it said of the key.
    async fn note(&self, error: &IdentityError) {
        let (reason, is_of_the_key) = match error {
            IdentityError::Denied { reason, .. } if reason.is_empty() => ("Denied", false),
            IdentityError::Denied { reason, .. } => (reason.as_str(), OF_THE_KEY.contains(&reason.as_str())),
            IdentityError::Refused { .. } => ("RegistrationRefused", true),
            IdentityError::UnknownToken { .. } => ("UnknownToken", false),
            IdentityError::Expired { .. } => ("CertificateExpired", false),
            _ => return,
        };
        if is_of_the_key {
            self.is_denied.store(true, Ordering::Relaxed);
        }
        let note = error.to_string();
        self.events.warning(&reference(), reason, "Register", &note).await;
    }
}

/// Whether the hub does not know the caller or gives it no right.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(told) if told.code == 401 || told.code == 403)
}
