//! Counts the writes for each control plane, and loses one of them: before it is sent, or its answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Method, Request};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

/// How a write is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It never reaches the API.
    Request,
    /// It is done, and nobody hears of it.
    Answer,
}

#[derive(Debug, Default)]
struct State {
    writes: HashMap<String, Vec<String>>,
    plan: HashMap<String, (usize, Loss)>,
}

/// The writes of one client.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

impl Faults {
    /// Loses the n-th write (the first is 0) for a control plane.
    pub fn lose(&self, cpid: &str, write: usize, loss: Loss) {
        self.0.lock().unwrap().plan.insert(cpid.to_owned(), (write, loss));
    }

    /// How many writes there were for a control plane.
    pub fn writes(&self, cpid: &str) -> usize {
        self.0.lock().unwrap().writes.get(cpid).map_or(0, Vec::len)
    }

    /// The writes for a control plane after the first so many.
    pub fn since(&self, cpid: &str, writes: usize) -> Vec<String> {
        let state = self.0.lock().unwrap();
        let all = state.writes.get(cpid).map_or(&[][..], Vec::as_slice);
        all[writes..].to_vec()
    }

    fn judge(&self, request: &Request<Body>) -> Option<Loss> {
        if request.method() == Method::GET {
            return None;
        }
        let cpid = cpid_of(request.uri().path())?;
        let mut state = self.0.lock().unwrap();
        let writes = state.writes.entry(cpid.clone()).or_default();
        let this = writes.len();
        writes.push(format!("{} {}", request.method(), request.uri()));
        state
            .plan
            .get(&cpid)
            .filter(|(write, _)| *write == this)
            .map(|(_, loss)| *loss)
    }
}

fn cpid_of(path: &str) -> Option<String> {
    let rest = ["controlplanes/", "namespaces/cp-"]
        .iter()
        .find_map(|start| path.split_once(start))?
        .1;
    rest.get(..10).map(str::to_owned)
}

impl<S> Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty {
            inner,
            faults: self.clone(),
        }
    }
}

/// A client's connection with its faults.
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Into<BoxError> + Send,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let loss = self.faults.judge(&request);
        if loss == Some(Loss::Request) {
            return Box::pin(async { Err("the request was lost".into()) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into)?;
            if loss.is_some() {
                Err("the answer was lost".into())
            } else {
                Ok(answer)
            }
        })
    }
}
