//! The tenant `demo` that `skep up` ends with, made through the API like any other: a cluster, one worker node, and a
//! small web server on it.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use skep_distro::Artifacts;
use skep_provision::model::{Cluster, NewCluster, NewProject, Project};
use skep_runtime::{Applier, wait_for};

use crate::client::cluster::clusters_path;
use crate::client::wait::{Goal, wait};
use crate::client::{Context, Failure};
use crate::platform::node;
use crate::platform::progress::Display;

/// The project and the cluster that every local platform begins with.
const PROJECT: &str = "default";
const DEMO: &str = "demo";
/// A cold start beside the operators' own on two busy cores; half a minute is usual.
const DEMO_TIMEOUT: Duration = Duration::from_mins(10);

/// The web server's manifest; its image is filled in.
const WEB: &str = include_str!("../../../../manifests/demo/web.yaml");
/// The image reference in it.
const WEB_IMAGE: &str = "localhost/busybox:current";
/// Its name, as Deployment and as Service.
const WEB_NAME: &str = "web";
/// Image import, scheduling and a start beside everything else.
const WEB_TIMEOUT: Duration = Duration::from_mins(5);

/// Creates project, cluster, node and workload where they are missing and waits until all are ready.
pub async fn create(context: &Context, artifacts: &Artifacts) -> Result<(), Failure> {
    let image = artifacts.images.iter().find(|image| image.name == "busybox");
    let image = image.and_then(|image| image.references.first());
    let image = image.context("the distribution has no image busybox")?;
    create_cluster(context).await?;
    let context = &context.in_project(PROJECT);
    let client = node::ensure_one(DEMO, context).await?;
    let display = Display::new();
    let serving = display
        .step(
            "workload",
            "a small web server starts on the worker",
            Some(Duration::from_secs(10)),
            serve_web(client, image),
        )
        .await;
    display.clear();
    serving
}

/// Applies the web server and waits until it can be asked.
async fn serve_web(client: Client, image: &str) -> Result<(), Failure> {
    let manifest = WEB.replace(WEB_IMAGE, image);
    Applier::new(client.clone(), "demo")
        .apply_yaml(&manifest)
        .await
        .context("cannot make the web server of the demo")?;
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let available = |found: Option<&Deployment>| {
        let status = found.and_then(|found| found.status.as_ref());
        status.and_then(|status| status.available_replicas).unwrap_or(0) > 0
    };
    let waited = wait_for(deployments, WEB_NAME, available, WEB_TIMEOUT).await;
    waited.map_err(|late| {
        Failure::TimedOut(format!(
            "deployment {WEB_NAME} of cluster {DEMO} is not available: {late}; see `kubectl describe pods` there"
        ))
    })
}

/// Creates project and cluster where they are missing and waits until `demo` is ready.
async fn create_cluster(context: &Context) -> Result<(), Failure> {
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

/// What to type next; the last line asks the demo's web server through its API.
pub fn next_steps(has_demo: bool) -> String {
    let heading = "The platform is up. Next (target/release/skep, or skep after `make install`):";
    if !has_demo {
        return format!(
            "{heading}\n\
             \x20 skep cluster create t1 --wait\n\
             \x20 skep node add t1\n\
             \x20 skep kubeconfig t1 > t1.kubeconfig && kubectl --kubeconfig t1.kubeconfig get nodes\n"
        );
    }
    format!(
        "{heading}\n\
         \x20 skep status\n\
         \x20 skep kubeconfig {DEMO} > {DEMO}.kubeconfig && export KUBECONFIG=$PWD/{DEMO}.kubeconfig\n\
         \x20 kubectl port-forward service/{WEB_NAME} 8080:80 & sleep 2; curl http://127.0.0.1:8080/; kill %%\n"
    )
}
