//! Stands between the provider and moto: holds to EC2's limits of interfaces, which moto does not, and makes faults by a seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_ec2::Client;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skep_planner::instance::InstanceTypes;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// What the proxy knows and does.
pub struct Proxy {
    /// Where it listens.
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    moto: String,
    http: reqwest::Client,
    /// Past the proxy.
    direct: Client,
    table: InstanceTypes,
    chance: Mutex<StdRng>,
    /// Of a thousand calls, how many go wrong.
    faults: AtomicU64,
    calls: AtomicU64,
    deadly: AtomicU64,
    died: Notify,
    happened: Mutex<BTreeMap<&'static str, u64>>,
    violations: Mutex<Vec<String>>,
}

impl Proxy {
    pub async fn start(moto: &str, direct: Client, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            moto: moto.to_owned(),
            http: reqwest::Client::new(),
            direct,
            table: InstanceTypes::shipped().unwrap(),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            faults: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            deadly: AtomicU64::new(u64::MAX),
            died: Notify::new(),
            happened: Mutex::default(),
            violations: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    /// Of a thousand calls, so many go wrong from now on.
    pub fn set_faults(&self, of_thousand: u64) {
        self.shared.faults.store(of_thousand, Ordering::SeqCst);
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Waits until so many calls more were made and answered by EC2; whoever made the last one never hears of it.
    pub async fn after(&self, calls: u64) {
        self.shared.deadly.store(self.calls() + calls, Ordering::SeqCst);
        self.shared.died.notified().await;
    }

    /// Nobody dies any more.
    pub fn disarm(&self) {
        self.shared.deadly.store(u64::MAX, Ordering::SeqCst);
    }

    /// What went wrong, and how often.
    pub fn happened(&self) -> BTreeMap<&'static str, u64> {
        self.shared.happened.lock().unwrap().clone()
    }

    /// What was asked against EC2's limits.
    pub fn violations(&self) -> Vec<String> {
        self.shared.violations.lock().unwrap().clone()
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Passed,
    Throttled,
    Broken,
    NoCapacity,
    /// It happens, and its caller hears nothing of it but a gateway's timeout.
    Unanswered,
}

impl Shared {
    fn fate(&self, action: &str) -> Fate {
        let mut chance = self.chance.lock().unwrap();
        let is_faulty = self.faults.load(Ordering::SeqCst) > 0;
        if is_faulty && action == "RunInstances" && chance.random_bool(0.1) {
            return Fate::NoCapacity;
        }
        if chance.random_range(0..1000) >= self.faults.load(Ordering::SeqCst) {
            return Fate::Passed;
        }
        match chance.random_range(0..4) {
            0 => Fate::Throttled,
            1 => Fate::Broken,
            _ => Fate::Unanswered,
        }
    }

    fn count(&self, what: &'static str) {
        *self.happened.lock().unwrap().entry(what).or_default() += 1;
    }

    /// EC2's own refusal of what is more than the instance type admits.
    async fn refusal(&self, action: &str, form: &BTreeMap<String, String>) -> Option<(&'static str, String)> {
        if action != "AttachNetworkInterface" {
            return None;
        }
        let (instance, interface) = (form.get("InstanceId")?, form.get("NetworkInterfaceId")?);
        let found = self
            .direct
            .describe_instances()
            .instance_ids(instance)
            .send()
            .await
            .ok()?;
        let node = found.reservations().first()?.instances().first()?.clone();
        let limit = self.table.types.get(node.instance_type()?.as_str())?;
        let attached = node.network_interfaces().len();
        let found = self
            .direct
            .describe_network_interfaces()
            .network_interface_ids(interface);
        let found = found.send().await.ok()?;
        let found = found.network_interfaces().first()?;
        if found.attachment().is_some() {
            // Asked for again after an answer that was lost.
            return Some(("InvalidNetworkInterface.InUse", format!("{interface} is in use")));
        }
        let addresses = found.private_ip_addresses().len();
        let is_within = attached < limit.interfaces as usize && addresses <= limit.addresses as usize;
        (!is_within).then(|| {
            let text = format!("{instance} has {attached} interfaces, and {interface} {addresses} addresses");
            self.violations.lock().unwrap().push(text.clone());
            ("AttachmentLimitExceeded", text)
        })
    }

    async fn forward(&self, headers: &HeaderMap, body: Bytes) -> Response {
        let mut request = self.http.post(&self.moto).body(body);
        for name in ["authorization", "content-type", "x-amz-date"] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value.as_bytes());
            }
        }
        let answer = request.send().await.unwrap();
        let status = StatusCode::from_u16(answer.status().as_u16()).unwrap();
        (status, answer.bytes().await.unwrap()).into_response()
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>r</RequestID></Response>"
    );
    (status, [("content-type", "text/xml")], body).into_response()
}

async fn pass(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let action = form.get("Action").cloned().unwrap_or_default();
    let fate = shared.fate(&action);
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    match fate {
        Fate::Throttled => {
            shared.count("throttled");
            return error(unavailable, "RequestLimitExceeded", "Request limit exceeded.");
        }
        Fate::Broken => {
            shared.count("broken");
            return error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "An internal error has occurred",
            );
        }
        Fate::NoCapacity => {
            shared.count("no capacity");
            let message = "We currently do not have sufficient capacity";
            return error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InsufficientInstanceCapacity",
                message,
            );
        }
        Fate::Passed | Fate::Unanswered => {}
    }
    if let Some((code, message)) = shared.refusal(&action, &form).await {
        return error(StatusCode::BAD_REQUEST, code, &message);
    }
    let answer = shared.forward(&headers, body).await;
    if shared.calls.fetch_add(1, Ordering::SeqCst) + 1 == shared.deadly.load(Ordering::SeqCst) {
        shared.count("killed");
        shared.died.notify_one();
        std::future::pending::<()>().await;
    }
    if fate == Fate::Unanswered {
        shared.count("unanswered");
        return error(StatusCode::GATEWAY_TIMEOUT, "", "the answer was lost");
    }
    answer
}
