//! What the platform offers to choose from, and the rules that a cluster's fields must keep.
//!
//! The rules are the scheduler's own, so that nothing is taken here that it could not act upon later.

use futures::try_join;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use skep_api::{Cell, ClusterProfile, SizeClass, TenantClusterSpec, TenantClusterStatus};
use skep_fleet::validate::{self, Standing};

use crate::problem::FieldError;
use crate::state::ask;

/// What the platform offers at one moment.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// The profiles.
    pub profiles: Vec<ClusterProfile>,
    /// The size classes, smallest first.
    pub classes: Vec<SizeClass>,
    /// The cells.
    pub cells: Vec<Cell>,
}

impl Catalog {
    /// Reads what is offered from the hub.
    pub async fn fetch(client: &Client) -> Result<Self, kube::Error> {
        let profiles: Api<ClusterProfile> = Api::all(client.clone());
        let classes: Api<SizeClass> = Api::all(client.clone());
        let cells: Api<Cell> = Api::all(client.clone());
        let params = ListParams::default();
        let (profiles, mut classes, cells) =
            ask(async { try_join!(profiles.list(&params), classes.list(&params), cells.list(&params)) })
                .await
                .map(|(profiles, classes, cells)| (profiles.items, classes.items, cells.items))?;
        classes.sort_by_key(|class| (class.spec.order, class.name_any()));
        Ok(Self {
            profiles,
            classes,
            cells,
        })
    }

    /// Every field that is wrong, named below the spec: `version`, `network.pods`.
    pub fn check(&self, spec: &TenantClusterSpec, status: Option<&TenantClusterStatus>) -> Vec<FieldError> {
        let offered = validate::Catalog {
            front: None,
            profiles: self
                .profiles
                .iter()
                .map(|profile| (profile.name_any(), profile.spec.clone()))
                .collect(),
            classes: self
                .classes
                .iter()
                .map(|class| (class.name_any(), class.spec.clone()))
                .collect(),
            cells: self.cells.clone(),
        };
        let standing = status.and_then(Standing::of);
        match validate::validate(spec, &offered, standing.as_ref()) {
            Ok(_) => Vec::new(),
            Err(errors) => errors
                .into_iter()
                .map(|e| FieldError::new(e.field, e.message))
                .collect(),
        }
    }
}
