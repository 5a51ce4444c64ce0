//! Watches control planes and the endpoint slices of their apiservers, and publishes routes.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, reflector::ObjectRef};
use kube::{Api, Client, ResourceExt};
use skep_api::ControlPlane;
use skep_core::Cpid;
use skep_runtime::error::chain;
use tokio::sync::{mpsc, watch};

use crate::CONTROLLER;
use crate::board::Board;
use crate::inventory::Inventory;
use crate::route::{API_SERVICE, SERVICE_LABEL};

/// Where routes go, and who is told.
pub(crate) struct Publisher {
    pub board: Arc<Board>,
    /// True once everything that there is has been published.
    pub complete: watch::Sender<bool>,
    /// The control planes whose route changed.
    pub touched: mpsc::UnboundedSender<ObjectRef<ControlPlane>>,
}

/// Watches for ever; a watch that fails is started again, and what is published stays.
pub(crate) async fn watch_routes(client: Client, publisher: Publisher) {
    let planes: Api<DeserializeGuard<ControlPlane>> = Api::all(client.clone());
    let slices: Api<EndpointSlice> = Api::all(client);
    let of_apiservers = watcher::Config::default().labels(&format!("{SERVICE_LABEL}={API_SERVICE}"));
    let planes = watcher::watcher(planes, watcher::Config::default())
        .modify(|object| object.managed_fields_mut().clear())
        .default_backoff();
    let slices = watcher::watcher(slices, of_apiservers).default_backoff();
    let mut planes = std::pin::pin!(surviving("ControlPlane", planes));
    let mut slices = std::pin::pin!(surviving("EndpointSlice", slices));
    let mut inventory = Inventory::default();
    loop {
        let changed = tokio::select! {
            Some(event) = planes.next() => inventory.control_plane(event),
            Some(event) = slices.next() => inventory.endpoint_slice(event),
            else => return,
        };
        publisher.publish(&inventory, changed);
    }
}

impl Publisher {
    fn publish(&self, inventory: &Inventory, changed: BTreeSet<Cpid>) {
        if !inventory.is_complete() {
            return;
        }
        if !*self.complete.borrow() {
            self.board.replace(inventory.routes());
            self.complete.send_replace(true);
            tracing::info!(routes = self.board.cpids().len(), "every route is known");
        }
        for cpid in changed {
            match inventory.route(&cpid) {
                Some(route) => self.board.put(route),
                None => self.board.remove(&cpid),
            }
            // An error says that nobody writes statuses any more.
            let _ = self.touched.send(ObjectRef::new(cpid.as_str()));
        }
    }
}

fn surviving<T>(
    kind: &'static str,
    events: impl Stream<Item = Result<Event<T>, watcher::Error>>,
) -> impl Stream<Item = Event<T>> {
    let noted = events.inspect_err(move |error| {
        skep_runtime::metrics::WATCH_ERRORS
            .with_label_values(&[CONTROLLER, kind])
            .inc();
        tracing::warn!(kind, error = chain(error), "a watch failed and is started again");
    });
    noted.filter_map(|event| std::future::ready(event.ok()))
}
