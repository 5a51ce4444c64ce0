use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex as Lock};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{Either, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use skep_api::CertificateRequestStatus;

use super::*;

type Silence = futures::stream::Pending<Result<Frame<Bytes>, Infallible>>;
/// A part of a path, and the status and body that answer it.
type Prepared = (&'static str, u16, String);
type Answer = Either<Full<Bytes>, StreamBody<Silence>>;

/// An API that answers each path with what was prepared for it, in order, and notes what it was asked.
#[derive(Clone, Default)]
struct Api {
    answers: Arc<Lock<Vec<Prepared>>>,
    asked: Arc<Lock<VecDeque<String>>>,
}

impl Api {
    fn answer(&self, part: &'static str, code: u16, body: impl Into<String>) {
        self.answers.lock().unwrap().push((part, code, body.into()));
    }

    fn asked(&self) -> Vec<String> {
        let mut asked: Vec<String> = self.asked.lock().unwrap().drain(..).collect();
        asked.sort();
        asked
    }

    fn serve(&self, request: &Request<Body>) -> Response<Answer> {
        let path = request.uri().to_string();
        self.asked.lock().unwrap().push_back(path.clone());
        let found = {
            let mut answers = self.answers.lock().unwrap();
            let index = answers.iter().position(|(part, _, _)| {
                path.contains(part) && path.contains("&watch") == part.contains("&watch")
            });
            index.map(|index| answers.remove(index))
        };
        match found {
            Some((_, code, body)) => {
                let body = Either::Left(Full::from(body));
                Response::builder().status(code).body(body).unwrap()
            }
            // A watch on which nothing happens.
            None => Response::new(Either::Right(StreamBody::new(futures::stream::pending()))),
        }
    }

    fn hub(&self) -> KubernetesHub {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            std::future::ready(Ok::<_, Infallible>(api.serve(&request)))
        });
        let (_, client) = watch::channel(Client::new(service, "default"));
        KubernetesHub::new(client, "local".parse().unwrap())
    }
}

fn request(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "skep.dev/v1alpha1",
        "kind": "CertificateRequest",
        "metadata": {"name": name, "namespace": "skep-cell-local", "resourceVersion": version},
        "spec": {"cpid": "cabcdefghi", "request": "r", "ttlSeconds": 600, "username": "u", "groups": []},
    })
}

fn list(version: &str, items: &[Value]) -> String {
    let metadata = json!({"resourceVersion": version});
    json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}).to_string()
}

fn event(type_: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": type_, "object": object}))
}

fn bookmark(version: &str) -> Value {
    json!({"apiVersion": "skep.dev/v1alpha1", "kind": "K", "metadata": {"resourceVersion": version}})
}

fn names(changes: &[Change<CertificateRequest>]) -> Vec<String> {
    let name = |change: &Change<CertificateRequest>| match change {
        Change::Present(request) => format!("+{}", request.metadata.name.as_deref().unwrap_or_default()),
        Change::Gone(name) => format!("-{name}"),
    };
    changes.iter().map(name).collect()
}

#[tokio::test]
async fn one_list_then_watches_that_stay_open() {
    let (api, hub) = prepared();
    api.answer(
        "certificaterequests?&watch",
        200,
        event("ADDED", &request("b", "12")) + &event("DELETED", &request("a", "13")),
    );
    let all = hub.pull(None).await.unwrap();
    assert!(all.complete);
    assert_eq!(names(&all.requests), ["+a"]);
    assert_eq!(all.since, Cursor::new("10/11"));
    api.asked();

    let changed = hub.pull(Some(&all.since)).await.unwrap();
    assert!(!changed.complete);
    assert_eq!(names(&changed.requests), ["+b", "-a"]);
    assert_eq!(changed.since, Cursor::new("10/13"));
    let asked = api.asked();
    assert!(
        asked[0].contains("certificaterequests") && asked[0].contains("resourceVersion=11"),
        "{asked:?}"
    );
    assert!(
        asked[1].contains("deploymentrecords") && asked[1].contains("resourceVersion=10"),
        "{asked:?}"
    );

    // The watch of the requests ended, that of the records did not.
    assert!(hub.pull(Some(&changed.since)).now_or_never().is_none());
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    let asked = api.asked();
    assert!(
        asked.iter().all(|path| path.contains("certificaterequests")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_version_that_is_too_old_brings_everything() {
    let gone =
        json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": ""});
    for answers in [[(200, event("ERROR", &gone))], [(410, gone.to_string())]] {
        let (api, hub) = prepared();
        for (code, body) in answers {
            api.answer("certificaterequests?&watch", code, body);
        }
        let all = hub.pull(None).await.unwrap();
        api.answer("deploymentrecords", 200, list("20", &[]));
        api.answer("certificaterequests", 200, list("21", &[request("c", "21")]));
        let again = hub.pull(Some(&all.since)).await.unwrap();
        assert!(again.complete);
        assert_eq!(names(&again.requests), ["+c"]);
        assert_eq!(again.since, Cursor::new("20/21"));
    }
}

#[tokio::test]
async fn a_new_process_goes_on_from_the_cursor() {
    let api = Api::default();
    api.answer(
        "deploymentrecords?&watch",
        200,
        event("BOOKMARK", &bookmark("31")),
    );
    api.answer(
        "certificaterequests?&watch",
        200,
        event("ADDED", &request("d", "42")),
    );
    let pull = api.hub().pull(Some(&Cursor::new("30/40"))).await.unwrap();
    assert_eq!(names(&pull.requests), ["+d"]);
    let asked = api.asked();
    assert!(asked[0].contains("resourceVersion=40"), "{asked:?}");
    assert!(asked[1].contains("resourceVersion=30"), "{asked:?}");
    let foreign = api.hub().pull(Some(&Cursor::new("nonsense"))).await;
    assert!(matches!(foreign, Err(HubError::Cursor)));
}

#[tokio::test]
async fn a_failed_watch_goes_on_where_it_was() {
    let (api, hub) = prepared();
    api.answer("certificaterequests?&watch", 200, "no json\n");
    let all = hub.pull(None).await.unwrap();
    assert!(hub.pull(Some(&all.since)).await.is_err());
    api.asked();
    api.answer(
        "certificaterequests?&watch",
        200,
        event("ADDED", &request("b", "12")),
    );
    let changed = hub.pull(Some(&all.since)).await.unwrap();
    assert_eq!(names(&changed.requests), ["+b"]);
    assert!(api.asked()[0].contains("resourceVersion=11"));
}

#[tokio::test]
async fn an_object_that_cannot_be_read_stops_nothing() {
    let (api, hub) = prepared();
    let mut broken = request("broken", "12");
    broken["spec"]["ttlSeconds"] = json!("soon");
    api.answer(
        "certificaterequests?&watch",
        200,
        event("ADDED", &broken) + &event("ADDED", &request("b", "13")),
    );
    let all = hub.pull(None).await.unwrap();
    let changed = hub.pull(Some(&all.since)).await.unwrap();
    assert_eq!(names(&changed.requests), ["+b"]);
    assert_eq!(changed.since, Cursor::new("10/13"));
}

#[tokio::test]
async fn a_report_about_what_is_gone_is_no_error() {
    let (api, hub) = prepared();
    let all = hub.pull(None).await.unwrap();
    let Change::Present(observed) = &all.requests[0] else {
        panic!("nothing was pulled")
    };
    let missing =
        json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": ""});
    api.answer("/certificaterequests/a/status", 404, missing.to_string());
    let answer = CertificateRequestStatus {
        certificate: Some("c".into()),
        ..CertificateRequestStatus::default()
    };
    hub.report(Report::Request(observed, answer)).await.unwrap();
}

/// An API that has no record and one request, and its hub.
fn prepared() -> (Api, KubernetesHub) {
    let api = Api::default();
    api.answer("deploymentrecords?", 200, list("10", &[]));
    api.answer("certificaterequests?", 200, list("11", &[request("a", "5")]));
    let hub = api.hub();
    // The list comes first; what is prepared later for watches is found by its own part of the path.
    (api, hub)
}
