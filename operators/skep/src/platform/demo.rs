//! The tenant `demo` that `skep up` ends with, made through the API like any other.

use std::time::Duration;

use skep_provision::model::{Cluster, NewCluster, NewProject, Project};

use crate::client::cluster::clusters_path;
use crate::client::wait::{Goal, wait};
use crate::client::{Context, Failure};

/// The project and the cluster that every local platform begins with.
const PROJECT: &str = "default";
const DEMO: &str = "demo";
/// A cold start beside the operators' own on two busy cores; half a minute is usual.
const DEMO_TIMEOUT: Duration = Duration::from_mins(10);

/// Creates project and cluster where they are missing and waits until `demo` is ready.
pub async fn create(context: &Context) -> Result<(), Failure> {
    let api = context.api()?;
    api.await_answer(DEMO_TIMEOUT).await?;
    let project = NewProject {
        name: PROJECT.to_owned(),
    };
    accept_standing(api.post::<_, Project>("/v1/projects", &project).await)?;
    let clusters = clusters_path(PROJECT);
    let demo = NewCluster {
        name: DEMO.to_owned(),
        ..NewCluster::default()
    };
    accept_standing(api.post::<_, Cluster>(&clusters, &demo).await)?;
    wait(
        &api,
        &format!("{clusters}/{DEMO}"),
        DEMO,
        Goal::Ready,
        DEMO_TIMEOUT,
    )
    .await?;
    Ok(())
}

/// What stands already is what was wanted.
fn accept_standing<T>(result: Result<T, Failure>) -> Result<(), Failure> {
    match result {
        Err(Failure::Problem(problem)) if problem.status == 409 => Ok(()),
        other => other.map(drop),
    }
}

/// The three things to type next.
pub fn next_steps(has_demo: bool) -> String {
    let cluster = if has_demo { DEMO } else { "t1" };
    let first = if has_demo {
        "skep status"
    } else {
        "skep cluster create t1 --wait"
    };
    format!(
        "The platform is up. Next (target/release/skep, or skep after `make install`):\n\
         \x20 {first}\n\
         \x20 skep kubeconfig {cluster} > {cluster}.kubeconfig\n\
         \x20 kubectl --kubeconfig {cluster}.kubeconfig create deployment web --image=nginx\n"
    )
}
