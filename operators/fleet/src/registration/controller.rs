//! Wiring and the driver of one token: status, then its Secret as that status says.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use skep_api::RegistrationToken;
use skep_core::{labels, reasons};
use skep_runtime::conditions::{ConditionStatus, Conditions, find, is_true, to_second};
use skep_runtime::controller::Settings as LoopSettings;
use skep_runtime::{
    Applier, ApplyError, CancellationToken, Categorised, ControllerBuilder, Outcome, Reconcile, api_category,
};

use super::build::{NAMESPACE, Standing, build_secret, draw, expiry, secret_name};
use super::{NAME, PICKUP_SECONDS};

/// How the controller runs.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Concurrency, timeout and backoff.
    pub controller: LoopSettings,
}

/// A reconcile of a token that failed and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token's status could not be written.
    #[error("cannot write the status of the token")]
    Status(#[source] kube::Error),
    /// The Secret could not be created.
    #[error("cannot create the bootstrap token Secret of the token")]
    Create(#[source] kube::Error),
    /// Another bootstrap token has the id; the next reconcile draws another.
    #[error("the bootstrap token id {0} is taken, another one is drawn")]
    Taken(String),
    /// The Secret could not be deleted.
    #[error("cannot delete the bootstrap token Secret of the token")]
    Delete(#[source] ApplyError),
}

impl Categorised for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Status(source) | Self::Create(source) => api_category(source),
            Self::Taken(_) => "conflict",
            Self::Delete(source) => source.category(),
        }
    }
}

/// Looks after tokens until `shutdown`.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    let reconciler = Tokens {
        applier: Applier::new(client.clone(), NAME),
    };
    ControllerBuilder::<RegistrationToken>::new(NAME, Api::all(client), watcher::Config::default())
        .run(settings.controller, reconciler, shutdown)
        .await;
    Ok(())
}

struct Tokens {
    applier: Applier,
}

impl Reconcile<RegistrationToken> for Tokens {
    type Error = Error;

    async fn reconcile(&self, token: &RegistrationToken) -> Result<Outcome, Error> {
        let now = to_second(Timestamp::now());
        match Standing::of(token, now) {
            Standing::Usable => self.open(token, now).await,
            over => self.close(token, over, now).await,
        }
    }
}

impl Tokens {
    /// Writes the id down, then makes the Secret, then says that it can be used: a Secret is made once.
    async fn open(&self, token: &RegistrationToken, now: Timestamp) -> Result<Outcome, Error> {
        let end = expiry(token, now);
        let status = token.status.clone().unwrap_or_default();
        if is_true(&status.conditions, reasons::USABLE) {
            return Ok(Outcome::waiting("its end", left(now, end)));
        }
        let Some(id) = status.bootstrap_id else {
            let id = draw(6, &mut rand::rng());
            self.tell(token, json!({"bootstrapId": id, "expiresAt": end.to_string()}))
                .await?;
            return Ok(Outcome::waiting("its id to be read back", Duration::from_secs(1)));
        };
        let secret = build_secret(token, &id, &draw(16, &mut rand::rng()), end);
        let secrets: Api<Secret> = Api::namespaced(self.applier.client().clone(), NAMESPACE);
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => {}
            Err(kube::Error::Api(told)) if told.is_already_exists() => {
                // Somebody else's, or ours from a reconcile that was cut off: nobody learns from it which, so it is
                // never taken on. Ours is bound to no id then and ends with its time or its owner.
                self.tell(token, json!({"bootstrapId": null})).await?;
                return Err(Error::Taken(id));
            }
            Err(source) => return Err(Error::Create(source)),
        }
        let conditions = conditions(token, Standing::Usable, now);
        self.tell(token, json!({"conditions": conditions})).await?;
        Ok(Outcome::waiting("its end", left(now, end)))
    }

    /// Says why it is over and deletes the Secret; that of a used-up one once its holder had time to fetch.
    async fn close(
        &self,
        token: &RegistrationToken,
        over: Standing,
        now: Timestamp,
    ) -> Result<Outcome, Error> {
        let status = token.status.clone().unwrap_or_default();
        let conditions = conditions(token, over, now);
        let since = find(&conditions, reasons::USABLE).map_or(now, |told| told.last_transition_time.0);
        if token.metadata.deletion_timestamp.is_none() && conditions != status.conditions {
            self.tell(token, json!({"conditions": conditions})).await?;
        }
        let pickup = since + jiff::SignedDuration::from_secs(PICKUP_SECONDS);
        if over == Standing::UsedUp && now < pickup {
            let next = pickup.min(expiry(token, now));
            return Ok(Outcome::waiting(
                "its holder to fetch the certificate",
                left(now, next),
            ));
        }
        if let Some(id) = status.bootstrap_id {
            let secrets: Api<Secret> = Api::namespaced(self.applier.client().clone(), NAMESPACE);
            let deleted = self.applier.delete(&secrets, &secret_name(&id), None).await;
            deleted.map_err(Error::Delete)?;
        }
        Ok(Outcome::Converged)
    }

    /// Writes this controller's fields of the status over exactly the token that was read: uses are counted meanwhile.
    async fn tell(&self, token: &RegistrationToken, mut status: Value) -> Result<(), Error> {
        status["observedGeneration"] = json!(token.metadata.generation);
        let body = json!({
            "metadata": {"uid": token.uid(), "resourceVersion": token.resource_version()},
            "status": status,
        });
        let params = PatchParams {
            field_manager: Some(labels::field_manager(NAME)),
            ..PatchParams::default()
        };
        let tokens: Api<RegistrationToken> = Api::all(self.applier.client().clone());
        let written = tokens
            .patch_status(&token.name_any(), &params, &Patch::Merge(body))
            .await;
        written.map(drop).map_err(Error::Status)
    }
}

fn conditions(token: &RegistrationToken, standing: Standing, now: Timestamp) -> Vec<Condition> {
    let observed = token.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let status = ConditionStatus::from_bool(standing == Standing::Usable);
    Conditions::new(observed, token.metadata.generation, now)
        .set(
            reasons::USABLE,
            status,
            standing.reason(),
            standing.message(token),
        )
        .build()
}

/// How long until a moment; a second more, so that the next look comes after it.
fn left(now: Timestamp, moment: Timestamp) -> Duration {
    Duration::try_from(now.duration_until(moment)).unwrap_or_default() + Duration::from_secs(1)
}
