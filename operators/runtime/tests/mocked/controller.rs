//! The reconcile loop against a mocked API server: bad objects, panics, time limits, owners.

use std::sync::Mutex;
use std::time::Duration;

use crate::mock::{Call, Server};
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use skep_runtime::{
    CancellationToken, Categorised, ControllerBuilder, Outcome, Reconcile, Settings, metrics,
};
use tokio::sync::mpsc;

const CONTROLLER: &str = "test";

#[derive(Debug, thiserror::Error)]
#[error("no luck")]
struct Luck;

impl Categorised for Luck {
    fn category(&self) -> &'static str {
        "luck"
    }
}

struct Recording {
    seen: mpsc::UnboundedSender<String>,
    failed_once: Mutex<bool>,
}

impl Reconcile<ConfigMap> for Recording {
    type Error = Luck;

    async fn reconcile(&self, object: &ConfigMap) -> Result<Outcome, Luck> {
        let name = object.name_any();
        assert!(object.managed_fields().is_empty(), "managed fields are not kept");
        self.seen.send(name.clone()).unwrap();
        match name.as_str() {
            "panics" => panic!("a bug for this object"),
            "hangs" => std::future::pending().await,
            "fails" if !std::mem::replace(&mut *self.failed_once.lock().unwrap(), true) => Err(Luck),
            _ => Ok(Outcome::Converged),
        }
    }
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": "1", "managedFields": [{"manager": "m"}]}, "data": data})
}

/// Answers lists, and holds watches open.
async fn serve(mut server: Server) {
    let mut watches: Vec<Call> = Vec::new();
    while let Some(call) = server.next().await {
        assert_eq!(call.method, Method::GET);
        if call.query.contains("watch=true") {
            watches.push(call);
            continue;
        }
        let items = match call.path.as_str() {
            "/api/v1/configmaps" => json!([
                config_map("good", &json!({})),
                config_map("unreadable", &json!("no map")),
                config_map("panics", &json!({})),
                config_map("hangs", &json!({})),
                config_map("fails", &json!({})),
            ]),
            "/api/v1/secrets" => json!([]),
            other => panic!("{other}"),
        };
        call.answer(&json!({"metadata": {"resourceVersion": "1"}, "items": items}));
    }
}

fn errors(category: &str) -> u64 {
    metrics::RECONCILE_ERRORS
        .with_label_values(&[CONTROLLER, category])
        .get()
}

#[tokio::test(start_paused = true)]
async fn one_bad_object_stops_nothing() {
    let (client, server) = crate::mock::server();
    let serving = tokio::spawn(serve(server));
    let (seen, mut reconciled) = mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let settings = Settings {
        timeout: Duration::from_secs(5),
        ..Settings::default()
    };
    let controller =
        ControllerBuilder::<ConfigMap>::new(CONTROLLER, Api::all(client.clone()), watcher::Config::default())
            .owns::<Secret>(Api::all(client), watcher::Config::default())
            .run(
                settings,
                Recording {
                    seen,
                    failed_once: Mutex::new(false),
                },
                shutdown.clone(),
            );
    let running = tokio::spawn(controller);

    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    // Ends when everything that fails has been tried again, and what is good has not.
    while counts.get("panics").is_none_or(|tries| *tries < 3)
        || counts.get("hangs").is_none_or(|tries| *tries < 2)
    {
        *counts.entry(reconciled.recv().await.unwrap()).or_default() += 1;
    }
    assert_eq!(counts["good"], 1);
    assert_eq!(counts["fails"], 2);
    assert!(!counts.contains_key("unreadable"));
    assert_eq!(errors("luck"), 1);
    assert_eq!(errors("unreadable"), 1);
    assert!(errors("panic") >= 2);
    assert!(errors("timed-out") >= 1);
    shutdown.cancel();
    running.await.unwrap();
    serving.abort();
}
