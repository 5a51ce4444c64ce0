//! The live view of one cluster, as server-sent events, until the client leaves or the cluster is gone.
//!
//! `cluster`: the whole cluster, first at once and then on every change. `event`: a Kubernetes event about it.
//! `deleted`: it is gone. `problem`: the view ends early; connect again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Event;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, ResourceExt};
use serde::Serialize;
use skep_api::TenantCluster;
use tokio::sync::OwnedSemaphorePermit;

use super::clusters::{clusters, fetch};
use crate::auth::{Bearer, Caller};
use crate::extract::ClusterPath;
use crate::model::{Cluster, ClusterEvent, time_text};
use crate::problem::{Kind, Problem};
use crate::state::AppState;
use crate::telemetry::STREAMS;

/// How often an empty line is sent, so that nothing on the way takes the silence for an end.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often the caller's rights are looked at again.
const RECHECK: Duration = Duration::from_secs(30);
/// How often the hub may fail in a row before the view ends.
const FAILURES: usize = 5;

/// Shows a cluster live, as server-sent events: `cluster`, `event`, `deleted`, `problem`.
#[utoipa::path(get, path = "/v1/projects/{project}/clusters/{cluster}/events", tag = "clusters",
    params(("project" = String, Path, description = "The project"),
        ("cluster" = String, Path, description = "The cluster")),
    responses((status = 200, description = "`event: cluster` with a Cluster, first at once and then on every \
        change; `event: event` with a ClusterEvent; `event: deleted`; `event: problem` with a Problem",
        body = ClusterEvent, content_type = "text/event-stream"), crate::openapi::Problems))]
pub(crate) async fn stream(
    State(state): State<AppState>,
    caller: Caller,
    headers: axum::http::HeaderMap,
    path: ClusterPath,
) -> Result<impl IntoResponse, Problem> {
    caller.may(&state, "watch", &path.project).await?;
    let bearer = Bearer::of(&headers)?;
    let cluster = fetch(&state, &path).await?;
    let place = Place::take(&state)?;
    let uid = cluster.uid().unwrap_or_default();
    let first = stream::iter([Message::Cluster(Box::new(Cluster::from(&cluster)))]);
    let merged = stream::select_all([
        changes(&state, &path, &cluster),
        kubernetes_events(&state, &path, &uid),
        rechecks(&state, &path, bearer),
    ]);
    let shutdown = state.shutdown.clone();
    let messages = first.chain(merged).take_until(shutdown.cancelled_owned());
    let messages = UntilEnd {
        inner: messages.boxed(),
        has_ended: false,
        _place: place,
    };
    let lines = messages.map(|message| Ok::<_, Infallible>(message.into_sse()));
    Ok(Sse::new(lines).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One message of a view.
#[derive(Debug)]
enum Message {
    Cluster(Box<Cluster>),
    Event(ClusterEvent),
    Deleted,
    Problem(Box<Problem>),
}

impl Message {
    fn is_last(&self) -> bool {
        matches!(self, Self::Deleted | Self::Problem(_))
    }

    fn into_sse(self) -> SseEvent {
        match self {
            Self::Cluster(cluster) => named("cluster", &cluster),
            Self::Event(event) => named("event", &event),
            Self::Deleted => SseEvent::default().event("deleted").data("{}"),
            Self::Problem(problem) => named("problem", &problem),
        }
    }
}

fn named<T: Serialize>(name: &str, data: &T) -> SseEvent {
    SseEvent::default()
        .event(name)
        .data(serde_json::to_string(data).unwrap_or_default())
}

/// A place among the streams that are served at a time; given back when dropped.
struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Place {
    fn take(state: &AppState) -> Result<Self, Problem> {
        let permit = state.streams.clone().try_acquire_owned().map_err(|_| {
            Kind::Throttled
                .because("this server shows as many clusters live as it can")
                .retry_after(5)
        })?;
        STREAMS.inc();
        Ok(Self(permit))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        STREAMS.dec();
    }
}

/// Ends after the first message that is the last one.
struct UntilEnd {
    inner: BoxStream<'static, Message>,
    has_ended: bool,
    _place: Place,
}

impl Stream for UntilEnd {
    type Item = Message;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Message>> {
        if self.has_ended {
            return std::task::Poll::Ready(None);
        }
        let next = self.inner.poll_next_unpin(context);
        if let std::task::Poll::Ready(message) = &next {
            self.has_ended = message.as_ref().is_none_or(Message::is_last);
        }
        next
    }
}

/// The cluster whenever what a tenant sees of it changes.
fn changes(state: &AppState, path: &ClusterPath, shown: &TenantCluster) -> BoxStream<'static, Message> {
    let uid = shown.uid();
    let config = watcher::Config::default().fields(&format!("metadata.name={}", path.cluster));
    let events = watcher(clusters(state, &path.project), config);
    let mut last = Cluster::from(shown);
    let mut failures = 0;
    let mut is_listed = false;
    let messages = events.filter_map(move |event| {
        let message = match event {
            Ok(watcher::Event::Init) => {
                is_listed = false;
                None
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                (failures, is_listed) = (0, true);
                let cluster = Cluster::from(&object);
                if object.uid() != uid {
                    Some(Message::Deleted)
                } else if cluster == last {
                    None
                } else {
                    last = cluster.clone();
                    Some(Message::Cluster(Box::new(cluster)))
                }
            }
            Ok(watcher::Event::InitDone) if is_listed => None,
            Ok(watcher::Event::InitDone | watcher::Event::Delete(_)) => Some(Message::Deleted),
            Err(error) => on_failure(&mut failures, &error),
        };
        std::future::ready(message)
    });
    messages.boxed()
}

/// Kubernetes events about the cluster.
fn kubernetes_events(state: &AppState, path: &ClusterPath, uid: &str) -> BoxStream<'static, Message> {
    let api: Api<Event> = Api::namespaced(state.client.clone(), &path.project.namespace());
    let config = watcher::Config::default().fields(&format!("involvedObject.uid={uid}"));
    let mut failures = 0;
    let mut shown = HashMap::new();
    let messages = watcher(api, config).filter_map(move |event| {
        let message = match event {
            Ok(watcher::Event::InitApply(event) | watcher::Event::Apply(event)) => {
                failures = 0;
                // A watch that begins anew tells of everything again.
                let version = event.resource_version();
                let is_new = shown.insert(event.uid(), version.clone()) != Some(version);
                is_new.then(|| Message::Event(ClusterEvent::from(&event)))
            }
            Ok(_) => None,
            Err(error) => on_failure(&mut failures, &error),
        };
        std::future::ready(message)
    });
    messages.boxed()
}

/// Ends the view when the token is revoked or the right is taken away.
fn rechecks(state: &AppState, path: &ClusterPath, bearer: Bearer) -> BoxStream<'static, Message> {
    let (state, path) = (state.clone(), path.clone());
    let checks = stream::unfold((), move |()| {
        let (state, path, bearer) = (state.clone(), path.clone(), bearer.clone());
        async move {
            tokio::time::sleep(RECHECK).await;
            let verdict = match Caller::authenticate(&state, &bearer).await {
                Ok(caller) => caller.may(&state, "watch", &path.project).await,
                Err(problem) => Err(problem),
            };
            let message = match verdict {
                Err(problem) if matches!(problem.status, 401 | 403) => {
                    Some(Message::Problem(Box::new(problem)))
                }
                Ok(()) | Err(_) => None,
            };
            Some((message, ()))
        }
    });
    checks.filter_map(std::future::ready).boxed()
}

fn on_failure(failures: &mut usize, error: &watcher::Error) -> Option<Message> {
    *failures += 1;
    tracing::debug!(%error, failures, "a view's watch failed");
    (*failures >= FAILURES).then(|| Message::Problem(Box::new(Problem::hub_unavailable())))
}

impl From<&Event> for ClusterEvent {
    fn from(event: &Event) -> Self {
        let micro = event
            .event_time
            .as_ref()
            .map(|time| time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let series = event.series.as_ref().and_then(|series| series.count);
        Self {
            kind: event.type_.clone().unwrap_or_else(|| "Normal".to_owned()),
            reason: event.reason.clone().unwrap_or_default(),
            message: event.message.clone().unwrap_or_default(),
            time: event.last_timestamp.as_ref().map(time_text).or(micro),
            count: series.or(event.count).unwrap_or(1),
        }
    }
}
