//! The driver of one cluster: observe, validate, build, apply, decide and carry out, status.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use kube::{Client, ResourceExt};
use rand::Rng;
use skep_api::etcd_cluster::{EtcdCluster, EtcdClusterStatus};
use skep_core::labels;
use skep_runtime::apply::has_finalizer;
use skep_runtime::error::chain;
use skep_runtime::{Applier, Events, Outcome, Reconcile};

use crate::CONTROLLER;
use crate::apply::{Written, apply_certificates, apply_lasting};
use crate::build::certificates::build_certificates;
use crate::decide::{Action, Signal, decide};
use crate::error::Error;
use crate::execute::{Effect, Step};
use crate::members::{Credentials, Members};
use crate::metrics::{STEPS, step};
use crate::observe::backups::assemble_backups;
use crate::observe::drills::assemble_drills;
use crate::observe::{
    Children, Memory, Sight, assemble, fetch_backups, fetch_children, fetch_drills, fetch_membership,
    fetch_object, fetch_secrets,
};
use crate::observed::{Observed, Trust};
use crate::status::{build_failed_status, build_invalid_status, build_status, outcome, write_status};
use crate::turns::Turns;
use crate::validate::{Cluster, validate};

/// Steps in one reconcile; more than any change needs without waiting for something.
const STEPS_AT_A_TIME: usize = 12;

/// The reconciler of all clusters.
pub struct Operator<M> {
    pub(crate) client: Client,
    pub(crate) applier: Applier,
    pub(crate) events: Events,
    pub(crate) members: M,
    pub(crate) memory: Memory,
    pub(crate) written: Written,
    pub(crate) turns: Turns,
    /// The image that this operator runs in, where it is known.
    pub(crate) image: Option<String>,
}

/// A cluster with its certificates in place.
struct Certified {
    /// What shall be.
    cluster: Cluster,
    /// Whom members and clients trust.
    trust: Trust,
    /// The operator's own certificate.
    credentials: Arc<Credentials>,
}

/// What one look at the world gave.
struct Look {
    /// The cluster as it runs.
    cluster: Cluster,
    object: EtcdCluster,
    observed: Observed,
    action: Action,
}

impl<M: Members> Reconcile<EtcdCluster> for Operator<M> {
    type Error = Error;

    async fn reconcile(&self, cached: &EtcdCluster) -> Result<Outcome, Error> {
        let namespace = cached.namespace().unwrap_or_default();
        let Some(object) = fetch_object(&self.client, &namespace, &cached.name_any()).await? else {
            return Ok(Outcome::skipped("the object is gone"));
        };
        if object.metadata.deletion_timestamp.is_some() {
            return self.tear_down(object).await;
        }
        let cluster = match validate(&object) {
            Ok(cluster) => cluster,
            Err(invalid) => {
                let status = build_invalid_status(&object, &invalid, Timestamp::now());
                self.write(&object, &status).await?;
                return Ok(Outcome::skipped(invalid.to_string()));
            }
        };
        self.applier
            .add_finalizer(&object, &labels::finalizer(CONTROLLER))
            .await?;
        let result = self.bring_closer(&object, &cluster).await;
        if let Err(error) = &result {
            self.tell_failure(&cluster, error).await;
        }
        result
    }
}

impl<M: Members> Operator<M> {
    pub(crate) fn new(
        client: Client,
        members: M,
        instance: Option<String>,
        image: Option<String>,
        turns: Turns,
    ) -> Self {
        Self {
            applier: Applier::new(client.clone(), CONTROLLER),
            events: Events::new(client.clone(), CONTROLLER, instance),
            client,
            members,
            memory: Memory::default(),
            written: Written::default(),
            turns,
            image,
        }
    }

    async fn bring_closer(&self, object: &EtcdCluster, cluster: &Cluster) -> Result<Outcome, Error> {
        let secrets = fetch_secrets(&self.client, cluster).await?;
        let is_formed = object.status.as_ref().is_some_and(|status| status.bootstrapped);
        let certificates = build_certificates(cluster, &secrets, !is_formed, Timestamp::now())?;
        apply_certificates(&self.applier, cluster, &certificates).await?;
        let is_recent = self.written.is_recent(cluster, Instant::now());
        if !is_recent {
            apply_lasting(&self.applier, cluster, &self.written).await?;
        }
        let certified = Certified {
            cluster: Cluster {
                trust: certificates.revision,
                operator_image: self.image.clone(),
                ..cluster.clone()
            },
            trust: certificates.trust,
            credentials: Arc::new(certificates.credentials),
        };
        let Some(look) = self.take_steps(&certified).await? else {
            return Ok(Outcome::skipped("the object is gone"));
        };
        let status = build_status(&look.object, &look.observed, &look.action, Timestamp::now());
        self.write(&look.object, &status).await?;
        if look.action == Action::Done && is_recent {
            apply_lasting(&self.applier, cluster, &self.written).await?;
        }
        Ok(outcome(&look.observed, &look.action))
    }

    /// Decides and acts, and looks again, until there is nothing to do but wait.
    async fn take_steps(&self, certified: &Certified) -> Result<Option<Look>, Error> {
        let mut taken = 0;
        loop {
            let Some(mut look) = self.look(certified).await? else {
                return Ok(None);
            };
            taken += 1;
            if matches!(look.action, Action::Wait { .. } | Action::Done) || taken > STEPS_AT_A_TIME {
                return Ok(Some(look));
            }
            tracing::info!(action = ?look.action, "step");
            let step_taken = Step {
                client: &self.client,
                applier: &self.applier,
                events: &self.events,
                members: &self.members,
                cluster: &look.cluster,
                object: &look.object,
                observed: &look.observed,
                memory: &self.memory,
                turns: &self.turns,
                credentials: &certified.credentials,
            };
            let effect = step_taken.execute(&look.action, Timestamp::now()).await;
            let label = match &effect {
                Ok(Effect::Again) => "done",
                Ok(Effect::Refused(_)) => "refused",
                Ok(Effect::Queued(_)) => "queued",
                Err(_) => "error",
            };
            STEPS.with_label_values(&[step(&look.action), label]).inc();
            let effect = effect?;
            if matches!(look.action, Action::Rotate(_)) {
                // Other certificates follow from it, and they are made before anything else.
                return Ok(Some(look));
            }
            let (what, on) = match effect {
                Effect::Again => continue,
                Effect::Refused(what) => (what, Signal::Etcd),
                // Whose turn it is changes all the time, and the status is not written for that.
                Effect::Queued(other) => {
                    tracing::debug!(other, "another cluster has the turn");
                    let what = "its turn: a member of another datastore on the same node goes first";
                    (what.to_owned(), Signal::Turn)
                }
            };
            look.action = Action::Wait { what, on };
            return Ok(Some(look));
        }
    }

    /// Reads everything live; nothing when the object is gone, is another, or is being deleted.
    async fn look(&self, certified: &Certified) -> Result<Option<Look>, Error> {
        let Certified {
            cluster,
            trust,
            credentials,
        } = certified;
        let (object, children, backups, drills) = tokio::try_join!(
            fetch_object(&self.client, &cluster.namespace, &cluster.name),
            fetch_children(&self.client, &cluster.namespace, &cluster.name, &cluster.uid),
            fetch_backups(&self.client, cluster),
            fetch_drills(&self.client, cluster),
        )?;
        let is_ours = |object: &EtcdCluster| {
            object.uid().as_deref() == Some(&cluster.uid) && object.metadata.deletion_timestamp.is_none()
        };
        let Some(object) = object.filter(is_ours) else {
            return Ok(None);
        };
        let wanted = &cluster.release;
        let cluster = cluster.as_it_runs(&object);
        let membership = fetch_membership(&self.members, &cluster, &children.pods, credentials).await;
        let fresh = fresh_name(&cluster, &children);
        let sight = Sight {
            object: &object,
            children,
            membership,
            backups: assemble_backups(cluster.snapshots.as_ref(), &backups, Timestamp::now()),
            drills: assemble_drills(cluster.snapshots.as_ref(), &drills, Timestamp::now()),
            trust: trust.clone(),
            fresh,
        };
        let observed = assemble(&cluster, wanted, &self.memory, sight);
        self.turns.settle(&cluster.uid, observed.intent.as_ref()).await;
        let action = decide(&observed);
        Ok(Some(Look {
            cluster,
            object,
            observed,
            action,
        }))
    }

    /// A status that lost a race is written by the reconcile that the winner's write triggers.
    pub(crate) async fn write(&self, object: &EtcdCluster, status: &EtcdClusterStatus) -> Result<(), Error> {
        match write_status(&self.client, object, status).await {
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
            result => result.map_err(Error::Status),
        }
    }

    async fn tell_failure(&self, cluster: &Cluster, error: &Error) {
        let Ok(Some(object)) = fetch_object(&self.client, &cluster.namespace, &cluster.name).await else {
            return;
        };
        let status = build_failed_status(&object, &chain(error), Timestamp::now());
        if let Err(error) = self.write(&object, &status).await {
            tracing::debug!(%error, "cannot tell of the failure");
        }
    }
}

/// Whether the operator still has to clean up after the object.
pub(crate) fn is_held(object: &EtcdCluster) -> bool {
    has_finalizer(object, &labels::finalizer(CONTROLLER))
}

fn fresh_name(cluster: &Cluster, children: &Children) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut chance = rand::rng();
    loop {
        let suffix: String = (0..5)
            .map(|_| char::from(LETTERS[chance.random_range(0..LETTERS.len())]))
            .collect();
        let name = format!("{}-{suffix}", cluster.name);
        if !children.pods.contains_key(&name) && !children.claims.contains_key(&name) {
            return name;
        }
    }
}
