//! Watches control planes, the endpoint slices of their apiservers, cells and records, and publishes routes.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, reflector::ObjectRef};
use kube::{Api, Client, ResourceExt};
use skep_api::{Cell, ControlPlane, DeploymentRecord};
use skep_core::{CellName, Cpid};
use skep_runtime::error::chain;
use tokio::sync::{mpsc, watch};

use crate::CONTROLLER;
use crate::board::Board;
use crate::inventory::Inventory;
use crate::route::{API_SERVICE, SERVICE_LABEL};

/// The code of an answer that there is no such kind.
const NOT_FOUND: u16 = 404;

/// Where routes go, and who is told.
pub(crate) struct Publisher {
    pub board: Arc<Board>,
    /// True once everything that there is has been published.
    pub complete: watch::Sender<bool>,
    /// The control planes whose route changed.
    pub touched: mpsc::UnboundedSender<ObjectRef<ControlPlane>>,
}

/// Watches for ever; a watch that fails is started again, and what is published stays.
pub(crate) async fn watch_routes(client: Client, cell: CellName, publisher: Publisher) {
    let planes: Api<DeserializeGuard<ControlPlane>> = Api::all(client.clone());
    let slices: Api<EndpointSlice> = Api::all(client.clone());
    let cells: Api<DeserializeGuard<Cell>> = Api::all(client.clone());
    let records: Api<DeserializeGuard<DeploymentRecord>> = Api::all(client);
    let of_apiservers = watcher::Config::default().labels(&format!("{SERVICE_LABEL}={API_SERVICE}"));
    let planes = watcher::watcher(planes, watcher::Config::default())
        .modify(|object| object.managed_fields_mut().clear())
        .default_backoff();
    let slices = watcher::watcher(slices, of_apiservers).default_backoff();
    let cells = watcher::watcher(cells, watcher::Config::default())
        .modify(strip_cell)
        .default_backoff();
    let records = watcher::watcher(records, watcher::Config::default())
        .modify(strip_record)
        .default_backoff();
    let mut planes = std::pin::pin!(surviving("ControlPlane", planes));
    let mut slices = std::pin::pin!(surviving("EndpointSlice", slices));
    let mut cells = std::pin::pin!(optional("Cell", cells));
    let mut records = std::pin::pin!(optional("DeploymentRecord", records));
    let mut inventory = Inventory::new(&cell);
    loop {
        let changed = tokio::select! {
            Some(event) = planes.next() => inventory.control_plane(event),
            Some(event) = slices.next() => inventory.endpoint_slice(event),
            Some(event) = cells.next() => {
                if let Some(event) = event { inventory.cell(event) } else { inventory.no_cells() }
            }
            Some(event) = records.next() => {
                if let Some(event) = event { inventory.record(event) } else { inventory.no_records() }
            }
            else => return,
        };
        publisher.publish(&inventory, changed);
    }
}

fn strip_cell(object: &mut DeserializeGuard<Cell>) {
    object.managed_fields_mut().clear();
    if let Ok(cell) = &mut object.0 {
        cell.status = None;
    }
}

fn strip_record(object: &mut DeserializeGuard<DeploymentRecord>) {
    object.managed_fields_mut().clear();
    object.annotations_mut().clear();
    if let Ok(record) = &mut object.0 {
        record.status = None;
        record.spec.control_plane.images.clear();
        record.spec.control_plane.parameters.clear();
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
            // One in another cell has no status here. An error says that nobody writes statuses any more.
            if inventory.is_local(&cpid) {
                let _ = self.touched.send(ObjectRef::new(cpid.as_str()));
            }
        }
    }
}

fn surviving<T>(
    kind: &'static str,
    events: impl Stream<Item = Result<Event<T>, watcher::Error>>,
) -> impl Stream<Item = Event<T>> {
    noted(kind, events).filter_map(|event| std::future::ready(event.ok()))
}

/// The events of a kind that is of use at a hub alone; nothing where the cluster does not know the kind.
fn optional<T>(
    kind: &'static str,
    events: impl Stream<Item = Result<Event<T>, watcher::Error>>,
) -> impl Stream<Item = Option<Event<T>>> {
    noted(kind, events).filter_map(|event| {
        std::future::ready(match event {
            Ok(event) => Some(Some(event)),
            Err(error) => is_unknown_kind(&error).then_some(None),
        })
    })
}

fn is_unknown_kind(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == NOT_FOUND)
}

fn noted<T>(
    kind: &'static str,
    events: impl Stream<Item = Result<Event<T>, watcher::Error>>,
) -> impl Stream<Item = Result<Event<T>, watcher::Error>> {
    events.inspect_err(move |error| {
        skep_runtime::metrics::WATCH_ERRORS
            .with_label_values(&[CONTROLLER, kind])
            .inc();
        tracing::warn!(kind, error = chain(error), "a watch failed and is started again");
    })
}
