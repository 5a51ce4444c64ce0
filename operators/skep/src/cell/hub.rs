//! The hub's objects, read once.

use std::fmt::Debug;

use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use skep_view::Objects;

use crate::client::{Context, Failure};
use crate::platform::up::hub_client;

/// Everything that a plan is made from.
pub async fn objects(context: &Context) -> Result<Objects, Failure> {
    let client = hub_client(&context.home).await?;
    let (pools, cells, profiles, classes, tenants) = tokio::try_join!(
        all(&client),
        all(&client),
        all(&client),
        all(&client),
        all(&client),
    )?;
    Ok(Objects::new(pools, cells, profiles, classes, tenants))
}

/// All objects of a kind; one that cannot be read is told and left out.
pub async fn all<K>(client: &Client) -> Result<Vec<K>, Failure>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let listed = api
        .list(&ListParams::default())
        .await
        .map_err(Failure::from_error)?;
    let readable = |object: DeserializeGuard<K>| match object.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            eprintln!("{} {name} cannot be read: {}", K::kind(&()), invalid.error);
            None
        }
    };
    Ok(listed.items.into_iter().filter_map(readable).collect())
}
