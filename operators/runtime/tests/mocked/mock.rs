//! An API server of one test: it hands out requests one by one and answers as the test says.

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{Handle, SendResponse, pair};

/// The server's side of a mocked client.
pub struct Server {
    handle: Handle<Request<Body>, Response<Body>>,
}

/// One request that waits for its answer.
pub struct Call {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub body: Value,
    answer: SendResponse<Response<Body>>,
}

pub fn server() -> (Client, Server) {
    let (service, handle) = pair::<Request<Body>, Response<Body>>();
    (Client::new(service, "default"), Server { handle })
}

impl Server {
    /// The next request; nothing once every client is gone.
    pub async fn next(&mut self) -> Option<Call> {
        let (request, answer) = self.handle.next_request().await?;
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let query = parts.uri.query().unwrap_or_default().to_owned();
        Some(Call {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query,
            body,
            answer,
        })
    }

    /// The next request, which must be this one.
    pub async fn expect(&mut self, method: Method, path: &str) -> Call {
        let call = self.next().await.expect("a request");
        assert_eq!((&call.method, call.path.as_str()), (&method, path));
        call
    }
}

impl Call {
    pub fn answer(self, body: &Value) {
        self.respond(200, body);
    }

    pub fn refuse(self, code: u16, reason: &str) {
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
        self.respond(code, &body);
    }

    fn respond(self, code: u16, body: &Value) {
        let body = Body::from(serde_json::to_vec(body).unwrap());
        self.answer
            .send_response(Response::builder().status(code).body(body).unwrap());
    }
}
